//! The weaker way to find what a service started, for where no control group can be made.
//!
//! Processes are known by a variable that only this start of the service has, by their parents, and
//! by their session, as far as orphans are reparented to us. A process that cleared its
//! environment, lost its parent *and* made a session of its own is not found.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use keepd_model::{Errno, Pid, Signal};
use rustix::io::fcntl_dupfd_cloexec;

use crate::proc::{self, Stat};
use crate::{errno, pidfd, process, spare};

/// What the processes of one start have in common.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// `KEY=VALUE` in the environment.
    pub entry: &'a [u8],
    /// The process that was started, in a session of its own.
    pub leader: Option<Leader>,
}

/// A process that leads a session, known for good: numbers are used again, but not within a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pid: Pid,
    start_ticks: u64,
}

impl Leader {
    /// Takes down a child of ours that is not reaped yet. `None` if it cannot be read.
    pub fn of_child(pid: Pid) -> Option<Self> {
        Some(Self { pid, start_ticks: proc::start_ticks(pid)? })
    }
}

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
    let found = processes_marked_each(&[Mark { entry, leader: None }])?;
    Ok(found.into_iter().flatten().collect())
}

/// [`processes_marked`] for many marks at once, for the costs of one; the answers are in the order
/// of the marks. With a leader, it and the orphans of its session that came to us belong to them,
/// too, whatever their environment says by now (many servers write their titles over it).
///
/// Fails if it finds some and can hold none of them, and with ENOMEM if there is no memory for a
/// table of every process.
pub fn processes_marked_each(marks: &[Mark<'_>]) -> Result<Vec<Vec<Process>>, Errno> {
    let _room = spare::lend();
    let pids = proc::all()?;
    let mut table = HashMap::new();
    let mut start_ticks = HashMap::new();
    // As large as the machine is busy: not a matter of what was kept back for bad times. Who cannot
    // look now looks again.
    let no_memory = |_| Errno::ENOMEM;
    table.try_reserve(pids.len()).map_err(no_memory)?;
    start_ticks.try_reserve(pids.len()).map_err(no_memory)?;
    for pid in pids {
        if let Some(stat) = proc::stat(pid) {
            // A zombie, too, says whose its number is.
            start_ticks.insert(pid, stat.start_ticks);
            if is_alive(&stat) {
                table.insert(pid, stat);
            }
        }
    }
    for ours in ancestry(process::id()) {
        table.remove(&ours);
    }
    let positions: HashMap<&[u8], usize> = marks.iter().map(|mark| mark.entry).zip(0..).collect();
    let mut marked = vec![HashSet::new(); marks.len()];
    for pid in table.keys() {
        for position in proc::environment_positions(*pid, &positions) {
            marked[position].insert(*pid);
        }
    }
    let us = process::id();
    let mut found = Vec::with_capacity(marks.len());
    for (mark, marked) in marks.iter().zip(marked) {
        let mut roots = marked.clone();
        // If the leader's number belongs to another process by now, so may the session's.
        let leader = mark.leader.filter(|leader| {
            start_ticks.get(&leader.pid).is_none_or(|ticks| *ticks == leader.start_ticks)
        });
        if let Some(leader) = leader {
            let orphan = |stat: &Stat| stat.session == Some(leader.pid) && stat.parent == Some(us);
            let of_session = table.iter().filter(|(pid, stat)| **pid == leader.pid || orphan(stat));
            roots.extend(of_session.map(|(pid, _)| *pid));
        }
        let mut held = Vec::new();
        let mut refused = None;
        let family = table.iter().filter(|(pid, _)| descends(**pid, &table, &roots));
        for (pid, stat) in family.filter(|_| !roots.is_empty()) {
            match hold(*pid, stat, marked.contains(pid).then_some(mark.entry)) {
                Ok(process) => held.extend(process),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if held.is_empty() => return Err(error),
            // Those that are held can be signalled; the next look finds the others.
            Some(_) | None => found.push(held),
        }
    }
    Ok(found)
}

/// Reads `/proc`: returns every live child of this process but these, orphans that were reparented
/// to it included.
pub fn children(except: &[Leader]) -> Result<Vec<Process>, Errno> {
    let us = process::id();
    let child = |pid: Pid| {
        let stat = proc::stat(pid).filter(|stat| is_alive(stat) && stat.parent == Some(us))?;
        let known = Leader { pid, start_ticks: stat.start_ticks };
        if except.contains(&known) { None } else { hold(pid, &stat, None).ok().flatten() }
    };
    Ok(proc::all()?.into_iter().filter_map(child).collect())
}

/// Which processes of ours [`signal_family`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Our children, orphans that were reparented to us included.
    Children,
    /// The same, and all who descend from them.
    Descendants,
}

/// Who was found already, over several calls of [`signal_family`].
#[derive(Clone, Debug, Default)]
pub struct Found(HashSet<(Pid, u64)>);

/// Reads `/proc`, and signals every live process of our family that was not found before.
///
/// Who forks meanwhile may be missed. Older processes come first, so that a parent does not replace
/// a child before it knows. What it must not signal (EPERM) it leaves alone.
pub fn signal_family(kin: Kin, signals: &[Signal], found: &mut Found) -> Result<(), Errno> {
    let stats = proc::all()?.into_iter().filter_map(|pid| Some((pid, proc::stat(pid)?)));
    let mut table: HashMap<Pid, Stat> = stats.filter(|(_, stat)| is_alive(stat)).collect();
    let us = process::id();
    table.remove(&us);
    let roots = table.iter().filter(|(_, stat)| stat.parent == Some(us)).map(|(pid, _)| *pid);
    let roots: HashSet<Pid> = roots.collect();
    let family = table.iter().filter(|(pid, _)| match kin {
        Kin::Children => roots.contains(*pid),
        Kin::Descendants => descends(**pid, &table, &roots),
    });
    let mut family: Vec<(&Pid, &Stat)> = family.collect();
    family.sort_by_key(|(pid, stat)| (stat.start_ticks, **pid));
    for (pid, stat) in family {
        // One after the other: there may be more of them than we may have descriptors.
        let Ok(Some(process)) = hold(*pid, stat, None) else { continue };
        if found.0.insert((*pid, stat.start_ticks)) {
            for signal in signals {
                // It may have ended by itself, or be another user's.
                let _ = process.signal(*signal);
            }
        }
    }
    Ok(())
}

/// Takes hold of a process and makes sure that it still is the one that was looked at. Fails if
/// there is no descriptor to hold it by, which says nothing about the process.
fn hold(pid: Pid, before: &Stat, entry: Option<&[u8]>) -> Result<Option<Process>, Errno> {
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        Err(error @ (Errno::EMFILE | Errno::ENFILE)) => return Err(error),
        Err(_) => return Ok(None),
    };
    // To look at it again takes another descriptor, and a look that cannot be made says nothing.
    drop(fcntl_dupfd_cloexec(&pidfd, 0).map_err(errno::from_rustix)?);
    let Some(now) = proc::stat(pid).filter(is_alive) else {
        return Ok(None);
    };
    let same = now.start_ticks == before.start_ticks
        && match entry {
            Some(entry) => proc::environment_has(pid, entry),
            // Two starts within one tick could look alike; the same parent makes it the same family
            // at least.
            None => now.parent == before.parent,
        };
    Ok(same.then_some(Process { pid, pidfd }))
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
