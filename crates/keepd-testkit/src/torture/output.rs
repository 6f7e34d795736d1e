//! Output of services, numbered by the services themselves.

use std::collections::BTreeMap;
use std::fmt;

use crate::Entry;

/// Returns the line number `number` (from 1) of a generation, with its line feed. A service writes
/// it with one write(2), which a pipe takes whole or not at all, and then adds an event `wrote`
/// with the number.
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
    /// A line is there again, or before its place.
    Repeated {
        /// The generation.
        generation: u64,
        /// The line.
        number: u64,
    },
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
    // The last line of each generation so far.
    let mut read: BTreeMap<u64, u64> = BTreeMap::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match parse(name, line) {
            None => findings.push(OutputFinding::Foreign { offset }),
            Some((generation, number)) => {
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
            }
        }
        offset += line.len();
    }
    let mut written: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.what == "wrote" && entry.name == name) {
        let number = entry.more.parse().unwrap_or(0);
        let last = written.entry(entry.generation).or_default();
        *last = number.max(*last);
    }
    for (generation, last) in written {
        let found = read.get(&generation).copied().unwrap_or(0);
        if found < last {
            findings.push(OutputFinding::Lost { generation, first: found + 1, last });
        }
    }
    (figures, findings)
}

fn parse(name: &str, line: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.strip_prefix(name)?.strip_prefix(' ')?.strip_suffix('\n')?;
    let (generation, number) = rest.split_once(' ')?;
    let pair = (generation.parse().ok()?, number.parse().ok()?);
    // "07" is a damaged "7".
    (output_line(name, pair.0, pair.1) == text).then_some(pair)
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
        let mut torn = output(&[(1, 1), (1, 2), (2, 1)]);
        torn.truncate(torn.len() - 1);
        let (_, found) = judge_output("web", &torn, &[]);
        assert_eq!(found, [OutputFinding::Foreign { offset: 16 }]);
        for bad in [&b"db 1 1\n"[..], b"web 1 01\n", b"web 1\n", b"\n", b"web 1 \xFF\n"] {
            let (_, found) = judge_output("web", bad, &[]);
            assert_eq!(found, [OutputFinding::Foreign { offset: 0 }], "{bad:?}");
        }
    }
}
