//! The signals of one configuration as a stream.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{SignalConfig, signal_description};
use crate::{Error, ErrorCode, Result};

/// Installed handlers, and what they have caught.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(i32, Signal)>,
}

impl Signals {
    /// Installs a handler for each enabled signal, inside a runtime.
    ///
    /// # Errors
    ///
    /// Fails (SignalRegisterFailed) for a number that cannot be caught.
    pub(crate) fn install(config: &SignalConfig) -> Result<Self> {
        let streams = config.enabled().into_iter().map(|number| {
            let stream = signal(SignalKind::from_raw(number)).map_err(|error| {
                let name = signal_description(number);
                let message = format!("cannot handle signal {number}, {name}: {error}");
                Error::signal_with_code(ErrorCode::SignalRegisterFailed, message)
            })?;
            Ok((number, stream))
        });
        Ok(Self { streams: streams.collect::<Result<_>>()? })
    }

    /// Waits for the next signal and returns its number. Signals of one number that come faster
    /// than they are read are one.
    pub(crate) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context) == Poll::Ready(Some(())) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
