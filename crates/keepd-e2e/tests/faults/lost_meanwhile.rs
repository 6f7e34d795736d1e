//! The proxy or the warden is killed while something is wrong with the machine, too: whoever takes
//! over finds everybody, starts nobody twice, and all is well once the fault ends.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use keepd_testkit::control::recovers;
use keepd_testkit::torture::{Keepers, Seeker, Victim};
use keepd_testkit::{LONG, Mount, ProcessLimit, Project, keepd_program, wait_until};

use crate::instance::{RECOVERY_MAX, TALKING, identities, services};

fn keepers(project: &Project) -> Keepers {
    Seeker::new(&keepd_program(), project.mark()).find()
}

/// Kills one of them, and waits until another one is there and every service is known again.
#[track_caller]
fn lose(project: &Project, victim: Victim, expected: &BTreeMap<String, (u64, u64)>) {
    let before = keepers(project);
    assert!(before.kill(victim), "{victim:?} is there");
    wait_until("a successor that knows everybody", LONG, || {
        let answer = project.api().get("/v1/services").ok().filter(|it| it.status == 200)?;
        let services = answer.json()["services"].as_array().cloned()?;
        let is_replaced = keepers(project).are_replaced_since(&before, &[victim]);
        (is_replaced && identities(&services) == *expected).then_some(())
    });
}

#[test]
fn a_successor_takes_over_in_a_full_run_folder() {
    const FAULT: &str = "a full run folder, and the proxy and the warden are killed";
    let project = Project::new(&services(0..6, TALKING));
    let run = project.run_dir();
    let run = run.parent().unwrap();
    let options = ["-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs"];
    let Some(mount) = Mount::new(run, &options) else { return };
    let _up = project.up_and_ready();
    let mut expected = identities(&project.services());
    fs::write(run.join("filler"), vec![0; 64 * 1024 * 1024]).unwrap_err();
    lose(&project, Victim::Proxy, &expected);
    lose(&project, Victim::Warden, &expected);
    project.keepd(["stop", "s0"]).expect_code(0);
    expected.remove("s0");
    lose(&project, Victim::Proxy, &expected);
    fs::remove_file(run.join("filler")).unwrap();
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        project.keepd(["start", "s0"]).code().eq(&0).then_some(())
    });
    assert_eq!(project.service("s0")["generation"], 2);
    project.keepd(["down"]).expect_code(0);
    project.events().check();
    drop(mount);
}

#[test]
fn a_successor_takes_over_what_a_proxy_without_descriptors_had() {
    let project = Project::new(&services(0..6, TALKING));
    let _up = project.up_and_ready();
    let expected = identities(&project.services());
    let proxy = keepers(&project).proxy.expect("there is one");
    // Its successor has the limit of the warden.
    let limit = ProcessLimit::of_descriptors(proxy, 0);
    project.keepd(["restart", "s0", "--no-wait"]).expect_code(0);
    wait_until("the end of what ran before", LONG, || {
        let now = identities(&project.services());
        (now.get("s0") != expected.get("s0")).then_some(())
    });
    let before = keepers(&project);
    assert!(before.kill(Victim::Proxy));
    drop(limit);
    project.wait_for("everybody to be ready", LONG, |services| {
        (identities(services).len() == 6).then_some(())
    });
    let now = identities(&project.services());
    for number in 1..6 {
        let name = format!("s{number}");
        assert_eq!(now[&name], expected[&name]);
    }
    project.keepd(["down"]).expect_code(0);
    project.events().check_instances();
}
