//! Signals: which ones act ([`SignalConfig`]), and what they do to a coordinator.
//!
//! No handler is installed for a signal that is disabled: it keeps what it was set to before.

mod config;
#[cfg(feature = "tokio")]
mod handler;
#[cfg(feature = "tokio")]
pub(crate) mod source;

pub use config::{SignalConfig, SignalHandling, signal_description};
#[cfg(feature = "tokio")]
pub(crate) use handler::is_in_foreground;
#[cfg(feature = "tokio")]
pub use handler::{ConfigurableSignalHandler, SignalHandler};

/// The numbers that are the same on every unix.
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGTERM: i32 = 15;

/// The numbers that are not.
pub(crate) const SIGUSR1: i32 = if cfg!(target_os = "linux") { 10 } else { 30 };
pub(crate) const SIGUSR2: i32 = if cfg!(target_os = "linux") { 12 } else { 31 };
