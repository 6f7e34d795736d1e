//! What is read, and what comes of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, Instant, ServiceName};

/// The longest piece that is given as one line. What is longer comes in several pieces, all but the
/// last of them partial.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Where the log of a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLog {
    /// The service.
    pub name: ServiceName,
    /// The folder of `out.log`, `err.log` and `index`.
    pub dir: PathBuf,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Whose.
    pub service: ServiceName,
    /// Which stream.
    pub stream: Stream,
    /// When its first byte was read from the service, and by which run it was written. That of the
    /// neighbouring record where its own is damaged; `None` where there is no record at all.
    pub stamp: Option<Stamp>,
    /// The line without its line feed.
    pub bytes: Vec<u8>,
    /// There was no line feed: the run ended, the line is longer than [`LINE_BYTES_MAX`], or the
    /// rest is not written yet.
    pub partial: bool,
}

/// What the index says about a byte of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Wall time in nanoseconds since 1970.
    pub wall_ns: u64,
    /// Monotonic time, of the boot in which it was written.
    pub monotonic: Instant,
    /// The run.
    pub generation: Generation,
}

/// A log that cannot be read. The logs of other services can.
#[derive(Debug)]
pub struct Unread {
    /// Whose.
    pub service: ServiceName,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cannot read log \"{}\" of service \"{}\"",
            self.path.display(),
            self.service
        )
    }
}

impl std::error::Error for Unread {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
