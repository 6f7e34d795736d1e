//! Processes of others, held by descriptor so that a reused number is never hit.

use std::fs;
use std::path::Path;
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

/// Returns the ids of all live processes whose working directory is this folder or below it. It
/// finds those too that overwrote their environment, as PostgreSQL and nginx do to show a title.
pub fn working_below(folder: &Path) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").expect("/proc can be read").flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            // A process that has ended, and one of somebody else's, has none that can be read.
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(folder))
        })
        .collect()
}

/// Returns the CPU time of a process so far, user and system, in clock ticks (proc_pid_stat(5),
/// fields 14 and 15). A tick is 10 ms on every Linux of today.
///
/// # Panics
/// If there is no such process.
#[track_caller]
pub fn cpu_ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap_or_else(|error| panic!("cannot read the times of process {pid}: {error}"));
    // The name of the program stands in parentheses and may hold anything.
    let (_, fields) = text.rsplit_once(')').expect("the name ends with a parenthesis");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<u64>().expect("times are numbers")).sum()
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
