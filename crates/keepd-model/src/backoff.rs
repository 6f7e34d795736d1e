//! The restart arithmetic: how long to wait before a start that follows an end.
//!
//! `count` counts the ends since the service last was ready (and not unhealthy) for the reset time.
//! The first end of a run that was ready is answered at once; the first end of a run that never was
//! ready counts as a second one. From then on the delay is `initial * factor^(count - 2)`, at most
//! `max`, and jitter takes away up to its share.

use std::time::Duration;

/// The parameters of the delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// Growth from one delay to the next, 1 or more.
    pub factor: f64,
    /// The delay is taken from `[delay * (1 - jitter), delay]`; 0 to 1.
    pub jitter: f64,
    /// A run that was ready for this long starts the count again.
    pub reset: Duration,
}

impl Default for Backoff {
    /// 500 ms, 30 s, 2.0, 0.2, 60 s.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.2,
            reset: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// Returns the count after one more end: `previous` is the count before it.
    pub fn count_end(previous: u32, was_ready: bool) -> u32 {
        match (previous, was_ready) {
            (0, true) => 1,
            (0, false) => 2,
            (count, _) => count.saturating_add(1),
        }
    }

    /// Returns the delay for this count, before jitter.
    pub fn delay(&self, count: u32) -> Duration {
        if count < 2 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(count - 2).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.powi(exponent);
        // A growing product may pass every bound; the comparison also catches infinity and NaN.
        if seconds < self.max.as_secs_f64() { Duration::from_secs_f64(seconds) } else { self.max }
    }

    /// Returns the delay for this count with jitter; `random` is uniform in 0.0 to 1.0.
    pub fn delay_with_jitter(&self, count: u32, random: f64) -> Duration {
        self.delay(count).mul_f64(1.0 - self.jitter * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &Backoff, counts: std::ops::Range<u32>) -> Vec<u128> {
        counts.map(|count| backoff.delay(count).as_millis()).collect()
    }

    #[test]
    fn the_first_end_of_a_ready_run_is_free() {
        assert_eq!(Backoff::count_end(0, true), 1);
        assert_eq!(Backoff::count_end(0, false), 2);
        assert_eq!(Backoff::count_end(1, true), 2);
        assert_eq!(Backoff::count_end(u32::MAX, false), u32::MAX);
    }

    #[test]
    fn delays_grow_to_the_longest() {
        let backoff = Backoff::default();
        assert_eq!(millis(&backoff, 0..5), [0, 0, 500, 1000, 2000]);
        assert_eq!(backoff.delay(9), Duration::from_secs(30));
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_only_shortens() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay_with_jitter(2, 0.0), Duration::from_millis(500));
        assert_eq!(backoff.delay_with_jitter(2, 1.0), Duration::from_millis(400));
    }
}
