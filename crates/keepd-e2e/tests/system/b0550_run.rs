//! `run -- CMD`: one command, watched; its end is ours.
//! (behaviour 12.5, 12.6, 15.12)

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

#[test]
fn on_a_terminal_the_command_has_it_and_gives_it_back() {
    let project = Project::new("");
    // In /proc/PID/stat the fifth field is the group, the sixth the session, and the eighth the
    // foreground group of the terminal.
    let stat =
        |word: &str, fields: &str| format!("awk '{{print \"{word}\", {fields}}}' /proc/self/stat");
    let inside = stat("inside", "$5 == $8, $5 != $6").replace('\'', "'\\''");
    let script = format!(
        "\"$KEEPD\" run -- sh -c '{inside}; read line; echo got $line'; {}",
        stat("after", "$5 == $8, $5 == $6")
    );
    let mut terminal = project.command("script");
    terminal.args(["-qec", &script, "/dev/null"]).env("KEEPD", keepd_program());
    let typed = std::fs::File::open(project.write("typed", "typed\n")).unwrap();
    terminal.env("SHELL", "/bin/sh").stdin(typed);
    let ended = Running::start(&mut terminal).wait_for(LONG).expect_code(0);
    let lines: Vec<&str> = ended.stdout.lines().map(str::trim_end).collect();
    assert!(lines.contains(&"inside 1 1"), "{lines:?}");
    assert!(lines.contains(&"got typed"), "{lines:?}");
    assert!(lines.contains(&"after 1 1"), "{lines:?}");
    project.assert_nothing_left();
}
