//! Messages on standard error that never hold the warden up.

use std::fmt::Display;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a pipe takes in one piece if it is writable at all (PIPE_BUF).
const MESSAGE_BYTES_MAX: usize = 4096;

/// Writes one line. It is lost where standard error takes nothing at the moment or is closed:
/// reaping must go on whoever reads.
pub(super) fn say(message: impl Display) {
    let mut line = format!("keepd: {message}").into_bytes();
    line.truncate(MESSAGE_BYTES_MAX - 1);
    line.push(b'\n');
    let error = rustix::stdio::stderr();
    let mut polled = [PollFd::new(&error, PollFlags::OUT)];
    let now = Timespec::default();
    if poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0) {
        // Nobody is left who could be told.
        let _ = rustix::io::write(error, &line);
    }
}
