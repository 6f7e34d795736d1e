//! How far a shutdown has come.

use std::time::{Duration, Instant};

use super::{ShutdownReason, clock};

/// A picture of a shutdown, taken by
/// [`ShutdownCoordinator::get_stats`](super::ShutdownCoordinator::get_stats).
///
/// ```
/// use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
///
/// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
/// let web = coordinator.create_handle("web");
/// let store = coordinator.create_handle("store");
/// coordinator.initiate_shutdown(ShutdownReason::Requested);
/// web.ready();
/// assert_eq!(coordinator.get_stats().progress(), 0.5);
/// # drop(store);
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownStats {
    /// Whether a shutdown was asked for.
    pub is_shutdown: bool,
    /// The first reason that was given.
    pub reason: Option<ShutdownReason>,
    /// When it was asked for.
    pub shutdown_time: Option<Instant>,
    /// How many take part.
    pub total_subsystems: usize,
    /// How many of them are done.
    pub ready_subsystems: usize,
    /// Each one's name, and whether it is done.
    pub subsystem_states: Vec<(String, bool)>,
}

impl ShutdownStats {
    /// Returns the share of those that are done, from 0 to 1; 1 where nobody takes part.
    pub fn progress(&self) -> f64 {
        if self.total_subsystems == 0 {
            return 1.0;
        }
        self.ready_subsystems as f64 / self.total_subsystems as f64
    }

    /// Reports whether all are done; false where nobody takes part.
    pub const fn is_complete(&self) -> bool {
        self.total_subsystems > 0 && self.ready_subsystems == self.total_subsystems
    }

    /// Returns how long ago the shutdown was asked for.
    pub fn elapsed(&self) -> Option<Duration> {
        self.shutdown_time.map(|begun| clock::now().saturating_duration_since(begun))
    }
}
