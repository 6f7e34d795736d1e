//! Output of services, numbered by the services themselves.

use std::collections::BTreeMap;
use std::fmt;

use crate::Entry;

/// Returns the line number `number` (from 1) of a generation, with its line feed. A service writes
/// it with one write(2), which a pipe takes whole or not at all. Every few lines it adds an event
/// `wrote` with the number of the last one. The last line of a generation may be written without
/// its line feed; then the event is `wrote NUMBER open`.
pub fn output_line(name: &str, generation: u64, number: u64) -> String {
    format!("{name} {generation} {number}\n")
}

/// Numbers of an output, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputFigures {
    /// Bytes in the file.
    pub bytes: usize,
    /// Lines in the file.
    pub lines: usize,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputFinding {
    /// Bytes that are no line of this service.
    Foreign {
        /// Where they begin.
        offset: usize,
    },
    /// Lines are missing in the middle or, against what the service wrote down, at the end.
    Lost {
        /// The generation.
        generation: u64,
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A line has no line feed, and the service wrote one.
    Torn {
        /// The generation.
        generation: u64,
        /// The line.
        number: u64,
    },
    /// A line is there again, or before its place.
    Repeated {
        /// The generation.
        generation: u64,
        /// The line.
        number: u64,
    },
}

impl OutputFinding {
    /// Returns the generation that it is about, if that can be said.
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Foreign { .. } => None,
            Self::Lost { generation, .. }
            | Self::Torn { generation, .. }
            | Self::Repeated { generation, .. } => Some(*generation),
        }
    }
}

impl fmt::Display for OutputFinding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { offset } => {
                write!(formatter, "the bytes at {offset} are no line of the service")
            }
            Self::Lost { generation, first, last } => {
                write!(formatter, "lines {first} to {last} of generation {generation} are lost")
            }
            Self::Torn { generation, number } => {
                write!(formatter, "line {number} of generation {generation} lost its line feed")
            }
            Self::Repeated { generation, number } => {
                write!(formatter, "line {number} of generation {generation} is there again")
            }
        }
    }
}

/// Judges the file with the output of a service: everything that it wrote down as written is there,
/// in order and once, and nothing else.
pub fn judge_output(
    name: &str,
    bytes: &[u8],
    entries: &[Entry],
) -> (OutputFigures, Vec<OutputFinding>) {
    let mut figures = OutputFigures { bytes: bytes.len(), lines: 0 };
    let mut findings = Vec::new();
    let written = written(name, entries);
    // The last line of each generation so far.
    let mut read: BTreeMap<u64, u64> = BTreeMap::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let Some(line) = parse(name, &bytes[offset..]) else {
            findings.push(OutputFinding::Foreign { offset });
            offset += to_next_line(&bytes[offset..]);
            continue;
        };
        let Line { generation, number, .. } = line;
        figures.lines += 1;
        let is_late = read.range(generation + 1..).next().is_some();
        let last = read.entry(generation).or_default();
        if number <= *last || is_late {
            findings.push(OutputFinding::Repeated { generation, number });
        } else if number > *last + 1 {
            let first = *last + 1;
            findings.push(OutputFinding::Lost { generation, first, last: number - 1 });
        }
        *last = number.max(*last);
        // Whoever was killed behind its last line had no time to say that it has no end.
        let said = written.get(&generation).and_then(|lines| lines.get(&number));
        let next = bytes.get(offset + line.length..).and_then(|rest| parse(name, rest));
        let is_last = next.is_none_or(|next| next.generation != generation);
        let may_be_open = is_last && said.is_none_or(|is_open| *is_open);
        if !line.is_ended && !may_be_open {
            findings.push(OutputFinding::Torn { generation, number });
        }
        offset += line.length;
    }
    for (generation, lines) in written {
        let last = lines.last_key_value().map_or(0, |(number, _)| *number);
        let found = read.get(&generation).copied().unwrap_or(0);
        if found < last {
            findings.push(OutputFinding::Lost { generation, first: found + 1, last });
        }
    }
    (figures, findings)
}

/// Returns what the service wrote down: for each generation the numbers that it came to, and
/// whether that line has no line feed.
fn written(name: &str, entries: &[Entry]) -> BTreeMap<u64, BTreeMap<u64, bool>> {
    let mut written: BTreeMap<u64, BTreeMap<u64, bool>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.what == "wrote" && entry.name == name) {
        let (number, open) = entry.more.split_once(' ').unwrap_or((&entry.more, ""));
        let number = number.parse().unwrap_or(0);
        written.entry(entry.generation).or_default().insert(number, open == "open");
    }
    written
}

/// A line of a service, as it stands in its file.
struct Line {
    generation: u64,
    number: u64,
    /// Bytes, with the line feed.
    length: usize,
    is_ended: bool,
}

/// Reads the line at the beginning of these bytes. One without a line feed ends where the name of
/// the service begins again, or at the end of everything.
fn parse(name: &str, bytes: &[u8]) -> Option<Line> {
    let rest = bytes.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
    let (generation, rest) = digits(rest)?;
    let (number, rest) = digits(rest.strip_prefix(b" ")?)?;
    // "07" is a damaged "7".
    let whole = output_line(name, generation, number);
    let (text, is_ended) = match rest.first() {
        Some(b'\n') => (whole.as_str(), true),
        Some(_) if !rest.starts_with(name.as_bytes()) => return None,
        Some(_) | None => (whole.trim_end(), false),
    };
    let length = text.len();
    bytes.starts_with(text.as_bytes()).then_some(Line { generation, number, length, is_ended })
}

fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(count);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn to_next_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(generation: u64, number: u64) -> Entry {
        Entry {
            what: "wrote".to_owned(),
            name: "web".to_owned(),
            pid: 1,
            generation,
            nanoseconds: 0,
            more: number.to_string(),
        }
    }

    fn output(lines: &[(u64, u64)]) -> Vec<u8> {
        let lines =
            lines.iter().map(|(generation, number)| output_line("web", *generation, *number));
        lines.collect::<String>().into_bytes()
    }

    fn findings(lines: &[(u64, u64)]) -> Vec<String> {
        let entries = [wrote(1, 1), wrote(1, 2), wrote(2, 1)];
        let (_, found) = judge_output("web", &output(lines), &entries);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn whole_output_is_whole_also_where_the_service_had_no_time_to_say_so() {
        assert_eq!(findings(&[(1, 1), (1, 2), (2, 1)]), [""; 0]);
        assert_eq!(findings(&[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]), [""; 0]);
        let (figures, _) = judge_output("web", &output(&[(1, 1)]), &[]);
        assert_eq!(figures, OutputFigures { bytes: 8, lines: 1 });
    }

    #[test]
    fn lost_repeated_and_foreign_bytes_are_seen() {
        assert_eq!(findings(&[(1, 1), (2, 1)]), ["lines 2 to 2 of generation 1 are lost"]);
        assert_eq!(findings(&[(1, 2), (2, 1)]), ["lines 1 to 1 of generation 1 are lost"]);
        let again = findings(&[(1, 1), (1, 2), (1, 2), (2, 1)]);
        assert_eq!(again, ["line 2 of generation 1 is there again"]);
        let late = findings(&[(1, 1), (2, 1), (1, 2)]);
        assert_eq!(late, ["line 2 of generation 1 is there again"]);
        for bad in [&b"db 1 1\n"[..], b"web 1 01\n", b"web 1\n", b"\n", b"web 1 \xFF\n"] {
            let (_, found) = judge_output("web", bad, &[]);
            assert_eq!(found, [OutputFinding::Foreign { offset: 0 }], "{bad:?}");
        }
    }

    #[test]
    fn only_the_last_line_of_a_generation_may_have_no_line_feed() {
        let judge = |bytes: &[u8], entries: &[Entry]| {
            let (_, found) = judge_output("web", bytes, entries);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let open = |generation, number: u64| Entry {
            more: format!("{number} open"),
            ..wrote(generation, number)
        };
        assert_eq!(judge(b"web 1 1\nweb 1 2web 2 1\n", &[wrote(1, 1), open(1, 2)]), [""; 0]);
        assert_eq!(judge(b"web 1 1\nweb 1 2", &[wrote(1, 1), open(1, 2)]), [""; 0]);
        assert_eq!(judge(b"web 1 1web 2 1\n", &[]), [""; 0], "it was killed behind the line");
        let torn = ["line 1 of generation 1 lost its line feed"];
        assert_eq!(judge(b"web 1 1web 2 1\n", &[wrote(1, 1)]), torn);
        assert_eq!(judge(b"web 1 1web 1 2\n", &[open(1, 1)]), torn);
        assert_eq!(judge(b"web 1 1", &[wrote(1, 1)]), torn);
        let lost = ["lines 2 to 2 of generation 1 are lost"];
        assert_eq!(judge(b"web 1 1\n", &[open(1, 2)]), lost);
    }
}
