//! What most programs need, for `use keepd::prelude::*`.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::config::{Config, ConfigBuilder, LogLevel};
#[cfg(feature = "tokio")]
pub use crate::daemon::{Daemon, DaemonBuilder, DaemonHandle};
pub use crate::error::{Error, ErrorCode, Result};
pub use crate::restart::Restart;
pub use crate::shutdown::{ShutdownHandle, ShutdownReason};
#[cfg(feature = "tokio")]
pub use crate::subsystem::SubsystemManager;
pub use crate::subsystem::{RestartPolicy, Subsystem};

/// Durations that read like the words for them.
///
/// ```
/// use keepd::prelude::*;
/// use std::time::Duration;
///
/// assert_eq!(100.ms(), Duration::from_millis(100));
/// assert_eq!(2.minutes(), 120.s());
/// ```
pub trait DurationExt {
    /// Returns so many milliseconds.
    fn ms(self) -> Duration;
    /// Returns so many seconds.
    fn s(self) -> Duration;
    /// Returns so many minutes.
    fn minutes(self) -> Duration;
}

impl DurationExt for u64 {
    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }

    fn s(self) -> Duration {
        Duration::from_secs(self)
    }

    fn minutes(self) -> Duration {
        Duration::from_secs(self.saturating_mul(60))
    }
}

/// The setters of [`ConfigBuilder`] after one that can fail, so that a chain needs one `?` only, at
/// its end.
///
/// ```
/// use keepd::prelude::*;
/// use std::time::Duration;
///
/// # fn main() -> Result<()> {
/// let config = Config::builder()
///     .name("web")
///     .shutdown_timeout(Duration::from_secs(3))
///     .enable_metrics(true)
///     .build()?;
/// assert_eq!(config.shutdown_timeout(), Duration::from_secs(3));
/// # Ok(())
/// # }
/// ```
pub trait ConfigBuilderChain: Sized {
    /// See [`ConfigBuilder::name`].
    fn name<S: Into<String>>(self, name: S) -> Self;
    /// See [`ConfigBuilder::log_level`].
    fn log_level(self, level: LogLevel) -> Self;
    /// See [`ConfigBuilder::json_logging`].
    fn json_logging(self, enabled: bool) -> Self;
    /// See [`ConfigBuilder::log_file`].
    fn log_file<P: Into<PathBuf>>(self, path: P) -> Self;
    /// See [`ConfigBuilder::shutdown_timeout`].
    fn shutdown_timeout(self, timeout: Duration) -> Self;
    /// See [`ConfigBuilder::force_shutdown_timeout`].
    fn force_shutdown_timeout(self, timeout: Duration) -> Self;
    /// See [`ConfigBuilder::kill_timeout`].
    fn kill_timeout(self, timeout: Duration) -> Self;
    /// See [`ConfigBuilder::timeouts`].
    fn timeouts(self, graceful: Duration, force: Duration, kill: Duration) -> Self;
    /// See [`ConfigBuilder::graceful`].
    fn graceful(self, timeout: Duration) -> Self;
    /// See [`ConfigBuilder::work_dir`].
    fn work_dir<P: Into<PathBuf>>(self, folder: P) -> Self;
    /// See [`ConfigBuilder::pid_file`].
    fn pid_file<P: Into<PathBuf>>(self, path: P) -> Self;
    /// See [`ConfigBuilder::hot_reload`].
    fn hot_reload(self, enabled: bool) -> Self;
    /// See [`ConfigBuilder::worker_threads`].
    fn worker_threads(self, threads: usize) -> Self;
    /// See [`ConfigBuilder::enable_metrics`].
    fn enable_metrics(self, enabled: bool) -> Self;
    /// See [`ConfigBuilder::memory_pool_size`].
    fn memory_pool_size(self, bytes: usize) -> Self;
    /// See [`ConfigBuilder::lock_free`].
    fn lock_free(self, enabled: bool) -> Self;
    /// See [`ConfigBuilder::health_checks`].
    fn health_checks(self, enabled: bool) -> Self;
    /// See [`ConfigBuilder::health_check_interval`].
    fn health_check_interval(self, interval: Duration) -> Self;
    /// See [`ConfigBuilder::watchdog`].
    fn watchdog(self, time: Duration) -> Self;
    /// See [`ConfigBuilder::build`].
    ///
    /// # Errors
    ///
    /// The first setter that failed, or what [`ConfigBuilder::build`] says.
    fn build(self) -> Result<Config>;
}

impl ConfigBuilderChain for Result<ConfigBuilder> {
    fn name<S: Into<String>>(self, name: S) -> Self {
        self.map(|builder| builder.name(name))
    }

    fn log_level(self, level: LogLevel) -> Self {
        self.map(|builder| builder.log_level(level))
    }

    fn json_logging(self, enabled: bool) -> Self {
        self.map(|builder| builder.json_logging(enabled))
    }

    fn log_file<P: Into<PathBuf>>(self, path: P) -> Self {
        self.map(|builder| builder.log_file(path))
    }

    fn shutdown_timeout(self, timeout: Duration) -> Self {
        self.and_then(|builder| builder.shutdown_timeout(timeout))
    }

    fn force_shutdown_timeout(self, timeout: Duration) -> Self {
        self.and_then(|builder| builder.force_shutdown_timeout(timeout))
    }

    fn kill_timeout(self, timeout: Duration) -> Self {
        self.and_then(|builder| builder.kill_timeout(timeout))
    }

    fn timeouts(self, graceful: Duration, force: Duration, kill: Duration) -> Self {
        self.map(|builder| builder.timeouts(graceful, force, kill))
    }

    fn graceful(self, timeout: Duration) -> Self {
        self.map(|builder| builder.graceful(timeout))
    }

    fn work_dir<P: Into<PathBuf>>(self, folder: P) -> Self {
        self.map(|builder| builder.work_dir(folder))
    }

    fn pid_file<P: Into<PathBuf>>(self, path: P) -> Self {
        self.map(|builder| builder.pid_file(path))
    }

    fn hot_reload(self, enabled: bool) -> Self {
        self.map(|builder| builder.hot_reload(enabled))
    }

    fn worker_threads(self, threads: usize) -> Self {
        self.map(|builder| builder.worker_threads(threads))
    }

    fn enable_metrics(self, enabled: bool) -> Self {
        self.map(|builder| builder.enable_metrics(enabled))
    }

    fn memory_pool_size(self, bytes: usize) -> Self {
        self.map(|builder| builder.memory_pool_size(bytes))
    }

    fn lock_free(self, enabled: bool) -> Self {
        self.map(|builder| builder.lock_free(enabled))
    }

    fn health_checks(self, enabled: bool) -> Self {
        self.map(|builder| builder.health_checks(enabled))
    }

    fn health_check_interval(self, interval: Duration) -> Self {
        self.map(|builder| builder.health_check_interval(interval))
    }

    fn watchdog(self, time: Duration) -> Self {
        self.map(|builder| builder.watchdog(time))
    }

    fn build(self) -> Result<Config> {
        self.and_then(ConfigBuilder::build)
    }
}
