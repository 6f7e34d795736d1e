//! Pipes for the output of services.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use keepd_model::Errno;
use rustix::fs::{Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::errno;

/// A pipe that outlives both its sides.
///
/// Ours is one descriptor, open for reading *and* writing, so it never reports an end; the
/// service's is open both ways too, so the service gets no SIGPIPE when we are replaced, and what
/// it wrote waits in the pipe for our successor.
#[derive(Debug)]
pub struct LogPipe {
    descriptor: OwnedFd,
}

impl LogPipe {
    /// `pipe2(O_CLOEXEC)`, then `open("/proc/self/fd/N", O_RDWR | O_NONBLOCK)`: makes an empty
    /// pipe.
    ///
    /// Needs /proc. Users without privileges get pipes of 8 KiB instead of 64 after about a
    /// thousand of them. See pipe(7), fifo(7).
    pub fn new() -> Result<Self, Errno> {
        let (read, _write) = pipe_with(PipeFlags::CLOEXEC).map_err(errno::from_rustix)?;
        let descriptor = reopen(read.as_fd(), OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// `open("/proc/self/fd/N", O_RDWR)`: returns the service's side, which blocks when the pipe is
    /// full.
    ///
    /// It is an open file of its own: O_NONBLOCK of ours, which would surprise the service, is not
    /// shared.
    pub fn open_writer(&self) -> Result<OwnedFd, Errno> {
        reopen(self.as_fd(), OFlags::RDWR)
    }

    /// `ioctl(FIONREAD)`: returns the bytes that wait in the pipe. See ioctl_fionread(2), pipe(7).
    pub fn waiting_bytes(&self) -> Result<u64, Errno> {
        rustix::io::ioctl_fionread(&self.descriptor).map_err(errno::from_rustix)
    }

    /// `fchown(fd, uid, -1)`: gives the pipe to a user, without which a service that runs as this
    /// user cannot open `/dev/stdout`.
    ///
    /// Call it before every spawn, since the user may have changed. See fchown(2).
    pub fn set_owner(&self, uid: u32) -> Result<(), Errno> {
        rustix::fs::fchown(&self.descriptor, Some(Uid::from_raw(uid)), None)
            .map_err(errno::from_rustix)
    }
}

impl AsFd for LogPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A hand-over gives a successor the descriptor of a pipe.
impl From<OwnedFd> for LogPipe {
    fn from(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }
}

fn reopen(descriptor: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(errno::from_rustix)
}
