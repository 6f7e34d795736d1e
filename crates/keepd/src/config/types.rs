//! The structs of the configuration, with their defaults.
//!
//! Every struct accepts partial input: what is not given has its default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::builder::ConfigBuilder;
use super::text;
use crate::DEFAULT_SHUTDOWN_TIMEOUT_MS;
use crate::error::Result;

/// The name of a daemon that was given none; proc-daemon's, so that its programs keep their logs.
pub(super) const DEFAULT_NAME: &str = "proc-daemon";

/// The default of `performance.memory_pool_size`, in bytes.
pub(super) const MEMORY_POOL_SIZE: usize = 1_048_576;

/// How much is logged.
///
/// ```
/// use keepd::LogLevel;
///
/// assert_eq!(LogLevel::default(), LogLevel::Info);
/// assert_eq!(tracing::Level::from(LogLevel::Warn), tracing::Level::WARN);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What may become a fault.
    Warn,
    /// Faults only.
    Error,
}

impl LogLevel {
    /// Returns the word for it in files and variables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

/// Where the log goes, `logging.target`.
///
/// ```
/// use keepd::Config;
/// use keepd::config::LogTarget;
///
/// let mut config = Config::default();
/// config.logging.target = LogTarget::Stderr;
/// config.validate()?;
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogTarget {
    /// Standard output, or the file where `logging.file` names one.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// The file of `logging.file`, which must be given.
    File,
}

/// When a log file is replaced by a new one, `logging.rotate`.
///
/// ```
/// use keepd::config::{LogConfig, LogRotation};
///
/// assert_eq!(LogConfig::default().rotate, LogRotation::Size);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogRotation {
    /// Before the line that would pass `logging.max_file_size`.
    #[default]
    Size,
    /// At the first line of a day (UTC), and by size.
    Daily,
    /// At the first line of an hour (UTC), and by size.
    Hourly,
}

/// The table `[logging]`.
///
/// ```
/// use keepd::config::LogConfig;
///
/// let log = LogConfig::default();
/// assert_eq!((log.max_file_size, log.max_files), (Some(104_857_600), Some(5)));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// How much is logged. The variable `RUST_LOG` beats it.
    pub level: LogLevel,
    /// Each line is a JSON object. Needs the feature `json-logs`.
    pub json: bool,
    /// Colours, on a terminal. Ignored with `json`.
    pub color: bool,
    /// The file that is written instead of standard output.
    pub file: Option<PathBuf>,
    /// The size in bytes above which the file is replaced; none is no limit.
    #[serde(deserialize_with = "text::optional_size")]
    pub max_file_size: Option<u64>,
    /// How many replaced files are kept; 0 keeps none, and so does none.
    pub max_files: Option<u32>,
    /// Where lines go.
    pub target: LogTarget,
    /// When the file is replaced.
    pub rotate: LogRotation,
}

impl Default for LogConfig {
    #[inline]
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            json: false,
            color: true,
            file: None,
            max_file_size: Some(104_857_600),
            max_files: Some(5),
            target: LogTarget::Stdout,
            rotate: LogRotation::Size,
        }
    }
}

/// The table `[shutdown]`. All times are milliseconds from the request for shutdown, not from one
/// another, and grow: `graceful < force < kill`.
///
/// ```
/// use keepd::config::ShutdownConfig;
///
/// let times = ShutdownConfig::default();
/// assert_eq!((times.graceful, times.force, times.kill), (5_000, 10_000, 15_000));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownConfig {
    /// Until then, everything may end by itself.
    #[serde(alias = "timeout_ms", alias = "graceful_ms", deserialize_with = "text::milliseconds")]
    pub graceful: u64,
    /// At this time, what still runs is aborted.
    #[serde(
        alias = "force_timeout_ms",
        alias = "force_ms",
        deserialize_with = "text::milliseconds"
    )]
    pub force: u64,
    /// At this time, the process ends if it still runs.
    #[serde(alias = "kill_timeout_ms", alias = "kill_ms", deserialize_with = "text::milliseconds")]
    pub kill: u64,
    /// Whether `kill` ends the process; if not, it is an error of `run` only.
    pub enforce_kill: bool,
}

impl Default for ShutdownConfig {
    #[inline]
    fn default() -> Self {
        Self {
            graceful: DEFAULT_SHUTDOWN_TIMEOUT_MS,
            force: 10_000,
            kill: 15_000,
            enforce_kill: true,
        }
    }
}

/// The table `[performance]`.
///
/// ```
/// use keepd::Config;
///
/// let config = Config::builder().worker_threads(8).build()?;
/// assert_eq!(config.performance.worker_threads, 8);
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PerformanceConfig {
    /// Threads of the runtime that `Daemon::run_blocking` makes; 0 is one for each processor.
    pub worker_threads: usize,
    /// Each of these threads stays on one processor.
    pub thread_pinning: bool,
    /// Accepted for proc-daemon's files; has no effect. In bytes, not 0.
    #[serde(deserialize_with = "text::size")]
    pub memory_pool_size: usize,
    /// Accepted for proc-daemon's files; has no effect.
    pub numa_aware: bool,
    /// Accepted for proc-daemon's files; has no effect.
    pub lock_free: bool,
}

impl Default for PerformanceConfig {
    #[inline]
    fn default() -> Self {
        Self {
            worker_threads: 0,
            thread_pinning: false,
            memory_pool_size: MEMORY_POOL_SIZE,
            numa_aware: false,
            lock_free: true,
        }
    }
}

/// The table `[monitoring]`.
///
/// ```
/// use keepd::config::ConfigLoader;
///
/// let mut loader = ConfigLoader::new().set("monitoring.watchdog", "30s");
/// assert_eq!(loader.load()?.monitoring.watchdog, Some(30_000));
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitoringConfig {
    /// Numbers are collected (with the feature `metrics`).
    pub enable_metrics: bool,
    /// How often the process looks at itself, in milliseconds.
    #[serde(alias = "metrics_interval", deserialize_with = "text::milliseconds")]
    pub metrics_interval_ms: u64,
    /// Memory, processor time and threads of the process are collected.
    pub track_resources: bool,
    /// Subsystems are asked for their health.
    pub health_checks: bool,
    /// How often they are asked, in milliseconds.
    #[serde(alias = "health_check_interval", deserialize_with = "text::milliseconds")]
    pub health_check_interval_ms: u64,
    /// How many bad answers in a row are a failure.
    pub health_failures: u32,
    /// For how long, in milliseconds, the runtime may fail to answer: then the log says so and,
    /// where a shutdown may end the process (`shutdown.enforce_kill`), it ends with status 111.
    /// None is no watchdog of our own; that of a supervisor is fed in any case.
    #[serde(alias = "watchdog_ms", deserialize_with = "text::optional_milliseconds")]
    pub watchdog: Option<u64>,
}

impl Default for MonitoringConfig {
    #[inline]
    fn default() -> Self {
        Self {
            enable_metrics: true,
            metrics_interval_ms: 1000,
            track_resources: true,
            health_checks: true,
            health_check_interval_ms: 5000,
            health_failures: 3,
            watchdog: None,
        }
    }
}

/// After which ends a subsystem is started again, `restart.NAME.when`.
///
/// ```
/// use keepd::restart::{Restart, RestartWhen};
///
/// assert_eq!(Restart::always().when(), RestartWhen::Always);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartWhen {
    /// After none.
    Never,
    /// After an error, a panic, or when it is unhealthy.
    #[default]
    Failure,
    /// After every end.
    Always,
}

/// A table `[restart.NAME]`: the restarts of the subsystem NAME, instead of those of its code.
///
/// ```
/// use keepd::config::ConfigLoader;
///
/// // In a file: [restart.web] attempts = 5, window = "10m"
/// let loader = ConfigLoader::new().set("restart.web.attempts", "5");
/// let mut loader = loader.set("restart.web.window", "10m");
/// let config = loader.load()?;
/// assert_eq!(config.restart["web"].window, Some(600_000));
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartConfig {
    /// After which ends.
    pub when: RestartWhen,
    /// Before the first restart in a row, in milliseconds.
    #[serde(alias = "delay_ms", deserialize_with = "text::milliseconds")]
    pub delay: u64,
    /// The longest delay, in milliseconds.
    #[serde(alias = "max_delay_ms", deserialize_with = "text::milliseconds")]
    pub max_delay: u64,
    /// How many restarts in a row are made before it is given up; none is no limit.
    pub attempts: Option<u32>,
    /// Counts `attempts` within so many milliseconds instead of in a row.
    #[serde(alias = "window_ms", deserialize_with = "text::optional_milliseconds")]
    pub window: Option<u64>,
    /// Only ends with these exit codes are followed; none is any.
    pub codes: Option<Vec<u8>>,
    /// A run that lasted so long, in milliseconds, begins a new row. None is the longer of 10 s and
    /// `max_delay`.
    #[serde(alias = "reset_after_ms", deserialize_with = "text::optional_milliseconds")]
    pub reset_after: Option<u64>,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            when: RestartWhen::Failure,
            delay: 100,
            max_delay: 10_000,
            attempts: None,
            window: None,
            codes: None,
            reset_after: None,
        }
    }
}

/// The whole configuration of a daemon.
///
/// ```
/// use keepd::Config;
/// use std::time::Duration;
///
/// let mut config = Config::default();
/// config.shutdown.graceful = 2000;
/// assert_eq!(config.shutdown_timeout(), Duration::from_secs(2));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The name of the daemon, in logs and messages.
    pub name: String,
    /// The log.
    pub logging: LogConfig,
    /// How the daemon ends.
    pub shutdown: ShutdownConfig,
    /// The runtime.
    pub performance: PerformanceConfig,
    /// Numbers and health.
    pub monitoring: MonitoringConfig,
    /// The folder the daemon works in; relative paths of the configuration begin there.
    pub work_dir: Option<PathBuf>,
    /// The file that names the process and is locked while it runs.
    pub pid_file: Option<PathBuf>,
    /// The configuration file is watched, and read again when it changes.
    pub hot_reload: bool,
    /// Restarts by the name of the subsystem.
    pub restart: BTreeMap<String, RestartConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self::named(DEFAULT_NAME.to_owned())
    }
}

impl Config {
    /// Returns the defaults with a name; nothing else is allocated.
    #[inline]
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            logging: LogConfig::default(),
            shutdown: ShutdownConfig::default(),
            performance: PerformanceConfig::default(),
            monitoring: MonitoringConfig::default(),
            work_dir: None,
            pid_file: None,
            hot_reload: false,
            restart: BTreeMap::new(),
        }
    }

    /// Returns the defaults. No file and no variable is read.
    ///
    /// # Errors
    ///
    /// None; the signature is proc-daemon's.
    pub fn new() -> Result<Self> {
        Ok(Self::default())
    }

    /// Returns a builder that begins with the defaults.
    #[inline]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::new()
    }

    /// Returns how long a shutdown may be graceful.
    pub const fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown.graceful)
    }

    /// Returns when, counted from the request for shutdown, what still runs is aborted.
    pub const fn force_shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown.force)
    }

    /// Returns when, counted from the request for shutdown, the process ends in any case.
    pub const fn kill_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown.kill)
    }

    /// Returns how often the process looks at itself.
    pub const fn metrics_interval(&self) -> Duration {
        Duration::from_millis(self.monitoring.metrics_interval_ms)
    }

    /// Returns how often subsystems are asked for their health.
    pub const fn health_check_interval(&self) -> Duration {
        Duration::from_millis(self.monitoring.health_check_interval_ms)
    }

    /// Returns how many threads the runtime gets: what is configured or, for 0, as many as there
    /// are processors for this process (4 if that is not known).
    pub fn worker_threads(&self) -> usize {
        match self.performance.worker_threads {
            0 => std::thread::available_parallelism().map_or(4, std::num::NonZero::get),
            threads => threads,
        }
    }

    /// Returns whether lines of the log are JSON objects.
    pub const fn is_json_logging(&self) -> bool {
        self.logging.json
    }

    /// Returns whether lines of the log have colours; JSON has none.
    pub const fn is_colored_logging(&self) -> bool {
        self.logging.color && !self.logging.json
    }
}
