//! Processes of others, held by descriptor so that a reused number is never hit.

use std::time::Duration;

use keepd_model::{Pid, Signal};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::{pidfd, sweep};

use crate::Deadline;

/// Returns the ids of all live processes that have `KEY=VALUE` in their environment, and of their
/// descendants, in order.
pub fn marked(entry: &str) -> Vec<u32> {
    let found = sweep::processes_marked(entry.as_bytes()).expect("/proc can be read");
    let mut pids: Vec<u32> = found.iter().map(|process| process.pid.get()).collect();
    pids.sort_unstable();
    pids
}

/// Signals a process. Returns `false` if there is none.
pub fn signal(pid: u32, signal: Signal) -> bool {
    let Some(pid) = Pid::new(pid) else {
        return false;
    };
    pidfd::open(pid).is_ok_and(|process| pidfd::send(&process, signal).is_ok())
}

/// Sends KILL to a process, and waits until it has ended.
#[track_caller]
pub fn kill(pid: u32) {
    assert!(signal(pid, Signal::KILL), "there is no process {pid}");
    assert!(wait_for_end(pid, crate::LONG), "process {pid} outlives KILL");
}

/// Waits until a process has ended. Returns `false` if it is there after `limit`.
pub fn wait_for_end(pid: u32, limit: Duration) -> bool {
    let Some(process) = Pid::new(pid).and_then(|pid| pidfd::open(pid).ok()) else {
        return true;
    };
    let deadline = Deadline::after(limit);
    let set = Epoll::new().expect("an epoll set can be made");
    set.add(&process, 0, Interest::READ).expect("a pidfd can be waited for");
    let mut ready = Vec::new();
    loop {
        let remaining = deadline.remaining();
        // Also with no time left: whether it has ended already is what the caller asks.
        set.wait(Some(remaining.unwrap_or_default()), &mut ready)
            .expect("a pidfd can be waited for");
        if !ready.is_empty() || remaining.is_none() {
            return !ready.is_empty();
        }
    }
}

/// Kills everything that has one of these entries in its environment, until two looks find nobody:
/// who forks during the first look is found by the second.
pub(crate) fn kill_marked(entries: &[&str]) {
    let deadline = Deadline::after(crate::LONG);
    let mut quiet_looks = 0;
    while quiet_looks < 2 && deadline.remaining().is_some() {
        let mut found = Vec::new();
        for entry in entries {
            found.extend(sweep::processes_marked(entry.as_bytes()).unwrap_or_default());
        }
        quiet_looks = if found.is_empty() { quiet_looks + 1 } else { 0 };
        for process in &found {
            // It may have ended by itself meanwhile.
            let _ = process.signal(Signal::KILL);
        }
        for process in &found {
            wait_for_end(process.pid.get(), Duration::from_secs(1));
        }
    }
}
