//! Log pipes: no end, no SIGPIPE, no shared O_NONBLOCK.

mod support;

use std::os::fd::{AsFd, AsRawFd};

use keepd_model::Exit;
use keepd_os::pipe::LogPipe;
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
