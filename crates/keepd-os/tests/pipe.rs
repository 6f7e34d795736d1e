//! Log pipes: no end, no SIGPIPE, no shared O_NONBLOCK.

#![expect(unsafe_code, reason = "a child between fork and its end has no safe face")]

mod support;

use std::os::fd::{AsFd, AsRawFd};

use keepd_model::{Errno, Exit, Signal};
use keepd_os::pipe::{LogPipe, find_again};
use keepd_os::spawn::spawn;
use rustix::fs::{OFlags, fcntl_getfl};
use support::{Start, end_of, is_root, null, read_until, standard};

#[test]
fn ours_never_blocks_and_theirs_does() {
    let pipe = LogPipe::new().unwrap();
    let writer = pipe.open_writer().unwrap();
    assert!(fcntl_getfl(&pipe).unwrap().contains(OFlags::NONBLOCK | OFlags::RDWR));
    let theirs = fcntl_getfl(&writer).unwrap();
    assert!(theirs.contains(OFlags::RDWR) && !theirs.contains(OFlags::NONBLOCK));
    for descriptor in [pipe.as_fd(), writer.as_fd()] {
        let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    assert_eq!(rustix::io::read(&pipe, &mut [0; 1]), Err(rustix::io::Errno::AGAIN));
    rustix::io::write(&writer, b"four").unwrap();
    assert_eq!(pipe.waiting_bytes(), Ok(4));
    drop(writer);
    assert_eq!(rustix::io::read(&pipe, &mut [0; 9]), Ok(4));
    assert_eq!(
        rustix::io::read(&pipe, &mut [0; 1]),
        Err(rustix::io::Errno::AGAIN),
        "no end, though every writer is gone"
    );
}

#[test]
fn a_service_outlives_the_reader_of_its_output() {
    let pipe = LogPipe::new().unwrap();
    let script = "echo first; read -r line; echo second; echo third >/dev/stdout; exit 5";
    let (wake_read, wake) = rustix::pipe::pipe().unwrap();
    let child = {
        let writer = pipe.open_writer().unwrap();
        let start = Start::shell(script);
        let descriptors = standard([wake_read.as_fd(), writer.as_fd(), writer.as_fd()]);
        spawn(&start.request(&descriptors, &[], None)).unwrap()
    };
    read_until(&pipe, "first\n");
    // Nobody holds our side any more when it writes again.
    let path = format!("/proc/{}/fd/1", child.pid());
    drop(pipe);
    let successor = std::fs::File::options().read(true).write(true).open(path).unwrap();
    rustix::io::write(&wake, b"go\n").unwrap();
    assert_eq!(end_of(child.pid()), Exit::Code(5));
    read_until(&successor, "second\nthird\n");
}

#[test]
fn the_owner_can_reopen_its_output() {
    if !is_root("the_owner_can_reopen_its_output") {
        return;
    }
    let pipe = LogPipe::new().unwrap();
    let mut start = Start::shell("echo again >/dev/stdout");
    start.uid = Some(65_534);
    let null = null();
    let run = |pipe: &LogPipe| {
        let writer = pipe.open_writer().unwrap();
        let descriptors = standard([null.as_fd(), writer.as_fd(), null.as_fd()]);
        let child = spawn(&start.request(&descriptors, &[], None)).unwrap();
        end_of(child.pid())
    };
    assert_ne!(run(&pipe), Exit::Code(0));
    pipe.set_owner(65_534).unwrap();
    assert_eq!(run(&pipe), Exit::Code(0));
    assert_eq!(pipe.waiting_bytes(), Ok(6));
    assert!(pipe.as_fd().as_raw_fd() > 2);
}

#[test]
fn what_is_spliced_is_in_the_file_and_no_longer_in_the_pipe() {
    let folder = support::Folder::new("pipe-splice");
    let file = keepd_os::file::open_log(&folder.join("log")).unwrap();
    let pipe = LogPipe::new().unwrap();
    assert_eq!(pipe.splice_to(&file, 0, 100), Err(Errno::EAGAIN));
    let writer = pipe.open_writer().unwrap();
    rustix::io::write(&writer, b"one two").unwrap();
    assert_eq!(pipe.splice_to(&file, 3, 4), Ok(4));
    assert_eq!(pipe.waiting_bytes(), Ok(3));
    assert_eq!(pipe.splice_to(&file, 7, 4), Ok(3));
    assert_eq!(std::fs::read(folder.join("log")).unwrap(), b"\0\0\0one two");
    rustix::io::write(&writer, b"!").unwrap();
    let appending = keepd_os::file::open_append(&folder.join("log")).unwrap();
    assert_eq!(pipe.splice_to(&appending, 0, 4), Err(Errno::EINVAL));
    assert_eq!(pipe.waiting_bytes(), Ok(1), "nothing is lost");
}

#[test]
fn a_pipe_is_found_again_in_the_process_that_writes_into_it() {
    let pipe = LogPipe::new().unwrap();
    let null = null();
    let theirs = pipe.open_writer().unwrap();
    let descriptors = standard([null.as_fd(), theirs.as_fd(), null.as_fd()]);
    let start = Start::shell("echo late; exec sleep 1000");
    let spawned = spawn(&start.request(&descriptors, &[], None)).unwrap();
    let pid = spawned.pid();
    let pidfd = keepd_os::pidfd::open(pid).unwrap();
    support::await_readable(&pipe);
    drop((pipe, theirs));
    assert!(find_again(pid, &pidfd, 2).unwrap().is_none(), "/dev/null is no pipe");
    assert!(find_again(pid, &pidfd, 9).unwrap().is_none());
    let found = find_again(pid, &pidfd, 1).unwrap().unwrap();
    assert!(fcntl_getfl(&found).unwrap().contains(OFlags::NONBLOCK | OFlags::RDWR));
    assert_eq!(found.owner(), Ok(keepd_os::process::effective_uid()));
    assert_eq!(rustix::io::read(&found, &mut [0; 9]), Ok(5));
    keepd_os::signals::send(pid, Signal::KILL).unwrap();
    end_of(pid);
    assert!(find_again(pid, &pidfd, 1).is_err() || find_again(pid, &pidfd, 1).unwrap().is_none());
}

#[test]
fn a_pipe_of_another_kind_is_not_taken_for_a_log() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = null();
    let descriptors = standard([reader.as_fd(), writer.as_fd(), null.as_fd()]);
    let spawned = spawn(&Start::shell("read x").request(&descriptors, &[], None)).unwrap();
    let pid = spawned.pid();
    let pidfd = keepd_os::pidfd::open(pid).unwrap();
    for number in 0..2 {
        assert!(find_again(pid, &pidfd, number).unwrap().is_none());
    }
    keepd_os::signals::send(pid, Signal::KILL).unwrap();
    end_of(pid);
}

#[test]
fn what_a_full_disk_does_not_take_stays_in_the_pipe() {
    let Some(small) = support::SmallFileSystem::new("pipe-full") else {
        return;
    };
    let path = small.join("log");
    let file = keepd_os::file::open_log(&path).unwrap();
    let pipe = LogPipe::new().unwrap();
    let writer = pipe.open_writer().unwrap();
    let mut sent: Vec<u8> = Vec::new();
    let mut length = 0;
    let error = loop {
        let line = format!("{:0>999}\n", sent.len());
        rustix::io::write(&writer, line.as_bytes()).unwrap();
        sent.extend_from_slice(line.as_bytes());
        match pipe.splice_to(&file, length, 64 * 1024) {
            Ok(count) => length += count as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno(libc::ENOSPC));
    let mut found = std::fs::read(&path).unwrap();
    found.truncate(length as usize);
    let mut rest = vec![0; 64 * 1024];
    let count = rustix::io::read(&pipe, &mut rest).unwrap();
    found.extend_from_slice(&rest[..count]);
    assert!(found == sent, "{length} in the file and {count} in the pipe of {}", sent.len());
}

/// Someone who is killed while he moves bytes has lost and doubled none of them.
#[test]
fn a_kill_at_any_moment_tears_no_byte_out_of_a_pipe() {
    let folder = support::Folder::new("pipe-killed");
    let path = folder.join("log");
    let file = keepd_os::file::open_log(&path).unwrap();
    let pipe = LogPipe::new().unwrap();
    let writer = pipe.open_writer().unwrap();
    let mut sent: Vec<u8> = Vec::new();
    let mut kills_within = 0;
    for round in 0..200_u32 {
        let start = std::fs::metadata(&path).unwrap().len();
        for _ in 0..40 {
            let line = format!("{}\n", sent.len());
            rustix::io::write(&writer, line.as_bytes()).unwrap();
            sent.extend_from_slice(line.as_bytes());
        }
        // SAFETY: the child makes system calls only, and ends without running anything else.
        let pid = unsafe {
            match libc::fork() {
                0 => {
                    let mut offset = start;
                    while let Ok(count) = pipe.splice_to(&file, offset, 64) {
                        offset += count as u64;
                    }
                    libc::_exit(0)
                }
                pid => keepd_model::Pid::new(pid as u32).unwrap(),
            }
        };
        for _ in 0..round * 50 {
            std::hint::black_box(round);
        }
        let _ = keepd_os::signals::send(pid, Signal::KILL);
        kills_within += u32::from(end_of(pid) != Exit::Code(0));
        let in_file = std::fs::metadata(&path).unwrap().len();
        let in_pipe = pipe.waiting_bytes().unwrap();
        assert_eq!(in_file + in_pipe, sent.len() as u64, "round {round}");
    }
    let mut offset = std::fs::metadata(&path).unwrap().len();
    while let Ok(count) = pipe.splice_to(&file, offset, 64 * 1024) {
        offset += count as u64;
    }
    assert!(std::fs::read(&path).unwrap() == sent);
    println!("{kills_within} of 200 came before the end");
}
