//! Becoming a daemon: into the background, without a terminal, with memory that is never paged out.
#![expect(unsafe_code, reason = "rustix has neither fork(2) nor mlockall(2) in the features used")]

use keepd_model::{Errno, Pid};
use rustix::fs::{Mode, OFlags};

use crate::{errno, process};

/// On which side of a fork(2) the caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// In the process that was there before; the child is this one.
    Parent(Pid),
    /// In the new process.
    Child,
}

/// `fork()`, and `setsid()` in the child: lets a copy of this process go on in the background, as
/// leader of a session without a terminal.
///
/// Only for a process with one thread: a lock that another one held would stay locked in the child
/// for ever. Fails with EBUSY if /proc shows more threads. Of what is inherited, an epoll set is
/// of little use: what it hears of a signalfd is meant for the process that added it. See fork(2),
/// setsid(2), epoll(7).
pub fn fork_into_background() -> Result<Fork, Errno> {
    if thread_count().is_some_and(|count| count > 1) {
        return Err(Errno(libc::EBUSY));
    }
    // SAFETY: this is the only thread, so the child is a whole process: no lock of the C library or
    // of ours is held by a thread that does not exist there.
    match unsafe { libc::fork() } {
        0 => {
            process::new_session()?;
            Ok(Fork::Child)
        }
        pid => u32::try_from(pid).ok().and_then(Pid::new).map(Fork::Parent).ok_or_else(errno::last),
    }
}

/// Returns the number of threads, where /proc shows it.
fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// `mlockall(MCL_CURRENT | MCL_FUTURE)`: keeps all memory of this process in RAM, now and later.
///
/// A child does not inherit it. Fails with ENOMEM or EPERM beyond RLIMIT_MEMLOCK without the right
/// CAP_IPC_LOCK. See mlockall(2).
pub fn lock_memory() -> Result<(), Errno> {
    // SAFETY: the call takes a number, and only changes where pages are kept.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}

/// One of the descriptors that every program expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// 0.
    Input = 0,
    /// 1.
    Output = 1,
    /// 2.
    Error = 2,
}

/// `dup2(open("/dev/null", O_RDWR), n)`: lets go of what a standard descriptor refers to, and keeps
/// its number taken.
///
/// A number that were free would be given to the next file that is opened, and what is meant for
/// standard error would be written there. See dup(2).
pub fn replace_by_null(which: Standard) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(errno::from_rustix)?;
    let replaced = match which {
        Standard::Input => rustix::stdio::dup2_stdin(&null),
        Standard::Output => rustix::stdio::dup2_stdout(&null),
        Standard::Error => rustix::stdio::dup2_stderr(&null),
    };
    replaced.map_err(errno::from_rustix)
}
