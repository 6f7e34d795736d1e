//! How a daemon is.

use std::time::Duration;

use crate::shutdown::ShutdownReason;
use crate::subsystem::SubsystemStats;

/// A picture of a daemon, taken by [`Daemon::get_stats`](crate::Daemon::get_stats).
///
/// ```
/// use keepd::{Config, Daemon};
///
/// let stats = Daemon::builder(Config::new()?).build()?.get_stats();
/// assert_eq!((stats.uptime, stats.is_shutdown, stats.total_restarts), (None, false, 0));
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DaemonStats {
    /// Its name.
    pub name: String,
    /// How long it runs; `None` before that.
    pub uptime: Option<Duration>,
    /// Whether a shutdown was asked for.
    pub is_shutdown: bool,
    /// Why.
    pub shutdown_reason: Option<ShutdownReason>,
    /// Its subsystems.
    pub subsystem_stats: SubsystemStats,
    /// How often any of them was started again.
    pub total_restarts: u64,
}
