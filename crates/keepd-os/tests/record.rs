//! A child that writes itself down before its program: what is in the cells when it runs, when a
//! step fails and when it is refused.

mod support;

use keepd_model::{Errno, Exit, SpawnFailure, SpawnStep};
use keepd_os::ledger::{ChildRecord, Mapping, has_inodes, inode};
use keepd_os::pidfd;
use keepd_os::spawn::{Report, SpawnRequest, Spawned, reserve_slots, spawn};
use support::{Folder, Start, end_of, final_report, is_alone, null, standard};

use std::os::fd::AsFd;

const INTENT: u64 = 1 << 40;
const AWAITED: u64 = 1 << 41;

fn run_word(intent: u64, pid: u32) -> u64 {
    intent | u64::from(pid)
}

fn failed_word(current: u64, step: u8, errno: i32) -> u64 {
    current | u64::from(step) << 48 | (errno as u64) << 56
}

fn mapping(folder: &Folder) -> Mapping {
    Mapping::create(&folder.join("ledger"), b"", 4096).unwrap()
}

/// Cells with an intent in them.
fn record(mapping: &Mapping) -> ChildRecord<'_> {
    let (word, identity) = (mapping.cell(0).unwrap(), mapping.cell(8).unwrap());
    word.store(INTENT);
    identity.store(AWAITED);
    ChildRecord {
        word,
        identity,
        intent: INTENT,
        awaited: AWAITED,
        has_inodes: has_inodes(),
        run_word,
        failed_word,
        inode_cell: |inode| inode,
    }
}

fn start(start: &Start, record: ChildRecord<'_>) -> Spawned {
    let null = null();
    let descriptors = standard([null.as_fd(); 3]);
    let request = start.request(&descriptors, &[], None);
    spawn(&SpawnRequest { record: Some(record), ..request }).unwrap()
}

fn a_child_is_written_down_before_its_program() {
    let folder = Folder::new("record-run");
    let cells = mapping(&folder);
    let record = record(&cells);
    let mut spawned = start(&Start::shell("kill -STOP $$"), record);
    let pid = spawned.pid();
    let held = pidfd::open(pid).unwrap();
    assert_eq!(final_report(&mut spawned), Report::Executed);
    assert_eq!(record.word.load(), run_word(INTENT, pid.get()));
    assert_eq!(record.identity.load(), inode(&held).unwrap_or(AWAITED));
    keepd_os::signals::send(pid, keepd_model::Signal::KILL).unwrap();
    end_of(pid);
    assert_eq!(record.word.load(), run_word(INTENT, pid.get()), "the end is its keeper's");
}

fn a_failed_step_is_written_down_before_it_is_reported() {
    let folder = Folder::new("record-failed");
    let cells = mapping(&folder);
    let record = record(&cells);
    let mut spawned = start(&Start::new(&["/no/such/program"]), record);
    let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
    assert_eq!(final_report(&mut spawned), Report::Failed(failure));
    let run = run_word(INTENT, spawned.pid().get());
    assert_eq!(record.word.load(), failed_word(run, SpawnStep::Exec as u8, 2));
    assert_eq!(end_of(spawned.pid()), Exit::Code(127));
}

fn a_refused_child_ends_without_its_program() {
    let folder = Folder::new("record-refused");
    let cells = mapping(&folder);
    let proof = folder.join("proof");
    let touch = Start::new(&["touch", &proof.display().to_string()]);
    let refused = SpawnFailure { step: SpawnStep::Prepare, errno: Errno(libc::ECANCELED) };
    for (word, identity) in [(77, AWAITED), (INTENT, 78)] {
        let record = record(&cells);
        if identity != AWAITED && !has_inodes() {
            continue;
        }
        record.word.store(word);
        record.identity.store(identity);
        let mut spawned = start(&touch, record);
        assert_eq!(final_report(&mut spawned), Report::Failed(refused));
        assert_eq!(end_of(spawned.pid()), Exit::Code(127));
        assert!(!proof.exists());
        let expected = match word {
            // Its own intent is still there, and no program will run for it.
            INTENT => failed_word(INTENT, SpawnStep::Prepare as u8, libc::ECANCELED),
            other => other,
        };
        assert_eq!(record.word.load(), expected);
    }
}

fn everything() {
    a_child_is_written_down_before_its_program();
    a_failed_step_is_written_down_before_it_is_reported();
    a_refused_child_ends_without_its_program();
}

#[test]
fn with_a_copy_of_the_table_of_descriptors() {
    if is_alone("with_a_copy_of_the_table_of_descriptors") {
        everything();
    }
}

#[test]
fn with_a_shared_table_of_descriptors() {
    if is_alone("with_a_shared_table_of_descriptors") {
        reserve_slots().unwrap();
        let before = keepd_os::held::open_numbers();
        everything();
        assert_eq!(keepd_os::held::open_numbers(), before, "nothing is opened in our table");
    }
}
