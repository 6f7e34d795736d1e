//! The ledger of this proxy: the cells and the journal of its run folder, so that a successor finds
//! what runs, what ended how, and what was asked for.
//!
//! The format and the order of changes are `keepd_wire::ledger`; this is the half that has a file,
//! and that knows which slot is whose. `open` makes the files or takes over those of a predecessor,
//! `journal` appends to one of them, `cells` is the other, `lines` is what its records say.
//!
//! Nothing here waits, and nothing here tells the machine anything.

mod cells;
mod journal;
mod lines;
mod open;

use std::collections::HashMap;
use std::path::PathBuf;

use keepd_engine::proxy::Fact;
use keepd_model::{Errno, Exit, Generation, Instant, Pid, ServiceName, SpawnFailure, SpawnStep};
use keepd_os::ledger::ChildRecord;
use keepd_os::proc;
use keepd_wire::ledger::journal::{Record, TEXT_BYTES_MAX, TooLong};
use keepd_wire::ledger::keeper::{
    ClaimError, EndError, IntendError, Intended, Released, Settled, Slot, WhenFull,
};
use keepd_wire::ledger::layout::{SlotCell, SlotNumber};
use keepd_wire::ledger::{BootId, Outcome, Scope, State, failed_word, inode_cell, run_word};

pub(crate) use cells::MappedCells;
pub(crate) use open::{LedgerError, Resumed, make, resume};

use journal::Journal;

/// While nothing can be appended, no more than this is kept: starts are refused then, and what
/// would be noted of them is worth nothing.
const PENDING_BYTES_MAX: usize = TEXT_BYTES_MAX;
/// Resource temporarily unavailable.
const EAGAIN: Errno = Errno(11);
/// Device or resource busy.
const EBUSY: Errno = Errno(16);
/// No space left on device.
const ENOSPC: Errno = Errno(28);
/// Value too large.
const EOVERFLOW: Errno = Errno(75);
/// Input/output error: what was read makes no sense.
const EIO: Errno = Errno(5);

/// Whose the files are.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    pub(crate) boot: BootId,
    pub(crate) instance: String,
}

impl Whose {
    fn scope(&self) -> Scope<'_> {
        Scope { boot: self.boot, instance: &self.instance }
    }
}

/// The ledger, while this process is the proxy.
pub(crate) struct Ledger {
    whose: Whose,
    folder: PathBuf,
    cells: MappedCells,
    journal: Journal,
    /// The configuration was read to its end.
    is_configured: bool,
    slots: HashMap<ServiceName, SlotNumber>,
    /// Slots of nobody, all zeros. The last is taken first.
    free: Vec<SlotNumber>,
    /// Given back in the journal, and to be cleared once that is appended.
    given_back: Vec<SlotNumber>,
    /// Whose word says "run", by process.
    runs: HashMap<Pid, Run>,
    has_inodes: bool,
}

/// One generation, in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) slot: SlotNumber,
    pub(crate) generation: Generation,
}

/// A start that was written down, and whose child may be cloned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intent {
    run: Run,
    intended: Intended,
}

/// Why nothing is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As for any step that fails.
    pub(crate) failure: SpawnFailure,
    /// One sentence.
    pub(crate) why: String,
}

impl Ledger {
    /// Notes a fact for a successor. It is in the file after the next [`Ledger::flush`].
    ///
    /// # Errors
    ///
    /// No record has room for it; then it is not noted.
    pub(crate) fn record(&mut self, fact: &Fact) -> Result<(), TooLong> {
        let is_of_a_start = matches!(fact, Fact::Event(_));
        if is_of_a_start && self.journal.pending_bytes() > PENDING_BYTES_MAX {
            return Ok(());
        }
        self.journal.note(&lines::record_of(fact, &lines::write(fact)))
    }

    /// Notes that the configuration was read, and need not be read again.
    pub(crate) fn note_configured(&mut self) {
        if !std::mem::replace(&mut self.is_configured, true) {
            let noted = self.journal.note(&Record::Command(lines::CONFIGURED));
            noted.expect("a short remark has room");
        }
    }

    /// Appends everything that was noted: before any answer, and before any start.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be. It is kept for the next call.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        self.journal.flush(&self.cells)?;
        while let Some(number) = self.given_back.pop() {
            match Slot::new(&self.cells, number).release() {
                Released::Free => self.free.push(number),
                // Nobody takes it again, now or after us.
                Released::Retired | Released::Busy => {}
            }
        }
        Ok(())
    }

    /// Makes room for whatever a line of this length may define. Returns why there is none.
    pub(crate) fn make_room(&mut self, line_bytes: usize) -> Result<(), Errno> {
        self.journal.make_room(line_bytes)
    }

    /// Reports whether most of the journal does not hold any more.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.journal.wants_compaction()
    }

    /// Replaces the journal by one with these facts, which are all that hold.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be; then the one that there is goes on.
    pub(crate) fn compact(&mut self, facts: impl Iterator<Item = Fact>) -> Result<(), Errno> {
        self.flush()?;
        let facts: Vec<(Vec<u8>, Fact)> = facts.map(|fact| (lines::write(&fact), fact)).collect();
        let mut records = Vec::new();
        if self.is_configured {
            records.push(Record::Command(lines::CONFIGURED));
        }
        records.extend(facts.iter().map(|(line, fact)| lines::record_of(fact, line)));
        let slots = self.slots.iter();
        records.extend(slots.map(|(name, number)| Record::Slot(*number, name.as_str())));
        self.journal.compact(&self.cells, &self.whose.scope(), &records)
    }

    /// Writes down that this generation is about to be cloned, after everything that it follows
    /// from.
    ///
    /// # Errors
    ///
    /// Then nothing may be cloned.
    pub(crate) fn intend(
        &mut self,
        name: &ServiceName,
        generation: Generation,
    ) -> Result<Intent, Refusal> {
        let slot = self.slot_for(name)?;
        if let Err(errno) = self.flush() {
            // The generation is used up all the same, as it is in the machine.
            if let Ok(intent) = self.intend_in(slot, generation) {
                self.note_failed(&intent, refusal(errno, "").failure, None);
            }
            return Err(refusal(errno, format_args!("cannot write the journal: {errno}")));
        }
        self.claim(slot, name)?;
        self.intend_in(slot, generation)
    }

    /// Returns the slot of a service; one that is new is noted first.
    fn slot_for(&mut self, name: &ServiceName) -> Result<SlotNumber, Refusal> {
        if let Some(number) = self.slots.get(name) {
            return Ok(*number);
        }
        if self.free.is_empty() {
            let before = self.cells.slot_count();
            self.cells.grow().map_err(|errno| {
                refusal(errno, format_args!("cannot make the ledger longer: {errno}"))
            })?;
            self.free.extend((before..self.cells.slot_count()).rev().map(SlotNumber));
        }
        let number = self.free.pop().ok_or_else(|| refusal(ENOSPC, "the ledger is full"))?;
        let noted = self.journal.note(&Record::Slot(number, name.as_str()));
        noted.expect("the name of a service has room");
        self.slots.insert(name.clone(), number);
        Ok(number)
    }

    /// Makes a slot that the journal gives to this service its own.
    ///
    /// # Errors
    ///
    /// It is another's, or damaged.
    pub(crate) fn claim(&self, slot: SlotNumber, name: &ServiceName) -> Result<(), Refusal> {
        let slot = self.slot(slot);
        if slot.is_of(name.as_str()) {
            return Ok(());
        }
        slot.claim(name.as_str()).map_err(|error| match error {
            ClaimError::Taken | ClaimError::Word(_) => {
                refusal(EIO, format_args!("cannot use the ledger for \"{name}\": {error}"))
            }
        })
    }

    fn intend_in(&mut self, slot: SlotNumber, generation: Generation) -> Result<Intent, Refusal> {
        self.use_up(slot, generation);
        let run = Run { slot, generation };
        match self.slot(slot).intend(generation) {
            Ok(intended) => Ok(Intent { run, intended }),
            Err(error) => {
                let errno = match error {
                    IntendError::Full => EAGAIN,
                    IntendError::NotDown(_) => EBUSY,
                    IntendError::TooHigh => EOVERFLOW,
                    IntendError::Word(_) => EIO,
                };
                Err(refusal(errno, format_args!("cannot start generation {generation}: {error}")))
            }
        }
    }

    /// Uses up generations that failed before they could be written down, because there was no
    /// slot: everybody was told of them.
    fn use_up(&mut self, slot: SlotNumber, until: Generation) {
        while let Ok(State::Down(before)) = self.slot(slot).word().map(|word| word.state()) {
            let missed = before.next();
            if missed >= until || self.slot(slot).intend(missed).is_err() {
                return;
            }
            let failure = SpawnFailure { step: SpawnStep::Prepare, errno: ENOSPC };
            // It is about this very generation, so it can be ended and acknowledged.
            let _ = self.slot(slot).fail(missed, failure);
            self.slot(slot).settle(None, WhenFull::Overwrite);
            self.slot(slot).acknowledge(missed);
        }
    }

    /// Returns what the child of a start needs to record itself.
    pub(crate) fn child_record(&self, intent: &Intent) -> ChildRecord<'_> {
        let Intent { run: Run { slot, .. }, intended } = *intent;
        ChildRecord {
            word: self.cells.cell_of(slot, SlotCell::Word),
            identity: self.cells.cell_of(slot, SlotCell::Identity),
            intent: intended.intent,
            awaited: intended.awaited,
            has_inodes: self.has_inodes,
            run_word,
            failed_word,
            inode_cell,
        }
    }

    /// The child was cloned.
    pub(crate) fn note_child(&mut self, intent: &Intent, pid: Pid) {
        self.runs.insert(pid, intent.run);
        if !self.has_inodes
            && let Some(ticks) = proc::start_ticks(pid)
        {
            self.slot(intent.run.slot).note_start(intent.run.generation, ticks);
        }
    }

    /// There is no child, because of this.
    pub(crate) fn note_failed(
        &mut self,
        intent: &Intent,
        failure: SpawnFailure,
        now: Option<Instant>,
    ) {
        // Nobody but us writes into a word whose child was never made.
        let _ = self.slot(intent.run.slot).fail(intent.run.generation, failure);
        self.slot(intent.run.slot).settle(now, WhenFull::Overwrite);
    }

    /// Returns the run of a process, if it is of a service.
    pub(crate) fn run_of(&self, pid: Pid) -> Option<Run> {
        self.runs.get(&pid).copied()
    }

    /// Writes down how a process of a service ended, before it is consumed. Returns what the word
    /// says now, which may be what somebody else said before.
    ///
    /// # Errors
    ///
    /// The word is about something else.
    pub(crate) fn end(&self, run: Run, pid: Pid, exit: Exit) -> Result<Outcome, EndError> {
        self.slot(run.slot).end(run.generation, Some(pid), exit)
    }

    /// Returns what the word says of a generation that is over; `None`: it is not, or the word is
    /// about another one.
    pub(crate) fn outcome(&self, run: Run) -> Option<Outcome> {
        match self.slot(run.slot).word().ok()?.state() {
            State::Over(generation, outcome) if generation == run.generation => Some(outcome),
            State::Unused
            | State::Down(_)
            | State::Intent(_)
            | State::Run(..)
            | State::Over(..) => None,
        }
    }

    /// The end of a process was recorded, and it is consumed: keeps the outcome until somebody
    /// acknowledges it.
    pub(crate) fn settle(&mut self, run: Run, pid: Pid, at: Option<Instant>) -> Settled {
        self.runs.remove(&pid);
        self.slot(run.slot).settle(at, WhenFull::Overwrite)
    }

    /// A process that a predecessor started is a service's.
    pub(crate) fn adopt(&mut self, pid: Pid, run: Run) {
        self.runs.insert(pid, run);
    }

    /// The ends of this generation and of all before are known.
    pub(crate) fn acknowledge(&self, name: &ServiceName, generation: Generation) {
        if let Some(number) = self.slots.get(name) {
            self.slot(*number).acknowledge(generation);
        }
    }

    /// The service is no more: its slot is free for others once that is written down.
    pub(crate) fn forget(&mut self, name: &ServiceName) {
        if let Some(number) = self.slots.remove(name) {
            let noted = self.journal.note(&Record::Freed(number));
            noted.expect("a number has room");
            self.given_back.push(number);
        }
    }

    /// Returns a slot that the file has.
    pub(crate) fn slot(&self, number: SlotNumber) -> Slot<'_, MappedCells> {
        Slot::new(&self.cells, number)
    }

    /// Removes both files: whoever comes next begins anew.
    pub(crate) fn remove(&self) {
        open::remove(&self.folder);
    }

    /// Returns the slot of a service, if it has one.
    pub(crate) fn slot_of(&self, name: &ServiceName) -> Option<SlotNumber> {
        self.slots.get(name).copied()
    }

    /// Returns every service that has a slot, in no order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (&ServiceName, SlotNumber)> {
        self.slots.iter().map(|(name, number)| (name, *number))
    }
}

fn refusal(errno: Errno, why: impl std::fmt::Display) -> Refusal {
    let failure = SpawnFailure { step: SpawnStep::Prepare, errno };
    Refusal { failure, why: why.to_string() }
}

#[cfg(test)]
mod tests;
