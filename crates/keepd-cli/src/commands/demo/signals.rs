//! Waiting for the signal that asks a service to end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use keepd_model::{Errno, Signal};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::SignalReader;

use crate::error::{CliError, ErrorKind};

/// What the signals have in the epoll set.
const SIGNALS: u64 = 0;

/// TERM and INT as something to wait for.
pub(super) struct Ending {
    signals: SignalReader,
    epoll: Epoll,
}

/// What there was to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The time is over.
    Timeout,
    /// Somebody asks us to end.
    End(Signal),
    /// The descriptor with this number, 1 or more, can be read.
    Readable(u64),
}

impl Ending {
    /// Begins to take these signals. Call it before the first thread is made.
    pub(super) fn new() -> Result<Self, CliError> {
        Self::open().map_err(|errno| cannot(&format!("cannot wait for signals: {errno}")))
    }

    fn open() -> Result<Self, Errno> {
        let signals = SignalReader::new(&[Signal::TERM, Signal::INT])?;
        let epoll = Epoll::new()?;
        epoll.add(&signals, SIGNALS, Interest::READ)?;
        Ok(Self { signals, epoll })
    }

    /// Waits for a descriptor, too.
    pub(super) fn watch(&self, descriptor: impl AsFd, number: u64) -> Result<(), CliError> {
        let added = self.epoll.add(descriptor, number, Interest::READ);
        added.map_err(|errno| cannot(&format!("cannot wait for connections: {errno}")))
    }

    /// Waits for as long as this; for ever with `None`.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Result<News, CliError> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut ready = Vec::new();
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let waited = self.epoll.wait(left, &mut ready);
            waited.map_err(|errno| cannot(&format!("cannot wait: {errno}")))?;
            for event in &ready {
                if event.token != SIGNALS {
                    continue;
                }
                let signals = self.signals.read();
                let signals =
                    signals.map_err(|errno| cannot(&format!("cannot read signals: {errno}")))?;
                if let Some((signal, _)) = signals.first() {
                    return Ok(News::End(*signal));
                }
            }
            if let Some(event) = ready.iter().find(|event| event.token != SIGNALS) {
                return Ok(News::Readable(event.token));
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(News::Timeout);
            }
        }
    }
}

fn cannot(message: &str) -> CliError {
    CliError::new(ErrorKind::System, message)
}
