//! The daemon: a configuration, subsystems, signals and a supervisor, put together in the right
//! order.
//!
//! Start from [`DaemonBuilder`]. [`Daemon::run`] returns when everything has ended; its order of
//! steps is written at that method.

mod actions;
mod builder;
#[cfg(feature = "console")]
mod console;
mod guard;
mod handle;
mod numbers;
mod run;
mod runtime;
mod start;
mod stats;
mod ticks;
mod watchdog;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use builder::DaemonBuilder;
pub use handle::DaemonHandle;
pub use stats::DaemonStats;

use crate::config::LiveConfig;
use crate::shutdown::{ShutdownCoordinator, ShutdownReason, clock};
use crate::subsystem::SubsystemManager;
use crate::{Config, Result};
use actions::Action;
use builder::Plan;
use numbers::Kept;

/// What happens to a process that still runs when the kill time is over.
///
/// ```
/// use keepd::daemon::KillAction;
/// use keepd::{Config, Daemon};
///
/// // A part of a larger program, which must not end with it.
/// let builder = Daemon::builder(Config::new()?).on_kill(KillAction::Error);
/// # drop(builder);
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillAction {
    /// The pid file is removed and the process ends with status 111. The default with signals.
    Exit,
    /// [`Daemon::run`] returns a Timeout error. The default without signals: then the daemon is a
    /// part of a program that has its own ideas.
    Error,
}

/// News of a signal that the daemon has no meaning for: USR1, USR2 and custom ones.
///
/// ```
/// use keepd::{Config, Daemon};
///
/// // 12 is SIGUSR2 of Linux.
/// let builder = Daemon::builder(Config::new()?).on_signal(12, |event| println!("{event:?}"));
/// # drop(builder);
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalEvent {
    /// Its number.
    pub signal: i32,
}

/// A daemon that is ready to run. Clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::{Config, Daemon};
///
/// let config = Config::builder().name("hello").build()?;
/// let daemon = Daemon::builder(config)
///     .with_task("greet", |mut shutdown| async move {
///         shutdown.cancelled().await;
///         Ok(())
///     })
///     .without_signals()
///     .build()?;
/// let observer = daemon.clone();
/// let running = daemon.start()?;
/// assert_eq!(observer.get_stats().subsystem_stats.running_subsystems, 1);
/// observer.shutdown();
/// running.wait().await
/// # }
/// ```
#[derive(Clone)]
pub struct Daemon {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    config: Config,
    live: LiveConfig,
    coordinator: ShutdownCoordinator,
    manager: SubsystemManager,
    kept: Kept,
    actions: actions::Sender,
    started: Mutex<Option<Instant>>,
    /// What the first run takes.
    plan: Mutex<Option<Plan>>,
}

impl Daemon {
    /// Returns a builder with this configuration.
    pub fn builder(config: Config) -> DaemonBuilder {
        DaemonBuilder::new(config)
    }

    /// Returns a builder with the default configuration.
    ///
    /// # Errors
    ///
    /// None; the signature is proc-daemon's.
    pub fn with_defaults() -> Result<DaemonBuilder> {
        Ok(DaemonBuilder::default())
    }

    /// Returns a builder with the default configuration.
    #[expect(clippy::new_ret_no_self, reason = "proc-daemon's signature, which programs use")]
    pub fn new() -> DaemonBuilder {
        DaemonBuilder::default()
    }

    /// Returns how the daemon is.
    pub fn get_stats(&self) -> DaemonStats {
        let started = *self.shared.started.lock().unwrap_or_else(PoisonError::into_inner);
        let subsystem_stats = self.shared.manager.get_stats();
        DaemonStats {
            name: self.shared.config.name.clone(),
            uptime: started.map(|started| clock::now().saturating_duration_since(started)),
            is_shutdown: self.shared.coordinator.is_shutdown(),
            shutdown_reason: self.shared.coordinator.get_reason(),
            total_restarts: subsystem_stats.total_restarts,
            subsystem_stats,
        }
    }

    /// Asks for a shutdown. Returns whether this was the first request.
    pub fn shutdown(&self) -> bool {
        self.shared.coordinator.initiate_shutdown(ShutdownReason::Requested)
    }

    /// Reports whether nobody has asked for a shutdown, also before [`run`](Self::run).
    pub fn is_running(&self) -> bool {
        !self.shared.coordinator.is_shutdown()
    }

    /// Returns the configuration that the daemon was built with.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Returns the configuration in force: the last valid one of those that were reloaded.
    pub fn config_snapshot(&self) -> Arc<Config> {
        self.shared.live.snapshot()
    }

    /// Returns the collector with the numbers of this daemon, for more numbers of the program and
    /// for whoever wants to read them. It is filled while the daemon runs, every
    /// `monitoring.metrics_interval_ms`, unless `monitoring.enable_metrics` is off.
    ///
    /// ```
    /// # fn main() -> keepd::Result<()> {
    /// use keepd::{Config, Daemon};
    ///
    /// let daemon = Daemon::builder(Config::new()?).build()?;
    /// daemon.metrics().increment_counter("requests_total", 1);
    /// assert!(daemon.metrics().get_metrics().render_prometheus().contains("requests_total 1"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> &crate::metrics::MetricsCollector {
        self.shared.kept.metrics()
    }

    /// Returns what measures the process: its [current usage] and the history of it. Samples are
    /// taken while the daemon runs, every `monitoring.metrics_interval_ms`, unless
    /// `monitoring.track_resources` is off.
    ///
    /// [current usage]: crate::resources::ResourceTracker::current_usage
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> keepd::Result<()> {
    /// use keepd::{Config, Daemon};
    ///
    /// let daemon = Daemon::builder(Config::new()?).without_signals().build()?;
    /// let running = daemon.clone().start()?;
    /// # #[cfg(target_os = "linux")]
    /// assert!(daemon.resources().current_usage().memory_mb() > 0.0);
    /// running.shutdown();
    /// running.wait().await
    /// # }
    /// ```
    pub fn resources(&self) -> &crate::resources::ResourceTracker {
        self.shared.kept.tracker(&self.shared.config)
    }

    /// Asks a daemon that runs to read its configuration file again, as HUP does.
    pub fn reload(&self) {
        self.shared.actions.send(Action::Reload);
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Daemon")
            .field("name", &self.shared.config.name)
            .field("manager", &self.shared.manager)
            .finish_non_exhaustive()
    }
}
