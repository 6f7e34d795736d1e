//! A service is all of what it started: sessions of its own, double forks and ignored signals hide
//! nothing.
//! (behaviour 3.12, 3.15, 9.6)

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use keepd_testkit::{
    EventLog, LONG, Project, Running, find_program, keepd_program, skip, wait_for_end, wait_until,
};

const GRANDCHILDREN: usize = 3;

fn configuration() -> String {
    format!(
        r#"
[services.leaky]
command = "${{TEST_SERVICE}} --ready 0 --fork {GRANDCHILDREN}"
ready.notify = true
[services.crashing]
command = "${{TEST_SERVICE}} --ready 0 --fork {GRANDCHILDREN} --exit 300 1 --until 3"
ready.notify = true
backoff_initial = "10ms"
[services.bystander]
command = "${{TEST_SERVICE}} --ready 0 --fork 1"
ready.notify = true
"#
    )
}

/// Waits until all grandchildren of a generation have written down that they are there.
fn grandchildren(events: &EventLog, name: &str, generation: u64) -> Vec<u32> {
    wait_until("every grandchild", LONG, || {
        let found: Vec<u32> = events
            .of("grandchild", name)
            .iter()
            .filter(|entry| entry.generation == generation)
            .map(|entry| entry.pid)
            .collect();
        (found.len() == GRANDCHILDREN).then_some(found)
    })
}

fn stops_and_restarts_leave_nothing(project: &Project) {
    let events = project.events();
    let bystander = project.pid("bystander");
    let leaked = grandchildren(&events, "leaky", 1);
    project.keepd(["stop", "leaky"]).expect_code(0);
    for pid in leaked {
        assert!(wait_for_end(pid, Duration::ZERO), "{pid} outlived the stop");
    }
    // The test service of a later generation looks for grandchildren of earlier ones when it
    // starts, and writes a violation if there are any.
    events.wait_for("ready", "crashing", 4, LONG);
    events.check();
    assert_eq!(project.pid("bystander"), bystander);
    project.keepd(["down"]).expect_code(0);
    project.assert_nothing_left();
}

#[test]
fn with_a_cgroup_for_each_run() {
    let project = Project::new(&configuration());
    let _up = project.up();
    project.wait_for_state("bystander", "ready");
    project.wait_for_state("leaky", "ready");
    if project.cgroup().is_none() {
        skip("whole groups by cgroup: no cgroup of version 2 can be divided here");
        return;
    }
    stops_and_restarts_leave_nothing(&project);
}

#[test]
fn without_a_cgroup() {
    let project = Project::new(&configuration());
    let Some(command) = without_cgroups(&project) else {
        skip("whole groups without cgroups: unshare(1) cannot hide them here");
        return;
    };
    let mut command = command;
    command.args(["up"]);
    let _up = Running::start(&mut command);
    project.wait_for_state("bystander", "ready");
    project.wait_for_state("leaky", "ready");
    assert!(project.cgroup().is_none());
    stops_and_restarts_leave_nothing(&project);
}

/// Returns `keepd` in a mount namespace of its own from which the cgroups of version 2 were taken
/// away. `None` where that cannot be done.
pub(crate) fn without_cgroups(project: &Project) -> Option<Command> {
    let script = "umount -l \"$@\" && shift $# && true";
    let unshare = find_program("unshare")?;
    let mounts = cgroup_mounts();
    let prefix = |script: &str| {
        let mut command = project.command(&unshare);
        command.args(["--mount", "--", "sh", "-c", script, "sh"]);
        command
    };
    let tried = Running::start(prefix(script).args(&mounts)).wait();
    if tried.code() != 0 {
        return None;
    }
    let mounts: Vec<String> = mounts.iter().map(|path| path.display().to_string()).collect();
    let script = format!("umount -l {} && exec \"$@\"", mounts.join(" "));
    let mut command = prefix(&script);
    command.arg(keepd_program());
    Some(command)
}

fn cgroup_mounts() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup2 "))
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .collect()
}
