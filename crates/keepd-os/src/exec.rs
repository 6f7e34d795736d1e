//! This process becomes another program.
#![expect(
    unsafe_code,
    reason = "the C library alone can catch a signal, and execve(2) is no safe call"
)]

use std::borrow::Cow;
use std::ffi::c_char;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use keepd_model::Errno;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::image::{Image, execute_file, execute_first};
use crate::process::DescriptorLimit;
use crate::signals::{self, AllBlocked, KERNEL_SIGNALS_MAX, KernelAction};
use crate::{errno, fatal};

/// What to become.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// The file that is executed, whatever the first of `arguments` says ([`own_program`]); `None`:
    /// the one that that names.
    pub file: Option<BorrowedFd<'static>>,
    /// Program and arguments; not empty. A program without a slash is looked for in the `PATH` of
    /// `environment`.
    pub arguments: &'a [Vec<u8>],
    /// The whole environment, each entry `KEY=VALUE`.
    pub environment: &'a [Cow<'a, [u8]>],
    /// Limit of descriptors that the program gets back, if the caller raised its own; `None`: the
    /// caller's.
    pub descriptor_limit: Option<DescriptorLimit>,
}

/// The file of this process; never closed.
static OWN_PROGRAM: OnceLock<OwnedFd> = OnceLock::new();

/// `open("/proc/self/exe", O_PATH | O_CLOEXEC)`: returns the file that this process was started
/// from, which is the same after another file was put in its place.
///
/// It is opened at the first call, best at the start, and stays open. Fails with ENOENT without
/// /proc. See proc_pid_exe(5).
pub fn own_program() -> Result<BorrowedFd<'static>, Errno> {
    if let Some(file) = OWN_PROGRAM.get() {
        return Ok(file.as_fd());
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open("/proc/self/exe", flags, Mode::empty());
    let opened = opened.map_err(errno::from_rustix)?;
    Ok(OWN_PROGRAM.get_or_init(|| opened).as_fd())
}

/// Signals that came while nobody but [`note`] was there for them, bit 0 for signal 1.
static NOTED: AtomicU64 = AtomicU64::new(0);

/// `execve(…)`, with default dispositions and an empty signal mask (but for [`own_program`], which
/// goes on reading the signals that this process reads): becomes the program, with the
/// same process id, the same children and every descriptor that is not close-on-exec.
///
/// Returns only if it fails, and then mask, dispositions and limit are as before, and what was
/// pending is pending again. Fails with EINVAL for strings with a NUL byte or an empty program. For
/// the thread that takes the signals, best the only one. See execve(2).
pub fn exec(program: &Program<'_>) -> Errno {
    let image = match Image::new(program.arguments, program.environment, None) {
        Ok(image) => image,
        Err(error) => return error,
    };
    let blocked = AllBlocked::new();
    NOTED.store(0, Ordering::Relaxed);
    let before = catch_all();
    let limit = getrlimit(Resource::Nofile);
    give_back(program.descriptor_limit);
    signals::set_mask(mask_for(program.file));
    // SAFETY: the environment is one of the image's.
    let errno = unsafe { become_image(&image, program.file, image.environment.as_ptr()) };
    signals::set_mask(u64::MAX);
    // What could be set before can be set again, unless the hard limit was lowered.
    let _ = setrlimit(Resource::Nofile, limit);
    for (signal, action) in before {
        // It was set before, so it can be set again; the two that cannot be changed were not.
        let _ = action.set(signal);
    }
    raise_noted();
    drop(blocked);
    Errno(errno)
}

/// Returns the signal mask that a program begins with: an empty one, unless it is this one again.
/// Raw calls only.
pub(crate) fn mask_for(file: Option<BorrowedFd<'static>>) -> u64 {
    if file.is_some() { signals::mask_of_readers() } else { 0 }
}

/// Becomes the program of an image; returns the error number. Raw calls only.
///
/// # Safety
///
/// `environment` is a null-terminated array of C strings.
pub(crate) unsafe fn become_image(
    image: &Image,
    file: Option<BorrowedFd<'static>>,
    environment: *const *const c_char,
) -> i32 {
    // SAFETY: the image holds C strings and null-terminated arrays of pointers to them; the rest is
    // the caller's promise.
    unsafe {
        if let Some(file) = file {
            let errno = execute_file(file.as_raw_fd(), image.arguments.as_ptr(), environment);
            if errno != libc::ENOSYS {
                return errno;
            }
        }
        execute_first(&image.candidates, image.arguments.as_ptr(), environment)
    }
}

/// Sets the limit of descriptors that the program is to have. Raw calls only.
pub(crate) fn give_back(limit: Option<DescriptorLimit>) {
    if let Some(DescriptorLimit { soft, hard }) = limit {
        let or_none = |limit: u64| Some(limit).filter(|limit| *limit != u64::MAX);
        let limit = Rlimit { current: or_none(soft), maximum: or_none(hard) };
        // A program with another limit is better than none.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Catches every signal that can be caught, and returns what was done with them before.
fn catch_all() -> Vec<(libc::c_int, KernelAction)> {
    let known = |signal| KernelAction::of(signal).map(|before| (signal, before));
    let before = (1..=KERNEL_SIGNALS_MAX).filter_map(known).collect();
    catch_all_for_ever();
    before
}

/// Catches every signal that can be caught. Raw calls only.
///
/// Between the moment when they are let through and the new program, each of them could else end
/// this process, above all one that was pending. execve(2) gives caught signals their default
/// disposition, which is not so for ignored ones.
pub(crate) fn catch_all_for_ever() {
    for signal in 1..=KERNEL_SIGNALS_MAX {
        // After a fault the same instruction would run again, for ever: these keep their handler,
        // which ends the process, or the default, which does as well.
        let is_fatal = fatal::SIGNALS.iter().any(|fatal| i32::from(fatal.get()) == signal);
        let needs_default = if is_fatal {
            KernelAction::of(signal).is_some_and(KernelAction::is_ignored)
        } else {
            !catch(signal)
        };
        if needs_default {
            // There is no default to go back to for the two that cannot be caught.
            let _ = KernelAction::DEFAULT.set(signal);
        }
    }
}

/// Reports whether the signal can be caught; the C library has two of which it does not want that.
fn catch(signal: libc::c_int) -> bool {
    // SAFETY: all zeros is a valid sigaction, and the handler makes one atomic change.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(signal, &raw const action, ptr::null_mut()) == 0
    }
}

extern "C" fn note(signal: libc::c_int) {
    NOTED.fetch_or(1 << (signal - 1), Ordering::Relaxed);
}

/// Sends ourselves what came meanwhile.
fn raise_noted() {
    let noted = NOTED.swap(0, Ordering::Relaxed);
    for signal in (1..=KERNEL_SIGNALS_MAX).filter(|signal| noted & 1 << (signal - 1) != 0) {
        // SAFETY: the calls take numbers only.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
}
