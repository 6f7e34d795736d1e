//! What belongs to going into the background. What changes its process has one of its own.

mod support;

use keepd_model::Errno;
use keepd_os::daemon::{Standard, fork_into_background, lock_memory, replace_by_null};
use support::is_alone;

#[test]
fn a_process_with_more_threads_is_not_forked() {
    let (wait, wake) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wake.recv());
    assert_eq!(fork_into_background().unwrap_err(), Errno(libc::EBUSY));
    drop(wait);
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn memory_is_locked_where_that_is_allowed() {
    if !is_alone("memory_is_locked_where_that_is_allowed") {
        return;
    }
    match lock_memory() {
        Ok(()) => {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            assert!(kibibytes > 0);
        }
        Err(error) => assert!([Errno(libc::ENOMEM), Errno(libc::EPERM)].contains(&error)),
    }
}

#[test]
fn standard_descriptors_are_replaced_and_stay_open() {
    if !is_alone("standard_descriptors_are_replaced_and_stay_open") {
        return;
    }
    let (read, write) = rustix::pipe::pipe().unwrap();
    rustix::stdio::dup2_stdin(&read).unwrap();
    drop(read);
    replace_by_null(Standard::Input).unwrap();
    let link = std::fs::read_link("/proc/self/fd/0").unwrap();
    assert_eq!(link, std::path::Path::new("/dev/null"));
    // Nobody reads any more.
    let refused = rustix::io::write(&write, b"x").unwrap_err();
    assert_eq!(refused, rustix::io::Errno::PIPE);
}
