//! The public words about subsystems; most of them are those of proc-daemon, and frozen.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::Result;
use crate::restart::Restart;
use crate::shutdown::ShutdownHandle;

/// The number of a subsystem: the first is 1, then 2 and so on.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # {
/// use keepd::subsystem::{SubsystemId, SubsystemManager};
///
/// let first: SubsystemId = SubsystemManager::default().register_fn("web", |_| async { Ok(()) });
/// assert_eq!(first, 1);
/// # }
/// ```
pub type SubsystemId = u64;

/// What a run of a subsystem is: a future that ends when its handle asks for it, or earlier.
///
/// ```
/// use keepd::subsystem::SubsystemFuture;
///
/// let run: SubsystemFuture = Box::pin(async { Ok(()) });
/// # drop(run);
/// ```
pub type SubsystemFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A function that makes one run of a subsystem.
///
/// ```
/// use keepd::subsystem::SubsystemFn;
///
/// let run: SubsystemFn = Box::new(|mut shutdown| {
///     Box::pin(async move {
///         shutdown.cancelled().await;
///         Ok(())
///     })
/// });
/// # drop(run);
/// ```
pub type SubsystemFn = Box<dyn Fn(ShutdownHandle) -> SubsystemFuture + Send + Sync>;

/// A health check: says whether the subsystem is well. It should answer at once.
///
/// ```
/// use keepd::subsystem::HealthCheck;
///
/// let check: HealthCheck = Box::new(|| std::path::Path::new("/").exists());
/// assert!(check());
/// ```
pub type HealthCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// A part of a daemon that runs on its own, ends on its own and is started again by its own rule.
///
/// ```
/// use std::future::Future;
/// use std::pin::Pin;
///
/// use keepd::{RestartPolicy, Result, ShutdownHandle, Subsystem};
///
/// struct Heartbeat;
///
/// impl Subsystem for Heartbeat {
///     fn run(
///         &self,
///         mut shutdown: ShutdownHandle,
///     ) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
///         Box::pin(async move {
///             shutdown.cancelled().await;
///             Ok(())
///         })
///     }
///
///     fn name(&self) -> &str {
///         "heartbeat"
///     }
///
///     fn restart_policy(&self) -> RestartPolicy {
///         RestartPolicy::OnFailure
///     }
/// }
///
/// assert!(Heartbeat.health_check().is_none());
/// ```
pub trait Subsystem: Send + Sync + 'static {
    /// Returns the future of one run. It is called again for every restart.
    fn run(&self, shutdown: ShutdownHandle) -> SubsystemFuture;

    /// Returns the name, for logs and statistics.
    fn name(&self) -> &str;

    /// Returns how to ask whether it is well; asked for once.
    fn health_check(&self) -> Option<HealthCheck> {
        None
    }

    /// Returns what follows an end.
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Never
    }

    /// Returns what follows an end, with more choices than
    /// [`restart_policy`](Self::restart_policy), whose answer is the default.
    fn restart(&self) -> Restart {
        self.restart_policy().into()
    }

    /// Says whether the daemon ends with this subsystem, once nothing restarts it.
    fn critical(&self) -> bool {
        false
    }

    /// Returns how long it may take to end once it is asked; then it is aborted. Default: the force
    /// time of the shutdown.
    fn stop_timeout(&self) -> Option<Duration> {
        None
    }

    /// Returns the names of the subsystems that it needs: they are started before it, and asked to
    /// end only after it has ended.
    fn depends_on(&self) -> &[&str] {
        &[]
    }
}

/// What follows the end of a subsystem.
///
/// [`Restart`] has more choices, and says what the delays are.
///
/// ```
/// use std::time::Duration;
///
/// use keepd::RestartPolicy;
/// use keepd::restart::Restart;
///
/// let policy = RestartPolicy::ExponentialBackoff {
///     initial_delay: Duration::from_millis(50),
///     max_delay: Duration::from_millis(400),
///     max_attempts: 5,
/// };
/// assert_eq!(Restart::from(policy).delay(2), Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    Never,
    /// Another start, whatever the end was.
    Always,
    /// Another start after an error, a panic, or when the health check failed too often.
    OnFailure,
    /// The same, with longer and longer delays, and not for ever.
    ExponentialBackoff {
        /// Before the first restart in a row.
        initial_delay: Duration,
        /// The longest delay.
        max_delay: Duration,
        /// How many restarts in a row there are at most.
        max_attempts: u32,
    },
}

/// Where a subsystem is in its life.
///
/// ```
/// assert_eq!(keepd::SubsystemState::Running.to_string(), "Running");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubsystemState {
    /// Not started yet, or about to run.
    Starting,
    /// Its task runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// It ended well, and nothing follows.
    Stopped,
    /// It ended badly, and nothing follows.
    Failed,
    /// It ended, and will be started again.
    Restarting,
}

impl fmt::Display for SubsystemState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Failed => "Failed",
            Self::Restarting => "Restarting",
        })
    }
}

/// News of a subsystem.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::{SubsystemEvent, SubsystemManager};
///
/// let manager = SubsystemManager::default();
/// manager.enable_events();
/// manager.register_fn("web", |_| async { Ok(()) });
/// manager.start_all().await?;
/// while let Some(SubsystemEvent::StateChanged { name, state, .. }) = manager.try_next_event() {
///     println!("{name} is {state}");
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub enum SubsystemEvent {
    /// Its state changed.
    StateChanged {
        /// Which one.
        id: SubsystemId,
        /// Its name.
        name: String,
        /// Its state since then.
        state: SubsystemState,
        /// When.
        at: Instant,
    },
}

/// What is known about one subsystem.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # {
/// use keepd::{SubsystemManager, SubsystemState};
///
/// let manager = SubsystemManager::default();
/// let id = manager.register_fn("web", |_| async { Ok(()) });
/// let metadata = manager.get_subsystem_metadata(id).expect("it is registered");
/// assert_eq!((metadata.state, metadata.restart_count), (SubsystemState::Starting, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SubsystemMetadata {
    /// Its number.
    pub id: SubsystemId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: SubsystemState,
    /// When it was registered.
    pub registered_at: Instant,
    /// When it was started last.
    pub started_at: Option<Instant>,
    /// When its last run ended, unless one goes on.
    pub stopped_at: Option<Instant>,
    /// How often it was started again.
    pub restart_count: u32,
    /// Why a run of it failed last.
    pub last_error: Option<String>,
    /// What follows an end.
    pub restart_policy: RestartPolicy,
}

/// What is known about all of them.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # {
/// let stats = keepd::SubsystemManager::default().get_stats();
/// assert_eq!((stats.total_subsystems, stats.total_restarts), (0, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SubsystemStats {
    /// How many are registered.
    pub total_subsystems: usize,
    /// How many of them are Running.
    pub running_subsystems: usize,
    /// How many of them are Failed.
    pub failed_subsystems: usize,
    /// How many of them are Stopping.
    pub stopping_subsystems: usize,
    /// How often any of them was started again.
    pub total_restarts: u64,
    /// Each of them.
    pub subsystems: Vec<SubsystemMetadata>,
}
