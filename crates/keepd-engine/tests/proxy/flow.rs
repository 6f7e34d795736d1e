//! Behaviour 5, second half: connections that cannot take news.

use keepd_engine::proxy::{ConnectionId, Input, Output};
use keepd_model::protocol::{Attributes, Command, Place, Request, RequestId, Stream};
use keepd_model::{Exit, Signal};

use crate::driver::*;

fn full(connection: ConnectionId) -> Input {
    Input::Full { connection }
}

fn drained(connection: ConnectionId) -> Input {
    Input::Drained { connection }
}

fn own() -> Attributes {
    Attributes { place: Place::Own, ..Attributes::default() }
}

/// Ends and starts generations from `from` on, so that `to` is up.
fn restart(driver: &mut Driver, from: u64, to: u64) {
    for generation in from..to {
        driver.reaped(100, Exit::Code((generation % 200) as u8));
        driver.ask_as(OTHER, start("web", generation));
        driver.spawned(service("web", generation + 1), 100);
        driver.executed(service("web", generation + 1));
    }
}

#[test]
fn every_end_and_the_latest_state_are_kept() {
    // (behaviour 5.10, 5.12)
    let mut driver = Driver::with_service_up(own());
    driver.connect(OTHER);
    driver.give(full(BOSS));
    restart(&mut driver, 1, 4);
    assert_eq!(
        driver.give(drained(BOSS)),
        [
            "1> web 1 down pid 100 exit 1",
            "1> web 2 down pid 100 exit 2",
            "1> web 3 down pid 100 exit 3",
            "1> web 4 invocation",
            "1> web 4 up pid 100",
        ]
    );
    assert_eq!(driver.proxy.ends_dropped(), 0);
}

#[test]
fn at_most_64_ends_of_a_service_are_kept() {
    // (behaviour 5.10)
    let mut driver = Driver::with_service_up(own());
    driver.connect(OTHER);
    driver.give(full(BOSS));
    restart(&mut driver, 1, 101);
    assert_eq!(driver.proxy.ends_dropped(), 36);
    let lines = driver.give(drained(BOSS));
    assert_eq!(lines.len(), 64 + 2);
    assert_eq!(lines[0], "1> web 37 down pid 100 exit 37");
    assert_eq!(lines[65], "1> web 101 up pid 100");
}

#[test]
fn readiness_outlasts_later_notifications() {
    // (behaviour 5.11)
    let mut driver = Driver::with_service_up(own());
    driver.give(full(BOSS));
    for text in ["READY=1", "STATUS=a", "STATUS=b"] {
        driver.give(Input::Notify { name: name("web"), pid: pid(100), text: text.into() });
    }
    assert_eq!(driver.give(drained(BOSS))[0], "1> web 1 notify 100 READY=1");
    driver.give(full(BOSS));
    driver.give(Input::Notify { name: name("web"), pid: pid(100), text: "READY=1".into() });
    for number in 0..100 {
        let text = format!("STATUS={number}");
        driver.give(Input::Notify { name: name("web"), pid: pid(100), text: text.into() });
    }
    let kept = driver.give(drained(BOSS));
    assert_eq!(kept[..2], ["1> web 1 notify 100 READY=1", "1> web 1 notify 100 STATUS=85"]);
}

#[test]
fn the_latest_of_everything_is_kept_in_order() {
    // (behaviour 5.12, 5.13)
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    driver.ask(Command::WatchLogs { on: true });
    driver.ask(arguments("b"));
    driver.give(full(BOSS));
    let output = |stream, offset| Input::Output { name: name("b"), stream, offset };
    driver.give(output(Stream::Out, 1));
    driver.give(output(Stream::Err, 2));
    driver.ask_as(OTHER, arguments("a"));
    assert_eq!(driver.ask(arguments("c")), ["3> c args /bin/true"]);
    let signal = |signal| Input::Signal { signal, count: 1 };
    driver.give(signal(Signal::HUP));
    driver.give(output(Stream::Out, 3));
    driver.give(signal(Signal::HUP));
    assert_eq!(
        driver.give(drained(BOSS)),
        [
            "1> b output err 2",
            "1> b output out 3",
            "1> a args /bin/true",
            "1> ok 4",
            "1> signal HUP 2",
        ]
    );
    assert_eq!(driver.ask_as(OTHER, arguments("a"))[1], "1> a args /bin/true");
}

#[test]
fn news_comes_after_what_was_kept_before_it() {
    // (behaviour 5.12)
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    driver.give(full(BOSS));
    driver.ask_as(OTHER, arguments("a"));
    // The shell says that there is room, and gives more news before it asks what to do.
    driver.proxy.handle_input(driver.now, drained(BOSS));
    assert_eq!(
        driver.ask_as(OTHER, arguments("b")),
        ["3> ok 2", "1> a args /bin/true", "1> b args /bin/true"]
    );
}

#[test]
fn a_deletion_replaces_all_but_ends() {
    // (behaviour 5.14)
    let mut driver = Driver::with_service_up(own());
    driver.connect(OTHER);
    driver.give(full(BOSS));
    driver.ask_as(OTHER, arguments("web"));
    driver.reaped(100, Exit::Code(9));
    driver.ask_as(OTHER, Command::ServiceDelete { name: name("web") });
    driver.ask_as(OTHER, arguments("web"));
    assert_eq!(
        driver.give(drained(BOSS)),
        ["1> web 1 down pid 100 exit 9", "1> web deleted", "1> web args /bin/true"]
    );
}

#[test]
fn a_dump_waits_for_room_and_ends_after_what_was_kept() {
    // (behaviour 5.8, 5.12)
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    for text in ["a", "b", "c"] {
        driver.ask(arguments(text));
    }
    driver.proxy.handle_input(
        driver.now,
        Input::Request {
            connection: BOSS,
            request: Request::Numbered(RequestId(99), Command::StateDump),
        },
    );
    let mut taken = Vec::new();
    while taken.last().is_none_or(|line| line != "1> a 0 down") {
        taken.push(text(&driver.proxy.poll_output().unwrap()));
    }
    assert_eq!(driver.give(full(BOSS)), [""; 0]);
    assert_eq!(driver.ask_as(OTHER, arguments("b")), ["3> ok 4"]);
    let lines = driver.give(drained(BOSS));
    assert_eq!(lines[0], "1> b args /bin/true", "what was kept comes first");
    assert_eq!(lines[1], "1> b args /bin/true", "then the dump goes on");
    assert_eq!(lines.last().unwrap(), "1> dump.end 1");
    assert_eq!(lines.len(), 1 + 2 * 7 + 1, "the handles and the first service came before");
}

#[test]
fn a_client_too_far_behind_is_closed() {
    // (behaviour 5.15)
    // As many things as there may be services and handles.
    const MARKS_MAX: u64 = 65_535 + 20_000;
    let mut driver = Driver::with_boss();
    driver.connect(OTHER);
    driver.give(full(BOSS));
    let mut closed = 0;
    for number in 0..=MARKS_MAX {
        let text = format!("s{number}");
        for command in [arguments(&text), Command::ServiceDelete { name: name(&text) }] {
            driver.proxy.handle_input(
                driver.now,
                Input::Request {
                    connection: OTHER,
                    request: Request::Numbered(RequestId(number), command),
                },
            );
        }
        while let Some(output) = driver.proxy.poll_output() {
            closed += usize::from(output == Output::Close { connection: BOSS });
        }
        assert_eq!(closed, usize::from(number == MARKS_MAX));
    }
    driver.check();
}
