use std::cell::{Cell, RefCell};

use keepd_model::{Errno, Signal, SpawnStep};

use super::super::layout::file_bytes;
use super::super::{failed_word, inode_cell, run_word};
use super::*;

const WEB: SlotNumber = SlotNumber(1);

/// What another process does at one moment.
type Other = Box<dyn FnOnce(&Memory)>;

/// A mapped part, and somebody else who works on it.
struct Memory {
    cells: Vec<Cell<u64>>,
    /// Comes before the exchange that is as many exchanges away.
    other: RefCell<Option<(u32, Other)>>,
}

impl Memory {
    fn new() -> Self {
        let cells = vec![Cell::new(0); (file_bytes(1) / 8) as usize];
        let memory = Self { cells, other: RefCell::new(None) };
        set_chunks(&memory, 1);
        set_answered(&memory, 0);
        memory
    }

    fn slot(&self) -> Slot<'_, Self> {
        Slot::new(self, WEB)
    }

    /// One with a service in its slot.
    fn claimed() -> Self {
        let memory = Self::new();
        memory.slot().claim("web").unwrap();
        memory
    }

    fn before_exchange(&self, number: u32, other: impl FnOnce(&Self) + 'static) {
        *self.other.borrow_mut() = Some((number, Box::new(other)));
    }

    fn cell(&self, cell: SlotCell) -> &Cell<u64> {
        &self.cells[(WEB.offset(cell) / 8) as usize]
    }

    /// What a child does before its program.
    fn record_child(&self, intended: Intended, pid: u32, inode: u64) -> bool {
        let slot = self.slot();
        slot.exchange(SlotCell::Identity, intended.awaited, inode_cell(inode))
            && slot.exchange(SlotCell::Word, intended.intent, run_word(intended.intent, pid))
    }

    /// A generation that runs as this process.
    fn run(&self, number: u64, pid: u32) -> Intended {
        let intended = self.slot().intend(generation(number)).unwrap();
        assert!(self.record_child(intended, pid, 1000 + u64::from(pid)));
        intended
    }
}

impl Cells for Memory {
    fn load(&self, offset: u64) -> u64 {
        self.cells[(offset / 8) as usize].get()
    }

    fn store(&self, offset: u64, value: u64) {
        self.cells[(offset / 8) as usize].set(value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        let waiting = self.other.borrow_mut().take();
        match waiting {
            Some((0, other)) => other(self),
            Some((number, other)) => *self.other.borrow_mut() = Some((number - 1, other)),
            None => {}
        }
        let cell = &self.cells[(offset / 8) as usize];
        let is_there = cell.get() == expected;
        if is_there {
            cell.set(new);
        }
        is_there
    }
}

fn generation(number: u64) -> Generation {
    Generation::new(number)
}

fn pid(number: u32) -> Pid {
    Pid::new(number).unwrap()
}

fn at(nanos: u64) -> Option<Instant> {
    Some(Instant::from_nanos(nanos))
}

const FAILURE: SpawnFailure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
const CODE: Exit = Exit::Code(3);

fn done(number: u64, outcome: Outcome) -> Settled {
    Settled::Done { generation: generation(number), outcome, lost: None }
}

#[test]
fn a_life_is_recorded_reported_and_acknowledged() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    assert!(slot.is_of("web") && !slot.is_of("db"));
    let intended = slot.intend(generation(1)).unwrap();
    assert_eq!(slot.identity(), Some(Identity::Awaited(generation(1))));
    assert_eq!(slots_that_run(&memory, 128).count(), 0);
    assert!(memory.record_child(intended, 7, 70));
    assert_eq!(slot.identity(), Some(Identity::Inode(70)));
    let running: Vec<_> = slots_that_run(&memory, 128).collect();
    assert_eq!(running, [(WEB, generation(1), pid(7))]);
    assert_eq!(slot.end(generation(1), Some(pid(7)), CODE), Ok(Outcome::Ended(CODE)));
    assert_eq!(slot.settle(at(5), WhenFull::Keep), done(1, Outcome::Ended(CODE)));
    assert_eq!(slot.settle(at(6), WhenFull::Keep), Settled::Nothing);
    let waiting = Waiting { generation: generation(1), outcome: Outcome::Ended(CODE), time: at(5) };
    assert_eq!(slot.waiting(), (vec![waiting], vec![]));
    slot.acknowledge(Generation::NONE);
    assert_eq!(slot.waiting().0.len(), 1);
    slot.acknowledge(generation(1));
    assert_eq!(slot.waiting(), (vec![], vec![]));
    assert!(slot.intend(generation(2)).is_ok());
}

#[test]
fn the_head_says_how_many_slots_there_are_and_what_was_answered() {
    let memory = Memory::new();
    assert_eq!((slot_count(&memory), answered(&memory)), (Some(128), Some(0)));
    set_chunks(&memory, 3);
    set_answered(&memory, 4711);
    assert_eq!((slot_count(&memory), answered(&memory)), (Some(384), Some(4711)));
    set_chunks(&memory, CHUNKS_MAX + 1);
    assert_eq!(slot_count(&memory), None);
    memory.store(ANSWERED_OFFSET, 1);
    assert_eq!(answered(&memory), None);
}

#[test]
fn a_slot_has_one_owner() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    assert_eq!(slot.claim("web"), Ok(()), "a successor may do it again");
    assert_eq!(slot.claim("db"), Err(ClaimError::Taken));
    memory.run(1, 7);
    assert_eq!(slot.claim("web"), Ok(()));
    assert_eq!(slot.word().unwrap().state(), State::Run(generation(1), pid(7)));
    memory.cell(SlotCell::Word).set(1);
    assert_eq!(slot.claim("web"), Err(ClaimError::Word(WordError::Damaged(1))));
}

#[test]
fn only_the_next_generation_is_intended_and_only_when_nothing_runs() {
    let memory = Memory::new();
    let slot = memory.slot();
    let refused = |number| slot.intend(generation(number)).unwrap_err();
    assert_eq!(refused(1), IntendError::NotDown(State::Unused));
    slot.claim("web").unwrap();
    let down = State::Down(Generation::NONE);
    assert_eq!(refused(2), IntendError::NotDown(down));
    assert_eq!(slot.identity(), Some(Identity::Nobody), "a refusal changes nothing");
    memory.run(1, 7);
    assert_eq!(refused(2), IntendError::NotDown(State::Run(generation(1), pid(7))));
    memory.cell(SlotCell::Word).set(1);
    assert_eq!(refused(2), IntendError::Word(WordError::Damaged(1)));
}

#[test]
fn there_is_no_intent_without_room_for_its_end() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    for number in 1..=16 {
        memory.run(number, 7);
        slot.end(generation(number), None, CODE).unwrap();
        assert_eq!(slot.settle(None, WhenFull::Keep), done(number, Outcome::Ended(CODE)));
    }
    assert_eq!(slot.intend(generation(17)), Err(IntendError::Full));
    assert_eq!(slot.word().unwrap().state(), State::Down(generation(16)));
    slot.acknowledge(generation(1));
    memory.run(17, 7);
    assert_eq!(slot.waiting().0.len(), 15);
}

/// The word of a generation that has ended.
fn ended(number: u64) -> Word {
    let end = |down: Word| down.intended().and_then(|intent| intent.ended(CODE)).unwrap();
    let first = end(Word::UNUSED.claimed().unwrap());
    (1..number).fold(first, |over, _| end(over.settled().unwrap()))
}

#[test]
fn an_outcome_without_room_stays_or_replaces_the_oldest() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    let outcome = Outcome::Ended(CODE);
    let replaced = |lost| Settled::Done { generation: generation(17), outcome, lost: Some(lost) };
    memory.cell(SlotCell::EntryWord(1)).set(ended(1).raw());
    memory.cell(SlotCell::Word).set(ended(17).raw());
    assert_eq!(slot.settle(at(3), WhenFull::Keep), Settled::Full(generation(17)));
    assert_eq!(slot.word(), Ok(ended(17)), "it stays in the word");
    let lost = Lost::Outcome(generation(1));
    assert_eq!(slot.settle(at(3), WhenFull::Overwrite), replaced(lost));
    assert_eq!(slot.overwritten(), Some(1));
    let waiting = Waiting { generation: generation(17), outcome, time: at(3) };
    assert_eq!(slot.waiting(), (vec![waiting], vec![]));

    memory.cell(SlotCell::EntryWord(1)).set(ended(1).raw() ^ 1 << 40);
    memory.cell(SlotCell::Word).set(ended(17).raw());
    assert_eq!(slot.settle(at(4), WhenFull::Keep), replaced(Lost::Damaged));
    assert_eq!(slot.overwritten(), Some(2));
}

#[test]
fn what_the_child_said_of_itself_is_not_written_over() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    let intended = slot.intend(generation(1)).unwrap();
    let failed = failed_word(intended.intent, SpawnStep::Exec as u8, 2);
    memory.before_exchange(0, move |memory| memory.cell(SlotCell::Word).set(failed));
    assert_eq!(slot.end(generation(1), Some(pid(7)), CODE), Ok(Outcome::Failed(FAILURE)));
    assert_eq!(slot.settle(at(1), WhenFull::Keep), done(1, Outcome::Failed(FAILURE)));
}

#[test]
fn a_child_that_died_before_it_recorded_itself_has_ended() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    let intended = slot.intend(generation(1)).unwrap();
    let killed = Exit::Signal { signal: Signal::KILL, core: false };
    let lost = intended;
    // It records itself at the last moment: the same end, of what it is now.
    memory.before_exchange(0, move |memory| assert!(memory.record_child(lost, 7, 70)));
    assert_eq!(slot.end(generation(1), Some(pid(7)), killed), Ok(Outcome::Ended(killed)));
}

#[test]
fn ends_of_others_change_nothing() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    memory.run(1, 7);
    let run = State::Run(generation(1), pid(7));
    let other = Err(EndError::Other(run));
    assert_eq!(slot.end(generation(1), Some(pid(8)), CODE), other);
    assert_eq!(slot.end(generation(2), Some(pid(7)), CODE), other);
    assert_eq!(slot.fail(generation(2), FAILURE), other);
    assert_eq!(slot.word().unwrap().state(), run);
    slot.end(generation(1), Some(pid(7)), CODE).unwrap();
    slot.settle(None, WhenFull::Keep);
    let down = Err(EndError::Other(State::Down(generation(1))));
    assert_eq!(slot.end(generation(1), Some(pid(7)), CODE), down);
}

#[test]
fn a_start_without_a_child_has_failed() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    slot.intend(generation(1)).unwrap();
    assert_eq!(slot.fail(generation(1), FAILURE), Ok(Outcome::Failed(FAILURE)));
    assert_eq!(slot.fail(generation(1), FAILURE), Ok(Outcome::Failed(FAILURE)));
}

#[test]
fn intents_are_taken_back_and_their_children_are_refused() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    assert_eq!(cancel_intents(&memory, 128), []);
    let intended = slot.intend(generation(1)).unwrap();
    assert_eq!(cancel_intents(&memory, 128), [(WEB, generation(1))]);
    assert!(!memory.record_child(intended, 7, 70));
    assert_eq!(slot.settle(None, WhenFull::Keep), done(1, Outcome::Cancelled));
    assert_eq!(slot.waiting().0[0].time, None);
    assert_eq!(slot.overwritten(), Some(0));
    // The child comes before the warden.
    let second = slot.intend(generation(2)).unwrap();
    memory.before_exchange(1, move |memory| assert!(memory.record_child(second, 8, 80)));
    assert_eq!(slot.cancel(), None);
    assert_eq!(slot.word().unwrap().state(), State::Run(generation(2), pid(8)));
}

#[test]
fn two_keepers_settle_one_outcome_once() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    memory.run(1, 7);
    slot.end(generation(1), None, CODE).unwrap();
    for exchanges in 0..=2 {
        let memory = Memory { cells: memory.cells.clone(), other: RefCell::new(None) };
        memory.before_exchange(exchanges, |memory| {
            let settled = memory.slot().settle(at(5), WhenFull::Keep);
            assert_eq!(settled, done(1, Outcome::Ended(CODE)));
            memory.slot().acknowledge(generation(1));
        });
        assert_eq!(memory.slot().settle(at(6), WhenFull::Keep), Settled::Nothing);
        assert_eq!(memory.slot().waiting(), (vec![], vec![]), "acknowledged stays acknowledged");
    }
}

#[test]
fn start_times_stand_where_the_child_said_nothing() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    let intended = slot.intend(generation(1)).unwrap();
    slot.note_start(generation(2), 50);
    assert_eq!(slot.identity(), Some(Identity::Awaited(generation(1))));
    slot.note_start(generation(1), 50);
    assert_eq!(slot.identity(), Some(Identity::StartTicks(50)));
    memory.cell(SlotCell::Identity).set(intended.awaited);
    assert!(memory.record_child(intended, 7, 70));
    slot.note_start(generation(1), 50);
    assert_eq!(slot.identity(), Some(Identity::Inode(70)));
}

#[test]
fn a_freed_slot_is_zeros_and_a_busy_one_stays() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    memory.run(1, 7);
    assert_eq!(slot.release(), Released::Busy);
    slot.end(generation(1), None, CODE).unwrap();
    assert_eq!(slot.release(), Released::Busy, "nobody was told of its end");
    slot.settle(at(1), WhenFull::Keep);
    assert_eq!(slot.release(), Released::Free);
    let first = (WEB.offset(SlotCell::Word) / 8) as usize;
    assert!(memory.cells[first..first + 4].iter().all(|cell| cell.get() == 0));
    assert_eq!(slot.waiting(), (vec![], vec![]));
    assert_eq!(slot.release(), Released::Free);
    assert_eq!(slot.claim("db"), Ok(()));
    memory.run(1, 9);
    memory.cell(SlotCell::Word).set(1);
    assert_eq!(slot.release(), Released::Busy);
}

/// A child of a cancelled generation 1 is stopped, and its service deleted: the generation 1 of
/// another service must not become it.
#[test]
fn a_slot_with_a_cancelled_child_is_never_anothers() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    slot.intend(generation(1)).unwrap();
    slot.cancel().unwrap();
    slot.settle(None, WhenFull::Keep);
    slot.acknowledge(generation(1));
    assert_eq!(slot.release(), Released::Retired);
    assert_eq!(slot.claim("db"), Err(ClaimError::Taken));
    assert_eq!(slot.claim("web"), Err(ClaimError::Taken));
    assert_eq!(slot.release(), Released::Retired);
    assert_eq!(slot.claim("db"), Err(ClaimError::Taken));
}

#[test]
fn damage_is_said_and_not_trusted() {
    let memory = Memory::claimed();
    let slot = memory.slot();
    memory.run(1, 7);
    memory.cell(SlotCell::Word).set(memory.cell(SlotCell::Word).get() ^ 1 << 12);
    let error = slot.word().unwrap_err();
    assert_eq!(slot.end(generation(1), None, CODE), Err(EndError::Word(error)));
    assert_eq!(slot.settle(None, WhenFull::Overwrite), Settled::Unsure(error));
    assert_eq!(slot.cancel(), None);
    assert_eq!(slots_that_run(&memory, 128).count(), 0);
    memory.cell(SlotCell::Identity).set(1);
    assert_eq!(slot.identity(), None);
    memory.cell(SlotCell::Overwritten).set(1);
    assert_eq!(slot.overwritten(), None);
}

#[test]
fn errors_are_sentences() {
    let run = State::Run(generation(3), pid(7));
    let text = IntendError::NotDown(run).to_string();
    assert_eq!(text, "the ledger says: generation 3 as process 7");
    let text = IntendError::Full.to_string();
    assert_eq!(text, "16 ends of it wait for their acknowledgement");
    let text = EndError::Other(State::Down(generation(2))).to_string();
    assert_eq!(text, "the ledger does not say that it runs: down after generation 2");
}
