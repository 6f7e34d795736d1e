//! One pipe and the file that it goes into.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use keepd_model::protocol::Stream as Which;
use keepd_model::{Errno, Instant};
use keepd_os::pipe::LogPipe;

use super::file::LogFile;
use crate::holder::Held;

/// The first and the longest pause after a write that failed.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What is moved at once: a full pipe.
const SPLICED_BYTES: usize = 64 * 1024;

/// A pipe, a file, and what is on its way between them.
pub(super) struct Stream {
    /// Which of the service's.
    pub(super) which: Which,
    /// Its number in the epoll set.
    pub(super) token: u64,
    pipe: LogPipe<Held>,
    /// Whose the pipe is.
    owner: u32,
    file: LogFile,
    /// The file takes bytes as they come out of the pipe.
    is_spliced: bool,
    /// Read and not written, because a write failed. Nothing is read while there is any.
    remainder: Vec<u8>,
    /// Why nothing is written for now.
    blocked: Option<Blocked>,
}

#[derive(Clone, Copy)]
struct Blocked {
    errno: Errno,
    pause: Duration,
    retry_at: Instant,
}

/// What one visit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Where the first byte went.
    pub(super) offset: u64,
    /// How many bytes.
    pub(super) length_bytes: u64,
    /// Why it ended early.
    pub(super) failure: Option<Errno>,
}

impl Stream {
    /// Joins a pipe and the file for what comes out of it.
    pub(super) fn new(
        which: Which,
        token: u64,
        file: LogFile,
        pipe: LogPipe<Held>,
    ) -> Result<Self, Errno> {
        Ok(Self {
            which,
            token,
            file,
            is_spliced: true,
            owner: pipe.owner()?,
            pipe,
            remainder: Vec::new(),
            blocked: None,
        })
    }

    /// Makes everything ready for a process of this user; returns the process's side of the pipe.
    pub(super) fn writer(&mut self, uid: u32) -> Result<OwnedFd, Errno> {
        if self.owner != uid {
            self.pipe.set_owner(uid)?;
            self.owner = uid;
        }
        self.pipe.open_writer()
    }

    /// Opens the file again if somebody removed, replaced or truncated it.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        self.file.refresh()
    }

    /// Returns the bytes written since the stream began.
    pub(super) fn offset(&self) -> u64 {
        self.file.length()
    }

    /// Returns the bytes that were produced and are not in the file yet.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.remainder.len() as u64 + self.pipe.waiting_bytes().unwrap_or(0)
    }

    /// Returns why nothing is written for now.
    pub(super) fn blocked(&self) -> Option<Errno> {
        self.blocked.map(|blocked| blocked.errno)
    }

    /// Returns when to try again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.blocked.map(|blocked| blocked.retry_at)
    }

    /// Notes whether the last attempt to write failed; the pause doubles with every failure in a
    /// row.
    pub(super) fn set_blocked(&mut self, failure: Option<Errno>, now: Instant) {
        self.blocked = failure.map(|errno| {
            let pause = match self.blocked {
                Some(Blocked { pause, .. }) => (2 * pause).min(RETRY_MAX),
                None => RETRY_MIN,
            };
            Blocked { errno, pause, retry_at: now.saturating_add(pause) }
        });
    }

    /// Moves bytes from the pipe into the file, until the pipe is empty, `bytes_max` is exceeded or
    /// a write fails. What was read and cannot be written is kept for the next visit.
    pub(super) fn visit(&mut self, bytes_max: u64, buffer: &mut [u8]) -> Written {
        let followed = self.file.follow();
        let offset = self.file.length();
        let moved = followed.and_then(|_| self.move_bytes(offset, bytes_max, buffer));
        let failure = moved.err();
        Written {
            offset,
            // Only a file followed in between could be shorter, and that is done before.
            length_bytes: self.file.length().saturating_sub(offset),
            failure,
        }
    }

    /// As [`Stream::move_bytes`], in a way that a SIGKILL cannot tear: what is read and not written
    /// would be lost with us.
    fn splice(&mut self, offset: u64, bytes_max: u64) -> Result<(), Errno> {
        while self.file.length().saturating_sub(offset) < bytes_max {
            match self.file.splice(&self.pipe, SPLICED_BYTES) {
                Ok(SPLICED_BYTES) => {}
                // Less has emptied the pipe, or was all that could be written.
                Ok(_) | Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn move_bytes(&mut self, offset: u64, bytes_max: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.file.write_all(&mut self.remainder)?;
        // A remainder is rare; its memory is not kept for the next one.
        self.remainder = Vec::new();
        if self.is_spliced {
            match self.splice(offset, bytes_max) {
                // Said before anything was moved, and so for each attempt.
                Err(Errno::EINVAL) => self.is_spliced = false,
                result => return result,
            }
        }
        while self.file.length().saturating_sub(offset) < bytes_max {
            let count = match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(super::file::errno(error)),
            };
            let mut written = 0;
            while written < count {
                match self.file.write(&buffer[written..count]) {
                    Ok(more) => written += more,
                    Err(error) => {
                        self.remainder.extend_from_slice(&buffer[written..count]);
                        return Err(error);
                    }
                }
            }
            // A short read has emptied the pipe; asking again would only cost a system call.
            if count < buffer.len() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
