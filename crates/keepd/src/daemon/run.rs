//! The life of a daemon: its loop, and its end.

use std::sync::{Arc, PoisonError};

use super::actions::Action;
use super::builder::{Plan, Readiness, apply, call_back};
use super::guard::Guard;
use super::numbers::Numbers;
use super::start::Lock;
use super::ticks::{Tick, Ticks};
use super::watchdog::Watchdog;
use super::{Daemon, DaemonHandle, KillAction, SignalEvent};
use crate::notify::Notifier;
use crate::shutdown::{ShutdownReason, clock};
use crate::signal::SIGHUP;
use crate::subsystem::SubsystemState;
use crate::{Config, Error, ErrorCode, Result};

/// The status of a process that did not end in time: the system's fault, as with s6.
pub(super) const KILL_STATUS: u8 = 111;

/// So many names stand in a status.
const NAMES_MAX: usize = 5;

/// A daemon whose subsystems were started.
pub(super) struct Running {
    pub(super) daemon: Daemon,
    pub(super) plan: Plan,
    pub(super) notifier: Notifier,
    pub(super) logging: crate::logging::Logging,
    pub(super) ticks: Ticks,
    pub(super) numbers: Numbers,
    /// What is waited for until the daemon is ready; absent before and after that.
    pub(super) readiness: Option<Readiness>,
    /// Whoever started the process was told that the configuration is read again.
    pub(super) is_reloading: bool,
    /// Why the daemon cannot become ready.
    pub(super) failure: Option<Error>,
    pub(super) lock: Lock,
    pub(super) watchdog: Option<Watchdog>,
    /// Dropped last: signals act until everything has ended.
    pub(super) guard: Option<Guard>,
    #[cfg(feature = "console")]
    pub(super) console: super::console::Console,
    #[cfg(feature = "config-watch")]
    pub(super) _watcher: Option<crate::config::ConfigWatcher>,
}

impl Daemon {
    /// Starts everything and returns when everything has ended.
    ///
    /// The order: signal handlers, working directory, log, pid file, subsystems in the order of
    /// their registration (each after those it depends on), then whatever
    /// [`ready_when`](super::DaemonBuilder::ready_when) waits for, *ready*. It waits for a
    /// shutdown; at the end the pid file is removed and the handlers are let go.
    ///
    /// # Errors
    ///
    /// Fails where a step of the start fails (then what was started is ended again), and with
    /// InvalidState where the daemon, or a clone of it, was run before. After a shutdown: Shutdown
    /// (ShutdownTimeout) with the names of those that had to be aborted; Timeout where some could
    /// not even be aborted; Subsystem where the failure of one ended the daemon, or all of them
    /// failed.
    pub async fn run(self) -> Result<()> {
        self.prepare()?.live().await
    }

    /// Starts everything in the runtime of the caller, and returns at once.
    ///
    /// # Errors
    ///
    /// Those of the start, see [`run`](Self::run); MissingRuntime outside of a runtime.
    pub fn start(self) -> Result<DaemonHandle> {
        let daemon = self.clone();
        let running = self.prepare()?;
        Ok(DaemonHandle { daemon, task: tokio::spawn(running.live()) })
    }
}

impl Drop for Running {
    /// Whoever drops the future of a run does not want what it started to go on without it.
    fn drop(&mut self) {
        let shared = &self.daemon.shared;
        if !shared.manager.is_idle() {
            shared.coordinator.initiate_shutdown(ShutdownReason::Requested);
            shared.coordinator.force();
        }
    }
}

/// Waits for what the daemon waits for until it is ready.
async fn ready(readiness: &mut Option<Readiness>) -> Result<()> {
    match readiness {
        Some(readiness) => readiness.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Running {
    pub(super) fn start(&mut self) -> Result<()> {
        let shared = &self.daemon.shared;
        *shared.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
        // A shutdown that was asked for before the start is kept: nothing starts, all is in order.
        if !shared.coordinator.is_shutdown()
            && let Err(error) = shared.manager.start_everything()
        {
            // A signal may just have come; that is no failure of the start.
            if !shared.coordinator.is_shutdown() {
                return Err(error);
            }
        }
        if shared.coordinator.is_shutdown() {
            return Ok(());
        }
        self.readiness = self.plan.readiness.take().map(|wait| wait());
        if self.readiness.is_none() {
            self.become_ready();
        }
        Ok(())
    }

    fn become_ready(&mut self) {
        let shared = &self.daemon.shared;
        let subsystems = shared.manager.counts().running;
        tracing::info!(name = %shared.config.name, subsystems, "Daemon is ready.");
        self.notifier.ready(&self.status());
        #[cfg(feature = "console")]
        self.show();
    }

    /// Shows the state on the terminal.
    #[cfg(feature = "console")]
    fn show(&mut self) {
        let shared = &self.daemon.shared;
        let status =
            if shared.coordinator.is_shutdown() { "stopping".to_owned() } else { self.status() };
        self.console.show(&shared.config.name, &status);
    }

    /// Says in words how the daemon is.
    fn status(&self) -> String {
        let manager = &self.daemon.shared.manager;
        let counts = manager.counts();
        if counts.unhealthy == 0 {
            return format!("{} subsystems running", counts.running);
        }
        let names = manager.unhealthy(NAMES_MAX).join(", ");
        format!("{} subsystems running, {} unhealthy: {names}", counts.running, counts.unhealthy)
    }

    fn on_tick(&mut self, tick: Tick) {
        let manager = &self.daemon.shared.manager;
        match tick {
            // Silence is the answer of a daemon whose heart is ill: the supervisor acts on that.
            Tick::SayAlive if manager.is_critical_unhealthy() => {}
            Tick::SayAlive => self.notifier.alive(),
            Tick::Beat => {
                if let Some(watchdog) = &self.watchdog {
                    watchdog.beat();
                }
            }
            Tick::Measure => {
                self.numbers.take(manager.counts());
                #[cfg(feature = "console")]
                self.show();
            }
        }
    }

    /// Waits for the shutdown, and for everybody's end.
    async fn live(mut self) -> Result<()> {
        self.until_shutdown().await;
        let result = self.until_ended().await;
        if let Err(error) = &result {
            tracing::error!(%error, "Daemon ends.");
            self.notifier.failed(error);
        } else {
            tracing::info!("Daemon ends.");
        }
        // The loop no longer answers, as it should.
        drop(self.watchdog.take());
        drop(self.lock.take());
        drop(self.guard.take());
        result
    }

    async fn until_shutdown(&mut self) {
        let shared = Arc::clone(&self.daemon.shared);
        loop {
            let idle = async {
                if self.plan.exit_when_idle {
                    shared.manager.wait_idle().await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let action = tokio::select! {
                () = shared.coordinator.wait_initiated() => return,
                action = self.plan.actions.recv() => action,
                tick = self.ticks.next() => {
                    self.on_tick(tick);
                    continue;
                }
                () = shared.manager.health_changed() => {
                    self.notifier.status(&self.status());
                    continue;
                }
                waited = ready(&mut self.readiness) => {
                    self.readiness = None;
                    match waited {
                        Ok(()) => self.become_ready(),
                        Err(error) => {
                            tracing::error!(%error, "Daemon cannot become ready.");
                            self.failure = Some(error);
                            shared.coordinator.initiate_shutdown(ShutdownReason::Error);
                        }
                    }
                    continue;
                }
                () = idle => {
                    shared.coordinator.initiate_shutdown(ShutdownReason::Requested);
                    return;
                }
            };
            // The queue has a sender in the daemon itself, so it never closes.
            if let Some(action) = action {
                self.act(action);
            }
        }
    }

    async fn until_ended(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.daemon.shared);
        let kill = shared.coordinator.timeouts().kill;
        self.notifier.stopping(kill);
        #[cfg(feature = "console")]
        self.show();
        // The thread with the signals ends the process; without it, this ends the wait.
        let is_ours = self.plan.kill == KillAction::Error;
        let begun = shared.coordinator.begun().unwrap_or_else(clock::now);
        let deadline = begun.checked_add(kill).filter(|_| is_ours);
        let killed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(killed);
        loop {
            tokio::select! {
                biased;
                () = shared.manager.wait_idle() => break,
                () = &mut killed => {
                    let names = shared.manager.unfinished().join(", ");
                    let timeout_ms = u64::try_from(kill.as_millis()).unwrap_or(u64::MAX);
                    return Err(Error::timeout(format!("shutdown of {names}"), timeout_ms));
                }
                action = self.plan.actions.recv() => {
                    // Nothing is reloaded any more.
                    match action {
                        Some(Action::Dump) => self.dump(),
                        Some(Action::Reopen) => self.reopen(),
                        Some(Action::Reload | Action::Reloaded(_) | Action::Signal(_)) | None => {}
                    }
                }
                tick = self.ticks.next() => self.on_tick(tick),
            }
        }
        self.outcome()
    }

    /// Says how it went, once everybody has ended.
    fn outcome(&mut self) -> Result<()> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let shared = &self.daemon.shared;
        let overdue = shared.manager.overdue();
        if !overdue.is_empty() {
            let force = shared.coordinator.timeouts().force.as_millis();
            let names = overdue.join(", ");
            let message = format!("did not end when they were asked to, and were aborted: {names}");
            return Err(Error::shutdown_timeout(message, u64::try_from(force).unwrap_or(u64::MAX)));
        }
        let failed = |name: &str, error: &str| {
            let code = ErrorCode::SubsystemStateInvalid;
            Error::subsystem_with_code(code, name, error)
        };
        if let Some((name, error)) = shared.manager.fatal() {
            return Err(failed(&name, &error));
        }
        let subsystems = shared.manager.get_all_metadata();
        let all_failed = subsystems.iter().all(|one| one.state == SubsystemState::Failed);
        match subsystems.first() {
            Some(first) if all_failed => {
                let error = first.last_error.as_deref().unwrap_or("failed");
                let message = format!("all {} subsystems failed: {error}", subsystems.len());
                Err(failed(&first.name, &message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reload if self.has_nothing_to_reload() => {
                self.daemon.shared.coordinator.initiate_shutdown(ShutdownReason::Signal(SIGHUP));
            }
            Action::Reload => {
                self.begin_reload();
                let path = self.plan.config_path.clone();
                let mut loader = self.plan.loader();
                let actions = self.daemon.shared.actions.clone();
                let current = self.daemon.config_snapshot();
                // Reading a file may take its time, and the loop has a watchdog to answer.
                tokio::task::spawn_blocking(move || {
                    let read = if path.exists() {
                        loader.load()
                    } else {
                        // Defaults in place of what the program has set would surprise everybody.
                        tracing::info!(?path, "There is no configuration file to read again.");
                        Ok(Config::clone(&current))
                    };
                    actions.send(Action::Reloaded(Box::new(read)));
                });
            }
            Action::Reloaded(read) => self.reload(*read),
            Action::Signal(signal) => {
                for (wanted, callback) in &self.plan.on_signal {
                    if *wanted == signal {
                        call_back("on_signal", || callback(&SignalEvent { signal }));
                    }
                }
            }
            Action::Dump => self.dump(),
            Action::Reopen => self.reopen(),
        }
    }

    fn reopen(&self) {
        if let Err(error) = self.logging.reopen() {
            tracing::error!(%error, "The old log file is written on.");
        }
    }

    /// A foreground program without a file, a watch or a callback: its user has hung up.
    fn has_nothing_to_reload(&self) -> bool {
        let plan = &self.plan;
        !plan.has_own_path
            && plan.on_reload.is_empty()
            && !plan.config_path.exists()
            && crate::signal::is_in_foreground()
    }

    fn reload(&mut self, read: Result<Config>) {
        self.begin_reload();
        self.is_reloading = false;
        let shared = &self.daemon.shared;
        let replaced = read.and_then(|new| {
            let differences = shared.live.replace(new.clone())?;
            Ok((new, differences))
        });
        let status = match replaced {
            Ok((new, differences)) => {
                let times = &new.shutdown;
                shared.coordinator.update_timeouts(times.graceful, times.force, times.kill);
                apply(&new, &shared.manager);
                if let Err(error) = self.logging.apply(&new) {
                    tracing::error!(%error, "The log goes on as it was.");
                }
                for callback in &self.plan.on_reload {
                    call_back("with_reload", || callback(&new));
                }
                tracing::info!(?differences, "The configuration was reloaded.");
                "configuration reloaded".to_owned()
            }
            Err(error) => {
                tracing::error!(%error, "The configuration stays as it was.");
                format!("cannot reload the configuration: {error}")
            }
        };
        if self.readiness.is_some() {
            // The protocol ends a reload with *ready*, which the daemon is not yet.
            self.notifier.status(&status);
        } else {
            self.notifier.ready(&status);
        }
    }

    /// Tells once that the configuration is read again.
    fn begin_reload(&mut self) {
        if !std::mem::replace(&mut self.is_reloading, true) {
            self.notifier.reloading();
        }
    }

    fn dump(&self) {
        let stats = self.daemon.get_stats();
        tracing::info!(name = %stats.name, uptime = ?stats.uptime, "State of the daemon.");
        for one in stats.subsystem_stats.subsystems {
            tracing::info!(
                subsystem = %one.name,
                state = %one.state,
                restarts = one.restart_count,
                error = one.last_error,
                "State of a subsystem."
            );
        }
    }
}
