//! Processes that a predecessor started: not our children, so they are held, watched and signalled
//! by pidfd, and somebody else consumes them.
//!
//! Who consumes one of them is the warden, which writes down how it ended before; or, where nobody
//! of ours is its parent any more, init. That may take its time, or never happen: then the zombie
//! says how it ended, and otherwise the kernel does once it is consumed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use keepd_engine::proxy::{Input, Owner, SpawnOutcome};
use keepd_model::{Errno, Exit, Instant, Pid, ServiceName, Signal};
use keepd_os::epoll::Epoll;
use keepd_os::ledger::{Presence, examine};
use keepd_os::pidfd;
use keepd_wire::ledger::Outcome;

use crate::adopt::is_a_keeper;
use crate::holder::Held;
use crate::ledger::{Ledger, Run};
use crate::run::Shell;
use crate::token::Token;

/// From one look at a process that has ended, and is not consumed, to the next. Linux before 6.9
/// does not tell when that happens.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// Every process that was adopted and has not ended.
#[derive(Default)]
pub(crate) struct Foreign {
    processes: BTreeMap<Pid, Process>,
}

struct Process {
    name: ServiceName,
    run: Run,
    /// The warden has a copy, if neither it nor we are the parent.
    pidfd: Held,
    /// When it is looked at again, and how long after that once more: it has ended, and is waited
    /// for by somebody else.
    look: Option<(Instant, Duration)>,
}

/// What a look at a process brought.
enum Look {
    /// It is over.
    Over(Outcome),
    /// Somebody has yet to consume it, or it is alive.
    Later,
}

impl Foreign {
    /// Holds a process, and waits for its end.
    pub(crate) fn add(
        &mut self,
        epoll: &Epoll,
        pid: Pid,
        name: ServiceName,
        run: Run,
        pidfd: Held,
        now: Instant,
    ) {
        // Without a place in the set it is looked at from time to time.
        let added = epoll.add_edge(&pidfd, Token::Foreign(pid.get().into()).into());
        let look = added.is_err().then_some((now, LOOK_MAX));
        self.processes.insert(pid, Process { name, run, pidfd, look });
    }

    /// Returns when the next look is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.processes.values().filter_map(|process| process.look).map(|(at, _)| at).min()
    }

    /// Signals a process of a predecessor; `None`: it is none.
    pub(crate) fn signal(&self, pid: Pid, signal: Signal) -> Option<Result<(), Errno>> {
        let process = self.processes.get(&pid)?;
        Some(pidfd::send(&process.pidfd, signal))
    }

    /// Signals a process of a predecessor, or its process group; `None`: it is none.
    pub(crate) fn signal_number(
        &self,
        pid: Pid,
        number: u16,
        to_group: bool,
    ) -> Option<Result<(), Errno>> {
        let process = self.processes.get(&pid)?;
        Some(pidfd::send_number(&process.pidfd, pid, number, to_group))
    }

    /// Returns the pidfd of a process of a predecessor.
    pub(crate) fn pidfd(&self, pid: Pid) -> Option<BorrowedFd<'_>> {
        self.processes.get(&pid).map(|process| process.pidfd.as_fd())
    }

    fn has(&self, pid: Pid) -> bool {
        self.processes.contains_key(&pid)
    }

    fn due(&self, now: Instant) -> Vec<Pid> {
        let is_due = |process: &Process| process.look.is_some_and(|(at, _)| at <= now);
        self.processes.iter().filter(|(_, process)| is_due(process)).map(|(pid, _)| *pid).collect()
    }

    /// Looks at a process of which there is news.
    fn look(&mut self, ledger: &Ledger, pid: Pid, now: Instant) -> Option<Look> {
        let process = self.processes.get_mut(&pid)?;
        // In this order: whoever of ours consumes it has written the word before.
        let presence = examine(&process.pidfd, pid);
        if let Some(outcome) = ledger.outcome(process.run) {
            return Some(Look::Over(outcome));
        }
        if let Some(exit) = known_end(presence) {
            // A word that is about something else says nothing of this process.
            let outcome = ledger.end(process.run, pid, exit).unwrap_or(Outcome::Ended(exit));
            return Some(Look::Over(outcome));
        }
        let interval = process.look.map_or(LOOK_MIN, |(_, next)| next);
        process.look = Some((now.saturating_add(interval), (interval * 2).min(LOOK_MAX)));
        Some(Look::Later)
    }

    fn remove(&mut self, epoll: &Epoll, pid: Pid) -> Option<(ServiceName, Run)> {
        let Process { name, run, pidfd, .. } = self.processes.remove(&pid)?;
        let _ = epoll.remove(&pidfd);
        Some((name, run))
    }
}

/// Returns how a process ended of which nobody of ours will write that down; `None`: it is alive,
/// or somebody will, or it cannot be told yet.
fn known_end(presence: Result<Presence, Errno>) -> Option<Exit> {
    match presence {
        Ok(Presence::Gone { exit }) => Some(exit.unwrap_or(Exit::Unknown)),
        // Who consumes it is no keeper. Nobody else gets its number before, and the word does not
        // name it any more after this.
        Ok(Presence::Zombie { parent, exit, .. }) => exit.filter(|_| !is_a_keeper(parent)),
        Ok(Presence::Alive { .. }) | Err(_) => None,
    }
}

impl Shell {
    /// A child was made that has this number. Whoever had it before has ended and is consumed, and
    /// if nobody was told that yet, it is told now: a number is of one process at a time. What
    /// follows from that end waits until the child is told, too.
    pub(crate) fn end_before_child(&mut self, pid: Pid) {
        if self.foreign.has(pid) {
            self.is_work_held = true;
            self.hear_foreign(&[pid]);
            self.is_work_held = false;
        }
    }

    /// Tells the ends of processes that a predecessor started.
    pub(crate) fn hear_foreign(&mut self, heard: &[Pid]) {
        let due = self.foreign.due(self.now.monotonic);
        for pid in heard.iter().copied().chain(due) {
            let Some(ledger) = &mut self.ledger else {
                return;
            };
            let now = self.now.monotonic;
            let Some(Look::Over(outcome)) = self.foreign.look(ledger, pid, now) else {
                continue;
            };
            let Some((name, run)) = self.foreign.remove(&self.epoll, pid) else {
                continue;
            };
            let settled = ledger.settle(run, pid, Some(now));
            self.say_settled(pid, settled);
            self.tell_outcome(&name, run, pid, outcome);
        }
    }

    /// Tells the end of a process, as its word says.
    pub(crate) fn tell_outcome(
        &mut self,
        name: &ServiceName,
        run: Run,
        pid: Pid,
        outcome: Outcome,
    ) {
        let exit = match outcome {
            Outcome::Ended(exit) => exit,
            Outcome::Failed(failure) => {
                let owner = Owner::Service(name.clone(), run.generation);
                self.tell(Input::Report { owner, outcome: SpawnOutcome::Failed(failure) });
                Exit::Unknown
            }
            // It recorded itself, so nobody could cancel it.
            Outcome::Cancelled => Exit::Unknown,
        };
        self.tell_end(pid, exit);
    }
}

#[cfg(test)]
mod tests;
