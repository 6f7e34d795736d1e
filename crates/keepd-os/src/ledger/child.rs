//! What a child writes down between clone and its program.
#![expect(unsafe_code, reason = "the child makes raw system calls only")]

use std::mem::MaybeUninit;

use super::mapping::Cell;

/// Everything that a child needs to record itself; made by its parent before the clone.
///
/// The functions are those of the format, which this crate does not know. They compute, and neither
/// allocate nor lock.
#[derive(Clone, Copy, Debug)]
pub struct ChildRecord<'a> {
    /// The word of the service.
    pub word: Cell<'a>,
    /// The identity of its process.
    pub identity: Cell<'a>,
    /// What the parent wrote into the word: the intent of this generation.
    pub intent: u64,
    /// What the parent wrote into the identity; nothing else is replaced.
    pub awaited: u64,
    /// Inodes of pidfds tell processes apart ([`has_inodes`](super::has_inodes)).
    pub has_inodes: bool,
    /// The word that says "runs", from the intent and the process id; 0: there is none.
    pub run_word: fn(u64, u32) -> u64,
    /// The word that says "failed", from the present one, the step and the errno; 0: there is none.
    pub failed_word: fn(u64, u8, i32) -> u64,
    /// The identity cell with an inode; 0: there is none.
    pub inode_cell: fn(u64) -> u64,
}

/// Why a child must end instead of executing its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A successor of its parent has taken the intent back, and the service may have a newer
    /// process.
    Refused,
    /// There is no word for this process: its number is beyond what the ledger can hold.
    NoWord,
}

impl ChildRecord<'_> {
    /// `pidfd_open(getpid())`, `fstat`, then two exchanges: records the calling process as the one
    /// of this generation.
    ///
    /// For the child, once it has a table of descriptors of its own. Where no pidfd can be had, the
    /// identity stays as it is, and the parent writes the start time there.
    ///
    /// # Errors
    ///
    /// The child must end at once, without its program.
    pub fn record(&self) -> Result<(), RecordError> {
        if self.has_inodes
            && let Some(inode) = own_inode()
        {
            let cell = (self.inode_cell)(inode);
            if cell != 0 && !self.identity.exchange(self.awaited, cell) {
                return Err(RecordError::Refused);
            }
        }
        match (self.run_word)(self.intent, own_pid()) {
            0 => Err(RecordError::NoWord),
            word if self.word.exchange(self.intent, word) => Ok(()),
            _ => Err(RecordError::Refused),
        }
    }

    /// Records that no program will run, because this step failed. Whatever is not of this
    /// generation stays as it is.
    pub fn record_failure(&self, step: u8, errno: i32) {
        let run = (self.run_word)(self.intent, own_pid());
        for expected in [run, self.intent] {
            let failed = (self.failed_word)(expected, step, errno);
            if failed != 0 && self.word.exchange(expected, failed) {
                return;
            }
        }
    }
}

fn own_pid() -> u32 {
    // SAFETY: getpid(2) takes nothing. The raw call, because a library may remember the parent's.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) };
    u32::try_from(pid).unwrap_or(0)
}

fn own_inode() -> Option<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: pidfd_open(2), fstat(2) and close(2) take numbers, but for `stat`, which is valid for
    // writing one. All zeros is a valid stat, so it is initialised whatever the call did.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, own_pid(), 0);
        let pidfd = i32::try_from(pidfd).ok().filter(|pidfd| *pidfd >= 0)?;
        let result = libc::fstat(pidfd, stat.as_mut_ptr());
        libc::syscall(libc::SYS_close, pidfd);
        (result == 0).then(|| stat.assume_init_ref().st_ino)
    }
}
