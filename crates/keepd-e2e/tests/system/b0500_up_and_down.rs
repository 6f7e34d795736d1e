//! `up` in the foreground and in the background, `down`, and the ways in which a stack ends.
//! (behaviour 12.1, 12.5, 12.7)

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, free_port};

/// `web` needs `db`, and `db` needs `disk`.
const CHAIN: &str = r#"
[defaults]
ready.notify = true
[services.disk]
command = "${TEST_SERVICE} --ready 0"
[services.db]
command = "${TEST_SERVICE} --ready 50"
depends_on = ["disk"]
[services.web]
command = "${TEST_SERVICE} --ready 0 --print hello"
depends_on = ["db"]
"#;

#[test]
fn starts_follow_dependencies_and_stops_go_back() {
    let project = Project::new(CHAIN);
    let up = project.up_and_ready();
    let events = project.events();
    assert_eq!(events.order("start"), ["disk", "db", "web"]);
    // A dependent is not started before what it needs is ready.
    let ready = events.of("ready", "db")[0].nanoseconds;
    assert!(events.of("start", "web")[0].nanoseconds > ready);
    up.stdout().wait_for_line("the line of web", LONG, |line| line.ends_with(" web | hello"));

    up.signal(Signal::INT);
    up.wait().expect_code(0);
    assert_eq!(events.order("term"), ["web", "db", "disk"]);
    let end = events.of("end", "web")[0].nanoseconds;
    assert!(events.of("term", "db")[0].nanoseconds > end);
    project.assert_nothing_left();
}

#[test]
fn a_second_signal_does_not_wait() {
    let configuration = r#"
[services.stubborn]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
ready.notify = true
stop_timeout = "10m"
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    up.signal(Signal::TERM);
    project.events().wait_for("term", "stubborn", 1, LONG);
    up.signal(Signal::TERM);
    let _ = up.wait();
    project.assert_nothing_left();
}

#[test]
fn quit_does_not_wait_either() {
    let configuration = r#"
[services.stubborn]
command = "${TEST_SERVICE} --ready 0 --ignore-term"
ready.notify = true
stop_timeout = "10m"
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    up.signal(Signal::QUIT);
    let _ = up.wait();
    assert!(project.events().of("term", "stubborn").is_empty());
    project.assert_nothing_left();
}

#[test]
fn in_the_background_it_returns_when_all_are_ready() {
    let project = Project::new(CHAIN);
    project.keepd(["up", "-d"]).expect_code(0);
    assert_eq!(project.events().of("ready", "web").len(), 1);
    assert_eq!(project.service("web")["state"], "ready");

    let down = project.keepd(["down"]).expect_code(0);
    for name in ["disk", "db", "web"] {
        let named = |line: &str| line.contains(&format!("\"{name}\""));
        assert!(down.stdout.lines().any(named), "{}", down.stdout);
    }
    project.assert_nothing_left();
}

#[test]
fn in_the_background_it_says_what_did_not_get_ready() {
    let configuration = r#"
[services.good]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
[services.bad]
command = "${TEST_SERVICE} --exit 0 3"
restart = "never"
"#;
    let project = Project::new(configuration);
    let up = project.keepd(["up", "-d"]).expect_code(1);
    let said = format!("{}{}", up.stdout, up.stderr);
    assert!(said.contains("bad"), "{said}");
    // What works goes on.
    assert_eq!(project.service("good")["state"], "ready");
    assert_eq!(project.service("bad")["state"], "failed");
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn only_what_is_selected_comes_up_with_what_it_needs() {
    let project = Project::new(CHAIN);
    project.keepd(["up", "-d", "db"]).expect_code(0);
    assert_eq!(project.events().order("start"), ["disk", "db"]);
    assert_eq!(project.service("web")["state"], "stopped");
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn it_ends_by_itself_when_nothing_is_left_to_do() {
    let configuration = r#"
[services.first]
kind = "oneshot"
command = "${TEST_SERVICE} --exit 0 0"
[services.second]
kind = "oneshot"
command = "${TEST_SERVICE} --exit 0 CODE"
depends_on = ["first"]
"#;
    let project = Project::new(&configuration.replace("CODE", "0"));
    project.keepd(["up"]).expect_code(0);
    assert_eq!(project.events().order("start"), ["first", "second"]);
    project.assert_nothing_left();

    let project = Project::new(&configuration.replace("CODE", "4"));
    project.keepd(["up"]).expect_code(1);
    project.assert_nothing_left();
}

#[test]
fn the_end_of_an_essential_service_is_the_end_of_all() {
    let configuration = r#"
[services.main]
command = "${TEST_SERVICE} --ready 0 --exit 200 42"
ready.notify = true
shutdown_on = "exit"
restart = "never"
[services.other]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#;
    let project = Project::new(configuration);
    project.keepd(["up"]).expect_code(42);
    assert_eq!(project.events().of("term", "other").len(), 1);
    project.assert_nothing_left();
}

#[test]
fn without_a_keepd_the_other_verbs_say_so() {
    let project = Project::new(CHAIN);
    for words in [vec!["status"], vec!["stop", "web"], vec!["why", "web"]] {
        let refused = project.keepd(words).expect_code(111);
        assert!(refused.stderr.starts_with("keepd: cannot "), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
}

#[test]
fn two_projects_side_by_side_do_not_know_each_other() {
    let configuration = |port: u16| {
        format!(
            "[services.web]\ncommand = \"${{TEST_SERVICE}} --listen {port}\"\nready.port = {port}\n"
        )
    };
    let first = Project::named("shop", &configuration(free_port()));
    let second = Project::named("shop", &configuration(free_port()));
    assert_ne!(first.instance(), second.instance());
    let first_up = first.up_and_ready();
    let second_up = second.up_and_ready();
    let second_pid = second.pid("web");
    assert_ne!(first.pid("web"), second_pid);

    first.keepd(["down"]).expect_code(0);
    first_up.wait().expect_code(0);
    first.assert_nothing_left();
    assert_eq!(second.pid("web"), second_pid);
    second.keepd(["down"]).expect_code(0);
    second_up.wait().expect_code(0);
    second.assert_nothing_left();
}

#[test]
fn a_file_with_errors_starts_nothing_and_shows_all_of_them() {
    let configuration = "\
[services.web]
command = \"${TEST_SERVICE} --ready 0\"
depends-on = [\"db\"]
restart = \"sometimes\"

[services.worker]
stop_timeout = 10
";
    let project = Project::new(configuration);
    for words in [vec!["up"], vec!["up", "-d"]] {
        let refused = project.keepd(words).expect_code(100);
        for expected in [
            "keepd.toml:3:1: ",
            "\"depends-on\"",
            "the key is \"depends_on\"",
            "keepd.toml:4:11: ",
            "\"sometimes\"",
            "keepd.toml:6:11: ",
            "keepd.toml:7:16: ",
        ] {
            assert!(refused.stderr.contains(expected), "{expected}\n{}", refused.stderr);
        }
        assert!(project.events().entries().is_empty());
        project.assert_nothing_left();
        assert!(!project.path(".keepd").exists());
    }
}

#[test]
fn two_that_begin_at_the_same_time_are_one() {
    let project = Project::new("[services.web]\ncommand = \"${TEST_SERVICE}\"\n");
    let both = [(); 2].map(|()| project.start_keepd(["up", "-d"]));
    for up in both {
        up.wait().expect_code(0);
    }
    assert_eq!(project.events().of("start", "web").len(), 1);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}
