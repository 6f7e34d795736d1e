//! Nobody reads (row 9): a stopped reader of logs, a stopped terminal of `up`, a client that
//! follows and never reads, and the proxy itself stopped for a while. Services write on, and every
//! byte is kept. (behaviour 16.1, 16.3)

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use keepd_model::Signal;
use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::test_service::pattern;
use keepd_testkit::{LONG, Project, Running, keepd_program, signal, wait_until};

use crate::instance::{RECOVERY_MAX, identities, proxy_pid};

const MUCH: usize = 3_000_000;

/// A service that begins to write when it is told to, and one beside it.
fn configuration() -> String {
    format!(
        r#"
[services.writer]
command = "${{TEST_SERVICE}} --write {MUCH} --ready 0"
ready.notify = true
ready.timeout = "5m"
enabled = false
[services.other]
command = "${{TEST_SERVICE}} --ready 0 --chatter 20"
ready.notify = true
"#
    )
}

fn stop_signal() -> Signal {
    Signal::new(19).expect("19 is STOP")
}

#[test]
fn readers_that_do_not_read_hold_nobody_up() {
    const FAULT: &str = "readers of logs are stopped";
    let project = Project::new(&configuration());
    let (up, _input, mut output) =
        Running::start_conversation(project.command(keepd_program()).arg("up"));
    let socket = project.run_dir().join("keepd.sock");
    wait_until("an answer", LONG, || project.api().get("/v1/services").ok());
    project.wait_for_state("other", "ready");
    let follower = project.start_keepd(["logs", "-f", "-n", "all"]);
    follower.stdout().wait_for_line("a line", LONG, |line| line.contains("chatter"));
    assert!(signal(follower.pid(), stop_signal()));
    let mut client = UnixStream::connect(&socket).unwrap();
    client
        .write_all(b"GET /v1/logs?follow=true&lines=all HTTP/1.1\r\nHost: keepd\r\n\r\n")
        .unwrap();
    let before = identities(&project.services());

    // Nobody reads `output` either: it is a terminal that was stopped.
    let watch = ControlWatch::start(&project);
    project.keepd(["start", "writer"]).expect_code(0);
    wait_until("the last byte", LONG, || (project.out_log("writer").len() == MUCH).then_some(()));
    assert!(project.out_log("writer") == pattern(MUCH));
    watch.finish(FAULT);
    let after = identities(&project.services());
    assert_eq!(after["other"], before["other"]);

    assert!(signal(follower.pid(), Signal::CONT));
    let lifted = Instant::now();
    let last = wait_until("a late line", LONG, || {
        let log = String::from_utf8_lossy(&project.out_log("other")).into_owned();
        log.lines().last().map(str::to_owned)
    });
    recovers(FAULT, RECOVERY_MAX * 2, lifted, || {
        follower.stdout().text().contains(&last).then_some(())
    });
    drop(follower);
    // The terminal comes back, and is told what it missed.
    let text = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    up.signal(Signal::INT);
    up.wait().expect_code(0);
    let text = text.join().unwrap().unwrap_or_default();
    assert!(text.contains("not shown"), "{}", &text[text.len().saturating_sub(2000)..]);
    project.assert_nothing_left();
}

#[test]
fn while_the_proxy_is_stopped_writers_wait_and_nothing_is_lost() {
    const FAULT: &str = "the proxy is stopped for a while";
    let project = Project::new(&configuration());
    let _up = project.up();
    project.wait_for_state("other", "ready");
    let proxy = proxy_pid(&project);
    project.keepd(["start", "writer", "--no-wait"]).expect_code(0);
    project.events().wait_for("start", "writer", 1, LONG);
    assert!(signal(proxy, stop_signal()));
    let writer = project.events().of("start", "writer")[0].pid;
    // Its pipe is full: it sleeps in write(2), or it is done already.
    wait_until("the writer to wait", LONG, || {
        let written = !project.events().of("written", "writer").is_empty();
        let call = fs::read_to_string(format!("/proc/{writer}/syscall")).unwrap_or_default();
        (written || call.starts_with("1 ") || call.starts_with("64 ")).then_some(())
    });
    assert!(signal(proxy, Signal::CONT));
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        let whole = project.out_log("writer").len() == MUCH;
        (whole && project.service("writer")["state"] == "ready").then_some(())
    });
    assert!(project.out_log("writer") == pattern(MUCH));
    assert_eq!(project.service("writer")["generation"], 1);
    project.events().check();
}
