//! With which code a program ends.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use super::{Error, Result, Source};

impl Error {
    /// Returns the exit code with which a program should end: what
    /// [`with_exit_code`](Self::with_exit_code) said; else 100 if the caller is to blame (the
    /// configuration) and 111 if not, as the programs of s6 and keepd do.
    ///
    /// ```
    /// use keepd::Error;
    ///
    /// assert_eq!(Error::config("no port is set").exit_code(), 100);
    /// assert_eq!(Error::runtime("the disk is full").exit_code(), 111);
    /// ```
    pub fn exit_code(&self) -> u8 {
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            if let Some(given) = error.downcast_ref::<WithExitCode>() {
                return given.code;
            }
            cause = error.source();
        }
        match self {
            Self::Config { .. } => 100,
            Self::Signal { .. }
            | Self::Shutdown { .. }
            | Self::Subsystem { .. }
            | Self::Io { .. }
            | Self::ResourceExhausted { .. }
            | Self::Timeout { .. }
            | Self::InvalidState { .. }
            | Self::Platform { .. }
            | Self::Runtime { .. } => 111,
        }
    }

    /// Says with which exit code a program should end, and what
    /// [`Restart::codes`](crate::restart::Restart::codes) goes by.
    ///
    /// ```
    /// use keepd::Error;
    ///
    /// // EX_TEMPFAIL of sysexits.h(3).
    /// let error = Error::runtime("the queue is full").with_exit_code(75);
    /// assert_eq!(error.exit_code(), 75);
    /// ```
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        let source = self.source_mut();
        *source = Some(Box::new(WithExitCode { code, cause: source.take() }));
        self
    }

    /// Returns the exit code for what a program came to, and says on standard error what went
    /// wrong: for the end of `main`.
    ///
    /// ```no_run
    /// use keepd::{Config, Daemon, Error};
    ///
    /// fn main() -> std::process::ExitCode {
    ///     Error::exit(run())
    /// }
    ///
    /// fn run() -> keepd::Result<()> {
    ///     Daemon::builder(Config::load()?).build()?.run_blocking()
    /// }
    /// ```
    pub fn exit(result: Result<()>) -> ExitCode {
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                error.exit_code().into()
            }
        }
    }
}

/// An exit code travels inside the source, because the variants are interface.
#[derive(Debug)]
pub(super) struct WithExitCode {
    code: u8,
    pub(super) cause: Option<Source>,
}

impl fmt::Display for WithExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => cause.fmt(f),
            None => write!(f, "exit code {}", self.code),
        }
    }
}

impl StdError for WithExitCode {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
