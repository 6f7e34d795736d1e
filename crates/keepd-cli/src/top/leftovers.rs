//! What a lost keepd left behind: processes of the instance that nobody supervises.

use std::time::Duration;

use keepd_manager::Instance;
use keepd_model::{Instant, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::epoll::Epoll;
use keepd_os::sweep::{self, Leader};
use keepd_os::{clock, proc, reap};

use super::system;
use crate::error::CliError;

/// Between two looks at processes that were killed, where nothing tells when they are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One process that is left.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) pid: Pid,
    /// The short name that the kernel keeps.
    pub(crate) name: String,
}

/// Returns the name of the instance's group below the group of whoever starts it.
pub(super) fn group_name(instance: &Instance) -> String {
    format!("keepd.{}", instance.mark())
}

/// Opens the group of an instance, if there is one below ours.
pub(super) fn open_group(instance: &Instance) -> Option<Group> {
    Group::own()?.child(&group_name(instance)).ok()
}

fn mark(instance: &Instance) -> Vec<u8> {
    format!("KEEPD_PROJECT={}", instance.mark()).into_bytes()
}

/// The children that a top process had before it started anything: a shell's that it was executed
/// by. Whatever other children it has were reparented to it, and belong to its instance.
#[derive(Debug)]
pub(crate) struct Adoption {
    before: Vec<Leader>,
}

impl Adoption {
    /// Takes down which children there are.
    pub(super) fn begin() -> Self {
        let before = sweep::children(&[]).unwrap_or_default();
        Self { before: before.iter().filter_map(|child| Leader::of_child(child.pid)).collect() }
    }

    /// Returns what lost its parent and came to us, reaping what has ended of it meanwhile.
    fn orphans(&self) -> Vec<sweep::Process> {
        while let Ok(Some((pid, _))) = reap::peek() {
            if reap::consume(pid).is_err() {
                break;
            }
        }
        sweep::children(&self.before).unwrap_or_default()
    }
}

fn orphans(adoption: Option<&Adoption>) -> Vec<sweep::Process> {
    adoption.map(Adoption::orphans).unwrap_or_default()
}

/// Finds the processes of an instance: those in its group, those that carry its mark in their
/// environment (they may be in a group that another login made), and, for its top process, those
/// that were reparented to it.
pub(crate) fn find_leftovers(
    instance: &Instance,
    adoption: Option<&Adoption>,
) -> Result<Vec<Leftover>, CliError> {
    let grouped = open_group(instance).and_then(|group| group.pids().ok()).unwrap_or_default();
    let marked = sweep::processes_marked(&mark(instance)).map_err(|errno| {
        system(format!("cannot look for processes of {}: {errno}", instance.shown()))
    })?;
    let mut pids: Vec<Pid> =
        grouped.into_iter().chain(marked.iter().map(|process| process.pid)).collect();
    pids.extend(orphans(adoption).iter().map(|process| process.pid));
    pids.sort_unstable();
    pids.dedup();
    let named = |pid| proc::name(pid).map(|name| Leftover { pid, name });
    Ok(pids.into_iter().filter_map(named).collect())
}

/// KILLs every process of an instance and removes its group. Returns what is left after `patience`.
pub(crate) fn end_leftovers(
    instance: &Instance,
    adoption: Option<&Adoption>,
    patience: Duration,
) -> Result<Vec<Leftover>, CliError> {
    let deadline = clock::monotonic_now().saturating_add(patience);
    let group = open_group(instance);
    let mut quiet_looks = 0;
    loop {
        if let Some(group) = &group {
            // What cannot be killed now is seen in the next look.
            let _ = group.kill();
        }
        let marked = sweep::processes_marked(&mark(instance)).unwrap_or_default();
        for process in marked.into_iter().chain(orphans(adoption)) {
            let _ = process.signal(Signal::KILL);
        }
        let left = find_leftovers(instance, adoption)?;
        quiet_looks = if left.is_empty() { quiet_looks + 1 } else { 0 };
        // One look may miss who was forked meanwhile.
        if quiet_looks == 2 || clock::monotonic_now() >= deadline {
            if left.is_empty()
                && let Some(group) = &group
            {
                let _ = group.remove();
            }
            return Ok(left);
        }
        wait(LOOK_AGAIN);
    }
}

/// Waits until the instance is empty by itself, up to `patience`; reports whether it is.
pub(super) fn wait_until_empty(
    instance: &Instance,
    adoption: &Adoption,
    patience: Duration,
) -> bool {
    let deadline: Instant = clock::monotonic_now().saturating_add(patience);
    loop {
        match find_leftovers(instance, Some(adoption)) {
            Ok(left) if left.is_empty() => return true,
            Ok(_) if clock::monotonic_now() < deadline => wait(LOOK_AGAIN),
            Ok(_) | Err(_) => return false,
        }
    }
}

fn wait(time: Duration) {
    // An epoll set without descriptors: nothing wakes it but its time.
    if let Ok(epoll) = Epoll::new() {
        let _ = epoll.wait(Some(time), &mut Vec::new());
    }
}
