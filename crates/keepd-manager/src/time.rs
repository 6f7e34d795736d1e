//! Times for people: RFC 3339 in UTC with milliseconds, and durations in few characters.

use std::time::Duration;

use jiff::Timestamp;
use keepd_model::Instant;

/// Pairs the monotonic clock with the wall clock, to show when something happened.
///
/// The pair is read anew for each answer, so that a set wall clock is followed.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    monotonic: Instant,
    wall_ns: u64,
}

impl WallClock {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self::new(keepd_os::clock::monotonic_now(), keepd_os::clock::wall_now_ns())
    }

    /// Returns the pair of these times.
    pub const fn new(monotonic: Instant, wall_ns: u64) -> Self {
        Self { monotonic, wall_ns }
    }

    /// Returns the monotonic time of the pair.
    pub const fn now(&self) -> Instant {
        self.monotonic
    }

    /// Returns the nanoseconds since 1970 of a monotonic time, which may lie in the future.
    pub fn wall_ns(&self, at: Instant) -> u64 {
        let (at, now) = (at.as_nanos(), self.monotonic.as_nanos());
        if at > now {
            self.wall_ns.saturating_add(at - now)
        } else {
            self.wall_ns.saturating_sub(now - at)
        }
    }

    /// Returns a monotonic time as text.
    pub fn text(&self, at: Instant) -> String {
        timestamp(self.wall_ns(at))
    }
}

/// Returns nanoseconds since 1970 as `2026-11-21T07:02:55.123Z`.
pub fn timestamp(wall_ns: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Returns a duration in seconds, exact to a millisecond.
pub fn seconds(duration: Duration) -> f64 {
    let milliseconds = u32::try_from(duration.as_millis());
    milliseconds.map_or(duration.as_secs_f64(), |count| f64::from(count) / 1000.0)
}

/// Returns a duration as people read it: `340ms`, `1.2s`, `3m 12s`, `2h 5m`, `4d 3h`.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(1_795_244_575_123_999_999), "2026-11-21T07:02:55.123Z");
    }

    #[test]
    fn past_and_future_are_shown_by_the_wall_clock() {
        let clock = WallClock::new(Instant::from_nanos(5_000_000_000), 60_000_000_000);
        let at = |seconds: u64| clock.text(Instant::from_nanos(seconds * 1_000_000_000));
        assert_eq!(at(0), "1970-01-01T00:00:55.000Z");
        assert_eq!(at(7), "1970-01-01T00:01:02.000Z");
    }

    #[test]
    fn durations_are_short() {
        let text = |milliseconds| short(Duration::from_millis(milliseconds));
        assert_eq!(text(0), "0ms");
        assert_eq!(text(1_249), "1.2s");
        assert_eq!(text(59_999), "59.9s");
        assert_eq!(text(192_000), "3m 12s");
        assert_eq!(text(7_500_000), "2h 5m");
        assert_eq!(text(360_000_000), "4d 4h");
        assert_eq!(seconds(Duration::from_micros(1_234_567)), 1.234);
    }
}
