//! A daemon that runs in the background of a program.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{Daemon, DaemonStats};
use crate::subsystem::body_panic_text;
use crate::{Config, Error, Result};

/// A daemon that was started by [`Daemon::start`]. Dropping it changes nothing: the daemon runs on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::{Config, Daemon};
///
/// let running = Daemon::builder(Config::new()?).without_signals().build()?.start()?;
/// assert!(running.stats().uptime.is_some());
/// assert!(running.shutdown());
/// running.wait().await
/// # }
/// ```
#[derive(Debug)]
pub struct DaemonHandle {
    pub(super) daemon: Daemon,
    pub(super) task: JoinHandle<Result<()>>,
}

impl DaemonHandle {
    /// Returns the daemon itself.
    pub const fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Asks for a shutdown. Returns whether this was the first request.
    pub fn shutdown(&self) -> bool {
        self.daemon.shutdown()
    }

    /// Asks the daemon to read its configuration file again, as HUP does.
    pub fn reload(&self) {
        self.daemon.reload();
    }

    /// Returns the configuration in force.
    pub fn config_snapshot(&self) -> Arc<Config> {
        self.daemon.config_snapshot()
    }

    /// Returns how the daemon is.
    pub fn stats(&self) -> DaemonStats {
        self.daemon.get_stats()
    }

    /// Waits until everything has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Daemon::run`].
    pub async fn wait(self) -> Result<()> {
        match self.task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => {
                let text = body_panic_text(&*error.into_panic());
                Err(Error::runtime(format!("the loop of the daemon panicked: {text}")))
            }
            Err(error) => Err(Error::runtime_with_source(
                format!("the loop of the daemon was aborted: {error}"),
                error,
            )),
        }
    }
}
