//! Handlers for programs that have a coordinator and no daemon.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::source::Signals;
use super::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SignalConfig};
use crate::shutdown::{ShutdownCoordinator, ShutdownReason};
use crate::{Error, Result};

/// Waits for the signals of one configuration and asks a coordinator to shut down.
///
/// TERM, INT and QUIT ask. So does HUP on a terminal, where there is nothing to reload; elsewhere
/// it and all others are lines of the log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::signal::{ConfigurableSignalHandler, SignalConfig};
/// use keepd::{ShutdownCoordinator, ShutdownReason};
///
/// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
/// let config = SignalConfig::new().with_sigusr1();
/// let handler = ConfigurableSignalHandler::new(coordinator.clone(), config);
/// coordinator.initiate_shutdown(ShutdownReason::Requested);
/// handler.handle_signals().await
/// # }
/// ```
#[derive(Debug)]
pub struct ConfigurableSignalHandler {
    coordinator: ShutdownCoordinator,
    config: Option<SignalConfig>,
    is_handling: AtomicBool,
    stopped: Notify,
}

impl ConfigurableSignalHandler {
    /// Makes a handler; nothing is installed yet.
    pub const fn new(shutdown_coordinator: ShutdownCoordinator, config: SignalConfig) -> Self {
        Self::with(shutdown_coordinator, Some(config))
    }

    const fn with(coordinator: ShutdownCoordinator, config: Option<SignalConfig>) -> Self {
        Self {
            coordinator,
            config,
            is_handling: AtomicBool::new(false),
            stopped: Notify::const_new(),
        }
    }

    /// Installs the handlers and waits for the first signal that asks for a shutdown, for a
    /// shutdown that something else asked for, or for [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// Fails while another call waits (InvalidState), and where a handler cannot be installed
    /// (SignalRegisterFailed).
    pub async fn handle_signals(&self) -> Result<()> {
        if self.is_handling.swap(true, Ordering::AcqRel) {
            return Err(Error::invalid_state("signals are already being handled"));
        }
        let _over = Over(&self.is_handling);
        let default = || SignalConfig::new().with_sighup();
        let config = self.config.clone().unwrap_or_else(default);
        let mut signals = Signals::install(&config)?;
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                () = self.coordinator.wait_initiated() => return Ok(()),
                () = self.stopped.notified() => return Ok(()),
            };
            if asks_for_shutdown(signal) {
                self.coordinator.initiate_shutdown(ShutdownReason::Signal(signal));
                return Ok(());
            }
            tracing::info!(signal, "Signal {}.", config.describe(signal));
        }
    }

    /// Ends the wait of [`handle_signals`](Self::handle_signals), now or as soon as it begins.
    pub fn stop(&self) {
        self.stopped.notify_one();
    }

    /// Reports whether a call waits.
    pub fn is_handling(&self) -> bool {
        self.is_handling.load(Ordering::Acquire)
    }
}

/// Waits for TERM, INT, QUIT and HUP, and asks a coordinator to shut down.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::shutdown::ShutdownCoordinator;
/// use keepd::signal::SignalHandler;
///
/// let handler = SignalHandler::new(ShutdownCoordinator::new(5_000, 10_000, 15_000));
/// handler.stop();
/// handler.handle_signals().await?;
/// assert!(!handler.is_handling());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SignalHandler(ConfigurableSignalHandler);

impl SignalHandler {
    /// Makes a handler; nothing is installed yet.
    pub const fn new(shutdown_coordinator: ShutdownCoordinator) -> Self {
        Self(ConfigurableSignalHandler::with(shutdown_coordinator, None))
    }

    /// See [`ConfigurableSignalHandler::handle_signals`].
    ///
    /// # Errors
    ///
    /// Those of that.
    pub async fn handle_signals(&self) -> Result<()> {
        self.0.handle_signals().await
    }

    /// See [`ConfigurableSignalHandler::stop`].
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Reports whether a call waits.
    pub fn is_handling(&self) -> bool {
        self.0.is_handling()
    }
}

/// Notes that a call no longer waits, also where its future was dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn asks_for_shutdown(signal: i32) -> bool {
    match signal {
        SIGTERM | SIGINT | SIGQUIT => true,
        SIGHUP => is_in_foreground(),
        _ => false,
    }
}

/// Reports whether this is a foreground program on a terminal, whose user has hung up.
pub(crate) fn is_in_foreground() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_call_waits_at_a_time_and_ends_with_the_shutdown() {
        let coordinator = ShutdownCoordinator::new(1, 2, 3);
        let handler = SignalHandler::new(coordinator.clone());
        let second = async {
            while !handler.is_handling() {
                tokio::task::yield_now().await;
            }
            let error = handler.handle_signals().await.unwrap_err();
            assert_eq!(error.category(), "state");
            coordinator.initiate_shutdown(ShutdownReason::Requested);
        };
        let (first, ()) = tokio::join!(handler.handle_signals(), second);
        first.unwrap();
        assert!(!handler.is_handling());
    }

    #[tokio::test]
    async fn a_number_that_cannot_be_caught_is_an_error() {
        let config = SignalConfig::new().with_custom_handler(9, "kill");
        let coordinator = ShutdownCoordinator::new(1, 2, 3);
        let handler = ConfigurableSignalHandler::new(coordinator, config);
        let error = handler.handle_signals().await.unwrap_err();
        assert_eq!(error.code(), crate::ErrorCode::SignalRegisterFailed);
        assert!(!handler.is_handling());
    }
}
