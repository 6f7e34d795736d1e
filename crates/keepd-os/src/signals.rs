//! Signals to us (read from a descriptor, never handled asynchronously) and to our own children.
#![expect(
    unsafe_code,
    reason = "rustix has no signal masks, no signalfd(2) and no real-time signals"
)]

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use keepd_model::{Errno, Pid, Signal};

use crate::errno;

/// Records read from a signalfd at once.
const RECORDS_AT_ONCE: usize = 16;
/// Where `ssi_code` is in a record, behind `ssi_signo` and `ssi_errno`.
const CODE_OFFSET: usize = 8;
/// The kernel sent it by itself: for a key, above all.
const SI_KERNEL: i32 = 0x80;
/// Bytes of a signal set in the kernel.
pub(crate) const KERNEL_SET_BYTES: usize = 8;
/// The highest number of a signal in the kernel.
pub(crate) const KERNEL_SIGNALS_MAX: i32 = 64;

/// Signals as records on a descriptor, readable when one is pending.
#[derive(Debug)]
pub struct SignalReader {
    descriptor: OwnedFd,
}

/// What some reader of this process reads, bit 0 for signal 1.
static READ: AtomicU64 = AtomicU64::new(0);

/// Returns the mask with which this very program begins again in its own place: what it reads stays
/// blocked, so that what comes meanwhile is pending until it reads again.
pub(crate) fn mask_of_readers() -> u64 {
    READ.load(Ordering::Relaxed)
}

impl SignalReader {
    /// `signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC)`: blocks these signals for the calling
    /// thread and reads them from a descriptor instead.
    ///
    /// Call it before other threads are made, which inherit the mask. A process started by
    /// [`spawn`](crate::spawn::spawn) does not. See signalfd(2).
    pub fn new(signals: &[Signal]) -> Result<Self, Errno> {
        block(signals)?;
        let bits = signals.iter().fold(0, |bits, signal| bits | 1 << (signal.get() - 1));
        READ.fetch_or(bits, Ordering::Relaxed);
        let set = set_of(signals);
        // SAFETY: `set` is a valid signal set.
        let raw =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if raw < 0 {
            return Err(errno::last());
        }
        // SAFETY: the kernel just made this descriptor and nobody else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor })
    }

    /// `read(descriptor, …)`, until nothing is left: returns every pending signal with the number
    /// of records.
    ///
    /// The kernel keeps one record for each pending standard signal, so after CHLD any number of
    /// children may have ended. See signalfd(2).
    pub fn read(&self) -> Result<Vec<(Signal, u32)>, Errno> {
        self.read_those(|_| true)
    }

    /// As [`SignalReader::read`], without those that the terminal sends because of a key: each
    /// process of its foreground group has got its own.
    ///
    /// CHLD is returned whoever sent it. See SI_KERNEL in sigaction(2).
    pub fn read_sent(&self) -> Result<Vec<(Signal, u32)>, Errno> {
        self.read_those(|record| {
            let field = |at: usize| record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            let field = |at| field(at).map(i32::from_ne_bytes);
            field(CODE_OFFSET) != Some(SI_KERNEL) || field(0) == Some(libc::SIGCHLD)
        })
    }

    fn read_those(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<(Signal, u32)>, Errno> {
        let mut counts: Vec<(Signal, u32)> = Vec::new();
        loop {
            let mut bytes = [0; RECORDS_AT_ONCE * mem::size_of::<libc::signalfd_siginfo>()];
            match rustix::io::read(&self.descriptor, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(counts),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(errno::from_rustix(error)),
                Ok(count) => {
                    let records = bytes[..count].chunks(mem::size_of::<libc::signalfd_siginfo>());
                    for record in records.filter(|record| is_wanted(record)) {
                        note(&mut counts, record);
                    }
                    // With room left there was no more.
                    if count < bytes.len() {
                        return Ok(counts);
                    }
                }
            }
        }
    }
}

impl AsFd for SignalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// `ssi_signo` is the first member of a record, 32 bits.
fn note(counts: &mut Vec<(Signal, u32)>, record: &[u8]) {
    let number = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let number = number.and_then(|number| u8::try_from(number).ok());
    let Some(signal) = number.and_then(Signal::new) else {
        return;
    };
    match counts.iter_mut().find(|(known, _)| *known == signal) {
        Some((_, count)) => *count = count.saturating_add(1),
        None => counts.push((signal, 1)),
    }
}

/// `pthread_sigmask(SIG_BLOCK, &set)`: keeps these signals pending for the calling thread.
///
/// See pthread_sigmask(3).
pub fn block(signals: &[Signal]) -> Result<(), Errno> {
    change_mask(libc::SIG_BLOCK, signals)
}

/// `pthread_sigmask(SIG_UNBLOCK, &set)`: lets these signals reach the calling thread.
pub(crate) fn unblock(signals: &[Signal]) -> Result<(), Errno> {
    change_mask(libc::SIG_UNBLOCK, signals)
}

fn change_mask(how: libc::c_int, signals: &[Signal]) -> Result<(), Errno> {
    let set = set_of(signals);
    // SAFETY: `set` is a valid signal set; nothing is written.
    let result = unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(Errno(result)) }
}

/// `sigaction(signal, {SIG_IGN})`: ignores a signal in this process; children from
/// [`spawn`](crate::spawn::spawn) do not.
///
/// Fails with EINVAL for KILL and STOP. See sigaction(2).
pub fn ignore(signal: Signal) -> Result<(), Errno> {
    set_disposition(signal, libc::SIG_IGN)
}

/// `sigaction(signal, {SIG_DFL})`: gives a signal its default effect back.
///
/// A process that was started with CHLD ignored cannot wait for its children: the kernel throws
/// their status away. Fails with EINVAL for KILL and STOP. See sigaction(2), wait(2).
pub fn restore_default(signal: Signal) -> Result<(), Errno> {
    set_disposition(signal, libc::SIG_DFL)
}

/// The numbers of the ignored signals as a kernel set, bit 0 for signal 1, once they were asked
/// for. Only [`set_disposition`] changes what is ignored in a process of ours.
static IGNORED: Mutex<Option<u64>> = Mutex::new(None);

/// Sets SIG_IGN or SIG_DFL.
fn set_disposition(signal: Signal, disposition: libc::sighandler_t) -> Result<(), Errno> {
    let mut ignored = IGNORED.lock().unwrap_or_else(PoisonError::into_inner);
    *ignored = None;
    // SAFETY: neither is a function of ours, so no code runs asynchronously.
    let result = unsafe { libc::signal(i32::from(signal.get()), disposition) };
    if result == libc::SIG_ERR { Err(errno::last()) } else { Ok(()) }
}

/// `rt_sigaction(signal, NULL, &action)` for every signal: returns those that this process ignores.
///
/// At its start they are those that whoever started it wanted it to ignore, and PIPE, which the
/// standard library ignores. See sigaction(2).
pub fn ignored_signals() -> Vec<Signal> {
    let set = ignored();
    let all = (1..=KERNEL_SIGNALS_MAX as u8).filter_map(Signal::new);
    all.filter(|signal| set & kernel_set_of(&[*signal]) != 0).collect()
}

/// Returns a signal set as the kernel has it, bit 0 for signal 1.
pub(crate) fn kernel_set_of(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal.get() - 1))
}

/// `rt_sigaction(signal, NULL, &action)` for every signal, the first time: returns the set of those
/// that are ignored, which execve(2) and CLONE_CLEAR_SIGHAND would leave ignored.
pub(crate) fn ignored() -> u64 {
    let mut ignored = IGNORED.lock().unwrap_or_else(PoisonError::into_inner);
    *ignored.get_or_insert_with(|| {
        (1..=KERNEL_SIGNALS_MAX)
            .filter(|signal| is_ignored(*signal))
            .fold(0, |set, signal| set | 1 << (signal - 1))
    })
}

fn is_ignored(signal: i32) -> bool {
    KernelAction::of(signal).is_some_and(|action| action.is_ignored())
}

/// What the kernel does with a signal: the handler, flags, restorer and mask; its structure is
/// nowhere larger. All zeros is SIG_DFL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelAction([u64; 4]);

impl KernelAction {
    /// SIG_DFL.
    pub(crate) const DEFAULT: Self = Self([0; 4]);
    /// SIG_IGN.
    pub(crate) const IGNORE: Self = Self([libc::SIG_IGN as u64, 0, 0, 0]);

    /// `rt_sigaction(signal, NULL, &action)`; raw, because the C library hides two signals.
    pub(crate) fn of(signal: i32) -> Option<Self> {
        let mut action = Self::DEFAULT;
        // SAFETY: nothing is set; `action` has room for what the kernel writes.
        let result = unsafe {
            let none = ptr::null::<u64>();
            let old = action.0.as_mut_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, none, old, KERNEL_SET_BYTES)
        };
        (result == 0).then_some(action)
    }

    pub(crate) fn is_ignored(self) -> bool {
        self.0[0] as libc::sighandler_t == libc::SIG_IGN
    }

    /// `rt_sigaction(signal, &action, NULL)`: does this again with the signal it was taken from, or
    /// one of the constants with any; or returns the error number. Allocates nothing.
    pub(crate) fn set(self, signal: i32) -> Result<(), i32> {
        // SAFETY: the action is a constant, or one that was in force before, handler included. The
        // C library keeps errno in memory of this thread.
        unsafe {
            let none = ptr::null_mut::<u64>();
            let new = self.0.as_ptr();
            match libc::syscall(libc::SYS_rt_sigaction, signal, new, none, KERNEL_SET_BYTES) {
                0 => Ok(()),
                _ => Err(*libc::__errno_location()),
            }
        }
    }
}

/// `kill(pid, signal)`: signals one process.
///
/// Only for own children that are not reaped yet; any other process is signalled through
/// [`pidfd`](crate::pidfd), because its number may be somebody else's by now. See kill(2).
pub fn send(pid: Pid, signal: Signal) -> Result<(), Errno> {
    kill(i32::try_from(pid.get()), signal)
}

/// `kill(pid, number)`, or `kill(-pid, number)` for its process group: as [`send`], with any number
/// that a client may ask for.
///
/// 0 only asks whether somebody is there; a number that the kernel does not have fails with EINVAL.
/// The process is an own child that is not reaped yet. See kill(2), killpg(3).
pub fn send_number(pid: Pid, number: u16, to_group: bool) -> Result<(), Errno> {
    let target = match (i32::try_from(pid.get()), to_group) {
        // For kill(2), -1 is not the group of process 1 but everybody.
        (Ok(1), true) | (Err(_), _) => return Err(Errno(libc::ESRCH)),
        (Ok(pid), true) => -pid,
        (Ok(pid), false) => pid,
    };
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::kill(target, i32::from(number)) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}

fn kill<E>(target: Result<i32, E>, signal: Signal) -> Result<(), Errno> {
    let target = target.map_err(|_| Errno(libc::ESRCH))?;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::kill(target, i32::from(signal.get())) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the set, sigaddset(3) changes an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), i32::from(signal.get()));
        }
        set.assume_init()
    }
}

/// Every signal blocked for this thread, those of the C library's own use included, until it is
/// dropped.
pub(crate) struct AllBlocked {
    before: u64,
    _this_thread_only: std::marker::PhantomData<*const ()>,
}

impl AllBlocked {
    /// `rt_sigprocmask(SIG_SETMASK, all)`; raw, because the C library's function leaves two signals
    /// out.
    pub(crate) fn new() -> Self {
        Self { before: set_mask(u64::MAX), _this_thread_only: std::marker::PhantomData }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// `rt_sigprocmask(SIG_SETMASK, mask)`, raw, for a mask with bit 0 for signal 1: returns the mask
/// from before.
pub(crate) fn set_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: a signal set of the kernel has 64 bits; both pointers are to one. With valid
    // arguments the call cannot fail.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            KERNEL_SET_BYTES,
        );
    }
    before
}
