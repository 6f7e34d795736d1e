//! What tests do with services: define, start, and hear how they end.

use std::fs;

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy, PATIENCE};
use keepd_testkit::wait_until;

/// The one line of a service that was never started, or whose start was cancelled.
pub(crate) fn never_run(name: &str) -> String {
    format!("service.state\t{name}\tdown\t-\t-\t-\t-\t-\t-")
}

/// The line by which a service is deleted.
pub(crate) fn deleted(name: &str) -> String {
    format!("service.state\t{name}\tdeleted\t-\t-\t-\t-\t-\t-")
}

/// Defines a service that runs a shell script.
#[track_caller]
pub(crate) fn define(controller: &mut Conversation, name: &str, script: &str) {
    let line = format!("service.args\t{name}\tsh\t-c\t{script}");
    controller.answers(&line, &line);
}

/// Waits until a service is due; returns when that is, in whole seconds of the monotonic clock.
#[track_caller]
pub(crate) fn expect_start(controller: &mut Conversation, name: &str) -> u64 {
    controller.expect(&format!("service.state\t{name}\tstart\t{{num}}\t-\t-\t-\t-\t-")).number(0)
}

/// Waits until a service is up; returns when it came up, and its process id.
#[track_caller]
pub(crate) fn expect_up(controller: &mut Conversation, name: &str) -> (u64, u32) {
    let pattern = format!("service.state\t{name}\tup\t{{num}}\t{{pid}}\t-\t-\t{{num}}\t-");
    let captured = controller.expect(&pattern);
    (captured.number(0), captured.pid(1))
}

/// Waits until a service has ended; returns how: `exit 3` or `signal SIGTERM`.
#[track_caller]
pub(crate) fn expect_down(controller: &mut Conversation, name: &str) -> String {
    let pattern = format!(
        "service.state\t{name}\tdown\t{{num}}\t{{pid}}\t{{any}}\t{{any}}\t{{num}}\t{{num}}"
    );
    let captured = controller.expect(&pattern);
    format!("{} {}", captured.text(2), captured.text(3))
}

/// Starts a service and waits until it is up; returns its process id.
#[track_caller]
pub(crate) fn start(controller: &mut Conversation, name: &str) -> u32 {
    controller.send(format!("service.start\t{name}"));
    expect_up(controller, name).1
}

/// Starts a service and waits for its end; returns how it ended.
#[track_caller]
pub(crate) fn run(controller: &mut Conversation, name: &str) -> String {
    start(controller, name);
    expect_down(controller, name)
}

/// Defines a service that runs a shell script, runs it to its end, and returns what it left in the
/// file `out`.
#[track_caller]
pub(crate) fn output_of(
    proxy: &Daemonproxy,
    controller: &mut Conversation,
    script: &str,
) -> String {
    define(controller, "observer", script);
    let end = run(controller, "observer");
    if end != "exit 0" {
        controller.fail(&format!("the service ended with {end}"));
    }
    read(proxy, "out")
}

/// Returns the text of a file in the folder of the proxy.
#[track_caller]
pub(crate) fn read(proxy: &Daemonproxy, name: &str) -> String {
    fs::read_to_string(proxy.path(name))
        .unwrap_or_else(|error| panic!("cannot read \"{name}\": {error}"))
}

/// Asks for dumps until one of them has this line.
#[track_caller]
pub(crate) fn wait_for_dumped(controller: &mut Conversation, line: &str) {
    wait_until(line, PATIENCE, || {
        controller.ask("statedump").iter().any(|found| found == line).then_some(())
    });
}
