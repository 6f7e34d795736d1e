//! The clocks: monotonic for every decision, wall time for display only.

use keepd_model::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `clock_gettime(CLOCK_MONOTONIC)`: returns the time since boot, without the time spent suspended.
///
/// See clock_gettime(2).
pub fn monotonic_now() -> Instant {
    Instant::from_nanos(nanoseconds(ClockId::Monotonic))
}

/// `clock_gettime(CLOCK_REALTIME)`: returns the nanoseconds since 1970-01-01 00:00 UTC.
///
/// It jumps when somebody sets the clock, so nothing may be decided by it. See clock_gettime(2).
pub fn wall_now_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
