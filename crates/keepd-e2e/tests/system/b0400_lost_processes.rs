//! All of keepd's own processes are killed, and what they left cannot, or shall not, be taken over.
//! (behaviour 20.9, 20.10, 20.11)

use std::fs;
use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::{Project, wait_for_end};

use crate::b1900_never_lost::Keepd;

const CONFIGURATION: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --fork 2"
ready.notify = true
[services.worker]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
ready.notify = true
"#;

/// Starts a project whose keepd is lost then. Returns the processes of its services.
fn start_and_lose(project: &Project) -> [u32; 2] {
    let up = project.up_and_ready();
    let pids = [project.pid("web"), project.pid("worker")];
    Keepd::of(project).lose_everything();
    up.wait().expect_code(128 + 9);
    pids
}

#[track_caller]
fn assert_ended(project: &Project, pids: [u32; 2]) {
    for pid in pids {
        assert!(wait_for_end(pid, Duration::ZERO), "{pid} is left");
    }
    let left = project.processes();
    assert!(left.is_empty(), "{left:?}");
}

/// Starts the project, and ends it.
fn start_again(project: &Project) {
    let up = project.up_and_ready();
    up.signal(Signal::QUIT);
    let _ = up.wait();
    project.assert_nothing_left();
}

#[test]
fn what_a_lost_keepd_left_behind_can_be_ended_instead() {
    let project = Project::new(CONFIGURATION);
    let left = start_and_lose(&project);
    let status = project.keepd(["status"]).expect_code(111);
    assert!(status.stderr.contains("nothing runs there"), "{}", status.stderr);
    let down = project.keepd(["down", "--leftovers"]).expect_code(0);
    for pid in left {
        assert!(down.stdout.contains(&format!("Process {pid} (")), "{}", down.stdout);
    }
    assert_ended(&project, left);
    start_again(&project);
}

#[test]
fn without_a_ledger_that_is_sound_nothing_is_touched() {
    for damage in [false, true] {
        let project = Project::new(CONFIGURATION);
        let [web, worker] = start_and_lose(&project);
        let ledger = project.run_dir().join("ledger");
        if damage {
            let mut bytes = fs::read(&ledger).unwrap();
            bytes[20] ^= 4;
            fs::write(&ledger, bytes).unwrap();
        } else {
            fs::remove_file(&ledger).unwrap();
        }
        let refused = project.keepd(["up"]).expect_code(111);
        for pid in [web, worker] {
            assert!(refused.stderr.contains(&pid.to_string()), "{}", refused.stderr);
            assert!(!wait_for_end(pid, Duration::ZERO), "{pid} has ended");
        }
        assert!(refused.stderr.contains("cannot be taken over: "), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: keepd down --leftovers"), "{}", refused.stderr);
        project.keepd(["down", "--leftovers"]).expect_code(0);
        assert_ended(&project, [web, worker]);
        start_again(&project);
    }
}

#[test]
fn what_ended_with_keepd_is_forgotten() {
    let project = Project::new(CONFIGURATION);
    for pid in start_and_lose(&project) {
        keepd_testkit::kill(pid);
    }
    // Grandchildren, too: nothing of the project runs.
    let events = project.events();
    for grandchild in events.of("grandchild", "web") {
        keepd_testkit::kill(grandchild.pid);
    }
    start_again(&project);
    let starts = events.of("start", "web");
    let generations: Vec<u64> = starts.iter().map(|start| start.generation).collect();
    assert_eq!(generations, [1, 1], "an instance of its own counts from 1");
}
