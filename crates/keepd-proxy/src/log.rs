//! The proxy's own messages: `LEVEL: TEXT` lines on standard error that never block the loop.

use std::fmt;
use std::time::Duration;

use keepd_model::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What waits for a slow reader at most; further messages are only counted (daemonproxy's size).
const BUFFER_BYTES_MAX: usize = 1024;
/// A longer message is cut, so that one message always fits into an empty buffer.
const TEXT_BYTES_MAX: usize = 900;
/// From one attempt to the next while nobody reads.
const RETRY: Duration = Duration::from_millis(500);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something goes on in a weaker way.
    Warning,
    /// Something did not work.
    Error,
    /// The proxy ends.
    Fatal,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// Messages on their way to standard error.
#[derive(Default)]
pub(crate) struct Log {
    buffer: Vec<u8>,
    lost: u64,
    retry_at: Option<Instant>,
}

impl Log {
    /// Adds a message; it is written with the next [`Log::flush`].
    pub(crate) fn say(&mut self, level: Level, text: impl fmt::Display) {
        let text = text.to_string();
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // A line feed of a foreign text would forge a message.
        let line = format!("{}: {}\n", level.word(), text[..end].replace('\n', " "));
        if self.lost > 0 || self.buffer.len() + line.len() > BUFFER_BYTES_MAX {
            self.lost += 1;
        } else {
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }

    /// Returns when to try again, while messages wait for a slow reader.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Writes what waits, if standard error takes it now.
    pub(crate) fn flush(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return;
        }
        self.retry_at = None;
        while !self.buffer.is_empty() {
            match write_if_ready(&self.buffer) {
                Some(count) if count > 0 => drop(self.buffer.drain(..count)),
                Some(_) | None => {
                    self.retry_at = Some(now.saturating_add(RETRY));
                    return;
                }
            }
            if self.buffer.is_empty() && self.lost > 0 {
                let lost = std::mem::take(&mut self.lost);
                self.say(Level::Warning, format_args!("lost {lost} log messages"));
            }
        }
    }
}

/// Standard error may be shared with others, so it is not made non-blocking: it is asked first.
fn write_if_ready(bytes: &[u8]) -> Option<usize> {
    let stderr = rustix::stdio::stderr();
    let mut descriptors = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut descriptors, Some(&at_once)) {
        Ok(count) if count > 0 => rustix::io::write(stderr, bytes).ok(),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_counts_what_it_loses() {
        let mut log = Log::default();
        for number in 0..40 {
            log.say(Level::Error, format_args!("{number:050}"));
        }
        assert!(log.buffer.len() <= BUFFER_BYTES_MAX);
        let kept = log.buffer.iter().filter(|byte| **byte == b'\n').count();
        assert!(kept >= 5);
        assert_eq!(kept as u64 + log.lost, 40);
    }

    #[test]
    fn one_message_is_one_bounded_line() {
        let mut log = Log::default();
        log.say(Level::Warning, format!("a\n{}", "ö".repeat(2000)));
        assert_eq!(log.lost, 0);
        assert!(log.buffer.starts_with("warning: a ö".as_bytes()));
        assert_eq!(log.buffer.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
