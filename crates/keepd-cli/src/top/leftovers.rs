//! What a lost keepd left behind: processes of the instance that nobody supervises.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use keepd_manager::Instance;
use keepd_model::{Instant, Pid, Signal};
use keepd_os::cgroup::{Group, read_populated};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::sweep::{self, Leader};
use keepd_os::{clock, proc, reap};

use super::system;
use crate::commands::manager;
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

    /// For a process that goes on where a lost one was: whatever children it has belong to the
    /// instance.
    pub(super) fn of_successor() -> Self {
        Self { before: Vec::new() }
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
        if !left.is_empty() {
            wait(LOOK_AGAIN);
        }
    }
}

/// Waits until the manager has ended by itself, up to `patience`. Others of the instance are not
/// waited for: nobody supervises them any more.
pub(super) fn wait_for_manager(instance: &Instance, adoption: &Adoption, patience: Duration) {
    let deadline: Instant = clock::monotonic_now().saturating_add(patience);
    // Only keepd's own processes are in there.
    let own = open_group(instance).and_then(|group| group.child("own").ok());
    let watch = own.as_ref().and_then(Watch::new);
    loop {
        let is_there = match (&watch, &own) {
            (Some(watch), _) => watch.is_populated(),
            (None, Some(own)) => own.is_populated().unwrap_or(false),
            (None, None) => finds_manager(adoption),
        };
        let now = clock::monotonic_now();
        if !is_there || now >= deadline {
            return;
        }
        match &watch {
            Some(watch) => watch.wait(deadline.saturating_since(now)),
            None => wait(LOOK_AGAIN),
        }
    }
}

/// Reports whether the manager is among the processes that came to us. The proxy is its parent, so
/// it does when that ends.
fn finds_manager(adoption: &Adoption) -> bool {
    let is_manager = |pid: Pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(manager::VERB.as_bytes())
    };
    adoption.orphans().iter().any(|process| is_manager(process.pid))
}

/// The change of a group to empty, as something to wait for.
struct Watch {
    epoll: Epoll,
    events: OwnedFd,
}

impl Watch {
    fn new(group: &Group) -> Option<Self> {
        let (epoll, events) = (Epoll::new().ok()?, group.events().ok()?);
        epoll.add(&events, 0, Interest::PRIORITY).ok()?;
        Some(Self { epoll, events })
    }

    /// A group that cannot be read is gone.
    fn is_populated(&self) -> bool {
        read_populated(self.events.as_fd()).unwrap_or(false)
    }

    fn wait(&self, time: Duration) {
        let _ = self.epoll.wait(Some(time), &mut Vec::new());
    }
}

fn wait(time: Duration) {
    // An epoll set without descriptors: nothing wakes it but its time.
    if let Ok(epoll) = Epoll::new() {
        let _ = epoll.wait(Some(time), &mut Vec::new());
    }
}
