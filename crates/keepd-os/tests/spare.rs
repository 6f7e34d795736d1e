//! Descriptors that are kept back. A program of its own: the limit is the whole process's.

use std::fs::File;
use std::process::{Command, Stdio};

use keepd_model::{Errno, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::{process, spare, sweep};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Opens files until there is no descriptor left.
fn use_up() -> Vec<File> {
    let mut files = Vec::new();
    loop {
        match File::open("/proc/self/stat") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(24));
                return files;
            }
        }
    }
}

#[test]
fn groups_and_processes_are_found_when_nothing_else_can_be_opened() {
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(64), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let name = format!("keepd-spare.{}", process::id());
    let group = Group::own().map(|own| Group::create(&own, &name).unwrap());
    let mark = format!("KEEPD_SPARE_TEST={}", process::id());
    let (key, value) = mark.split_once('=').unwrap();
    let mut child = Command::new("sleep")
        .arg("1000")
        .env(key, value)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::new(child.id()).unwrap();
    group.iter().for_each(|group| group.add(pid).unwrap());
    spare::keep(8).unwrap();
    let files = use_up();
    // Without the reserve this fails; it is not used up by what it was used for.
    for _ in 0..50 {
        let found = sweep::processes_marked(mark.as_bytes()).unwrap();
        assert_eq!(found.len(), 1, "the child is found");
        if let Some(group) = &group {
            assert_eq!(group.is_populated(), Ok(true));
        }
    }
    // What was held by its descriptor took one, which is free now.
    let more = use_up();
    assert!(more.len() <= 1, "the reserve is not for everybody: {}", more.len());
    // Processes that are held take what was lent; the next look says that it cannot look.
    let held: Vec<_> =
        (0..8).filter_map(|_| sweep::processes_marked(mark.as_bytes()).ok()).collect();
    assert!(!held.is_empty() && held.iter().all(|found| found.len() == 1));
    let result = sweep::processes_marked(mark.as_bytes()).map(|found| found.len());
    assert!(matches!(result, Ok(1) | Err(Errno::EMFILE)), "{result:?}");
    drop(held);
    match &group {
        Some(group) => {
            assert_eq!(group.signal_all(Signal::CONT), Ok(1));
            group.kill().unwrap();
        }
        None => child.kill().unwrap(),
    }
    child.wait().unwrap();
    drop((files, more));
    group.iter().for_each(|group| group.remove().unwrap());
}
