//! Signals as people write them on the command line.

use keepd_model::Signal;

/// The first real-time signal that programs may use: the C library keeps two for itself.
const REAL_TIME_FIRST: u8 = 34;
const REAL_TIME_LAST: u8 = 64;

/// Parses `TERM`, `SIGTERM`, `term`, `15`, `RTMIN`, `RTMIN+3` or `RTMAX-1`.
pub(super) fn parse(text: &str) -> Option<Signal> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        REAL_TIME_FIRST.checked_add(distance(rest, '+')?)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        REAL_TIME_LAST.checked_sub(distance(rest, '-')?)
    } else {
        return Signal::parse(name).ok();
    };
    let number = real_time.filter(|number| (REAL_TIME_FIRST..=REAL_TIME_LAST).contains(number))?;
    Signal::new(number)
}

/// Parses nothing, or the sign and a number.
fn distance(text: &str, sign: char) -> Option<u8> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_numbers_and_distances() {
        let number = |text| parse(text).map(Signal::get);
        for text in ["TERM", "SIGTERM", "sigterm", "Term", "15"] {
            assert_eq!(number(text), Some(15), "{text}");
        }
        assert_eq!(number("RTMIN"), Some(34));
        assert_eq!(number("SIGRTMIN+3"), Some(37));
        assert_eq!(number("rtmax-1"), Some(63));
        assert_eq!(number("RTMIN+30"), Some(64));
        for bad in ["", "0", "65", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "RTMIN++1", "FOO"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
