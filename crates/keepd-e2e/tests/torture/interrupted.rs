//! Who tortures may be interrupted himself, and then nobody stays behind.

use std::process::{Child, Command, Stdio};

use keepd_model::Signal;
use keepd_testkit::{LONG, marked, signal, wait_until};

/// So many are there at some time: one of keepd's own may just have been killed.
const PROCESSES_MIN: usize = 2;

/// A run that would not end by itself.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Begins a run, and ends it by a signal.
#[track_caller]
fn interrupt(by: Signal) {
    let run = Command::new(env!("CARGO_BIN_EXE_keepd-torture"))
        .args(["--kills", "1000000", "--services", "8", "--seed", "1"])
        .stdout(Stdio::null())
        .spawn();
    let run = Run(run.expect("it was built with this test"));
    let project = format!("keepd-test-{}-0", run.0.id());
    let mark = format!("TEST_PROJECT={project}");
    let is_there = || (marked(&mark).len() >= PROCESSES_MIN).then_some(());
    wait_until("the processes of the project", LONG, is_there);
    assert!(signal(run.0.id(), by));
    wait_until("the end of all", LONG, || marked(&mark).is_empty().then_some(()));
    let folder = std::env::temp_dir().join(project);
    wait_until("the end of the files", LONG, || (!folder.exists()).then_some(()));
}

#[test]
fn a_run_that_is_asked_to_end_leaves_nobody() {
    interrupt(Signal::TERM);
}

#[test]
fn a_run_that_is_killed_leaves_nobody() {
    interrupt(Signal::KILL);
}
