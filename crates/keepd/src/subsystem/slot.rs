//! What the machine keeps for each subsystem. The common part is small: there may be a hundred
//! thousand.

use std::time::Duration;

use keepd_model::Instant;

use crate::restart::{Outcome, Restart, Window};

/// The parent of a subsystem that is inside no other.
pub(super) const NONE: u32 = u32::MAX;

/// The end of one is the end of all.
pub(super) const CRITICAL: u8 = 1;
/// The current run was aborted, or is to be as soon as its task exists.
pub(super) const ABORTED: u8 = 1 << 1;
/// The place is free.
pub(super) const FREE: u8 = 1 << 2;
/// It was aborted because its time in a shutdown was over.
pub(super) const OVERDUE: u8 = 1 << 3;

/// It was asked only when the graceful time was over, because others held it till then.
pub(super) const ASKED_LATE: u8 = 1 << 4;

/// What follows the end of a subsystem that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Stay,
    /// Another start, by hand.
    Restart,
    /// What its rule says, because it answered badly.
    Unhealthy,
}

/// Where a subsystem is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Registered,
    Running,
    /// It is to be asked as soon as nobody holds it. `alone` says that only those inside it hold
    /// it.
    Held {
        after: After,
        alone: bool,
    },
    Stopping {
        after: After,
    },
    /// Its task ended; those inside it have not. `after` is absent where it was not asked.
    Closing {
        after: Option<After>,
        outcome: Outcome,
    },
    /// It is started when its time comes.
    Waiting,
    Ended {
        failed: bool,
    },
}

/// What few subsystems have.
#[derive(Clone, Debug, Default)]
pub(super) struct Cold {
    pub(super) restart: Restart,
    pub(super) stop_timeout: Option<Duration>,
    pub(super) needs: Vec<u32>,
    pub(super) needed_by: Vec<u32>,
    pub(super) inside: Vec<u32>,
    pub(super) error: Option<String>,
    /// The restarts by rule.
    pub(super) window: Window,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) registered: Instant,
    pub(super) started: Instant,
    pub(super) stopped: Instant,
    pub(super) cold: Option<Box<Cold>>,
    /// How often the place was used again.
    pub(super) reuse: u32,
    pub(super) run: u32,
    pub(super) restarts: u32,
    pub(super) row: u32,
    pub(super) parent: u32,
    /// How many hold it: those inside it, and those that need it.
    pub(super) inside_live: u32,
    pub(super) needing_live: u32,
    pub(super) bad_answers: u32,
    pub(super) life: Life,
    pub(super) flags: u8,
}

/// The phases of the shutdown of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Up,
    Graceful { grace_over: Instant, force: Instant },
    Forced { force: Instant },
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Start,
    StopDeadline,
}

/// What is left to look at before a method returns: a queue, so that deep nests need no deep stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Unhold(u32),
    Stop(u32),
}
