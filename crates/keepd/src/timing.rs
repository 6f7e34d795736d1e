//! A clock that is cheap to read.

use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::Duration;

static CLOCK: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

/// A moment of this clock.
///
/// ```
/// use keepd::timing;
///
/// let before = timing::now();
/// let after = timing::now();
/// assert_eq!(after - before, after.duration_since(before));
/// assert_eq!(before.duration_since(after), std::time::Duration::ZERO);
/// assert!(before.elapsed() >= after - before);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(quanta::Instant);

/// Returns the present moment. The first call calibrates the clock, which takes a while.
///
/// ```
/// use keepd::timing;
///
/// let begun = timing::now();
/// assert!(timing::now().duration_since(begun).as_secs() < 3600);
/// ```
#[inline]
pub fn now() -> Instant {
    Instant(CLOCK.now())
}

impl Instant {
    /// Returns the present moment, as [`now`] does.
    #[inline]
    pub fn now() -> Self {
        now()
    }

    /// Returns the time since an earlier moment; 0 if that was later.
    #[inline]
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the time since this moment.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        now().duration_since(*self)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0 - time)
    }
}
