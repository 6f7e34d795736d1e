//! Processes that are not our children, held by descriptor so that a reused pid is never hit.
#![expect(
    unsafe_code,
    reason = "rustix's signal type has no real-time signals, so pidfd_send_signal(2) is made here"
)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use keepd_model::{Errno, Pid, Signal};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::ledger::is_consumed;
use crate::{errno, signals};

/// PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9.
const TO_GROUP: libc::c_uint = 1 << 2;

/// `pidfd_open(pid, 0)`: returns a descriptor (close-on-exec) that names this very process.
///
/// It is readable once the process has ended. Whether `pid` still is the process that was meant
/// must be asked *after* this call. Fails with ESRCH if there is no such process. See
/// pidfd_open(2).
pub fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(pid.get())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or(Errno(libc::ESRCH))?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(errno::from_rustix)
}

/// `pidfd_send_signal(pidfd, signal, NULL, 0)`: signals the process behind the descriptor.
///
/// Fails with ESRCH if it has ended and was reaped. See pidfd_send_signal(2).
pub fn send(pidfd: impl AsFd, signal: Signal) -> Result<(), Errno> {
    // SAFETY: the call reads no memory of ours (the siginfo pointer is null) and the descriptor is
    // borrowed for the length of the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            i32::from(signal.get()),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}

/// `pidfd_send_signal(pidfd, number, NULL, group ? PIDFD_SIGNAL_PROCESS_GROUP : 0)`: signals the
/// process behind the descriptor, or the process group that it leads; 0 only asks whether it is
/// there. `pid` is its number.
///
/// Before Linux 6.9 groups are signalled by number, after a look at the descriptor. Fails with
/// ESRCH if the process has ended and was reaped. See pidfd_send_signal(2), killpg(3).
pub fn send_number(pidfd: impl AsFd, pid: Pid, number: u16, to_group: bool) -> Result<(), Errno> {
    let flags = if to_group { TO_GROUP } else { 0 };
    // SAFETY: as above.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            i32::from(number),
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    match (result, errno::last()) {
        (0, _) => Ok(()),
        // What is no signal has the same error as what is no flag.
        (_, Errno(libc::EINVAL)) if to_group => match is_consumed(&pidfd)? {
            true => Err(Errno(libc::ESRCH)),
            false => signals::send_number(pid, number, true),
        },
        (_, error) => Err(error),
    }
}
