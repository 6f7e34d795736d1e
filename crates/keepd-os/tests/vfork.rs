//! The start that borrows our memory.

use std::ffi::CString;

use keepd_model::{Errno, Pid, Signal, SpawnFailure, SpawnStep};
use keepd_os::sigwait::SignalSet;
use keepd_os::{code, vfork};
use rustix::process::{WaitOptions, waitpid};

fn start(words: &[&str], blocked: &[Signal]) -> Result<Pid, SpawnFailure> {
    let words = words.iter().map(|word| CString::new(*word).unwrap());
    let arguments: Vec<CString> = words.collect();
    vfork::start(&vfork::Request {
        arguments: &arguments,
        addressed: &[],
        terminal: None,
        blocked: SignalSet::of(blocked),
        default: &[Signal::PIPE],
    })
}

fn end_of(pid: Pid) -> i32 {
    let pid = rustix::process::Pid::from_raw(pid.get() as i32);
    let (_, status) = waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap()
}

#[test]
fn the_program_has_a_group_of_its_own_and_the_mask_it_is_given() {
    // Field 5 of stat is the group.
    let script = "set -- $(cat /proc/$$/stat); test $5 = $$ || exit 3; \
                  exec grep -q 'SigBlk:.*0800$' /proc/self/status";
    let pid = start(&["sh", "-c", script], &[Signal::USR2]).unwrap();
    assert_eq!(end_of(pid), 0);
}

#[test]
fn what_cannot_be_executed_is_said_and_leaves_no_zombie() {
    let failure = |errno| Err(SpawnFailure { step: SpawnStep::Exec, errno });
    assert_eq!(start(&["/nowhere/program"], &[]), failure(Errno::ENOENT));
    assert_eq!(start(&["no-such-program-of-keepd"], &[]), failure(Errno::ENOENT));
    assert_eq!(start(&["/proc/self/stat"], &[]), failure(Errno::EACCES));
    let nothing = SpawnFailure { step: SpawnStep::Prepare, errno: Errno::EINVAL };
    assert_eq!(start(&[], &[]), Err(nothing));
    assert_eq!(start(&[""], &[]), Err(nothing));
    let own = std::process::id();
    let children = std::fs::read_dir("/proc/self/task").unwrap().flat_map(|task| {
        let path = task.unwrap().path().join("children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    for child in children {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The other test may have one of its own.
        assert!(!stat.contains("(vfork"), "a child of {own} is left: {stat}");
    }
}

#[test]
fn a_program_goes_on_without_the_pages_of_its_code() {
    code::give_back_code().unwrap();
    assert_eq!(end_of(start(&["true"], &[]).unwrap()), 0);
}
