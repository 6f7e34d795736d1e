//! Points in time as people type them: `10m`, `14:30`, `2026-11-21`, RFC 3339.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use crate::arguments::{Globals, duration_value};

/// A point in time, as far as it is known without a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// That long ago.
    Ago(Duration),
    /// When the clock shows this.
    At(Time),
    /// At this time of the calendar.
    On(DateTime),
    /// At this instant.
    Instant(Timestamp),
}

/// Which of the moments is meant at which the clock shows a time of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeOfDay {
    /// The last one: today, or yesterday if it is still to come.
    Last,
    /// The next one: today, or tomorrow if it is over.
    Next,
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(instant) = text.parse() {
            return Ok(Self::Instant(instant));
        }
        let is_calendar = text.as_bytes().get(4) == Some(&b'-');
        if is_calendar {
            // Without an offset; a date alone is its midnight.
            let found = text.parse::<DateTime>();
            return found.map(Self::On).or_else(|_| {
                let date: Result<Date, _> = text.parse();
                date.map(|date| Self::On(date.at(0, 0, 0, 0))).map_err(|_| unreadable())
            });
        }
        if text.contains(':') {
            return text.parse().map(Self::At).map_err(|_| unreadable());
        }
        match duration_value(text) {
            Ok(ago) => Ok(Self::Ago(ago)),
            Err(why) if text.starts_with(|first: char| first.is_ascii_digit()) => Err(why),
            Err(_) => Err(unreadable()),
        }
    }
}

fn unreadable() -> String {
    "write how long ago (10m), a time of the day (14:30), a date (2026-11-21) or RFC 3339 \
     (2026-11-21T14:30:00Z)"
        .to_owned()
}

/// The wall clock when a command line was read, and the zone that is meant where none is written.
#[derive(Clone, Debug)]
pub(crate) struct MomentClock {
    now: Zoned,
}

impl MomentClock {
    /// Reads the clock; the zone is the local one, or UTC with `--utc`.
    pub(crate) fn read(globals: &Globals) -> Self {
        let zone = if globals.utc { TimeZone::UTC } else { TimeZone::system() };
        Self { now: Timestamp::now().to_zoned(zone) }
    }

    /// Returns a moment in nanoseconds since 1970. What is before that is 0.
    pub(crate) fn wall_ns(&self, moment: &Moment, of_day: TimeOfDay) -> u64 {
        let instant = self.instant(moment, of_day).unwrap_or(Timestamp::MIN);
        u64::try_from(instant.as_nanosecond()).unwrap_or(0)
    }

    /// Returns nanoseconds since 1970 as they are shown, to the second and with their zone.
    pub(crate) fn text(&self, wall_ns: u64) -> String {
        let instant = Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap_or(Timestamp::MAX);
        let zoned = instant.to_zoned(self.now.time_zone().clone());
        let zone = if *self.now.time_zone() == TimeZone::UTC { "Z" } else { "%:z" };
        zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
    }

    /// Returns the instant; an error if it is not within the years that a clock can show.
    ///
    /// A time that a change of the clocks leaves out is the one that many hours later, as it would
    /// have been; one that comes twice is the first.
    fn instant(&self, moment: &Moment, of_day: TimeOfDay) -> Result<Timestamp, jiff::Error> {
        let zoned = |time: DateTime| time.to_zoned(self.now.time_zone().clone());
        match moment {
            Moment::Instant(instant) => Ok(*instant),
            Moment::Ago(ago) => self.now.timestamp().checked_sub(SignedDuration::try_from(*ago)?),
            Moment::On(time) => Ok(zoned(*time)?.timestamp()),
            Moment::At(time) => {
                let today = self.now.date();
                let at = zoned(today.to_datetime(*time))?;
                let other = match of_day {
                    TimeOfDay::Last if at > self.now => today.checked_sub(1.day())?,
                    TimeOfDay::Next if at <= self.now => today.checked_add(1.day())?,
                    TimeOfDay::Last | TimeOfDay::Next => return Ok(at.timestamp()),
                };
                Ok(zoned(other.to_datetime(*time))?.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str) -> MomentClock {
        let now: Timestamp = "2026-11-21T07:02:55.5Z".parse().unwrap();
        let zone = match zone {
            "UTC" => TimeZone::UTC,
            // Berlin, written as POSIX has it, so that no table of zones is needed.
            _ => TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(),
        };
        MomentClock { now: now.to_zoned(zone) }
    }

    fn at(zone: &str, text: &str, of_day: TimeOfDay) -> String {
        let clock = clock(zone);
        let wall_ns = clock.wall_ns(&text.parse().unwrap(), of_day);
        Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap().to_string()
    }

    fn last(zone: &str, text: &str) -> String {
        at(zone, text, TimeOfDay::Last)
    }

    #[test]
    fn every_form_is_read() {
        for (text, expected) in [
            ("10m", "2026-11-21T06:52:55.5Z"),
            ("1h30m", "2026-11-21T05:32:55.5Z"),
            ("07:02", "2026-11-21T07:02:00Z"),
            ("07:02:55", "2026-11-21T07:02:55Z"),
            ("07:03", "2026-11-20T07:03:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T23:15", "2026-11-20T23:15:00Z"),
            ("2026-11-20 23:15:01", "2026-11-20T23:15:01Z"),
            ("2026-11-20T23:15:00+02:00", "2026-11-20T21:15:00Z"),
            ("2026-11-20T23:15:00.123Z", "2026-11-20T23:15:00.123Z"),
            ("36500d", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(last("UTC", text), expected, "{text}");
        }
    }

    #[test]
    fn where_no_zone_is_written_it_is_the_local_one() {
        assert_eq!(last("Berlin", "08:00"), "2026-11-21T07:00:00Z");
        assert_eq!(last("Berlin", "08:03"), "2026-11-20T07:03:00Z");
        assert_eq!(last("Berlin", "2026-07-01"), "2026-06-30T22:00:00Z");
        assert_eq!(last("Berlin", "10m"), "2026-11-21T06:52:55.5Z");
        // Left out by a change of the clocks, and there twice.
        assert_eq!(last("Berlin", "2026-03-29T02:30"), "2026-03-29T01:30:00Z");
        assert_eq!(last("Berlin", "2026-10-25T02:30"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn the_next_time_of_the_day_is_to_come() {
        assert_eq!(at("UTC", "07:03", TimeOfDay::Next), "2026-11-21T07:03:00Z");
        assert_eq!(at("UTC", "07:02", TimeOfDay::Next), "2026-11-22T07:02:00Z");
    }

    #[test]
    fn what_is_none_says_what_would_be_one() {
        for text in ["soon", "", "25:00", "2026-13-01", "-5m", "2026-11-20T"] {
            let why = text.parse::<Moment>().unwrap_err();
            assert!(why.starts_with("write how long ago"), "{text}: {why}");
        }
        assert!("10".parse::<Moment>().unwrap_err().contains("has no unit"));
    }

    #[test]
    fn moments_are_shown_with_their_zone() {
        assert_eq!(clock("UTC").text(1_795_244_575_000_000_000), "2026-11-21T07:02:55Z");
        assert_eq!(clock("Berlin").text(1_795_244_575_000_000_000), "2026-11-21T08:02:55+01:00");
    }
}
