//! The six signals of a program that went wrong: what was sent is told to the loop, and after a
//! real fault this process becomes another program, or ends.
//!
//! After a fault nothing of this process can be relied on, its heap least of all. So everything is
//! prepared before ([`Rescue`]), and the handler makes system calls only, on a stack of its own: a
//! fault may well be the end of the other one.
#![expect(unsafe_code, reason = "a signal handler has no safe face")]

use std::ffi::c_char;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use keepd_model::{Errno, Signal};
use rustix::event::{EventfdFlags, eventfd};

use crate::errno;
use crate::exec::{Program, catch_all_for_ever, give_back};
use crate::image::{Image, execute_first};
use crate::process::DescriptorLimit;
use crate::signals;

/// ILL, TRAP, ABRT, BUS, FPE and SEGV.
pub const SIGNALS: [Signal; 6] = [
    signal(libc::SIGILL),
    signal(libc::SIGTRAP),
    signal(libc::SIGABRT),
    signal(libc::SIGBUS),
    signal(libc::SIGFPE),
    signal(libc::SIGSEGV),
];

/// Room for the frame of a handler, which holds every register of the processor, and for what it
/// calls.
const STACK_BYTES: usize = 64 * 1024;

const fn signal(number: libc::c_int) -> Signal {
    match Signal::new(number as u8) {
        Some(signal) => signal,
        None => panic!("signals are numbered from 1 to 64"),
    }
}

/// Readable when one was sent. Never closed, because the handler writes to its number.
static NOTICE: OnceLock<OwnedFd> = OnceLock::new();
/// The number of [`NOTICE`], for the handler.
static NOTICE_NUMBER: AtomicI32 = AtomicI32::new(-1);
/// Those that were sent, bit 0 for signal 1.
static SENT: AtomicU64 = AtomicU64::new(0);
/// The status of a process that is not rescued.
static STATUS: AtomicI32 = AtomicI32::new(1);
/// The thread that had a fault.
static DYING: AtomicI32 = AtomicI32::new(0);
static RESCUE: AtomicPtr<Rescue> = AtomicPtr::new(ptr::null_mut());
static LAST_WORDS: AtomicPtr<[Vec<u8>; 6]> = AtomicPtr::new(ptr::null_mut());

/// A program that takes over after a fault, with everything that execve(2) needs.
pub struct Rescue {
    image: Image,
    /// For each of [`SIGNALS`] null-terminated, with pointers into the image.
    environments: [Vec<*const c_char>; 6],
    descriptor_limit: Option<DescriptorLimit>,
}

impl Rescue {
    /// Prepares a program. `variable` gives the entry (`KEY=VALUE`) that is added to the
    /// environment and depends on the signal.
    ///
    /// Fails with EINVAL for strings with a NUL byte or an empty program.
    pub fn new(program: &Program<'_>, variable: impl Fn(Signal) -> Vec<u8>) -> Result<Self, Errno> {
        let mut environment = program.environment.to_vec();
        let common = environment.len();
        environment.extend(SIGNALS.map(|signal| variable(signal).into()));
        let image = Image::new(program.arguments, &environment, None)?;
        let environments = [0, 1, 2, 3, 4, 5].map(|index| {
            let mut pointers = image.environment[..common].to_vec();
            pointers.extend([image.environment[common + index], ptr::null()]);
            pointers
        });
        Ok(Self { image, environments, descriptor_limit: program.descriptor_limit })
    }
}

/// Sets what takes over after a fault; `None`: the process ends with the status given to
/// [`install`].
pub fn set_rescue(rescue: Option<Rescue>) {
    let rescue = rescue.map_or(ptr::null_mut(), |rescue| Box::into_raw(Box::new(rescue)));
    replace(&RESCUE, rescue);
}

/// Sets the line that is written to descriptor 2 after a fault, before anything else, if it can be
/// written without waiting.
pub fn set_last_words(line: impl Fn(Signal) -> Vec<u8>) {
    replace(&LAST_WORDS, Box::into_raw(Box::new(SIGNALS.map(line))));
}

fn replace<T>(place: &AtomicPtr<T>, new: *mut T) {
    let old = place.swap(new, Ordering::SeqCst);
    // A handler says that it runs before it looks at the place, so if none has said so by now, it
    // will find the new value.
    if !old.is_null() && DYING.load(Ordering::SeqCst) == 0 {
        // SAFETY: the pointer is from `Box::into_raw`, it is in no place any more, and no handler
        // uses it.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// The signals of this process, once they are handled.
#[derive(Debug)]
pub struct FatalSignals {
    notice: &'static OwnedFd,
}

impl FatalSignals {
    /// Returns one of the signals that were sent and forgets it; several of one kind are one. Call
    /// it until `None` when the descriptor is readable.
    pub fn take_pending(&self) -> Option<Signal> {
        let mut count = [0; 8];
        // Nothing to read is as good.
        let _ = rustix::io::read(self.notice, &mut count);
        SIGNALS.into_iter().find(|signal| {
            let bit = bit(*signal);
            SENT.fetch_and(!bit, Ordering::Relaxed) & bit != 0
        })
    }
}

impl AsFd for FatalSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notice.as_fd()
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.get() - 1)
}

/// `sigaltstack`, `sigaction(…, SA_SIGINFO | SA_ONSTACK)`: from now on, one of [`SIGNALS`] that
/// somebody sent is reported, and one that is a fault of this process, abort(3) included, ends it
/// with this status, or starts its [`Rescue`]. It never goes on after a fault.
///
/// Gives the calling thread a stack for them; other threads of the standard library have one.
/// Fails with EBUSY the second time. See sigaltstack(2), sigaction(2).
pub fn install(status: u8) -> Result<FatalSignals, Errno> {
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let made = eventfd(0, flags).map_err(errno::from_rustix)?;
    NOTICE.set(made).map_err(|_| Errno(libc::EBUSY))?;
    let notice = NOTICE.get().expect("it was set a line above");
    NOTICE_NUMBER.store(notice.as_raw_fd(), Ordering::Relaxed);
    STATUS.store(status.into(), Ordering::Relaxed);
    use_own_stack()?;
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as libc::sighandler_t;
    // A fault in the handler comes to the handler, and ends the process there.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART;
    // SAFETY: sigfillset(3) initialises the set, sigdelset(3) changes an initialised one.
    unsafe {
        libc::sigfillset(&raw mut action.sa_mask);
        for signal in SIGNALS {
            libc::sigdelset(&raw mut action.sa_mask, signal.get().into());
        }
    }
    for signal in SIGNALS {
        // SAFETY: the handler does only what signal-safety(7) allows.
        let result =
            unsafe { libc::sigaction(signal.get().into(), &raw const action, ptr::null_mut()) };
        if result != 0 {
            return Err(errno::last());
        }
    }
    // A fault whose signal is blocked ends the process without a word.
    signals::unblock(&SIGNALS)?;
    Ok(FatalSignals { notice })
}

/// Gives this thread a stack for handlers, with a page below that cannot be touched. It is never
/// given back.
fn use_own_stack() -> Result<(), Errno> {
    let page = rustix::param::page_size();
    let bytes = STACK_BYTES.next_multiple_of(page);
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use; its first
    // page is ours to protect; the rest stays mapped for ever, as a stack must.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let readable = libc::PROT_READ | libc::PROT_WRITE;
        let start = libc::mmap(ptr::null_mut(), page + bytes, readable, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return Err(errno::last());
        }
        if libc::mprotect(start, page, libc::PROT_NONE) != 0 {
            return Err(errno::last());
        }
        let stack = libc::stack_t { ss_sp: start.byte_add(page), ss_flags: 0, ss_size: bytes };
        match libc::sigaltstack(&raw const stack, ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(errno::last()),
        }
    }
}

/// Async-signal-safe: atomics and system calls.
extern "C" fn on_signal(
    number: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler with SA_SIGINFO.
    if is_fault(unsafe { &*info }) {
        die(number);
    }
    SENT.fetch_or(1 << (number - 1), Ordering::Relaxed);
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is valid for reading its length; errno is kept for the code that was
    // interrupted. An eventfd(2) that is full is readable, which is all that is wanted.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(NOTICE_NUMBER.load(Ordering::Relaxed), one.as_ptr().cast(), one.len());
        *errno = before;
    }
}

/// Reports whether this process is the cause: the kernel says so, or it was abort(3), which sends
/// the signal to its own thread.
fn is_fault(info: &libc::siginfo_t) -> bool {
    // SAFETY: for SI_TKILL the member is set; getpid(2) takes nothing.
    let by_itself = || unsafe { info.si_pid() == libc::getpid() };
    info.si_code > 0 || info.si_code == libc::SI_TKILL && by_itself()
}

/// Ends this process or makes it another program.
fn die(number: libc::c_int) -> ! {
    // SAFETY: gettid(2) takes nothing.
    let thread = unsafe { libc::gettid() };
    match DYING.compare_exchange(0, thread, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        Err(first) if first == thread => exit(),
        Err(_) => loop {
            // SAFETY: pause(2) takes nothing. The first thread ends or replaces all others.
            unsafe { libc::pause() };
        },
    }
    let index = SIGNALS.iter().position(|signal| i32::from(signal.get()) == number).unwrap_or(0);
    // SAFETY: what is in these places was made by `Box::into_raw` and is not freed once `DYING` is
    // set.
    let (words, rescue) = unsafe {
        (LAST_WORDS.load(Ordering::SeqCst).as_ref(), RESCUE.load(Ordering::SeqCst).as_ref())
    };
    if let Some(words) = words {
        say(&words[index]);
    }
    if let Some(rescue) = rescue {
        catch_all_for_ever();
        give_back(rescue.descriptor_limit);
        signals::set_mask(0);
        let image = &rescue.image;
        let environment = rescue.environments[index].as_ptr();
        // SAFETY: the image holds C strings, and the arrays are null-terminated with pointers to
        // them.
        unsafe { execute_first(&image.candidates, image.arguments.as_ptr(), environment) };
    }
    exit()
}

fn say(line: &[u8]) {
    let mut polled = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `polled` is one pollfd; `line` is valid for reading its length.
    unsafe {
        if libc::poll(&raw mut polled, 1, 0) == 1 && polled.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        }
    }
}

/// `_exit(2)`: ends this process at once. Nothing of it runs any more, so no thread that is stuck
/// can keep it.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit(2) runs nothing of this process.
    unsafe { libc::_exit(i32::from(status)) }
}

fn exit() -> ! {
    // SAFETY: _exit(2) runs nothing of this process.
    unsafe { libc::_exit(STATUS.load(Ordering::Relaxed)) }
}
