//! The log of a daemon whose program has set none up.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::LogTarget;
use crate::{Config, Error, Result};

/// Sets the log up as the configuration says. A subscriber that the program has set is kept.
pub(super) fn set_up(config: &Config) -> Result<()> {
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let level = config.logging.level.as_str();
    // What an operator puts into the environment beats the file.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer(config)?)
        .with_ansi(config.is_colored_logging() && is_terminal(config));
    #[cfg(feature = "json-logs")]
    let set = if config.is_json_logging() {
        builder.json().try_init()
    } else {
        builder.compact().try_init()
    };
    #[cfg(not(feature = "json-logs"))]
    let set = builder.compact().try_init();
    if let Err(error) = set {
        // Somebody was faster: theirs is as good.
        tracing::debug!(%error, "The log was set up already.");
    }
    Ok(())
}

fn is_terminal(config: &Config) -> bool {
    match (config.logging.target, &config.logging.file) {
        (LogTarget::Stdout, None) => std::io::stdout().is_terminal(),
        (LogTarget::Stderr, _) => std::io::stderr().is_terminal(),
        _ => false,
    }
}

fn writer(config: &Config) -> Result<BoxMakeWriter> {
    let path = match (config.logging.target, &config.logging.file) {
        (LogTarget::Stderr, _) => return Ok(BoxMakeWriter::new(std::io::stderr)),
        (_, Some(path)) => path,
        (_, None) => return Ok(BoxMakeWriter::new(std::io::stdout)),
    };
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
        Error::io_with_source(format!("cannot open log file {path:?}: {error}"), error)
    })?;
    Ok(BoxMakeWriter::new(Mutex::new(file)))
}
