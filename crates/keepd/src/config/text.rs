//! Durations and sizes as people write them: `30s`, `1m30s`, `100MB`.

use std::fmt;

use serde::Deserializer;
use serde::de::{self, Visitor};

/// The units of time, with their milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The units of size, with their bytes.
const SIZE_UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("KB", 1000),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a time: an integer of milliseconds, or numbers with units such as `1m30s`.
///
/// The error says what is expected, as the end of a sentence.
pub(super) fn parse_milliseconds(text: &str) -> Result<u64, String> {
    let expected = || format!("expected milliseconds or a time such as \"30s\", not {text:?}");
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(expected());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(expected)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        let part = number.checked_mul(*factor).ok_or_else(expected)?;
        total = total.checked_add(part).ok_or_else(expected)?;
        rest = next.trim_start();
    }
    Ok(total)
}

/// Reads a size: an integer of bytes, or a number with a unit such as `100MB` or `1MiB`.
///
/// The error says what is expected, as the end of a sentence.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("expected bytes or a size such as \"100MB\", not {text:?}");
    let text = text.trim();
    let (number, rest) = split_number(text).ok_or_else(expected)?;
    let unit = rest.trim_start();
    if unit.is_empty() {
        return Ok(number);
    }
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    number.checked_mul(*factor).ok_or_else(expected)
}

/// Splits digits off the front; underscores between them are allowed, as in TOML.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let is_part = |c: char| c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = digits.replace('_', "").parse().ok()?;
    Some((number, rest))
}

/// What serde reads as a number: an integer, or a text in the given grammar.
struct NumberOrText {
    expecting: &'static str,
    parse: fn(&str) -> Result<u64, String>,
}

impl Visitor<'_> for NumberOrText {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

const TIME: NumberOrText = NumberOrText {
    expecting: "milliseconds, or a time such as \"30s\"",
    parse: parse_milliseconds,
};

const SIZE: NumberOrText =
    NumberOrText { expecting: "bytes, or a size such as \"100MB\"", parse: parse_size };

/// What may be absent.
struct OptionalNumber(NumberOrText);

impl<'de> Visitor<'de> for OptionalNumber {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: de::Error>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Option<u64>, D::Error> {
        input.deserialize_any(self.0).map(Some)
    }
}

/// Reads a time for serde.
pub(super) fn milliseconds<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    input.deserialize_any(TIME)
}

/// Reads a time that may be absent for serde.
pub(super) fn optional_milliseconds<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<u64>, D::Error> {
    input.deserialize_option(OptionalNumber(TIME))
}

/// Reads a size for serde.
pub(super) fn size<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    let bytes = input.deserialize_any(SIZE)?;
    usize::try_from(bytes).map_err(|_| de::Error::custom("the size does not fit into memory"))
}

/// Reads a size that may be absent for serde.
pub(super) fn optional_size<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    input.deserialize_option(OptionalNumber(SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("1500", 1500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            (" 5s ", 5000),
        ] {
            assert_eq!(parse_milliseconds(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "30", "-1", "1.5s", "30 parsecs", "30s!", "99999999999999999999s"] {
            assert_eq!(parse_milliseconds(text).is_ok(), text == "30", "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("104_857_600", 104_857_600),
            ("100MB", 100_000_000),
            ("100 MiB", 104_857_600),
            ("1kB", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "MB", "-1", "1.5MB", "1mb", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
