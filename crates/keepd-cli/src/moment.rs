//! Points in time as people type them: `--since`, `--until`.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};

use crate::arguments::duration_value;
use crate::output::Clock;

/// A point in time, as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// RFC 3339: `2026-11-21T07:02:55Z`.
    At(Timestamp),
    /// `07:02` or `07:02:55`: the last time that a clock on the wall showed this.
    OfDay(Time),
    /// `10m`: this long ago.
    Ago(Duration),
}

impl Moment {
    /// Returns the time that is meant, by this clock and in its time zone.
    pub(crate) fn resolve(self, clock: &Clock) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::OfDay(time) => clock.last(time),
            Self::Ago(ago) => {
                let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
                clock.now().checked_sub(ago).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        if let Some(time) = time_of_day(text) {
            return Ok(Self::OfDay(time));
        }
        let ago = duration_value(text).map_err(
            |_| "a time is \"2026-11-21T07:02:55Z\", \"07:02\", or \"10m\" for ten minutes ago",
        )?;
        Ok(Self::Ago(ago))
    }
}

/// Reads `07:02` or `07:02:55`.
fn time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|part| match part.len() {
        1 | 2 if part.bytes().all(|byte| byte.is_ascii_digit()) => part.parse::<i8>().ok(),
        _ => None,
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    match parts.next() {
        Some(_) => None,
        None => Time::new(hour, minute, second, 0).ok(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn resolved(text: &str) -> Result<String, String> {
        let now = "2026-11-21T07:02:55.123Z".parse().unwrap();
        let east = Clock::new(now, TimeZone::fixed(jiff::tz::offset(1)));
        text.parse::<Moment>().map(|moment| moment.resolve(&east).to_string())
    }

    #[test]
    fn a_time_is_written_in_three_ways() {
        for (text, expected) in [
            ("2026-11-20T01:00:00+01:00", "2026-11-20T00:00:00Z"),
            ("10m", "2026-11-21T06:52:55.123Z"),
            ("1h30m", "2026-11-21T05:32:55.123Z"),
            ("07:30", "2026-11-21T06:30:00Z"),
            ("8:02:55", "2026-11-21T07:02:55Z"),
            // It is 08:02 here: what is still to come was yesterday.
            ("08:03", "2026-11-20T07:03:00Z"),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "10", "noon", "25:00", "7:60", "1:2:3:4", "-1:00", "2026-11-21"] {
            assert!(resolved(text).is_err(), "{text}");
        }
    }
}
