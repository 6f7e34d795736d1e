//! Behaviour 1 and 2: starts at a time, and starts by triggers.

use std::time::Duration;

use keepd_engine::proxy::Input;
use keepd_model::protocol::{Attributes, Command, Place, RunState, Triggers};
use keepd_model::{Exit, Instant, Signal};

use crate::driver::*;

/// A machine with [`BOSS`], which watches starts, and the service `web` with arguments.
fn driver() -> Driver {
    let mut driver = Driver::with_boss();
    driver.ask(set("web", Attributes { place: Place::None, ..Attributes::default() }));
    driver.ask(arguments("web"));
    driver.ask(Command::WatchStarts { on: true });
    driver
}

fn start_at(at: Instant) -> Command {
    Command::ServiceStart { name: name("web"), expected: None, at: Some(at) }
}

fn cancel() -> Command {
    Command::ServiceCancel { name: name("web") }
}

fn on(signals: &[Signal]) -> Command {
    let words = signals.iter().map(|signal| signal.to_string().into_bytes()).collect();
    let triggers = Triggers { words, always: false, signals: signals.to_vec() };
    Command::ServiceAutoUp { name: name("web"), seconds: Some(10), triggers }
}

fn arrives(signal: Signal) -> Input {
    Input::Signal { signal, count: 1 }
}

fn clear(signal: Signal) -> Command {
    Command::SignalClear { signal, count: 1 }
}

#[test]
fn a_start_at_a_time_is_told_once_and_may_be_put_elsewhere() {
    // (behaviour 1.15)
    let mut driver = driver();
    let in_ms = |driver: &Driver, count| driver.now.saturating_add(ms(count));
    let due = in_ms(&driver, 5_000);
    assert_eq!(driver.ask(start_at(due)), ["1> ok 4", "1> web 0 start"]);
    let due = in_ms(&driver, 2_000);
    assert_eq!(driver.ask(start_at(due)), ["1> ok 5", "1> web 0 start"]);
    assert_eq!(driver.until_timeout(), Some(ms(2_000)));
    assert_eq!(driver.ask(start_at(due))[1..], ["1> web 0 start"], "told though nothing changed");
    assert_eq!(driver.pass(ms(1_999)), [""; 0]);
    assert_eq!(driver.pass(ms(1)), ["1> web 1 invocation", "spawn web.1"]);
    assert_eq!(driver.ask(start_at(due)), ["1> fail 7 running"]);
}

#[test]
fn a_time_that_is_over_means_now() {
    // (behaviour 1.16)
    let mut driver = Driver::new();
    driver.now = Instant::ZERO.saturating_add(Duration::from_secs(200_000));
    driver.connect(TYPIST);
    driver.say(TYPIST, arguments("web"));
    let seconds = |count| Instant::ZERO.saturating_add(Duration::from_secs(count));
    assert_eq!(
        driver.say(TYPIST, start_at(seconds(99_999))),
        ["2> error cannot start service \"web\": the timestamp is invalid, it is more than \
             100000 s ago"]
    );
    assert_eq!(driver.state("web"), Some(RunState::Down));
    assert_eq!(
        driver.say(TYPIST, start_at(seconds(100_000))),
        ["2> web 1 invocation", "spawn web.1"]
    );
}

#[test]
fn a_pending_start_can_be_cancelled() {
    // (behaviour 1.17)
    let mut driver = driver();
    assert_eq!(driver.ask(cancel()), ["1> fail 4 not-running"]);
    driver.ask(start("web", 0));
    driver.spawned(service("web", 1), 100);
    assert_eq!(driver.ask(cancel()), ["1> fail 6 not-running"]);
    driver.reaped(100, Exit::Code(7));
    let due = driver.now.saturating_add(ms(1));
    assert_eq!(driver.ask(start_at(due))[1..], ["1> web 1 start pid 100 exit 7"]);
    assert_eq!(driver.ask(cancel()), ["1> ok 8", "1> web 1 down"]);
    assert_eq!(driver.proxy.poll_timeout(), None);
    assert_eq!(
        driver.say(BOSS, cancel()),
        ["1> error cannot cancel the start of service \"web\": no start pending"]
    );
}

#[test]
fn a_start_without_arguments_is_refused_at_any_time() {
    // (behaviour 1.6)
    let mut driver = driver();
    driver.ask(Command::ServiceArgs { name: name("web"), arguments: Vec::new() });
    let due = driver.now.saturating_add(ms(1));
    assert_eq!(
        driver.say(BOSS, start_at(due)),
        ["1> error cannot start service \"web\": no arguments set (service.args)"]
    );
}

#[test]
fn a_signal_starts_whoever_waits_for_it() {
    // (behaviour 2.14, 2.15)
    let mut driver = driver();
    assert_eq!(driver.ask(on(&[Signal::HUP, Signal::USR1])), ["1> ok 4"]);
    assert_eq!(driver.give(arrives(Signal::TERM)), ["1> signal TERM 1"]);
    assert_eq!(
        driver.give(arrives(Signal::USR1)),
        ["1> signal USR1 1", "1> web 0 start", "1> web 1 invocation", "spawn web.1"],
        "`start` is told once"
    );
    driver.spawned(service("web", 1), 100);
    assert_eq!(driver.give(arrives(Signal::USR1)), ["1> signal USR1 2"], "it is there already");
    // It was not cleared, so it holds still; the interval counts from start to start.
    driver.pass(ms(4_000));
    assert_eq!(driver.reaped(100, Exit::Code(0))[1..], ["1> web 1 start pid 100 exit 0"]);
    assert_eq!(driver.until_timeout(), Some(ms(6_000)));
    // One more does not wait for the interval.
    assert_eq!(
        driver.give(arrives(Signal::HUP))[1..],
        ["1> web 1 start pid 100 exit 0", "1> web 2 invocation", "spawn web.2"]
    );
    driver.spawned(service("web", 2), 101);
    for signal in [Signal::USR1, Signal::USR1, Signal::HUP] {
        driver.ask(clear(signal));
    }
    assert_eq!(driver.reaped(101, Exit::Code(0)), ["1> web 2 down pid 101 exit 0"]);
}

#[test]
fn a_signal_that_is_pending_when_the_trigger_is_set_starts_at_once() {
    // (behaviour 2.9)
    let mut driver = driver();
    driver.give(arrives(Signal::HUP));
    assert_eq!(
        driver.say(BOSS, on(&[Signal::HUP])),
        ["1> web 0 start", "1> web 1 invocation", "spawn web.1", "1> web auto_up 10 HUP"]
    );
}

#[test]
fn nothing_is_triggered_after_a_stop() {
    // (behaviour 3.9)
    let mut driver = driver();
    driver.ask(on(&[Signal::HUP]));
    driver.give(arrives(Signal::HUP));
    driver.spawned(service("web", 1), 100);
    driver.ask(stop("web", 1));
    assert_eq!(driver.reaped(100, Exit::Code(0)), ["1> web 1 down pid 100 exit 0"]);
    assert_eq!(driver.give(arrives(Signal::HUP)), ["1> signal HUP 2"]);
    assert_eq!(driver.ask(on(&[Signal::HUP]))[1..].len(), 3, "setting it asks for it again");
}

#[test]
fn a_cancelled_start_leaves_triggers_as_they_are() {
    // (behaviour 1.17)
    let mut driver = driver();
    driver.ask(on(&[Signal::HUP]));
    let due = driver.now.saturating_add(ms(60_000));
    driver.ask(start_at(due));
    driver.ask(cancel());
    assert_eq!(driver.give(arrives(Signal::HUP)).last().unwrap(), "spawn web.1");
}

#[test]
fn a_trigger_neither_stops_nor_takes_back() {
    // (behaviour 2.9)
    let mut driver = driver();
    driver.ask(auto_up("web", Some(60), true));
    driver.spawned(service("web", 1), 100);
    driver.reaped(100, Exit::Code(0));
    assert_eq!(driver.until_timeout(), Some(ms(60_000)));
    assert_eq!(driver.ask(auto_up("web", None, false)), ["1> ok 5"]);
    assert_eq!(driver.until_timeout(), Some(ms(60_000)));
    assert_eq!(driver.ask(auto_up("web", None, true)), ["1> ok 6"]);
    assert_eq!(driver.until_timeout(), Some(ms(60_000)));
}
