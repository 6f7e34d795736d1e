//! What a child says about itself before it is the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use keepd_model::{Errno, Pid, SpawnFailure, SpawnStep};

use super::slots::{self, Lease};
use crate::{errno, reap};

/// The byte that a child writes once its table of descriptors is its own. No step has this number.
pub(super) const OWN_DESCRIPTORS: u8 = 0;
/// A failure: the number of the step, then errno in native byte order. Less than PIPE_BUF, so it is
/// never torn.
pub(super) const FAILURE_BYTES: usize = 5;

/// What is known of a spawned child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It still prepares itself.
    Pending,
    /// Its pipe ended without an error: the program runs, or the child was killed on its last
    /// steps, which its exit status will say.
    Executed,
    /// A step failed. The child ends by itself with the status asked for and is to be reaped like
    /// any other.
    Failed(SpawnFailure),
    /// It was killed before its first step was done; its exit status says by what.
    Ended,
}

/// A child of ours, not yet reaped, and the read end of its error pipe.
///
/// Put it (by [`AsFd`]) into an epoll set, level-triggered and readable, call [`Spawned::report`]
/// when it is ready **and once when the child is reaped**, and keep the value until one of them was
/// not [`Report::Pending`]. Remove it from the epoll set before it is dropped.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    pipe: Arc<OwnedFd>,
    lease: Option<Lease>,
    /// The child shares our descriptors and has not said yet that it no longer does.
    sharing: bool,
    last: Report,
}

impl Spawned {
    pub(super) fn new(pid: Pid, pipe: Arc<OwnedFd>, lease: Option<Lease>) -> Self {
        Self { pid, pipe, sharing: lease.is_some(), lease, last: Report::Pending }
    }

    /// Returns the process id, which is the child's until it is reaped.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// `read(pipe, …)`, without blocking: returns what the child has said up to now.
    ///
    /// The answer does not change any more once it is not [`Report::Pending`]. See pipe(7).
    pub fn report(&mut self) -> Report {
        let mut ended = false;
        while self.last == Report::Pending {
            if self.read() {
                continue;
            }
            // A copy of the write end hides the end of the pipe while the child shares our
            // descriptors, or while another child, forked meanwhile, is stalled. The dead write no
            // more.
            if ended {
                self.last = self.at_end();
                break;
            }
            ended = reap::has_ended(self.pid);
            if !ended {
                break;
            }
            self.release();
        }
        self.last
    }

    /// `read(pipe, …)`, once: as [`Spawned::report`], for when the pipe is known to be ready.
    ///
    /// What this call does not read makes the pipe ready again, so an epoll set asks again by
    /// itself, and nothing has to be found out about the child. See pipe(7).
    pub fn report_ready(&mut self) -> Report {
        if self.last == Report::Pending {
            self.read();
        }
        self.last
    }

    /// Takes in what is in the pipe; returns whether there was anything, be it the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 2 * FAILURE_BYTES];
        match rustix::io::read(&*self.pipe, &mut bytes) {
            Ok(0) => self.last = self.at_end(),
            Ok(count) => self.on_bytes(&bytes[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return false,
            Err(error) => self.last = failed(SpawnStep::Descriptors, errno::from_rustix(error)),
        }
        true
    }

    fn at_end(&mut self) -> Report {
        self.release();
        if self.sharing { Report::Ended } else { Report::Executed }
    }

    fn on_bytes(&mut self, bytes: &[u8]) {
        // Both messages mean that the child does not look at shared descriptors any more.
        self.release();
        let rest = match bytes {
            [OWN_DESCRIPTORS, rest @ ..] => {
                self.sharing = false;
                rest
            }
            bytes => bytes,
        };
        if rest.is_empty() {
            return;
        }
        let step = SpawnStep::from_number(rest[0]);
        let number = rest[1..].first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        self.last = match (step, number) {
            (Some(step), Some(number)) => failed(step, Errno(number)),
            // The pipe has one writer, our own code; anything else on it is a broken child.
            (None, _) | (_, None) => failed(SpawnStep::Prepare, Errno::EIO),
        };
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            slots::release(lease);
        }
    }
}

fn failed(step: SpawnStep, errno: Errno) -> Report {
    Report::Failed(SpawnFailure { step, errno })
}

impl AsFd for Spawned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

// A value dropped while its lease is live needs no help: the slots notice by themselves that the
// child has its own descriptors, or has ended, when they are needed next.
