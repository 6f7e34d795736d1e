//! Which lines are wanted.

use std::fmt;
use std::str::FromStr;

use keepd_model::protocol::Stream;
use regex::bytes::Regex;

use super::line::LogLine;

/// Which lines are wanted. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not those with an earlier time, in nanoseconds since 1970.
    pub since_ns: Option<u64>,
    /// Not those with this time or a later one, in nanoseconds since 1970.
    pub until_ns: Option<u64>,
    /// Only those of this stream.
    pub stream: Option<Stream>,
    /// Only those in which this is found.
    pub pattern: Option<Pattern>,
}

impl Filter {
    /// Reports whether a line is wanted. One without a time is not, where times are asked for.
    pub fn accepts(&self, line: &LogLine) -> bool {
        let wall_ns = line.stamp.map(|stamp| stamp.wall_ns);
        let is_in_time = match (wall_ns, self.asks_for_times()) {
            (Some(wall_ns), _) => {
                self.since_ns.is_none_or(|since| wall_ns >= since)
                    && self.until_ns.is_none_or(|until| wall_ns < until)
            }
            (None, asks_for_times) => !asks_for_times,
        };
        is_in_time
            && self.takes(line.stream)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_in(&line.bytes))
    }

    /// Reports whether lines of a stream can be wanted.
    pub(super) fn takes(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
    }

    /// Reports whether it depends on the time of a line.
    pub(super) fn asks_for_times(&self) -> bool {
        self.since_ns.is_some() || self.until_ns.is_some()
    }
}

/// A regular expression over bytes, as the `regex` crate has them. It takes time that grows with
/// the length of a line and no more, whatever is written in it.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = PatternError;

    /// Reads a regular expression. An error says why it is none, in one clause for people.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Regex::new(text).map(Self).map_err(|error| {
            let text = error.to_string();
            // A syntax error is drawn over several lines; the last one says what is wrong.
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            PatternError { why: why.trim_end_matches('.').to_owned() }
        })
    }
}

impl Pattern {
    /// Reports whether it is found in these bytes, which need not be text.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

/// Why a text is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    why: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use keepd_model::{Generation, Instant, ServiceName};

    use super::*;
    use crate::logs::Stamp;

    fn line(stream: Stream, wall_ns: Option<u64>, bytes: &[u8]) -> LogLine {
        let stamp =
            |wall_ns| Stamp { wall_ns, monotonic: Instant::ZERO, generation: Generation::new(1) };
        LogLine {
            service: ServiceName::new("web").unwrap(),
            stream,
            stamp: wall_ns.map(stamp),
            bytes: bytes.to_vec(),
            partial: false,
        }
    }

    #[test]
    fn a_line_has_to_pass_everything() {
        let filter = Filter {
            since_ns: Some(10),
            until_ns: Some(20),
            stream: Some(Stream::Err),
            pattern: Some("(?i)oops".parse().unwrap()),
        };
        assert!(filter.accepts(&line(Stream::Err, Some(10), b"\xff Oops")));
        for (stream, wall_ns, bytes) in [
            (Stream::Err, Some(9), &b"oops"[..]),
            (Stream::Err, Some(20), b"oops"),
            (Stream::Err, None, b"oops"),
            (Stream::Out, Some(10), b"oops"),
            (Stream::Err, Some(10), b"fine"),
        ] {
            assert!(!filter.accepts(&line(stream, wall_ns, bytes)), "{stream:?} {wall_ns:?}");
        }
        assert!(Filter::default().accepts(&line(Stream::Out, None, b"")));
    }

    #[test]
    fn a_bad_pattern_says_why() {
        let why = |text: &str| text.parse::<Pattern>().unwrap_err().to_string();
        assert_eq!(why("a("), "unclosed group");
        assert_eq!(why("*"), "repetition operator missing expression");
        assert!(why("a{1000}{1000}{1000}").contains("exceeds size limit"));
    }
}
