//! The proxy's own messages: `LEVEL: TEXT` lines that never block the loop.
//!
//! They are collected in a small buffer and written by the thread that makes them, at the end of a
//! turn. What does not fit while nobody reads is counted, and the count is the first thing that is
//! said afterwards. The destination may be shared with others, so it is not made non-blocking: it
//! is asked before each write.

use std::fmt;
use std::io::{IoSlice, IsTerminal as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use keepd_model::{Instant, LogLevel};
use keepd_os::epoll::{Epoll, Interest};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::ReadWriteFlags;

use crate::token::Token;

/// What waits for a slow reader at most; further messages are only counted (daemonproxy's size).
const BUFFER_BYTES_MAX: usize = 1024;
/// A longer message is cut, so that one message always fits into an empty buffer.
const TEXT_BYTES_MAX: usize = 900;
/// From one attempt to the next where the kernel does not tell when it makes sense.
const RETRY: Duration = Duration::from_millis(500);

/// Messages on their way to a descriptor.
pub(crate) struct Log {
    destination: Destination,
    filter: LogLevel,
    buffer: Vec<u8>,
    lost: u64,
    state: State,
}

/// Where messages go.
pub(crate) enum Destination {
    /// Descriptor 2.
    Standard,
    /// A copy of the descriptor of a handle.
    Held(OwnedFd),
    /// They wait until there is one.
    Nowhere,
}

impl Destination {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Standard => Some(rustix::stdio::stderr()),
            Self::Held(descriptor) => Some(descriptor.as_fd()),
            Self::Nowhere => None,
        }
    }
}

/// How the last write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Well.
    Free,
    /// Nobody takes more; the epoll set says when somebody does.
    Waiting,
    /// It failed although there was room, or the set does not take the destination.
    Retrying { at: Instant },
}

impl Default for Log {
    fn default() -> Self {
        Self {
            destination: Destination::Standard,
            filter: LogLevel::Debug,
            buffer: Vec::with_capacity(BUFFER_BYTES_MAX),
            lost: 0,
            state: State::Free,
        }
    }
}

impl Log {
    /// Returns the filter.
    pub(crate) fn filter(&self) -> LogLevel {
        self.filter
    }

    /// Suppresses messages of this level and below from now on.
    pub(crate) fn set_filter(&mut self, filter: LogLevel) {
        self.filter = filter;
    }

    /// Reports whether it has nowhere to go.
    pub(crate) fn is_closed(&self) -> bool {
        self.destination.descriptor().is_none()
    }

    /// Writes to another descriptor from now on. What waits goes there too.
    pub(crate) fn set_destination(&mut self, epoll: Option<&Epoll>, destination: Destination) {
        let old = self.destination.descriptor();
        if let (State::Waiting, Some(old), Some(epoll)) = (self.state, old, epoll) {
            let _ = epoll.remove(old);
        }
        self.state = State::Free;
        self.destination = destination;
    }

    /// Adds a message; it is written with the next [`Log::flush`].
    pub(crate) fn say(&mut self, level: LogLevel, text: impl fmt::Display) {
        if level <= self.filter {
            return;
        }
        let text = text.to_string();
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // A line feed of a foreign text would forge a message.
        let line = format!("{level}: {}\n", text[..end].replace('\n', " "));
        if self.lost > 0 || self.buffer.len() + line.len() > BUFFER_BYTES_MAX {
            self.lost += 1;
        } else {
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }

    /// Returns when to try again, where only time can tell.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Retrying { at } if self.destination.descriptor().is_some() => Some(at),
            State::Retrying { .. } | State::Free | State::Waiting => None,
        }
    }

    /// The epoll set says that somebody takes more.
    pub(crate) fn on_ready(&mut self, epoll: &Epoll, now: Instant) {
        if let (State::Waiting, Some(destination)) = (self.state, self.destination.descriptor()) {
            let _ = epoll.remove(destination);
            // One attempt; if there is no room after all, the set cannot be trusted.
            self.state = State::Retrying { at: now };
        }
    }

    /// Writes what waits, if the destination takes it now. Without an epoll set (before the loop,
    /// and at the end) there is one attempt.
    pub(crate) fn flush(&mut self, epoll: Option<&Epoll>, now: Instant) {
        let mut may_wait = match self.state {
            State::Free => true,
            State::Waiting => return,
            State::Retrying { at } if now < at => return,
            State::Retrying { .. } => false,
        };
        while !self.buffer.is_empty() {
            let Some(destination) = self.destination.descriptor() else {
                return;
            };
            let count = write_if_ready(destination, &self.buffer).unwrap_or(0);
            self.buffer.drain(..count);
            if count == 0 {
                let waits = may_wait
                    && epoll.is_some_and(|epoll| {
                        epoll.add(destination, Token::Log.into(), Interest::WRITE).is_ok()
                    });
                if waits {
                    self.state = State::Waiting;
                    return;
                }
                // What no set takes is always "ready": it gets one more attempt, then the clock
                // decides.
                if !std::mem::take(&mut may_wait) {
                    self.state = State::Retrying { at: now.saturating_add(RETRY) };
                    return;
                }
            }
            if self.buffer.is_empty() && self.lost > 0 {
                let lost = std::mem::take(&mut self.lost);
                let line = format!("{}: lost {lost} log messages\n", LogLevel::Warning);
                self.buffer.extend_from_slice(line.as_bytes());
            }
        }
        self.state = State::Free;
    }
}

/// Writes without ever waiting. A write into a pipe that others fill at the same moment is made
/// with RWF_NOWAIT (pwritev2(2)) where the kernel has it for pipes. A terminal says that it takes
/// more when it takes one byte, and would wait for the rest, so it is opened again, to be
/// non-blocking for this write alone.
fn write_if_ready(destination: BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
    let mut descriptors = [PollFd::new(&destination, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(count) if count > 0 => {}
        Ok(_) | Err(_) => return None,
    }
    let is_pipe = rustix::fs::fstat(destination)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Fifo);
    if is_pipe {
        let written = rustix::io::pwritev2(
            destination,
            &[IoSlice::new(bytes)],
            u64::MAX,
            ReadWriteFlags::NOWAIT,
        );
        match written {
            Ok(count) => return Some(count),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(_) => return None,
        }
    }
    if destination.is_terminal()
        && let Some(terminal) = open_again(destination)
    {
        return rustix::io::write(terminal, bytes).ok();
    }
    rustix::io::write(destination, bytes).ok()
}

/// Opens what a descriptor refers to once more, for writing that does not wait; `None` where that
/// is not permitted, as for a terminal of another user.
fn open_again(descriptor: BorrowedFd<'_>) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Returns a log into a pipe, and the end to be read.
    fn log() -> (Log, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut log = Log::default();
        log.set_destination(None, Destination::Held(writer.into()));
        (log, reader)
    }

    #[test]
    fn a_full_buffer_counts_what_it_loses() {
        let mut log = Log::default();
        for number in 0..40 {
            log.say(LogLevel::Error, format_args!("{number:050}"));
        }
        assert!(log.buffer.len() <= BUFFER_BYTES_MAX);
        let kept = log.buffer.iter().filter(|byte| **byte == b'\n').count();
        assert!(kept >= 5);
        assert_eq!(kept as u64 + log.lost, 40);
    }

    #[test]
    fn one_message_is_one_bounded_line() {
        let mut log = Log::default();
        log.say(LogLevel::Warning, format!("a\n{}", "ö".repeat(2000)));
        assert_eq!(log.lost, 0);
        assert!(log.buffer.starts_with("warning: a ö".as_bytes()));
        assert_eq!(log.buffer.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn the_filter_suppresses_its_own_level_and_all_below() {
        let mut log = Log::default();
        for level in LogLevel::ALL.into_iter().skip(1) {
            log.say(level, "x");
        }
        assert_eq!(log.buffer, b"info: x\nwarning: x\nerror: x\nfatal: x\n");
        log.buffer.clear();
        log.set_filter(LogLevel::Fatal);
        log.say(LogLevel::Fatal, "x");
        assert!(log.buffer.is_empty());
    }

    #[test]
    fn messages_wait_for_a_destination_and_the_loss_is_told_after_them() {
        let (mut log, mut reader) = log();
        let destination = std::mem::replace(&mut log.destination, Destination::Nowhere);
        for number in 0..40 {
            log.say(LogLevel::Error, format_args!("{number:050}"));
        }
        let now = Instant::from_nanos(1);
        log.flush(None, now);
        assert_eq!(log.poll_timeout(), None, "there is nothing to try");
        let lost = log.lost;
        log.set_destination(None, destination);
        log.flush(None, now);
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("error: 000"));
        assert!(text.ends_with(&format!("\nwarning: lost {lost} log messages\n")), "{text}");
    }

    #[test]
    fn a_full_pipe_is_not_written_to_and_waits_in_the_set() {
        let (mut log, mut reader) = log();
        let pipe = log.destination.descriptor().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(pipe).unwrap();
        rustix::io::write(pipe, &vec![b'x'; size]).unwrap();
        let epoll = Epoll::new().unwrap();
        let now = Instant::from_nanos(1);
        log.say(LogLevel::Error, "late");
        log.flush(Some(&epoll), now);
        assert_eq!(log.state, State::Waiting);
        assert_eq!(log.poll_timeout(), None);
        reader.read_exact(&mut vec![0; size]).unwrap();
        let mut ready = Vec::new();
        epoll.wait(None, &mut ready).unwrap();
        assert_eq!(Token::from_bits(ready[0].token), Some(Token::Log));
        log.on_ready(&epoll, now);
        log.flush(Some(&epoll), now);
        assert_eq!(log.state, State::Free);
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "error: late\n");
    }

    #[test]
    fn a_full_device_is_tried_by_the_clock() {
        let mut log = Log::default();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        log.set_destination(None, Destination::Held(full.into()));
        let epoll = Epoll::new().unwrap();
        let now = Instant::from_nanos(1);
        log.say(LogLevel::Error, "x");
        log.flush(Some(&epoll), now);
        if log.state == State::Waiting {
            log.on_ready(&epoll, now);
            log.flush(Some(&epoll), now);
        }
        assert_eq!(log.poll_timeout(), Some(now.saturating_add(RETRY)));
    }
}
