//! Points in time for people.

use std::cell::OnceCell;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::arguments::Globals;

/// The wall clock at the beginning of an answer, and the time zone to show times in.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    now: Timestamp,
    /// The local one is looked up when it is needed: for that the folders of all zones are read,
    /// which takes longer than everything else about an answer.
    zone: OnceCell<TimeZone>,
}

impl Clock {
    /// Reads the wall clock; the zone is the local one, or UTC with `--utc`.
    pub(crate) fn read(globals: &Globals) -> Self {
        let zone = if globals.utc { OnceCell::from(TimeZone::UTC) } else { OnceCell::new() };
        Self { now: Timestamp::now(), zone }
    }

    /// Returns a clock that shows this time.
    #[cfg(test)]
    pub(crate) fn new(now: Timestamp, zone: TimeZone) -> Self {
        Self { now, zone: OnceCell::from(zone) }
    }

    fn zone(&self) -> &TimeZone {
        self.zone.get_or_init(TimeZone::system)
    }

    /// Returns how long ago a time is; negative for a time to come.
    pub(crate) fn seconds_since(&self, time: Timestamp) -> f64 {
        self.now.duration_since(time).as_secs_f64()
    }

    /// Returns the time this many seconds ago.
    pub(crate) fn before(&self, seconds: f64) -> Timestamp {
        let nanoseconds = (seconds * 1e9) as i64;
        self.now
            .checked_sub(jiff::SignedDuration::from_nanos(nanoseconds))
            .unwrap_or(Timestamp::MIN)
    }

    /// Returns a time to the second with its zone: `2026-11-21T08:02:55+01:00`, in UTC
    /// `…T07:02:55Z`.
    pub(crate) fn absolute(&self, time: Timestamp) -> String {
        let zoned = time.to_zoned(self.zone().clone());
        let zone = if *self.zone() == TimeZone::UTC { "Z" } else { "%:z" };
        zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
    }

    /// Returns the time of the day, with the date if it is not today's.
    pub(crate) fn of_day(&self, time: Timestamp) -> String {
        let zoned = |time: Timestamp| -> Zoned { time.to_zoned(self.zone().clone()) };
        let format = if zoned(time).date() == zoned(self.now).date() {
            "%H:%M:%S"
        } else {
            "%Y-%m-%d %H:%M:%S"
        };
        zoned(time).strftime(format).to_string()
    }
}

/// Reads a time of the API; `None` if it is none, so that a bad one is shown as unknown.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_zone_that_was_asked_for() {
        let now: Timestamp = "2026-11-21T07:02:55.123Z".parse().unwrap();
        let utc = Clock::new(now, TimeZone::UTC);
        let east = Clock::new(now, TimeZone::fixed(jiff::tz::offset(1)));
        let yesterday = utc.before(86_400.0);
        assert_eq!(utc.absolute(now), "2026-11-21T07:02:55Z");
        assert_eq!(east.absolute(now), "2026-11-21T08:02:55+01:00");
        assert_eq!(east.of_day(now), "08:02:55");
        assert_eq!(utc.of_day(yesterday), "2026-11-20 07:02:55");
        assert_eq!(utc.seconds_since(yesterday), 86_400.0);
        assert_eq!(parse_time("soon"), None);
    }
}
