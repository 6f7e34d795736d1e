//! Ends of our own children: look first, record, and only then let the zombie go.
#![expect(unsafe_code, reason = "rustix's waitid(2) does not say whose status it returns")]

use std::mem::MaybeUninit;

use keepd_model::{Errno, Exit, Pid, Signal};

use crate::errno;

/// `waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT)`: returns a child that has ended, without
/// reaping it.
///
/// The same child is returned again until [`consume`] was called for it, so that its end can be
/// recorded before the only copy of its status is gone. `None`: no child has ended, or there is
/// none. With many live children a call costs time (about 0.4 ms for 10,000): call it in a loop
/// after SIGCHLD, until `None`, and not otherwise. See waitid(2).
pub fn peek() -> Result<Option<(Pid, Exit)>, Errno> {
    match wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
        Err(Errno(libc::ECHILD)) => Ok(None),
        other => other,
    }
}

/// `waitid(P_PID, pid, &info, WEXITED | WNOHANG)`: reaps a child that has ended.
///
/// From here on the kernel may give the pid to another process. Fails with ECHILD if `pid` is no
/// child of ours; does nothing if it has not ended. See waitid(2).
pub fn consume(pid: Pid) -> Result<(), Errno> {
    wait(libc::P_PID, pid.get(), libc::WEXITED | libc::WNOHANG).map(|_| ())
}

/// What [`take_change`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// We have no child, alive or dead.
    Childless,
    /// No child has changed since the last call.
    Nothing,
    /// The child has ended, and its number is free from here on.
    Ended(Pid, Exit),
    /// The signal stopped the child.
    Stopped(Pid, Signal),
}

/// `waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG)`: returns a change of a child, and reaps
/// it if it has ended.
///
/// For a process that records nothing of its children. See waitid(2).
pub fn take_change() -> Result<Change, Errno> {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
    let found = match wait_for_code(libc::P_ALL, 0, options) {
        Ok(found) => found,
        Err(Errno(libc::ECHILD)) => return Ok(Change::Childless),
        Err(error) => return Err(error),
    };
    Ok(found.map_or(Change::Nothing, |(pid, code, status)| {
        let signal = u8::try_from(status).ok().and_then(Signal::new);
        match (code, signal) {
            (libc::CLD_STOPPED, Some(signal)) => Change::Stopped(pid, signal),
            _ => Change::Ended(pid, exit(code, status)),
        }
    }))
}

/// `waitid(P_PID, pid, &info, WEXITED)`: waits for a child that is about to end, and reaps it.
pub(crate) fn take_ended(pid: Pid) {
    // It fails only if there is nothing to reap.
    let _ = wait(libc::P_PID, pid.get(), libc::WEXITED);
}

/// Reports whether a child of ours has ended: it is a zombie, or was reaped already.
pub(crate) fn has_ended(pid: Pid) -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    match wait(libc::P_PID, pid.get(), options) {
        Ok(found) => found.is_some(),
        Err(error) => error == Errno(libc::ECHILD),
    }
}

fn wait(kind: libc::idtype_t, id: u32, options: i32) -> Result<Option<(Pid, Exit)>, Errno> {
    let found = wait_for_code(kind, id, options)?;
    Ok(found.map(|(pid, code, status)| (pid, exit(code, status))))
}

/// Returns `si_code` and `si_status`, too.
fn wait_for_code(
    kind: libc::idtype_t,
    id: u32,
    options: i32,
) -> Result<Option<(Pid, i32, i32)>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for writing one siginfo_t.
    while unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) } != 0 {
        let error = errno::last();
        if error != Errno(libc::EINTR) {
            return Err(error);
        }
    }
    // SAFETY: all zeros is a valid siginfo_t, and the kernel wrote at most a valid one over it.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid(2) the members of the SIGCHLD variant are set, or still zero where no
    // child was found.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let pid = u32::try_from(pid).ok().and_then(Pid::new);
    Ok(pid.map(|pid| (pid, info.si_code, status)))
}

fn exit(code: i32, status: i32) -> Exit {
    let byte = (status & 0xff) as u8;
    match (code, Signal::new(byte)) {
        (libc::CLD_EXITED, _) => Exit::Code(byte),
        (libc::CLD_KILLED, Some(signal)) => Exit::Signal { signal, core: false },
        (libc::CLD_DUMPED, Some(signal)) => Exit::Signal { signal, core: true },
        _ => Exit::Unknown,
    }
}
