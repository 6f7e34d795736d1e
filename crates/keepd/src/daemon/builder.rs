//! What a daemon is made of.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use super::actions::{self, Receiver};
use super::numbers::Kept;
use super::{Daemon, KillAction, Shared, SignalEvent};
use crate::config::LiveConfig;
use crate::restart::Restart;
use crate::shutdown::{ShutdownCoordinator, ShutdownHandle};
use crate::signal::SignalConfig;
use crate::subsystem::{Subsystem, SubsystemId, SubsystemManager};
use crate::{Config, DEFAULT_CONFIG_FILE, Environment, Error, Result};

type ReloadFn = Box<dyn Fn(&Config) + Send + Sync>;
type SignalFn = Box<dyn Fn(&SignalEvent) + Send + Sync>;

/// What the daemon waits for before it says that it is ready.
pub(super) type Readiness = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type ReadinessFn = Box<dyn FnOnce() -> Readiness + Send>;

/// What a run needs besides what all clones share.
pub(super) struct Plan {
    /// Absent where the program does without signals.
    pub(super) signals: Option<SignalConfig>,
    pub(super) config_path: PathBuf,
    /// The folder that the daemon was started in, once it has left it.
    pub(super) origin: PathBuf,
    pub(super) has_own_path: bool,
    pub(super) on_reload: Vec<ReloadFn>,
    pub(super) on_signal: Vec<(i32, SignalFn)>,
    pub(super) exit_when_idle: bool,
    pub(super) environment: Option<Environment>,
    pub(super) notification_fd: Option<i32>,
    pub(super) kill: KillAction,
    pub(super) readiness: Option<ReadinessFn>,
    pub(super) actions: Receiver,
}

/// Puts a daemon together.
///
/// ```
/// use keepd::{Config, Daemon};
///
/// # fn main() -> keepd::Result<()> {
/// let daemon = Daemon::builder(Config::new()?)
///     .with_task("web", |mut shutdown| async move {
///         shutdown.cancelled().await;
///         Ok(())
///     })
///     .with_critical("web")
///     .build()?;
/// assert_eq!(daemon.get_stats().subsystem_stats.total_subsystems, 1);
/// # Ok(())
/// # }
/// ```
pub struct DaemonBuilder {
    config: Config,
    coordinator: ShutdownCoordinator,
    manager: SubsystemManager,
    signals: Option<SignalConfig>,
    has_signals: bool,
    config_path: Option<PathBuf>,
    on_reload: Vec<ReloadFn>,
    on_signal: Vec<(i32, SignalFn)>,
    critical: Vec<String>,
    fail_fast: bool,
    exit_when_idle: bool,
    environment: Option<Environment>,
    notification_fd: Option<i32>,
    kill: Option<KillAction>,
    readiness: Option<ReadinessFn>,
    kept: Kept,
}

impl Default for DaemonBuilder {
    /// Begins with the default configuration.
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl DaemonBuilder {
    /// Begins with this configuration.
    pub fn new(config: Config) -> Self {
        let times = &config.shutdown;
        let coordinator = ShutdownCoordinator::new(times.graceful, times.force, times.kill);
        Self {
            manager: SubsystemManager::new(coordinator.clone()),
            config,
            coordinator,
            signals: None,
            has_signals: true,
            config_path: None,
            on_reload: Vec::new(),
            on_signal: Vec::new(),
            critical: Vec::new(),
            fail_fast: false,
            exit_when_idle: false,
            environment: None,
            notification_fd: None,
            kill: None,
            readiness: None,
            kept: Kept::default(),
        }
    }

    /// Adds a task.
    #[must_use]
    pub fn with_task<F, Fut>(self, name: &str, task_fn: F) -> Self
    where
        F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.manager.register_fn(name, task_fn);
        self
    }

    /// Adds a subsystem.
    #[must_use]
    pub fn with_subsystem<S: Subsystem + Send + Sync + 'static>(self, subsystem: S) -> Self {
        self.manager.register(subsystem);
        self
    }

    /// Adds what a function registers with the manager. The name is a label for the log; for a task
    /// use [`with_task`](Self::with_task).
    #[must_use]
    pub fn with_subsystem_fn<F>(self, name: &str, register_fn: F) -> Self
    where
        F: FnOnce(&SubsystemManager) -> SubsystemId + Send + 'static,
    {
        let id = register_fn(&self.manager);
        tracing::debug!(name, id, "A subsystem was registered.");
        self
    }

    /// Says which signals act. Default: TERM, INT, QUIT, HUP, USR1 and USR2.
    #[must_use]
    pub fn with_signal_config(mut self, config: SignalConfig) -> Self {
        self.signals = Some(config);
        self.has_signals = true;
        self
    }

    /// Says whether TERM and INT act; of the others, those of [`SignalConfig::default`] do.
    #[must_use]
    pub fn with_signals(self, sigterm: bool, sigint: bool) -> Self {
        let config = SignalConfig {
            term: sigterm.into(),
            interrupt: sigint.into(),
            ..SignalConfig::default()
        };
        self.with_signal_config(config)
    }

    /// No signal acts: the daemon is a part of a program that has its own handlers.
    #[must_use]
    pub const fn without_signals(mut self) -> Self {
        self.has_signals = false;
        self
    }

    /// Calls `callback` for each signal with this number, and enables it.
    #[must_use]
    pub fn on_signal<F>(mut self, signal: i32, callback: F) -> Self
    where
        F: Fn(&SignalEvent) + Send + Sync + 'static,
    {
        self.on_signal.push((signal, Box::new(callback)));
        self
    }

    /// Sets the file that a reload reads. Default: `daemon.toml` in the working directory.
    #[must_use]
    pub fn with_config_path<P: Into<PathBuf>>(mut self, path: P) -> Self {
        self.config_path = Some(path.into());
        self
    }

    /// Writes the number of the process into this file and locks it while the daemon runs.
    #[must_use]
    pub fn with_pid_file<P: Into<PathBuf>>(mut self, path: P) -> Self {
        self.config.pid_file = Some(path.into());
        self
    }

    /// Calls `callback` with every configuration that a reload puts in force.
    #[must_use]
    pub fn with_reload<F>(mut self, callback: F) -> Self
    where
        F: Fn(&Config) + Send + Sync + 'static,
    {
        self.on_reload.push(Box::new(callback));
        self
    }

    /// Ends the daemon with the subsystems of this name, once nothing restarts them.
    #[must_use]
    pub fn with_critical(mut self, name: impl Into<String>) -> Self {
        self.critical.push(name.into());
        self
    }

    /// Ends the daemon with any subsystem that fails for good. Default: no.
    #[must_use]
    pub const fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.fail_fast = fail_fast;
        self
    }

    /// Ends the daemon when no subsystem runs or will run again. Default: no, it waits for a
    /// signal.
    #[must_use]
    pub const fn exit_when_idle(mut self, exit_when_idle: bool) -> Self {
        self.exit_when_idle = exit_when_idle;
        self
    }

    /// Writes one line to this descriptor when the daemon is ready, as s6 and dinit want it.
    #[must_use]
    pub const fn notification_fd(mut self, number: i32) -> Self {
        self.notification_fd = Some(number);
        self
    }

    /// Uses this environment instead of that of the process.
    #[must_use]
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Says *ready* only when this future is over, and not as soon as all subsystems run; for what
    /// takes its time until it can serve. Signals, restarts and reloads work meanwhile. An error
    /// ends the daemon.
    ///
    /// ```
    /// use keepd::{Config, Daemon};
    /// use tokio::sync::Notify;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> keepd::Result<()> {
    /// static WARM: Notify = Notify::const_new();
    ///
    /// let daemon = Daemon::builder(Config::new()?)
    ///     .with_task("cache", |mut shutdown| async move {
    ///         WARM.notify_one();
    ///         shutdown.cancelled().await;
    ///         Ok(())
    ///     })
    ///     .ready_when(|| async {
    ///         WARM.notified().await;
    ///         Ok(())
    ///     })
    ///     .without_signals()
    ///     .build()?;
    /// let running = daemon.start()?;
    /// running.shutdown();
    /// running.wait().await
    /// # }
    /// ```
    #[must_use]
    pub fn ready_when<F, Fut>(mut self, wait: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.readiness = Some(Box::new(move || Box::pin(wait())));
        self
    }

    /// Puts the numbers of the daemon into a collector that the program has: those of its process
    /// (`proc.*`, see [`ResourceTracker::with_metrics`]) and of its subsystems (`daemon.*`).
    /// Without this, it has [one of its own](Daemon::metrics).
    ///
    /// [`ResourceTracker::with_metrics`]: crate::resources::ResourceTracker::with_metrics
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_metrics(mut self, metrics: crate::metrics::MetricsCollector) -> Self {
        self.kept = Kept::with_metrics(metrics);
        self
    }

    /// Says what happens when the kill time is over.
    #[must_use]
    pub const fn on_kill(mut self, action: KillAction) -> Self {
        self.kill = Some(action);
        self
    }

    /// Checks everything that can be checked before a start, and starts nothing.
    ///
    /// # Errors
    ///
    /// Fails (Config) where the configuration breaks a rule, where it wants JSON and the feature
    /// `json-logs` is off, and where a critical subsystem is not registered.
    pub fn build(mut self) -> Result<Daemon> {
        self.config.validate()?;
        crate::logging::check(&self.config)?;
        for name in &self.critical {
            if !self.manager.set_critical(name) {
                return Err(Error::config(format!(
                    "cannot make subsystem \"{name}\" critical: it is not registered"
                )));
            }
        }
        self.manager.set_fail_fast(self.fail_fast);
        apply(&self.config, &self.manager);
        let kept = std::mem::take(&mut self.kept);
        let (sender, receiver) = actions::queue();
        let plan = self.plan_parts(receiver);
        Ok(Daemon {
            shared: Arc::new(Shared {
                live: LiveConfig::new(plan.1.clone()),
                config: plan.1,
                coordinator: plan.2,
                manager: plan.3,
                kept,
                actions: sender,
                started: Mutex::new(None),
                plan: Mutex::new(Some(plan.0)),
            }),
        })
    }

    /// Takes the builder apart.
    fn plan_parts(
        mut self,
        actions: Receiver,
    ) -> (Plan, Config, ShutdownCoordinator, SubsystemManager) {
        let mut signals = self.has_signals.then(|| self.signals.unwrap_or_else(SignalConfig::all));
        if let Some(signals) = &mut signals {
            let wanted = self.on_signal.iter().map(|(signal, _)| (*signal, String::new()));
            signals.custom_handlers.extend(wanted);
        }
        let default_kill = if self.has_signals && self.config.shutdown.enforce_kill {
            KillAction::Exit
        } else {
            KillAction::Error
        };
        let plan = Plan {
            signals,
            has_own_path: self.config_path.is_some(),
            config_path: self.config_path.take().unwrap_or_else(|| match &self.config.work_dir {
                Some(folder) => folder.join(DEFAULT_CONFIG_FILE),
                None => DEFAULT_CONFIG_FILE.into(),
            }),
            origin: PathBuf::new(),
            on_reload: self.on_reload,
            on_signal: self.on_signal,
            exit_when_idle: self.exit_when_idle,
            environment: self.environment,
            notification_fd: self.notification_fd,
            kill: self.kill.unwrap_or(default_kill),
            readiness: self.readiness,
            actions,
        };
        (plan, self.config, self.coordinator, self.manager)
    }

    /// Builds the daemon and runs it.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build) and of [`Daemon::run`].
    pub async fn run(self) -> Result<()> {
        self.build()?.run().await
    }
}

/// Gives the manager what the configuration says about subsystems.
pub(super) fn apply(config: &Config, manager: &SubsystemManager) {
    let monitoring = &config.monitoring;
    let interval = monitoring.health_checks.then(|| config.health_check_interval());
    manager.set_health_checks(interval, monitoring.health_failures);
    for (name, restart) in &config.restart {
        manager.set_restart(name, Restart::from(restart));
    }
}

/// Calls foreign code; a panic of it is a line of the log.
pub(super) fn call_back(what: &str, callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!(what, "A callback of the program panicked.");
    }
}

impl std::fmt::Debug for DaemonBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DaemonBuilder")
            .field("config", &self.config)
            .field("manager", &self.manager)
            .finish_non_exhaustive()
    }
}
