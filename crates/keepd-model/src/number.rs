//! Numbers with a meaning: newtypes, so that two bare `u64` never stand together.

use std::fmt;
use std::time::Duration;

/// A point on the monotonic clock (`CLOCK_MONOTONIC`), in nanoseconds since boot.
///
/// It is passed in to everything that decides; only shells read a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);

    /// Returns the instant that lies `nanoseconds` after the origin.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, or zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the instant `duration` later; the far end of the clock where it would overflow.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// The number of a start of a service: 0 before the first, then 1, 2, 3 without gaps.
///
/// Every spawn, timer and probe carries it, so stale news is recognised and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The generation of a service that was never started.
    pub const NONE: Self = Self(0);

    /// Returns the generation with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the generation of the next start.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A process id. It names a process only together with a [`Generation`] or a pidfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u32);

impl Pid {
    /// Returns the process id, or `None` for 0 and for numbers that Linux never gives.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > i32::MAX as u32 { None } else { Some(Self(number)) }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The number of a change: one accepted request to make something so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(pub u64);

impl fmt::Display for ChangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The exit codes of keepd's own programs: one public type with pinned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitCode {
    /// Done, or the answer is yes.
    Done,
    /// The answer is no, or the wanted state was not reached.
    No,
    /// The service is not running.
    NotRunning,
    /// There is no such service.
    NoSuchService,
    /// The caller's fault: usage, a bad file, not allowed.
    Caller,
    /// The system's fault: no manager, input or output, protocol.
    System,
    /// `--timeout` is over; the action goes on.
    Timeout,
    /// Interrupted; the action goes on.
    Interrupted,
    /// The status of a service that ended everything (`shutdown_on`): its code, or 128 + signal.
    Service(u8),
}

impl ExitCode {
    /// Returns the pinned number.
    pub const fn get(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::NotRunning => 3,
            Self::NoSuchService => 4,
            Self::Caller => 100,
            Self::System => 111,
            Self::Timeout => 124,
            Self::Interrupted => 130,
            Self::Service(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate_at_both_ends() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(late.saturating_add(Duration::from_secs(1)).as_nanos(), u64::MAX);
        assert_eq!(Instant::ZERO.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn zero_is_no_process() {
        assert_eq!(Pid::new(0), None);
        assert_eq!(Pid::new(u32::MAX), None);
        assert_eq!(Pid::new(7).map(Pid::get), Some(7));
    }
}
