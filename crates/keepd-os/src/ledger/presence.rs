//! What became of a process that is not our child, and who it is.
#![expect(unsafe_code, reason = "PIDFD_GET_INFO and a signal of 0 have no safe face")]

use std::os::fd::{AsFd, AsRawFd};

use keepd_model::{Errno, Exit, Pid, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{errno, pidfd, proc, process};

/// `PIDFS_IOCTL_MAGIC` 0xFF, number 11, both ways, 64 bytes: `_IOWR(0xFF, 11, struct pidfd_info)`.
pub(crate) const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;
const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// `struct pidfd_info` of its first version (linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    parent: u32,
    /// Real, effective, saved and file system ids of user and group.
    ids: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is alive.
    Alive {
        /// Its parent; `None` for one outside of our PID namespace.
        parent: Option<Pid>,
        /// When it was started, in clock ticks since boot.
        start_ticks: u64,
    },
    /// It has ended, and its parent has not consumed it.
    Zombie {
        /// Its parent; `None` for one outside of our PID namespace.
        parent: Option<Pid>,
        /// When it was started, in clock ticks since boot.
        start_ticks: u64,
        /// How it ended, if we may see that.
        exit: Option<Exit>,
    },
    /// It has ended and was consumed; its number may be another's.
    Gone {
        /// How it ended, if the kernel tells.
        exit: Option<Exit>,
    },
}

/// Says what became of the process behind a pidfd, which had this number when it was opened.
///
/// A process whose first thread has ended before others is alive, though /proc shows a zombie.
///
/// Fails with the error of the last question that could not be asked (no /proc).
pub fn examine(pidfd: impl AsFd, pid: Pid) -> Result<Presence, Errno> {
    // First: what /proc shows then is how all of it has ended.
    let has_ended = has_ended(&pidfd)?;
    let stat = proc::stat(pid);
    let exit = zombie_exit(pid);
    // Only now: as long as it is not consumed, what /proc said was about it.
    if is_consumed(&pidfd)? {
        return Ok(Presence::Gone { exit: exit_of(&pidfd).unwrap_or(None) });
    }
    let stat = stat.ok_or(Errno::ENOENT)?;
    let (parent, start_ticks) = (stat.parent, stat.start_ticks);
    Ok(match stat.state {
        b'Z' | b'X' if has_ended => Presence::Zombie { parent, start_ticks, exit },
        _ => Presence::Alive { parent, start_ticks },
    })
}

/// `poll(pidfd, POLLIN)`: reports whether every thread of the process has ended. See pidfd_open(2).
fn has_ended(pidfd: impl AsFd) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut polled, Some(&now)) {
        Ok(_) => Ok(!polled[0].revents().is_empty()),
        Err(error) => Err(Errno(error.raw_os_error())),
    }
}

/// `pidfd_send_signal(pidfd, 0, NULL, 0)`: reports whether the process has ended and was consumed
/// by its parent.
///
/// Wait for POLLHUP before asking: POLLIN comes with the zombie already, and stays. See
/// pidfd_send_signal(2).
pub fn is_consumed(pidfd: impl AsFd) -> Result<bool, Errno> {
    let number = pidfd.as_fd().as_raw_fd();
    // SAFETY: the call reads no memory of ours (the siginfo pointer is null), and signal 0 is none.
    let result = unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, number, 0, none, 0)
    };
    match (result, errno::last()) {
        (0, _) => Ok(false),
        (_, Errno(libc::ESRCH)) => Ok(true),
        // It is there, and another user's.
        (_, Errno(libc::EPERM)) => Ok(false),
        (_, error) => Err(error),
    }
}

/// `ioctl(pidfd, PIDFD_GET_INFO)`: returns how a process ended that somebody else has consumed.
///
/// `None` while it is alive or a zombie. Fails on a kernel that cannot tell (before Linux 6.15):
/// then nobody can say how it ended. See pidfd_open(2), ioctl_pidfd(2).
pub fn exit_of(pidfd: impl AsFd) -> Result<Option<Exit>, Errno> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: `info` is valid for reading and writing the 64 bytes that are in the number of the
    // request.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result != 0 {
        return Err(errno::last());
    }
    let is_told = info.mask & PIDFD_INFO_EXIT != 0;
    Ok(is_told.then(|| exit_of_status(info.exit_code)))
}

/// `fstatfs`, `fstat`: returns the inode of a pidfd, which no other process of this boot has.
///
/// `None` where all pidfds are one inode (before Linux 6.9). See pidfd_open(2).
pub fn inode(pidfd: impl AsFd) -> Option<u64> {
    let system = rustix::fs::fstatfs(&pidfd).ok()?;
    let is_pidfs = system.f_type as u64 == PIDFS_MAGIC;
    let stat = rustix::fs::fstat(&pidfd).ok()?;
    is_pidfs.then_some(stat.st_ino)
}

/// Reports whether inodes of pidfds tell processes apart here.
pub fn has_inodes() -> bool {
    pidfd::open(process::id()).ok().and_then(inode).is_some()
}

/// The last field of `/proc/PID/stat`: how a zombie ended, for whoever may look into it.
fn zombie_exit(pid: Pid) -> Option<Exit> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let status = zombie_status(&text)?;
    // Who may not look reads 0, which would be a lie; and a zombie has no program to name, which
    // only who may look is told.
    let hidden = || match rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new()) {
        Ok(_) | Err(rustix::io::Errno::NOENT) => false,
        Err(_) => true,
    };
    (status != 0 || !hidden()).then(|| exit_of_status(status))
}

fn zombie_status(text: &[u8]) -> Option<i32> {
    let text = String::from_utf8_lossy(text);
    let (_, rest) = text.rsplit_once(") ")?;
    if !rest.starts_with('Z') {
        return None;
    }
    // The state is field 3 of the manual page, the status field 52.
    rest.trim_end().split(' ').nth(52 - 3)?.parse().ok()
}

/// Reads a status of wait(2).
fn exit_of_status(status: i32) -> Exit {
    let [low, code, ..] = status.to_le_bytes();
    match (low & 0x7F, Signal::new(low & 0x7F)) {
        (0, _) => Exit::Code(code),
        (_, Some(signal)) => Exit::Signal { signal, core: low & 0x80 != 0 },
        (_, None) => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_by_wait() {
        assert_eq!(exit_of_status(0x2A00), Exit::Code(42));
        let signal = |number| Signal::new(number).unwrap();
        assert_eq!(exit_of_status(9), Exit::Signal { signal: signal(9), core: false });
        assert_eq!(exit_of_status(0x8B), Exit::Signal { signal: signal(11), core: true });
        assert_eq!(exit_of_status(0x7F), Exit::Unknown);
    }

    #[test]
    fn only_zombies_have_a_status() {
        let fields = ["0"; 48].join(" ");
        let line = |state: char| format!("7 (a) b) {state} {fields} 10752\n");
        assert_eq!(zombie_status(line('Z').as_bytes()), Some(10752));
        assert_eq!(zombie_status(line('S').as_bytes()), None);
        assert_eq!(zombie_status(b"7 (a) Z 1"), None);
    }
}
