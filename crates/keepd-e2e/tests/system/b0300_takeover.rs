//! The manager is killed, under load, again and again: no service notices.
//! (behaviour 9.7, 11.2, 11.6, 11.7)

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, kill, signal, wait_for_end, wait_until};
use serde_json::json;

const KILLS: usize = 20;
const SERVICES: usize = 20;

/// What the answer after a kill may take on a busy machine; what it does take is printed.
const ANSWER_MAX: Duration = Duration::from_secs(2);

fn manager(project: &Project) -> u32 {
    let pid = wait_until("the version of the manager", LONG, || {
        let answer = project.api().get("/v1/version").ok()?;
        (answer.status == 200).then(|| answer.json()["pid"].as_u64())?
    });
    u32::try_from(pid).unwrap()
}

/// Services that write all the time, one that the operator stops, one that takes its time to stop,
/// and one that crashes now and then.
fn configuration() -> String {
    let mut text = String::from(
        r#"
version = 1
[defaults]
ready.notify = true
backoff_initial = "50ms"
backoff_max = "50ms"
[services.idle]
command = "${TEST_SERVICE} --ready 0"
[services.slow]
command = "${TEST_SERVICE} --ready 0 --stop-takes 400"
[services.crashing]
command = "${TEST_SERVICE} --ready 0 --exit 150 3"
"#,
    );
    for number in 0..SERVICES - 3 {
        writeln!(
            text,
            "[services.writer{number}]\ncommand = \"${{TEST_SERVICE}} --ready 0 --chatter 5\""
        )
        .unwrap();
    }
    text
}

/// Process and generation of each service that is left alone.
fn identities(project: &Project) -> BTreeMap<String, (u64, u64)> {
    let services = project.services();
    let steady =
        services.iter().filter(|service| service["name"].as_str().unwrap().starts_with("writer"));
    steady
        .map(|service| {
            let pid = service["pid"].as_u64().unwrap();
            let generation = service["generation"].as_u64().unwrap();
            (service["name"].to_string(), (pid, generation))
        })
        .collect()
}

/// Sets a flag at the end of its life.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills the manager and returns how long `keepd status` takes from then on until it has an answer.
fn kill_and_ask(project: &Project) -> Duration {
    let before = manager(project);
    let started = Instant::now();
    assert!(signal(before, Signal::KILL));
    let status = project.keepd(["status", "-o", "json"]).expect_code(0);
    let elapsed = started.elapsed();
    assert_eq!(status.json()["services"].as_array().unwrap().len(), SERVICES);
    assert_ne!(manager(project), before);
    elapsed
}

#[test]
fn no_service_notices_that_the_manager_is_replaced() {
    let project = Project::new(&configuration());
    let up = project.start_keepd(["up"]);
    project.wait_for("every writer to be ready", LONG, |services| {
        let ready = services.iter().filter(|service| service["state"] == "ready").count();
        (ready >= SERVICES - 1).then_some(())
    });
    project.keepd(["stop", "idle"]).expect_code(0);
    let before = identities(&project);
    assert_eq!(before.len(), SERVICES - 3);

    let over = AtomicBool::new(false);
    let answers = AtomicU32::new(0);
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        // A client that asks without a pause, and may fail while nobody is there.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if project.api().get("/v1/services").is_ok() {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Also if an assertion below fails: the scope waits for its thread.
        let _stop_asking = SetWhenDropped(&over);
        for round in 0..KILLS {
            let waiting = match round % 4 {
                1 => Some(project.start_keepd(["restart", "slow"])),
                3 => Some(project.start_keepd(["stop", "slow"])),
                _ => None,
            };
            if waiting.is_some() {
                // The change is open: its service has been asked to stop, and takes its time.
                project.wait_for_state("slow", "stopping");
            }
            times.push(kill_and_ask(&project));
            if let Some(waiting) = waiting {
                // It asks the next manager for the change that it was told by the last one.
                waiting.wait().expect_code(0);
                let state = if round % 4 == 1 { "ready" } else { "stopped" };
                assert_eq!(project.service("slow")["state"], state);
            }
            if round % 4 == 3 {
                project.keepd(["start", "slow"]).expect_code(0);
            }
            assert_eq!(identities(&project), before, "after kill {}", round + 1);
            let idle = project.service("idle");
            assert_eq!((&idle["state"], &idle["wanted"]), (&json!("stopped"), &json!("down")));
        }
    });

    times.sort();
    let (best, worst) = (times[0], times[KILLS - 1]);
    let median = times[KILLS / 2];
    println!(
        "keepd status after SIGKILL of the manager, {KILLS} times under load: \
         best {best:.1?}, median {median:.1?}, worst {worst:.1?}; {} answers to the other client",
        answers.load(Ordering::Relaxed)
    );
    assert!(best <= ANSWER_MAX, "the best answer took {best:?}");
    up.signal(Signal::INT);
    up.wait().expect_code(0);
    project.events().check();
    assert!(project.events().of("start", "crashing").len() > 5);
    project.assert_nothing_left();
}

#[test]
fn a_restart_that_came_due_without_a_manager_is_carried_out() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#;
    let project = Project::new(configuration);
    let _up = project.up_and_ready();
    let (manager, web) = (manager(&project), project.pid("web"));
    // Both at once: the end of the service is news for nobody.
    assert!(signal(manager, stop_signal()));
    kill(web);
    kill(manager);
    let again = project.wait_for("another process", LONG, |services| {
        let web_again = services.first()?;
        (web_again["state"] == "ready" && web_again["pid"] != web).then(|| web_again.clone())
    });
    assert_eq!(again["generation"], 2);
    assert_eq!(again["last_exit"]["signal"], "KILL");
    project.events().check();
}

#[test]
fn an_apply_whose_answer_was_lost_is_answered_again() {
    // (behaviour 10.2)
    let configuration = |variable: &str| {
        format!(
            "[services.web]\ncommand = \"${{TEST_SERVICE}} --ready 0\"\nready.notify = true\n\
             env.COLOUR = \"{variable}\"\n"
        )
    };
    let project = Project::new(&configuration("red"));
    let _up = project.up_and_ready();
    project.configure(&configuration("blue"));
    let request = json!({ "token": "once" });
    let apply =
        || project.api().post("/v1/config/apply", &request).unwrap().expect_status(202).json();
    let first = apply();
    let steps = json!([{ "name": "web", "action": "restart", "keys": ["env.COLOUR"] }]);
    assert_eq!(first["steps"], steps);
    assert_eq!(apply(), first);
    kill(manager(&project));
    let again = wait_until("the next manager to know the proxy", LONG, || {
        let answer = project.api().post("/v1/config/apply", &request).ok()?;
        (answer.status == 202).then(|| answer.json())
    });
    assert_eq!(again, first);
    let change = first["change"].as_str().unwrap();
    let path = format!("/v1/changes/{change}/wait?timeout=30s");
    let change = project.api().get(&path).unwrap().expect_status(200).json();
    assert_eq!(change["success"], true);
    assert_eq!(project.service("web")["generation"], 2);
}

#[test]
fn ready_that_is_said_while_nobody_listens_is_not_lost() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --ready 300"
ready.notify = true
"#;
    let project = Project::new(configuration);
    let _up = project.up();
    project.events().wait_for("start", "web", 1, LONG);
    let manager = manager(&project);
    assert!(signal(manager, stop_signal()));
    project.events().wait_for("ready", "web", 1, LONG);
    kill(manager);
    let web = project.wait_for_state("web", "ready");
    assert_eq!(web["generation"], 1);
}

/// SIGSTOP: the process is there, and does nothing.
fn stop_signal() -> Signal {
    Signal::new(19).unwrap()
}

#[test]
fn a_manager_that_does_not_start_is_said_and_not_waited_for() {
    // (behaviour 20.12)
    let project = Project::new("[services.web]\ncommand = \"${TEST_SERVICE}\"\n");
    let mut up = project.up_and_ready();
    // What it would start with cannot be read.
    std::fs::write(project.run_dir().join("accepted.json"), "{").unwrap();
    kill(manager(&project));
    let down = project.keepd(["down"]).expect_code(111);
    let expected = "its services run, but its manager does not start\n";
    assert!(down.stderr.contains(expected), "{}", down.stderr);
    assert!(up.is_running());
    assert!(down.stderr.contains("hint: ") && down.stderr.contains("keepd down --leftovers"));
    let web = project.events().of("start", "web")[0].pid;
    let end = project.keepd(["down", "--leftovers"]).expect_code(0);
    assert!(end.stdout.ends_with("is killed.\n"), "{}", end.stdout);
    assert!(wait_for_end(web, Duration::ZERO), "{web} is left");
    up.wait().expect_code(0);
    project.assert_nothing_left();
}
