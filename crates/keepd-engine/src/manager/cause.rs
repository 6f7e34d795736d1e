//! Why a service is in its state: recorded when it happens, never guessed from text.

use std::time::Duration;

use keepd_model::{ChangeId, Exit, Generation, Pid, Reason, ServiceName, Until};

use super::interface::{PrepareFailure, Verb};

/// A recorded cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// keepd started and the service is enabled (or is needed by one that is).
    Boot,
    /// It is not enabled, and nobody asked for it.
    NotEnabled,
    /// Somebody asked for it.
    Operator {
        /// With which verb.
        verb: Verb,
        /// In which change.
        change: ChangeId,
    },
    /// A changed file asked for it.
    Applied {
        /// In which change.
        change: ChangeId,
        /// Because of these keys.
        keys: Vec<String>,
    },
    /// It must wait for another one, or follows it.
    Dependency {
        /// Which.
        on: ServiceName,
        /// What that one has to reach.
        until: Until,
    },
    /// It left a state in which it had to be for this one to run (`on_stop`).
    DependencyLost {
        /// Which.
        on: ServiceName,
        /// What that one had reached.
        until: Until,
    },
    /// It starts after another one, which is on its way (`after`, `before`).
    Order {
        /// Which.
        on: ServiceName,
    },
    /// What it waited for is there.
    DependenciesMet,
    /// It got ready: every readiness question was answered.
    BecameReady,
    /// It got ready: it is asked nothing, and stayed up long enough.
    StayedUp,
    /// Everything that the group stands for is there.
    Gathered,
    /// Its table in the file cannot be used; why.
    Quarantined(String),
    /// It was restarted too often.
    Limit {
        /// More often than this.
        count: u32,
        /// Within this time.
        window: Duration,
    },
    /// Its program runs.
    Executed,
    /// Its main process ended.
    Ended {
        /// Which run.
        generation: Generation,
        /// The process.
        pid: Option<Pid>,
        /// How.
        exit: Exit,
        /// After this time.
        ran: Duration,
    },
    /// It could not be executed.
    CannotExecute(PrepareFailure),
    /// It did not become ready in time.
    ReadyTimeout {
        /// The limit.
        after: Duration,
        /// What had not answered well.
        missing: String,
    },
    /// Its restart policy starts it again.
    RestartPolicy,
    /// keepd's proxy was lost before its program began: it is started again.
    Cancelled,
    /// keepd's proxy was lost, and its successor cannot say whether it runs.
    Unsure,
    /// keepd's proxy starts nothing; why.
    SafeMode(String),
    /// Something is left of it long after KILL.
    NotEmpty,
    /// Everything is being stopped.
    Shutdown(ShutdownCause),
    /// The proxy reports something that nobody asked it for.
    Foreign,
}

/// Why everything is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// Somebody asked (`down`, `shutdown`).
    Operator(ChangeId),
    /// keepd got this signal.
    Signal(keepd_model::Signal),
    /// A service with `shutdown_on` ended.
    Service(ServiceName),
    /// Every service ended by itself (`exit_when = "idle"`).
    Idle,
}

impl Cause {
    /// Returns the word of the closed list for this cause.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Boot | Self::NotEnabled | Self::Applied { .. } => Reason::Config,
            Self::Operator { .. } => Reason::Operator,
            Self::Dependency { .. }
            | Self::DependencyLost { .. }
            | Self::Order { .. }
            | Self::DependenciesMet
            | Self::Gathered => Reason::Dependency,
            Self::Quarantined(_) => Reason::Config,
            Self::Limit { .. } => Reason::Limit,
            Self::Ended { exit: Exit::Code(_), .. } => Reason::Exit,
            Self::Ended { exit: Exit::Signal { .. }, .. } => Reason::Signal,
            Self::Ended { exit: Exit::Unknown, .. } | Self::Foreign | Self::Unsure => {
                Reason::Unknown
            }
            Self::CannotExecute(_) => Reason::ExecError,
            Self::ReadyTimeout { .. } => Reason::ReadyTimeout,
            Self::BecameReady
            | Self::StayedUp
            | Self::Executed
            | Self::RestartPolicy
            | Self::Cancelled => Reason::Config,
            Self::SafeMode(_) => Reason::Limit,
            Self::NotEmpty => Reason::Signal,
            Self::Shutdown(_) => Reason::Shutdown,
        }
    }
}
