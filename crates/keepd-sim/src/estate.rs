//! What outlives a proxy: the lines of its journal, and what the ledger says of each service.
//!
//! The bytes of journal and ledger are in the other world, [`recovery`](crate::recovery). Here they
//! are what they say.

use std::collections::BTreeMap;

use keepd_engine::proxy::{AdoptedRun, EndedRun, Fact};
use keepd_model::protocol::{Command, Message, Request, RequestId, RunEnd};
use keepd_model::{Generation, Instant, Pid, ServiceName};
use keepd_wire::{decode_message, decode_request, encode_message, encode_request};

/// Ends that wait for somebody who acknowledges them, of one service at most.
const WAITING_MAX: usize = 16;
/// A journal of more lines is replaced by a snapshot.
pub(crate) const LINES_MAX: usize = 600;

/// One line of the journal.
#[derive(Clone, Debug)]
enum Written {
    Command(Vec<u8>),
    Event(Vec<u8>),
}

/// What the ledger says of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) generation: Generation,
    pub(crate) running: Option<Running>,
    waiting: Vec<EndedRun>,
}

/// A generation that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pub(crate) started: Instant,
    /// Its parent was lost: its error pipe is read by nobody.
    pub(crate) is_foreign: bool,
}

/// Journal and ledger.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    journal: Vec<Written>,
    /// Not in the journal yet.
    unwritten: Vec<Fact>,
    slots: BTreeMap<ServiceName, Slot>,
}

impl Estate {
    pub(crate) fn note(&mut self, fact: Fact) {
        self.unwritten.push(fact);
    }

    /// Appends what was noted. Returns whether the journal has become long.
    pub(crate) fn write(&mut self) -> bool {
        let lines = std::mem::take(&mut self.unwritten);
        self.journal.extend(lines.iter().map(written));
        self.journal.len() > LINES_MAX
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// A SIGKILL in the middle of the append leaves so many whole lines of it. Returns the rest.
    pub(crate) fn tear(&mut self, whole: usize) -> Vec<Fact> {
        let torn = self.unwritten.split_off(whole);
        self.write();
        torn
    }

    pub(crate) fn unwritten_len(&self) -> usize {
        self.unwritten.len()
    }

    /// Replaces the journal.
    pub(crate) fn compact(&mut self, facts: impl Iterator<Item = Fact>) {
        self.journal = facts.map(|fact| written(&fact)).collect();
    }

    /// Reads the journal; `None` stands for a line that cannot be read.
    pub(crate) fn facts(&self) -> Vec<Option<Fact>> {
        self.journal.iter().map(read).collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.slots.keys()
    }

    /// A generation is about to be cloned. Reports whether its end will have room.
    pub(crate) fn intend(&mut self, name: &ServiceName, generation: Generation) -> bool {
        let slot = self.slots.entry(name.clone()).or_default();
        slot.generation = generation;
        slot.waiting.len() < WAITING_MAX
    }

    /// It runs.
    pub(crate) fn begin(&mut self, name: &ServiceName, pid: Pid, started: Instant) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.running = Some(Running { pid, started, is_foreign: false });
        }
    }

    /// The last generation of a service is over.
    pub(crate) fn end(&mut self, name: &ServiceName, end: RunEnd, at: Option<Instant>) {
        if let Some(slot) = self.slots.get_mut(name) {
            let generation = slot.generation;
            slot.running = None;
            slot.waiting.push(EndedRun { generation, end, at });
        }
    }

    /// Returns whose main process this is, by the ledger.
    pub(crate) fn owner_of(&self, pid: Pid) -> Option<(&ServiceName, Generation, Running)> {
        self.slots.iter().find_map(|(name, slot)| {
            let running = slot.running.filter(|running| running.pid == pid)?;
            Some((name, slot.generation, running))
        })
    }

    /// Those that run, from here on as somebody else's children.
    pub(crate) fn orphan(&mut self) -> Vec<(ServiceName, Generation, Running)> {
        let mut orphans = Vec::new();
        for (name, slot) in &mut self.slots {
            if let Some(running) = &mut slot.running {
                running.is_foreign = true;
                orphans.push((name.clone(), slot.generation, *running));
            }
        }
        orphans
    }

    pub(crate) fn acknowledge(&mut self, name: &ServiceName, up_to: Generation) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.waiting.retain(|ended| ended.generation > up_to);
        }
    }

    pub(crate) fn forget(&mut self, name: &ServiceName) {
        self.slots.remove(name);
    }

    /// Returns what a successor is told of a service.
    pub(crate) fn adopted(
        &self,
        name: &ServiceName,
        leaf: bool,
    ) -> (Generation, AdoptedRun, Vec<EndedRun>) {
        let Some(slot) = self.slots.get(name) else {
            return (Generation::NONE, AdoptedRun::Known, Vec::new());
        };
        let mut ends = slot.waiting.clone();
        let last = ends.pop_if(|ended| ended.generation == slot.generation);
        let run = match (slot.running, last) {
            (Some(Running { pid, started, .. }), _) => AdoptedRun::Running { pid, started, leaf },
            (None, Some(ended)) => AdoptedRun::Ended { ended, leaf },
            (None, None) => AdoptedRun::Known,
        };
        (slot.generation, run, ends)
    }
}

fn written(fact: &Fact) -> Written {
    let mut line = Vec::new();
    match fact {
        Fact::Command(command) => {
            encode_request(&Request::Numbered(RequestId(0), command.clone()), &mut line);
            line.pop();
            Written::Command(line)
        }
        Fact::Event(event) => {
            encode_message(&Message::Event(event.clone()), &mut line);
            line.pop();
            Written::Event(line)
        }
    }
}

fn read(written: &Written) -> Option<Fact> {
    match written {
        Written::Command(line) => match decode_request(line) {
            Ok(Some(Request::Numbered(_, command))) => Some(Fact::Command(command)),
            Ok(Some(Request::Unnumbered(_)) | None) | Err(_) => None,
        },
        Written::Event(line) => match decode_message(line) {
            Ok(Some(Message::Event(event))) => Some(Fact::Event(event)),
            Ok(_) | Err(_) => None,
        },
    }
}

/// Reports whether a fact is the same whatever the last generation is.
pub(crate) fn says_more_than_generations(fact: &Fact) -> bool {
    match fact {
        Fact::Event(_) => false,
        Fact::Command(command) => {
            !matches!(command, Command::ServiceStart { .. } | Command::ServiceStop { .. })
        }
    }
}
