//! A second `keepd up` looks on, or starts what is missing, and nothing depends on it.
//! (behaviour 13.7, 13.8, 13.9)

use keepd_model::Signal;
use keepd_testkit::torture::Victim;
use keepd_testkit::{LONG, Project, kill, wait_until};

use crate::b1900_never_lost::Keepd;

const CONFIGURATION: &str = r#"
[defaults]
ready.notify = true
[services.db]
command = "${TEST_SERVICE} --ready 0 --print hello"
[services.web]
command = "${TEST_SERVICE} --ready 0"
depends_on = ["db"]
[services.migrate]
kind = "oneshot"
command = "true"
ready.notify = false
[services.extra]
command = "${TEST_SERVICE} --ready 0 --print welcome"
depends_on = ["db"]
enabled = false
"#;

#[test]
fn a_second_up_looks_on_and_detaches() {
    let project = Project::new(CONFIGURATION);
    let _first = project.up_and_ready();
    let (db, web) = (project.pid("db"), project.pid("web"));
    let second = project.start_keepd(["up"]);
    let said = second.stdout().wait_for_line("the first line", LONG, |line| {
        line.contains("attached to keepd for project")
    });
    assert!(said.contains("(pid ") && said.ends_with("Ctrl-C detaches"), "{said}");

    project.keepd(["restart", "db"]).expect_code(0);
    let output = second.stdout();
    output.wait_for_line("a line of the service", LONG, |line| line.ends_with("Z db | hello"));
    output.wait_for_line("news of keepd", LONG, |line| line.contains("Z keepd: db is ready ("));
    let text = output.text();
    assert_eq!(text.matches("hello").count(), 1, "only what comes is shown: {text}");
    assert!(!text.contains("migrate"), "{text}");

    second.signal(Signal::INT);
    let end = second.wait().expect_code(0);
    assert!(end.stdout.ends_with("keepd: detached; the services go on\n"), "{}", end.stdout);
    assert_eq!(end.stderr, "");
    assert_eq!(project.pid("web"), web);
    assert_ne!(project.pid("db"), db);
}

#[test]
fn a_second_up_starts_what_is_selected() {
    let project = Project::new(CONFIGURATION);
    let _first = project.up_and_ready();
    let second = project.start_keepd(["up", "extra"]);
    let output = second.stdout();
    output.wait_for_line("a line of the service", LONG, |line| line.ends_with("extra | welcome"));
    output.wait_for_line("its readiness", LONG, |line| line.contains("extra is ready ("));
    second.signal(Signal::TERM);
    second.wait().expect_code(0);
    assert_eq!(project.service("extra")["state"], "ready");
    let wrong = project.keepd(["up", "wbe"]).expect_code(4);
    assert!(wrong.stderr.contains("\"wbe\""), "{}", wrong.stderr);
}

#[test]
fn the_end_of_the_first_is_the_end_of_the_second() {
    let project = Project::new(CONFIGURATION);
    let first = project.up_and_ready();
    let second = project.start_keepd(["up"]);
    second.stdout().wait_for_line("the first line", LONG, |line| line.contains("attached"));
    // A manager that is replaced is not the end.
    let pid = project.api().get("/v1/version").unwrap().json()["pid"].as_u64().unwrap();
    kill(u32::try_from(pid).unwrap());
    second.stdout().wait_for_line("the gap", LONG, |line| line.contains("may be lost"));
    first.signal(Signal::INT);
    first.wait().expect_code(0);
    let end = second.wait().expect_code(0);
    assert!(end.stdout.contains("keepd: web is stopped"), "{}", end.stdout);
    assert!(end.stdout.ends_with("keepd: keepd has ended\n"), "{}", end.stdout);
    project.assert_nothing_left();
}

#[test]
fn a_part_of_keepd_that_is_lost_is_not_the_end() {
    let project = Project::new(CONFIGURATION);
    let first = project.up_and_ready();
    let keepd = Keepd::of(&project);
    let second = project.start_keepd(["up"]);
    let output = second.stdout();
    output.wait_for_line("the first line", LONG, |line| line.contains("attached"));
    keepd.lose(&[Victim::Proxy]);
    keepd.lose(&[Victim::Manager]);
    output.wait_for_line("the gap", LONG, |line| line.contains("may be lost"));
    project.keepd(["restart", "db"]).expect_code(0);
    output.wait_for_line("news of keepd", LONG, |line| line.contains("Z keepd: db is ready ("));
    first.signal(Signal::INT);
    first.wait().expect_code(0);
    second.wait().expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn a_first_that_is_lost_is_exit_111() {
    let project = Project::new(CONFIGURATION);
    let _first = project.up_and_ready();
    let second = project.start_keepd(["up"]);
    second.stdout().wait_for_line("the first line", LONG, |line| line.contains("attached"));
    Keepd::of(&project).lose_everything();
    let end = second.wait().expect_code(111);
    assert!(end.stdout.contains("keepd is gone without a shutdown"), "{}", end.stdout);
}

#[test]
fn in_the_background_what_is_missing_is_started() {
    let project = Project::new(CONFIGURATION);
    project.keepd(["up", "-d"]).expect_code(0);
    let web = project.pid("web");
    let again = project.keepd(["up", "-d"]).expect_code(0);
    assert_eq!(again.stdout, "Everything is up already.\n");
    project.keepd(["stop", "db", "--alone"]).expect_code(0);
    let again = project.keepd(["up", "-d"]).expect_code(0);
    assert!(again.stdout.contains("Service \"db\" is ready ("), "{}", again.stdout);
    assert!(!again.stdout.contains("extra") && !again.stdout.contains("migrate"));
    assert_eq!(project.pid("web"), web);
    project.keepd(["up", "-d", "extra"]).expect_code(0);
    assert_eq!(project.service("extra")["state"], "ready");
    assert_eq!(project.service("migrate")["generation"], 1, "what is done is not done again");
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn files_that_differ_from_what_is_in_force_are_hinted_at() {
    let project = Project::new(CONFIGURATION);
    let _first = project.up_and_ready();
    project.configure(&CONFIGURATION.replace("hello", "hallo"));
    let changed = project.keepd(["up", "-d"]).expect_code(0);
    assert!(changed.stderr.starts_with("hint: ") && changed.stderr.contains("keepd apply"));
    // Nor does a file with errors keep anybody from looking on.
    project.configure("[services.web]\ncommand = 7\n");
    let second = project.start_keepd(["up"]);
    second.stdout().wait_for_line("the first line", LONG, |line| line.contains("attached"));
    wait_until("the hint", LONG, || second.stderr().text().contains("keepd check").then_some(()));
    second.signal(Signal::INT);
    second.wait().expect_code(0);
}
