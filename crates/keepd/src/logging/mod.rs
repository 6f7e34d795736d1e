//! The log of a daemon, from its configuration.
//!
//! Start from [`init`]. A program that has a subscriber of its own keeps it: then [`init`] changes
//! nothing, and says so.

mod file;
mod sink;

use std::fmt;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::Config;
use crate::error::{Error, ErrorCode, Result};
use sink::Sink;

/// The log of this process, for what can change while it runs.
///
/// ```
/// use keepd::{Config, logging};
///
/// let log = logging::init(&Config::default())?;
/// // After somebody renamed the file, as logrotate(8) does.
/// log.reopen()?;
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone)]
pub struct Logging {
    /// None if the program has a subscriber of its own.
    own: Option<Own>,
}

#[derive(Clone)]
struct Own {
    sink: Sink,
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` was given, and beats the level of every configuration.
    is_fixed: bool,
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging").field("is_own", &self.is_own()).finish_non_exhaustive()
    }
}

/// Checks whether this build can log as it is configured.
///
/// # Errors
///
/// A configuration error that names the feature that is missing.
///
/// ```
/// use keepd::{Config, logging};
///
/// let config = Config::builder().json_logging(true).build()?;
/// assert_eq!(logging::check(&config).is_ok(), cfg!(feature = "json-logs"));
/// # Ok::<(), keepd::Error>(())
/// ```
pub fn check(config: &Config) -> Result<()> {
    if config.is_json_logging() && !cfg!(feature = "json-logs") {
        let text = "cannot log as JSON (logging.json = true): it needs the feature \"json-logs\" \
                    of keepd";
        return Err(Error::config_with_code(ErrorCode::ConfigMissing, text));
    }
    Ok(())
}

/// Begins to log as it is configured.
///
/// The variable `RUST_LOG` beats the level. Lines that nobody can be made to read are counted, and
/// the count is told when writing works again.
///
/// # Errors
///
/// What [`check`] says, and an input or output error if the file cannot be opened.
///
/// ```
/// use keepd::{Config, logging};
///
/// # fn main() -> keepd::Result<()> {
/// let log = logging::init(&Config::default())?;
/// assert!(log.is_own());
/// tracing::info!("the log is where the configuration says");
///
/// // Somebody has a subscriber now, so it stays.
/// assert!(!logging::init(&Config::default())?.is_own());
/// # Ok(())
/// # }
/// ```
pub fn init(config: &Config) -> Result<Logging> {
    check(config)?;
    let (filter, is_fixed) = filter(config, std::env::var("RUST_LOG").ok().as_deref());
    let (filter, handle) = reload::Layer::new(filter);
    let sink = Sink::new();
    let subscriber = Registry::default().with(filter);
    let is_set = if config.is_json_logging() {
        set_json(subscriber, &sink)
    } else {
        set_text(subscriber, &sink, config)
    };
    if !is_set {
        return Ok(Logging { own: None });
    }
    // Only now: a program that logs elsewhere has no use for the file.
    sink.apply(config)?;
    Ok(Logging { own: Some(Own { sink, filter: handle, is_fixed }) })
}

/// What the lines are written by.
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

fn set_text(subscriber: Filtered, sink: &Sink, config: &Config) -> bool {
    let is_colored = config.is_colored_logging() && sink::is_terminal(config);
    let layer =
        tracing_subscriber::fmt::layer().compact().with_ansi(is_colored).with_writer(sink.clone());
    if sink::is_journal(config) {
        // The journal has its own time for each line.
        return tracing::subscriber::set_global_default(subscriber.with(layer.without_time()))
            .is_ok();
    }
    tracing::subscriber::set_global_default(subscriber.with(layer)).is_ok()
}

#[cfg(feature = "json-logs")]
fn set_json(subscriber: Filtered, sink: &Sink) -> bool {
    // As proc-daemon has it, for whoever reads such lines with a program.
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_thread_ids(true)
        .with_thread_names(true)
        .with_writer(sink.clone());
    tracing::subscriber::set_global_default(subscriber.with(layer)).is_ok()
}

#[cfg(not(feature = "json-logs"))]
fn set_json(_subscriber: Filtered, _sink: &Sink) -> bool {
    // `check` refused it before.
    false
}

/// Returns the filter, and whether the environment has fixed it.
fn filter(config: &Config, variable: Option<&str>) -> (EnvFilter, bool) {
    let level = || EnvFilter::new(config.logging.level.as_str());
    match variable.filter(|text| !text.is_empty()) {
        None => (level(), false),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, true),
            Err(error) => {
                // There is no log yet that could say it.
                eprintln!("keepd: cannot read RUST_LOG, so logging.level is used: {error}");
                (level(), false)
            }
        },
    }
}

impl Logging {
    /// Returns whether the log is the one of this module, and not one that the program made.
    pub const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Opens the log file again, after somebody renamed it.
    ///
    /// # Errors
    ///
    /// An input or output error; then the old file is written on.
    pub fn reopen(&self) -> Result<()> {
        self.own.as_ref().map_or(Ok(()), |own| own.sink.reopen())
    }

    /// Takes what can change while the daemon runs: the level, the target, the file, its size and
    /// its rotation.
    ///
    /// # Errors
    ///
    /// An input or output error if the new file cannot be opened; then the old one is written on.
    pub fn apply(&self, config: &Config) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        if !own.is_fixed {
            // It fails only when the subscriber is gone, and that is the global one.
            let _ = own.filter.reload(EnvFilter::new(config.logging.level.as_str()));
        }
        own.sink.apply(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogLevel;

    #[test]
    fn the_variable_beats_the_level_of_the_file() {
        let mut config = Config::default();
        config.logging.level = LogLevel::Error;
        let text = |variable| {
            let (filter, is_fixed) = filter(&config, variable);
            (filter.to_string(), is_fixed)
        };
        assert_eq!(text(Some("debug")), ("debug".to_owned(), true));
        assert_eq!(text(None), ("error".to_owned(), false));
        assert_eq!(text(Some("")), ("error".to_owned(), false));
        assert_eq!(text(Some("a=b=c")), ("error".to_owned(), false));
    }

    #[test]
    fn json_needs_its_feature_and_says_so() {
        let mut config = Config::default();
        config.logging.json = true;
        let result = check(&config);
        if cfg!(feature = "json-logs") {
            result.unwrap();
        } else {
            let text = result.unwrap_err().to_string();
            assert!(text.contains("feature \"json-logs\""), "{text}");
        }
    }
}
