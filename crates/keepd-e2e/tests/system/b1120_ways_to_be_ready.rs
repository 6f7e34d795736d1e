//! Ways to say that a service is ready, from `keepd.toml` to what people see: a line, a file, a
//! socket, a line feed on a descriptor. The programs know nothing of keepd.
//! (behaviour 7.1, 7.10, 7.11, 7.13)

use keepd_testkit::{LONG, Project, find_program, kill, skip, wait_until};

/// Holds a service before the moment at which it becomes ready.
const GATE: &str = "while [ ! -e go ]; do sleep 0.02; done";

/// Waits until `status` and `why` name what is missing, and the service is not ready.
#[track_caller]
fn expect_missing(project: &Project, name: &str, missing: &str) {
    let page = wait_until(&format!("\"{missing}\" to be missed"), LONG, || {
        // It may have no process for a moment.
        let page = project.keepd(["status", name]).stdout;
        page.contains(missing).then_some(page)
    });
    assert!(page.contains("state       starting"), "{page}");
    let why = project.keepd(["why", name]).expect_code(0).stdout;
    assert!(why.contains(missing), "{why}");
}

/// Opens the gate, and waits until a service is ready.
#[track_caller]
fn open_gate(project: &Project, name: &str) {
    project.write("go", "");
    let ready = project.wait_for_state(name, "ready");
    assert!(ready["ready_after_s"].is_number(), "{ready}");
    project.keepd(["status", name]).expect_code(0);
}

fn close_gate(project: &Project) {
    std::fs::remove_file(project.path("go")).unwrap();
}

/// Makes a project with one service, which becomes ready by the rest of its shell line.
fn gated(rest: &str, keys: &str) -> Project {
    Project::new(&format!(
        "[services.web]\nshell = true\nstop_timeout = \"1s\"\n{keys}\n\
         command = '''echo hello; {GATE}; {rest}'''\n"
    ))
}

#[test]
fn a_line_that_it_writes() {
    // The last line has no end, as a prompt has none.
    let project = gated(
        "echo 'listening on 80' >&2; printf 'and done'; exec sleep 1000",
        "ready.log = '^(listening on [0-9]+|and done)$'",
    );
    let _up = project.up();
    let missing = "ready.log ^(listening on [0-9]+|and done)$: no line matches";
    expect_missing(&project, "web", missing);
    open_gate(&project, "web");

    // What an earlier run wrote is nobody's word for this one.
    close_gate(&project);
    project.keepd(["restart", "--no-wait", "web"]).expect_code(0);
    expect_missing(&project, "web", missing);
    open_gate(&project, "web");
    let log = String::from_utf8(project.out_log("web")).unwrap();
    assert_eq!(log, "hello\nand donehello\nand done");
}

#[test]
fn a_last_line_without_a_line_feed() {
    let project = gated("printf 'prompt> '; exec sleep 1000", "ready.log = '^prompt>'");
    let _up = project.up();
    expect_missing(&project, "web", "ready.log ^prompt>: no line matches");
    open_gate(&project, "web");
}

#[test]
fn a_file_that_it_makes() {
    let project = gated("touch sign; exec sleep 1000", "ready.file = \"sign\"");
    let sign = project.write("sign", "of another time");
    let _up = project.up();
    let missing = format!("ready.file {}: no such file or directory", sign.display());
    expect_missing(&project, "web", &missing);
    assert!(!sign.exists(), "the old file would have made it ready");
    open_gate(&project, "web");

    // A run that follows by itself begins without it, too.
    close_gate(&project);
    kill(project.pid("web"));
    wait_until("the second run", LONG, || {
        (project.service("web")["generation"] == 2).then_some(())
    });
    expect_missing(&project, "web", &missing);
    assert!(!sign.exists());
    open_gate(&project, "web");
}

#[test]
fn a_socket_that_it_listens_on() {
    let Some(redis) = find_program("redis-server") else {
        skip("ready.socket: redis-server is not installed");
        return;
    };
    let rest = format!("exec {} --port 0 --unixsocket redis.sock --save ''", redis.display());
    let project = gated(&rest, "ready.socket = \"redis.sock\"");
    let _up = project.up();
    let path = project.path("redis.sock");
    let missing = format!("ready.socket {}: no such file or directory", path.display());
    expect_missing(&project, "web", &missing);
    open_gate(&project, "web");

    // A socket file that nobody listens on any more is no sign.
    close_gate(&project);
    kill(project.pid("web"));
    let refused = format!("ready.socket {}: connection refused", path.display());
    expect_missing(&project, "web", &refused);
    open_gate(&project, "web");
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn a_line_feed_on_a_descriptor() {
    let project = gated(
        "eval \"printf x >&$KEEPD_READY_FD\"; touch said; \
         while [ ! -e more ]; do sleep 0.02; done; \
         eval \"echo >&$KEEPD_READY_FD\"; exec sleep 1000",
        "ready.fd = 7",
    );
    let _up = project.up();
    let missing = "ready.fd: the line feed has not come";
    expect_missing(&project, "web", missing);
    project.write("go", "");
    wait_until("half a line", LONG, || project.path("said").exists().then_some(()));
    expect_missing(&project, "web", missing);
    project.write("more", "");
    project.wait_for_state("web", "ready");
}
