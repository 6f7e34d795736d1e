//! A process that does not end, whatever it is sent (a D-state, here a frozen group): the stop says
//! so and answers, nothing starts beside it, the others are untouched, and its end ends it.
//! (behaviour 3.10, 9.9)

use std::time::Instant;

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::{LONG, OldGroup, Project, wait_until};

use crate::instance::{RECOVERY_MAX, TALKING, identities, services};

#[test]
fn a_process_that_cannot_be_killed_is_said_to_be_stuck() {
    const FAULT: &str = "a process cannot be killed";
    let project = Project::new(&services(0..4, &format!("{TALKING}stop_timeout = \"300ms\"\n")));
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let Some(group) = OldGroup::new("freezer") else { return };
    group.add(project.pid("s0"));
    group.set("freezer.state", "FROZEN").expect("a group can be frozen");
    wait_until("the group to be frozen", LONG, || {
        (group.get("freezer.state") == "FROZEN").then_some(())
    });
    let watch = ControlWatch::start(&project);
    let stop = project.keepd(["stop", "s0"]).expect_code(1);
    let said = format!("{}{}", stop.stdout, stop.stderr);
    assert!(said.contains("stuck") || said.contains("is left long after KILL"), "{said}");
    assert_eq!(project.service("s0")["state"], "stuck");
    let why = project.keepd(["why", "s0"]).expect_code(0).stdout;
    assert!(why.starts_with("s0 is stuck"), "{why}");
    // Nothing is started beside it.
    project.keepd(["start", "s0", "--no-wait"]).expect_code(0);
    project.keepd(["restart", "s1"]).expect_code(0);
    assert_eq!(project.service("s0")["state"], "stuck");
    assert_eq!(project.events().of("start", "s0").len(), 1);
    watch.finish(FAULT);
    group.set("freezer.state", "THAWED").expect("a group can be thawed");
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        let service = project.service("s0");
        (service["state"] == "ready" && service["generation"] == 2).then_some(())
    });
    let after = identities(&project.services());
    for name in ["s2", "s3"] {
        assert_eq!(after[name], before[name]);
    }
    project.events().check();
}
