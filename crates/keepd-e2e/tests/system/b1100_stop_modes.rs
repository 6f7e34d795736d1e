//! `kill_mode=main` by hand, beside a project that is up: what a run leaves behind lives on, is in
//! nobody's way, and ends with the project.
//! (behaviour 3.23, 3.24)

use keepd_testkit::{LONG, Project, Running, kill, marked, signal, skip, wait_for_end, wait_until};

use crate::b0600_whole_groups::without_cgroups;
use crate::b0900_protocol::Connection;

const CONFIGURATION: &str = r#"
[services.web]
command = "${TEST_SERVICE} --ready 0"
ready.notify = true
"#;

/// Starts the next generation of `host`; returns its main process and the other one.
fn start(project: &Project, connection: &mut Connection, last: u64) -> (u32, u32) {
    let others = project.path("others");
    let _ = std::fs::remove_file(&others);
    connection.accepted(&[&format!("service.start\thost\t{last}")]);
    connection.hear_until(&format!("service.run\thost\t{}\tup\t", last + 1));
    let other = wait_until("the other process", LONG, || {
        std::fs::read_to_string(&others).ok()?.strip_suffix('\n')?.parse().ok()
    });
    (connection.pids["host"], other)
}

fn is_alive(pid: u32) -> bool {
    signal(pid, keepd_model::Signal::CONT)
}

/// Runs, stops and restarts a service that leaves one process behind each time.
fn leave_behind(project: &Project) {
    let others = project.path("others");
    let socket = project.run_dir().join("proxy.sock");
    let mut connection = Connection::extended(&socket);
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & exec sleep 1000",
        others.display()
    );
    connection.accepted(&[
        &format!("service.args\thost\tsh\t-c\t{script}"),
        "service.set\thost\tkill_mode=main",
    ]);
    let (_, first) = start(project, &mut connection, 0);
    connection.accepted(&["service.stop\thost\t1"]);
    // Not "emptying": nobody waits.
    let over = connection.hear_until("service.run\thost\t1\t");
    let over = if over.contains("\tstopping\t") { connection.hear() } else { over };
    assert!(over.starts_with("service.run\thost\t1\tdown\t"), "{over}");
    assert!(is_alive(first));

    let (main, second) = start(project, &mut connection, 1);
    assert!(is_alive(first) && is_alive(second));
    let leaf = project.cgroup().map(|group| group.path().join("s.host.1"));
    if let Some(leaf) = &leaf {
        let left = std::fs::read_to_string(leaf.join("cgroup.procs")).unwrap();
        assert_eq!(left, format!("{first}\n"), "the leaf of the run that is over");
    }
    // A main process that is lost is told as any other, and leaves its own behind.
    kill(main);
    connection.hear_until("service.run\thost\t2\tdown\t");
    assert!(is_alive(second));

    // Its leaf goes when it does.
    kill(first);
    assert!(wait_for_end(first, LONG));
    if let Some(leaf) = leaf {
        wait_until("the end of the leaf", LONG, || (!leaf.exists()).then_some(()));
    }

    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
    assert!(!marked(&project.project_entry()).contains(&second));
}

#[test]
fn what_a_run_leaves_behind_ends_with_the_project() {
    let project = Project::new(CONFIGURATION);
    let _up = project.up();
    project.wait_for_state("web", "ready");
    if project.cgroup().is_none() {
        skip("leaves of what was left: no cgroup of version 2 can be divided here");
        return;
    }
    leave_behind(&project);
}

#[test]
fn what_a_run_leaves_behind_ends_with_the_project_without_a_cgroup() {
    let project = Project::new(CONFIGURATION);
    let Some(mut command) = without_cgroups(&project) else {
        skip("what was left without cgroups: unshare(1) cannot hide them here");
        return;
    };
    let _up = Running::start(command.arg("up"));
    project.wait_for_state("web", "ready");
    assert!(project.cgroup().is_none());
    leave_behind(&project);
}
