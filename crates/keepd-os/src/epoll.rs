//! Waiting for descriptors, level-triggered but for pidfds.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use keepd_model::Errno;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::errno;

/// Events taken from the kernel at once; the rest follows at the next wait.
const EVENTS_AT_ONCE: usize = 256;

/// An epoll set.
///
/// An entry belongs to the *open file*, not to the number: if a copy of the descriptor lives on (in
/// a child that has not executed yet, for example), closing ours does not remove the entry. Call
/// [`Epoll::remove`] before closing. See epoll(7).
#[derive(Debug)]
pub struct Epoll {
    descriptor: OwnedFd,
}

/// What to wait for. Errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Something can be read.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// Exceptional news: a change of `cgroup.events`.
    pub priority: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self { readable: true, writable: false, priority: false };
    /// Writing only.
    pub const WRITE: Self = Self { readable: false, writable: true, priority: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { readable: true, writable: true, priority: false };
    /// Changes of a file such as `cgroup.events` only.
    pub const PRIORITY: Self = Self { readable: false, writable: false, priority: true };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.readable);
        flags.set(EventFlags::OUT, self.writable);
        flags.set(EventFlags::PRI, self.priority);
        flags
    }
}

/// News of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub token: u64,
    /// Something can be read, perhaps the end.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// The other side is gone.
    pub hangup: bool,
    /// An error is pending; with `priority` this is only how kernfs files say "changed".
    pub error: bool,
    /// A file such as `cgroup.events` changed.
    pub priority: bool,
}

impl Epoll {
    /// `epoll_create1(EPOLL_CLOEXEC)`: makes an empty set. See epoll_create1(2).
    pub fn new() -> Result<Self, Errno> {
        let descriptor = epoll::create(CreateFlags::CLOEXEC).map_err(errno::from_rustix)?;
        Ok(Self { descriptor })
    }

    /// `epoll_ctl(EPOLL_CTL_ADD)`: adds a descriptor under a number of the caller's choice.
    ///
    /// Fails with EEXIST if it is in the set already and with EPERM for regular files. See
    /// epoll_ctl(2).
    pub fn add(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        let data = EventData::new_u64(token);
        epoll::add(&self.descriptor, descriptor, data, interest.flags()).map_err(errno::from_rustix)
    }

    /// `epoll_ctl(EPOLL_CTL_ADD, EPOLLIN | EPOLLET)`: adds a descriptor that is reported once for
    /// each change, also if nobody does anything about it: a pidfd is readable from the end of its
    /// process on, and hung up once that was consumed. See epoll(7), pidfd_open(2).
    pub fn add_edge(&self, descriptor: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = EventData::new_u64(token);
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.descriptor, descriptor, data, flags).map_err(errno::from_rustix)
    }

    /// `epoll_ctl(EPOLL_CTL_MOD)`: changes number and interest. See epoll_ctl(2).
    pub fn modify(
        &self,
        descriptor: impl AsFd,
        token: u64,
        interest: Interest,
    ) -> Result<(), Errno> {
        let data = EventData::new_u64(token);
        epoll::modify(&self.descriptor, descriptor, data, interest.flags())
            .map_err(errno::from_rustix)
    }

    /// `epoll_ctl(EPOLL_CTL_DEL)`: takes a descriptor out. See epoll_ctl(2).
    pub fn remove(&self, descriptor: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.descriptor, descriptor).map_err(errno::from_rustix)
    }

    /// `epoll_wait(set, events, 256, timeout)`: waits for news, replaces the content of `ready` by
    /// it.
    ///
    /// The timeout is rounded up to a millisecond, so a caller that waits for a deadline never
    /// finds itself a moment too early and spins; `None` waits without end. `ready` is empty after
    /// the timeout, and also after a signal (EINTR): look at the clock and wait again. See
    /// epoll_wait(2).
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        ready.clear();
        let timeout = timeout.map(timespec);
        let mut events = [MaybeUninit::uninit(); EVENTS_AT_ONCE];
        let events = match epoll::wait(&self.descriptor, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(errno::from_rustix(error)),
        };
        ready.extend(events.iter().map(|event| {
            // The structure is packed, so its members are copied and never borrowed.
            let (flags, data) = (event.flags, event.data);
            Ready {
                token: data.u64(),
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                hangup: flags.contains(EventFlags::HUP),
                error: flags.contains(EventFlags::ERR),
                priority: flags.contains(EventFlags::PRI),
            }
        }));
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Rustix rounds up to milliseconds where it uses epoll_wait(2), which is always for times that
/// fit.
fn timespec(duration: Duration) -> Timespec {
    /// Longer waits end early, after 12 days, so that the number of milliseconds fits every kernel.
    const SECONDS_MAX: u64 = 1_048_576;
    if duration.as_secs() >= SECONDS_MAX {
        return Timespec { tv_sec: SECONDS_MAX as i64, tv_nsec: 0 };
    }
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
