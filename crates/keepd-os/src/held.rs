//! Descriptors that two processes hold under the same number, so that either can go on after the
//! other one is lost.
//!
//! The numbers begin with [`HELD_BASE`]; everything below is each process's own. Who made a
//! descriptor lifts it there ([`lift`]); who keeps a copy places it under the same number
//! ([`place_at`]), where it survives execve(2) and a spawn with
//! [`keep_from`](crate::spawn::SpawnRequest::keep_from).
#![expect(unsafe_code, reason = "the flag of a descriptor is set by its number")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use keepd_model::Errno;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::{errno, handle, spawn};

/// The lowest number of a held descriptor: above the slots that
/// [`reserve_slots`](crate::spawn::reserve_slots) takes.
pub const HELD_BASE: RawFd = 256;

// The standard descriptors, the slots and some room for what is open before them.
const _: () = assert!(3 + spawn::SLOTS_MAX + 16 < HELD_BASE as usize);

/// `fcntl(fd, F_DUPFD_CLOEXEC, HELD_BASE)`: returns the same under the lowest free held number,
/// close-on-exec.
///
/// Fails with EINVAL under a limit of descriptors that has no such numbers, and with EMFILE if all
/// are taken. See fcntl(2).
pub fn lift(descriptor: impl AsFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(descriptor, HELD_BASE).map_err(errno::from_rustix)
}

/// `fcntl(fd, F_DUPFD_CLOEXEC, number)`, `fcntl(F_SETFD, 0)`: returns the same under this number,
/// which survives execve(2).
///
/// Fails with EINVAL for a number that is none of a held descriptor or beyond the limit, and with
/// EBUSY if something is open there. See fcntl(2).
pub fn place_at(descriptor: impl AsFd, number: RawFd) -> Result<OwnedFd, Errno> {
    if number < HELD_BASE {
        return Err(Errno::EINVAL);
    }
    // Not dup3(2), which would close whatever is there, whoever owns it.
    let placed = fcntl_dupfd_cloexec(descriptor, number).map_err(errno::from_rustix)?;
    if placed.as_raw_fd() != number {
        return Err(Errno::EBUSY);
    }
    fcntl_setfd(&placed, FdFlags::empty()).map_err(errno::from_rustix)?;
    Ok(placed)
}

/// `fcntl(number, F_SETFD)`: says whether a descriptor ends with the next execve(2).
///
/// Fails with EBADF if it is not open. See fcntl(2).
pub fn set_close_on_exec(number: RawFd, is_closed: bool) -> Result<(), Errno> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    let flags = if is_closed { FdFlags::CLOEXEC } else { FdFlags::empty() };
    // SAFETY: the borrow ends with this call, and a number that is not open gives EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(descriptor, flags).map_err(errno::from_rustix)
}

/// `fcntl(F_GETFD)`: returns what is open from 3 on, in ascending order. Each number that the table
/// has room for is tried; without /proc, each that is allowed. See proc_pid_status(5).
pub fn open_numbers() -> Vec<RawFd> {
    handle::open_numbers()
}

/// `fcntl(number, F_SETFD, FD_CLOEXEC)`: takes over a descriptor that a predecessor left open under
/// a number which it named.
///
/// Fails with EBADF if it is not open, and with EBUSY if it was taken over before, also by
/// [`take_inherited`](crate::handle::take_inherited). See fcntl(2).
pub fn claim(number: RawFd) -> Result<OwnedFd, Errno> {
    handle::adopt(number).map_err(|error| error.errno)
}
