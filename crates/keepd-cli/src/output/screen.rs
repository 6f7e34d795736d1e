//! Standard output: buffered, and its end is no error of ours.

use std::io::{self, BufWriter, Stdout, Write};

use crate::error::CliError;

/// Standard output with a buffer. What is not flushed may not be seen.
#[derive(Debug)]
pub(crate) struct Screen {
    writer: BufWriter<Stdout>,
}

impl Screen {
    /// Returns standard output.
    pub(crate) fn stdout() -> Self {
        Self { writer: BufWriter::new(io::stdout()) }
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.writer.write_all(bytes).map_err(|error| CliError::output(&error))
    }

    /// Makes everything visible.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(|error| CliError::output(&error))
    }
}
