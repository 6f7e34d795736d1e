//! The files of a ledger, as a proxy and its successors use them.

use keepd_model::protocol::{Command, Event};
use keepd_testkit::Scratch;
use keepd_wire::ledger::layout::{CHUNK_SLOTS, file_bytes};

use super::*;

const INSTANCE: &str = "shop-0badcafe";

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn generation(number: u64) -> Generation {
    Generation::new(number)
}

fn args(name: &ServiceName, program: &str) -> Fact {
    let arguments = vec![program.as_bytes().to_vec()];
    Fact::Command(Command::ServiceArgs { name: name.clone(), arguments })
}

fn successor(scratch: &Scratch) -> Resumed {
    resume(scratch.path(), INSTANCE).unwrap().expect("there is a predecessor")
}

fn failure() -> SpawnFailure {
    SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT }
}

#[test]
fn a_successor_finds_what_was_flushed_and_nothing_else() {
    let scratch = Scratch::new();
    assert!(resume(scratch.path(), INSTANCE).unwrap().is_none());
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let web = name("web");
    let invocation =
        Fact::Event(Event::Invocation { name: web.clone(), generation: generation(1), id: 7 });
    ledger.record(&args(&web, "/bin/web")).unwrap();
    ledger.record(&invocation).unwrap();
    ledger.flush().unwrap();
    ledger.record(&args(&web, "/bin/other")).unwrap();
    drop(ledger);
    let mut found = successor(&scratch);
    assert_eq!(found.facts, [args(&web, "/bin/web"), invocation.clone()]);
    assert!(!found.is_configured && found.repairs.is_empty());
    found.ledger.note_configured();
    found.ledger.note_configured();
    found.ledger.compact([args(&web, "/bin/last"), invocation.clone()].into_iter()).unwrap();
    drop(found);
    let found = successor(&scratch);
    assert_eq!(found.facts, [args(&web, "/bin/last"), invocation]);
    assert!(found.is_configured);
    found.ledger.remove();
    assert!(resume(scratch.path(), INSTANCE).unwrap().is_none());
}

#[test]
fn a_start_is_in_its_slot_before_there_is_a_child() {
    let scratch = Scratch::new();
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let web = name("web");
    let intent = ledger.intend(&web, generation(1)).unwrap();
    let slot = ledger.slot_of(&web).unwrap();
    let state = |ledger: &Ledger| ledger.slot(slot).word().unwrap().state();
    assert_eq!(state(&ledger), State::Intent(generation(1)));
    assert_eq!(ledger.child_record(&intent).word.load(), intent.intended.intent);
    // It is in the journal by now, and the slot has an owner.
    let found = successor(&scratch);
    assert_eq!(found.ledger.slot_of(&web), Some(slot));
    assert!(found.ledger.slot(slot).is_of("web"));
    drop(found);
    ledger.note_failed(&intent, failure(), None);
    assert_eq!(state(&ledger), State::Down(generation(1)));
    let (waiting, _) = ledger.slot(slot).waiting();
    assert_eq!(waiting[0].outcome, Outcome::Failed(failure()));

    let intent = ledger.intend(&web, generation(2)).unwrap();
    let pid = Pid::new(4711).unwrap();
    ledger.note_child(&intent, pid);
    let run = ledger.run_of(pid).unwrap();
    // The child died before it could record itself.
    let killed = Exit::Code(9);
    assert_eq!(ledger.end(run, pid, killed), Ok(Outcome::Ended(killed)));
    assert_eq!(ledger.outcome(run), Some(Outcome::Ended(killed)));
    ledger.settle(run, pid, None);
    assert_eq!((ledger.outcome(run), ledger.run_of(pid)), (None, None));
    assert_eq!(ledger.slot(slot).waiting().0.len(), 2);
    ledger.acknowledge(&web, generation(2));
    assert_eq!(ledger.slot(slot).waiting().0, []);
}

#[test]
fn generations_that_found_no_slot_are_used_up() {
    let scratch = Scratch::new();
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let web = name("web");
    let intent = ledger.intend(&web, generation(40)).unwrap();
    let slot = ledger.slot(intent.run.slot);
    assert_eq!(slot.word().unwrap().state(), State::Intent(generation(40)));
    assert_eq!(slot.waiting().0, [], "everybody was told of them");
    let refusal = ledger.intend(&web, generation(40)).unwrap_err();
    assert_eq!(refusal.failure, SpawnFailure { step: SpawnStep::Prepare, errno: EBUSY });
    assert!(refusal.why.starts_with("cannot start generation 40: "), "{}", refusal.why);
}

#[test]
fn ends_that_nobody_acknowledges_stop_further_starts() {
    let scratch = Scratch::new();
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let web = name("web");
    for number in 1..=16 {
        let intent = ledger.intend(&web, generation(number)).unwrap();
        ledger.note_failed(&intent, failure(), None);
    }
    let refusal = ledger.intend(&web, generation(17)).unwrap_err();
    assert_eq!(refusal.failure.errno, EAGAIN);
    ledger.acknowledge(&web, generation(1));
    assert!(ledger.intend(&web, generation(17)).is_ok());
}

#[test]
fn slots_grow_with_the_services_and_are_used_again() {
    let scratch = Scratch::new();
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let names: Vec<ServiceName> =
        (0..=CHUNK_SLOTS).map(|number| name(&format!("s{number}"))).collect();
    for name in &names {
        let intent = ledger.intend(name, generation(1)).unwrap();
        ledger.note_failed(&intent, failure(), None);
    }
    let length = || std::fs::metadata(scratch.path().join("ledger")).unwrap().len();
    assert_eq!(length(), file_bytes(2));
    let slot = ledger.slot_of(&names[3]).unwrap();
    ledger.forget(&names[3]);
    assert!(ledger.slot(slot).is_of("s3"), "until it is in the journal");
    ledger.flush().unwrap();
    assert!(!ledger.slot(slot).is_of("s3"));
    let other = name("other");
    ledger.intend(&other, generation(1)).unwrap();
    assert_eq!(ledger.slot_of(&other), Some(slot));
    drop(ledger);
    let mut found = successor(&scratch).ledger;
    assert_eq!((found.slot_of(&other), found.slot_of(&names[3])), (Some(slot), None));
    assert_eq!(found.slots().count(), names.len());
    let next = name("next");
    found.intend(&next, generation(1)).unwrap();
    assert_eq!(found.slot_of(&next), Some(SlotNumber(CHUNK_SLOTS + 1)));
    assert_eq!(length(), file_bytes(2));
}

#[test]
fn a_slot_that_was_freed_and_not_cleared_is_cleared_by_the_successor() {
    let scratch = Scratch::new();
    let mut ledger = make(scratch.path(), INSTANCE).unwrap();
    let web = name("web");
    let intent = ledger.intend(&web, generation(1)).unwrap();
    ledger.note_failed(&intent, failure(), None);
    let slot = intent.run.slot;
    ledger.forget(&web);
    // Lost between the journal and the slot.
    ledger.journal.flush(&ledger.cells).unwrap();
    assert!(ledger.slot(slot).is_of("web"));
    let found = successor(&scratch).ledger;
    assert!(!found.slot(slot).is_of("web"));
    assert_eq!(found.slot(slot).word().unwrap().state(), State::Unused);
    assert_eq!(found.free.last(), Some(&slot));
}

#[test]
fn what_is_another_instances_or_cut_is_refused_with_a_sentence() {
    let scratch = Scratch::new();
    drop(make(scratch.path(), INSTANCE).unwrap());
    let why = |instance: &str| resume(scratch.path(), instance).err().unwrap().to_string();
    let path = scratch.path().join("ledger");
    let expected = format!(
        "cannot use the ledger: it belongs to instance \"{INSTANCE}\" (\"{}\"); nothing was \
         touched",
        path.display()
    );
    assert_eq!(why("other"), expected);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..5000]).unwrap();
    assert!(why(INSTANCE).contains("the file is cut short"), "{}", why(INSTANCE));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 5000);
    std::fs::write(&path, &whole).unwrap();
    std::fs::remove_file(scratch.path().join("journal")).unwrap();
    let expected = "journal\": no such file or directory";
    assert!(why(INSTANCE).starts_with("cannot open") && why(INSTANCE).ends_with(expected));
}
