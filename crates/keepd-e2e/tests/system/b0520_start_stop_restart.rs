//! The verbs that change what runs: they wait for the result, name what they take along, and exit
//! by it.
//! (behaviour 9.1, 9.2, 10.6, 10.8)

use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, wait_until};

const CONFIGURATION: &str = r#"
[defaults]
ready.notify = true
[services.db]
command = "${TEST_SERVICE} --ready 0"
reload_signal = "HUP"
[services.web]
command = "${TEST_SERVICE} --ready 0"
depends_on = ["db"]
[services.worker]
command = "${TEST_SERVICE} --ready 0"
depends_on = ["web"]
[services.alone]
command = "${TEST_SERVICE} --ready 0"
"#;

#[test]
fn a_stop_takes_dependents_first_and_names_them() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let alone = project.pid("alone");
    let stop = project.keepd(["stop", "db"]).expect_code(0);
    for name in ["db", "web", "worker"] {
        let line = format!("\"{name}\"");
        assert!(stop.stdout.lines().any(|found| found.contains(&line)), "{}", stop.stdout);
        assert_eq!(project.service(name)["state"], "stopped");
    }
    assert!(!stop.stdout.contains("alone"), "{}", stop.stdout);
    assert_eq!(project.events().order("term"), ["worker", "web", "db"]);
    assert_eq!(project.pid("alone"), alone);

    // `start` takes what it needs.
    let start = project.keepd(["start", "web"]).expect_code(0);
    assert!(start.stdout.contains("Service \"web\" is ready ("), "{}", start.stdout);
    assert!(start.stdout.contains("\"db\""), "{}", start.stdout);
    assert_eq!(project.service("db")["state"], "ready");
    assert_eq!(project.service("worker")["state"], "stopped");
    project.events().check();
}

#[test]
fn alone_leaves_the_others() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let (web, worker) = (project.pid("web"), project.pid("worker"));
    project.keepd(["stop", "db", "--alone"]).expect_code(0);
    assert_eq!(project.service("db")["state"], "stopped");
    assert_eq!((project.pid("web"), project.pid("worker")), (web, worker));
}

#[test]
fn kill_does_not_ask() {
    let configuration = r#"
[services.stubborn]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
ready.notify = true
stop_timeout = "10m"
"#;
    let project = Project::new(configuration);
    let _up = project.up_and_ready();
    // A polite stop waits; its asker may stop waiting, and the stop goes on.
    let late = project.keepd(["stop", "stubborn", "-t", "200ms"]).expect_code(124);
    assert!(late.stderr.contains("change"), "{}", late.stderr);
    assert_eq!(project.service("stubborn")["state"], "stopping");
    project.keepd(["stop", "stubborn", "--kill"]).expect_code(0);
    assert_eq!(project.service("stubborn")["state"], "stopped");
}

#[test]
fn a_stop_holds_until_somebody_starts_it() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    project.keepd(["stop", "alone"]).expect_code(0);
    let alone = project.service("alone");
    assert_eq!((&alone["wanted"], &alone["reason"]), (&"down".into(), &"operator".into()));
    project.keepd(["start", "alone"]).expect_code(0);
    assert_eq!(project.service("alone")["generation"], 2);
    // A start of what runs is done at once.
    project.keepd(["start", "alone"]).expect_code(0);
    assert_eq!(project.service("alone")["generation"], 2);
}

#[test]
fn a_restart_is_another_process_that_is_ready() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let (db, web) = (project.pid("db"), project.pid("web"));
    let restart = project.keepd(["restart", "db"]).expect_code(0);
    assert!(restart.stdout.contains("\"db\""), "{}", restart.stdout);
    let after = project.service("db");
    assert_eq!((&after["state"], &after["generation"]), (&"ready".into(), &2.into()));
    assert_ne!(project.pid("db"), db);
    // The default of an edge is to ignore that what it needs is replaced.
    assert_eq!(project.pid("web"), web);
    project.events().check();
}

#[test]
fn a_restart_that_cannot_work_leaves_the_old_process_alone() {
    let project = Project::new("");
    let program = project.write_program("bin/web", "#!/bin/sh\nexec \"$TEST_SERVICE\" --ready 0\n");
    project.configure(&format!(
        "[services.web]\ncommand = \"{}\"\nready.notify = true\n",
        program.display()
    ));
    let _up = project.up_and_ready();
    let web = project.pid("web");
    std::fs::remove_file(&program).unwrap();
    let restart = project.keepd(["restart", "web"]).expect_code(1);
    let said = format!("{}{}", restart.stdout, restart.stderr);
    assert!(said.contains("not found"), "{said}");
    assert_eq!(project.pid("web"), web);
    assert_eq!(project.service("web")["state"], "ready");
}

#[test]
fn a_reload_reaches_the_service_or_is_refused() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let db = project.pid("db");
    project.keepd(["reload", "db"]).expect_code(0);
    project.events().wait_for("reload", "db", 1, LONG);
    assert_eq!(project.pid("db"), db);
    let refused = project.keepd(["reload", "web"]).expect_code(100);
    assert!(refused.stderr.contains("\"web\""), "{}", refused.stderr);
    assert!(project.events().of("reload", "web").is_empty());
}

#[test]
fn a_reload_ends_when_the_service_says_so() {
    let project = Project::new(
        r#"
[services.slow]
command = "${TEST_SERVICE} --ready 0 --reload-takes 1500"
ready.notify = true
reload_signal = "HUP"
[services.never]
command = "${TEST_SERVICE} --ready 0 --reload-takes 600000"
ready.notify = true
ready.timeout = "2s"
reload_signal = "HUP"
"#,
    );
    let _up = project.up_and_ready();
    project.keepd(["reload", "slow"]).expect_code(0);
    assert_eq!(project.events().of("reloaded", "slow").len(), 1);
    let never = project.keepd(["reload", "never"]).expect_code(1);
    let said = never.stdout + &never.stderr;
    assert!(said.contains("READY=1 has not come within 2.0s"), "{said}");
    assert_eq!(project.service("never")["state"], "ready");
}

#[test]
fn what_does_not_get_there_is_said_with_1() {
    let configuration = r#"
[services.broken]
command = "${TEST_SERVICE} --exit 0 3"
restart = "never"
enabled = false
[services.shy]
command = "${TEST_SERVICE}"
ready.notify = true
ready.timeout = "200ms"
restart = "never"
enabled = false
[services.idle]
command = "${TEST_SERVICE}"
"#;
    let project = Project::new(configuration);
    let _up = project.up();
    let broken = project.keepd(["start", "broken"]).expect_code(1);
    let said = format!("{}{}", broken.stdout, broken.stderr);
    assert!(said.contains("exit 3"), "{said}");
    let shy = project.keepd(["start", "shy"]).expect_code(1);
    let said = format!("{}{}", shy.stdout, shy.stderr);
    assert!(said.contains("shy"), "{said}");
    assert_eq!(project.service("shy")["reason"], "ready-timeout");
    let nobody = project.keepd(["start", "nobody"]).expect_code(4);
    assert!(nobody.stderr.contains("\"nobody\""), "{}", nobody.stderr);
}

#[test]
fn no_wait_prints_the_change_and_returns() {
    let configuration = r#"
[services.slow]
command = "${TEST_SERVICE} --ready 0 --stop-takes 500"
ready.notify = true
"#;
    let project = Project::new(configuration);
    let _up = project.up_and_ready();
    let started = std::time::Instant::now();
    let stop = project.keepd(["stop", "slow", "--no-wait"]).expect_code(0);
    assert!(stop.stdout.chars().any(|letter| letter.is_ascii_digit()), "{}", stop.stdout);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(project.wait_for_state("slow", "stopped")["wanted"], "down");
}

#[test]
fn who_interrupts_the_waiting_does_not_interrupt_the_action() {
    let configuration = r#"
[services.slow]
command = "${TEST_SERVICE} --ready 0 --stop-takes 700"
ready.notify = true
"#;
    let project = Project::new(configuration);
    let _up = project.up_and_ready();
    let stop = project.start_keepd(["stop", "slow"]);
    project.events().wait_for("term", "slow", 1, LONG);
    wait_until("keepd to handle SIGINT", LONG, || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stop.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        let caught = u64::from_str_radix(caught, 16).ok()?;
        (caught & 1 << (Signal::INT.get() - 1) != 0).then_some(())
    });
    stop.signal(Signal::INT);
    let stop = stop.wait().expect_code(130);
    assert!(stop.stderr.contains("the action goes on"), "{}", stop.stderr);
    project.wait_for_state("slow", "stopped");
}

#[test]
fn crashes_wait_longer_each_time_and_the_first_restart_is_immediate() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --exit 20 1 --until 4"
ready.notify = true
backoff_initial = "200ms"
backoff_factor = 2.0
backoff_jitter = 0.0
"#;
    let project = Project::new(configuration);
    let _up = project.up();
    let events = project.events();
    events.wait_for("ready", "web", 5, LONG);
    let ends = events.of("end", "web");
    let starts = events.of("start", "web");
    let pause = |number: usize| {
        Duration::from_nanos(starts[number].nanoseconds - ends[number - 1].nanoseconds)
    };
    // Once after a run that was ready, then 200 ms, 400 ms, 800 ms: never earlier.
    for (number, least) in [(2, 200), (3, 400), (4, 800)] {
        assert!(pause(number) >= Duration::from_millis(least), "{number}: {:?}", pause(number));
    }
    assert!(pause(1) < pause(2), "{:?}", pause(1));
    events.check();
}
