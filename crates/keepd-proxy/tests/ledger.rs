//! The two halves of the ledger together: the format, and the kernel's part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use keepd_model::{Exit, Generation, Instant, Pid, Signal};
use keepd_os::ledger::{Cell, JournalFile, Mapping, Presence, examine, inode};
use keepd_os::{file, pidfd, process, signals};
use keepd_wire::ledger::journal::{Record, Repair, Writer, read};
use keepd_wire::ledger::layout::{
    ANSWERED_OFFSET, CHUNKS_OFFSET, HEADER_BYTES, Header, SlotCell, SlotNumber, check_header,
    encode_header, file_bytes, owner_cell, slots,
};
use keepd_wire::ledger::ring::{self, Put};
use keepd_wire::ledger::{
    BootId, Decision, Found, Identity, Outcome, Scope, Seen, Word, decide, open_cell, run_word,
    seal_cell,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keepd-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn boot() -> BootId {
    BootId::parse(&fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()).unwrap()
}

fn scope() -> Scope<'static> {
    Scope { boot: boot(), instance: "shop-0badcafe" }
}

/// What a successor does before it trusts a file.
fn open(path: &Path) -> (Mapping, Header) {
    let (opened, length) = Mapping::open(path).unwrap();
    let mut page = vec![0; HEADER_BYTES as usize];
    assert_eq!(file::read_at(&opened, &mut page, 0), Ok(page.len()));
    let header = check_header(&page, length, &scope()).unwrap();
    (Mapping::of(opened, file_bytes(header.chunks)).unwrap(), header)
}

fn cell(mapping: &Mapping, slot: SlotNumber, which: SlotCell) -> Cell<'_> {
    mapping.cell(slot.offset(which)).unwrap()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

/// What a proxy finds out about a run.
fn look(mapping: &Mapping, slot: SlotNumber, pid: Pid) -> Decision {
    let word = Word::from_raw(cell(mapping, slot, SlotCell::Word).load());
    let identity = Identity::from_raw(cell(mapping, slot, SlotCell::Identity).load());
    let Ok(held) = pidfd::open(pid) else {
        return decide(word, identity, Found::Nobody);
    };
    let seen = |ticks| Seen { inode: inode(&held), start_ticks: ticks };
    let is_ours = |parent| parent == Some(process::id());
    let found = match examine(&held, pid).unwrap() {
        Presence::Alive { parent, start_ticks } => {
            Found::Alive { seen: seen(Some(start_ticks)), is_ours: is_ours(parent) }
        }
        Presence::Zombie { parent, start_ticks, exit } => {
            Found::Zombie { seen: seen(Some(start_ticks)), is_ours: is_ours(parent), exit }
        }
        Presence::Gone { exit } => Found::Gone { seen: seen(None), exit },
    };
    decide(word, identity, found)
}

#[test]
fn a_life_is_written_down_and_found_again_by_a_successor() {
    let folder = Folder::new("ledger-life");
    let path = folder.0.join("ledger");
    let first = encode_header(&scope(), 1).unwrap();
    let made = Mapping::create(&path, &first, file_bytes(1)).unwrap();
    let slot = SlotNumber(slots(1) - 1);
    let word = cell(&made, slot, SlotCell::Word);
    cell(&made, slot, SlotCell::Owner).store(owner_cell("web"));
    let down = Word::UNUSED.claimed().unwrap();
    assert!(word.exchange(Word::UNUSED.raw(), down.raw()));
    let intent = down.intended().unwrap();
    assert!(word.exchange(down.raw(), intent.raw()));
    let mut child = sleeper();
    let pid = Pid::new(child.id()).unwrap();
    assert!(word.exchange(intent.raw(), run_word(intent.raw(), pid.get())));
    let held = pidfd::open(pid).unwrap();
    let identity = inode(&held).map(Identity::Inode);
    let identity = identity.and_then(Identity::raw).unwrap_or(0);
    cell(&made, slot, SlotCell::Identity).store(identity);

    // Somebody else opens it, as if we were gone.
    let (mapping, header) = open(&path);
    assert_eq!(header, Header { chunks: 1, answered: 0, surplus_bytes: 0 });
    let generation = Generation::new(1);
    assert_eq!(look(&mapping, slot, pid), Decision::Adopt(generation, pid));
    // A pid that another process has is not taken for it.
    let mut other = sleeper();
    if identity != 0 {
        let other = Pid::new(other.id()).unwrap();
        assert_eq!(look(&mapping, slot, other), Decision::Record(generation, Exit::Unknown));
    }
    other.kill().unwrap();
    other.wait().unwrap();
    signals::send(pid, Signal::KILL).unwrap();
    let mut polled = [PollFd::new(&held, PollFlags::IN)];
    let deadline = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut polled, Some(&deadline)), Ok(1), "it has ended");
    let killed = Exit::Signal { signal: Signal::KILL, core: false };
    assert_eq!(look(&mapping, slot, pid), Decision::Record(generation, killed));
    let word = cell(&mapping, slot, SlotCell::Word);
    let run = Word::from_raw(word.load()).unwrap();
    let ended = run.ended(killed).unwrap();
    assert!(word.exchange(run.raw(), ended.raw()));
    child.wait().unwrap();
    assert_eq!(look(&made, slot, pid), Decision::Report(generation, Outcome::Ended(killed)));

    let index = ring::entry_of(generation);
    let entry = cell(&mapping, slot, SlotCell::EntryWord(index));
    let Put::Write(raw) = ring::put(entry.load(), ended) else { panic!("there is room") };
    cell(&mapping, slot, SlotCell::EntryTime(index)).store(ring::time_cell(Instant::from_nanos(5)));
    assert!(entry.exchange(0, raw) && word.exchange(ended.raw(), ended.settled().unwrap().raw()));
    assert_eq!(look(&made, slot, pid), Decision::MayStart(Generation::new(2)));
    let entries = std::array::from_fn(|index| {
        let load = |which| cell(&made, slot, which).load();
        (load(SlotCell::EntryWord(index)), load(SlotCell::EntryTime(index)))
    });
    let (waiting, damaged) = ring::waiting(&entries);
    assert_eq!((waiting.len(), damaged.len()), (1, 0));
    assert_eq!(waiting[0].outcome, Outcome::Ended(killed));
    assert_eq!(waiting[0].time, Some(Instant::from_nanos(5)));
}

#[test]
fn a_lost_growth_is_cut_off_and_a_finished_one_is_seen() {
    let folder = Folder::new("ledger-growth");
    let path = folder.0.join("ledger");
    let first = encode_header(&scope(), 1).unwrap();
    let mut made = Mapping::create(&path, &first, file_bytes(1)).unwrap();
    made.grow(file_bytes(2)).unwrap();
    // Lost before the number of chunks was written.
    let (mapping, header) = open(&path);
    assert_eq!((header.chunks, header.surplus_bytes), (1, file_bytes(2) - file_bytes(1)));
    assert_eq!(fs::metadata(&path).unwrap().len(), file_bytes(1));
    drop((mapping, made));
    let (mut mapping, _) = open(&path);
    mapping.grow(file_bytes(2)).unwrap();
    mapping.cell(CHUNKS_OFFSET).unwrap().store(seal_cell(2));
    let (mapping, header) = open(&path);
    assert_eq!((header.chunks, header.surplus_bytes), (2, 0));
    assert_eq!(cell(&mapping, SlotNumber(slots(2) - 1), SlotCell::Word).load(), 0);
}

#[test]
fn a_journal_is_replayed_up_to_what_was_answered() {
    let folder = Folder::new("ledger-journal");
    let (ledger, path) = (folder.0.join("ledger"), folder.0.join("journal"));
    let first = encode_header(&scope(), 1).unwrap();
    let mapping = Mapping::create(&ledger, &first, file_bytes(1)).unwrap();
    let answered = mapping.cell(ANSWERED_OFFSET).unwrap();
    let (bytes, mut writer) = Writer::begin(&scope(), 1, 1, &[]).unwrap();
    let mut journal = JournalFile::replace(&path, &bytes).unwrap();
    let mut append = |record: &Record<'_>, writer: &mut Writer| {
        let mut bytes = Vec::new();
        let number = writer.encode(record, &mut bytes).unwrap();
        journal.append(&[&bytes]).unwrap();
        number
    };
    let records = [
        Record::Slot(SlotNumber(0), "web"),
        Record::Command(b"service.args\tweb\t/bin/webd"),
        Record::Command(b"service.start\tweb"),
    ];
    for record in &records[..2] {
        answered.store(seal_cell(append(record, &mut writer)));
    }
    // Lost after the append and before the answer, and then in the middle of an append.
    append(&records[2], &mut writer);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"torn"].concat()).unwrap();

    let answered = open_cell(answered.load()).unwrap();
    assert_eq!(answered, 2);
    let (opened, bytes) = JournalFile::open(&path).unwrap();
    let replay = read(&bytes, &scope(), answered).unwrap();
    assert_eq!(replay.records, records);
    assert_eq!(replay.repairs, [Repair::CutOff { bytes: 4 }]);
    let mut journal = JournalFile::resume(opened, replay.sound_bytes).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);

    // A compacted one goes on with the numbers.
    let next = replay.writer.next();
    let (bytes, mut writer) = Writer::begin(&scope(), 2, next, &records[..2]).unwrap();
    let mut more = Vec::new();
    assert_eq!(writer.encode(&records[2], &mut more), Ok(6));
    journal.append(&[b"lost with the old file"]).unwrap();
    let mut journal = JournalFile::replace(&path, &bytes).unwrap();
    journal.append(&[&more]).unwrap();
    let (_, bytes) = JournalFile::open(&path).unwrap();
    assert_eq!(read(&bytes, &scope(), 6).unwrap().records, records);
    let error = read(&bytes, &scope(), 7).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the journal: record 7 is missing");
}
