//! Who tortures may be interrupted himself, and then nobody stays behind.

use std::process::{Command, Stdio};

use keepd_model::Signal;
use keepd_testkit::{LONG, marked, signal, wait_until};

/// Begins a run that would not end by itself, and ends it by a signal.
#[track_caller]
fn interrupt(by: Signal) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_keepd-torture"))
        .args(["--kills", "1000000", "--services", "8", "--seed", "1"])
        .stdout(Stdio::null())
        .spawn()
        .expect("it was built with this test");
    let mark = format!("TEST_PROJECT=keepd-test-{}-0", run.id());
    wait_until("all services", LONG, || (marked(&mark).len() > 8).then_some(()));
    assert!(signal(run.id(), by));
    run.wait().expect("it is our child");
    wait_until("the end of all", LONG, || marked(&mark).is_empty().then_some(()));
    let folder = std::env::temp_dir().join(format!("keepd-test-{}-0", run.id()));
    wait_until("no files", LONG, || (!folder.exists()).then_some(()));
}

#[test]
fn a_run_that_is_asked_to_end_leaves_nobody() {
    interrupt(Signal::TERM);
}

#[test]
fn a_run_that_is_killed_leaves_nobody() {
    interrupt(Signal::KILL);
}
