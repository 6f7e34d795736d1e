//! Behaviour 1: starting.

use keepd_engine::proxy::Output;
use keepd_model::Exit;
use keepd_model::protocol::{Attributes, Command, Event, FailKind, Message, Place, RunState};

use crate::driver::*;

#[test]
fn a_start_is_answered_then_told_then_carried_out() {
    // (behaviour 1.1, 1.3, 1.8, 1.13, 2.1)
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    assert_eq!(driver.ask(arguments("web")), ["1> ok 1", "3> web args /bin/true"]);
    assert_eq!(
        driver.ask(start("web", 0)),
        ["1> ok 2", "1> web 1 invocation", "3> web 1 invocation", "spawn web.1"]
    );
    assert_eq!(
        driver.spawned(service("web", 1), 100),
        ["1> web 1 forked pid 100", "3> web 1 forked pid 100"]
    );
    assert_eq!(driver.executed(service("web", 1)), ["1> web 1 up pid 100", "3> web 1 up pid 100"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
}

#[test]
fn a_start_is_refused_with_the_first_reason_that_holds() {
    // (behaviour 1.6)
    let mut driver = Driver::with_boss();
    assert_eq!(driver.ask(start("web", 0)), ["1> fail 1 no-such-service"]);
    driver.ask(Command::ServiceTags { name: name("web"), tags: Vec::new() });
    assert_eq!(driver.ask(start("web", 4)), ["1> fail 3 stale"]);
    assert_eq!(driver.ask(start("web", 0)), ["1> fail 4 no-arguments"]);
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    assert_eq!(driver.ask(start("web", 0)), ["1> fail 7 stale"]);
    assert_eq!(driver.ask(start("web", 1)), ["1> fail 8 running"]);
}

#[test]
fn a_typed_command_takes_the_event_for_its_answer() {
    // (behaviour 1.3, 1.10, 5.3)
    let mut driver = Driver::new();
    driver.connect(TYPIST);
    assert_eq!(driver.say(TYPIST, arguments("web")), ["2> web args /bin/true"]);
    assert_eq!(driver.say(TYPIST, Command::WatchStarts { on: true }), [""; 0]);
    let start = Command::ServiceStart { name: name("web"), expected: None, at: None };
    assert_eq!(
        driver.say(TYPIST, start.clone()),
        ["2> web 1 invocation", "2> web 1 start", "spawn web.1"]
    );
    assert_eq!(driver.spawned(service("web", 1), 100), ["2> web 1 forked pid 100"]);
    assert_eq!(
        driver.say(TYPIST, start),
        ["2> error cannot start service \"web\": not startable, generation 1 is running"]
    );
}

#[test]
fn a_clone_that_fails_is_an_end_without_a_process() {
    // (behaviour 1.11)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    assert_eq!(driver.not_spawned(service("web", 1)), ["1> web 1 down failed clone"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
    assert_eq!(driver.ask(start("web", 1))[0], "1> ok 3");
}

#[test]
fn with_retry_a_clone_that_failed_is_tried_again() {
    // (behaviour 1.12)
    let mut driver = Driver::with_boss();
    let retry = Some(ms(3_000));
    driver.ask(set("web", Attributes { retry, ..Attributes::default() }));
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    assert_eq!(
        driver.not_spawned(service("web", 1)),
        [
            "1> web 1 down failed clone",
            "1> web 1 start failed clone",
            "log error: cannot start service \"web\": step clone: resource temporarily unavailable",
            "log info: the start of service \"web\" is tried again in 3s",
        ]
    );
    assert_eq!(driver.pass(ms(2_999)), [""; 0]);
    assert_eq!(driver.pass(ms(1)), ["1> web 2 invocation", "spawn web.2"]);
    driver.ask(stop("web", 2));
    assert_eq!(
        driver.not_spawned(service("web", 2)),
        [
            "1> web 2 down failed clone",
            "log error: cannot start service \"web\": step clone: resource temporarily unavailable",
        ],
        "not after a stop"
    );
}

#[test]
fn respawn_delays_count_alone() {
    // (behaviour 1.12, 3.17)
    let mut driver = Driver::with_boss();
    let attributes =
        Attributes { retry: Some(ms(3_000)), respawn: vec![ms(50)], ..Attributes::default() };
    driver.ask(set("web", attributes));
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    assert_eq!(
        driver.not_spawned(service("web", 1)),
        ["1> web 1 down failed clone", "1> web 1 start failed clone"]
    );
    assert_eq!(driver.until_timeout(), Some(ms(50)));
}

#[test]
fn a_stop_before_the_process_is_known_waits_for_it() {
    // (behaviour 1.14)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    assert_eq!(driver.ask(stop("web", 1)), ["1> ok 3"]);
    assert_eq!(
        driver.spawned(service("web", 1), 100),
        [
            "1> web 1 forked pid 100",
            "1> web 1 stopping pid 100",
            "TERM to main 100 of web.1",
            "CONT to main 100 of web.1"
        ]
    );
}

#[test]
fn two_stops_before_the_process_is_known_keep_the_earlier_kill() {
    // (behaviour 1.14, 3.5)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    driver.ask(start("web", 0));
    driver.ask(stop_with("web", 1, keepd_model::Signal::INT, ms(0)));
    driver.ask(stop("web", 1));
    assert_eq!(driver.spawned(service("web", 1), 100)[2..], ["KILL to group of web.1"]);
}

#[test]
fn a_pending_start_can_be_carried_out_by_command() {
    // (behaviour 1.7)
    let mut driver = Driver::with_service_up(Attributes {
        respawn: vec![ms(60_000)],
        place: Place::Own,
        ..Attributes::default()
    });
    driver.reaped(100, Exit::Code(1));
    assert_eq!(driver.state("web"), Some(RunState::Pending));
    let lines = driver.ask(start("web", 1));
    assert_eq!(lines, ["1> ok 4", "1> web 2 invocation", "spawn web.2"]);
    assert_eq!(driver.proxy.poll_timeout(), None, "the pending start is gone");
}

#[test]
fn setters_of_a_running_service_count_at_the_next_start() {
    // (behaviour 1.4)
    let mut driver = Driver::with_service_up(Attributes::default());
    assert_eq!(
        driver.ask(set(
            "web",
            Attributes { umask: 0o077, place: Place::Own, ..Attributes::default() }
        )),
        ["1> ok 4"]
    );
    // The group of this generation is still its group (behaviour 2.8).
    assert_eq!(driver.reaped(100, Exit::Code(0))[1..], ["KILL to group of web.1", "watch web.1"]);
}

#[test]
fn invocations_differ_for_every_start_and_repeat_with_the_seed() {
    // (behaviour 1.9)
    let run = || {
        let mut driver = Driver::with_boss();
        let mut found = Vec::new();
        for round in 0..3 {
            for text in ["web", "db"] {
                driver.ask(arguments(text));
                driver.ask(start(text, 0));
                driver.not_spawned(service(text, 1));
                let dump = driver.drive(keepd_engine::proxy::Input::Request {
                    connection: BOSS,
                    request: keepd_model::protocol::Request::Numbered(
                        keepd_model::protocol::RequestId(1_000 + round),
                        Command::StateDump,
                    ),
                });
                found.extend(dump.iter().filter_map(|output| match output {
                    Output::Send {
                        message: Message::Event(Event::Invocation { id, .. }), ..
                    } => Some(*id),
                    _ => None,
                }));
                // A service made again begins with generation 1 again.
                driver.ask(Command::ServiceDelete { name: name(text) });
            }
        }
        found
    };
    let ids = run();
    assert_eq!(ids.len(), 6);
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 6);
    assert_eq!(ids, run());
}

#[test]
fn notes_are_kept_bounded_and_removed_when_empty() {
    // (behaviour 1.5)
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    let note = |key: String, value: Vec<u8>| Command::ServiceNote { name: name("web"), key, value };
    assert_eq!(driver.ask(note("wanted".into(), b"up".to_vec())), ["1> ok 1"]);
    assert_eq!(
        driver.ask(note("big".into(), vec![b'x'; 64 * 1024 + 1])),
        [format!("1> fail 2 {}", FailKind::Limit.word())]
    );
    for number in 1..2048 {
        driver.ask(note(number.to_string(), b"x".to_vec()));
    }
    assert_eq!(driver.ask(note("more".into(), b"x".to_vec())), ["1> fail 2050 limit"]);
    assert_eq!(driver.ask(note("wanted".into(), b"down".to_vec())), ["1> ok 2051"]);
    for number in 1..2048 {
        driver.ask(note(number.to_string(), Vec::new()));
    }
    let dump = driver.ask_as(OTHER, Command::StateDump);
    let notes: Vec<_> = dump.iter().filter(|line| line.contains("note")).collect();
    assert_eq!(notes, ["3> web note wanted=down"]);
}

#[test]
fn there_is_a_limit_of_services() {
    // (behaviour 1.2)
    let mut driver = Driver::new();
    for number in 0..65_535 {
        driver.proxy.handle_input(
            driver.now,
            keepd_engine::proxy::Input::Connected { connection: TYPIST, output: false },
        );
        driver.proxy.handle_input(
            driver.now,
            keepd_engine::proxy::Input::Request {
                connection: TYPIST,
                request: keepd_model::protocol::Request::Unnumbered(arguments(&format!(
                    "s{number}"
                ))),
            },
        );
    }
    driver.connect(BOSS);
    assert_eq!(driver.ask(arguments("one-more")), ["1> fail 1 limit"]);
    assert_eq!(driver.state("one-more"), None);
    assert_eq!(driver.ask(arguments("s5")), ["1> ok 2"]);
}
