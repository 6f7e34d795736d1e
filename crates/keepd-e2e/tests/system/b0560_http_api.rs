//! The HTTP API over its socket: what curl sees.
//! (behaviour 10.1, 10.2)

use keepd_testkit::{Deadline, LONG, Project};
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --stop-takes 300"
ready.notify = true
[services.off]
command = "${TEST_SERVICE}"
enabled = false
"#;

#[test]
fn lines_are_asked_for_over_the_socket() {
    // (behaviour 16.12)
    let project = Project::new(
        "[services.web]\ncommand = \"${TEST_SERVICE} --lines 5000 --ready 0\"\n\
         ready.notify = true\n\
         [services.silent]\ncommand = \"${TEST_SERVICE}\"\nlog.mode = \"null\"\n",
    );
    let _up = project.up_and_ready();
    let get = |query: &str| project.api().get(&format!("/v1/logs{query}")).unwrap();
    let last = keepd_testkit::wait_until("all lines to be written", LONG, || {
        let text = get("?select=web&lines=1").expect_status(200).body;
        text.contains("\"message\":\"line 5000\"").then_some(text)
    });
    let object: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&object["generation"], &object["stream"]), (&json!(1), &json!("out")));
    let all = get("?lines=all").expect_status(200).body;
    let printed = project.keepd(["logs", "-n", "all", "-o", "json"]).expect_code(0).stdout;
    assert_eq!(all, printed, "the verb reads the same files");
    assert_eq!(all.lines().count(), 5_000);
    let refused = get("?select=silent").expect_status(400).json();
    assert_eq!(refused["code"], "usage");
}

#[test]
fn a_change_is_accepted_then_waited_for() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let api = project.api();
    let request = json!({"action": "restart", "select": ["web"], "token": "once"});
    let accepted = api.post("/v1/actions", &request).unwrap().expect_status(202).json();
    let change = accepted["change"].as_str().unwrap();
    // The same word again is the same change, not a second restart.
    let again = api.post("/v1/actions", &request).unwrap().expect_status(202).json();
    assert_eq!(again["change"], change);

    let early = api.get(&format!("/v1/changes/{change}/wait?timeout=1ms")).unwrap();
    assert_eq!(early.expect_status(200).json()["closed"], false);
    let done = api.get(&format!("/v1/changes/{change}/wait?timeout=30s")).unwrap();
    let done = done.expect_status(200).json();
    assert_eq!((&done["closed"], &done["success"]), (&json!(true), &json!(true)));
    assert_eq!(done["verb"], "restart");
    assert_eq!(done["goals"][0]["name"], "web");
    assert_eq!(project.service("web")["generation"], 2);
    project.events().check();
}

#[test]
fn refusals_are_problems_with_a_code() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let api = project.api();
    let action = |action: &str, name: &str| {
        api.post("/v1/actions", &json!({"action": action, "select": [name]})).unwrap()
    };
    let cases = [
        (api.get("/v1/services/nobody").unwrap(), 404, "no-such-service"),
        (api.get("/v1/nowhere").unwrap(), 404, "no-such-path"),
        (api.get("/v1/services?color=red").unwrap(), 400, "usage"),
        (api.get("/v1/changes/4711").unwrap(), 404, "no-such-change"),
        (action("start", "nobody"), 404, "no-such-service"),
        (action("reload", "web"), 409, "cannot-reload"),
        (action("dance", "web"), 400, "usage"),
    ];
    for (answer, status, code) in cases {
        assert_eq!(answer.content_type, "application/problem+json", "{}", answer.body);
        let problem = answer.expect_status(status).json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("cannot "), "{problem}");
    }
    assert_eq!(project.service("web")["generation"], 1);
}

#[test]
fn events_tell_each_step_in_order() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let mut stream = project.api().events().unwrap();
    project.keepd(["restart", "web"]).expect_code(0);
    let deadline = Deadline::after(LONG);
    let mut events: Vec<Value> = Vec::new();
    while events.last().is_none_or(|event| event["event"] != "change-closed") {
        events.push(stream.next(deadline).expect("the change is closed at last"));
    }
    let states: Vec<&str> = events
        .iter()
        .filter(|event| event["service"] == "web" && event["event"] == "state")
        .filter_map(|event| event["to"].as_str())
        .collect();
    assert_eq!(states.first(), Some(&"stopping"), "{events:#?}");
    assert_eq!(states[states.len() - 2..], ["starting", "ready"], "{events:#?}");
    let sequences: Vec<u64> =
        events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    let expected: Vec<u64> = (sequences[0]..).take(events.len()).collect();
    assert_eq!(sequences, expected, "none is missing");
}

#[test]
fn health_pages_say_whether_all_is_well() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let api = project.api();
    for page in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(api.get(page).unwrap().expect_status(200).json()["status"], "ok");
    }
    project.configure(&format!(
        "{CONFIGURATION}\n[services.broken]\ncommand = \"/bin/webd\"\nrestart = \"never\"\n"
    ));
    project.keepd(["apply"]).expect_code(1);
    assert_eq!(api.get("/livez").unwrap().status, 200);
    let ready = api.get("/readyz").unwrap().expect_status(503).json();
    assert!(ready["failing"][0].as_str().unwrap().contains("broken"), "{ready}");
}
