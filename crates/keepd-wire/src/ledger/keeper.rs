//! What a keeper does with the cells of a slot: the table at the head of [`ledger`](super), as
//! functions.
//!
//! Each function makes its changes one by one, every one of them an exchange of the very value that
//! it read, in the order of the table. So a SIGKILL within one leaves what the next keeper
//! understands, and who loses a race looks again.

use std::fmt;

use keepd_model::{Exit, Generation, Instant, Pid, SpawnFailure};

use super::cell::{open_cell, seal_cell};
use super::identity::Identity;
use super::layout::{
    ANSWERED_OFFSET, CHUNKS_MAX, CHUNKS_OFFSET, SlotCell, SlotNumber, owner_cell, slots,
};
use super::ring::{self, ENTRIES, Entry, Put, Waiting};
use super::word::{Outcome, State, Word, WordError};

/// In the cell of overwritten outcomes: a generation was cancelled.
const CANCELLED_FLAG: u64 = 1 << 57;

/// The mapped part: cells of 64 bits, each of which changes at once or not at all.
///
/// Offsets are in bytes from the start of the file. Callers ask only for slots that the file has
/// ([`slot_count`]).
pub trait Cells {
    /// Reads a cell, and with it everything that was written before it.
    fn load(&self, offset: u64) -> u64;
    /// Writes a cell that has one writer.
    fn store(&self, offset: u64, value: u64);
    /// Replaces the expected value and no other. Reports whether it was there.
    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool;
}

/// Returns how many slots the file has; `None`: the number is damaged.
pub fn slot_count(cells: &impl Cells) -> Option<u32> {
    let chunks = u32::try_from(open_cell(cells.load(CHUNKS_OFFSET))?).ok()?;
    (chunks <= CHUNKS_MAX).then(|| slots(chunks))
}

/// Says that the file has so many chunks, once they are there.
pub fn set_chunks(cells: &impl Cells, chunks: u32) {
    cells.store(CHUNKS_OFFSET, seal_cell(u64::from(chunks)));
}

/// Returns the number of the last journal record whose command was answered; `None`: it is damaged.
pub fn answered(cells: &impl Cells) -> Option<u64> {
    open_cell(cells.load(ANSWERED_OFFSET))
}

/// Says that the command of this journal record is answered, after the append and before the
/// answer.
pub fn set_answered(cells: &impl Cells, record: u64) {
    cells.store(ANSWERED_OFFSET, seal_cell(record));
}

/// Returns which of the first `count` slots say that a process runs, and which.
pub fn slots_that_run<C: Cells>(
    cells: &C,
    count: u32,
) -> impl Iterator<Item = (SlotNumber, Generation, Pid)> {
    (0..count).map(SlotNumber).filter_map(|number| {
        match Slot::new(cells, number).word().ok()?.state() {
            State::Run(generation, pid) => Some((number, generation, pid)),
            State::Unused | State::Down(_) | State::Intent(_) | State::Over(..) => None,
        }
    })
}

/// Takes back every intent in the first `count` slots, when the parent of their children is dead
/// and before there is another one. Returns what was cancelled.
pub fn cancel_intents(cells: &impl Cells, count: u32) -> Vec<(SlotNumber, Generation)> {
    let cancel = |number| Some((number, Slot::new(cells, number).cancel()?));
    (0..count).map(SlotNumber).filter_map(cancel).collect()
}

/// The cells of one service.
#[derive(Debug)]
pub struct Slot<'c, C> {
    cells: &'c C,
    number: SlotNumber,
}

/// What a child needs for its record: the values that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intended {
    /// The word: the intent of this generation.
    pub intent: u64,
    /// The identity, which awaits this generation.
    pub awaited: u64,
}

/// Why a slot cannot be a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is another's, or was retired ([`Released::Retired`]).
    Taken,
    /// The word cannot be read.
    Word(WordError),
}

/// Why a generation cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntendError {
    /// The word cannot be read.
    Word(WordError),
    /// The generation before is not down, or is another one: this is what the word says.
    NotDown(State),
    /// As many ends of this service as there is room for wait for their acknowledgement.
    Full,
    /// No word has room for so high a generation.
    TooHigh,
}

/// Why no end was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// The word cannot be read.
    Word(WordError),
    /// The word is about another process, or about none: this is what it says.
    Other(State),
}

/// What is done with an outcome that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It stays in the word, so the service is not started again until there is room.
    Keep,
    /// The oldest is overwritten, and counted: for services whose ends nobody acknowledges.
    Overwrite,
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The word holds none.
    Nothing,
    /// It is in the ring, and the word says "down".
    Done {
        /// Of which generation.
        generation: Generation,
        /// The outcome.
        outcome: Outcome,
        /// What was lost for it.
        lost: Option<Lost>,
    },
    /// There is no room, and it stays in the word.
    Full(Generation),
    /// The word cannot be read.
    Unsure(WordError),
}

/// What an outcome was written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// An outcome that nobody had acknowledged.
    Outcome(Generation),
    /// Something that cannot be read.
    Damaged,
}

/// What became of a slot that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is all zeros, and may be another service's.
    Free,
    /// It is nobody's for ever: a generation of it was cancelled, and its child may go on at any
    /// time and look for an intent like its own.
    Retired,
    /// Something is not over, or cannot be read: it stays as it is.
    Busy,
}

impl<'c, C: Cells> Slot<'c, C> {
    /// Returns a slot that the file has.
    pub const fn new(cells: &'c C, number: SlotNumber) -> Self {
        Self { cells, number }
    }

    /// Returns its number.
    pub const fn number(&self) -> SlotNumber {
        self.number
    }

    /// Returns the word.
    ///
    /// # Errors
    ///
    /// It is damaged.
    pub fn word(&self) -> Result<Word, WordError> {
        Word::from_raw(self.load(SlotCell::Word))
    }

    /// Returns the identity of the process; `None`: it is damaged.
    pub fn identity(&self) -> Option<Identity> {
        Identity::from_raw(self.load(SlotCell::Identity))
    }

    /// Reports whether the slot is this service's.
    pub fn is_of(&self, service: &str) -> bool {
        self.load(SlotCell::Owner) == owner_cell(service)
    }

    /// Makes the slot a service's, after this stands in the journal. Doing it twice is doing it
    /// once.
    ///
    /// # Errors
    ///
    /// It is another's, or damaged.
    pub fn claim(&self, service: &str) -> Result<(), ClaimError> {
        if !self.exchange(SlotCell::Owner, 0, owner_cell(service)) && !self.is_of(service) {
            return Err(ClaimError::Taken);
        }
        let word = self.word().map_err(ClaimError::Word)?;
        if let Some(down) = word.claimed() {
            // Who was faster made the same of it.
            self.exchange(SlotCell::Word, word.raw(), down.raw());
        }
        Ok(())
    }

    /// Gives the slot back, after this stands in the journal. The owner goes last, so what a
    /// SIGKILL leaves half done is done again.
    pub fn release(&self) -> Released {
        let Ok(word) = self.word() else {
            return Released::Busy;
        };
        match word.state() {
            State::Unused => {}
            State::Down(_) => {
                if !self.exchange(SlotCell::Word, word.raw(), Word::UNUSED.raw()) {
                    return Released::Busy;
                }
            }
            State::Intent(_) | State::Run(..) | State::Over(..) => return Released::Busy,
        }
        let was_cancelled = self.has_cancelled();
        let entries =
            (0..ENTRIES).flat_map(|index| [SlotCell::EntryWord(index), SlotCell::EntryTime(index)]);
        for cell in entries.chain([SlotCell::Identity]) {
            self.store(cell, 0);
        }
        if was_cancelled {
            // No service has this owner: theirs is never zero.
            self.store(SlotCell::Owner, seal_cell(0));
            return Released::Retired;
        }
        self.store(SlotCell::Overwritten, 0);
        self.store(SlotCell::Owner, 0);
        Released::Free
    }

    /// Says that a generation is about to be cloned: down(g-1) → intent(g). Returns what its child
    /// needs for its record.
    ///
    /// # Errors
    ///
    /// Then nothing may be cloned.
    pub fn intend(&self, generation: Generation) -> Result<Intended, IntendError> {
        let word = self.word().map_err(IntendError::Word)?;
        match word.state() {
            State::Down(before) if before.next() == generation => {}
            other => return Err(IntendError::NotDown(other)),
        }
        let intent = word.intended().ok_or(IntendError::TooHigh)?.raw();
        let awaited = Identity::Awaited(generation).raw().ok_or(IntendError::TooHigh)?;
        let entry = SlotCell::EntryWord(ring::entry_of(generation));
        if !ring::has_room(self.load(entry), generation) {
            return Err(IntendError::Full);
        }
        self.replace(SlotCell::Identity, awaited);
        if self.exchange(SlotCell::Word, word.raw(), intent) {
            return Ok(Intended { intent, awaited });
        }
        let found = self.word().map_err(IntendError::Word)?;
        Err(IntendError::NotDown(found.state()))
    }

    /// Writes down when the child of this generation was started, in clock ticks since boot, where
    /// it cannot say who it is.
    pub fn note_start(&self, generation: Generation, start_ticks: u64) {
        let awaited = Identity::Awaited(generation).raw();
        let started = Identity::StartTicks(start_ticks).raw();
        if let (Some(awaited), Some(started)) = (awaited, started) {
            // Who said something of this generation before knew more.
            self.exchange(SlotCell::Identity, awaited, started);
        }
    }

    /// Says that a process has ended, before it is consumed: intent(g), run(g) → ended(g). Returns
    /// what the word holds now, which may be what the child or a warden said before.
    ///
    /// `pid`: of the process, where it is known; a run of another one stays. A word that still says
    /// "intent" is changed, too: so this is for the parent, or for who read "run" in the word.
    ///
    /// # Errors
    ///
    /// The word says nothing of this process.
    pub fn end(
        &self,
        generation: Generation,
        pid: Option<Pid>,
        exit: Exit,
    ) -> Result<Outcome, EndError> {
        self.finish(generation, pid, |word| word.ended(exit))
    }

    /// Says that no program of this generation will run: intent(g), run(g) → failed(g). For the
    /// parent. Returns what the word holds now.
    ///
    /// # Errors
    ///
    /// The word says nothing of this generation.
    pub fn fail(&self, generation: Generation, failure: SpawnFailure) -> Result<Outcome, EndError> {
        self.finish(generation, None, |word| word.failed(failure))
    }

    fn finish(
        &self,
        generation: Generation,
        pid: Option<Pid>,
        over: impl Fn(Word) -> Option<Word>,
    ) -> Result<Outcome, EndError> {
        loop {
            let word = self.word().map_err(EndError::Word)?;
            let state = word.state();
            let is_meant = word.generation() == generation
                && match state {
                    State::Run(_, found) => pid.is_none_or(|pid| pid == found),
                    State::Unused | State::Down(_) | State::Intent(_) | State::Over(..) => true,
                };
            match (state, over(word)) {
                (State::Over(_, outcome), _) if is_meant => return Ok(outcome),
                (_, Some(next)) if is_meant => {
                    self.exchange(SlotCell::Word, word.raw(), next.raw());
                }
                (_, _) => return Err(EndError::Other(state)),
            }
        }
    }

    /// Takes an intent back: intent(g) → cancelled(g), when the parent is dead and before there is
    /// another one. Its child, should there be one, ends before its program. Returns the generation
    /// that was cancelled.
    pub fn cancel(&self) -> Option<Generation> {
        loop {
            let word = self.word().ok()?;
            let cancelled = word.cancelled()?;
            // First, because the slot must not be another's afterwards (see `release`).
            self.note_cancelled();
            if self.exchange(SlotCell::Word, word.raw(), cancelled.raw()) {
                return Some(word.generation());
            }
        }
    }

    /// Moves the outcome in the word, if there is one, into the ring: ended, failed, cancelled(g) →
    /// down(g). `at`: when it ended; `None`: nobody can say.
    pub fn settle(&self, at: Option<Instant>, when_full: WhenFull) -> Settled {
        loop {
            let word = match self.word() {
                Ok(word) => word,
                Err(error) => return Settled::Unsure(error),
            };
            let (State::Over(generation, outcome), Some(down)) = (word.state(), word.settled())
            else {
                return Settled::Nothing;
            };
            let lost = match self.put(word, at, when_full) {
                PutResult::Done(lost) => lost,
                PutResult::Full => return Settled::Full(generation),
                PutResult::Raced => continue,
            };
            if self.exchange(SlotCell::Word, word.raw(), down.raw()) {
                return Settled::Done { generation, outcome, lost };
            }
        }
    }

    fn put(&self, word: Word, at: Option<Instant>, when_full: WhenFull) -> PutResult {
        let index = ring::entry_of(word.generation());
        let before = self.load(SlotCell::EntryWord(index));
        let (new, lost) = match ring::put(before, word) {
            Put::Done | Put::Nothing => return PutResult::Done(None),
            Put::Write(new) => (new, None),
            Put::Full(new) => match when_full {
                WhenFull::Keep => return PutResult::Full,
                WhenFull::Overwrite => {
                    let lost = Word::from_raw(before).map(Word::generation);
                    (new, Some(lost.map_or(Lost::Damaged, Lost::Outcome)))
                }
            },
            // What is there says nothing any more, so nothing more is lost.
            Put::Damaged(new) => (new, Some(Lost::Damaged)),
        };
        // Counted before it is gone: rather once too often than never.
        if lost.is_some() {
            self.count_overwritten();
        }
        self.replace(SlotCell::EntryTime(index), at.map_or(0, ring::time_cell));
        if self.exchange(SlotCell::EntryWord(index), before, new) {
            PutResult::Done(lost)
        } else {
            PutResult::Raced
        }
    }

    /// Says that the outcomes of this generation and of all before are known. What is still in the
    /// word is not: settle it first.
    pub fn acknowledge(&self, up_to: Generation) {
        for index in 0..ENTRIES {
            let cell = SlotCell::EntryWord(index);
            let raw = self.load(cell);
            let generation = Word::from_raw(raw).map_or(Generation::NONE, Word::generation);
            if generation <= up_to
                && let Some(known) = ring::acknowledged(raw, generation)
            {
                // Who was faster acknowledged it.
                self.exchange(cell, raw, known);
            }
        }
    }

    /// Returns what waits for its acknowledgement, oldest first, and the errors of damaged entries.
    pub fn waiting(&self) -> (Vec<Waiting>, Vec<WordError>) {
        let mut entries: [Entry; ENTRIES] = [(0, 0); ENTRIES];
        for (index, entry) in entries.iter_mut().enumerate() {
            *entry = (self.load(SlotCell::EntryWord(index)), self.load(SlotCell::EntryTime(index)));
        }
        ring::waiting(&entries)
    }

    /// Returns how many outcomes were overwritten before anybody acknowledged them; `None`: the
    /// number is damaged.
    pub fn overwritten(&self) -> Option<u64> {
        match self.load(SlotCell::Overwritten) {
            0 => Some(0),
            raw => Some(open_cell(raw)? & !CANCELLED_FLAG),
        }
    }

    fn count_overwritten(&self) {
        self.change_overwritten(|number| {
            let count = (number & !CANCELLED_FLAG).saturating_add(1).min(CANCELLED_FLAG - 1);
            count | number & CANCELLED_FLAG
        });
    }

    fn note_cancelled(&self) {
        self.change_overwritten(|number| number | CANCELLED_FLAG);
    }

    fn change_overwritten(&self, change: impl Fn(u64) -> u64) {
        loop {
            let raw = self.load(SlotCell::Overwritten);
            // A damaged number is worth nothing, but what it may hide is kept.
            let number = if raw == 0 { 0 } else { open_cell(raw).unwrap_or(CANCELLED_FLAG) };
            if self.exchange(SlotCell::Overwritten, raw, seal_cell(change(number))) {
                return;
            }
        }
    }

    fn has_cancelled(&self) -> bool {
        match self.load(SlotCell::Overwritten) {
            0 => false,
            raw => open_cell(raw).is_none_or(|number| number & CANCELLED_FLAG != 0),
        }
    }

    /// Writes a value over whatever is there.
    fn replace(&self, cell: SlotCell, new: u64) {
        while !self.exchange(cell, self.load(cell), new) {}
    }

    fn load(&self, cell: SlotCell) -> u64 {
        self.cells.load(self.number.offset(cell))
    }

    fn store(&self, cell: SlotCell, value: u64) {
        self.cells.store(self.number.offset(cell), value);
    }

    fn exchange(&self, cell: SlotCell, expected: u64, new: u64) -> bool {
        self.cells.exchange(self.number.offset(cell), expected, new)
    }
}

/// How an outcome got into its entry.
enum PutResult {
    Done(Option<Lost>),
    Full,
    /// Somebody changed the entry meanwhile.
    Raced,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => write!(formatter, "the slot is another service's"),
            Self::Word(error) => error.fmt(formatter),
        }
    }
}

impl fmt::Display for IntendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(error) => error.fmt(formatter),
            Self::NotDown(state) => {
                write!(formatter, "the ledger says: {state}")
            }
            Self::Full => {
                write!(formatter, "{ENTRIES} ends of it wait for their acknowledgement")
            }
            Self::TooHigh => write!(formatter, "it was started too often"),
        }
    }
}

impl fmt::Display for EndError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(error) => error.fmt(formatter),
            Self::Other(state) => {
                write!(formatter, "the ledger does not say that it runs: {state}")
            }
        }
    }
}

impl std::error::Error for ClaimError {}
impl std::error::Error for IntendError {}
impl std::error::Error for EndError {}

#[cfg(test)]
mod tests;
