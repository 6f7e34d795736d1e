//! The signals that end a verb which would go on for ever.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{CliError, ErrorKind};

/// INT and TERM.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupted: Signal,
    terminated: Signal,
}

impl Interrupts {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let listen = |kind: SignalKind| {
            signal(kind).map_err(|error| {
                CliError::because(ErrorKind::System, "cannot wait for signals", &error)
            })
        };
        let interrupted = listen(SignalKind::interrupt())?;
        let terminated = listen(SignalKind::terminate())?;
        Ok(Self { interrupted, terminated })
    }

    /// Returns when one of them has come.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
    }
}
