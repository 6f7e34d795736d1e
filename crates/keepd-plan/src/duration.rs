//! Durations as people write them: `"250ms"`, `"10s"`, `"1m30s"`, `"2h"`, `"7d"`.

use std::fmt;
use std::time::Duration;

/// Units in milliseconds, from the largest to the smallest.
const UNITS: [(&str, u64); 5] =
    [("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// A hundred years: longer than anything waits, and far from where arithmetic on clocks ends.
const DURATION_MS_MAX: u64 = 36_500 * 24 * 60 * 60 * 1000;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// There is no text.
    Empty,
    /// A number without a unit, which other supervisors take for seconds or for milliseconds.
    Bare {
        /// The number.
        number: String,
    },
    /// Something stands where a whole number is expected.
    Number,
    /// The text after a number is no unit.
    Unit {
        /// The text found.
        found: String,
    },
    /// Units do not go from the largest to the smallest, or one is given twice.
    Order,
    /// It is longer than a hundred years.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(formatter, "a duration must not be empty"),
            Self::Bare { .. } => write!(formatter, "a bare number has no unit"),
            Self::Number => write!(
                formatter,
                "a duration is whole numbers with units, such as \"1m30s\" or \"250ms\""
            ),
            Self::Unit { found } => write!(
                formatter,
                "{found:?} is no unit; units are \"ms\", \"s\", \"m\", \"h\" and \"d\""
            ),
            Self::Order => {
                write!(formatter, "units go from the largest to the smallest, each once")
            }
            Self::TooLong => write!(formatter, "a duration is at most \"36500d\""),
        }
    }
}

impl std::error::Error for DurationError {}

impl DurationError {
    /// Returns what to write instead, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bare { number } => Some(bare_number_hint(number)),
            Self::Empty | Self::Number | Self::Unit { .. } | Self::Order | Self::TooLong => None,
        }
    }
}

/// Returns the hint for a duration without a unit.
pub(crate) fn bare_number_hint(number: &str) -> String {
    format!("write \"{number}s\"; supervisord means seconds by it and pm2 milliseconds")
}

/// Parses a duration: whole numbers with the units `d`, `h`, `m`, `s`, `ms`, the largest first,
/// without spaces.
///
/// # Errors
///
/// Fails on a bare number, an unknown unit, units out of order, and more than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut units_left = &UNITS[..];
    while !rest.is_empty() {
        let unit_start = rest.find(|found: char| !found.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(unit_start);
        if digits.is_empty() {
            return Err(DurationError::Number);
        }
        let unit_end =
            after.find(|found: char| !found.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(if digits == text {
                DurationError::Bare { number: text.chars().take(16).collect() }
            } else {
                DurationError::Number
            });
        }
        if !UNITS.iter().any(|(known, _)| *known == unit) {
            return Err(DurationError::Unit { found: unit.chars().take(16).collect() });
        }
        let index =
            units_left.iter().position(|(known, _)| *known == unit).ok_or(DurationError::Order)?;
        let unit_ms = units_left[index].1;
        units_left = &units_left[index + 1..];
        total_ms = digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit_ms))
            .and_then(|part_ms| total_ms.checked_add(part_ms))
            .filter(|total_ms| *total_ms <= DURATION_MS_MAX)
            .ok_or(DurationError::TooLong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration as [`parse_duration`] reads it: `1m30s`, `250ms`, `0s`. What is below a
/// millisecond is left out.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let unit_ms = u128::from(unit_ms);
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_forms_are_read() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("1d1h1m1s1ms", 90_061_001),
            ("36500d", DURATION_MS_MAX),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        let bare = DurationError::Bare { number: "10".into() };
        let unit = |found: &str| DurationError::Unit { found: found.into() };
        for (text, error) in [
            ("", DurationError::Empty),
            ("10", bare),
            ("s", DurationError::Number),
            ("-1s", DurationError::Number),
            ("1.5s", DurationError::Number),
            ("1m30", DurationError::Number),
            (" 1s", DurationError::Number),
            ("1s ", DurationError::Number),
            ("1 s", DurationError::Number),
            ("10sec", unit("sec")),
            ("10S", unit("S")),
            ("30s1m", DurationError::Order),
            ("1s1s", DurationError::Order),
            ("36501d", DurationError::TooLong),
            ("99999999999999999999999s", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_bare_number_is_told_why_and_what_to_write() {
        let error = parse_duration("10").unwrap_err();
        assert_eq!(error.to_string(), "a bare number has no unit");
        assert_eq!(
            error.hint().unwrap(),
            "write \"10s\"; supervisord means seconds by it and pm2 milliseconds"
        );
    }

    #[test]
    fn formatting_is_the_inverse_of_parsing() {
        for text in ["0s", "250ms", "1m30s", "2h", "7d", "1d1h1m1s1ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(format_duration(Duration::from_micros(999)), "0s");
    }
}
