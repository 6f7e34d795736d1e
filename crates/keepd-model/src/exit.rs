//! How a process ended, and how a start failed before there was a program.

use std::fmt;

use crate::Signal;

/// How a process ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// The signal.
        signal: Signal,
        /// A core was dumped.
        core: bool,
    },
    /// It ended, and nobody can say how (a double fault of ours). Said, never guessed.
    Unknown,
}

impl Exit {
    /// Returns the status a shell would show: the code, 128 + signal, or 255 for unknown.
    pub fn shell_status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128 + signal.get(),
            Self::Unknown => 255,
        }
    }
}

/// Writes `exit 3`, `signal KILL`, `signal SEGV (core dumped)` or `unknown end`.
impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit {code}"),
            Self::Signal { signal, core: false } => write!(formatter, "signal {signal}"),
            Self::Signal { signal, core: true } => {
                write!(formatter, "signal {signal} (core dumped)")
            }
            Self::Unknown => write!(formatter, "unknown end"),
        }
    }
}

/// A number from errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No such file or directory.
    pub const ENOENT: Self = Self(2);
    /// Input or output error.
    pub const EIO: Self = Self(5);
    /// Try again; for clone(2): a limit of processes was hit.
    pub const EAGAIN: Self = Self(11);
    /// Interrupted system call.
    pub const EINTR: Self = Self(4);
    /// Bad file descriptor.
    pub const EBADF: Self = Self(9);
    /// Device or resource busy.
    pub const EBUSY: Self = Self(16);
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);
    /// Permission denied.
    pub const EACCES: Self = Self(13);
    /// Too many open files in the system.
    pub const ENFILE: Self = Self(23);
    /// Too many open files in this process.
    pub const EMFILE: Self = Self(24);
    /// No space left on device.
    pub const ENOSPC: Self = Self(28);
    /// The quota of a disk is used up.
    pub const EDQUOT: Self = Self(122);
    /// Invalid argument.
    pub const EINVAL: Self = Self(22);

    /// Returns the usual words for the common ones, without the number.
    pub fn text(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "operation not permitted",
            2 => "no such file or directory",
            3 => "no such process",
            6 => "no such device or address",
            5 => "input/output error",
            7 => "argument list too long",
            8 => "exec format error",
            9 => "bad file descriptor",
            11 => "resource temporarily unavailable",
            12 => "out of memory",
            13 => "permission denied",
            16 => "device or resource busy",
            17 => "file exists",
            20 => "not a directory",
            21 => "is a directory",
            22 => "invalid argument",
            23 => "too many open files in system",
            24 => "too many open files",
            26 => "text file busy",
            28 => "no space left on device",
            30 => "read-only file system",
            36 => "file name too long",
            38 => "function not implemented",
            40 => "too many levels of symbolic links",
            93 => "protocol not supported",
            94 => "socket type not supported",
            95 => "operation not supported",
            97 => "address family not supported",
            98 => "address already in use",
            99 => "address not available",
            122 => "disk quota exceeded",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => formatter.write_str(text),
            None => write!(formatter, "error {}", self.0),
        }
    }
}

/// The steps of a spawn, in order. The number travels in the error report of the child, so numbers
/// are explicit and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpawnStep {
    /// Before the clone: pipes, log files, notify socket (in the proxy).
    Prepare = 1,
    /// The cgroup leaf.
    Cgroup = 2,
    /// clone3 or its fallbacks.
    Clone = 3,
    /// Signal dispositions to default.
    Signals = 4,
    /// close_range with UNSHARE.
    Descriptors = 5,
    /// A session of its own.
    Session = 6,
    /// umask(2).
    Umask = 7,
    /// Supplementary groups.
    Groups = 8,
    /// Group id.
    Gid = 9,
    /// User id.
    Uid = 10,
    /// Working directory.
    Directory = 11,
    /// Standard descriptors put in place.
    Standard = 12,
    /// execve(2).
    Exec = 13,
    /// Resource limits back to the inherited pair.
    Limits = 14,
}

impl SpawnStep {
    /// Every step.
    pub const ALL: [Self; 14] = [
        Self::Prepare,
        Self::Cgroup,
        Self::Clone,
        Self::Signals,
        Self::Descriptors,
        Self::Session,
        Self::Umask,
        Self::Groups,
        Self::Gid,
        Self::Uid,
        Self::Directory,
        Self::Standard,
        Self::Exec,
        Self::Limits,
    ];

    /// Returns the step with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u8 == number)
    }

    /// Returns the word used on the protocol.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::Signals => "signals",
            Self::Descriptors => "descriptors",
            Self::Session => "session",
            Self::Umask => "umask",
            Self::Groups => "groups",
            Self::Gid => "gid",
            Self::Uid => "uid",
            Self::Directory => "directory",
            Self::Standard => "standard",
            Self::Exec => "exec",
            Self::Limits => "limits",
        }
    }

    /// Returns the step with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.word() == word)
    }
}

/// A start that failed before the program ran: at which step, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpawnFailure {
    /// Where it failed.
    pub step: SpawnStep,
    /// What the kernel said.
    pub errno: Errno,
}

impl SpawnFailure {
    /// Reports whether the system had no room for it: too few processes, descriptors, memory or
    /// space, before the service itself could do anything right or wrong. It is worth the same try
    /// again.
    pub fn is_shortage(self) -> bool {
        let is_room =
            matches!(self.errno, Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE);
        let is_space = matches!(self.errno, Errno::ENOSPC | Errno::EDQUOT);
        match self.step {
            SpawnStep::Prepare | SpawnStep::Cgroup | SpawnStep::Clone => is_room || is_space,
            // The limit of processes of a user counts from the new user's first program on.
            SpawnStep::Uid | SpawnStep::Exec => is_room,
            SpawnStep::Signals
            | SpawnStep::Descriptors
            | SpawnStep::Session
            | SpawnStep::Umask
            | SpawnStep::Groups
            | SpawnStep::Gid
            | SpawnStep::Directory
            | SpawnStep::Standard
            | SpawnStep::Limits => false,
        }
    }
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step {}: {}", self.step.word(), self.errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_their_numbers_and_words() {
        for step in SpawnStep::ALL {
            assert_eq!(SpawnStep::from_number(step as u8), Some(step));
            assert_eq!(SpawnStep::from_word(step.word()), Some(step));
        }
        assert_eq!(SpawnStep::from_number(0), None);
        assert_eq!(SpawnStep::from_number(99), None);
    }

    #[test]
    fn shells_show_128_and_the_signal() {
        assert_eq!(Exit::Code(3).shell_status(), 3);
        assert_eq!(Exit::Signal { signal: Signal::KILL, core: false }.shell_status(), 137);
    }
}
