//! Where lines go, which may change while the daemon runs.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing_subscriber::fmt::MakeWriter;

use super::file::LogFile;
use crate::config::{Config, LogTarget};
use crate::error::Result;

/// Where lines go. Clones share it.
#[derive(Clone)]
pub(super) struct Sink(Arc<Mutex<Output>>);

enum Output {
    Stdout,
    Stderr,
    File(LogFile),
}

impl Output {
    fn open(config: &Config) -> Result<Self> {
        match (config.logging.target, &config.logging.file) {
            (LogTarget::Stderr, _) => Ok(Self::Stderr),
            (LogTarget::Stdout | LogTarget::File, Some(path)) => {
                LogFile::open(&config.resolve(path), &config.logging).map(Self::File)
            }
            (LogTarget::Stdout | LogTarget::File, None) => Ok(Self::Stdout),
        }
    }
}

impl Sink {
    /// Returns a sink to standard output.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Output::Stdout)))
    }

    pub(super) fn apply(&self, config: &Config) -> Result<()> {
        let new = Output::open(config)?;
        *self.lock() = new;
        Ok(())
    }

    pub(super) fn reopen(&self) -> Result<()> {
        match &mut *self.lock() {
            Output::Stdout | Output::Stderr => Ok(()),
            Output::File(file) => file.reopen(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        // A panic while a line was written has harmed that line at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports whether a person reads the lines as they are written.
pub(super) fn is_terminal(config: &Config) -> bool {
    match (config.logging.target, &config.logging.file) {
        (LogTarget::Stderr, _) => io::stderr().is_terminal(),
        (LogTarget::Stdout, None) => io::stdout().is_terminal(),
        (LogTarget::Stdout | LogTarget::File, _) => false,
    }
}

/// Reports whether the journal of systemd reads the lines; systemd.exec(5), `JOURNAL_STREAM`.
pub(super) fn is_journal(config: &Config) -> bool {
    let status = match (config.logging.target, &config.logging.file) {
        (LogTarget::Stderr, _) => rustix::fs::fstat(io::stderr()),
        (LogTarget::Stdout, None) => rustix::fs::fstat(io::stdout()),
        (LogTarget::Stdout | LogTarget::File, _) => return false,
    };
    let (Ok(status), Ok(stream)) = (status, std::env::var("JOURNAL_STREAM")) else {
        return false;
    };
    stream == format!("{}:{}", status.st_dev, status.st_ino)
}

/// The lock of the sink, held while one line is written, so that lines do not mix.
pub(super) struct Line<'s>(MutexGuard<'s, Output>);

impl<'s> MakeWriter<'s> for Sink {
    type Writer = Line<'s>;

    fn make_writer(&'s self) -> Line<'s> {
        Line(self.lock())
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0 {
            Output::Stdout => io::stdout().write_all(line)?,
            Output::Stderr => io::stderr().write_all(line)?,
            Output::File(file) => file.write_line(line, unix_seconds()),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &*self.0 {
            Output::Stdout => io::stdout().flush(),
            Output::Stderr => io::stderr().flush(),
            // Nothing is kept back.
            Output::File(_) => Ok(()),
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
