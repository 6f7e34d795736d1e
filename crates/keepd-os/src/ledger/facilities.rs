//! What the kernel below has of what the ledger uses, and what is different without it.
#![expect(unsafe_code, reason = "the calls are probed with arguments that no safe face takes")]

use std::path::Path;

use keepd_model::{Errno, Exit, Pid};

use super::presence;
use crate::{errno, pidfd, process};

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58F6;
const PROBE_STATUS: u8 = 42;

/// One thing that a kernel may lack, or a container may forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility {
    /// What it is, and since when Linux has it.
    pub name: &'static str,
    /// It is there, and may be used.
    pub is_there: bool,
    /// A sentence that says what is different without it.
    pub without: &'static str,
}

/// What to do where [`require_pidfds`] fails.
pub const MISSING_PIDFDS_HINT: &str =
    "use Linux 5.3 or newer; in a container, let its seccomp profile allow the call";

/// `pidfd_open`, `pidfd_send_signal`: fails with the name of the call without which no process that
/// is not a child can be held, and so neither watched nor signalled.
pub fn require_pidfds() -> Result<(), (&'static str, Errno)> {
    let own = pidfd::open(process::id()).map_err(|errno| ("pidfd_open", errno))?;
    presence::is_consumed(own).map(drop).map_err(|errno| ("pidfd_send_signal", errno))
}

/// Tries everything that the ledger uses. It starts a process that ends at once, which no other
/// wait of this program sees.
pub fn facilities() -> Vec<Facility> {
    let own = pidfd::open(process::id());
    vec![
        Facility {
            name: "pidfd_open, pidfd_send_signal (Linux 5.3)",
            is_there: require_pidfds().is_ok(),
            without: "Processes of a lost proxy could be neither watched nor signalled: keepd \
                      refuses to start.",
        },
        Facility {
            name: "inodes of pidfds (Linux 6.9)",
            is_there: own.ok().and_then(presence::inode).is_some(),
            without: "A process is told from a later one with the same number by the time of its \
                      start; one that was started while keepd was being lost may stay in doubt.",
        },
        Facility {
            name: "exit statuses of foreign processes (Linux 6.15)",
            is_there: tells_foreign_exits().unwrap_or(false),
            without: "How a service ended is unknown, and said to be, if it was not a child of the \
                      process that saw it end.",
        },
        Facility {
            name: "clone3 (Linux 5.3)",
            is_there: is_known(libc::SYS_clone3, [0, 0, 0]),
            without: "A child enters its control group by itself, a moment after it was started.",
        },
        Facility {
            name: "close_range (Linux 5.9)",
            is_there: is_known(libc::SYS_close_range, [libc::c_long::from(u32::MAX), 0, 0]),
            without: "Starts take longer the more descriptors the proxy has.",
        },
        Facility {
            name: "child subreapers (Linux 3.4)",
            is_there: knows_subreapers(),
            without: "What a lost proxy leaves behind goes to init: how it ended is known only \
                      where the kernel tells of foreign processes.",
        },
    ]
}

/// `statfs(path)`: reports whether a folder is in memory, where a ledger belongs.
///
/// On a disk it works as well, and every change of it may be written there. See statfs(2).
pub fn is_in_memory(folder: &Path) -> Result<bool, Errno> {
    let system = rustix::fs::statfs(folder).map_err(errno::from_rustix)?;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&(system.f_type as u64)))
}

/// Reports whether the kernel knows a call, by arguments that it refuses with EINVAL.
fn is_known(number: libc::c_long, arguments: [libc::c_long; 3]) -> bool {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass no pointer but null, with a size of 0, and a range that is empty.
    let result = unsafe { libc::syscall(number, first, second, third) };
    result < 0 && errno::last() == Errno::EINVAL
}

fn knows_subreapers() -> bool {
    let mut is_one: libc::c_int = 0;
    // SAFETY: the operation writes one int.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut is_one) == 0 }
}

/// Starts a process, lets it end, consumes it, and asks its pidfd how it ended.
fn tells_foreign_exits() -> Result<bool, Errno> {
    // SAFETY: without CLONE_VM it is fork(2); the child does nothing but end. Its end is told by no
    // signal, so no other wait of this program than one with __WALL takes it.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0);
        if pid == 0 {
            loop {
                libc::syscall(libc::SYS_exit_group, libc::c_long::from(PROBE_STATUS));
            }
        }
        pid
    };
    let pid = u32::try_from(pid).ok().and_then(Pid::new).ok_or_else(errno::last)?;
    let held = pidfd::open(pid);
    consume_silent(pid);
    let exit = presence::exit_of(held?)?;
    Ok(exit == Some(Exit::Code(PROBE_STATUS)))
}

fn consume_silent(pid: Pid) {
    let flags = libc::WEXITED | libc::__WALL;
    // SAFETY: the pointer for the answer is null, which the call allows.
    while unsafe { libc::waitid(libc::P_PID, pid.get(), std::ptr::null_mut(), flags) } != 0 {
        if errno::last() != Errno::EINTR {
            return;
        }
    }
}
