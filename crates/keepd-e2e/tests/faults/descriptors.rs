//! No descriptors are left (row 10): who runs runs on and can be stopped, the rest wait and start
//! when there are some again. (behaviour 8.10, 9.6)

use std::time::Instant;

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::{LONG, ProcessLimit, Project, kill};

use crate::instance::{RECOVERY_MAX, TALKING, count, identities, manager_pid, proxy_pid, services};

#[test]
fn who_runs_runs_on_and_the_rest_start_when_there_are_some() {
    const FAULT: &str = "no descriptors for the proxy";
    let project = Project::new(&services(0..10, TALKING));
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let watch = ControlWatch::start(&project);
    let limit = ProcessLimit::of_descriptors(proxy_pid(&project), 2);
    project.configure(&services(0..30, TALKING));
    project.keepd(["apply", "--no-wait"]).expect_code(0);
    project.wait_for("many tries in vain", LONG, |services| {
        let waiting = services.iter().filter(|service| service["state"] == "backoff");
        let tired = waiting.filter(|service| service["generation"].as_u64() >= Some(6)).count();
        (tired >= 15).then_some(())
    });
    // Nobody who runs noticed.
    let now = identities(&project.services());
    assert!(before.iter().all(|(name, run)| now.get(name) == Some(run)), "{before:?}\n{now:?}");
    // Ending something takes descriptors, too, and must not lack them.
    project.keepd(["stop", "s0"]).expect_code(0);
    assert_eq!(project.service("s0")["state"], "stopped");
    project.keepd(["stop", "s1", "--kill"]).expect_code(0);
    assert_eq!(project.service("s1")["state"], "stopped");
    drop(limit);
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        (count(&project.services(), "ready") == 28).then_some(())
    });
    watch.finish(FAULT);
    let restarts = project.services().iter().map(|service| service["restarts"].as_u64()).max();
    assert_eq!(restarts, Some(Some(0)), "a start that could not be tried is no restart");
    project.events().check_instances();
}

#[test]
fn a_manager_without_descriptors_answers() {
    const FAULT: &str = "no descriptors for the manager";
    let project = Project::new(&services(0..10, TALKING));
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let limit = ProcessLimit::of_descriptors(manager_pid(&project), 0);
    let watch = ControlWatch::start(&project);
    // What cannot be prepared is not begun. Between two answers there may be a descriptor for it.
    let restart = project.keepd(["restart", "s0"]);
    if restart.code() != 0 {
        assert_eq!(restart.code(), 1, "{}", restart.stderr);
        assert!(restart.stderr.contains("too many open files"), "{}", restart.stderr);
        assert!(restart.stderr.contains("it runs on as before"), "{}", restart.stderr);
    }
    // What needs no preparation is.
    project.keepd(["stop", "s1"]).expect_code(0);
    kill(project.pid("s2"));
    drop(limit);
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        (count(&project.services(), "ready") == 9).then_some(())
    });
    watch.finish(FAULT);
    let after = identities(&project.services());
    let untouched = |name: &str| !["s0", "s1", "s2"].contains(&name);
    assert!(before.iter().all(|(name, run)| !untouched(name) || after.get(name) == Some(run)));
    project.events().check();
}
