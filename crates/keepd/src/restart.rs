//! When a subsystem that ended is started again, and after how long.
//!
//! Pure: the end, the length of the run and a random number come in, a decision comes out. The
//! delays themselves are the arithmetic of [`keepd_model::backoff`].
#![cfg_attr(
    all(not(feature = "tokio"), not(test)),
    expect(dead_code, reason = "only the managers of subsystems use all of it")
)]

use std::time::Duration;

use keepd_model::backoff::Backoff;

use crate::config::RestartConfig;
pub use crate::config::RestartWhen;
use crate::subsystem::RestartPolicy;

/// A run of at least this long counts as a good one, whatever the delays are.
const RESET_AFTER_MIN: Duration = Duration::from_secs(10);

/// When a subsystem is started again, after how long, and how often.
///
/// The richer form behind [`RestartPolicy`], for [`Subsystem::restart`](crate::Subsystem::restart).
///
/// ```
/// use std::time::Duration;
/// use keepd::restart::Restart;
///
/// let restart = Restart::on_failure()
///     .backoff(Duration::from_millis(100), Duration::from_secs(30))
///     .attempts(5);
/// assert_eq!(restart.delay(1), Duration::from_millis(100));
/// assert_eq!(restart.delay(3), Duration::from_millis(400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    when: RestartWhen,
    first_at_once: bool,
    initial: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    attempts: Option<u32>,
    reset_after: Option<Duration>,
}

impl Default for Restart {
    /// [`Restart::never`].
    fn default() -> Self {
        Self::never()
    }
}

impl Restart {
    /// Returns the rule that starts nothing again.
    pub const fn never() -> Self {
        Self {
            when: RestartWhen::Never,
            first_at_once: true,
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
            factor: 2.0,
            jitter: 0.0,
            attempts: None,
            reset_after: None,
        }
    }

    /// Returns the rule that follows every failure with another start: the first at once, the next
    /// after 100 ms, 200 ms and so on to 10 s, without an end.
    pub const fn on_failure() -> Self {
        let mut restart = Self::never();
        restart.when = RestartWhen::Failure;
        restart
    }

    /// Returns the rule that follows every end with another start, with the delays of
    /// [`Restart::on_failure`].
    pub const fn always() -> Self {
        let mut restart = Self::never();
        restart.when = RestartWhen::Always;
        restart
    }

    /// Sets the delay of the first restart in a row and the longest delay. Each delay is
    /// [`factor`](Self::factor) times the one before.
    #[must_use]
    pub const fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.first_at_once = false;
        self.initial = initial;
        self.max = max;
        self
    }

    /// Sets the growth from one delay to the next; less than 1 counts as 1. Default 2.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor.max(1.0);
        self
    }

    /// Sets the share of a delay that chance may take away, 0 to 1. Default 0.
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter.clamp(0.0, 1.0);
        self
    }

    /// Sets how many restarts in a row there may be; the end after that is final. Default: any
    /// number.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Sets how long a run has to last so that the restarts before it are forgotten. Default: the
    /// larger of 10 s and the longest delay.
    #[must_use]
    pub const fn reset_after(mut self, duration: Duration) -> Self {
        self.reset_after = Some(duration);
        self
    }

    /// Returns which ends are followed by another start.
    pub const fn when(&self) -> RestartWhen {
        self.when
    }

    /// Returns the delay before restart number `row` in a row, from 1, before jitter.
    pub fn delay(&self, row: u32) -> Duration {
        let count = if self.first_at_once { row } else { row.saturating_add(1) };
        self.arithmetic().delay(count)
    }

    /// Returns the delay that proc-daemon shows for a restart by hand: `initial * 2^count`, at most
    /// the longest delay; zero for the rules without a delay of their own.
    pub(crate) fn delay_by_hand(&self, count: u32) -> Duration {
        if self.first_at_once {
            return Duration::ZERO;
        }
        self.arithmetic().delay(count.saturating_add(2))
    }

    /// Decides what follows an end. `row` is the number of restarts in a row before this run.
    pub(crate) fn decide(&self, row: u32, failed: bool, ran: Duration, random: f64) -> Decision {
        let wanted = match self.when {
            RestartWhen::Never => false,
            RestartWhen::Failure => failed,
            RestartWhen::Always => true,
        };
        if !wanted {
            return Decision::Stay;
        }
        let reset_after = self.reset_after.unwrap_or(self.max.max(RESET_AFTER_MIN));
        let row = if ran >= reset_after { 1 } else { row.saturating_add(1) };
        if self.attempts.is_some_and(|attempts| row > attempts) {
            return Decision::GiveUp;
        }
        let delay = self.delay(row).mul_f64(1.0 - self.jitter * random.clamp(0.0, 1.0));
        Decision::Restart { row, delay }
    }

    fn arithmetic(&self) -> Backoff {
        Backoff {
            initial: self.initial,
            max: self.max,
            factor: self.factor,
            jitter: self.jitter,
            reset: Duration::ZERO,
        }
    }
}

impl From<RestartPolicy> for Restart {
    fn from(policy: RestartPolicy) -> Self {
        match policy {
            RestartPolicy::Never => Self::never(),
            RestartPolicy::Always => Self::always(),
            RestartPolicy::OnFailure => Self::on_failure(),
            RestartPolicy::ExponentialBackoff { initial_delay, max_delay, max_attempts } => {
                Self::on_failure().backoff(initial_delay, max_delay).attempts(max_attempts)
            }
        }
    }
}

impl From<&RestartConfig> for Restart {
    fn from(config: &RestartConfig) -> Self {
        let mut restart = Self::never()
            .backoff(Duration::from_millis(config.delay), Duration::from_millis(config.max_delay));
        restart.when = config.when;
        restart.attempts = config.attempts;
        restart.reset_after = config.reset_after.map(Duration::from_millis);
        restart
    }
}

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Nothing: the rule does not want this end answered.
    Stay,
    /// Nothing any more: there were too many restarts in a row.
    GiveUp,
    /// Another start after `delay`, restart number `row` in a row.
    Restart {
        /// The count, from 1.
        row: u32,
        /// How long to wait before it.
        delay: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    /// Returns the delays in milliseconds of ends one after the other, until the rule gives up.
    fn delays(restart: Restart, ends_max: usize) -> Vec<u128> {
        let mut row = 0;
        let mut delays = Vec::new();
        while delays.len() < ends_max
            && let Decision::Restart { row: next, delay } = restart.decide(row, true, SHORT, 0.0)
        {
            row = next;
            delays.push(delay.as_millis());
        }
        delays
    }

    #[test]
    fn each_policy_answers_its_ends() {
        let table = [
            (RestartPolicy::Never, false, false),
            (RestartPolicy::OnFailure, false, true),
            (RestartPolicy::Always, true, true),
        ];
        for (policy, after_ok, after_failure) in table {
            let restarts = |failed| {
                let decision = Restart::from(policy).decide(0, failed, SHORT, 0.0);
                matches!(decision, Decision::Restart { .. })
            };
            assert_eq!((restarts(false), restarts(true)), (after_ok, after_failure), "{policy:?}");
        }
    }

    #[test]
    fn on_failure_is_at_once_and_then_slower_to_ten_seconds() {
        let expected = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(delays(Restart::on_failure(), 10), expected);
    }

    #[test]
    fn exponential_backoff_gives_up_after_its_attempts() {
        let policy = RestartPolicy::ExponentialBackoff {
            initial_delay: Duration::from_millis(50),
            max_delay: Duration::from_millis(400),
            max_attempts: 5,
        };
        assert_eq!(delays(policy.into(), 100), [50, 100, 200, 400, 400]);
    }

    #[test]
    fn a_long_run_starts_the_row_again() {
        let restart = Restart::from(RestartPolicy::ExponentialBackoff {
            initial_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(30),
            max_attempts: 5,
        });
        let after = |ran| restart.decide(5, true, ran, 0.0);
        assert_eq!(after(Duration::from_secs(29)), Decision::GiveUp);
        let first = Decision::Restart { row: 1, delay: Duration::from_millis(50) };
        assert_eq!(after(Duration::from_secs(30)), first);
        let short = restart.backoff(SHORT, SHORT).decide(5, true, Duration::from_secs(9), 0.0);
        assert_eq!(short, Decision::GiveUp, "10 s at least");
    }

    #[test]
    fn by_hand_the_first_delay_is_doubled_as_it_always_was() {
        let restart = Restart::on_failure().backoff(Duration::from_millis(50), SHORT * 150);
        assert_eq!(restart.delay_by_hand(1), Duration::from_millis(100));
        assert_eq!(restart.delay_by_hand(2), Duration::from_millis(150));
        assert_eq!(Restart::on_failure().delay_by_hand(9), Duration::ZERO);
    }

    #[test]
    fn jitter_only_shortens() {
        let restart = Restart::always().backoff(SHORT * 100, SHORT * 100).jitter(0.5);
        let delay = |random| match restart.decide(0, false, SHORT, random) {
            Decision::Restart { delay, .. } => delay,
            Decision::Stay | Decision::GiveUp => panic!("no restart"),
        };
        assert_eq!((delay(0.0), delay(1.0)), (SHORT * 100, SHORT * 50));
    }
}
