//! The start of a daemon: its steps, in their order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::builder::Plan;
use super::guard::{Guard, Watch, end_process};
use super::numbers::Numbers;
use super::run::Running;
use super::ticks::{Ticks, every};
use super::watchdog::{News, Watchdog};
use super::{Daemon, KillAction};
use crate::config::{ConfigLoader, PerformanceConfig};
use crate::notify::Notifier;
use crate::pidfile::PidFile;
use crate::signal::SignalConfig;
use crate::{Config, Environment, Error, ErrorCode, Result};

/// The pid file, where the thread that ends the process can reach it.
#[derive(Clone, Debug, Default)]
pub(super) struct Lock(Arc<Mutex<Option<PidFile>>>);

impl Lock {
    fn put(&self, file: PidFile) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    pub(super) fn take(&self) -> Option<PidFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Plan {
    /// Returns what reads the configuration file again.
    pub(super) fn loader(&self) -> ConfigLoader {
        ConfigLoader::new().file(&self.config_path).origin(self.origin.clone())
    }
}

impl Daemon {
    /// Does the steps of the start. Whoever started the process hears of every one that fails.
    pub(super) fn prepare(self) -> Result<Running> {
        let plan = self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(plan) = plan else {
            return Err(Error::invalid_state("the daemon has been run before"));
        };
        if let Err(error) = tokio::runtime::Handle::try_current() {
            let message = format!("cannot run the daemon: {error}");
            return Err(Error::runtime_with_code(ErrorCode::MissingRuntime, message));
        }
        let mut environment = plan.environment.clone().unwrap_or_else(Environment::of_process);
        environment.notification_fd = plan.notification_fd.or(environment.notification_fd);
        let notifier = Notifier::new(&environment)?;
        let another = notifier.another();
        let prepared = self.prepare_with(plan, &environment, notifier);
        prepared.inspect_err(|error| another.failed(error))
    }

    fn prepare_with(
        self,
        mut plan: Plan,
        environment: &Environment,
        notifier: Notifier,
    ) -> Result<Running> {
        let lock = Lock::default();
        let guard = self.guard(&plan, &lock)?;
        let config = self.enter_folder(&mut plan)?;
        let logging = crate::logging::init(&config)?;
        environment.log();
        say_what_has_no_effect(&config);
        if let Some(path) = &config.pid_file {
            lock.put(PidFile::acquire(path)?);
        }
        #[cfg(feature = "scheduler-hints")]
        {
            crate::scheduler::apply_process_hints(&config);
            crate::scheduler::apply_runtime_hints();
        }
        let watchdog_time = config.monitoring.watchdog.map(Duration::from_millis);
        let watchdog = watchdog_time.map(|time| watchdog(time, plan.kill, &notifier, &lock));
        let ticks = Ticks {
            // Half of the time that the supervisor allows.
            alive: environment.watchdog.and_then(|time| every(time / 2)),
            beat: watchdog_time.and_then(|time| every(Watchdog::period(time))),
            measure: every(Numbers::period(&config)),
        };
        let mut running = Running {
            ticks,
            numbers: Numbers::begin(&config, &self.shared.kept),
            readiness: None,
            is_reloading: false,
            failure: None,
            #[cfg(feature = "console")]
            console: super::console::Console::begin(),
            #[cfg(feature = "config-watch")]
            _watcher: self.watch(&plan)?,
            daemon: self,
            plan,
            notifier,
            logging,
            lock,
            watchdog: watchdog.transpose()?,
            guard,
        };
        running.start()?;
        Ok(running)
    }

    fn guard(&self, plan: &Plan, lock: &Lock) -> Result<Option<Guard>> {
        let signals = match (&plan.signals, plan.kill) {
            (Some(signals), _) => signals.clone(),
            // Somebody has to end the process when the kill time is over.
            (None, KillAction::Exit) => {
                SignalConfig::new().without_sigterm().without_sigint().without_sigquit()
            }
            (None, KillAction::Error) => return Ok(None),
        };
        let watch = Watch {
            daemon: self.clone(),
            signals,
            actions: self.shared.actions.clone(),
            kill: plan.kill,
            lock: lock.clone(),
        };
        Guard::start(watch).map(Some)
    }

    /// Goes to the working directory. Returns the configuration as it is seen from there: paths
    /// that began in the folder that is left are made absolute.
    fn enter_folder(&self, plan: &mut Plan) -> Result<Config> {
        let mut config = self.shared.config.clone();
        let Some(folder) = &config.work_dir else { return Ok(config) };
        // A folder that was removed has no path, and nothing in it can be meant.
        plan.origin = std::env::current_dir().unwrap_or_default();
        plan.config_path = plan.origin.join(&plan.config_path);
        std::env::set_current_dir(folder).map_err(|error| {
            let message = format!("cannot change to folder {folder:?}: {error}");
            Error::io_with_source(message, error)
        })?;
        config.anchor(&plan.origin);
        self.shared.live.replace(config.clone())?;
        Ok(config)
    }

    #[cfg(feature = "config-watch")]
    fn watch(&self, plan: &Plan) -> Result<Option<crate::config::ConfigWatcher>> {
        use super::actions::Action;

        if !self.shared.config.hot_reload {
            return Ok(None);
        }
        let actions = self.shared.actions.clone();
        let changed = move |read| actions.send(Action::Reloaded(Box::new(read)));
        plan.loader().watch(changed).map(Some)
    }
}

/// Starts the watchdog, which treats a runtime that does not answer like a shutdown that does not
/// end.
fn watchdog(
    time: Duration,
    kill: KillAction,
    notifier: &Notifier,
    lock: &Lock,
) -> Result<Watchdog> {
    let (notifier, lock) = (notifier.another(), lock.clone());
    Watchdog::start(time, move |news| match news {
        News::Stalled => {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let error = Error::timeout("the runtime does not answer", milliseconds);
            super::guard::say_shortly(move || {
                tracing::error!(?time, ?kill, "The runtime does not answer: a task blocks it.");
            });
            match kill {
                KillAction::Exit => {
                    notifier.failed(&error);
                    end_process(&lock);
                }
                KillAction::Error => notifier.stuck(&error.to_string()),
            }
        }
        News::Recovered => {
            tracing::warn!("The runtime answers again.");
            notifier.status("the runtime answers again");
        }
    })
}

fn say_what_has_no_effect(config: &Config) {
    let (set, unset) = (&config.performance, PerformanceConfig::default());
    for (key, is_set) in [
        ("performance.memory_pool_size", set.memory_pool_size != unset.memory_pool_size),
        ("performance.numa_aware", set.numa_aware != unset.numa_aware),
        ("performance.lock_free", set.lock_free != unset.lock_free),
    ] {
        if is_set {
            tracing::debug!(key, "The key is accepted for programs of proc-daemon: no effect.");
        }
    }
}
