//! Pipes for the output of services.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use keepd_model::{Errno, Pid};
use rustix::fs::{FileType, Mode, OFlags, Uid, fstat};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};

use crate::errno;
use crate::ledger::is_consumed;

/// A pipe that outlives both its sides.
///
/// Ours is one descriptor, open for reading *and* writing, so it never reports an end; the
/// service's is open both ways too, so the service gets no SIGPIPE when we are replaced, and what
/// it wrote waits in the pipe for our successor.
#[derive(Debug)]
pub struct LogPipe<Descriptor = OwnedFd> {
    descriptor: Descriptor,
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

    /// Lets the descriptor be kept by something else.
    pub fn map<Other: AsFd>(self, change: impl FnOnce(OwnedFd) -> Other) -> LogPipe<Other> {
        LogPipe { descriptor: change(self.descriptor) }
    }
}

impl<Descriptor: AsFd> LogPipe<Descriptor> {
    /// Takes our side of a pipe that a predecessor made.
    pub fn adopt(descriptor: Descriptor) -> Self {
        Self { descriptor }
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
        rustix::io::ioctl_fionread(self.as_fd()).map_err(errno::from_rustix)
    }

    /// `fchown(fd, uid, -1)`: gives the pipe to a user, without which a service that runs as this
    /// user cannot open `/dev/stdout`.
    ///
    /// Call it before every spawn, since the user may have changed. See fchown(2).
    pub fn set_owner(&self, uid: u32) -> Result<(), Errno> {
        rustix::fs::fchown(self.as_fd(), Some(Uid::from_raw(uid)), None).map_err(errno::from_rustix)
    }

    /// `fstat(fd)`: returns to which user the pipe belongs. See fstat(2).
    pub fn owner(&self) -> Result<u32, Errno> {
        fstat(self.as_fd()).map(|stat| stat.st_uid).map_err(errno::from_rustix)
    }

    /// `splice(fd, NULL, file, offset, bytes_max, SPLICE_F_NONBLOCK)`: moves bytes to this place of
    /// a file, and returns how many. They leave the pipe when they are in the file: whoever is
    /// killed meanwhile has neither lost nor doubled any.
    ///
    /// Fails with EAGAIN for an empty pipe, and with EINVAL for a file that is opened for appending
    /// or cannot take them so. See splice(2).
    pub fn splice_to(
        &self,
        file: impl AsFd,
        offset: u64,
        bytes_max: usize,
    ) -> Result<usize, Errno> {
        retry_on_intr(|| {
            let mut place = offset;
            let (from, flags) = (self.as_fd(), SpliceFlags::NONBLOCK);
            rustix::pipe::splice(from, None, &file, Some(&mut place), bytes_max, flags)
        })
        .map_err(errno::from_rustix)
    }
}

impl<Descriptor: AsFd> AsFd for LogPipe<Descriptor> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// `open("/proc/PID/fd/N", O_RDWR | O_NONBLOCK)`: finds our side of a log pipe again in a process
/// that has the other one as its descriptor N; `None` if that is nothing like a log pipe.
///
/// It is one if it is a pipe without a name that is open both ways, which nobody makes by accident.
/// The pidfd is of the process that is meant. Fails with ESRCH if that has ended. See
/// proc_pid_fd(5).
pub fn find_again(pid: Pid, pidfd: impl AsFd, number: u8) -> Result<Option<LogPipe>, Errno> {
    let link = rustix::fs::readlink(format!("/proc/{pid}/fd/{number}"), Vec::new());
    let link = match link {
        Ok(link) => link,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(errno::from_rustix(error)),
    };
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
    let info = info.map_err(|error| errno::from_io(&error))?;
    if !link.as_bytes().starts_with(b"pipe:[") || !is_open_both_ways(&info) {
        return Ok(None);
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/{pid}/fd/{number}");
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(errno::from_rustix)?;
    // The process may have put something else there meanwhile, and its number be another's.
    let stat = fstat(&opened).map_err(errno::from_rustix)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Ok(None);
    }
    if is_consumed(pidfd)? {
        return Err(Errno(libc::ESRCH));
    }
    Ok(Some(LogPipe::adopt(opened)))
}

/// Reads `flags` of proc_pid_fdinfo(5), an octal number.
fn is_open_both_ways(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE as u32 == libc::O_RDWR as u32)
}

fn reopen(descriptor: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(errno::from_rustix)
}
