//! The system calls of another process, one by one, for tests that end it at each of them. See
//! ptrace(2).
//!
//! All functions belong to one thread: the kernel knows the tracer by it. They are for a process
//! without children of its own, because [`wait`] takes every change of every child.
#![expect(unsafe_code, reason = "rustix has no ptrace(2), and no waitpid(2) with __WALL")]

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::mem::MaybeUninit;

use keepd_model::{Errno, Pid, Signal};

use crate::errno;

/// What a traced process came to. It stands still until [`go_on`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is about to make the system call with this number.
    Call(u64),
    /// It made a new process, which is traced, too, and stands still.
    Made(Pid),
    /// It executed a program.
    Executed,
    /// A signal comes to it, and is given to [`go_on`].
    Signal(Signal),
    /// Something else: the end of a call, a new process at its begin, an [`interrupt`].
    Other,
    /// It has ended, and is no longer traced.
    Ended,
}

/// How far a process shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the next system call.
    Call,
    /// To a new process, a program or a signal.
    Event,
}

/// `ptrace(PTRACE_SEIZE)`: traces a process from now on, and every process that it makes. It runs
/// on until [`interrupt`].
///
/// ESRCH: there is none; EPERM: we may not, or somebody else does.
pub fn seize(pid: Pid) -> Result<(), Errno> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC;
    request(libc::PTRACE_SEIZE, pid, 0, c_long::from(options))
}

/// `ptrace(PTRACE_INTERRUPT)`: makes a process stop; a call in which it waits ends with EINTR.
pub fn interrupt(pid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, pid, 0, 0)
}

/// `ptrace(PTRACE_SYSCALL or PTRACE_CONT)`: lets a process that stands still go on, with the signal
/// that came to it.
pub fn go_on(pid: Pid, until: Until, signal: Option<Signal>) -> Result<(), Errno> {
    let how = match until {
        Until::Call => libc::PTRACE_SYSCALL,
        Until::Event => libc::PTRACE_CONT,
    };
    request(how, pid, 0, signal.map_or(0, |signal| c_long::from(signal.get())))
}

/// `ptrace(PTRACE_DETACH)`: leaves a process that stands still alone from now on.
pub fn detach(pid: Pid) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, pid, 0, 0)
}

/// `waitpid(-1, &status, __WALL)`: waits until a traced process stops or ends. `None`: none is
/// left.
pub fn wait() -> Result<Option<(Pid, Stop)>, Errno> {
    let mut status: c_int = 0;
    // SAFETY: `status` is valid for writing one number.
    let number = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    let Some(pid) = u32::try_from(number).ok().and_then(Pid::new) else {
        return match errno::last() {
            Errno(libc::ECHILD) => Ok(None),
            error => Err(error),
        };
    };
    if !libc::WIFSTOPPED(status) {
        return Ok(Some((pid, Stop::Ended)));
    }
    let stop = match (status >> 16, libc::WSTOPSIG(status)) {
        (libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE, _) => {
            made(pid)?.map_or(Stop::Other, Stop::Made)
        }
        (libc::PTRACE_EVENT_EXEC, _) => Stop::Executed,
        (0, number) if number == libc::SIGTRAP | SYSTEM_CALL => {
            call(pid)?.map_or(Stop::Other, Stop::Call)
        }
        (0, number) => {
            u8::try_from(number).ok().and_then(Signal::new).map_or(Stop::Other, Stop::Signal)
        }
        _ => Stop::Other,
    };
    Ok(Some((pid, stop)))
}

/// What PTRACE_O_TRACESYSGOOD adds to SIGTRAP at a system call.
const SYSTEM_CALL: c_int = 0x80;

/// `PTRACE_GETEVENTMSG`: the process that was made.
fn made(pid: Pid) -> Result<Option<Pid>, Errno> {
    let mut number: libc::c_ulong = 0;
    // The kernel writes one unsigned long there.
    request_at(libc::PTRACE_GETEVENTMSG, pid, 0, &raw mut number)?;
    Ok(u32::try_from(number).ok().and_then(Pid::new))
}

/// `PTRACE_GET_SYSCALL_INFO`: the number of the call that begins; `None` at its end.
fn call(pid: Pid) -> Result<Option<u64>, Errno> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    let length = c_long::try_from(size).map_err(|_| Errno(libc::EINVAL))?;
    request_at(libc::PTRACE_GET_SYSCALL_INFO, pid, length, info.as_mut_ptr())?;
    // SAFETY: all zeros is a valid value, and the kernel wrote at most `size` bytes of one over it.
    let info = unsafe { info.assume_init() };
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Ok(None);
    }
    // SAFETY: `op` says that the member `entry` is the one that was written.
    Ok(Some(unsafe { info.u.entry.nr }))
}

fn request(what: c_uint, pid: Pid, address: c_long, data: c_long) -> Result<(), Errno> {
    let pid = libc::pid_t::try_from(pid.get()).map_err(|_| Errno(libc::ESRCH))?;
    // SAFETY: none of the requests that come here reads or writes our memory; both words are
    // numbers to them.
    let result = unsafe { libc::ptrace(what, pid, address, data) };
    if result < 0 { Err(errno::last()) } else { Ok(()) }
}

/// A request for which the kernel writes to `data`, at most one value of its type: by the meaning
/// of the request, or because `address` is the size.
fn request_at<T>(what: c_uint, pid: Pid, address: c_long, data: *mut T) -> Result<(), Errno> {
    let pid = libc::pid_t::try_from(pid.get()).map_err(|_| Errno(libc::ESRCH))?;
    // SAFETY: `data` comes from a value of T in the caller, which the request does not exceed.
    let result = unsafe { libc::ptrace(what, pid, address, data.cast::<c_void>()) };
    if result < 0 { Err(errno::last()) } else { Ok(()) }
}
