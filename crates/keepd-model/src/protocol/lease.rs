//! What a controller allows the proxy to do without being asked.

use std::time::Duration;

use crate::ExpectedEnd;

/// Restarts that the proxy makes by itself (`service.lease`), one delay an end, until the list is
/// used up, the service is stopped or changed, or gets another lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    /// After which ends.
    pub after: LeaseAfter,
    /// OKLIST: ends that are a success, comma separated exit codes and names of signals, or `-`. No
    /// other end is one, not even exit code 0.
    pub successes: Vec<ExpectedEnd>,
    /// DELAY_MS…: from one end to the next start, one for each end. At most [`LEASE_DELAYS_MAX`].
    pub delays: Vec<Duration>,
}

/// After which ends a lease starts a service again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LeaseAfter {
    /// `any`.
    #[default]
    Any,
    /// `failure`: after an end that is not in the list of successes.
    Failure,
}

/// The most delays of a lease: as many as there is room for ends that nobody has acknowledged.
pub const LEASE_DELAYS_MAX: usize = 16;
