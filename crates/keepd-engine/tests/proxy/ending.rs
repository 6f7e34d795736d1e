//! Behaviour 3: ending.

use keepd_engine::proxy::Input;
use keepd_model::protocol::{Attributes, Command, Place, RunState};
use keepd_model::{Exit, KillMode, Signal};

use crate::driver::*;

fn all() -> Attributes {
    Attributes { kill_mode: KillMode::All, stop_signal: Signal::INT, ..Attributes::default() }
}

fn main_only() -> Attributes {
    Attributes { kill_mode: KillMode::Main, ..Attributes::default() }
}

fn respawning(delays: &[u64]) -> Attributes {
    Attributes {
        respawn: delays.iter().copied().map(ms).collect(),
        place: Place::Own,
        ..Attributes::default()
    }
}

#[test]
fn a_stop_is_refused_when_there_is_nothing_to_stop() {
    // (behaviour 3.1)
    let mut driver = Driver::with_boss();
    assert_eq!(driver.ask(stop("web", 0)), ["1> fail 1 no-such-service"]);
    driver.ask(arguments("web"));
    assert_eq!(driver.ask(stop("web", 0)), ["1> fail 3 not-running"]);
    driver.ask(start("web", 0));
    assert_eq!(driver.ask(stop("web", 0)), ["1> fail 5 stale"]);
}

#[test]
fn a_mixed_stop_goes_from_the_main_process_to_an_empty_group() {
    // (behaviour 3.2, 3.11, 3.12, 3.15)
    let mut driver = Driver::with_service_up(Attributes::default());
    assert_eq!(
        driver.ask(stop("web", 1)),
        [
            "1> ok 4",
            "1> web 1 stopping pid 100",
            "TERM to main 100 of web.1",
            "CONT to main 100 of web.1"
        ]
    );
    assert_eq!(
        driver.reaped(100, killed_by(Signal::TERM)),
        ["1> web 1 emptying pid 100 signal TERM", "KILL to group of web.1", "watch web.1"]
    );
    assert_eq!(driver.ask(start("web", 1)), ["1> fail 5 running"]);
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 signal TERM"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn a_stop_of_all_gives_the_rest_of_the_group_the_rest_of_the_time() {
    // (behaviour 3.2, 3.14)
    let mut driver = Driver::with_service_up(all());
    assert_eq!(
        driver.ask(stop("web", 1))[2..],
        ["INT to group of web.1", "CONT to group of web.1"]
    );
    driver.pass(ms(4_000));
    assert_eq!(
        driver.reaped(100, Exit::Code(0)),
        ["1> web 1 emptying pid 100 exit 0", "watch web.1"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(6_000)));
    assert_eq!(driver.pass(ms(6_000)), ["KILL to group of web.1"]);
}

#[test]
fn an_end_nobody_asked_for_asks_the_rest_politely_with_all() {
    // (behaviour 3.13)
    let mut driver = Driver::with_service_up(all());
    assert_eq!(
        driver.reaped(100, Exit::Code(2)),
        [
            "1> web 1 emptying pid 100 exit 2",
            "INT to group of web.1",
            "CONT to group of web.1",
            "watch web.1"
        ]
    );
    assert_eq!(driver.pass(ms(10_000)), ["KILL to group of web.1"]);
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 exit 2"]);
}

#[test]
fn after_kill_the_rest_of_the_group_is_not_asked_again() {
    // (behaviour 3.14)
    let mut driver = Driver::with_service_up(all());
    driver.ask(stop_with("web", 1, Signal::TERM, ms(0)));
    assert_eq!(
        driver.reaped(100, killed_by(Signal::KILL))[1..],
        ["KILL to group of web.1", "watch web.1"]
    );
}

#[test]
fn without_time_or_with_kill_everything_is_killed_at_once() {
    // (behaviour 3.3)
    for (signal, timeout) in [(Signal::TERM, ms(0)), (Signal::KILL, ms(9_000))] {
        let mut driver = Driver::with_service_up(Attributes::default());
        assert_eq!(
            driver.ask(stop_with("web", 1, signal, timeout))[1..],
            ["1> web 1 stopping pid 100", "KILL to group of web.1"]
        );
    }
}

#[test]
fn what_outlives_its_time_and_kill_is_stuck() {
    // (behaviour 3.4, 3.10)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.ask(stop("web", 1));
    assert_eq!(driver.pass(ms(9_999)), [""; 0]);
    assert_eq!(driver.pass(ms(1)), ["KILL to group of web.1"]);
    assert_eq!(driver.pass(ms(5_000)), ["1> web 1 stuck pid 100", "KILL to group of web.1"]);
    assert_eq!(driver.pass(ms(5_000)), ["KILL to group of web.1"]);
    assert_eq!(driver.ask(stop("web", 1)), ["1> ok 5"]);
    assert_eq!(
        driver.reaped(100, killed_by(Signal::KILL)),
        ["1> web 1 emptying pid 100 signal KILL", "KILL to group of web.1", "watch web.1"]
    );
    // (behaviour 3.16)
    assert_eq!(
        driver.pass(ms(5_000)),
        ["1> web 1 stuck pid 100 signal KILL", "KILL to group of web.1"]
    );
    assert_eq!(driver.pass(ms(5_000)), ["KILL to group of web.1"]);
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 signal KILL"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn a_second_stop_brings_kill_nearer_and_never_puts_it_off() {
    // (behaviour 3.5)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.ask(stop("web", 1));
    assert_eq!(
        driver.ask(stop_with("web", 1, Signal::INT, ms(60_000))),
        ["1> ok 5", "INT to main 100 of web.1", "CONT to main 100 of web.1"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(10_000)));
    assert_eq!(driver.ask(stop("web", 1)), ["1> ok 6"]);
    driver.ask(stop_with("web", 1, Signal::INT, ms(100)));
    assert_eq!(driver.until_timeout(), Some(ms(100)));
    assert_eq!(
        driver.ask(stop_with("web", 1, Signal::INT, ms(0))),
        ["1> ok 8", "KILL to group of web.1"]
    );
    assert_eq!(driver.ask(stop_with("web", 1, Signal::INT, ms(0))), ["1> ok 9"]);
}

#[test]
fn a_stop_while_emptying_brings_kill_nearer() {
    // (behaviour 3.8)
    let mut driver = Driver::with_service_up(all());
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.ask(stop("web", 1)), ["1> ok 4"]);
    assert_eq!(
        driver.ask(stop_with("web", 1, Signal::KILL, ms(0))),
        ["1> ok 5", "KILL to group of web.1"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(5_000)));
}

#[test]
fn a_child_that_did_not_execute_yet_is_stopped_at_once() {
    // (behaviour 3.7)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    driver.spawned(service("web", 1), 100);
    assert_eq!(driver.ask(stop("web", 1))[2], "TERM to main 100 of web.1");
    assert_eq!(driver.executed(service("web", 1)), [""; 0], "still stopping");
    assert_eq!(driver.state("web"), Some(RunState::Stopping));
}

#[test]
fn a_stop_of_main_leaves_the_rest_of_the_group_alone() {
    // (behaviour 3.23)
    let mut driver = Driver::with_service_up(main_only());
    assert_eq!(
        driver.ask(stop("web", 1))[1..],
        ["1> web 1 stopping pid 100", "TERM to main 100 of web.1", "CONT to main 100 of web.1"]
    );
    assert_eq!(driver.proxy.run_ends_with(pid(100)), Some(&name("web")));
    assert_eq!(
        driver.reaped(100, killed_by(Signal::TERM)),
        ["leave web.1", "1> web 1 down pid 100 signal TERM"]
    );
    assert_eq!(driver.proxy.poll_timeout(), None);
    let lines = driver.ask(start("web", 1));
    assert_eq!(lines[2], "spawn web.2", "it waits for nobody: {lines:?}");
    driver.spawned(service("web", 2), 101);
    assert_eq!(driver.empty(service("web", 1)), [""; 0], "an old group is no news");
    assert_eq!(driver.state("web"), Some(RunState::Forked));
}

#[test]
fn kill_of_main_goes_to_the_main_process_only() {
    // (behaviour 3.23)
    let mut driver = Driver::with_service_up(main_only());
    driver.ask(stop("web", 1));
    assert_eq!(driver.pass(ms(10_000)), ["KILL to main 100 of web.1"]);
    assert_eq!(driver.pass(ms(5_000)), ["1> web 1 stuck pid 100", "KILL to main 100 of web.1"]);
    assert_eq!(
        driver.reaped(100, killed_by(Signal::KILL)),
        ["leave web.1", "1> web 1 down pid 100 signal KILL"]
    );

    let mut driver = Driver::with_service_up(main_only());
    let lines = driver.ask(stop_with("web", 1, Signal::TERM, ms(0)));
    assert_eq!(lines[2..], ["KILL to main 100 of web.1"]);
}

#[test]
fn an_end_by_itself_with_main_is_answered_at_once() {
    // (behaviour 3.17, 3.23)
    let attributes = Attributes { respawn: vec![ms(0)], ..main_only() };
    let mut driver = Driver::with_service_up(attributes);
    assert_eq!(
        driver.reaped(100, Exit::Code(1)),
        [
            "leave web.1",
            "1> web 1 down pid 100 exit 1",
            "1> web 1 start pid 100 exit 1",
            "1> web 2 invocation",
            "spawn web.2"
        ]
    );
}

#[test]
fn emptying_goes_on_as_it_began_when_the_mode_becomes_main() {
    // (behaviour 1.4, 3.23)
    let mut driver = Driver::with_service_up(all());
    driver.reaped(100, Exit::Code(0));
    driver.ask(set("web", main_only()));
    assert_eq!(driver.pass(ms(10_000)), ["KILL to group of web.1"]);
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 exit 0"]);
}

#[test]
fn a_run_ends_with_its_main_process_where_no_group_is_waited_for() {
    let driver = Driver::with_service_up(Attributes::default());
    assert_eq!(driver.proxy.run_ends_with(pid(100)), None);
    assert_eq!(driver.proxy.run_ends_with(pid(7)), None, "a stranger");
    let driver = Driver::with_service_up(respawning(&[0]));
    assert_eq!(driver.proxy.run_ends_with(pid(100)), Some(&name("web")));
}

#[test]
fn attributes_of_stopping_count_at_once() {
    // (behaviour 1.4)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.ask(set("web", all()));
    assert_eq!(driver.ask(stop("web", 1))[2], "INT to group of web.1");
}

#[test]
fn respawn_takes_its_delays_in_order_and_repeats_the_last() {
    // (behaviour 3.17, 3.19)
    let mut driver = Driver::with_service_up(respawning(&[0, 50, 200]));
    let mut generation = 1;
    for delay in [0, 50, 200, 200] {
        let lines = driver.reaped(100, Exit::Code(1));
        assert_eq!(lines[0], format!("1> web {generation} down pid 100 exit 1"));
        assert_eq!(lines[1], format!("1> web {generation} start pid 100 exit 1"));
        if delay == 0 {
            assert_eq!(lines[2..], ["1> web 2 invocation", "spawn web.2"]);
        } else {
            assert_eq!(driver.until_timeout(), Some(ms(delay)));
            assert_eq!(driver.pass(ms(delay)).len(), 2);
        }
        generation += 1;
        driver.spawned(service("web", generation), 100);
        driver.executed(service("web", generation));
    }
    driver.pass(ms(10_000));
    driver.reaped(100, Exit::Code(1));
    assert_eq!(driver.state("web"), Some(RunState::Pending));
    assert_eq!(driver.proxy.poll_timeout(), None, "a long run is answered with the first delay");
}

#[test]
fn an_end_by_kill_is_answered_quickly_and_not_counted() {
    // (behaviour 3.18)
    let mut driver = Driver::with_service_up(respawning(&[70, 500]));
    let mut generation = 1;
    for _ in 0..5 {
        driver.reaped(100, killed_by(Signal::KILL));
        assert_eq!(driver.until_timeout(), Some(ms(10)));
        driver.pass(ms(10));
        generation += 1;
        driver.spawned(service("web", generation), 100);
    }
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.until_timeout(), Some(ms(70)));
}

#[test]
fn a_clone_that_fails_counts_for_respawn() {
    // (behaviour 1.11, 3.17)
    let mut driver = Driver::with_service_up(respawning(&[30, 60]));
    driver.reaped(100, Exit::Code(0));
    driver.pass(ms(30));
    assert_eq!(
        driver.not_spawned(service("web", 2)),
        ["1> web 2 down failed clone", "1> web 2 start failed clone"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(60)));
}

#[test]
fn nothing_starts_by_itself_after_a_stop() {
    // (behaviour 3.6, 3.9)
    let mut driver = Driver::with_service_up(respawning(&[30]));
    driver.ask(stop("web", 1));
    assert_eq!(driver.reaped(100, killed_by(Signal::KILL)), ["1> web 1 down pid 100 signal KILL"]);
    driver.ask(start("web", 1));
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(0));
    assert_eq!(driver.state("web"), Some(RunState::Pending));
    assert_eq!(driver.ask(stop("web", 2)), ["1> ok 6", "1> web 2 down pid 101 exit 0"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn auto_up_counts_from_start_to_start() {
    // (behaviour 3.20)
    let mut driver = Driver::new();
    driver.connect(TYPIST);
    driver.say(TYPIST, set("web", respawning(&[])));
    driver.say(TYPIST, arguments("web"));
    driver.say(TYPIST, auto_up("web", Some(5), true));
    driver.spawned(service("web", 1), 100);
    driver.pass(ms(2_000));
    assert_eq!(
        driver.reaped(100, Exit::Code(0)),
        ["2> web 1 down pid 100 exit 0", "2> web 1 start pid 100 exit 0"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(3_000)));
    assert_eq!(driver.pass(ms(3_000)), ["2> web 2 invocation", "spawn web.2"]);
    driver.spawned(service("web", 2), 101);
    driver.pass(ms(20_000));
    assert_eq!(
        driver.reaped(101, Exit::Code(0))[1..],
        ["2> web 2 start pid 101 exit 0", "2> web 3 invocation", "spawn web.3"]
    );
}

#[test]
fn only_what_is_down_or_pending_can_be_deleted() {
    // (behaviour 3.21)
    let delete = || Command::ServiceDelete { name: name("web") };
    let mut driver = Driver::with_service_up(respawning(&[500]));
    driver.connect(TYPIST);
    assert_eq!(driver.ask(delete()), ["1> fail 4 running"]);
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.ask(delete()), ["1> ok 5", "1> web deleted", "2> web deleted", "forget web"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
    assert_eq!(driver.ask(delete()), ["1> fail 6 no-such-service"]);
}

#[test]
fn terminate_is_the_last_thing() {
    // (behaviour 3.22)
    let mut driver = Driver::with_service_up(Attributes::default());
    assert_eq!(driver.ask(Command::Terminate { code: 3, guard: None }), ["1> ok 4", "terminate 3"]);
    assert_eq!(driver.ask(stop("web", 1)), [""; 0]);
    assert_eq!(driver.reaped(100, Exit::Code(0)), [""; 0]);
    assert_eq!(driver.give(Input::Disconnected { connection: BOSS }), [""; 0]);
}
