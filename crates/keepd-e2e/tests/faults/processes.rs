//! No process can be made (row 11): what ended waits, costs next to nothing, and is back as soon as
//! there is room. (behaviour 8.10)

use std::time::{Duration, Instant};

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::{LONG, OldGroup, ProcessLimit, Project, cpu_ticks, figures, kill, signal};

use crate::instance::{RECOVERY_MAX, TALKING, count, identities, manager_pid, proxy_pid, services};

/// What proxy and manager may use of a processor meanwhile: the watch asks them all the time.
const CPU_SHARE_MAX: f64 = 0.3;

/// A clock tick.
const TICK: Duration = Duration::from_millis(10);

/// Puts keepd and everything that it starts from now on into a group that is full.
fn full_group(project: &Project) -> Option<OldGroup> {
    let group = OldGroup::new("pids")?;
    group.add(proxy_pid(project));
    group.add(manager_pid(project));
    group.set("pids.max", &group.get("pids.current")).expect("a limit can be set");
    Some(group)
}

#[test]
fn what_ended_is_back_as_soon_as_there_is_room() {
    const FAULT: &str = "fork fails";
    let project = Project::new(&services(0..12, TALKING));
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let Some(group) = full_group(&project) else { return };
    let watch = ControlWatch::start(&project);
    let own = [proxy_pid(&project), manager_pid(&project)];
    let begun = (Instant::now(), own.map(cpu_ticks));
    for number in 0..6 {
        kill(project.pid(&format!("s{number}")));
    }
    project.wait_for("many tries in vain", LONG, |services| {
        let tired = services.iter().filter(|service| service["generation"].as_u64() >= Some(8));
        (tired.count() == 6 && count(services, "backoff") == 6).then_some(())
    });
    let used: u64 = own.map(cpu_ticks).iter().sum::<u64>() - begun.1.iter().sum::<u64>();
    let share =
        (TICK * u32::try_from(used).unwrap()).as_secs_f64() / begun.0.elapsed().as_secs_f64();
    figures::note(FAULT, "processor of proxy and manager", &format!("{:.1} %", share * 100.0));
    assert!(share < CPU_SHARE_MAX, "proxy and manager use {share} of a processor");
    group.set("pids.max", "max").unwrap();
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        (count(&project.services(), "ready") == 12).then_some(())
    });
    watch.finish(FAULT);
    let after = identities(&project.services());
    for number in 6..12 {
        let name = format!("s{number}");
        assert_eq!(after[&name], before[&name], "{name} ran all the time");
    }
    // Everything that ended did so once.
    for service in project.services() {
        assert!(service["restarts"].as_u64() <= Some(1), "{service}");
    }
    project.events().check_instances();
}

#[test]
fn a_manager_that_is_killed_meanwhile_is_back_as_soon_as_there_is_room() {
    const FAULT: &str = "fork fails and the manager is killed";
    let project = Project::new(&services(0..6, TALKING));
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let Some(group) = full_group(&project) else { return };
    let manager = manager_pid(&project);
    group.set("pids.max", "1").unwrap();
    kill(manager);
    // Longer than any pause between two tries of the proxy.
    let until = Instant::now() + Duration::from_secs(3);
    recovers("the fault lasts", LONG, until, || (Instant::now() >= until).then_some(()));
    assert!(before.values().all(|(_, pid)| signal(*pid as u32, keepd_model::Signal::CONT)));
    group.set("pids.max", "max").unwrap();
    let lifted = Instant::now();
    let answer = recovers(FAULT, RECOVERY_MAX, lifted, || {
        project.api().get("/v1/services").ok().filter(|answer| answer.status == 200)
    });
    let services = answer.json()["services"].as_array().cloned().unwrap_or_default();
    assert_eq!(identities(&services), before);
    project.events().check();
}

#[test]
fn a_user_with_too_many_processes_keeps_what_runs_and_gets_the_rest_later() {
    const FAULT: &str = "the limit of processes of a user";
    const KEYS: &str = "command = \"sleep 100000\"\nuser = \"nobody\"\nready.delay = \"10ms\"\n";
    let project = Project::new(&services(0..4, KEYS));
    if !rustix_is_root() {
        keepd_testkit::skip("services of another user: only root can start them");
        return;
    }
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    let watch = ControlWatch::start(&project);
    // What the proxy starts has its limits; four processes of that user are there.
    let limit = ProcessLimit::of_processes(proxy_pid(&project), 3);
    project.configure(&services(0..8, KEYS));
    project.keepd(["apply", "--no-wait"]).expect_code(0);
    project.wait_for("tries in vain", LONG, |services| {
        let waiting = services.iter().filter(|service| service["state"] == "backoff");
        let tired = waiting.filter(|service| service["generation"].as_u64() >= Some(6));
        (tired.count() == 4).then_some(())
    });
    let why = project.keepd(["why", "s7"]).expect_code(0).stdout;
    assert!(why.contains("cannot be executed: resource temporarily unavailable"), "{why}");
    assert!(why.contains("it is tried again until the system has room for it"), "{why}");
    drop(limit);
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        (count(&project.services(), "ready") == 8).then_some(())
    });
    watch.finish(FAULT);
    let after = identities(&project.services());
    assert!(before.iter().all(|(name, run)| after.get(name) == Some(run)));
}

/// Reports whether these tests run as root.
fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
