//! `log.filter` and `log.dest`.

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy, PATIENCE};
use keepd_testkit::wait_until;

use crate::services::read;

/// The levels, from the one that shows most.
const LEVELS: [&str; 7] = ["none", "trace", "debug", "info", "warning", "error", "fatal"];

/// Makes an error that the log has this word of.
#[track_caller]
fn blunder(controller: &mut Conversation, word: &str) {
    controller.answers(word, &format!("error\t{{any}}: {word}"));
}

/// Waits until a file of the proxy has a text.
#[track_caller]
fn wait_for_text(proxy: &Daemonproxy, name: &str, text: &str) {
    wait_until(text, PATIENCE, || read(proxy, name).contains(text).then_some(()));
}

/// K8: the filter is `debug` at first; without an argument it is shown.
#[test]
fn the_filter_is_debug_at_first() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("log.filter", "log.filter\tdebug");
}

/// `+` and `-` move the filter by one level, up to its ends.
#[test]
fn the_filter_moves_by_steps() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for level in ["info", "warning", "error", "fatal", "fatal"] {
        controller.answers("log.filter\t+", &format!("log.filter\t{level}"));
    }
    for level in LEVELS[..6].iter().rev().chain(["none"].iter()) {
        controller.answers("log.filter\t-", &format!("log.filter\t{level}"));
    }
    for level in LEVELS {
        controller.answers(&format!("log.filter\t{level}"), &format!("log.filter\t{level}"));
    }
    for level in ["DEBUG", "warn", "1", "++"] {
        controller.refuses(&format!("log.filter\t{level}"), &[]);
    }
    controller.answers("log.filter", "log.filter\tfatal");
}

/// The filter suppresses its own level and all below it.
#[test]
fn the_filter_suppresses_its_own_level() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("log.filter\terror", "log.filter\terror");
    blunder(&mut controller, "suppressed");
    controller.answers("log.filter\twarning", "log.filter\twarning");
    blunder(&mut controller, "shown");
    proxy.expect_log(&["error: ", "unknown command shown"]);
    assert!(!proxy.log().text().contains("suppressed"), "{}", proxy.log().text());
}

/// `log.dest⇥fd⇥HANDLE` moves the log.
#[test]
fn the_log_goes_to_a_handle() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.open\tlog\twrite,create\tlog");
    controller.is_silent("log.dest\tfd\tlog");
    blunder(&mut controller, "moved");
    wait_for_text(&proxy, "log", "moved");
    controller.is_silent("log.dest\tfd\tstderr");
    blunder(&mut controller, "back");
    proxy.expect_log(&["error: ", "unknown command back"]);
    assert!(!proxy.log().text().contains("moved"), "{}", proxy.log().text());
}

/// A24: a handle that does not exist yet is only warned of, as `warning⇥fd …`; messages wait.
#[test]
fn the_log_may_wait_for_its_handle() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("log.dest\tfd\tlog", "warning\tfd {rest}");
    blunder(&mut controller, "waiting");
    controller.ask("fd.open\tlog\twrite,create\tlog");
    wait_for_text(&proxy, "log", "waiting");
    // By name: another one of that name carries on.
    controller.answers("fd.delete\tlog", "fd.state\tlog\tdeleted");
    blunder(&mut controller, "between");
    controller.ask("fd.open\tlog\twrite,create\tsecond");
    wait_for_text(&proxy, "second", "between");
    controller.ask("fd.open\tlog\twrite,create\tthird");
    blunder(&mut controller, "replaced");
    wait_for_text(&proxy, "third", "replaced");
}

/// `log.dest` knows handles only.
#[test]
fn the_log_goes_to_handles_only() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    for arguments in ["", "\t", "\tsyslog", "\tfile\t/dev/null", "\tFD\tstderr", "\tfd", "\tfd\t"] {
        controller.refuses(&format!("log.dest{arguments}"), &[]);
    }
    blunder(&mut controller, "here");
    proxy.expect_log(&["error: ", "unknown command here"]);
}
