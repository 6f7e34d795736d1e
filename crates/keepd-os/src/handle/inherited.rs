//! What whoever started this process left open.
#![expect(unsafe_code, reason = "an inherited descriptor is known by its number only")]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use keepd_model::Errno;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, getrlimit};

use super::{CallError, failed};

/// The first number that is not one of the standard descriptors.
const FIRST: RawFd = 3;
/// Without /proc, numbers are tried up to here at most: a limit may be as high as 2^30.
const TRIED_MAX: RawFd = 1 << 20;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// `fcntl(F_GETFD)`, `fcntl(F_SETFD, FD_CLOEXEC)`: returns every open descriptor from 3 on, in
/// ascending order, and makes them close-on-exec.
///
/// Only for the start of `main`, before anything of this process has opened a descriptor: it
/// becomes the owner of all that is open. A second call returns nothing. Each number that the table
/// has room for is tried; without /proc, each that is allowed. See proc_pid_status(5).
pub fn take_inherited() -> Vec<OwnedFd> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let owned = open_numbers().into_iter().filter_map(|number| {
        // SAFETY: the borrow ends with this call, and a number that is not open gives EBADF.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok()?;
        // SAFETY: it is open, and was so when the process began: by the condition above nothing in
        // this process owns it, and the flag `TAKEN` makes this the only owner.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    });
    owned.collect()
}

/// Numbers that [`adopt`] gave away.
static ADOPTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// `fcntl(n, F_SETFD, FD_CLOEXEC)`: takes over one descriptor that whoever started this process
/// left open and named, by a variable or an option; makes it close-on-exec.
///
/// Only for numbers that came from there: this becomes the owner. Each is given away once in the
/// life of the process, and 0 to 2 never are. Fails with EBADF for one that is not open, and with
/// EBUSY for one that was given away. See sd_listen_fds(3).
pub fn adopt(number: RawFd) -> Result<OwnedFd, CallError> {
    let refused = |errno| CallError { call: "fcntl", errno };
    if number < FIRST {
        return Err(refused(Errno::EBADF));
    }
    let mut adopted = ADOPTED.lock().unwrap_or_else(PoisonError::into_inner);
    if TAKEN.load(Ordering::Relaxed) || adopted.contains(&number) {
        return Err(refused(Errno::EBUSY));
    }
    // SAFETY: the borrow ends with this call, and a number that is not open gives EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(descriptor, FdFlags::CLOEXEC).map_err(failed("fcntl"))?;
    adopted.insert(number);
    // SAFETY: it is open, and by the condition above it was left to this process under this number,
    // so nothing of ours owns it; the set makes this the only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns the open numbers from [`FIRST`] on, in ascending order.
pub(crate) fn open_numbers() -> Vec<RawFd> {
    tried(table_size().unwrap_or_else(highest_allowed))
}

/// Returns how many numbers the table of this process has room for, which no open one exceeds.
///
/// /proc/self/fd has the numbers themselves, but the kernel makes an entry of each that is listed
/// and takes thousands of them apart when the process ends, before its parent hears of that.
fn table_size() -> Option<RawFd> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"))?;
    size.trim().parse().ok()
}

fn highest_allowed() -> RawFd {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    RawFd::try_from(limit).unwrap_or(TRIED_MAX).min(TRIED_MAX)
}

/// Returns the open numbers below `end` by asking for each.
fn tried(end: RawFd) -> Vec<RawFd> {
    let is_open = |number: &RawFd| {
        // SAFETY: the borrow ends with this call, and a number that is not open gives EBADF.
        fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) }).is_ok()
    };
    (FIRST..end).filter(is_open).collect()
}

/// Which of 0, 1 and 2 were closed when the process began, bit 0 for 0.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before `main`, and before the standard library opens `/dev/null` for what is closed.
extern "C" fn look_at_standard() {
    for number in 0..3 {
        // SAFETY: the call takes numbers; one that is not open gives EBADF.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
}

// SAFETY: the section holds addresses of functions that the C library calls, one by one, before
// `main` (elf(5)); this one needs nothing that is not there yet.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_STANDARD: extern "C" fn() = look_at_standard;

/// Reports whether 0, 1 or 2 was closed when the process began. The standard library has opened
/// `/dev/null` there since.
pub fn was_closed(number: u8) -> bool {
    number < 3 && CLOSED.load(Ordering::Relaxed) & (1 << number) != 0
}

/// `fcntl(n, F_DUPFD_CLOEXEC, 3)` for 0, 1 and 2: returns copies of the standard descriptors.
///
/// The originals are never owned by anybody, because the standard library writes to them;
/// [`replace_by_null`](crate::daemon::replace_by_null) lets go of what they refer to. See fcntl(2).
pub fn standard() -> Result<[OwnedFd; 3], CallError> {
    let copy = |descriptor: BorrowedFd<'_>| {
        fcntl_dupfd_cloexec(descriptor.as_fd(), FIRST).map_err(failed("fcntl"))
    };
    Ok([
        copy(rustix::stdio::stdin())?,
        copy(rustix::stdio::stdout())?,
        copy(rustix::stdio::stderr())?,
    ])
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_number_is_given_away_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = fcntl_dupfd_cloexec(&file, 300).unwrap().into_raw_fd();
        assert!(adopt(number).is_ok());
        assert_eq!(adopt(number).unwrap_err().errno, Errno::EBUSY);
        assert_eq!(adopt(999_999).unwrap_err().errno, Errno::EBADF);
        assert_eq!(adopt(2).unwrap_err().errno, Errno::EBADF);
    }

    #[test]
    fn both_ways_find_what_is_open() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let high = fcntl_dupfd_cloexec(&null, 200).unwrap();
        for numbers in [tried(table_size().unwrap()), tried(highest_allowed())] {
            assert!(numbers.contains(&null.as_raw_fd()));
            assert!(numbers.contains(&high.as_raw_fd()));
            assert!(numbers.iter().all(|number| *number >= FIRST));
        }
    }
}
