//! The ring of a slot: outcomes that nobody has acknowledged yet.
//!
//! It has [`ENTRIES`] entries of two cells: a word and the time of the end. The outcome of
//! generation g has entry `g % 16` and no other, so it can be put there twice and is there once. An
//! entry holds, in this order: nothing, an outcome of g, "acknowledged" (down(g)), an outcome of
//! g + 16, … Its generation never goes back.

use keepd_model::{Generation, Instant};

use super::cell::{CELL_NUMBER_MAX, open_cell, seal_cell};
use super::word::{Outcome, State, Word, WordError};

/// How many outcomes of one service may wait for their acknowledgement.
pub const ENTRIES: usize = 16;

/// One entry as it was read: the word and the time.
pub type Entry = (u64, u64);

/// An outcome that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Of which generation.
    pub generation: Generation,
    /// What became of it.
    pub outcome: Outcome,
    /// When it ended. `None`: nobody can say.
    pub time: Option<Instant>,
}

/// How an outcome gets into its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Put {
    /// Write the time, then replace the word that was read by this one.
    Write(u64),
    /// It is there, or was acknowledged already.
    Done,
    /// What is there was not acknowledged. Only for services whose ends nobody acknowledges it may
    /// be overwritten by this word, and counted.
    Full(u64),
    /// What is there is damaged: an outcome may be lost. It may be overwritten by this word, and
    /// said.
    Damaged(u64),
    /// The word that was to be put there holds no outcome.
    Nothing,
}

/// Returns which entry belongs to a generation.
pub const fn entry_of(generation: Generation) -> usize {
    (generation.get() % ENTRIES as u64) as usize
}

/// Returns the cell with the time of an end.
pub fn time_cell(time: Instant) -> u64 {
    seal_cell(time.as_nanos())
}

/// Reports whether a generation may be started: its outcome will have room. `entry` is the word of
/// the entry of that generation.
pub fn has_room(entry: u64, generation: Generation) -> bool {
    match Word::from_raw(entry).map(Word::state) {
        Ok(State::Unused) => true,
        Ok(State::Down(acknowledged)) => acknowledged < generation,
        Ok(State::Intent(_) | State::Run(..) | State::Over(..)) | Err(_) => false,
    }
}

/// Says how the outcome in `word` gets into its entry, whose word is `entry`.
pub fn put(entry: u64, word: Word) -> Put {
    let State::Over(generation, _) = word.state() else {
        return Put::Nothing;
    };
    match Word::from_raw(entry).map(Word::state) {
        Ok(State::Unused) => Put::Write(word.raw()),
        Ok(State::Down(there) | State::Over(there, _)) if there >= generation => Put::Done,
        Ok(State::Down(_)) => Put::Write(word.raw()),
        Ok(State::Over(..)) => Put::Full(word.raw()),
        Ok(State::Intent(_) | State::Run(..)) | Err(_) => Put::Damaged(word.raw()),
    }
}

/// Returns what the word of an entry becomes when this generation is acknowledged. `None`: there is
/// nothing to acknowledge; it may have been done before.
pub fn acknowledged(entry: u64, generation: Generation) -> Option<u64> {
    let word = Word::from_raw(entry).ok().filter(|word| word.generation() == generation)?;
    word.settled().map(Word::raw)
}

/// Returns what waits for its acknowledgement, oldest first, and the errors of damaged entries.
pub fn waiting(entries: &[Entry; ENTRIES]) -> (Vec<Waiting>, Vec<WordError>) {
    let mut found = Vec::new();
    let mut damaged = Vec::new();
    for (index, (raw, time)) in entries.iter().enumerate() {
        match Word::from_raw(*raw).map(Word::state) {
            Ok(State::Unused) => {}
            Ok(State::Down(generation)) if entry_of(generation) == index => {}
            Ok(State::Over(generation, outcome)) if entry_of(generation) == index => {
                let time = open_cell(*time).filter(|time| *time < CELL_NUMBER_MAX);
                let time = time.map(Instant::from_nanos);
                found.push(Waiting { generation, outcome, time });
            }
            Ok(_) => damaged.push(WordError::Foreign(*raw)),
            Err(error) => damaged.push(error),
        }
    }
    found.sort_by_key(|waiting| waiting.generation);
    (found, damaged)
}

#[cfg(test)]
mod tests {
    use keepd_model::Exit;

    use super::*;

    /// A service that starts again and again, and ends with its generation as code.
    struct Life {
        word: Word,
        entries: [Entry; ENTRIES],
    }

    impl Life {
        fn new() -> Self {
            Self { word: Word::UNUSED.claimed().unwrap(), entries: [(0, 0); ENTRIES] }
        }

        /// One run, if there is room.
        fn run(&mut self) -> bool {
            let next = self.word.intended().unwrap();
            let generation = next.generation();
            let entry = &mut self.entries[entry_of(generation)];
            if !has_room(entry.0, generation) {
                return false;
            }
            let code = Exit::Code((generation.get() % 256) as u8);
            let ended = next.ended(code).unwrap();
            match put(entry.0, ended) {
                Put::Write(raw) => *entry = (raw, time_cell(Instant::from_nanos(generation.get()))),
                other => panic!("{other:?}"),
            }
            assert_eq!(put(entry.0, ended), Put::Done, "twice is once");
            self.word = ended.settled().unwrap();
            true
        }

        fn acknowledge(&mut self, generation: u64) {
            let generation = Generation::new(generation);
            let entry = &mut self.entries[entry_of(generation)];
            entry.0 = acknowledged(entry.0, generation).unwrap();
            assert_eq!(acknowledged(entry.0, generation), None, "once");
        }

        fn waiting(&self) -> Vec<u64> {
            let (waiting, damaged) = waiting(&self.entries);
            assert!(damaged.is_empty());
            for one in &waiting {
                let number = one.generation.get();
                assert_eq!(one.outcome, Outcome::Ended(Exit::Code((number % 256) as u8)));
                assert_eq!(one.time, Some(Instant::from_nanos(number)));
            }
            waiting.iter().map(|one| one.generation.get()).collect()
        }
    }

    #[test]
    fn sixteen_outcomes_wait_and_no_seventeenth_start_is_made() {
        let mut life = Life::new();
        for _ in 0..ENTRIES {
            assert!(life.run());
        }
        assert!(!life.run(), "there is no room for the outcome");
        assert_eq!(life.waiting(), (1..=16).collect::<Vec<_>>());
        life.acknowledge(2);
        assert!(!life.run(), "generation 17 needs the entry of 1");
        life.acknowledge(1);
        assert!(life.run() && life.run());
        assert_eq!(life.waiting(), (3..=18).collect::<Vec<_>>());
    }

    #[test]
    fn a_late_writer_cannot_bring_back_what_was_acknowledged() {
        let mut life = Life::new();
        life.run();
        let late = Word::from_raw(life.entries[1].0).unwrap();
        life.acknowledge(1);
        assert_eq!(put(life.entries[1].0, late), Put::Done);
        for generation in 2..=17 {
            assert!(life.run());
            life.acknowledge(generation);
        }
        assert_eq!(put(life.entries[1].0, late), Put::Done, "the entry is of 17 by now");
        assert_eq!(acknowledged(life.entries[1].0, Generation::new(1)), None);
        assert_eq!(life.waiting(), []);
    }

    #[test]
    fn full_and_damaged_entries_are_told_apart() {
        let mut life = Life::new();
        for _ in 0..ENTRIES {
            life.run();
        }
        let next = life.word.intended().and_then(|word| word.ended(Exit::Code(9))).unwrap();
        assert_eq!(put(life.entries[1].0, next), Put::Full(next.raw()));
        assert_eq!(put(life.entries[1].0 ^ 1 << 40, next), Put::Damaged(next.raw()));
        assert_eq!(put(life.entries[1].0, life.word), Put::Nothing);
        assert!(!has_room(life.entries[1].0 ^ 1 << 40, next.generation()));
        life.entries[1].0 ^= 1 << 40;
        life.entries[2].1 ^= 1;
        life.entries.swap(3, 4);
        let (found, damaged) = waiting(&life.entries);
        assert_eq!((found.len(), damaged.len()), (13, 3));
        assert_eq!((found[0].generation, found[0].time), (Generation::new(2), None));
    }
}
