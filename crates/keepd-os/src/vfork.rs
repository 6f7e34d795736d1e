//! A process that borrows our memory until it executes its program: the shortest way there.
//!
//! Unlike [`spawn`](crate::spawn), it hands on everything as it is: descriptors, directory,
//! environment, limits, file mode mask. It is for a program with one thread and one child, which
//! waits until that child runs; nothing is copied, so the costs do not grow with us.
#![expect(
    unsafe_code,
    reason = "clone(2) with CLONE_VM has no safe face, and each step is a raw system call"
)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use keepd_model::{Errno, Pid, Signal, SpawnFailure, SpawnStep};

use crate::signals::{AllBlocked, KERNEL_SET_BYTES};
use crate::sigwait::SignalSet;
use crate::{errno, process, reap};

/// Where programs are looked for when the environment has no `PATH`, as for execvp(3).
pub const FALLBACK_PATH: &str = "/bin:/usr/bin";
/// What runs a file that is executable and in no format that the kernel knows, as for execvp(3).
const SHELL: &CStr = c"/bin/sh";
/// The child makes system calls only; a signal handler of ours never runs on it.
const STACK_BYTES: usize = 16 * 1024;
/// The alignment that every ABI of Linux asks of a stack.
const STACK_ALIGNMENT: usize = 16;
/// Digits of the highest process id, with a NUL.
const ID_BYTES: usize = 11;

/// What the process shall be.
#[derive(Debug)]
pub struct Request<'a> {
    /// The program and its arguments. A program without a slash is looked for in `PATH`.
    pub arguments: &'a [CString],
    /// Variables that name a process by its number, so that it knows that it is meant.
    pub addressed: &'a [Addressed<'a>],
    /// This terminal of our session gets the new process group as its foreground group.
    pub terminal: Option<BorrowedFd<'a>>,
    /// Signals that the program begins with blocked.
    pub blocked: SignalSet,
    /// Signals that have their default effect in the program; all others are ignored if they are
    /// ignored here.
    pub default: &'a [Signal],
}

/// A variable with a process id: where it is ours, it becomes the child's.
#[derive(Clone, Copy, Debug)]
pub struct Addressed<'a> {
    /// The name.
    pub variable: &'a str,
    /// A variable that says in another way who is meant, which cannot be known of the child: it is
    /// left out where the id is replaced.
    pub instead: Option<&'a str>,
}

/// `clone(CLONE_VM | CLONE_VFORK)`, then setpgid(2) and execve(2) in the child: starts a process in
/// a process group of its own, and returns once its program runs.
///
/// For a process with one thread. What the kernel cannot execute (ENOEXEC) is given to `/bin/sh`,
/// as by execvp(3). A child that could not execute its program is gone when this returns. See
/// clone(2), execve(2).
///
/// # Errors
///
/// Step `clone`: there is no process; `session`, `signals`: it could not prepare itself; `exec`:
/// the program cannot be executed; `prepare`: there is no program in the request.
pub fn start(request: &Request<'_>) -> Result<Pid, SpawnFailure> {
    let program = request.arguments.first().filter(|program| !program.is_empty());
    let program = program.ok_or(SpawnFailure { step: SpawnStep::Prepare, errno: Errno::EINVAL })?;
    let candidates = candidates(program);
    let arguments = request.arguments.iter().map(|argument| argument.as_ptr());
    let mut script: Vec<*const c_char> = vec![SHELL.as_ptr(), ptr::null()];
    script.extend(arguments.clone().skip(1).chain([ptr::null()]));
    let arguments: Vec<*const c_char> = arguments.chain([ptr::null()]).collect();
    let mut environment = Environment::new(request.addressed);
    let mut plan = Plan {
        candidates: candidates.iter().map(|candidate| candidate.as_ptr()).collect(),
        arguments: arguments.as_ptr(),
        script,
        environment: environment.pointer(),
        ids: environment.ids(),
        terminal: request.terminal.map(|terminal| terminal.as_raw_fd()),
        blocked: request.blocked.bits(),
        default: request.default,
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
    };
    let pid = clone(&mut plan)?;
    let step = u8::try_from(plan.failed_step.load(Ordering::Acquire)).unwrap_or(0);
    match SpawnStep::from_number(step) {
        None => Ok(pid),
        Some(step) => {
            reap::take_ended(pid);
            let errno = Errno(plan.failed_errno.load(Ordering::Acquire));
            Err(SpawnFailure { step, errno })
        }
    }
}

/// Everything the child looks at.
struct Plan<'a> {
    /// Paths to try, in order; not empty.
    candidates: Vec<*const c_char>,
    /// Null-terminated.
    arguments: *const *const c_char,
    /// The same for the shell; its second word is the path that was tried.
    script: Vec<*const c_char>,
    /// Null-terminated.
    environment: *const *const c_char,
    /// Where the child writes its id, each with room for [`ID_BYTES`].
    ids: Vec<*mut u8>,
    terminal: Option<RawFd>,
    blocked: u64,
    default: &'a [Signal],
    /// The number of a [`SpawnStep`], 0 for none: the answer, as the memory is one.
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
}

/// The environment of this process, as it is or with other variables in place of some.
struct Environment {
    /// Entries of our own: `NAME=` and room for a number.
    own: Vec<(Vec<u8>, usize)>,
    /// The pointers, if there is an entry of our own.
    pointers: Vec<*const c_char>,
}

// SAFETY: the C library defines this variable with this type; see environ(7).
unsafe extern "C" {
    static environ: *const *const c_char;
}

impl Environment {
    fn new(addressed: &[Addressed<'_>]) -> Self {
        let id = process::id().to_string();
        let mut own = Vec::new();
        let mut hidden = Vec::new();
        for Addressed { variable, instead } in addressed {
            if std::env::var_os(variable).is_some_and(|value| value == OsStr::new(&id)) {
                let mut entry = format!("{variable}=").into_bytes();
                let digits = entry.len();
                entry.resize(digits + ID_BYTES, 0);
                own.push((entry, digits));
                hidden.extend([Some(*variable), *instead].into_iter().flatten());
            }
        }
        let mut pointers = Vec::new();
        if !own.is_empty() {
            // SAFETY: nobody changes the environment: there is one thread, and it is here.
            unsafe {
                let mut next = environ;
                while !next.is_null() && !(*next).is_null() {
                    if !is_one_of(CStr::from_ptr(*next), &hidden) {
                        pointers.push(*next);
                    }
                    next = next.add(1);
                }
            }
            pointers.extend(own.iter().map(|(entry, _)| entry.as_ptr().cast::<c_char>()));
            pointers.push(ptr::null());
        }
        Self { own, pointers }
    }

    fn pointer(&self) -> *const *const c_char {
        if self.pointers.is_empty() {
            // SAFETY: the variable of the C library is read while no other thread is there.
            unsafe { environ }
        } else {
            self.pointers.as_ptr()
        }
    }

    fn ids(&mut self) -> Vec<*mut u8> {
        let own = self.own.iter_mut();
        own.map(|(entry, digits)| entry[*digits..].as_mut_ptr()).collect()
    }
}

fn is_one_of(entry: &CStr, names: &[&str]) -> bool {
    let entry = entry.to_bytes();
    let value = |name: &&str| entry.strip_prefix(name.as_bytes());
    names.iter().filter_map(value).any(|rest| rest.first() == Some(&b'='))
}

/// Returns the paths that execve(2) shall try. An empty element of `PATH` is the working directory,
/// as for execvp(3).
fn candidates(program: &CStr) -> Vec<CString> {
    let name = program.to_bytes();
    if name.contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = std::env::var_os("PATH");
    let path = path.as_ref().map_or(FALLBACK_PATH.as_bytes(), |path| path.as_bytes());
    let joined = path.split(|byte| *byte == b':').map(|element| match element {
        [] => [b"./", name].concat(),
        element => [element, b"/", name].concat(),
    });
    joined.map(|path| CString::new(path).expect("neither part holds a NUL byte")).collect()
}

/// Makes the child, and returns when it runs its program or has ended.
fn clone(plan: &mut Plan<'_>) -> Result<Pid, SpawnFailure> {
    let _blocked = AllBlocked::new();
    let mut stack: Vec<u8> = Vec::with_capacity(STACK_BYTES);
    let end = stack.as_mut_ptr().wrapping_add(STACK_BYTES);
    let top = end.wrapping_sub(end.addr() % STACK_ALIGNMENT);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs `enter` on a stack of its own, which nobody else uses. CLONE_VFORK
    // holds us back until it has left our memory, so `stack` and `plan` outlive it.
    let result =
        unsafe { libc::clone(enter, top.cast::<c_void>(), flags, ptr::from_mut(plan).cast()) };
    let error = errno::last();
    let pid = u32::try_from(result).ok().and_then(Pid::new);
    pid.ok_or(SpawnFailure { step: SpawnStep::Clone, errno: error })
}

/// The child's first function.
extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: `clone` passes its plan, and does not look at it before we are gone.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    // SAFETY: this is the new process, with all signals blocked.
    let (step, error) = unsafe { run(plan) };
    plan.failed_errno.store(error, Ordering::Release);
    plan.failed_step.store(step as i32, Ordering::Release);
    // SAFETY: exit_group(2) takes a number. The raw call runs nothing of the parent's.
    unsafe {
        libc::syscall(libc::SYS_exit_group, 127);
    }
    127
}

/// Prepares the process and becomes the program; returns only when a step failed.
///
/// # Safety
///
/// The caller is the child of [`clone`], and all signals are blocked. Nothing may be allocated,
/// locked or unwound here: the memory is the parent's.
unsafe fn run(plan: &mut Plan<'_>) -> (SpawnStep, i32) {
    // SAFETY: these calls take numbers; ioctl_tty(2) reads one from `pid`. The places for ids have
    // room for ID_BYTES.
    unsafe {
        let pid = libc::syscall(libc::SYS_getpid) as libc::pid_t;
        if libc::syscall(libc::SYS_setpgid, 0, 0) != 0 {
            return (SpawnStep::Session, errno());
        }
        if let Some(terminal) = plan.terminal {
            // Without it the program still runs, in the background: as good as can be had from a
            // terminal that was hung up meanwhile.
            libc::syscall(libc::SYS_ioctl, terminal, libc::TIOCSPGRP, &raw const pid);
        }
        for place in &plan.ids {
            write_id(pid, *place);
        }
        if let Err(failure) = signals(plan) {
            return failure;
        }
        execute(plan)
    }
}

/// Sets the signals that shall have their defaults, and then the mask.
///
/// # Safety
///
/// As for [`run`].
unsafe fn signals(plan: &Plan<'_>) -> Result<(), (SpawnStep, i32)> {
    // Handler, flags, restorer and mask: no kernel structure of this call is larger, and all zeros
    // is SIG_DFL.
    let default = [0_u64; 4];
    for signal in plan.default {
        // SAFETY: `default` is at least as large as what the kernel reads; nothing is written.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                c_long::from(signal.get()),
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                KERNEL_SET_BYTES,
            )
        };
        if result != 0 {
            return Err((SpawnStep::Signals, errno()));
        }
    }
    // SAFETY: the mask is a kernel signal set; nothing is written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const plan.blocked,
            ptr::null_mut::<u64>(),
            KERNEL_SET_BYTES,
        )
    };
    if result == 0 { Ok(()) } else { Err((SpawnStep::Signals, errno())) }
}

/// Executes the first candidate that can be. As by execvp(3), a missing file leads to the next, and
/// a forbidden one is remembered, should nothing better be found.
///
/// # Safety
///
/// As for [`run`].
unsafe fn execute(plan: &mut Plan<'_>) -> (SpawnStep, i32) {
    let mut last = libc::ENOENT;
    let mut forbidden = false;
    for candidate in &plan.candidates {
        // SAFETY: a C string and two null-terminated arrays of C strings, which `start` keeps.
        unsafe {
            libc::syscall(libc::SYS_execve, *candidate, plan.arguments, plan.environment);
            last = errno();
            if last == libc::ENOEXEC {
                if let Some(file) = plan.script.get_mut(1) {
                    *file = *candidate;
                }
                let script = plan.script.as_ptr();
                libc::syscall(libc::SYS_execve, SHELL.as_ptr(), script, plan.environment);
            }
        }
        match last {
            libc::EACCES => forbidden = true,
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => {}
            _ => return (SpawnStep::Exec, last),
        }
    }
    (SpawnStep::Exec, if forbidden { libc::EACCES } else { last })
}

/// Writes a number in decimal digits, and a NUL.
///
/// # Safety
///
/// `place` has room for [`ID_BYTES`].
unsafe fn write_id(pid: libc::pid_t, place: *mut u8) {
    let mut digits = [0_u8; ID_BYTES];
    let mut rest = pid.unsigned_abs();
    let mut first = ID_BYTES - 1;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let text = &digits[first..];
    // SAFETY: the text, with its NUL, has at most ID_BYTES, and lies elsewhere.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), place, text.len()) };
}

fn errno() -> i32 {
    // SAFETY: the C library keeps errno in memory of the one thread there is; the parent, whose it
    // is, stands still.
    unsafe { *libc::__errno_location() }
}
