//! No space is left (row 7): who writes waits, nothing is lost, and everything else goes on. What
//! is said of it is in `b1400_bad_output`. (behaviour 16.1, 16.2)

use std::fs;
use std::time::Instant;

use keepd_testkit::control::{ControlWatch, recovers};
use keepd_testkit::test_service::pattern;
use keepd_testkit::{LONG, Mount, Project, kill, wait_until};

use crate::instance::{RECOVERY_MAX, TALKING, identities, manager_pid, services};

#[test]
fn a_full_disk_of_logs_blocks_only_who_writes() {
    const FAULT: &str = "a full disk of logs";
    const MUCH: usize = 1_000_000;
    const WRITERS: usize = 4;
    let writer = format!(
        "command = \"${{TEST_SERVICE}} --write {MUCH} --ready 0\"\nready.notify = true\n\
         ready.timeout = \"5m\"\n"
    );
    let other = "[services.other]\ncommand = \"${TEST_SERVICE} --ready 0 --chatter 20\"\n\
                 ready.notify = true\nlog.dir = \"elsewhere\"\n";
    let project = Project::new(&(services(0..WRITERS, &writer) + other));
    let Some(mount) = Mount::small(&project.path(".keepd/log")) else { return };
    let _up = project.up();
    wait_until("everybody to be blocked", LONG, || {
        let services = project.services();
        let blocked = services.iter().filter(|service| service["output_blocked"].is_string());
        (blocked.count() == WRITERS).then_some(())
    });
    let watch = ControlWatch::start(&project);
    let before = fs::metadata(project.path("elsewhere/out.log")).unwrap().len();
    wait_until("lines of who writes elsewhere", LONG, || {
        (fs::metadata(project.path("elsewhere/out.log")).unwrap().len() > before + 100)
            .then_some(())
    });
    project.keepd(["restart", "other"]).expect_code(0);
    // A stop of one that cannot write is a stop.
    project.keepd(["stop", "s0"]).expect_code(0);
    mount.remount("size=64m");
    let lifted = Instant::now();
    recovers(FAULT, RECOVERY_MAX, lifted, || {
        let whole = (1..WRITERS).all(|number| {
            let path = project.log_dir(&format!("s{number}")).join("out.log");
            fs::metadata(path).is_ok_and(|file| file.len() == MUCH as u64)
        });
        let services = project.services();
        let free = services.iter().all(|service| service["output_blocked"].is_null());
        (whole && free).then_some(())
    });
    watch.finish(FAULT);
    for number in 1..WRITERS {
        assert!(project.out_log(&format!("s{number}")) == pattern(MUCH), "s{number}");
    }
}

#[test]
fn a_full_run_folder_costs_no_service_anything() {
    const FAULT: &str = "a full run folder";
    let project = Project::new(&services(0..6, TALKING));
    let run = project.run_dir();
    let run = run.parent().unwrap();
    let options = ["-t", "tmpfs", "-o", "size=512k,mode=0755", "tmpfs"];
    let Some(mount) = Mount::new(run, &options) else { return };
    let _up = project.up_and_ready();
    let before = identities(&project.services());
    fs::write(run.join("filler"), vec![0; 64 * 1024 * 1024]).unwrap_err();
    let watch = ControlWatch::start(&project);
    project.keepd(["restart", "s0"]).expect_code(0);
    project.keepd(["stop", "s1"]).expect_code(0);
    project.keepd(["start", "s1"]).expect_code(0);
    kill(project.pid("s2"));
    wait_until("another process", LONG, || {
        let service = project.service("s2");
        (service["state"] == "ready" && service["generation"] == 2).then_some(())
    });
    watch.finish(FAULT);
    let now = identities(&project.services());
    for number in 3..6 {
        let name = format!("s{number}");
        assert_eq!(now[&name], before[&name]);
    }
    // What cannot be written down is not begun: the next manager would not know of it.
    project.configure(&services(0..7, TALKING));
    let refused = project.keepd(["apply"]);
    assert_eq!(refused.code(), 111, "{}", refused.stderr);
    assert!(refused.stderr.contains("no space left on device"), "{}", refused.stderr);
    assert_eq!(project.services().len(), 6);

    kill(manager_pid(&project));
    let lifted = Instant::now();
    recovers("the next manager", RECOVERY_MAX, lifted, || {
        let answer =
            project.api().get("/v1/services").ok().filter(|answer| answer.status == 200)?;
        (identities(answer.json()["services"].as_array()?) == now).then_some(())
    });
    fs::remove_file(run.join("filler")).unwrap();
    project.keepd(["apply"]).expect_code(0);
    project.wait_for_state("s6", "ready");
    project.events().check();
    drop(mount);
}
