//! The child between clone and execve(2): raw system calls only, nothing allocated, locked or
//! formatted.
#![expect(
    unsafe_code,
    reason = "each step is a raw system call on memory that was prepared before the clone"
)]

use std::ffi::{c_char, c_long};
use std::os::fd::RawFd;
use std::ptr;

use keepd_model::SpawnStep;

use super::Session;
use super::report::{FAILURE_BYTES, OWN_DESCRIPTORS};
use crate::image::{execute_file, execute_first};
use crate::ledger::ChildRecord;
use crate::process::DescriptorLimit;
use crate::signals::{KERNEL_SIGNALS_MAX, KernelAction};

/// Bytes of a signal set in the kernel.
const SIGNAL_SET_BYTES: usize = 8;

/// Everything the child looks at, as plain numbers and pointers into memory that the parent
/// prepared.
pub(super) struct Plan<'a> {
    /// Signals that are set to their defaults, bit 0 for signal 1. The kernel has done it for the
    /// others.
    pub(super) defaults: u64,
    /// Signals that are ignored.
    pub(super) ignored: u64,
    /// Write end of the error pipe.
    pub(super) report: RawFd,
    /// The table of descriptors is shared with the parent: keep a copy of what lies below this
    /// number.
    pub(super) unshare_below: Option<RawFd>,
    /// The child must enter its cgroup by itself, through this descriptor of `cgroup.procs`.
    pub(super) enter_cgroup: Option<RawFd>,
    /// Descriptors as they are numbered now, each once.
    pub(super) sources: &'a mut [RawFd],
    /// Room for the sources and the error pipe, in ascending order.
    pub(super) kept: &'a mut [RawFd],
    /// Which source gets which number.
    pub(super) placements: &'a [(usize, RawFd)],
    /// Which source is executed; `None`: the first candidate that can be.
    pub(super) file: Option<usize>,
    /// Descriptors from this number on stay as they are.
    pub(super) keep_from: Option<RawFd>,
    /// What is written down before the program.
    pub(super) record: Option<ChildRecord<'a>>,
    /// One that was asked for does not exist.
    pub(super) is_one_missing: bool,
    pub(super) session: Session,
    pub(super) descriptor_limit: Option<DescriptorLimit>,
    pub(super) umask: u32,
    pub(super) groups: Option<&'a [u32]>,
    pub(super) gid: Option<u32>,
    pub(super) uid: Option<u32>,
    /// Null for "stay".
    pub(super) directory: *const c_char,
    pub(super) candidates: &'a [*const c_char],
    pub(super) arguments: *const *const c_char,
    pub(super) environment: *const *const c_char,
    /// Exit status after a failed step.
    pub(super) failure_status: u8,
}

/// Where and why the child gave up. The errno is a plain number here.
struct Stop(SpawnStep, i32);

/// Prepares the process and becomes the program, or reports the step that failed and ends with the
/// status for that.
///
/// # Safety
///
/// The caller is a new process made by clone(2) without CLONE_VM, with one thread and all signals
/// blocked. Every pointer in `plan` is to a C string or, for `arguments` and `environment`, to a
/// null-terminated array of them; every descriptor is open.
pub(super) unsafe fn run(plan: &mut Plan<'_>) -> ! {
    // SAFETY: the caller's promise is passed on.
    let Stop(step, errno) = unsafe { steps(plan) };
    // Before anybody is told: whoever reads the report may look there.
    if let Some(record) = &plan.record {
        record.record_failure(step as u8, errno);
    }
    let mut message = [0; FAILURE_BYTES];
    message[0] = step as u8;
    message[1..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: `message` is valid for reading its length; exit_group(2) takes a number and does not
    // return.
    unsafe {
        libc::syscall(libc::SYS_write, plan.report, message.as_ptr(), message.len());
        loop {
            libc::syscall(libc::SYS_exit_group, c_long::from(plan.failure_status));
        }
    }
}

/// Returns only when a step failed.
///
/// # Safety
///
/// As for [`run`].
unsafe fn steps(plan: &mut Plan<'_>) -> Stop {
    // SAFETY: as for `run`, for each of them.
    unsafe {
        if let Err(stop) = prepare(plan) {
            return stop;
        }
        execute(plan)
    }
}

/// Does every step before the program.
///
/// # Safety
///
/// As for [`run`].
unsafe fn prepare(plan: &mut Plan<'_>) -> Result<(), Stop> {
    dispose(plan.defaults, KernelAction::DEFAULT)?;
    dispose(plan.ignored, KernelAction::IGNORE)?;
    // SAFETY: as for `run`, for each of them.
    unsafe {
        own_descriptors(plan)?;
        // Only now: it opens a descriptor, which in a shared table would be the parent's.
        record(plan.record.as_ref())?;
        session(plan)?;
        limits(plan.descriptor_limit)?;
        identity(plan)?;
        place_descriptors(plan)
    }
}

/// Sets what is done with signals. A handler is lost by execve(2) anyway; an ignored signal is not,
/// and would stay ignored for ever.
fn dispose(signals: u64, action: KernelAction) -> Result<(), Stop> {
    for signal in 1..=KERNEL_SIGNALS_MAX {
        let is_asked = signals & 1 << (signal - 1) != 0;
        let is_fixed = signal == libc::SIGKILL || signal == libc::SIGSTOP;
        if is_asked && !is_fixed {
            action.set(signal).map_err(|errno| Stop(SpawnStep::Signals, errno))?;
        }
    }
    Ok(())
}

/// Writes down who runs now. After a refusal there may be another process of the service already,
/// so nothing but the end is left for this one.
fn record(record: Option<&ChildRecord<'_>>) -> Result<(), Stop> {
    let result = record.map_or(Ok(()), ChildRecord::record);
    result.map_err(|_| Stop(SpawnStep::Prepare, libc::ECANCELED))
}

/// Leaves the parent's table, enters the cgroup, and makes sure that nothing unasked for survives
/// execve(2).
///
/// # Safety
///
/// As for [`run`].
unsafe fn own_descriptors(plan: &mut Plan<'_>) -> Result<(), Stop> {
    let step = SpawnStep::Descriptors;
    if let Some(below) = plan.unshare_below {
        // SAFETY: from here to the write, only the table of descriptors is touched, and the numbers
        // in `plan` are below `below`, so they survive.
        unsafe {
            let flags = libc::CLOSE_RANGE_UNSHARE;
            if libc::syscall(libc::SYS_close_range, below, u32::MAX, flags) != 0 {
                check(step, libc::syscall(libc::SYS_unshare, libc::CLONE_FILES))?;
            }
            // Whoever would read it may be gone: then nobody shares descriptors any more, and the
            // program runs all the same.
            let word = [OWN_DESCRIPTORS];
            libc::syscall(libc::SYS_write, plan.report, word.as_ptr(), word.len());
        }
        forget_broken_pipe();
    }
    if let Some(procs) = plan.enter_cgroup {
        // SAFETY: the bytes are valid for reading; "0" is the writer itself.
        let result = unsafe { libc::syscall(libc::SYS_write, procs, b"0".as_ptr(), 1_usize) };
        check(SpawnStep::Cgroup, result)?;
    }
    // Sources move out of the way of targets now, while the descriptor limit is still the parent's.
    let highest = plan.placements.iter().map(|(_, target)| *target).max().unwrap_or(-1);
    // SAFETY: only numbers are passed on.
    unsafe {
        move_above(highest, &mut plan.report)?;
        for source in plan.sources.iter_mut() {
            move_above(highest, source)?;
        }
        close_others(plan)
    }
}

/// Takes back the PIPE that writing to a parent which has ended raised: it is blocked here, even
/// where it is ignored, and would end the program. A disposition of "ignore" discards what is
/// pending (sigaction(2)).
fn forget_broken_pipe() {
    if let Some(before) = KernelAction::of(libc::SIGPIPE) {
        // It was set before, so it can be set again.
        let _ = KernelAction::IGNORE.set(libc::SIGPIPE);
        let _ = before.set(libc::SIGPIPE);
    }
}

/// Closes what is neither the pipe nor a source, the standard descriptors included, and marks those
/// close-on-exec.
///
/// Closing at execve(2) would be too late: the copied table holds the error pipes of other children
/// in flight, and would hide their ends for as long as this child hangs on a slow file system.
///
/// # Safety
///
/// As for [`run`].
unsafe fn close_others(plan: &mut Plan<'_>) -> Result<(), Stop> {
    let numbers = plan.sources.iter().copied().chain([plan.report]);
    for (kept, number) in plan.kept.iter_mut().zip(numbers) {
        *kept = number;
    }
    // Neither allocates nor panics.
    plan.kept.sort_unstable();
    let last = plan.keep_from.map_or(RawFd::MAX, |number| number - 1);
    let mut first = 0;
    for kept in plan.kept.iter().filter(|kept| **kept <= last) {
        if first < *kept {
            // SAFETY: nothing in the range is used from here on.
            unsafe { close_range(first, kept - 1, 0)? };
        }
        first = kept + 1;
    }
    // SAFETY: nothing in the first range is used from here on, and for the second only a flag of
    // descriptors is changed.
    unsafe {
        if first <= last {
            close_range(first, last, 0)?;
        }
        close_range(0, last, libc::CLOSE_RANGE_CLOEXEC)
    }
}

/// Gives the descriptor a number above `highest`, unless it has one.
///
/// # Safety
///
/// As for [`run`].
unsafe fn move_above(highest: RawFd, descriptor: &mut RawFd) -> Result<(), Stop> {
    if *descriptor <= highest {
        // SAFETY: F_DUPFD_CLOEXEC takes numbers only.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_fcntl,
                *descriptor,
                libc::F_DUPFD_CLOEXEC,
                c_long::from(highest + 1),
            )
        };
        check(SpawnStep::Descriptors, moved)?;
        *descriptor = moved as RawFd;
    }
    Ok(())
}

/// close_range(2), or the same one by one where the kernel (before 5.9, for the flag 5.11) or a
/// filter lacks it.
///
/// # Safety
///
/// As for [`run`].
unsafe fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> Result<(), Stop> {
    // SAFETY: numbers only; the caller does not use what is closed.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
        return Ok(());
    }
    let mut limit = [0_u64; 2];
    // SAFETY: the kernel writes one rlimit64, two 64-bit numbers, to `limit`.
    let result = unsafe {
        let none = ptr::null::<u64>();
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, none, limit.as_mut_ptr())
    };
    check(SpawnStep::Descriptors, result)?;
    let end = RawFd::try_from(limit[0]).unwrap_or(RawFd::MAX);
    for descriptor in (first..end).take_while(|descriptor| *descriptor <= last) {
        // SAFETY: numbers only; EBADF for one that is not open is as good.
        unsafe {
            match flags {
                0 => libc::syscall(libc::SYS_close, descriptor),
                _ => libc::syscall(libc::SYS_fcntl, descriptor, libc::F_SETFD, libc::FD_CLOEXEC),
            };
        }
    }
    Ok(())
}

/// Session or process group, as asked for.
///
/// # Safety
///
/// As for [`run`].
unsafe fn session(plan: &Plan<'_>) -> Result<(), Stop> {
    let session = plan.session;
    // SAFETY: these calls take numbers only.
    let result = unsafe {
        match session {
            Session::New => libc::syscall(libc::SYS_setsid),
            Session::ProcessGroup | Session::Foreground => libc::syscall(libc::SYS_setpgid, 0, 0),
            Session::Inherit => 0,
        }
    };
    check(SpawnStep::Session, result)?;
    if session == Session::Foreground {
        let input = plan.placements.iter().find(|(_, target)| *target == 0);
        let input = input.and_then(|(source, _)| plan.sources.get(*source)).unwrap_or(&-1);
        // SAFETY: getpid(2) takes nothing; ioctl_tty(2) reads one number from `group`. The signal
        // that would stop a caller in the background is blocked, like all others.
        let result = unsafe {
            let group = libc::syscall(libc::SYS_getpid) as libc::pid_t;
            libc::syscall(libc::SYS_ioctl, *input, libc::TIOCSPGRP, &raw const group)
        };
        check(SpawnStep::Session, result)?;
    }
    Ok(())
}

/// Gives the inherited limit of descriptors back.
///
/// # Safety
///
/// As for [`run`].
unsafe fn limits(limit: Option<DescriptorLimit>) -> Result<(), Stop> {
    let Some(DescriptorLimit { soft, hard }) = limit else {
        return Ok(());
    };
    let pair = [soft, hard];
    // SAFETY: `pair` is what struct rlimit64 is, two 64-bit numbers; nothing is written.
    let result = unsafe {
        let none = ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, pair.as_ptr(), none)
    };
    check(SpawnStep::Limits, result)
}

/// umask, groups, gid, uid, directory: what needs the parent's rights comes before they are given
/// up, and the directory after, because it is the service that must be able to enter it.
///
/// # Safety
///
/// As for [`run`].
unsafe fn identity(plan: &Plan<'_>) -> Result<(), Stop> {
    // SAFETY: raw calls, because those of the C library would signal threads that do not exist
    // here. `groups` is valid for reading its length; the directory is a C string by the promise to
    // `run`.
    unsafe {
        libc::syscall(libc::SYS_umask, plan.umask);
        if let Some(groups) = plan.groups {
            let result = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
            check(SpawnStep::Groups, result)?;
        }
        if let Some(gid) = plan.gid {
            check(SpawnStep::Gid, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        }
        if let Some(uid) = plan.uid {
            check(SpawnStep::Uid, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        }
        if !plan.directory.is_null() {
            check(SpawnStep::Directory, libc::syscall(libc::SYS_chdir, plan.directory))?;
        }
    }
    Ok(())
}

/// Puts each descriptor where the program expects it.
///
/// # Safety
///
/// As for [`run`].
unsafe fn place_descriptors(plan: &Plan<'_>) -> Result<(), Stop> {
    if plan.is_one_missing {
        return Err(Stop(SpawnStep::Standard, libc::EBADF));
    }
    for (source, target) in plan.placements {
        let source = plan.sources.get(*source).unwrap_or(&-1);
        // SAFETY: dup3(2) takes numbers only. No source is a target: `own_descriptors` moved them
        // apart.
        let result = unsafe { libc::syscall(libc::SYS_dup3, *source, *target, 0) };
        check(SpawnStep::Standard, result)?;
    }
    Ok(())
}

/// Empties the signal mask and becomes the first candidate that can be executed.
///
/// # Safety
///
/// As for [`run`].
unsafe fn execute(plan: &Plan<'_>) -> Stop {
    let none = [0_u64; 1];
    // SAFETY: `none` is a kernel signal set of SIGNAL_SET_BYTES; nothing is written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null_mut::<u64>(),
            SIGNAL_SET_BYTES,
        )
    };
    if let Err(stop) = check(SpawnStep::Signals, result) {
        return stop;
    }
    if let Some(file) = plan.file.and_then(|source| plan.sources.get(source)) {
        // SAFETY: as below.
        let errno = unsafe { execute_file(*file, plan.arguments, plan.environment) };
        if errno != libc::ENOSYS {
            return Stop(SpawnStep::Exec, errno);
        }
    }
    // SAFETY: by the promise to `run`, C strings and two null-terminated arrays of C strings.
    let errno = unsafe { execute_first(plan.candidates, plan.arguments, plan.environment) };
    Stop(SpawnStep::Exec, errno)
}

fn check(step: SpawnStep, result: c_long) -> Result<(), Stop> {
    if result < 0 { Err(Stop(step, errno())) } else { Ok(()) }
}

fn errno() -> i32 {
    // SAFETY: the C library keeps errno in memory of this thread, which the clone copied.
    unsafe { *libc::__errno_location() }
}
