//! What a service writes is in its file, byte for byte, also when it died right after.
//! (behaviour 3.15)

use keepd_model::Signal;
use keepd_testkit::test_service::pattern;
use keepd_testkit::{LONG, Project, kill, wait_until};

const MUCH: usize = 5 * 1024 * 1024;

fn stop(project: &Project, up: keepd_testkit::Running) {
    up.signal(Signal::QUIT);
    let _ = up.wait();
    project.assert_nothing_left();
}

/// Compares without printing megabytes.
#[track_caller]
fn assert_same(found: &[u8], expected: &[u8]) {
    let first = found.iter().zip(expected).position(|(one, other)| one != other);
    assert!(
        first.is_none() && found.len() == expected.len(),
        "{} bytes instead of {}, the first difference at {first:?}",
        found.len(),
        expected.len()
    );
}

#[test]
fn every_byte_is_kept_and_streams_are_separate() {
    let configuration = format!(
        "[services.web]\n\
         command = \"${{TEST_SERVICE}} --write {MUCH} --write-err 70000 --ready 0\"\n\
         ready.notify = true\nready.timeout = \"2m\"\n[keepd]\necho = \"off\"\n"
    );
    let project = Project::new(&configuration);
    let up = project.up_and_ready();
    // Ready comes after the last byte was written into the pipe, not after it was read from it.
    let complete = |name: &str, length: usize| {
        let path = project.log_dir("web").join(name);
        wait_until("the last byte", LONG, || {
            let bytes = std::fs::read(&path).ok()?;
            (bytes.len() >= length).then_some(bytes)
        })
    };
    assert_same(&complete("out.log", MUCH), &pattern(MUCH));
    assert_same(&complete("err.log", 70_000), &pattern(70_000));
    stop(&project, up);
    assert_same(&project.out_log("web"), &pattern(MUCH));
}

#[test]
fn merged_streams_keep_their_order() {
    let configuration = r#"
[services.web]
shell = true
command = """
i=0
while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done
exec "$TEST_SERVICE" --ready 0
"""
ready.notify = true
log.stderr = "merge"
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    stop(&project, up);
    let expected: String = (0..200).map(|number| format!("out {number}\nerr {number}\n")).collect();
    assert_eq!(String::from_utf8(project.out_log("web")).unwrap(), expected);
    assert!(!project.log_dir("web").join("err.log").exists());
}

#[test]
fn append_adds_to_the_file_and_null_writes_nothing() {
    let configuration = r#"
[services.adding]
command = "${TEST_SERVICE} --print more --print-err errors --ready 0"
ready.notify = true
log.mode = "append"
log.file = "own.log"
[services.quiet]
command = "${TEST_SERVICE} --print nothing --ready 0"
ready.notify = true
log.mode = "null"
"#;
    let project = Project::new(configuration);
    let file = project.write("own.log", "before\n");
    let up = project.up_and_ready();
    stop(&project, up);
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"before"));
    lines.sort_unstable();
    assert_eq!(lines, ["before", "errors", "more"]);
    assert!(!project.log_dir("quiet").join("out.log").exists());
}

#[test]
fn output_before_a_death_is_complete() {
    let configuration = r#"
[services.dying]
command = "${TEST_SERVICE} --write 300000 --exit 0 3 --until 3"
backoff_initial = "10ms"
[services.killed]
command = "${TEST_SERVICE} --write 300000"
"#;
    let project = Project::new(configuration);
    let up = project.up();
    let events = project.events();
    events.wait_for("written", "dying", 4, LONG);
    events.wait_for("written", "killed", 1, LONG);
    kill(events.of("start", "killed")[0].pid);
    events.wait_for("written", "killed", 2, LONG);
    stop(&project, up);
    assert_same(&project.out_log("dying"), &pattern(300_000).repeat(4));
    assert_same(&project.out_log("killed"), &pattern(300_000).repeat(2));
    events.check();
}

#[test]
fn inherited_output_goes_where_that_of_keepd_goes() {
    let configuration = r#"
[services.web]
command = "${TEST_SERVICE} --print 'as it is' --ready 0"
ready.notify = true
log.mode = "inherit"
"#;
    let project = Project::new(configuration);
    let up = project.up_and_ready();
    up.stdout().wait_for_line("the line", LONG, |line| line == "as it is");
    stop(&project, up);
}
