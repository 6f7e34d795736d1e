//! `run -- CMD`: one command, watched; its end is ours.
//! (behaviour 12.5, 12.6)

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, Running, keepd_program};

#[test]
fn the_status_of_the_command_is_passed_on() {
    let project = Project::new("");
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
        project.keepd(["run", "--", "sh", "-c", script]).expect_code(code);
    }
    project.assert_nothing_left();
}

#[test]
fn output_passes_untouched() {
    let project = Project::new("");
    let run =
        project.keepd(["run", "--", "sh", "-c", "printf 'a\\nb'; printf c >&2"]).expect_code(0);
    assert_eq!(run.stdout, "a\nb");
    assert_eq!(run.stderr, "c");
}

#[test]
fn input_passes_untouched() {
    let project = Project::new("");
    let script = "printf 'a\\0b' | \"$0\" run -- od -An -c";
    let mut shell = project.command("sh");
    shell.args(["-c", script]).arg(keepd_program());
    let run = Running::start(&mut shell).wait_for(LONG).expect_code(0);
    assert_eq!(run.stdout.split_whitespace().collect::<Vec<_>>(), ["a", "\\0", "b"]);
}

#[test]
fn what_the_command_left_behind_ends_with_it() {
    let project = Project::new("");
    let test_service = keepd_testkit::test_service_program();
    let test_service = test_service.to_str().unwrap();
    let words = ["run", "--", test_service, "--fork", "2", "--exit", "100", "5"];
    project.keepd(words).expect_code(5);
    assert_eq!(project.events().of("grandchild", "main").len(), 2);
    let left = project.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signal_stops_the_command() {
    let project = Project::new("");
    let test_service = keepd_testkit::test_service_program();
    let run = project.start_keepd(["run", "--", test_service.to_str().unwrap()]);
    project.events().wait_for("start", "main", 1, LONG);
    run.signal(Signal::TERM);
    run.wait().expect_code(0);
    assert_eq!(project.events().of("term", "main").len(), 1);
}

#[test]
fn a_command_that_is_not_there_is_said() {
    let project = Project::new("");
    let run = project.keepd(["run", "--", "/nowhere/webd"]);
    assert_ne!(run.code(), 0);
    assert!(run.stderr.contains("executable \"/nowhere/webd\" not found"), "{}", run.stderr);
}
