//! The numbers of the signals that mean something to a daemon. See signal(7).

pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGTERM: i32 = 15;

/// These differ between systems.
pub(crate) const SIGUSR1: i32 = if cfg!(target_os = "linux") { 10 } else { 30 };
pub(crate) const SIGUSR2: i32 = if cfg!(target_os = "linux") { 12 } else { 31 };
