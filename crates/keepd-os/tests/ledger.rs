//! The ledger's part of the kernel, on the real one.
#![expect(unsafe_code, reason = "a child between fork and its end has no safe face")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use keepd_model::{Errno, Exit, Pid, Signal};
use keepd_os::ledger::{
    Cell, ChildRecord, JournalFile, Mapping, Presence, RecordError, examine, exit_of, facilities,
    has_inodes, inode, is_consumed, is_in_memory,
};
use keepd_os::{file, pidfd, process, signals};
use rustix::event::PollFlags;
use support::{Folder, Start, await_end, await_ready, end_of};

const PAGE: u64 = 4096;

/// fork(2): runs a few raw calls in a child, which then ends with what they return.
fn in_child(run: impl FnOnce() -> u8) -> Pid {
    // SAFETY: the child does what is allowed after fork(2) of a program with threads, by the
    // promise of each caller: it neither allocates nor locks, and ends without running anything
    // else.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(run().into()),
            pid => Pid::new(pid as u32).unwrap(),
        }
    }
}

fn mapping(folder: &Folder) -> Mapping {
    Mapping::create(&folder.join("ledger"), b"head", PAGE).unwrap()
}

fn cell(mapping: &Mapping, number: u64) -> Cell<'_> {
    mapping.cell(number * 8).unwrap()
}

#[test]
fn a_mapping_is_private_whole_and_the_only_one() {
    let folder = Folder::new("ledger-create");
    let made = mapping(&folder);
    let path = folder.join("ledger");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, PAGE));
    assert!(metadata.blocks() * 512 >= PAGE, "its space is allocated");
    assert_eq!(cell(&made, 0).load(), u64::from_le_bytes(*b"head\0\0\0\0"));
    assert_eq!(Mapping::create(&path, b"", PAGE).unwrap_err(), Errno(libc::EEXIST));
    assert!(!folder.join("ledger.new").exists());
    // Somebody was lost while making one.
    fs::write(folder.join("other.new"), "half").unwrap();
    Mapping::create(&folder.join("other"), b"", PAGE).unwrap();
    assert!(!folder.join("other.new").exists());
}

#[test]
fn what_is_not_ours_alone_is_refused() {
    let folder = Folder::new("ledger-open");
    drop(mapping(&folder));
    let path = folder.join("ledger");
    let refusal = |name: &str| Mapping::open(&folder.join(name)).map(|_| ()).unwrap_err();
    assert_eq!(Mapping::open(&path).unwrap().1, PAGE);
    symlink(&path, folder.join("link")).unwrap();
    assert_eq!(refusal("link"), Errno(libc::ELOOP));
    fs::create_dir(folder.join("folder")).unwrap();
    assert_eq!(refusal("folder"), Errno(libc::EISDIR));
    assert_eq!(refusal("nothing"), Errno::ENOENT);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(refusal("ledger"), Errno(libc::EPERM));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&path, folder.join("second")).unwrap();
    assert_eq!(refusal("ledger"), Errno(libc::EPERM));
}

#[test]
fn lengths_are_checked_and_a_surplus_is_cut_off() {
    let folder = Folder::new("ledger-length");
    drop(mapping(&folder));
    let path = folder.join("ledger");
    let of = |length| Mapping::of(Mapping::open(&path).unwrap().0, length);
    for bad in [0, PAGE - 1, PAGE + 8] {
        assert_eq!(of(bad).unwrap_err(), Errno::EINVAL, "{bad}");
    }
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(PAGE + 100).unwrap();
    let made = of(PAGE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), PAGE);
    assert!(made.cell(PAGE - 8).is_some());
    for bad in [PAGE, PAGE - 7, 4, u64::MAX - 7] {
        assert!(made.cell(bad).is_none(), "{bad}");
    }
}

#[test]
fn cells_are_shared_by_all_who_map_them_and_stay_when_it_grows() {
    let folder = Folder::new("ledger-grow");
    let mut one = mapping(&folder);
    let path = folder.join("ledger");
    cell(&one, 7).store(70);
    one.grow(3 * PAGE).unwrap();
    assert_eq!(one.length_bytes(), 3 * PAGE);
    assert_eq!(one.grow(PAGE).unwrap_err(), Errno::EINVAL);
    let (opened, length) = Mapping::open(&path).unwrap();
    assert_eq!(length, 3 * PAGE);
    let two = Mapping::of(opened, length).unwrap();
    assert_eq!(cell(&two, 7).load(), 70);
    let last = 3 * PAGE / 8 - 1;
    cell(&two, last).store(5);
    assert_eq!(cell(&one, last).load(), 5);
    assert!(!cell(&one, last).exchange(4, 6));
    assert!(cell(&one, last).exchange(5, 6));
    assert_eq!(cell(&two, last).load(), 6);
}

#[test]
fn a_full_file_system_leaves_what_was_there() {
    let folder = Folder::new("ledger-full");
    let mut made = mapping(&folder);
    cell(&made, 7).store(70);
    // No file system has so much.
    let error = made.grow(1 << 60).unwrap_err();
    assert!([libc::ENOSPC, libc::EFBIG].contains(&error.0), "{error:?}");
    assert_eq!(made.length_bytes(), PAGE);
    assert_eq!(fs::metadata(folder.join("ledger")).unwrap().len(), PAGE);
    assert_eq!(cell(&made, 7).load(), 70);
    let path = folder.join("huge");
    assert!(Mapping::create(&path, b"", 1 << 60).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

const INTENT: u64 = 1 << 40;
const AWAITED: u64 = 1 << 41;

fn run_word(intent: u64, pid: u32) -> u64 {
    intent | u64::from(pid)
}

fn failed_word(current: u64, step: u8, errno: i32) -> u64 {
    current | u64::from(step) << 50 | (errno as u64) << 56
}

fn inode_cell(inode: u64) -> u64 {
    inode
}

fn record(mapping: &Mapping) -> ChildRecord<'_> {
    let [word, identity] = [8, 9].map(|number| cell(mapping, number));
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
        inode_cell,
    }
}

#[test]
fn a_child_records_itself_and_the_record_outlives_it() {
    let folder = Folder::new("ledger-child");
    let made = mapping(&folder);
    let record = record(&made);
    let pid = in_child(|| u8::from(record.record() != Ok(())));
    let held = pidfd::open(pid).unwrap();
    await_end(pid);
    assert_eq!(record.word.load(), INTENT | u64::from(pid.get()));
    if has_inodes() {
        assert_eq!(Some(record.identity.load()), inode(&held));
        let own = inode(pidfd::open(process::id()).unwrap());
        assert!(own.is_some() && own != inode(&held));
    } else {
        assert_eq!(record.identity.load(), AWAITED);
    }
    assert_eq!(end_of(pid), Exit::Code(0));
}

#[test]
fn a_child_whose_intent_was_taken_back_is_refused_and_changes_nothing() {
    let folder = Folder::new("ledger-refused");
    let made = mapping(&folder);
    let record = record(&made);
    let refused = |record: &ChildRecord<'_>| {
        let pid = in_child(|| {
            record.record_failure(13, 2);
            u8::from(record.record() == Err(RecordError::Refused))
        });
        assert_eq!(end_of(pid), Exit::Code(1));
    };
    record.word.store(77);
    refused(&record);
    assert_eq!(record.word.load(), 77);
    if has_inodes() {
        // A later generation has its own identity by now.
        record.word.store(INTENT);
        record.identity.store(78);
        let pid = in_child(|| u8::from(record.record() == Err(RecordError::Refused)));
        assert_eq!(end_of(pid), Exit::Code(1));
        assert_eq!((record.word.load(), record.identity.load()), (INTENT, 78));
    }
    let none = ChildRecord { run_word: |_, _| 0, has_inodes: false, ..record };
    let pid = in_child(|| u8::from(none.record() == Err(RecordError::NoWord)));
    assert_eq!(end_of(pid), Exit::Code(1));
}

#[test]
fn a_failed_step_is_recorded_before_and_after_the_child_recorded_itself() {
    let folder = Folder::new("ledger-failed");
    let made = mapping(&folder);
    for is_recorded in [false, true] {
        let record = record(&made);
        let pid = in_child(|| {
            if is_recorded && record.record() != Ok(()) {
                return 1;
            }
            record.record_failure(13, 2);
            0
        });
        assert_eq!(end_of(pid), Exit::Code(0));
        let before = if is_recorded { run_word(INTENT, pid.get()) } else { INTENT };
        assert_eq!(record.word.load(), failed_word(before, 13, 2));
    }
}

#[test]
fn a_child_that_is_killed_anywhere_has_recorded_itself_or_not_at_all() {
    let folder = Folder::new("ledger-killed");
    let made = mapping(&folder);
    let mut recorded = 0;
    for round in 0..200_u32 {
        let record = record(&made);
        let pid = in_child(|| {
            let _ = record.record();
            0
        });
        // The kill comes a little later each round: by work, not by a clock.
        for _ in 0..round * 200 {
            std::hint::black_box(round);
        }
        let _ = signals::send(pid, Signal::KILL);
        end_of(pid);
        let word = record.word.load();
        assert!([INTENT, run_word(INTENT, pid.get())].contains(&word), "{word:x}");
        recorded += usize::from(word != INTENT);
        if word != INTENT && has_inodes() {
            assert_ne!(record.identity.load(), AWAITED, "the identity comes first");
        }
    }
    println!("{recorded} of 200 had recorded themselves");
}

#[test]
fn of_a_child_and_who_takes_its_intent_back_one_wins() {
    const CANCELLED: u64 = 1 << 42;
    let folder = Folder::new("ledger-race");
    let made = mapping(&folder);
    let mut cancelled = 0;
    for round in 0..300_u32 {
        let record = record(&made);
        let pid = in_child(|| u8::from(record.record() == Err(RecordError::Refused)));
        for _ in 0..round * 200 {
            std::hint::black_box(round);
        }
        let is_cancelled = record.word.exchange(INTENT, CANCELLED);
        let expected = if is_cancelled { CANCELLED } else { run_word(INTENT, pid.get()) };
        assert_eq!(end_of(pid), Exit::Code(is_cancelled.into()));
        assert_eq!(record.word.load(), expected);
        cancelled += u32::from(is_cancelled);
    }
    println!("{cancelled} of 300 were taken back");
}

#[test]
fn a_life_is_seen_through_a_pidfd() {
    let spawned = Start::shell("exec sleep 1000").start();
    let pid = spawned.pid();
    let held = pidfd::open(pid).unwrap();
    let this = Some(process::id());
    let alive = examine(&held, pid).unwrap();
    let Presence::Alive { parent, start_ticks } = alive else { panic!("{alive:?}") };
    assert_eq!(parent, this);
    assert_eq!(is_consumed(&held), Ok(false));
    signals::send(pid, Signal::KILL).unwrap();
    await_end(pid);
    let killed = Exit::Signal { signal: Signal::KILL, core: false };
    let zombie = Presence::Zombie { parent, start_ticks, exit: Some(killed) };
    assert_eq!(examine(&held, pid), Ok(zombie));
    assert_eq!(is_consumed(&held), Ok(false));
    assert_eq!(end_of(pid), killed);
    assert_eq!(is_consumed(&held), Ok(true));
    if tells_exits() {
        assert_eq!(examine(&held, pid), Ok(Presence::Gone { exit: Some(killed) }));
    } else {
        assert_eq!(examine(&held, pid), Ok(Presence::Gone { exit: None }));
    }
}

fn tells_exits() -> bool {
    facilities().iter().any(|one| one.name.starts_with("exit statuses") && one.is_there)
}

#[test]
fn how_a_process_of_somebody_else_ended_is_known_once_it_was_consumed() {
    if !tells_exits() {
        eprintln!("SKIPPED: this kernel says nothing about foreign processes");
        return;
    }
    for (script, expected) in [
        ("sh -c 'echo $$; read x; exit 42' & wait", Exit::Code(42)),
        ("sh -c 'echo $$; read x; exit 0' & wait", Exit::Code(0)),
        (
            "sh -c 'echo $$; read x; kill -9 $$' & wait",
            Exit::Signal { signal: Signal::KILL, core: false },
        ),
    ] {
        use std::io::{BufRead, BufReader, Write};
        use std::process::{Command, Stdio};
        // A shell gives what is in the background no input, so it is opened by another number.
        let script = format!("exec 3<&0; {}", script.replace("read x", "read x <&3"));
        let mut parent = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::new(line.trim().parse().unwrap()).unwrap();
        let held = pidfd::open(pid).unwrap();
        assert_eq!(exit_of(&held), Ok(None));
        let seen = examine(&held, pid).unwrap();
        let shell = Pid::new(parent.id());
        assert!(matches!(seen, Presence::Alive { parent, .. } if parent == shell), "{seen:?}");
        parent.stdin.take().unwrap().write_all(b"go\n").unwrap();
        await_ready(&held, PollFlags::HUP);
        assert_eq!(exit_of(&held), Ok(Some(expected)), "{script}");
        assert_eq!(examine(&held, pid), Ok(Presence::Gone { exit: Some(expected) }));
        assert!(parent.wait().is_ok());
    }
}

#[test]
fn facilities_are_sentences_and_a_new_kernel_has_them_all() {
    let all = facilities();
    for one in &all {
        let text = one.without;
        assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text}");
        println!("{}: {}", one.name, one.is_there);
    }
    assert!(all[0].is_there, "every kernel that keepd runs on has pidfds");
    assert_eq!(all[1].is_there, has_inodes());
    assert_eq!(facilities(), all);
    if fs::metadata("/dev/shm").is_ok_and(|shm| shm.is_dir()) {
        assert_eq!(is_in_memory("/dev/shm".as_ref()), Ok(true));
    }
    assert_eq!(is_in_memory("/proc".as_ref()), Ok(false));
}

#[test]
fn a_journal_is_appended_to_and_goes_on_where_it_was_sound() {
    let folder = Folder::new("journal-append");
    let path = folder.join("journal");
    let mut journal = JournalFile::replace(&path, b"head").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    journal.append(&[b"one", b"", b"two"]).unwrap();
    assert_eq!(journal.length_bytes(), 10);
    let (opened, bytes) = JournalFile::open(&path).unwrap();
    assert_eq!(bytes, b"headonetwo");
    let mut journal = JournalFile::resume(opened, 7).unwrap();
    journal.append(&[b"3"]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"headone3");
    assert_eq!(journal.append(&[&b"x"[..]; 1025]), Err(Errno::EINVAL));
    let journal = JournalFile::replace(&path, b"compacted").unwrap();
    assert_eq!(journal.length_bytes(), 9);
    assert_eq!(fs::read(&path).unwrap(), b"compacted");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_record_that_does_not_fit_leaves_the_ones_before_it() {
    if !support::is_alone("a_record_that_does_not_fit_leaves_the_ones_before_it") {
        return;
    }
    // A limit of file sizes stands for a full disk: the same short writes, and an error at once.
    const LIMIT: u64 = 100;
    signals::ignore(Signal::new(libc::SIGXFSZ as u8).unwrap()).unwrap();
    let limit = rustix::process::Rlimit { current: Some(LIMIT), maximum: None };
    let folder = Folder::new("journal-full");
    let path = folder.join("journal");
    let mut journal = JournalFile::replace(&path, &[b'h'; 90]).unwrap();
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let error = journal.append(&[&[b'x'; 20]]).unwrap_err();
    assert_eq!(error, Errno(libc::ENOSPC), "it was written in part");
    assert_eq!(fs::read(&path).unwrap(), [b'h'; 90]);
    journal.append(&[&[b'y'; 10]]).unwrap();
    assert_eq!(journal.append(&[b"z"]), Err(Errno(libc::EFBIG)));
    assert!(JournalFile::replace(&path, &[b'c'; 101]).is_err());
    let whole = [&[b'h'; 90][..], &[b'y'; 10]].concat();
    assert_eq!(fs::read(&path).unwrap(), whole, "the one before is still there");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(file::length(JournalFile::open(&path).unwrap().0), Ok(100));
}
