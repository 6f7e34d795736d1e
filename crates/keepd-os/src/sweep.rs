//! The weaker way to find what a service started, for where no control group can be made.
//!
//! Processes are known by a variable that only this start of the service has, and by their parents.
//! A process that cleared its environment *and* lost its parent is not found, unless its orphans
//! are reparented to us.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use keepd_model::{Errno, Pid, Signal};

use crate::proc::{self, Stat};
use crate::{pidfd, process};

/// A process that was found, held so that a reused number is never hit.
#[derive(Debug)]
pub struct Process {
    /// Its number, for display.
    pub pid: Pid,
    /// The process itself.
    pub pidfd: OwnedFd,
}

impl Process {
    /// `pidfd_send_signal(pidfd, signal)`: signals it. ESRCH if it has ended. See
    /// pidfd_send_signal(2).
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        pidfd::send(&self.pidfd, signal)
    }
}

/// Reads `/proc`: returns every live process whose environment has exactly this `KEY=VALUE`, and
/// the descendants of those.
///
/// What made a process one of them is checked again after its pidfd was opened. This process and
/// its ancestors are never returned, nor are zombies. One look is not enough: who forks meanwhile
/// may be missed, so look until two looks find nobody. The costs are two reads for each process of
/// the machine.
pub fn processes_marked(entry: &[u8]) -> Result<Vec<Process>, Errno> {
    let found = processes_marked_each(&[entry])?;
    Ok(found.into_iter().flatten().collect())
}

/// [`processes_marked`] for many entries at once, for the costs of one; the answers are in the
/// order of the entries.
pub fn processes_marked_each(entries: &[&[u8]]) -> Result<Vec<Vec<Process>>, Errno> {
    let mut table = HashMap::new();
    for pid in proc::all()? {
        if let Some(stat) = proc::stat(pid).filter(is_alive) {
            table.insert(pid, stat);
        }
    }
    for ours in ancestry(process::id()) {
        table.remove(&ours);
    }
    let positions: HashMap<&[u8], usize> = entries.iter().copied().zip(0..).collect();
    let mut marked = vec![HashSet::new(); entries.len()];
    for pid in table.keys() {
        for position in proc::environment_positions(*pid, &positions) {
            marked[position].insert(*pid);
        }
    }
    let found = entries.iter().zip(marked).map(|(entry, marked)| {
        if marked.is_empty() {
            return Vec::new();
        }
        let family = table.iter().filter(|(pid, _)| descends(**pid, &table, &marked));
        family
            .filter_map(|(pid, stat)| hold(*pid, stat, marked.contains(pid).then_some(*entry)))
            .collect()
    });
    Ok(found.collect())
}

/// Takes hold of a process and makes sure that it still is the one that was looked at.
fn hold(pid: Pid, before: &Stat, entry: Option<&[u8]>) -> Option<Process> {
    let pidfd = pidfd::open(pid).ok()?;
    let now = proc::stat(pid).filter(is_alive)?;
    let same = now.start_ticks == before.start_ticks
        && match entry {
            Some(entry) => proc::environment_has(pid, entry),
            // Two starts within one tick could look alike; the same parent makes it the same family
            // at least.
            None => now.parent == before.parent,
        };
    same.then_some(Process { pid, pidfd })
}

/// Reports whether the process or one of its ancestors is marked.
fn descends(pid: Pid, table: &HashMap<Pid, Stat>, marked: &HashSet<Pid>) -> bool {
    let mut next = Some(pid);
    // The table is not one moment's picture, so a circle is possible, if only through reused
    // numbers.
    for _ in 0..=table.len() {
        let Some(pid) = next else { return false };
        if marked.contains(&pid) {
            return true;
        }
        next = table.get(&pid).and_then(|stat| stat.parent);
    }
    false
}

fn ancestry(pid: Pid) -> Vec<Pid> {
    let mut ancestors = vec![pid];
    while let Some(parent) = ancestors.last().and_then(|pid| proc::stat(*pid)?.parent) {
        if ancestors.contains(&parent) {
            break;
        }
        ancestors.push(parent);
    }
    ancestors
}

fn is_alive(stat: &Stat) -> bool {
    !matches!(stat.state, b'Z' | b'X')
}
