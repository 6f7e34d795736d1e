//! Signals one at a time, for a process that does nothing else than wait for them.
//!
//! Everything is blocked and nothing is handled, so a signal never interrupts anything. The calls
//! are raw, because those of the C library leave out two signals that it keeps for itself.
#![expect(unsafe_code, reason = "rustix has no signal masks and no sigtimedwait(2)")]

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use keepd_model::{Errno, Signal};

use crate::errno;
use crate::process;
use crate::signals::{KERNEL_SET_BYTES, set_mask};

/// Signals by number: bit 0 for signal 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// Returns a set of these signals.
    pub fn of(signals: &[Signal]) -> Self {
        Self(signals.iter().fold(0, |set, signal| set | bit(*signal)))
    }

    /// Reports whether the signal is in the set.
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & bit(signal) != 0
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.get() - 1)
}

/// A signal that was sent to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The signal.
    pub signal: Signal,
    /// The kernel made it, as for keys of a terminal or a change of a child; nobody called kill(2)
    /// or the like.
    pub by_kernel: bool,
}

/// `rt_sigprocmask(SIG_SETMASK, all)`: blocks every signal for the calling thread, and returns what
/// was blocked before.
///
/// A fault of our own still ends us: the kernel does not let it wait. See sigprocmask(2).
pub fn block_all() -> SignalSet {
    SignalSet(set_mask(u64::MAX))
}

/// `rt_sigtimedwait(all, &info, timeout)`: takes the pending signal with the lowest number, and
/// waits for one if there is none.
///
/// `None`: the time is over, or the process was stopped and goes on. See sigtimedwait(2).
pub fn wait(timeout: Option<Duration>) -> Result<Option<Arrival>, Errno> {
    let all = u64::MAX;
    let timeout = timeout.map(|timeout| libc::timespec {
        // Nobody notices the difference to more than 68 years.
        tv_sec: timeout.as_secs().try_into().unwrap_or(i32::MAX.into()),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the set has KERNEL_SET_BYTES, `info` is valid for writing one siginfo_t, and
    // `timeout` is null or points to a timespec that lives in this function.
    let number = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            info.as_mut_ptr(),
            timeout,
            KERNEL_SET_BYTES,
        )
    };
    if number < 0 {
        return match errno::last() {
            Errno(libc::EAGAIN | libc::EINTR) => Ok(None),
            error => Err(error),
        };
    }
    // SAFETY: all zeros is a valid siginfo_t, and the kernel wrote a valid one over it.
    let info = unsafe { info.assume_init() };
    let signal = u8::try_from(number).ok().and_then(Signal::new);
    Ok(signal.map(|signal| Arrival { signal, by_kernel: info.si_code > 0 }))
}

/// `kill(0, SIGTSTP)` while that signal is not blocked: stops our process group, as a key of the
/// terminal would. Returns `true` once somebody continued us: CONT is pending then.
///
/// `false`: nobody could continue us, so the kernel stopped nobody. That is so for process 1, and
/// for a group of which no member has a parent elsewhere in the session. To be called while all
/// signals are blocked. See setpgid(2) about orphaned process groups.
pub fn stop_own_group() -> bool {
    let Some(stop) = u8::try_from(libc::SIGTSTP).ok().and_then(Signal::new) else {
        return false;
    };
    let before = set_mask(!bit(stop));
    // SAFETY: the call takes numbers only. A process may always signal its own group.
    unsafe { libc::kill(0, libc::SIGTSTP) };
    set_mask(before);
    let mut pending = 0_u64;
    // SAFETY: the kernel writes one set of KERNEL_SET_BYTES.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, KERNEL_SET_BYTES) };
    result == 0 && SignalSet(pending).contains(Signal::CONT)
}

/// `kill(-1, signal)`: signals every process of our PID namespace but us, as far as we may.
///
/// Only for process 1, to which all of them belong: EPERM for any other. ESRCH if there is nobody.
/// See kill(2).
pub fn send_everybody(signal: Signal) -> Result<(), Errno> {
    if process::id().get() != 1 {
        return Err(Errno(libc::EPERM));
    }
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::kill(-1, i32::from(signal.get())) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}
