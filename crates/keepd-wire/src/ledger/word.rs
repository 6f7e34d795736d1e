//! The word of a service: which run it is in, and how far.
//!
//! | bits | what |
//! | --- | --- |
//! | 0–5 | check: CRC-6 of all other bits (x^6 + x + 1), changed by a constant |
//! | 6–8 | state: 1 down, 2 intent, 3 run, 4 ended, 5 failed, 6 cancelled |
//! | 9–30 | run: pid · ended: wait(2) status, bit 16 for unknown · failed: step, errno · else 0 |
//! | 31–63 | generation |
//!
//! A cell of zeros is a slot that was never used. Linux has no pid beyond 22 bits. A service that
//! starts 100 times a second has generations for two years; then it is not started any more.

use std::fmt;

use keepd_model::{Errno, Exit, Generation, Pid, Signal, SpawnFailure, SpawnStep};

pub(super) const CHECK_BITS: u32 = 6;
const STATE_BITS: u32 = 3;
const VALUE_BITS: u32 = 22;
/// Where the state begins in the checked bits is 0; the value follows.
const VALUE_SHIFT: u32 = STATE_BITS;
const GENERATION_SHIFT: u32 = VALUE_SHIFT + VALUE_BITS;
const GENERATION_BITS: u32 = u64::BITS - CHECK_BITS - GENERATION_SHIFT;

/// The highest generation that a word can hold.
pub const GENERATION_MAX: u64 = (1 << GENERATION_BITS) - 1;
/// The highest process id that a word can hold: Linux gives none beyond it (PID_MAX_LIMIT).
pub const PID_MAX: u32 = (1 << VALUE_BITS) - 1;

const DOWN: u64 = 1;
const INTENT: u64 = 2;
const RUN: u64 = 3;
const ENDED: u64 = 4;
const FAILED: u64 = 5;
const CANCELLED: u64 = 6;

/// In the place of a status of wait(2): nobody can say how it ended.
const UNKNOWN_STATUS: u64 = 1 << 16;
const CORE_BIT: u64 = 0x80;
const ERRNO_BITS: u32 = 16;

/// Keeps a cell of zeros, and one with a single bit, from being a word.
const CHECK_CHANGE: u64 = 0b01_0101;

/// Returns the check of 58 bits.
pub(super) const fn check(bits: u64) -> u64 {
    // x^6 + x + 1 is primitive: it divides no polynomial of one or two bits within 63.
    let mut remainder = 0;
    let mut position = u64::BITS - CHECK_BITS;
    while position > 0 {
        position -= 1;
        let top = (remainder >> (CHECK_BITS - 1)) ^ (bits >> position);
        remainder = (remainder << 1) & ((1 << CHECK_BITS) - 1);
        if top & 1 != 0 {
            remainder ^= 0b00_0011;
        }
    }
    remainder ^ CHECK_CHANGE
}

/// What became of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The process ended.
    Ended(Exit),
    /// Its program never ran: a step before it failed.
    Failed(SpawnFailure),
    /// Its program never ran: its parent was lost before the child had recorded itself.
    Cancelled,
}

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The slot was never used.
    Unused,
    /// Nothing runs. What became of this generation is in the ring, or acknowledged; 0: none was
    /// ever started.
    Down(Generation),
    /// Somebody is about to clone a child, or has done so, and it has not recorded itself.
    Intent(Generation),
    /// The process recorded itself. It is alive, or its end was not recorded yet.
    Run(Generation, Pid),
    /// It is over, and the outcome is not in the ring yet.
    Over(Generation, Outcome),
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused => write!(formatter, "never used"),
            Self::Down(generation) => write!(formatter, "down after generation {generation}"),
            Self::Intent(generation) => write!(formatter, "about to start generation {generation}"),
            Self::Run(generation, pid) => {
                write!(formatter, "generation {generation} as process {pid}")
            }
            Self::Over(generation, Outcome::Ended(_)) => {
                write!(formatter, "generation {generation}, ended")
            }
            Self::Over(generation, Outcome::Failed(_)) => {
                write!(formatter, "generation {generation}, failed")
            }
            Self::Over(generation, Outcome::Cancelled) => {
                write!(formatter, "generation {generation}, cancelled")
            }
        }
    }
}

/// A word that is whole: made by [`Word::UNUSED`], a transition, or [`Word::from_raw`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(u64);

/// Why a cell is no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WordError {
    /// A bit is not as it was written.
    Damaged(u64),
    /// The check is right, and no version so far writes this.
    Foreign(u64),
}

impl fmt::Display for WordError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(raw) => write!(formatter, "the word {raw:#018x} is damaged"),
            Self::Foreign(raw) => {
                write!(formatter, "the word {raw:#018x} is none that this program writes")
            }
        }
    }
}

impl std::error::Error for WordError {}

impl Word {
    /// The word of a slot that was never used.
    pub const UNUSED: Self = Self(0);

    /// Reads a cell.
    ///
    /// # Errors
    ///
    /// Every single flipped bit is seen, and nearly every other change.
    pub fn from_raw(raw: u64) -> Result<Self, WordError> {
        if raw == 0 {
            return Ok(Self::UNUSED);
        }
        let bits = raw >> CHECK_BITS;
        if bits << CHECK_BITS | check(bits) != raw {
            return Err(WordError::Damaged(raw));
        }
        match read(bits) {
            Some(state) if make(state) == Some(Self(raw)) => Ok(Self(raw)),
            Some(_) | None => Err(WordError::Foreign(raw)),
        }
    }

    /// Returns what is written into the cell.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns what it says.
    pub fn state(self) -> State {
        if self.0 == 0 {
            return State::Unused;
        }
        read(self.0 >> CHECK_BITS).expect("a word is made by functions that check it")
    }

    /// Returns the generation; 0 where there was none.
    pub fn generation(self) -> Generation {
        match self.state() {
            State::Unused => Generation::NONE,
            State::Down(generation)
            | State::Intent(generation)
            | State::Run(generation, _)
            | State::Over(generation, _) => generation,
        }
    }

    /// Unused → down(0): the slot is a service's.
    pub fn claimed(self) -> Option<Self> {
        match self.state() {
            State::Unused => make(State::Down(Generation::NONE)),
            State::Down(_) | State::Intent(_) | State::Run(..) | State::Over(..) => None,
        }
    }

    /// Down(g-1) → intent(g), before a child is cloned. `None` also after [`GENERATION_MAX`].
    pub fn intended(self) -> Option<Self> {
        match self.state() {
            State::Down(generation) => make(State::Intent(generation.next())),
            State::Unused | State::Intent(_) | State::Run(..) | State::Over(..) => None,
        }
    }

    /// Intent(g) → run(g, pid), by the child itself before its program.
    pub fn running(self, pid: Pid) -> Option<Self> {
        match self.state() {
            State::Intent(generation) => make(State::Run(generation, pid)),
            State::Unused | State::Down(_) | State::Run(..) | State::Over(..) => None,
        }
    }

    /// Intent(g) → cancelled(g), when the parent is lost: a child that has not recorded itself will
    /// not do so any more.
    pub fn cancelled(self) -> Option<Self> {
        match self.state() {
            State::Intent(generation) => make(State::Over(generation, Outcome::Cancelled)),
            State::Unused | State::Down(_) | State::Run(..) | State::Over(..) => None,
        }
    }

    /// Intent(g), run(g) → failed(g), by the child or, where there is none, its parent.
    pub fn failed(self, failure: SpawnFailure) -> Option<Self> {
        match self.state() {
            State::Intent(generation) | State::Run(generation, _) => {
                make(State::Over(generation, Outcome::Failed(failure)))
            }
            State::Unused | State::Down(_) | State::Over(..) => None,
        }
    }

    /// Intent(g), run(g) → ended(g), by who knows that this process of this generation has ended,
    /// before the zombie is consumed. From intent only the parent may do it, and only if nobody can
    /// have cancelled it: it is a child that died before it could record itself.
    pub fn ended(self, exit: Exit) -> Option<Self> {
        match self.state() {
            State::Intent(generation) | State::Run(generation, _) => {
                make(State::Over(generation, Outcome::Ended(exit)))
            }
            State::Unused | State::Down(_) | State::Over(..) => None,
        }
    }

    /// Ended(g), failed(g), cancelled(g) → down(g), once the outcome is in the ring.
    ///
    /// In an entry of the ring the same step says that it was acknowledged.
    pub fn settled(self) -> Option<Self> {
        match self.state() {
            State::Over(generation, _) => make(State::Down(generation)),
            State::Unused | State::Down(_) | State::Intent(_) | State::Run(..) => None,
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.state())
    }
}

/// Returns the cell with run(g, pid) for the one with intent(g), for the child between clone and
/// its program: it allocates nothing and locks nothing. 0 if there is none; then it must end.
pub fn run_word(intent: u64, pid: u32) -> u64 {
    let word = Word::from_raw(intent).ok().zip(Pid::new(pid));
    word.and_then(|(word, pid)| word.running(pid)).map_or(0, Word::raw)
}

/// Returns the cell with failed(g) for the one with intent(g) or run(g), for the child between
/// clone and its program, as [`run_word`]. 0 if there is none; then the parent has to record it.
pub fn failed_word(current: u64, step: u8, errno: i32) -> u64 {
    let word = Word::from_raw(current).ok().zip(SpawnStep::from_number(step));
    let failure = word.map(|(word, step)| (word, SpawnFailure { step, errno: Errno(errno) }));
    failure.and_then(|(word, failure)| word.failed(failure)).map_or(0, Word::raw)
}

/// Returns the word that says this, if there is room for its numbers.
fn make(state: State) -> Option<Word> {
    let (generation, number, value) = match state {
        State::Unused => return Some(Word::UNUSED),
        State::Down(generation) => (generation, DOWN, 0),
        State::Intent(generation) => (generation, INTENT, 0),
        State::Run(generation, pid) => (generation, RUN, u64::from(pid.get())),
        State::Over(generation, Outcome::Ended(exit)) => (generation, ENDED, status_of(exit)),
        State::Over(generation, Outcome::Failed(failure)) => {
            (generation, FAILED, failure_value(failure))
        }
        State::Over(generation, Outcome::Cancelled) => (generation, CANCELLED, 0),
    };
    // Only nothing at all has no generation.
    let fits = generation.get() <= GENERATION_MAX
        && value <= u64::from(PID_MAX)
        && (number == DOWN || generation != Generation::NONE);
    let bits = generation.get() << GENERATION_SHIFT | value << VALUE_SHIFT | number;
    fits.then(|| Word(bits << CHECK_BITS | check(bits)))
}

/// Returns what checked bits say. Some of it may be impossible: [`make`] does not make it.
fn read(bits: u64) -> Option<State> {
    let generation = Generation::new(bits >> GENERATION_SHIFT);
    let value = bits >> VALUE_SHIFT & u64::from(PID_MAX);
    Some(match bits & ((1 << STATE_BITS) - 1) {
        DOWN => State::Down(generation),
        INTENT => State::Intent(generation),
        RUN => State::Run(generation, Pid::new(u32::try_from(value).ok()?)?),
        ENDED => State::Over(generation, Outcome::Ended(exit_of(value)?)),
        FAILED => State::Over(generation, Outcome::Failed(failure_of(value)?)),
        CANCELLED => State::Over(generation, Outcome::Cancelled),
        _ => return None,
    })
}

fn status_of(exit: Exit) -> u64 {
    match exit {
        Exit::Code(code) => u64::from(code) << 8,
        Exit::Signal { signal, core } => u64::from(signal.get()) | if core { CORE_BIT } else { 0 },
        Exit::Unknown => UNKNOWN_STATUS,
    }
}

fn exit_of(status: u64) -> Option<Exit> {
    if status == UNKNOWN_STATUS {
        return Some(Exit::Unknown);
    }
    let [low, code] = u16::try_from(status).ok()?.to_le_bytes();
    match (low, code) {
        (0, code) => Some(Exit::Code(code)),
        (low, 0) => {
            let core = u64::from(low) & CORE_BIT != 0;
            let signal = Signal::new(low & 0x7F)?;
            Some(Exit::Signal { signal, core })
        }
        (_, _) => None,
    }
}

/// An errno that is none of Linux is written as 0, "unknown error".
fn failure_value(failure: SpawnFailure) -> u64 {
    let errno = u16::try_from(failure.errno.0).unwrap_or(0);
    u64::from(failure.step as u8) << ERRNO_BITS | u64::from(errno)
}

fn failure_of(value: u64) -> Option<SpawnFailure> {
    let step = SpawnStep::from_number(u8::try_from(value >> ERRNO_BITS).ok()?)?;
    let errno = i32::try_from(value & ((1 << ERRNO_BITS) - 1)).ok()?;
    Some(SpawnFailure { step, errno: Errno(errno) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: u32) -> Pid {
        Pid::new(number).unwrap()
    }

    fn exits() -> Vec<Exit> {
        let codes = (0..=u8::MAX).map(Exit::Code);
        let signals = (1..=64).flat_map(|number| {
            let signal = Signal::new(number).unwrap();
            [false, true].map(|core| Exit::Signal { signal, core })
        });
        codes.chain(signals).chain([Exit::Unknown]).collect()
    }

    /// Words of every state, with the ends of every range.
    fn words() -> Vec<Word> {
        let mut states = vec![State::Unused, State::Down(Generation::NONE)];
        for generation in [1, 2, 4711, GENERATION_MAX].map(Generation::new) {
            states.extend([State::Down(generation), State::Intent(generation)]);
            states.extend([1, 2, 300, PID_MAX].map(|number| State::Run(generation, pid(number))));
            let ended = exits().into_iter().map(Outcome::Ended);
            let failed = SpawnStep::ALL.into_iter().flat_map(|step| {
                [0, 1, 4095]
                    .map(|errno| Outcome::Failed(SpawnFailure { step, errno: Errno(errno) }))
            });
            let outcomes = ended.chain(failed).chain([Outcome::Cancelled]);
            states.extend(outcomes.map(|outcome| State::Over(generation, outcome)));
        }
        states.into_iter().map(|state| make(state).unwrap()).collect()
    }

    #[test]
    fn the_layout_is_pinned() {
        let raw = make(State::Run(Generation::new(3), pid(0x1234))).unwrap().raw();
        assert_eq!(raw >> 31, 3);
        assert_eq!(raw >> 9 & 0x3F_FFFF, 0x1234);
        assert_eq!(raw >> 6 & 7, 3);
        assert_eq!(raw & 0x3F, check(raw >> 6));
        let killed = Exit::Signal { signal: Signal::KILL, core: true };
        let raw = make(State::Over(Generation::new(1), Outcome::Ended(killed))).unwrap().raw();
        assert_eq!(raw >> 9 & 0x3F_FFFF, 0x89);
        assert_eq!(check(0), CHECK_CHANGE);
        assert_eq!(make(State::Down(Generation::NONE)).unwrap().raw(), 0x56);
    }

    #[test]
    fn words_come_back_and_no_single_flipped_bit_goes_unseen() {
        for word in words() {
            assert_eq!(Word::from_raw(word.raw()), Ok(word));
            assert_eq!(make(word.state()), Some(word));
            for bit in 0..64 {
                let found = Word::from_raw(word.raw() ^ 1 << bit);
                assert!(found.is_err(), "{word:?}, bit {bit}: {found:?}");
            }
        }
    }

    #[test]
    fn any_number_is_a_word_or_an_error_and_never_another_word() {
        let mut raw = 0x9e37_79b9_7f4a_7c15_u64;
        let mut whole = 0;
        for _ in 0..200_000 {
            raw ^= raw << 13;
            raw ^= raw >> 7;
            raw ^= raw << 17;
            let sealed = raw & !0x3F | check(raw >> CHECK_BITS);
            if let Ok(word) = Word::from_raw(sealed) {
                assert_eq!(make(word.state()), Some(word));
                whole += 1;
            }
            if let Ok(word) = Word::from_raw(raw) {
                assert_eq!(word.raw(), raw);
            }
        }
        assert!(whole > 1000, "{whole} were words");
    }

    #[test]
    fn what_cannot_be_is_foreign() {
        let sealed = |bits: u64| bits << CHECK_BITS | check(bits);
        let generation = 1 << GENERATION_SHIFT;
        for bits in [
            0,                                          // state 0
            generation | 7,                             // state 7
            generation | 1 << VALUE_SHIFT | DOWN,       // a value where there is none
            generation | RUN,                           // pid 0
            RUN | 1 << VALUE_SHIFT,                     // a run without a generation
            generation | 0x7F << VALUE_SHIFT | ENDED,   // stopped is no end
            generation | 0x0101 << VALUE_SHIFT | ENDED, // code and signal
            generation | (UNKNOWN_STATUS | 1) << VALUE_SHIFT | ENDED,
            generation | FAILED, // step 0
        ] {
            assert_eq!(Word::from_raw(sealed(bits)), Err(WordError::Foreign(sealed(bits))));
        }
    }

    #[test]
    fn a_life_goes_through_the_named_steps_and_no_others() {
        let down = Word::UNUSED.claimed().unwrap();
        let intent = down.intended().unwrap();
        let run = intent.running(pid(7)).unwrap();
        let ended = run.ended(Exit::Code(3)).unwrap();
        assert_eq!(ended.settled().unwrap().state(), State::Down(Generation::new(1)));
        assert_eq!(ended.settled().unwrap().intended().unwrap().generation(), Generation::new(2));
        for word in words() {
            let state = word.state();
            let is_intent = matches!(state, State::Intent(_));
            let is_alive = is_intent || matches!(state, State::Run(..));
            assert_eq!(word.claimed().is_some(), state == State::Unused);
            let next = matches!(state, State::Down(g) if g.get() < GENERATION_MAX);
            assert_eq!(word.intended().is_some(), next, "{word:?}");
            assert_eq!(word.running(pid(1)).is_some(), is_intent);
            assert_eq!(word.cancelled().is_some(), is_intent);
            assert_eq!(word.ended(Exit::Unknown).is_some(), is_alive);
            let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
            assert_eq!(word.failed(failure).is_some(), is_alive);
            assert_eq!(word.settled().is_some(), matches!(state, State::Over(..)));
        }
    }

    #[test]
    fn the_child_computes_the_same_words() {
        let intent = Word::UNUSED.claimed().and_then(Word::intended).unwrap();
        let run = intent.running(pid(4711)).unwrap();
        assert_eq!(run_word(intent.raw(), 4711), run.raw());
        let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
        for word in [intent, run] {
            let expected = word.failed(failure).unwrap().raw();
            assert_eq!(failed_word(word.raw(), SpawnStep::Exec as u8, 2), expected);
        }
        assert_eq!(run_word(run.raw(), 4711), 0, "it runs already");
        assert_eq!(run_word(intent.raw(), 0), 0);
        assert_eq!(run_word(intent.raw(), PID_MAX + 1), 0);
        assert_eq!(run_word(intent.raw() ^ 1, 4711), 0);
        assert_eq!(failed_word(intent.raw(), 0, 2), 0);
        assert_eq!(failed_word(0, SpawnStep::Exec as u8, 2), 0);
    }
}
