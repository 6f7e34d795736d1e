//! `check` and `apply`: a file is refused as a whole or taken as a whole, and only what changed is
//! touched.
//! (behaviour 10.9, 10.10)

use keepd_model::Signal;
use keepd_testkit::{LONG, Project};

const CONFIGURATION: &str = r#"
[defaults]
ready.notify = true
[services.same]
command = "${TEST_SERVICE} --ready 0"
[services.changed]
command = "${TEST_SERVICE} --ready 0 --say-variable COLOR"
env = { COLOR = "red" }
[services.live]
command = "${TEST_SERVICE} --ready 0"
stop_timeout = "5s"
[services.removed]
command = "${TEST_SERVICE} --ready 0"
"#;

fn changed() -> String {
    let text = CONFIGURATION.replace("red", "blue").replace("5s", "6s");
    let text = &text[..text.find("[services.removed]").unwrap()];
    format!("{text}[services.added]\ncommand = \"${{TEST_SERVICE}} --ready 0\"\n")
}

#[test]
fn a_good_file_is_silent() {
    let project = Project::new(CONFIGURATION);
    let check = project.keepd(["check"]).expect_code(0);
    assert_eq!((check.stdout.as_str(), check.stderr.as_str()), ("", ""));
    let file = project.write("other.toml", "[services.a]\ncommand = \"a\"\n");
    let check = project.keepd(["check", file.to_str().unwrap()]).expect_code(0);
    assert_eq!((check.stdout.as_str(), check.stderr.as_str()), ("", ""));
    assert!(!project.path(".keepd").exists());
    assert!(!project.run_dir().exists());
}

#[test]
fn errors_are_told_with_file_line_and_column() {
    let configuration = "\
[services.web]
command = \"web\"
depends-on = [\"db\"]

[services.a]
command = \"a\"
depends_on = [\"b\"]
[services.b]
command = \"b\"
depends_on = [\"a\"]
";
    let project = Project::new(configuration);
    let check = project.keepd(["check"]).expect_code(100);
    assert_eq!(check.stdout, "");
    assert_eq!(
        check.stderr,
        "\
keepd.toml:3:1: cannot use key \"depends-on\" in service \"web\"
  hint: the key is \"depends_on\"
keepd.toml:3:15: cannot find service \"db\", which service \"web\" depends on
  hint: the nearest service is \"b\"
keepd.toml:10:15: cannot order services: a -> b -> a
"
    );
    let missing = project.keepd(["check", "nowhere.toml"]).expect_code(100);
    assert!(missing.stderr.contains("\"nowhere.toml\""), "{}", missing.stderr);
}

#[test]
fn only_what_changed_is_restarted() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    let before = ["same", "changed", "live"].map(|name| project.pid(name));
    project.configure(&changed());
    let apply = project.keepd(["apply"]).expect_code(0);
    for expected in ["~ changed restart (env.COLOR)", "removed", "added"] {
        assert!(apply.stdout.contains(expected), "{expected}\n{}", apply.stdout);
    }
    assert!(!apply.stdout.contains("same"), "{}", apply.stdout);

    let after = ["same", "changed", "live"].map(|name| project.pid(name));
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert_ne!(after[1], before[1]);
    let events = project.events();
    let colors: Vec<String> =
        events.of("variable", "changed").into_iter().map(|entry| entry.more).collect();
    assert_eq!(colors, ["COLOR=red", "COLOR=blue"]);
    assert_eq!(events.of("end", "removed").len(), 1);
    assert_eq!(events.of("ready", "added").len(), 1);
    let services = project.services();
    let names: Vec<&str> = services.iter().filter_map(|service| service["name"].as_str()).collect();
    assert_eq!(names, ["added", "changed", "live", "same"]);

    let again = project.keepd(["apply"]).expect_code(0);
    assert!(!again.stdout.contains('~'), "{}", again.stdout);
    events.check();
}

#[test]
fn a_broken_file_touches_nothing() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    let before: Vec<_> = project.services().iter().map(|service| service["pid"].clone()).collect();
    project.configure(&format!("{}\nkolor = 1\n", changed()));
    let apply = project.keepd(["apply"]).expect_code(100);
    assert!(apply.stderr.contains("\"kolor\""), "{}", apply.stderr);
    assert!(apply.stderr.contains("keepd.toml:"), "{}", apply.stderr);
    // A hang-up means apply, and is refused as well.
    up.signal(Signal::HUP);
    let shown = |text: &str| text.contains("\"kolor\"").then_some(());
    up.stderr().wait_for("the refusal", LONG, shown);
    let after: Vec<_> = project.services().iter().map(|service| service["pid"].clone()).collect();
    assert_eq!(after, before);
    project.keepd(["restart", "same"]).expect_code(0);
}

#[test]
fn a_hang_up_without_a_terminal_applies() {
    let project = Project::new(CONFIGURATION);
    let up = project.up_and_ready();
    project.configure(&changed());
    up.signal(Signal::HUP);
    project.events().wait_for("ready", "added", 1, LONG);
    project.events().wait_for("end", "removed", 1, LONG);
}

#[test]
fn a_new_manager_goes_on_with_what_was_accepted() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up_and_ready();
    project.configure("this is no configuration");
    let manager = project.api().get("/v1/version").unwrap().json()["pid"].clone();
    keepd_testkit::kill(u32::try_from(manager.as_u64().unwrap()).unwrap());
    let after = project.wait_for_state("changed", "ready");
    assert_eq!(after["generation"], 1);
    project.keepd(["restart", "changed"]).expect_code(0);
    assert_eq!(project.services().len(), 4);
}
