//! `apply --keep-going`: what is broken keeps the table that it has, the rest follows the files.
//! (behaviour 10.14, 10.15, 10.16, 10.17)

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, kill, wait_until};
use serde_json::Value;

const BEFORE: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --say-variable COLOR"
ready.notify = true
env = { COLOR = "red" }
depends_on = ["db"]
[services.db]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
[services.other]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#;

/// `web` is broken, `db` is gone although the `web` that runs needs it, `new` is broken from the
/// beginning, and `other` changed.
const BROKEN: &str = r#"
[defaults]
ready.notify = true
env = { COLOR = "green" }
[services.web]
command = "${TEST_SERVICE} --ready 0 --say-variable COLOR"
ready.prot = 80
[services.other]
command = "${TEST_SERVICE} --ready 0 --print changed"
[services.new]
command = 5
[services.user]
command = "${TEST_SERVICE} --ready 0"
depends_on = ["web"]
"#;

const CORRECTED: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0 --say-variable COLOR"
ready.notify = true
env = { COLOR = "blue" }
"#;

fn notes(project: &Project) -> Vec<String> {
    let answer = project.api().get("/v1/services").unwrap().json();
    let notes = answer["notes"].as_array().unwrap().iter();
    let notes = notes.filter_map(Value::as_str).map(str::to_owned);
    // What the machine is too weak for is said elsewhere.
    notes.filter(|note| !note.contains("cgroup")).collect()
}

fn colors(project: &Project) -> Vec<String> {
    let entries = project.events().of("variable", "web").into_iter();
    entries.map(|entry| entry.more).collect()
}

fn manager(project: &Project) -> u32 {
    let version = project.api().get("/v1/version").unwrap().json();
    u32::try_from(version["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn the_broken_keeps_its_table_and_the_rest_follows_the_files() {
    let project = Project::new(BEFORE);
    let up = project.up_and_ready();
    let before = ["web", "db", "other"].map(|name| project.pid(name));
    project.configure(BROKEN);
    let check = project.keepd(["check"]).expect_code(100);
    let refused = project.keepd(["apply"]).expect_code(100);
    assert!(refused.stderr.contains("ready.prot"), "{}", refused.stderr);

    let apply = project.keepd(["apply", "--keep-going"]).expect_code(0);
    assert!(apply.stderr.starts_with(&check.stderr), "{}\n{}", check.stderr, apply.stderr);
    let sentences = [
        "the tables from before are in force, because the configuration has errors: db, web; ",
        "quarantined: new: its table has errors; ",
    ];
    let said = notes(&project);
    assert_eq!(said.len(), 2, "{said:?}");
    for (note, sentence) in said.iter().zip(sentences) {
        assert!(note.starts_with(sentence), "{note}");
        assert!(apply.stderr.contains(&format!("keepd: {note}\n")), "{}", apply.stderr);
    }
    let steps: Vec<&str> = apply.stdout.lines().take(3).collect();
    assert_eq!(steps[..2], ["+ new quarantine", "~ other restart (command, env.COLOR)"]);
    assert_eq!(steps[2], "+ user start");
    let after = ["web", "db", "other"].map(|name| project.pid(name));
    assert_eq!(after[..2], before[..2]);
    assert_ne!(after[2], before[2]);
    let new = project.service("new");
    assert_eq!((&new["state"], &new["reason"]), (&"failed".into(), &"config".into()));
    let why = project.keepd(["why", "new"]).expect_code(0).stdout;
    assert!(why.contains("keepd.toml:11:11: "), "{why}");
    let status = project.keepd(["status"]).expect_code(0).stdout;
    assert!(status.contains(sentences[0]), "{status}");

    // Another manager knows the tables that are in no file any more.
    let old = manager(&project);
    kill(old);
    wait_until("another manager", LONG, || {
        let answer = project.api().get("/v1/version").ok()?;
        (answer.json()["pid"] != old && !notes(&project).is_empty()).then_some(())
    });
    project.wait_for_state("web", "ready");
    assert_eq!(notes(&project), said);
    assert_eq!(["web", "db"].map(|name| project.pid(name)), before[..2]);
    project.keepd(["restart", "web"]).expect_code(0);
    assert_eq!(colors(&project), ["COLOR=red", "COLOR=red"]);
    project.keepd(["show", "web", "--reveal"]).expect_code(0).stdout.find("red").unwrap();

    // The same again changes nothing; a hang-up does not keep going.
    let again = project.keepd(["apply", "--keep-going"]).expect_code(0);
    assert!(again.stdout.contains("Nothing has changed."), "{}", again.stdout);
    assert_eq!(notes(&project), said);
    up.signal(Signal::HUP);
    up.stderr().wait_for("the refusal", LONG, |text| {
        text.contains("configuration not applied, nothing was changed").then_some(())
    });

    project.configure(CORRECTED);
    project.keepd(["apply"]).expect_code(0);
    assert_eq!(notes(&project), [""; 0]);
    assert_eq!(colors(&project).last().unwrap(), "COLOR=blue");
    let names: Vec<String> = project.services().iter().map(|one| one["name"].to_string()).collect();
    assert_eq!(names, ["\"web\""]);
    project.events().check();
}

#[test]
fn what_is_no_matter_of_single_services_is_refused_all_the_same() {
    let project = Project::new(BEFORE);
    let _up = project.up_and_ready();
    for (text, said) in [
        (format!("kolor = 1\n{BEFORE}"), "\"kolor\""),
        (format!("{BEFORE}[defaults]\nuser = true\n"), "\"user\""),
        (format!("{BEFORE}[services.web\n"), "cannot parse TOML"),
        (format!("include = [\"gone.toml\"]\n{BEFORE}"), "gone.toml"),
    ] {
        project.configure(&text);
        let refused = project.keepd(["apply", "--keep-going"]).expect_code(100);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(notes(&project), [""; 0]);
}

#[test]
fn one_document_tells_everything() {
    let project = Project::new(BEFORE);
    let _up = project.up_and_ready();
    let diff = project.keepd(["diff", "-o", "json"]).expect_code(0).stdout;
    let diff: Value = serde_json::from_str(&diff).unwrap();
    project.configure(BROKEN);
    // A plan is exactly one change, whatever happens to errors.
    let plan = diff["plan"].as_str().unwrap();
    let words = ["apply", "--keep-going", "--plan", plan];
    let refused = project.keepd(words).expect_code(100);
    assert!(refused.stderr.contains("the plan is \""), "{}", refused.stderr);
    let meant = refused.stderr.split("the plan is \"").nth(1).unwrap();
    let meant = meant.split('"').next().unwrap();
    let words = ["apply", "--keep-going", "--plan", meant, "-o", "json"];
    let apply = project.keepd(words).expect_code(0);
    assert_eq!(apply.stderr, "");
    let object: Value = serde_json::from_str(&apply.stdout).unwrap();
    assert_eq!(object["steps"][0]["action"], "quarantine");
    assert_eq!(object["errors"][0]["line"], 7);
    assert_eq!(object["notes"].as_array().unwrap().len(), 2);
    assert_eq!(object["result"]["success"], true);
    assert_eq!(object["result"]["id"], object["change"]);
    let words = ["apply", "--keep-going", "--no-wait", "-o", "json"];
    let object = project.keepd(words).expect_code(0).stdout;
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!((&object["result"], &object["steps"]), (&Value::Null, &Value::Array(Vec::new())));
}
