//! Behaviour 2: running.

use keepd_engine::proxy::{Input, SpawnOutcome};
use keepd_model::protocol::{Attributes, Command, Place, RunState, Scope, Stream};
use keepd_model::{Errno, Exit, Generation, Signal};

use crate::driver::*;

fn signal(text: &str, expected: Option<u64>, scope: Scope) -> Command {
    Command::ServiceSignal {
        name: name(text),
        expected: expected.map(Generation::new),
        signal: Signal::HUP.into(),
        scope,
    }
}

fn own() -> Attributes {
    Attributes { place: Place::Own, ..Attributes::default() }
}

fn notify(number: u32, text: &str) -> Input {
    Input::Notify { name: name("web"), pid: pid(number), text: text.into() }
}

#[test]
fn a_program_that_cannot_be_executed_ends_as_that_failure() {
    // (behaviour 2.2)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    driver.spawned(service("web", 1), 100);
    assert_eq!(
        driver.give(Input::Report {
            owner: service("web", 1),
            outcome: SpawnOutcome::Failed(NO_FILE),
        }),
        ["log error: cannot execute \"/bin/true\" for service \"web\": step exec: \
          no such file or directory"]
    );
    assert_eq!(
        driver.reaped(100, Exit::Code(127)),
        ["1> web 1 emptying pid 100 failed exec", "KILL to group of web.1", "watch web.1"]
    );
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 failed exec"]);
}

#[test]
fn news_of_other_generations_changes_nothing() {
    // (behaviour 2.3)
    let mut driver = Driver::with_service_up(Attributes::default());
    assert_eq!(driver.reaped(999, Exit::Code(0)), [""; 0]);
    assert_eq!(driver.empty(service("web", 1)), [""; 0]);
    assert_eq!(driver.empty(service("web", 7)), [""; 0]);
    assert_eq!(driver.spawned(service("web", 1), 101), [""; 0]);
    assert_eq!(driver.executed(service("web", 2)), [""; 0]);
    assert_eq!(driver.state("web"), Some(RunState::Up));
}

#[test]
fn notifications_are_told_and_the_last_16_are_kept() {
    // (behaviour 2.4, 2.5)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    assert_eq!(driver.give(notify(5, "READY=1")), [""; 0], "nothing runs");
    driver.ask(start("web", 0));
    driver.spawned(service("web", 1), 100);
    for number in 0..20 {
        assert_eq!(
            driver.give(notify(100, &format!("STATUS={number}"))),
            [format!("1> web 1 notify 100 STATUS={number}")]
        );
    }
    let dump = driver.ask(Command::StateDump);
    let run = dump.iter().position(|line| line.contains("forked")).unwrap();
    let kept: Vec<_> = dump.iter().filter(|line| line.contains("notify")).collect();
    assert_eq!(kept.len(), 16);
    assert_eq!(kept[0], "1> web 1 notify 100 STATUS=4");
    assert_eq!(*kept[0], dump[run + 1]);
    driver.reaped(100, Exit::Code(0));
    driver.empty(service("web", 1));
    driver.ask(start("web", 1));
    let dump = driver.ask(Command::StateDump);
    assert!(!dump.iter().any(|line| line.contains("notify")));
}

#[test]
fn readiness_is_kept_however_much_is_said_after_it() {
    // (behaviour 2.5, 11.11): nobody may be there to hear it, and it is said once.
    for ready in ["READY=1\nSTATUS=up", "READY_FD=1"] {
        let mut driver = Driver::with_boss();
        driver.ask(arguments("web"));
        driver.ask(start("web", 0));
        driver.spawned(service("web", 1), 100);
        driver.give(notify(100, ready));
        for number in 0..100 {
            driver.give(notify(100, &format!("STATUS={number}")));
        }
        let dump = driver.ask(Command::StateDump);
        let kept: Vec<_> = dump.iter().filter(|line| line.contains("notify")).collect();
        assert_eq!(kept.len(), 16);
        assert_eq!(*kept[0], format!("1> web 1 notify 100 {ready}"));
        assert_eq!(kept[1], "1> web 1 notify 100 STATUS=85");
    }
}

fn ready_fd(generation: u64) -> Input {
    Input::ReadyFd { name: name("web"), generation: Generation::new(generation) }
}

#[test]
fn a_line_feed_on_the_ready_fd_is_told_once_and_kept() {
    // (behaviour 2.13)
    let mut driver = Driver::with_service_up(Attributes::default());
    let told = "1> web 1 notify 100 READY_FD=1";
    assert_eq!(driver.give(ready_fd(1)), [told]);
    assert_eq!(driver.give(ready_fd(1)), [""; 0], "once");
    assert_eq!(driver.give(ready_fd(2)), [""; 0], "not of this generation");
    let dump = driver.ask(Command::StateDump);
    assert_eq!(dump.iter().filter(|line| *line == told).count(), 1, "{dump:?}");

    driver.reaped(100, Exit::Code(0));
    driver.empty(service("web", 1));
    assert_eq!(driver.give(ready_fd(1)), [""; 0], "nothing runs");
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    assert_eq!(driver.give(ready_fd(1)), [""; 0], "of the last generation");
    assert_eq!(driver.give(ready_fd(2)), ["1> web 2 notify 101 READY_FD=1"]);
}

#[test]
fn a_line_feed_that_is_read_after_the_death_still_counts() {
    // (behaviour 2.4, 2.13)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.give(ready_fd(1)), ["1> web 1 notify 100 READY_FD=1"]);
}

#[test]
fn long_notifications_are_cut() {
    let mut driver = Driver::with_service_up(Attributes::default());
    let lines = driver.give(notify(100, &"x".repeat(10_000)));
    assert_eq!(lines[0].len(), "1> web 1 notify 100 ".len() + 4_096);
}

#[test]
fn signals_reach_whom_they_are_meant_for() {
    // (behaviour 2.6)
    let mut driver = Driver::with_service_up(Attributes::default());
    let hup = "perform 1: signal 1 to process 100";
    assert_eq!(driver.ask(signal("web", Some(1), Scope::Main)), [hup]);
    assert_eq!(driver.performed(1), ["1> ok 4"]);
    assert_eq!(driver.ask(signal("web", Some(1), Scope::All))[1..], ["HUP to group of web.1"]);
    assert_eq!(
        driver.ask(signal("web", None, Scope::ProcessGroup)),
        ["perform 2: signal 1 to process group 100"]
    );
    assert_eq!(driver.not_performed(2, "killpg", Some(Errno(3))), ["1> fail 6 system"]);
    assert_eq!(driver.ask(signal("web", Some(2), Scope::Main)), ["1> fail 7 stale"]);
    driver.reaped(100, Exit::Code(0));
    for scope in [Scope::Main, Scope::ProcessGroup] {
        assert!(driver.ask(signal("web", Some(1), scope))[0].ends_with("not-running"));
    }
    assert_eq!(driver.ask(signal("web", Some(1), Scope::All))[1..], ["HUP to group of web.1"]);
    driver.empty(service("web", 1));
    assert!(driver.ask(signal("web", Some(1), Scope::All))[0].ends_with("not-running"));
    assert!(driver.ask(signal("db", None, Scope::All))[0].ends_with("no-such-service"));
}

#[test]
fn a_service_without_a_group_is_its_main_process() {
    // (behaviour 2.7, 3.11)
    let mut driver = Driver::with_service_up(own());
    assert_eq!(
        driver.ask(signal("web", Some(1), Scope::All)),
        ["perform 1: signal 1 to process 100"]
    );
    assert_eq!(driver.performed(1), ["1> ok 4"]);
    assert_eq!(
        driver.ask(stop_with("web", 1, Signal::KILL, ms(1_000)))[1..],
        ["1> web 1 stopping pid 100", "KILL to main 100 of web.1"]
    );
    assert_eq!(driver.reaped(100, killed_by(Signal::KILL)), ["1> web 1 down pid 100 signal KILL"]);
}

#[test]
fn always_starts_a_service_that_is_down_before_it_is_told() {
    // (behaviour 2.9, 3.9)
    let mut driver = Driver::new();
    driver.connect(TYPIST);
    driver.say(TYPIST, set("web", own()));
    driver.say(TYPIST, arguments("web"));
    assert_eq!(
        driver.say(TYPIST, auto_up("web", Some(0), true)),
        ["2> web 0 start", "2> web 1 invocation", "spawn web.1", "2> web auto_up 1 always"]
    );
    driver.spawned(service("web", 1), 100);
    assert_eq!(driver.say(TYPIST, auto_up("web", None, false)), ["2> web auto_up 1 "]);
    assert_eq!(driver.reaped(100, Exit::Code(0)), ["2> web 1 down pid 100 exit 0"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn a_start_by_itself_does_not_look_at_arguments() {
    // (behaviour 2.10)
    let mut driver = Driver::new();
    driver.connect(TYPIST);
    assert_eq!(
        driver.say(TYPIST, auto_up("web", Some(2), true)),
        ["2> web 0 start", "2> web 1 invocation", "spawn web.1", "2> web auto_up 2 always"]
    );
}

#[test]
fn blocked_output_is_told_once_and_dumped_while_it_lasts() {
    // (behaviour 2.11)
    let mut driver = Driver::with_service_up(Attributes::default());
    let blocked = |errno| Input::OutputBlocked { name: name("web"), errno };
    assert_eq!(driver.give(blocked(Some(Errno(28)))), ["1> web blocked 28"]);
    assert_eq!(driver.give(blocked(Some(Errno(28)))), [""; 0]);
    assert!(driver.ask(Command::StateDump).contains(&"1> web blocked 28".to_owned()));
    assert_eq!(driver.give(blocked(None)), ["1> web blocked 0"]);
    assert!(!driver.ask(Command::StateDump).contains(&"1> web blocked 0".to_owned()));
}

#[test]
fn output_is_measured_only_while_somebody_watches() {
    // (behaviour 5.9)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.connect(OTHER);
    let output = || Input::Output { name: name("web"), stream: Stream::Out, offset: 7 };
    assert_eq!(driver.give(output()), [""; 0]);
    assert_eq!(driver.ask(Command::WatchLogs { on: true })[1..], ["watch output true"]);
    assert_eq!(driver.give(output()), ["1> web output out 7"]);
    assert_eq!(driver.ask_as(OTHER, Command::WatchLogs { on: true }).len(), 1);
    assert_eq!(driver.ask(Command::WatchLogs { on: false }).len(), 1);
    assert_eq!(driver.give(Input::Disconnected { connection: OTHER }), ["watch output false"]);
}

#[test]
fn signals_to_the_proxy_are_counted_until_they_are_cleared() {
    // (behaviour 2.12, 5.5)
    let mut driver = Driver::with_boss();
    driver.give(Input::Connected { connection: OTHER, output: false });
    let come = |signal, count| Input::Signal { signal, count };
    assert_eq!(driver.give(come(Signal::TERM, 2)), ["1> signal TERM 2"]);
    driver.pass(ms(1));
    driver.give(come(Signal::HUP, 1));
    driver.pass(ms(1));
    assert_eq!(driver.give(come(Signal::TERM, 1)), ["1> signal TERM 3"]);
    assert_eq!(driver.connect(TYPIST), ["2> signal HUP 1", "2> signal TERM 3"]);
    let clear = |count| Command::SignalClear { signal: Signal::TERM, count };
    assert_eq!(driver.ask(clear(1)), ["1> ok 1"]);
    let dumped = |driver: &mut Driver| driver.say(TYPIST, Command::StateDump)[3..].to_vec();
    assert_eq!(dumped(&mut driver), ["2> signal HUP 1", "2> signal TERM 2", "2> dump.end 1"]);
    driver.ask(clear(9));
    assert_eq!(dumped(&mut driver), ["2> signal HUP 1", "2> dump.end 2"]);
}
