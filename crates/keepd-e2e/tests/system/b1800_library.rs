//! A program of the library under `keepd up`: the same binary that runs alone says when it is
//! ready, reloads and ends, by either protocol.

use std::path::{Path, PathBuf};

use keepd_testkit::Project;

/// Returns an example of the library, which cargo puts beside this test's programs.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.is_file(), "{path:?} is missing: run `cargo build -p keepd --examples` first");
    path
}

fn project(keys: &str) -> Project {
    let program = example("supervised");
    Project::new(&format!("[services.web]\ncommand = [{program:?}]\n{keys}\n"))
}

#[test]
fn readiness_and_reload_by_messages() {
    let project = project("ready.notify = true\nreload_signal = \"HUP\"");
    let up = project.up_and_ready();
    let ready = project.wait_for_state("web", "ready");
    assert!(ready["ready_after_s"].is_number(), "{ready}");
    let pid = project.pid("web");
    project.keepd(["reload", "web"]).expect_code(0);
    assert_eq!(project.pid("web"), pid, "a reload is no restart");
    let page = project.keepd(["status", "web"]).expect_code(0).stdout;
    assert!(page.contains("configuration reloaded"), "{page}");
    project.keepd(["stop", "web"]).expect_code(0);
    let stopped = project.wait_for_state("web", "stopped");
    assert_eq!(stopped["restarts"], 0, "{stopped}");
    drop(up);
}

#[test]
fn readiness_by_a_descriptor() {
    let project = project("ready.fd = 3");
    let _up = project.up_and_ready();
    let ready = project.wait_for_state("web", "ready");
    assert!(ready["ready_after_s"].is_number(), "{ready}");
}
