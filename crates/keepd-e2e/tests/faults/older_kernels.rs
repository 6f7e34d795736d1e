//! Kernels that lack something: each has a fallback that works, or `keepd up` is refused. What is
//! weaker is said by `keepd doctor`.

use std::collections::BTreeMap;

use keepd_testkit::Lacking::{
    self, Clone3, CloseRange, Execveat, Fallocate, ForeignExits, Memfd, PidfdInodes, PidfdOpen,
    PidfdSendSignal,
};
use keepd_testkit::torture::{Keepers, Seeker, Victim};
use keepd_testkit::{LONG, OlderKernel, Project, keepd_program, kill, wait_for_end, wait_until};
use serde_json::Value;

use crate::instance::{TALKING, identities, services};

const TRUE: [&str; 1] = ["signal KILL"];
/// Whether init leaves the zombie for long enough to be looked at is a matter of chance.
const TRUE_OR_UNKNOWN: [&str; 2] = ["signal KILL", "unknown"];

fn keepers(project: &Project) -> Keepers {
    Seeker::new(&keepd_program(), project.mark()).find()
}

/// Waits until another process has the place of each of these, and the services are as they were.
#[track_caller]
fn assert_recovered(
    project: &Project,
    before: &Keepers,
    gone: &[Victim],
    expected: &BTreeMap<String, (u64, u64)>,
) {
    wait_until("control", LONG, || {
        let answer = project.api().get("/v1/services").ok().filter(|it| it.status == 200)?;
        let services = answer.json()["services"].as_array().cloned()?;
        let is_replaced = keepers(project).are_replaced_since(before, gone);
        (is_replaced && identities(&services) == *expected).then_some(())
    });
}

/// Kills proxy, warden, and both of them, between starts and ends, and looks whether everybody is
/// adopted. `statuses`: what may be known of a service that is killed while nobody of ours is its
/// parent.
fn survives(kernel: &OlderKernel, statuses: &[&str]) {
    let keys = "command = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n\
                restart = \"never\"\n";
    let project = Project::new(&services(0..6, keys));
    let _up = kernel.up_and_ready(&project);
    let mut expected = identities(&project.services());

    for gone in [
        &[Victim::Proxy][..],
        &[Victim::Warden],
        &[Victim::Manager],
        &[Victim::Warden, Victim::Proxy],
    ] {
        let before = keepers(&project);
        for victim in gone {
            assert!(before.kill(*victim), "{victim:?} is there");
        }
        assert_recovered(&project, &before, gone, &expected);
        // What was adopted is stopped and started by its successor.
        project.keepd(["restart", "s0"]).expect_code(0);
        project.keepd(["signal", "HUP", "s1"]).expect_code(0);
        let now = identities(&project.services());
        assert_eq!(now["s0"].0, expected["s0"].0 + 1);
        expected.insert("s0".to_owned(), now["s0"]);
        assert_eq!(now, expected);
    }
    // s5 came to init when warden and proxy were lost at once.
    kill(u32::try_from(expected["s5"].1).unwrap());
    let ended = project.wait_for("its end", LONG, |services| {
        services.iter().find(|it| it["name"] == "s5" && it["state"] != "ready").cloned()
    });
    let status = last(&project, "s5");
    assert!(statuses.contains(&status.as_str()), "{status}: {ended}");
    // s0 has a parent of ours.
    kill(u32::try_from(expected["s0"].1).unwrap());
    project.wait_for("its end", LONG, |services| {
        services.iter().find(|it| it["name"] == "s0" && it["state"] != "ready").cloned()
    });
    assert_eq!(last(&project, "s0"), "signal KILL");
    let warden = keepers(&project).warden.expect("there is one");
    project.keepd(["down"]).expect_code(0);
    assert!(wait_for_end(warden, LONG));
    project.events().check();
    project.assert_nothing_left();
}

/// Returns how a service ended last, as `keepd status` shows it.
fn last(project: &Project, name: &str) -> String {
    let table = project.keepd(["status"]).stdout;
    let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let (_, last) = line.rsplit_once("  ").unwrap_or_default();
    last.split(',').next().unwrap_or_default().to_owned()
}

/// Returns what `keepd doctor` says about a facility on a kernel.
fn doctor(kernel: &OlderKernel, name: &str) -> Value {
    let project = Project::new(&services(0..1, TALKING));
    let report = kernel.start_keepd(&project, &["doctor", "-o", "json"]).wait().json();
    let checks = report["checks"].as_array().expect("there are some").clone();
    let found = checks.iter().find(|check| check["name"].as_str().unwrap_or("").contains(name));
    found.unwrap_or_else(|| panic!("nothing about \"{name}\": {report}")).clone()
}

#[track_caller]
fn assert_weaker(lacking: Lacking, name: &str, sentence: &str) {
    let Some(kernel) = OlderKernel::without(&[lacking]) else { return };
    for kernel in [kernel.clone(), kernel.forbidden()] {
        let check = doctor(&kernel, name);
        assert_eq!(check["ok"], false, "{check}");
        assert!(check["text"].as_str().unwrap().contains(sentence), "{check}");
        assert!(check["hint"].as_str().unwrap().contains("kernel"), "{check}");
    }
}

#[test]
fn doctor_says_what_is_missing_and_what_is_weaker_for_it() {
    assert_weaker(PidfdOpen, "pidfd_open", "keepd refuses to start");
    assert_weaker(PidfdSendSignal, "pidfd_send_signal", "keepd refuses to start");
    assert_weaker(PidfdInodes, "inodes of pidfds", "by the time of its start");
    assert_weaker(ForeignExits, "exit statuses of foreign", "How a service ended is unknown");
    assert_weaker(Clone3, "clone3", "enters its control group by itself");
    assert_weaker(CloseRange, "close_range", "Starts take longer");
}

#[test]
fn without_pidfds_it_does_not_start_and_says_why() {
    for lacking in [PidfdOpen, PidfdSendSignal] {
        let Some(kernel) = OlderKernel::without(&[lacking]) else { return };
        for kernel in [kernel.clone(), kernel.forbidden()] {
            let project = Project::new(&services(0..1, TALKING));
            let refused = kernel.start_keepd(&project, &["up"]).wait().expect_code(111);
            let call = if lacking == PidfdOpen { "pidfd_open" } else { "pidfd_send_signal" };
            assert!(refused.stderr.contains(&format!("{call} is missing")), "{}", refused.stderr);
            assert!(refused.stderr.contains("hint: use Linux 5.3"), "{}", refused.stderr);
            project.assert_nothing_left();
            let folder = project.path("run").display().to_string();
            let words = ["proxy", "--warden", "--run-dir", &folder, "--socket", "socket"];
            let refused = kernel.start_keepd(&project, &words).wait();
            assert_ne!(refused.code(), 0);
            assert!(refused.stderr.contains(call), "{}", refused.stderr);
        }
    }
}

#[test]
fn what_a_warden_cannot_be_without_is_refused_at_the_start() {
    let Some(kernel) = OlderKernel::without(&[Memfd]) else { return };
    let project = Project::new(&services(0..1, TALKING));
    let refused = kernel.start_keepd(&project, &["up"]).wait().expect_code(111);
    assert!(refused.stderr.contains("function not implemented"), "{}", refused.stderr);
    assert!(project.processes().is_empty());
    assert!(project.events().entries().is_empty());
}

#[test]
fn without_inodes_of_pidfds_processes_are_told_apart_by_their_start() {
    let Some(kernel) = OlderKernel::without(&[PidfdInodes]) else { return };
    survives(&kernel, &TRUE);
}

#[test]
fn without_statuses_of_foreign_processes_they_are_true_or_unknown() {
    let Some(kernel) = OlderKernel::without(&[ForeignExits]) else { return };
    survives(&kernel, &TRUE_OR_UNKNOWN);
}

#[test]
fn linux_5_4_has_neither_and_no_close_range() {
    let lacking = [PidfdInodes, ForeignExits, CloseRange];
    let Some(kernel) = OlderKernel::without(&lacking) else { return };
    survives(&kernel, &TRUE_OR_UNKNOWN);
}

#[test]
fn a_container_that_forbids_what_can_be_done_otherwise() {
    // Not clone3: where that is forbidden and not unknown, the C library makes no threads.
    let lacking = [CloseRange, PidfdInodes, ForeignExits];
    let Some(kernel) = OlderKernel::without(&lacking) else { return };
    survives(&kernel.forbidden(), &TRUE_OR_UNKNOWN);
}

#[test]
fn without_execveat_programs_are_executed_by_their_path() {
    let Some(kernel) = OlderKernel::without(&[Execveat]) else { return };
    survives(&kernel, &TRUE);
}

#[test]
fn without_clone3_children_are_made_by_clone() {
    let Some(kernel) = OlderKernel::without(&[Clone3]) else { return };
    survives(&kernel, &TRUE);
}

#[test]
fn without_fallocate_zeros_are_written() {
    let Some(kernel) = OlderKernel::without(&[Fallocate]) else { return };
    survives(&kernel, &TRUE);
}
