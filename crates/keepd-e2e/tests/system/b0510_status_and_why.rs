//! `status` and `why`: what people and programs are told.
//! (behaviour 6.2, 8.6)

use keepd_testkit::{LONG, Project};
use serde_json::json;

const CONFIGURATION: &str = r#"
[services.db]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
description = "keeps things"
tags = ["data"]
[services.web]
command = "${TEST_SERVICE} --ready 0 --print hello"
ready.notify = true
depends_on = ["db"]
[services.migrate]
kind = "oneshot"
command = "${TEST_SERVICE} --exit 0 0"
[services.never-ready]
command = "${TEST_SERVICE}"
ready.notify = true
[services.off]
command = "${TEST_SERVICE}"
enabled = false
[services.broken]
command = "${TEST_SERVICE} --exit 0 7"
restart = "never"
[services.blocked]
command = "${TEST_SERVICE}"
depends_on = ["never-ready"]
"#;

/// Starts the project, and waits until every service is where it stays.
fn settled(project: &Project) -> keepd_testkit::Running {
    let up = project.up();
    let expected = [
        ("db", "ready"),
        ("web", "ready"),
        ("migrate", "done"),
        ("never-ready", "starting"),
        ("off", "stopped"),
        ("broken", "failed"),
        ("blocked", "waiting"),
    ];
    for (name, state) in expected {
        project.wait_for_state(name, state);
    }
    up
}

#[test]
fn a_list_answers_0_and_one_name_answers_by_its_state() {
    let project = Project::new(CONFIGURATION);
    let _up = settled(&project);
    let list = project.keepd(["status"]).expect_code(0);
    // Where there are no cgroups a note about that comes first.
    let table: Vec<&str> =
        list.stdout.lines().skip_while(|line| line.starts_with("note: ")).collect();
    let header: Vec<&str> = table[0].split_whitespace().collect();
    assert_eq!(
        header,
        ["NAME", "STATE", "HEALTH", "PID", "UPTIME", "RESTARTS", "CPU", "MEM", "LAST"]
    );
    let names: Vec<&str> =
        table[1..].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["blocked", "broken", "db", "migrate", "never-ready", "off", "web"]);
    assert!(list.stdout.contains("exit 7"), "{}", list.stdout);

    for (name, code) in [
        ("web", 0),
        ("migrate", 0),
        ("never-ready", 1),
        ("blocked", 3),
        ("off", 3),
        ("broken", 3),
        ("nobody", 4),
    ] {
        project.keepd(["status", name]).expect_code(code);
    }
    let unknown = project.keepd(["status", "wep"]).expect_code(4);
    assert!(unknown.stderr.contains("\"wep\""), "{}", unknown.stderr);
    assert!(unknown.stdout.is_empty(), "{}", unknown.stdout);

    let names = project.keepd(["status", "-o", "name", "tag:data", "w*"]).expect_code(0);
    assert_eq!(names.stdout, "db\nweb\n");
    let quiet = project.keepd(["status", "-q", "web"]).expect_code(0);
    assert!(!quiet.stdout.contains("NAME"), "{}", quiet.stdout);
}

#[test]
fn json_has_every_key_of_the_reference() {
    let project = Project::new(CONFIGURATION);
    let _up = settled(&project);
    let document = project.keepd(["status", "-o", "json"]).expect_code(0).json();
    let services = document["services"].as_array().unwrap();
    assert_eq!(services.len(), 7);
    let keys = [
        "name",
        "base",
        "instance",
        "kind",
        "wanted",
        "state",
        "reason",
        "health",
        "pid",
        "generation",
        "invocation_id",
        "since",
        "uptime_s",
        "ready_after_s",
        "restarts",
        "restarts_in_window",
        "next_start",
        "last_exit",
        "cpu_s",
        "memory_bytes",
        "tasks",
        "limits_enforced",
        "log_dropped_bytes",
        "depends_on",
        "tags",
        "enabled",
        "config_changed",
        "description",
    ];
    for service in services {
        for key in keys {
            assert!(service.get(key).is_some(), "{key} is missing: {service}");
        }
    }
    let by_name = |name: &str| services.iter().find(|service| service["name"] == name).unwrap();
    let db = by_name("db");
    assert_eq!(db["description"], "keeps things");
    assert_eq!(db["tags"], json!(["data"]));
    assert_eq!(db["health"], "-");
    assert_eq!(db["pid"].as_u64(), Some(project.events().of("start", "db")[0].pid.into()));
    assert_eq!(db["invocation_id"].as_str().map(str::len), Some(32));
    assert_eq!(by_name("web")["depends_on"], json!(["db"]));
    let broken = by_name("broken");
    assert_eq!(broken["last_exit"]["code"], 7);
    assert_eq!(broken["last_exit"]["signal"], json!(null));
    assert_eq!(broken["reason"], "exit");
    let off = by_name("off");
    assert_eq!((&off["enabled"], &off["wanted"]), (&json!(false), &json!("down")));
    assert_eq!(off["pid"], json!(null));
}

#[test]
fn one_name_shows_the_last_lines_too() {
    let project = Project::new(CONFIGURATION);
    let _up = settled(&project);
    let web = project.keepd(["status", "web"]).expect_code(0);
    assert!(web.stdout.contains("ready"), "{}", web.stdout);
    assert!(web.stdout.contains("hello"), "{}", web.stdout);
}

#[test]
fn why_follows_the_causes() {
    let project = Project::new(CONFIGURATION);
    let _up = settled(&project);
    let why = |name: &str| project.keepd(["why", name]).expect_code(0).stdout;
    let blocked = why("blocked");
    assert!(blocked.starts_with("blocked is waiting"), "{blocked}");
    assert!(blocked.contains("never-ready"), "{blocked}");
    let broken = why("broken");
    assert!(broken.starts_with("broken is failed"), "{broken}");
    assert!(broken.contains("exit 7"), "{broken}");
    let web = why("web");
    assert!(web.starts_with("web is ready"), "{web}");
    project.keepd(["why", "nobody"]).expect_code(4);

    project.keepd(["stop", "web"]).expect_code(0);
    let web = why("web");
    assert!(web.starts_with("web is stopped"), "{web}");
    assert!(web.contains("stop"), "{web}");
}

#[test]
fn a_crash_is_told_with_its_signal() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --abort 0"
backoff_initial = "1h"
backoff_max = "1h"
"#;
    let project = Project::new(configuration);
    let _up = project.up();
    let web = project.wait_for_state("web", "backoff");
    assert_eq!(web["last_exit"]["signal"], "ABRT");
    assert_eq!(web["reason"], "signal");
    assert!(web["next_start"].is_string(), "{web}");
    project.keepd(["status", "web"]).expect_code(3);
    let why = project.keepd(["why", "web"]).expect_code(0).stdout;
    assert!(why.contains("backoff"), "{why}");
    assert!(why.contains("ABRT"), "{why}");
    // `start` does not wait for the delay.
    let before = project.events().of("start", "web").len();
    let _ = project.keepd(["start", "web"]);
    project.events().wait_for("start", "web", before + 1, LONG);
}

#[test]
fn environment_and_identity_reach_the_service() {
    let configuration = r#"
[services.web]
command = [
  "${TEST_SERVICE}",
  "--say-variable", "GREETING",
  "--say-variable", "KEEPD_RUN_DIR",
  "--say-variable", "INVOCATION_ID",
  "--say-variable", "KEEPD_SERVICE",
  "--say-variable", "KEEPD_PROJECT",
  "--say-variable", "GONE",
  "--say-variable", "FROM_FILE",
]
env_file = "web.env"
env = { GREETING = "hello ${TEST_WHOM:-world}", GONE = false }
"#;
    let project = Project::new(configuration);
    project.write("web.env", "# a comment\nFROM_FILE='a b'\nGONE=here\n");
    let _up = project.up_and_ready();
    let said: Vec<String> =
        project.events().of("variable", "web").into_iter().map(|entry| entry.more).collect();
    let invocation = project.service("web")["invocation_id"].as_str().unwrap().to_owned();
    assert_eq!(
        said,
        [
            "GREETING=hello world".to_owned(),
            "KEEPD_RUN_DIR=(unset)".to_owned(),
            format!("INVOCATION_ID={invocation}"),
            "KEEPD_SERVICE=web".to_owned(),
            project.project_entry(),
            "GONE=(unset)".to_owned(),
            "FROM_FILE=a b".to_owned(),
        ]
    );
}
