//! The thread that waits for signals and keeps the kill time.
//!
//! It has a runtime of its own, so that a task which blocks the threads of the program can neither
//! keep a signal away nor the end. For the same reason nothing is logged on it: whoever writes to a
//! full pipe holds the log for as long.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::actions::{Action, Sender};
use super::run::KILL_STATUS;
use super::start::Lock;
use super::{Daemon, KillAction};
use crate::shutdown::{ShutdownReason, clock};
use crate::signal::source::Signals;
use crate::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SignalConfig};
use crate::{Error, ErrorCode, Result};

/// Stands for a kill time beyond the end of the clock.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the last words before the end of the process are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Guard {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs.
pub(super) struct Watch {
    pub(super) daemon: Daemon,
    pub(super) signals: SignalConfig,
    pub(super) actions: Sender,
    pub(super) kill: KillAction,
    pub(super) lock: Lock,
}

impl Guard {
    /// Starts the thread, and returns when the handlers are installed.
    ///
    /// # Errors
    ///
    /// Fails where the thread or its runtime cannot be made, and for a signal that cannot be
    /// caught.
    pub(super) fn start(watch: Watch) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (report, installed) = mpsc::sync_channel(1);
        let failed = |error: std::io::Error| {
            let message = format!("cannot start the thread that waits for signals: {error}");
            Error::runtime_with_code(ErrorCode::RuntimeSpawnError, message)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || {
            runtime.block_on(async move {
                match Signals::install(&watch.signals) {
                    Ok(signals) => {
                        // The other end waits for exactly this.
                        let _ = report.send(Ok(()));
                        tokio::select! {
                            () = watch.keep(signals) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(error) => {
                        let _ = report.send(Err(error));
                    }
                }
            });
            // What is being logged may never be read.
            runtime.shutdown_timeout(LAST_WORDS);
        };
        let thread = std::thread::Builder::new().name("keepd-signals".to_owned());
        let thread = thread.spawn(work).map_err(failed)?;
        let guard = Self { stop: Some(stop), thread: Some(thread) };
        installed.recv().map_err(|_| {
            Error::runtime("the thread that waits for signals has panicked".to_owned())
        })??;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Without a receiver the thread has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            // It ends at the next instruction; a panic of it was printed.
            let _ = thread.join();
        }
    }
}

impl Watch {
    async fn keep(&self, mut signals: Signals) {
        let coordinator = &self.daemon.shared.coordinator;
        loop {
            tokio::select! {
                signal = signals.next() => self.on_signal(signal),
                () = coordinator.wait_initiated() => break,
            }
        }
        // From here on the word stays: only signals and the kill time are left.
        loop {
            let kill = coordinator.timeouts().kill;
            let begun = coordinator.begun().unwrap_or_else(clock::now);
            let deadline = begun.checked_add(kill).unwrap_or_else(|| clock::now() + NEVER);
            let kill_time = tokio::time::sleep_until(deadline.into());
            tokio::select! {
                signal = signals.next() => self.on_signal(signal),
                () = kill_time, if self.kill == KillAction::Exit => self.kill(),
            }
        }
    }

    fn on_signal(&self, signal: i32) {
        let coordinator = &self.daemon.shared.coordinator;
        let description = self.signals.describe(signal);
        say(move || tracing::info!(signal, "Signal {description}."));
        match signal {
            SIGTERM | SIGINT | SIGQUIT => {
                if signal == SIGQUIT {
                    self.actions.send(Action::Dump);
                }
                let reason = ShutdownReason::Signal(signal);
                if coordinator.begin(reason) {
                    say(move || tracing::info!(%reason, "Shutdown begins."));
                    return;
                }
                if !coordinator.force() && self.kill == KillAction::Exit {
                    self.kill();
                }
            }
            SIGHUP => {
                self.actions.send(Action::Reopen);
                self.actions.send(Action::Reload);
            }
            SIGUSR1 => {
                self.actions.send(Action::Reopen);
                self.actions.send(Action::Signal(signal));
            }
            SIGUSR2 => {
                self.actions.send(Action::Dump);
                self.actions.send(Action::Signal(signal));
            }
            _ => self.actions.send(Action::Signal(signal)),
        }
    }

    /// Ends the process. Whoever is stuck stays so.
    fn kill(&self) {
        let names = self.daemon.shared.manager.unfinished().join(", ");
        say_shortly(move || {
            tracing::error!(%names, "The kill time is over and these run; the process ends.");
        });
        end_process(&self.lock);
    }
}

/// Logs on another thread of the runtime of this one.
fn say(words: impl FnOnce() + Send + 'static) {
    drop(tokio::task::spawn_blocking(words));
}

/// Logs on another thread, and waits for that a short time at most.
pub(super) fn say_shortly(words: impl FnOnce() + Send + 'static) {
    let (said, heard) = mpsc::channel();
    let thread = std::thread::Builder::new().name("keepd-last-words".to_owned());
    let started = thread.spawn(move || {
        words();
        // Nobody listens any more where it took too long.
        let _ = said.send(());
    });
    if started.is_ok() {
        // It is said, or nobody reads it.
        let _ = heard.recv_timeout(LAST_WORDS);
    }
}

/// Ends the process at once, without its pid file.
pub(super) fn end_process(lock: &Lock) -> ! {
    drop(lock.take());
    exit_now()
}

#[cfg(feature = "process")]
fn exit_now() -> ! {
    keepd_os::fatal::exit_now(KILL_STATUS)
}

#[cfg(not(feature = "process"))]
fn exit_now() -> ! {
    std::process::exit(i32::from(KILL_STATUS))
}
