//! Memory is short: a service that takes all of it is the one that is ended, and a proxy that gets
//! none refuses what would make it grow, and goes on. (behaviour 1.18)

use std::time::Instant;

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::{LONG, OldGroup, ProcessLimit, Project, find_program, skip};

use crate::instance::{RECOVERY_MAX, TALKING, count, identities, manager_pid, proxy_pid, services};

#[test]
fn who_takes_all_memory_of_a_container_is_ended_and_nobody_else() {
    const FAULT: &str = "a service takes all memory of the container";
    if find_program("tail").is_none() {
        skip("a service that takes all memory: there is no program \"tail\"");
        return;
    }
    // One line without an end, of which tail keeps everything.
    let hog = "[services.hog]\ncommand = \"tail /dev/zero\"\nenabled = false\n\
               backoff_initial = \"50ms\"\nbackoff_max = \"50ms\"\n";
    let project = Project::new(&(services(0..6, TALKING) + hog));
    let _up = project.up_and_ready();
    let Some(group) = OldGroup::new("memory") else { return };
    group.set("memory.limit_in_bytes", "192M").expect("a limit can be set");
    let own = [proxy_pid(&project), manager_pid(&project)];
    own.iter().for_each(|pid| group.add(*pid));
    let before = identities(&project.services());
    let watch = ControlWatch::start(&project);
    project.keepd(["start", "hog", "--no-wait"]).expect_code(0);
    let hog = project.wait_for("four ends of the hog", LONG, |services| {
        let hog = services.iter().find(|service| service["name"] == "hog")?;
        (hog["last_exit"]["generation"].as_u64() >= Some(4)).then(|| hog.clone())
    });
    assert_eq!(hog["last_exit"]["signal"], "KILL", "{hog}");
    project.keepd(["stop", "hog"]).expect_code(0);
    watch.finish(FAULT);
    assert_eq!([proxy_pid(&project), manager_pid(&project)], own);
    assert_eq!(identities(&project.services()), before);
    project.events().check();
}

#[test]
fn a_proxy_without_memory_goes_on() {
    const FAULT: &str = "no memory for the proxy";
    let project = Project::new(&services(0..10, TALKING));
    let _up = project.up_and_ready();
    let own = [proxy_pid(&project), manager_pid(&project)];
    let before = identities(&project.services());
    let limit = ProcessLimit::of_memory(own[0], 0);
    let watch = ControlWatch::start(&project);
    project.configure(&services(0..200, TALKING));
    project.keepd(["apply", "--no-wait"]).expect_code(0);
    project.keepd(["restart", "s0"]).expect_code(0);
    project.keepd(["stop", "s1"]).expect_code(0);
    project.keepd(["start", "s1"]).expect_code(0);
    watch.finish(FAULT);
    drop(limit);
    let lifted = Instant::now();
    // Two hundred starts are work, with or without a fault.
    recovers(FAULT, RECOVERY_MAX * 5, lifted, || {
        (count(&project.services(), "ready") == 200).then_some(())
    });
    assert_eq!([proxy_pid(&project), manager_pid(&project)], own);
    let after = identities(&project.services());
    let untouched = |name: &str| name != "s0" && name != "s1";
    assert!(before.iter().all(|(name, run)| !untouched(name) || after.get(name) == Some(run)));
    project.events().check_instances();
}
