//! This process: its place among others, its name, its limits.
#![expect(unsafe_code, reason = "rustix's signal type has no real-time signals")]

use std::ffi::CString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use keepd_model::{Errno, Exit, Pid, Signal};
use rustix::process::{Resource, Rlimit};

use crate::errno;

/// The longest name of a thread in the kernel, its NUL excluded.
const NAME_BYTES_MAX: usize = 15;

/// Soft and hard limit of open descriptors; `u64::MAX` is "no limit", as for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What counts.
    pub soft: u64,
    /// How far `soft` may be raised.
    pub hard: u64,
}

/// `prctl(PR_SET_CHILD_SUBREAPER, 1)`: orphaned descendants become our children instead of init's.
///
/// See PR_SET_CHILD_SUBREAPER(2const).
pub fn become_subreaper() -> Result<(), Errno> {
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this)).map_err(errno::from_rustix)
}

/// `prctl(PR_SET_PDEATHSIG, signal)`: we get this signal when the thread that started us ends.
///
/// Nothing comes if it has ended already. See PR_SET_PDEATHSIG(2const).
pub fn set_parent_death_signal(signal: Signal) -> Result<(), Errno> {
    let number = libc::c_ulong::from(signal.get());
    // SAFETY: this operation takes a number only.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, number) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}

/// `setsid()`: begins a session and a process group, without a terminal.
///
/// Fails with EPERM for the leader of a process group. See setsid(2).
pub fn new_session() -> Result<(), Errno> {
    rustix::process::setsid().map(|_| ()).map_err(errno::from_rustix)
}

/// `setpgid(0, 0)`: begins a process group in the same session. See setpgid(2).
pub fn new_process_group() -> Result<(), Errno> {
    rustix::process::setpgid(None, None).map_err(errno::from_rustix)
}

/// `prctl(PR_SET_NAME, name)`: names the calling thread; called from the main thread, the process
/// as ps(1) shows it.
///
/// What is longer than 15 bytes is cut off. Fails with EINVAL for a NUL byte. See
/// PR_SET_NAME(2const).
pub fn set_name(name: &str) -> Result<(), Errno> {
    let bytes = &name.as_bytes()[..name.len().min(NAME_BYTES_MAX)];
    let name = CString::new(bytes).map_err(|_| Errno::EINVAL)?;
    rustix::thread::set_name(&name).map_err(errno::from_rustix)
}

/// `prlimit(RLIMIT_NOFILE, {hard, hard})`: raises the soft limit of descriptors to the hard one and
/// returns the pair from before, which children get back. See getrlimit(2).
pub fn raise_descriptor_limit() -> Result<DescriptorLimit, Errno> {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).map_err(errno::from_rustix)?;
    Ok(DescriptorLimit {
        soft: before.current.unwrap_or(u64::MAX),
        hard: before.maximum.unwrap_or(u64::MAX),
    })
}

/// `getrlimit(RLIMIT_NOFILE)`: returns the hard limit of descriptors; `None`: there is none. See
/// getrlimit(2).
pub fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).maximum
}

/// `readlink("/proc/self/exe")`: returns the file this process was started from.
///
/// Ends in ` (deleted)` after that file was replaced. See proc_pid_exe(5).
pub fn own_executable() -> Result<PathBuf, Errno> {
    std::env::current_exe().map_err(|error| errno::from_io(&error))
}

/// `getpid()`: returns our process id. See getpid(2).
pub fn id() -> Pid {
    model_pid(rustix::process::getpid()).expect("the kernel numbers processes from 1 to 2^22")
}

/// `getppid()`: returns our parent; `None` if it lives outside our PID namespace.
///
/// It changes when the parent ends: then to the nearest subreaper above, or to init. See
/// getppid(2).
pub fn parent_id() -> Option<Pid> {
    rustix::process::getppid().and_then(model_pid)
}

/// `geteuid()`: returns the effective user id. See geteuid(2).
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// `getegid()`: returns the effective group id. See getegid(2).
pub fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Returns how a child ended that the standard library waited for.
pub fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    let signal = status.signal().and_then(|number| u8::try_from(number).ok());
    match (code, signal.and_then(Signal::new)) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core: status.core_dumped() },
        (None, None) => Exit::Unknown,
    }
}

fn model_pid(pid: rustix::process::Pid) -> Option<Pid> {
    u32::try_from(pid.as_raw_nonzero().get()).ok().and_then(Pid::new)
}
