//! When a subsystem that ended is started again, and after how long.
//!
//! Pure: the end, the length of the run and a random number come in, a decision comes out. The
//! delays themselves are the arithmetic of [`keepd_model::backoff`].
#![cfg_attr(
    all(not(feature = "tokio"), not(test)),
    expect(dead_code, reason = "only the managers of subsystems use all of it")
)]

use std::time::Duration;

use keepd_model::Instant;
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
    window: Option<Duration>,
    reset_after: Option<Duration>,
    codes: Option<Codes>,
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
            window: None,
            reset_after: None,
            codes: None,
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

    /// Counts the [`attempts`](Self::attempts) within so much time instead of in a row: a subsystem
    /// that fails now and then goes on, one that fails too often is given up, however long its runs
    /// are. A window begins with the first restart after the one before is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// use keepd::restart::Restart;
    ///
    /// // At most 5 restarts in 10 minutes.
    /// let restart = Restart::on_failure().attempts(5).window(Duration::from_secs(600));
    /// # assert_ne!(restart, Restart::on_failure().attempts(5));
    /// ```
    #[must_use]
    pub const fn window(mut self, duration: Duration) -> Self {
        self.window = Some(duration);
        self
    }

    /// Narrows the rule to ends with these exit codes. The code of a task that ends well is 0, of
    /// one that returns an error [`Error::exit_code`](crate::Error::exit_code), of a panic 101. An
    /// end that has none, such as that of an unhealthy subsystem, is a failure like any other.
    ///
    /// ```
    /// use keepd::restart::Restart;
    ///
    /// // 100 is an error of the configuration, which another start does not mend.
    /// let restart = Restart::on_failure().codes(&[101, 111]);
    /// # assert_ne!(restart, Restart::on_failure());
    /// ```
    #[must_use]
    pub const fn codes(mut self, codes: &[u8]) -> Self {
        self.codes = Some(Codes::new(codes));
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

    /// Decides what follows an end. `past` is what the restarts before this run were.
    pub(crate) fn decide(&self, past: Past, run: Ran, random: f64) -> Decision {
        let Ran { outcome, lasted, ended } = run;
        let wanted = match self.when {
            RestartWhen::Never => false,
            RestartWhen::Failure => outcome.failed,
            RestartWhen::Always => true,
        };
        let is_among = |code| self.codes.is_none_or(|codes| codes.contains(code));
        if !wanted || !outcome.code.is_none_or(is_among) {
            return Decision::Stay;
        }
        let reset_after = self.reset_after.unwrap_or(self.max.max(RESET_AFTER_MIN));
        let row = if lasted >= reset_after { 1 } else { past.row.saturating_add(1) };
        let window = past.window.next(ended, self.window.unwrap_or_default());
        let counted = if self.window.is_some() { window.count } else { row };
        if self.attempts.is_some_and(|attempts| counted > attempts) {
            return Decision::GiveUp;
        }
        let delay = self.delay(row).mul_f64(1.0 - self.jitter * random.clamp(0.0, 1.0));
        Decision::Restart { past: Past { row, window }, delay }
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
        restart.window = config.window.map(Duration::from_millis);
        restart.reset_after = config.reset_after.map(Duration::from_millis);
        restart.codes = config.codes.as_deref().map(Codes::new);
        restart
    }
}

/// A set of exit codes, one bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Codes([u64; 4]);

impl Codes {
    const fn new(codes: &[u8]) -> Self {
        let mut words = [0; 4];
        let mut left = codes;
        while let [code, rest @ ..] = left {
            words[*code as usize / 64] |= 1 << (*code % 64);
            left = rest;
        }
        Self(words)
    }

    const fn contains(self, code: u8) -> bool {
        self.0[code as usize / 64] >> (code % 64) & 1 != 0
    }
}

/// How a run ended, as far as a rule wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failed: bool,
    /// Absent where the run did not end by itself.
    pub(crate) code: Option<u8>,
}

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) lasted: Duration,
    pub(crate) ended: Instant,
}

/// The restarts before a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// How many there were in a row.
    pub(crate) row: u32,
    pub(crate) window: Window,
}

/// How many restarts there were since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    began: Instant,
    count: u32,
}

impl Window {
    /// Returns the window after one more restart.
    fn next(self, now: Instant, length: Duration) -> Self {
        if self.count == 0 || now.saturating_since(self.began) >= length {
            return Self { began: now, count: 1 };
        }
        Self { began: self.began, count: self.count.saturating_add(1) }
    }
}

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Nothing: the rule does not want this end answered.
    Stay,
    /// Nothing any more: there were too many restarts in a row.
    GiveUp,
    /// Another start after `delay`.
    Restart {
        /// The restarts with this one.
        past: Past,
        /// How long to wait before it.
        delay: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn ran(failed: bool, lasted: Duration) -> Ran {
        Ran { outcome: Outcome { failed, code: None }, lasted, ended: Instant::ZERO }
    }

    fn row(row: u32) -> Past {
        Past { row, ..Past::default() }
    }

    /// Returns the delays in milliseconds of ends one after the other, until the rule gives up.
    fn delays(restart: Restart, ends_max: usize) -> Vec<u128> {
        let mut past = Past::default();
        let mut delays = Vec::new();
        while delays.len() < ends_max
            && let Decision::Restart { past: next, delay } =
                restart.decide(past, ran(true, SHORT), 0.0)
        {
            past = next;
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
                let decision = Restart::from(policy).decide(row(0), ran(failed, SHORT), 0.0);
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
        let after = |seconds| {
            let run = ran(true, Duration::from_secs(seconds));
            match restart.decide(row(5), run, 0.0) {
                Decision::Restart { past, delay } => Some((past.row, delay.as_millis())),
                Decision::Stay | Decision::GiveUp => None,
            }
        };
        assert_eq!((after(29), after(30)), (None, Some((1, 50))));
        let run = ran(true, Duration::from_secs(9));
        let short = restart.backoff(SHORT, SHORT).decide(row(5), run, 0.0);
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
        let delay = |random| match restart.decide(row(0), ran(false, SHORT), random) {
            Decision::Restart { delay, .. } => delay,
            Decision::Stay | Decision::GiveUp => panic!("no restart"),
        };
        assert_eq!((delay(0.0), delay(1.0)), (SHORT * 100, SHORT * 50));
    }

    #[test]
    fn attempts_are_counted_in_a_window_where_there_is_one() {
        let seconds = Duration::from_secs;
        let restart = Restart::on_failure().attempts(2).window(seconds(60)).reset_after(SHORT);
        let mut past = Past::default();
        // Every run is long enough to begin a new row, so only the window gives up.
        let mut restarts = |at| {
            let mut run = ran(true, seconds(5));
            run.ended = Instant::ZERO.saturating_add(seconds(at));
            match restart.decide(past, run, 0.0) {
                Decision::Restart { past: next, .. } => {
                    past = next;
                    true
                }
                Decision::Stay | Decision::GiveUp => false,
            }
        };
        let answers = [10, 20, 30, 69, 70, 129, 129].map(&mut restarts);
        assert_eq!(answers, [true, true, false, false, true, true, false]);
    }

    #[test]
    fn codes_narrow_the_rule_to_ends_that_have_them() {
        let follows = |restart: Restart, failed, code| {
            let outcome = Outcome { failed, code };
            let decision = restart.decide(row(0), Ran { outcome, ..ran(failed, SHORT) }, 0.0);
            matches!(decision, Decision::Restart { .. })
        };
        let rule = Restart::always().codes(&[0, 75, 255]);
        let followed: Vec<u8> =
            (0..=255).filter(|code| follows(rule, *code > 0, Some(*code))).collect();
        assert_eq!(followed, [0, 75, 255]);
        assert!(follows(rule, true, None), "an end without a code is not sorted out");
        let rule = Restart::on_failure().codes(&[0, 111]);
        assert!(!follows(rule, false, Some(0)), "an end that the rule does not want stays so");
        assert!(follows(rule, true, Some(111)));
    }
}
