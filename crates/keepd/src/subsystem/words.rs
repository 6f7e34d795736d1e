//! What goes into the machine of subsystems, and what comes out.

use std::time::Duration;

use keepd_model::Instant;

use super::SubsystemState;
use crate::restart::Restart;

/// The exit code of a program of Rust that panicked, and so of a task that did.
pub(crate) const PANIC_EXIT_CODE: u8 = 101;

/// What a subsystem asks for when it is registered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// The subsystem that it is inside of.
    pub(crate) parent: Option<u32>,
    pub(crate) restart: Restart,
    pub(crate) is_critical: bool,
    /// How long it may take to end once asked; the times of the shutdown where absent.
    pub(crate) stop_timeout: Option<Duration>,
}

/// What holds for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// So many bad answers in a row are a failure.
    pub(crate) health_failures: u32,
    /// A failure that nothing follows ends all.
    pub(crate) fail_fast: bool,
    /// How long one that is asked alone may take.
    pub(crate) stop_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { health_failures: 3, fail_fast: false, stop_timeout: Duration::from_secs(10) }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// The text of the error, and its exit code.
    Failed(String, u8),
    Panicked(String),
    /// Its task was dropped: we aborted it, or its runtime has gone.
    Aborted,
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Start its task.
    Start { index: u32, run: u32 },
    /// Ask it alone to end.
    Ask { index: u32 },
    /// Drop its task.
    Abort { index: u32 },
    /// Keep the request to all away from it.
    Hold { index: u32 },
    /// Let the request to all come.
    Release { index: u32 },
    /// It is done, as far as the shutdown is concerned.
    Finish { index: u32 },
    /// It has gone.
    Remove { index: u32 },
    /// Its state changed.
    Changed { index: u32, state: SubsystemState },
    /// It ended badly.
    Failure { index: u32 },
    /// It answers its health check badly, and its rule restarts nothing.
    Unhealthy { index: u32 },
    /// It answers well again.
    Healthy { index: u32 },
    /// It decides about all; `failed` says how it ended.
    ShutDown { index: u32, failed: bool },
    /// The graceful time is over.
    GraceOver,
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) registered: u64,
    pub(crate) running: u64,
    pub(crate) failed: u64,
    /// Those among the running ones that answer badly.
    pub(crate) unhealthy: u64,
    pub(crate) restarts: u64,
}

/// The public facts about one subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) state: SubsystemState,
    pub(crate) registered: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) stopped: Option<Instant>,
    pub(crate) restarts: u32,
    pub(crate) error: Option<String>,
}
