//! `keepd doctor`: what is weaker on this machine, and what to do about it. It looks at the real
//! machine, so each test makes one thing weaker and looks at that one. (behaviour 13.12)

use std::path::Path;

use keepd_testkit::{Finished, LONG, Mount, Project, Running, kill, skip, wait_until};
use serde_json::Value;

use crate::b0600_whole_groups::without_cgroups;

const ONE: &str = "[services.web]\ncommand = \"${TEST_SERVICE} --ready 0\"\nready.notify = true\n";

/// Returns one check of the report, and checks what must hold of every report.
#[track_caller]
fn check(report: &Finished, name: &str) -> Value {
    let found = report.json();
    let checks = found["checks"].as_array().unwrap().clone();
    let weaker = checks.iter().filter(|check| check["ok"] == false).count();
    assert_eq!(found["weaker"].as_u64(), Some(weaker as u64));
    assert_eq!(report.code(), i32::from(weaker > 0), "{found}");
    for check in &checks {
        assert!(check["text"].as_str().unwrap().ends_with('.'), "{check}");
        assert_eq!(check["ok"] == true, check["hint"].is_null(), "{check}");
    }
    let one = checks.into_iter().find(|check| check["name"] == name);
    one.unwrap_or_else(|| panic!("nothing is said of {name}: {found}"))
}

fn doctor(project: &Project) -> Finished {
    project.keepd(["doctor", "-o", "json"])
}

#[test]
fn a_run_folder_is_in_memory_or_on_a_disk() {
    let project = Project::new(ONE);
    let run = project.run_dir();
    let options = ["-t", "tmpfs", "-o", "size=8m,mode=0755", "tmpfs"];
    let Some(_mount) = Mount::new(run.parent().unwrap(), &options) else { return };
    let found = check(&doctor(&project), "run folder");
    assert_eq!(found["text"], format!("\"{}\" is in memory.", run.display()));
}

#[test]
fn little_room_for_logs_is_said_and_where_they_are() {
    let project = Project::new(ONE);
    let logs = project.path(".keepd/log");
    let Some(_mount) = Mount::small(&logs) else { return };
    let report = doctor(&project);
    assert_eq!(check(&report, "log folder")["ok"], true);
    let room = check(&report, "room for logs");
    assert_eq!(room["ok"], false, "{room}");
    let text = "512KiB are free. On a full disk a service that writes waits until there is room.";
    assert_eq!(room["text"], text);
    // The same for people; what is well is left out on request.
    let table = project.keepd(["doctor"]).expect_code(1).stdout;
    assert!(table.contains(&format!("\nweaker  room for logs: {text}\n        hint: ")), "{table}");
    assert!(table.contains("\nok      log folder: "), "{table}");
    assert!(table.ends_with("could be.\n"), "{table}");
    let quiet = project.keepd(["doctor", "-q"]).expect_code(1).stdout;
    assert!(!quiet.contains("ok   ") && !quiet.contains("could be.\n"), "{quiet}");
}

#[test]
fn too_few_descriptors_for_what_runs_are_counted() {
    let mut text = String::new();
    for number in 0..30 {
        text.push_str(&format!("[services.s{number}]\ncommand = \"${{TEST_SERVICE}}\"\n"));
    }
    let project = Project::new(&text);
    let keepd = keepd_testkit::keepd_program();
    let script = format!("ulimit -n 400; exec {} up", keepd.display());
    let _up = Running::start(project.command("sh").args(["-c", &script]));
    wait_until("an answer", LONG, || project.api().get("/v1/services").ok());
    let found = check(&doctor(&project), "descriptors of its proxy");
    assert_eq!(found["ok"], false, "{found}");
    let expected = "The proxy may have 400, which is enough for about 14 services that keep logs. \
                    Further ones wait until there are some again.";
    assert_eq!(found["text"], expected);
}

#[test]
fn what_runs_is_asked_and_what_is_lost_is_found() {
    let project = Project::new(ONE);
    let nothing = check(&doctor(&project), "keepd itself");
    let folder = project.folder().display().to_string();
    assert_eq!(nothing["text"], format!("Nothing runs for project \"{folder}\"."));
    let mut up = project.up_and_ready();
    let runs = check(&doctor(&project), "keepd itself");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(runs["text"], format!("Version {version} runs \"{}\".", project.instance()));
    assert!(up.is_running());

    // Everything of keepd is lost at once; the service is still there.
    let web = project.pid("web");
    let ours: Vec<u32> = project.processes().into_iter().filter(|pid| *pid != web).collect();
    up.signal(keepd_model::Signal::new(19).unwrap());
    for pid in ours {
        if Path::new(&format!("/proc/{pid}")).exists() {
            keepd_testkit::signal(pid, keepd_model::Signal::KILL);
        }
    }
    kill_if_there(up.pid());
    let lost = wait_until("keepd to be gone", LONG, || {
        let lost = check(&doctor(&project), "keepd itself");
        lost["text"].as_str().unwrap().contains("are left").then_some(lost)
    });
    assert_eq!(lost["hint"], "keepd down --leftovers ends them");
    project.keepd(["down", "--leftovers"]).expect_code(0);
    assert_eq!(check(&doctor(&project), "keepd itself"), nothing);
}

fn kill_if_there(pid: u32) {
    if keepd_testkit::signal(pid, keepd_model::Signal::CONT) {
        kill(pid);
    }
}

#[test]
fn without_a_project_it_looks_at_the_machine_alone() {
    let project = Project::new(ONE);
    let mut command = project.command(keepd_testkit::keepd_program());
    command.current_dir("/").args(["doctor", "-o", "json"]);
    let report = Running::start(&mut command).wait();
    assert!(report.json()["instance"].is_null());
    check(&report, "descriptors");
}

#[test]
fn the_weaker_way_to_find_processes_is_said() {
    let project = Project::new(ONE);
    let Some(mut command) = without_cgroups(&project) else {
        skip("doctor without cgroups: unshare(1) cannot hide them here");
        return;
    };
    let report = Running::start(command.args(["doctor", "-o", "json"])).wait();
    let groups = check(&report, "control groups (version 2)");
    assert_eq!(groups["ok"], false, "{groups}");
    assert!(groups["text"].as_str().unwrap().starts_with("None can be made here."), "{groups}");
    // What runs says it for itself.
    let Some(mut command) = without_cgroups(&project) else { return };
    let _up = Running::start(command.arg("up"));
    project.wait_for_state("web", "ready");
    let runs = check(&doctor(&project), "what runs");
    let text = runs["text"].as_str().unwrap();
    assert!(text.starts_with("No cgroup v2 can be written here: "), "{runs}");
}
