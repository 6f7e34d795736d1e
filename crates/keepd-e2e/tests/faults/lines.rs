//! Output that has no line feeds (rows 15 and 17): it is in the file as it was written, and at
//! once. That every byte value is kept is in `b0700_log_files`. (behaviour 16.1, 16.9)

use keepd_testkit::{LONG, Project, wait_until};

const LONG_LINE: usize = 300_000;

#[test]
fn a_line_without_an_end_is_kept_whole_and_written_at_once() {
    let project = Project::new(&format!(
        r#"
[services.web]
shell = true
command = '''
head -c {LONG_LINE} /dev/zero | tr '\0' x
exec "$TEST_SERVICE" --ready 0
'''
ready.notify = true
"#
    ));
    let _up = project.up_and_ready();
    let whole = "x".repeat(LONG_LINE);
    // It runs on, and has not ended its line.
    wait_until("the last byte", LONG, || (project.out_log("web").len() == LONG_LINE).then_some(()));
    assert!(project.out_log("web") == whole.as_bytes());
    let raw = project.keepd(["logs", "--raw", "web"]).expect_code(0).stdout;
    assert!(raw == whole, "{} bytes", raw.len());
    project.keepd(["restart", "web"]).expect_code(0);
    wait_until("the same again", LONG, || {
        (project.out_log("web").len() == 2 * LONG_LINE).then_some(())
    });
    // Nothing was put between the two.
    assert!(project.out_log("web") == [whole.as_bytes(), whole.as_bytes()].concat());
}
