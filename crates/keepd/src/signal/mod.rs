//! Signals: which ones act ([`SignalConfig`]), and what they do to a coordinator.
//!
//! No handler is installed for a signal that is disabled: it keeps what it was set to before.

mod config;
#[cfg(feature = "tokio")]
mod handler;
#[cfg(any(test, feature = "tokio"))]
mod number;
#[cfg(feature = "tokio")]
pub(crate) mod source;

pub use config::{SignalConfig, SignalHandling, signal_description};
#[cfg(feature = "tokio")]
pub(crate) use handler::is_in_foreground;
#[cfg(feature = "tokio")]
pub use handler::{ConfigurableSignalHandler, SignalHandler};
#[cfg(any(test, feature = "tokio"))]
pub(crate) use number::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
