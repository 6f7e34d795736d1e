//! What happens to services while there is no proxy, or neither proxy nor manager, is not lost.
//! (behaviour 8.10, 20.4, 20.5, 20.6)

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keepd_model::Signal;
use keepd_testkit::torture::Victim;
use keepd_testkit::{LONG, Project, signal, wait_for_end, wait_until};
use serde_json::{Value, json};

use crate::b1900_never_lost::{Keepd, answered, stop_signal};

/// The flag of open(2), on every processor that keepd is built for.
const O_NONBLOCK: i32 = 0o4000;

/// Makes a named pipe in the folder of a project: who reads it waits until somebody writes a line.
pub(crate) fn make_gate(project: &Project) -> PathBuf {
    let gate = project.path("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
    gate
}

/// Lets whoever waits at a gate go on.
///
/// # Panics
/// If nobody comes to wait there.
#[track_caller]
pub(crate) fn open_gate(gate: &Path, line: &str) {
    let mut writer = wait_until("somebody at the gate", LONG, || {
        // Otherwise it would wait for a reader, for ever if there is none.
        OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(gate).ok()
    });
    writer.write_all(line.as_bytes()).unwrap();
}

/// Returns the runs of a service, the oldest first.
fn runs(project: &Project, name: &str) -> Vec<Value> {
    let history = project.keepd(["history", name, "-o", "json"]).expect_code(0).json();
    let mut runs = history["runs"].as_array().unwrap().clone();
    runs.reverse();
    runs
}

fn abort() -> Signal {
    Signal::new(6).unwrap()
}

#[test]
fn how_it_ended_is_told_truly() {
    let configuration = r#"
[defaults]
ready.delay = "0s"
[services.exiting]
command = "sh -c 'read line < gate; exit 7'"
[services.killed]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
[services.final]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
restart = "never"
"#;
    let project = Project::new(configuration);
    let gate = make_gate(&project);
    project.keepd(["up", "-d"]).expect_code(0);
    let pids = ["exiting", "killed", "final"].map(|name| project.pid(name));
    Keepd::of(&project).without_proxy(|| {
        open_gate(&gate, "\n");
        assert!(signal(pids[1], abort()));
        assert!(signal(pids[2], Signal::KILL));
        for pid in pids {
            assert!(wait_for_end(pid, LONG), "{pid} goes on");
        }
    });
    project.wait_for("what was restarted", LONG, |services| {
        let is_settled = |service: &Value| match service["name"].as_str() {
            Some("final") => service["state"] == "failed",
            _ => service["state"] == "ready" && service["generation"] == 2,
        };
        services.iter().all(is_settled).then_some(())
    });
    for (name, key, value) in [
        ("exiting", "code", json!(7)),
        ("killed", "signal", json!("ABRT")),
        ("final", "signal", json!("KILL")),
    ] {
        let runs = runs(&project, name);
        assert_eq!(runs[0]["generation"], 1, "{name}: {runs:?}");
        assert_eq!(runs[0]["end"][key], value, "{name}: {runs:?}");
        assert_eq!(runs.len(), if name == "final" { 1 } else { 2 }, "{name}: {runs:?}");
    }
    let why = project.keepd(["why", "final"]).expect_code(0);
    assert!(why.stdout.contains("signal KILL"), "{}", why.stdout);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

const ONE: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#;

#[test]
fn a_crash_is_answered_without_manager() {
    let project = Project::new(ONE);
    project.keepd(["up", "-d"]).expect_code(0);
    let keepd = Keepd::of(&project);
    let events = project.events();
    let manager = keepd.complete().manager.unwrap();
    assert!(signal(manager, stop_signal()));
    assert!(signal(events.wait_for("ready", "web", 1, LONG).pid, abort()));
    let second = events.wait_for("ready", "web", 2, LONG);
    // And so it is if there is no proxy either when it crashes.
    keepd.without_proxy(|| {
        assert!(signal(second.pid, abort()));
        assert!(wait_for_end(second.pid, LONG));
    });
    let third = events.wait_for("ready", "web", 3, LONG);
    assert!(signal(manager, Signal::CONT));
    let web = project.wait_for("the third run", LONG, |services| {
        let web = &services[0];
        (web["state"] == "ready" && web["pid"] == third.pid).then(|| web.clone())
    });
    assert_eq!(web["generation"], 3);
    let runs = runs(&project, "web");
    let ends: Vec<&Value> = runs.iter().map(|run| &run["end"]["signal"]).collect();
    assert_eq!(ends, [&json!("ABRT"), &json!("ABRT"), &Value::Null], "{runs:?}");
    project.keepd(["down"]).expect_code(0);
    events.check();
    project.assert_nothing_left();
}

#[test]
fn ready_that_is_said_without_a_proxy_counts() {
    let project = Project::new(&ONE.replace("--ready 0", "--ready 700"));
    let _up = project.up();
    project.events().wait_for("start", "web", 1, LONG);
    Keepd::of(&project).without_proxy(|| project.events().wait_for("ready", "web", 1, LONG));
    let web = project.wait_for_state("web", "ready");
    assert_eq!(web["generation"], 1);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn output_of_the_gap_is_in_the_log_in_order() {
    let configuration = r#"
[services.web]
command = "./writer"
ready.delay = "0s"
"#;
    let project = Project::new(configuration);
    let gate = make_gate(&project);
    // Whoever opened the gate last may not have closed it yet: that is an end without a line.
    let script = "#!/bin/sh\nn=0\nwhile :; do\n  read line < gate || continue\n  \
                  for i in 1 2 3 4 5 6 7 8 9 10; do\n    \
                  n=$((n + 1)); echo \"line $n\"; echo \"error $n\" >&2\n  done\n  \
                  echo $n > done.$n\ndone\n";
    project.write_program("writer", script);
    project.keepd(["up", "-d"]).expect_code(0);
    let keepd = Keepd::of(&project);
    let write_ten = |last: u32| {
        open_gate(&gate, "\n");
        let done = project.path(&format!("done.{last}"));
        wait_until("ten lines", LONG, || done.exists().then_some(()));
    };
    write_ten(10);
    keepd.without_proxy(|| write_ten(20));
    write_ten(30);
    keepd.lose(&[Victim::Warden]);
    write_ten(40);
    keepd.without_proxy(|| write_ten(50));
    let expected = |word: &str| (1..=50).map(|n| format!("{word} {n}\n")).collect::<String>();
    let (out, err) = (expected("line"), expected("error"));
    let error_log = project.log_dir("web").join("err.log");
    wait_until("every line", LONG, || {
        let is_there = project.out_log("web").len() >= out.len()
            && fs::read(&error_log).is_ok_and(|bytes| bytes.len() >= err.len());
        is_there.then_some(())
    });
    assert_eq!(String::from_utf8(project.out_log("web")).unwrap(), out);
    assert_eq!(fs::read_to_string(&error_log).unwrap(), err);
    // The index knows them, too: none is said twice, none in another order.
    let logs = project.keepd(["logs", "web", "--out", "--raw"]).expect_code(0);
    assert_eq!(logs.stdout, out);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn what_was_accepted_is_carried_out() {
    let configuration = r#"
[defaults]
ready.notify = true
[services.polite]
command = "${TEST_SERVICE} --ready 0 --stop-takes 300"
[services.deaf]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
stop_timeout = "300ms"
[services.again]
command = "${TEST_SERVICE} --ready 0 --stop-takes 300"
"#;
    let all = [&[Victim::Proxy][..], &[Victim::Warden], &[Victim::Proxy, Victim::Manager]];
    for victims in all.into_iter().chain([&[Victim::Warden, Victim::Proxy][..]]) {
        let project = Project::new(configuration);
        project.keepd(["up", "-d"]).expect_code(0);
        let act = |action: &str, names: &[&str]| {
            let request = json!({ "action": action, "select": names });
            let answer = project.api().post("/v1/actions", &request).unwrap().expect_status(202);
            answer.json()["change"].as_str().unwrap().to_owned()
        };
        let stop = act("stop", &["polite", "deaf"]);
        let restart = act("restart", &["again"]);
        Keepd::of(&project).lose(victims);
        answered(&project);
        for change in [stop, restart] {
            let path = format!("/v1/changes/{change}/wait?timeout=30s");
            let change = wait_until("the change to be known", LONG, || {
                let answer = project.api().get(&path).ok()?;
                (answer.status == 200).then(|| answer.json())
            });
            assert_eq!(change["success"], true, "{victims:?}: {change}");
        }
        for name in ["polite", "deaf"] {
            let service = project.service(name);
            assert_eq!(service["state"], "stopped", "{victims:?}: {service}");
            assert_eq!(service["wanted"], "down", "{victims:?}: {service}");
        }
        let again = project.service("again");
        assert_eq!(again["generation"], 2, "{victims:?}: {again}");
        assert_eq!(again["state"], "ready", "{victims:?}: {again}");
        project.keepd(["down"]).expect_code(0);
        project.events().check();
        project.assert_nothing_left();
    }
}
