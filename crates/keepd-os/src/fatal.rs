//! The six signals of a program that went wrong: what was sent is told to the loop, and after a
//! real fault this process becomes another program, or ends. So it does after a panic.
//!
//! After a fault nothing of this process can be relied on, its heap least of all. So everything is
//! prepared before ([`Rescue`]), and the handler makes system calls only, on a stack of its own: a
//! fault may well be the end of the other one. A panic goes the same way without a signal:
//! unwinding would end a program that must not end, and say so only if somebody takes its words.
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
use crate::exec::{Program, become_image, catch_all_for_ever, give_back, mask_for};
use crate::image::Image;
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
/// What is kept of the words about a panic.
pub(crate) const PANIC_BYTES_MAX: usize = 480;
/// The place of a panic behind those of [`SIGNALS`].
const PANIC_INDEX: usize = SIGNALS.len();

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
/// The thread that had a fault or a panic.
static DYING: AtomicI32 = AtomicI32::new(0);
static RESCUE: AtomicPtr<Rescue> = AtomicPtr::new(ptr::null_mut());
static LAST_WORDS: AtomicPtr<[Vec<u8>; 6]> = AtomicPtr::new(ptr::null_mut());

/// A program that takes over after a fault or a panic, with everything that execve(2) needs.
pub struct Rescue {
    image: Image,
    file: Option<BorrowedFd<'static>>,
    /// For each of [`SIGNALS`] and, at last, for a panic null-terminated, with pointers into the
    /// image and to `panic_entry`.
    environments: [Vec<*const c_char>; 7],
    /// `KEY=`, and room for what is said of a panic, with a NUL. It is reached through its pointer
    /// only.
    panic_entry: *mut u8,
    /// The length of `KEY=`.
    panic_key_bytes: usize,
    descriptor_limit: Option<DescriptorLimit>,
}

impl Rescue {
    /// Prepares a program. `variable` is added to its environment and says why it was started: with
    /// the value that `reason` gives for a signal, or with what is known of a panic.
    ///
    /// Fails with EINVAL for strings with a NUL byte or an empty program.
    pub fn new(
        program: &Program<'_>,
        variable: &str,
        reason: impl Fn(Signal) -> String,
    ) -> Result<Self, Errno> {
        let key = format!("{variable}=").into_bytes();
        let mut environment = program.environment.to_vec();
        let common = environment.len();
        environment.extend(
            SIGNALS.map(|signal| [key.as_slice(), reason(signal).as_bytes()].concat().into()),
        );
        let image = Image::new(program.arguments, &environment, None)?;
        let panic_key_bytes = key.len();
        let mut entry = key;
        entry.resize(panic_key_bytes + PANIC_BYTES_MAX + 1, 0);
        let panic_entry = Box::into_raw(entry.into_boxed_slice()).cast::<u8>();
        let environments = [0, 1, 2, 3, 4, 5, 6].map(|index| {
            let mut pointers = image.environment[..common].to_vec();
            let own = match index {
                PANIC_INDEX => panic_entry.cast_const().cast(),
                _ => image.environment[common + index],
            };
            pointers.extend([own, ptr::null()]);
            pointers
        });
        let Program { file, descriptor_limit, .. } = *program;
        Ok(Self { image, file, environments, panic_entry, panic_key_bytes, descriptor_limit })
    }

    /// Takes down what is said of a panic.
    ///
    /// # Safety
    ///
    /// The caller is the only thread that uses this value.
    unsafe fn set_panic(&self, text: &[u8]) {
        let length = text.len().min(PANIC_BYTES_MAX);
        // SAFETY: behind the key there is room for PANIC_BYTES_MAX and the NUL that is there; by
        // the caller's promise nobody else looks at it.
        unsafe {
            let value = self.panic_entry.add(self.panic_key_bytes);
            ptr::copy_nonoverlapping(text.as_ptr(), value, length);
        }
    }
}

impl Drop for Rescue {
    fn drop(&mut self) {
        let bytes = self.panic_key_bytes + PANIC_BYTES_MAX + 1;
        let entry = ptr::slice_from_raw_parts_mut(self.panic_entry, bytes);
        // SAFETY: it was made by `Box::into_raw` with this length, and its last user goes with us.
        drop(unsafe { Box::from_raw(entry) });
    }
}

/// Sets what takes over after a fault or a panic; `None`: the process ends with the status given to
/// [`install`] or [`end_at_panic`](crate::panic::end_at_panic).
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
    set_status(status);
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

/// Ends this process after a fault, or makes it another program.
fn die(number: libc::c_int) -> ! {
    begin_to_die();
    let index = SIGNALS.iter().position(|signal| i32::from(signal.get()) == number).unwrap_or(0);
    // SAFETY: what is in this place was made by `Box::into_raw` and is not freed once `DYING` is
    // set.
    if let Some(words) = unsafe { LAST_WORDS.load(Ordering::SeqCst).as_ref() } {
        say(&words[index]);
    }
    become_rescue(index, &[])
}

/// Says the line on descriptor 2, if it can be written without waiting; then ends this process or
/// makes it another program, which is told the reason.
pub(crate) fn die_of_panic(line: &[u8], reason: &[u8]) -> ! {
    begin_to_die();
    say(line);
    become_rescue(PANIC_INDEX, reason)
}

/// Returns once, for one thread: a fault on the way out ends the process.
fn begin_to_die() {
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
}

/// Only for the thread for which [`begin_to_die`] has returned.
fn become_rescue(index: usize, panic: &[u8]) -> ! {
    // SAFETY: what is in this place was made by `Box::into_raw` and is not freed once `DYING` is
    // set.
    if let Some(rescue) = unsafe { RESCUE.load(Ordering::SeqCst).as_ref() } {
        // SAFETY: no other thread comes here.
        unsafe { rescue.set_panic(panic) };
        catch_all_for_ever();
        give_back(rescue.descriptor_limit);
        signals::set_mask(mask_for(rescue.file));
        let image = &rescue.image;
        let environment = rescue.environments[index].as_ptr();
        // SAFETY: the image and the entry for a panic hold C strings, and the arrays are
        // null-terminated with pointers to them.
        unsafe { become_image(image, rescue.file, environment) };
    }
    exit()
}

fn say(line: &[u8]) {
    let mut polled = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `polled` is one pollfd; `line` is valid for reading its length; fcntl(2) takes
    // numbers.
    unsafe {
        if libc::poll(&raw mut polled, 1, 0) == 1 && polled.revents & libc::POLLOUT != 0 {
            // A terminal with room for one byte would wait for the rest.
            let flags = libc::fcntl(libc::STDERR_FILENO, libc::F_GETFL);
            libc::fcntl(libc::STDERR_FILENO, libc::F_SETFL, flags | libc::O_NONBLOCK);
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
            libc::fcntl(libc::STDERR_FILENO, libc::F_SETFL, flags);
        }
    }
}

/// Sets the status of a process that is not rescued.
pub(crate) fn set_status(status: u8) {
    STATUS.store(status.into(), Ordering::Relaxed);
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
