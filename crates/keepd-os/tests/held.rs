//! Descriptors that are held: their numbers, what survives a spawn and an execve(2), and the
//! channel and the memory that go with them.

mod support;

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use keepd_model::{Errno, Exit, Signal};
use keepd_os::channel::{Channel, MESSAGE_BYTES_MAX, Received, Sent};
use keepd_os::exec::{Program, exec, own_program};
use keepd_os::held::{self, HELD_BASE};
use keepd_os::ledger::JournalFile;
use keepd_os::process::DescriptorLimit;
use keepd_os::spawn::{Report, SpawnRequest, reserve_slots, spawn};
use keepd_os::{memfd, pipe, signals};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{
    Folder, SmallFileSystem, Start, await_readable, end_of, final_report, is_alone, null, standard,
};

fn limit_descriptors(count: u64) {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..before }).unwrap();
}

#[test]
fn a_descriptor_is_lifted_and_placed_under_its_number() {
    if !is_alone("a_descriptor_is_lifted_and_placed_under_its_number") {
        return;
    }
    reserve_slots().unwrap();
    let first = held::lift(null()).unwrap();
    let second = held::lift(null()).unwrap();
    assert_eq!([first.as_raw_fd(), second.as_raw_fd()], [HELD_BASE, HELD_BASE + 1]);
    assert_eq!(held::place_at(null(), HELD_BASE).unwrap_err(), Errno(libc::EBUSY));
    assert_eq!(held::place_at(null(), HELD_BASE - 1).unwrap_err(), Errno::EINVAL);
    let placed = held::place_at(null(), HELD_BASE + 7).unwrap();
    assert_eq!(placed.as_raw_fd(), HELD_BASE + 7);
    let is_kept = |descriptor: &OwnedFd| rustix::io::fcntl_getfd(descriptor).unwrap().is_empty();
    assert_eq!([&first, &placed].map(is_kept), [false, true]);
    held::set_close_on_exec(HELD_BASE, false).unwrap();
    held::set_close_on_exec(HELD_BASE + 7, true).unwrap();
    assert_eq!([&first, &placed].map(is_kept), [true, false]);
    assert_eq!(held::set_close_on_exec(HELD_BASE + 9, true), Err(Errno::EBADF));
    assert_eq!(held::set_close_on_exec(-1, true), Err(Errno::EBADF));
    let open = held::open_numbers();
    let held_ones: Vec<RawFd> = open.into_iter().filter(|number| *number >= HELD_BASE).collect();
    assert_eq!(held_ones, [HELD_BASE, HELD_BASE + 1, HELD_BASE + 7]);
    drop(first);
    assert_eq!(held::lift(null()).unwrap().as_raw_fd(), HELD_BASE, "the lowest that is free");
    // As a limit of containers may be.
    limit_descriptors(HELD_BASE as u64);
    assert_eq!(held::lift(null()).unwrap_err(), Errno::EINVAL);
}

/// What a program has open from 3 on, but for what lists it.
const LIST: &str = "for n in /proc/$$/fd/*; do n=${n##*/}; \
                    [ $n -gt 2 ] && [ -e /proc/$$/fd/$n ] && echo $n; done";

#[test]
fn a_child_keeps_what_is_held_and_nothing_else() {
    if !is_alone("a_child_keeps_what_is_held_and_nothing_else") {
        return;
    }
    // With and without numbers that are taken early: a copy of the lowest part is not enough here.
    for _ in 0..2 {
        let low = null();
        rustix::io::fcntl_setfd(&low, rustix::io::FdFlags::empty()).unwrap();
        let closing = held::lift(null()).unwrap();
        let kept = [HELD_BASE + 3, HELD_BASE + 5].map(|at| held::place_at(null(), at).unwrap());
        // A source among the held ones, and one above them.
        let (one, other) = (held::lift(null()).unwrap(), held::lift(&kept[1]).unwrap());
        let extra = [(one.as_fd(), 4), (other.as_fd(), 5)];
        let found = listed(&extra);
        assert_eq!(found, [4, 5, HELD_BASE + 3, HELD_BASE + 5]);
        drop((closing, low, one, other, kept));
        reserve_slots().unwrap();
    }
    let null = null();
    let start = Start::new(&["true"]);
    let extra = [(null.as_fd(), HELD_BASE)];
    let three = standard([null.as_fd(); 3]);
    let request = start.request(&three, &extra, None);
    let refused = spawn(&SpawnRequest { keep_from: Some(HELD_BASE), ..request }).unwrap_err();
    assert_eq!(refused.errno, Errno::EINVAL, "a held number is not given away");
}

fn listed(extra: &[(BorrowedFd<'_>, RawFd)]) -> Vec<RawFd> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = null();
    let descriptors = standard([null.as_fd(), write.as_fd(), null.as_fd()]);
    let start = Start::shell(LIST);
    let request = start.request(&descriptors, extra, None);
    let mut spawned = spawn(&SpawnRequest { keep_from: Some(HELD_BASE), ..request }).unwrap();
    drop(write);
    assert_eq!(final_report(&mut spawned), Report::Executed);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut text).unwrap();
    end_of(spawned.pid());
    let mut numbers: Vec<RawFd> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_file_is_executed_whatever_its_name_says() {
    let folder = Folder::new("held-file");
    let copy = folder.join("sleeper");
    std::fs::copy("/bin/sh", &copy).unwrap();
    let file = std::fs::File::open(&copy).unwrap();
    std::fs::remove_file(&copy).unwrap();
    let start = Start::new(&["no-such-name", "-c", "exit 42"]);
    let null = null();
    let three = standard([null.as_fd(); 3]);
    let request = start.request(&three, &[], None);
    let mut spawned = spawn(&SpawnRequest { file: Some(file.as_fd()), ..request }).unwrap();
    assert_eq!(final_report(&mut spawned), Report::Executed);
    assert_eq!(end_of(spawned.pid()), Exit::Code(42));
}

/// This program becomes itself; in its second life it looks at what it has.
#[test]
fn a_process_becomes_itself_again_with_what_it_holds() {
    const TEST: &str = "a_process_becomes_itself_again_with_what_it_holds";
    const FIRST_LIFE: &str = "KEEPD_TEST_FIRST_LIFE";
    if !is_alone(TEST) {
        return;
    }
    let pid = std::process::id().to_string();
    if std::env::var_os(FIRST_LIFE).is_some_and(|first| first == pid.as_str()) {
        let open = held::open_numbers();
        assert!(open.contains(&(HELD_BASE + 1)) && !open.contains(&HELD_BASE), "{open:?}");
        assert!(!signals::ignored_signals().contains(&Signal::USR1));
        assert_eq!(getrlimit(Resource::Nofile).current, Some(400));
        let claimed = held::claim(HELD_BASE + 1).unwrap();
        assert_eq!(held::claim(HELD_BASE + 1).unwrap_err(), Errno(libc::EBUSY));
        assert_eq!(memfd::read_all(&claimed, 100).unwrap(), b"kept");
        return;
    }
    let program = own_program().unwrap();
    assert_eq!(own_program().unwrap().as_raw_fd(), program.as_raw_fd());
    let closing = held::lift(null()).unwrap();
    let memory = held::lift(memfd::create("test").unwrap()).unwrap();
    memfd::append(&memory, b"kept").unwrap();
    held::set_close_on_exec(memory.as_raw_fd(), false).unwrap();
    assert_eq!([closing.as_raw_fd(), memory.as_raw_fd()], [HELD_BASE, HELD_BASE + 1]);
    signals::ignore(Signal::USR1).unwrap();
    signals::block(&[Signal::TERM]).unwrap();
    let arguments: Vec<Vec<u8>> = std::env::args_os().map(OsStringExt::into_vec).collect();
    let entry = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        [key.as_bytes(), b"=", value.as_bytes()].concat()
    };
    let first_life = format!("{FIRST_LIFE}={pid}").into_bytes();
    let environment = std::env::vars_os().map(entry).chain([first_life]);
    let environment: Vec<Cow<'_, [u8]>> = environment.map(Cow::Owned).collect();
    let arguments = [vec![b"no-such-name".to_vec()], arguments[1..].to_vec()].concat();
    let descriptor_limit = Some(DescriptorLimit { soft: 400, hard: 400 });
    let file = Some(program);
    unreachable!(
        "{}",
        exec(&Program { file, arguments: &arguments, environment: &environment, descriptor_limit })
    );
}

#[test]
fn messages_come_whole_in_order_and_with_their_descriptors() {
    let (one, other) = Channel::pair().unwrap();
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    assert!(matches!(other.receive(&mut buffer).unwrap(), Received::Nothing));
    let log = pipe::LogPipe::new().unwrap();
    assert_eq!(one.send(b"first", Some(log.as_fd())), Ok(Sent::Done));
    assert_eq!(one.send(&[b'x'; MESSAGE_BYTES_MAX], None), Ok(Sent::Done));
    assert_eq!(one.send(&[b'x'; MESSAGE_BYTES_MAX + 1], None), Err(Errno(libc::EMSGSIZE)));
    assert_eq!(one.send(b"", None), Err(Errno::EINVAL));
    drop(one);
    await_readable(&other);
    let Received::Message { length: 5, descriptor: Some(came), is_cut: false } =
        other.receive(&mut buffer).unwrap()
    else {
        panic!("the first message comes first");
    };
    assert_eq!(&buffer[..5], b"first");
    rustix::io::write(log.open_writer().unwrap(), b"through").unwrap();
    assert_eq!(rustix::io::read(&came, &mut buffer).unwrap(), 7);
    let Received::Message { length: MESSAGE_BYTES_MAX, descriptor: None, is_cut: false } =
        other.receive(&mut buffer).unwrap()
    else {
        panic!("then the second");
    };
    assert!(matches!(other.receive(&mut buffer).unwrap(), Received::Closed));
    assert!(other.send(b"late", None).is_err());
}

#[test]
fn what_does_not_fit_is_said() {
    let (one, other) = Channel::pair().unwrap();
    one.send(b"too long", None).unwrap();
    let mut buffer = [0; 3];
    let received = other.receive(&mut buffer).unwrap();
    assert!(matches!(received, Received::Message { length: 3, is_cut: true, .. }), "{received:?}");
    let mut count = 0_u32;
    while one.send(&[b'x'; 4096], None) == Ok(Sent::Done) {
        count += 1;
    }
    assert!((10..10_000).contains(&count), "{count} messages fit");
    assert!(matches!(other.receive(&mut buffer).unwrap(), Received::Message { .. }));
    assert_eq!(one.send(b"x", None), Ok(Sent::Done), "there is room again");
}

#[test]
fn a_descriptor_without_a_free_number_is_said_to_be_lost() {
    if !is_alone("a_descriptor_without_a_free_number_is_said_to_be_lost") {
        return;
    }
    let (one, other) = Channel::pair().unwrap();
    one.send(b"hold", Some(null().as_fd())).unwrap();
    limit_descriptors(3);
    let mut buffer = [0; 16];
    let received = other.receive(&mut buffer).unwrap();
    let is_lost =
        matches!(received, Received::Message { length: 4, descriptor: None, is_cut: true });
    assert!(is_lost, "{received:?}");
}

#[test]
fn memory_is_appended_to_and_read_whole() {
    let memory = memfd::create("test").unwrap();
    assert_eq!(memfd::read_all(&memory, 0).unwrap(), b"");
    memfd::append(&memory, b"one\n").unwrap();
    let copy = memory.try_clone().unwrap();
    assert_eq!(memfd::read_all(&copy, 10).unwrap(), b"one\n");
    memfd::append(&copy, b"two\n").unwrap();
    assert_eq!(memfd::read_all(&memory, 8).unwrap(), b"one\ntwo\n");
    assert_eq!(memfd::read_all(&memory, 7), Err(Errno(libc::EFBIG)));
    memfd::replace(&memory, b"3").unwrap();
    assert_eq!(memfd::read_all(&copy, 8).unwrap(), b"3");
}

#[test]
fn what_is_reserved_can_be_appended_on_a_full_file_system() {
    let Some(small) = SmallFileSystem::new("held-small") else {
        return;
    };
    let mut journal = JournalFile::replace(&small.join("journal"), b"head").unwrap();
    assert_eq!(journal.reserve(1 << 30), Err(Errno(libc::ENOSPC)));
    journal.reserve(100_000).unwrap();
    assert_eq!(std::fs::metadata(small.join("journal")).unwrap().len(), 4);
    let filler = std::fs::write(small.join("filler"), vec![0; 4 << 20]);
    assert_eq!(filler.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    let before = journal.length_bytes();
    for _ in 0..100 {
        journal.append(&[&[b'x'; 1000]]).unwrap();
        journal.reserve(0).unwrap();
    }
    assert_eq!(journal.length_bytes(), before + 100_000);
    assert_eq!(journal.reserve(1_000_000), Err(Errno(libc::ENOSPC)));
    assert_eq!(journal.length_bytes(), before + 100_000);
}
