//! A configuration that is written in code.

use std::path::PathBuf;
use std::time::Duration;

use super::types::{Config, DEFAULT_NAME, LogLevel};
use crate::error::{Error, Result};

/// Builds a [`Config`] step by step, beginning with the defaults.
///
/// ```
/// use keepd::{Config, LogLevel};
/// use std::time::Duration;
///
/// # fn main() -> keepd::Result<()> {
/// let config = Config::builder()
///     .name("web")
///     .log_level(LogLevel::Debug)
///     .graceful(Duration::from_secs(30))
///     .worker_threads(4)
///     .build()?;
/// assert_eq!(config.shutdown_timeout(), Duration::from_secs(30));
/// assert_eq!(config.force_shutdown_timeout(), Duration::from_secs(35));
/// # Ok(())
/// # }
/// ```
// It is passed on at every step, so it is small: moving the configuration so often would take
// longer than all the rest.
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    /// Its name is empty until it is set, so that a default that is replaced is never allocated.
    config: Box<Config>,
    name_is_set: bool,
    force_is_set: bool,
    kill_is_set: bool,
    /// The graceful time was set by [`ConfigBuilder::graceful`], which moves the other two.
    is_moved: bool,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigBuilder {
    /// Returns a builder that begins with the defaults.
    #[inline]
    pub fn new() -> Self {
        Self {
            config: Box::new(Config::named(String::new())),
            name_is_set: false,
            force_is_set: false,
            kill_is_set: false,
            is_moved: false,
        }
    }

    /// Sets the name of the daemon.
    #[inline]
    pub fn name<S: Into<String>>(mut self, name: S) -> Self {
        self.config.name = name.into();
        self.name_is_set = true;
        self
    }

    /// Sets how much is logged.
    #[inline]
    pub const fn log_level(mut self, level: LogLevel) -> Self {
        self.config.logging.level = level;
        self
    }

    /// Sets whether lines of the log are JSON objects.
    #[inline]
    pub const fn json_logging(mut self, enabled: bool) -> Self {
        self.config.logging.json = enabled;
        self
    }

    /// Sets the file that the log is written to.
    pub fn log_file<P: Into<PathBuf>>(mut self, path: P) -> Self {
        self.config.logging.file = Some(path.into());
        self
    }

    /// Sets how long a shutdown may be graceful, and nothing else: the force time must be longer,
    /// and is 10 s unless it is set too. See [`ConfigBuilder::graceful`].
    ///
    /// # Errors
    ///
    /// A configuration error if the time is longer than `u64::MAX` milliseconds.
    #[inline]
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Result<Self> {
        self.config.shutdown.graceful = milliseconds("shutdown timeout", timeout)?;
        self.is_moved = false;
        Ok(self)
    }

    /// Sets when, counted from the request for shutdown, what still runs is aborted.
    ///
    /// # Errors
    ///
    /// A configuration error if the time is longer than `u64::MAX` milliseconds.
    #[inline]
    pub fn force_shutdown_timeout(mut self, timeout: Duration) -> Result<Self> {
        self.config.shutdown.force = milliseconds("force timeout", timeout)?;
        self.force_is_set = true;
        Ok(self)
    }

    /// Sets when, counted from the request for shutdown, the process ends in any case.
    ///
    /// # Errors
    ///
    /// A configuration error if the time is longer than `u64::MAX` milliseconds.
    #[inline]
    pub fn kill_timeout(mut self, timeout: Duration) -> Result<Self> {
        self.config.shutdown.kill = milliseconds("kill timeout", timeout)?;
        self.kill_is_set = true;
        Ok(self)
    }

    /// Sets all three times of the shutdown, each counted from the request. What is longer than
    /// `u64::MAX` milliseconds is cut to that.
    pub const fn timeouts(mut self, graceful: Duration, force: Duration, kill: Duration) -> Self {
        self.config.shutdown.graceful = saturating_milliseconds(graceful);
        self.config.shutdown.force = saturating_milliseconds(force);
        self.config.shutdown.kill = saturating_milliseconds(kill);
        self.force_is_set = true;
        self.kill_is_set = true;
        self.is_moved = false;
        self
    }

    /// Sets how long a shutdown may be graceful. The force and kill times are moved by the same
    /// distance if the new time is longer than the default one, unless they are set themselves.
    pub const fn graceful(mut self, timeout: Duration) -> Self {
        self.config.shutdown.graceful = saturating_milliseconds(timeout);
        self.is_moved = true;
        self
    }

    /// Sets the folder the daemon works in.
    pub fn work_dir<P: Into<PathBuf>>(mut self, folder: P) -> Self {
        self.config.work_dir = Some(folder.into());
        self
    }

    /// Sets the file that names the process and is locked while it runs.
    pub fn pid_file<P: Into<PathBuf>>(mut self, path: P) -> Self {
        self.config.pid_file = Some(path.into());
        self
    }

    /// Sets whether the configuration file is watched.
    #[inline]
    pub const fn hot_reload(mut self, enabled: bool) -> Self {
        self.config.hot_reload = enabled;
        self
    }

    /// Sets how many threads the runtime gets; 0 is one for each processor.
    #[inline]
    pub const fn worker_threads(mut self, threads: usize) -> Self {
        self.config.performance.worker_threads = threads;
        self
    }

    /// Sets whether numbers are collected.
    #[inline]
    pub const fn enable_metrics(mut self, enabled: bool) -> Self {
        self.config.monitoring.enable_metrics = enabled;
        self
    }

    /// Sets `performance.memory_pool_size`, which has no effect here.
    #[inline]
    pub const fn memory_pool_size(mut self, bytes: usize) -> Self {
        self.config.performance.memory_pool_size = bytes;
        self
    }

    /// Sets `performance.lock_free`, which has no effect here.
    #[inline]
    pub const fn lock_free(mut self, enabled: bool) -> Self {
        self.config.performance.lock_free = enabled;
        self
    }

    /// Sets whether subsystems are asked for their health.
    #[inline]
    pub const fn health_checks(mut self, enabled: bool) -> Self {
        self.config.monitoring.health_checks = enabled;
        self
    }

    /// Sets how often subsystems are asked for their health. What is longer than `u64::MAX`
    /// milliseconds is cut to that.
    #[inline]
    pub const fn health_check_interval(mut self, interval: Duration) -> Self {
        self.config.monitoring.health_check_interval_ms = saturating_milliseconds(interval);
        self
    }

    /// Sets how long the runtime may fail to answer: `monitoring.watchdog`. What is longer than
    /// `u64::MAX` milliseconds is cut to that.
    #[inline]
    pub const fn watchdog(mut self, time: Duration) -> Self {
        self.config.monitoring.watchdog = Some(saturating_milliseconds(time));
        self
    }

    /// Returns the configuration.
    ///
    /// # Errors
    ///
    /// What [`Config::validate`] says.
    #[inline]
    pub fn build(mut self) -> Result<Config> {
        if !self.name_is_set {
            self.config.name = DEFAULT_NAME.to_owned();
        }
        if self.is_moved {
            self.move_later_times();
        }
        self.config.validate()?;
        Ok(*self.config)
    }

    /// Moves the force and kill times as far as the graceful one was moved.
    fn move_later_times(&mut self) {
        let shutdown = &mut self.config.shutdown;
        let distance = shutdown.graceful.saturating_sub(crate::DEFAULT_SHUTDOWN_TIMEOUT_MS);
        if !self.force_is_set {
            shutdown.force = shutdown.force.saturating_add(distance);
        }
        if !self.kill_is_set {
            shutdown.kill = shutdown.kill.saturating_add(distance);
        }
    }
}

#[inline]
fn milliseconds(what: &str, duration: Duration) -> Result<u64> {
    u64::try_from(duration.as_millis()).map_err(|_| too_large(what))
}

#[cold]
#[inline(never)]
fn too_large(what: &str) -> Error {
    Error::config(format!("the {what} is too large: more than {} milliseconds", u64::MAX))
}

const fn saturating_milliseconds(duration: Duration) -> u64 {
    let milliseconds = duration.as_millis();
    if milliseconds > u64::MAX as u128 { u64::MAX } else { milliseconds as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(builder: ConfigBuilder) -> (u64, u64, u64) {
        let shutdown = builder.build().unwrap().shutdown;
        (shutdown.graceful, shutdown.force, shutdown.kill)
    }

    #[test]
    fn the_graceful_time_moves_the_others_unless_they_are_set() {
        let seconds = Duration::from_secs;
        let builder = ConfigBuilder::new;
        assert_eq!(times(builder().graceful(seconds(30))), (30_000, 35_000, 40_000));
        assert_eq!(times(builder().graceful(seconds(1))), (1000, 10_000, 15_000));
        let set = builder().graceful(seconds(30)).force_shutdown_timeout(seconds(31)).unwrap();
        assert_eq!(times(set), (30_000, 31_000, 40_000));
        let before = builder().kill_timeout(seconds(60)).unwrap().graceful(seconds(40));
        assert_eq!(times(before), (40_000, 45_000, 60_000));
        let all = builder().timeouts(seconds(1), seconds(2), seconds(3)).graceful(seconds(1));
        assert_eq!(times(all), (1000, 2000, 3000));
    }

    #[test]
    fn a_long_graceful_time_alone_is_refused_as_proc_daemon_does() {
        let error = ConfigBuilder::new()
            .shutdown_timeout(Duration::from_secs(30))
            .and_then(ConfigBuilder::build)
            .unwrap_err();
        let expected = "Force timeout must be greater than graceful timeout";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_time_that_does_not_fit_is_refused() {
        let error = ConfigBuilder::new().kill_timeout(Duration::MAX).unwrap_err();
        assert!(error.is_config_error());
        let text = error.to_string();
        assert!(text.contains("the kill timeout is too large"), "{text}");
    }

    #[test]
    fn nothing_set_is_the_default_and_what_is_set_stays_set() {
        assert_eq!(ConfigBuilder::new().build().unwrap(), Config::default());
        let config = ConfigBuilder::new()
            .log_level(LogLevel::Debug)
            .health_checks(false)
            .worker_threads(3)
            .health_check_interval(Duration::from_secs(7))
            .json_logging(true)
            .memory_pool_size(9)
            .hot_reload(true)
            .enable_metrics(false)
            .lock_free(false)
            .build()
            .unwrap();
        let mut expected = Config::default();
        expected.logging.level = LogLevel::Debug;
        expected.logging.json = true;
        expected.monitoring.health_checks = false;
        expected.monitoring.health_check_interval_ms = 7000;
        expected.monitoring.enable_metrics = false;
        expected.performance.worker_threads = 3;
        expected.performance.memory_pool_size = 9;
        expected.performance.lock_free = false;
        expected.hot_reload = true;
        assert_eq!(config, expected);
    }

    #[test]
    fn the_name_is_the_default_or_what_was_said() {
        assert_eq!(ConfigBuilder::new().build().unwrap().name, "proc-daemon");
        assert_eq!(ConfigBuilder::new().name("web").build().unwrap().name, "web");
        let error = ConfigBuilder::new().name("").build().unwrap_err();
        assert!(error.to_string().contains("Daemon name cannot be empty"), "{error}");
    }
}
