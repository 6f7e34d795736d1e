//! The clocks: monotonic for every decision, wall time for display only.

use std::time::Duration;

use keepd_model::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `clock_gettime(CLOCK_MONOTONIC)`: returns the time since boot, without the time spent suspended.
///
/// See clock_gettime(2).
pub fn monotonic_now() -> Instant {
    Instant::from_nanos(nanoseconds(ClockId::Monotonic))
}

/// `clock_gettime(CLOCK_BOOTTIME)`: returns the time since boot, with the time spent suspended: the
/// clock of start times in /proc.
///
/// Only for distances to what that clock has stamped. See clock_gettime(2), proc_pid_stat(5).
pub fn boottime_now() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::Boottime))
}

/// Returns when something happened by the monotonic clock, of which `/proc/PID/stat` says the clock
/// ticks since boot (`start_ticks`). As exact as a tick, without the time that was spent suspended
/// since; never before the clock began.
pub fn monotonic_of_ticks(ticks: u64) -> Instant {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(per_second);
    let at = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    let age = boottime_now().saturating_sub(at);
    let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(monotonic_now().as_nanos().saturating_sub(age_ns))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proc, process};

    #[test]
    fn start_times_are_told_by_the_monotonic_clock() {
        let ticks = proc::start_ticks(process::id()).unwrap();
        let started = monotonic_of_ticks(ticks);
        let age = monotonic_now().saturating_since(started);
        // This test process is older than nothing, and younger than the machine.
        assert!(started.as_nanos() > 0 && age < boottime_now(), "{age:?}");
        assert!(monotonic_of_ticks(u64::MAX) <= monotonic_now(), "nothing starts in the future");
    }
}
