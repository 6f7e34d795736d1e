//! What a process is started from.

use std::borrow::Cow;
use std::os::fd::{BorrowedFd, RawFd};

use keepd_model::Signal;

use crate::ledger::ChildRecord;
use crate::process::DescriptorLimit;

/// Everything that [`spawn`](super::spawn) needs. The child has exactly these descriptors and these
/// variables, and an empty signal mask.
#[derive(Clone, Copy, Debug)]
pub struct SpawnRequest<'a> {
    /// The file that is executed, whatever the first of `arguments` says; `None`: the one that that
    /// names. Not a script.
    pub file: Option<BorrowedFd<'a>>,
    /// Program and arguments; not empty. A program without a slash is looked for in the `PATH` of
    /// `environment`; a relative one with a slash starts at `directory`.
    pub arguments: &'a [Vec<u8>],
    /// The whole environment, each entry `KEY=VALUE`.
    pub environment: &'a [Cow<'a, [u8]>],
    /// Working directory; `None`: the caller's.
    pub directory: Option<&'a [u8]>,
    /// File mode creation mask, umask(2).
    pub umask: u32,
    /// User id (real, effective and saved); `None`: the caller's.
    pub uid: Option<u32>,
    /// Group id (real, effective and saved); `None`: the caller's.
    pub gid: Option<u32>,
    /// Supplementary groups; `None`: the caller's. Empty: none.
    pub groups: Option<&'a [u32]>,
    /// What becomes descriptors 0, 1, 2 and so on; mostly three of them. Any numbers, also 0, 1
    /// and 2 themselves or one number more than once. Empty: the program has no open
    /// descriptor.
    pub descriptors: &'a [Descriptor<'a>],
    /// Further descriptors and the numbers they have in the child, from the end of `descriptors`
    /// on.
    pub extra: &'a [(BorrowedFd<'a>, RawFd)],
    /// The child leaves the caller's descriptors from this number on alone: those without
    /// close-on-exec are open in its program, under their numbers. `extra` ends before it. `None`:
    /// it has no others than those given here. Makes the spawn slower by a copy of the table.
    pub keep_from: Option<RawFd>,
    /// Directory of the cgroup that the child is born into; `None`: the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Session and process group.
    pub session: Session,
    /// Signals that the child ignores. Every other one has its default effect.
    pub ignored: &'a [Signal],
    /// Limit of descriptors that the child gets back, if the caller raised its own; `None`: the
    /// caller's.
    pub descriptor_limit: Option<DescriptorLimit>,
    /// What the child writes down before its program; a refusal ends it, as a failed step
    /// [`Prepare`](keepd_model::SpawnStep::Prepare) with ECANCELED.
    pub record: Option<ChildRecord<'a>>,
    /// Exit status of a child whose step failed; mostly [`FAILURE_STATUS`].
    pub failure_status: u8,
}

/// What shells say of a command that is not found. See exit in sh(1p).
pub const FAILURE_STATUS: u8 = 127;

/// What a number refers to in the child.
#[derive(Clone, Copy, Debug)]
pub enum Descriptor<'a> {
    /// This one.
    Open(BorrowedFd<'a>),
    /// Nothing: the number is not open.
    Closed,
    /// One that should be there and is not: the child ends in step
    /// [`Standard`](keepd_model::SpawnStep::Standard) with EBADF, as if it had been closed
    /// meanwhile.
    Missing,
}

/// Session and process group of a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A session and a process group of its own, without a terminal: setsid(2).
    New,
    /// A process group of its own in the caller's session: setpgid(2).
    ProcessGroup,
    /// A process group of its own in the caller's session, made the foreground group of the
    /// terminal at descriptor 0 before the program runs: setpgid(2), tcsetpgrp(3). What it reads
    /// there is never refused.
    Foreground,
    /// Those of the caller.
    Inherit,
}
