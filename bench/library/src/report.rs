//! The figures of a run, as Markdown and as JSON.

use std::fmt::Write as _;

use keepd_bench::machine::Machine;
use keepd_bench::samples::Samples;
use keepd_bench::table::table;
use serde_json::{Value, json};

use crate::arguments::Part;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Milliseconds,
    Bytes,
    Percent,
}

impl Unit {
    const fn word(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Percent => "%",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds | Self::Milliseconds if value < 10.0 => format!("{value:.2}"),
            Self::Nanoseconds | Self::Milliseconds if value < 1_000.0 => format!("{value:.1}"),
            Self::Percent => format!("{value:.2}"),
            Self::Nanoseconds | Self::Milliseconds | Self::Bytes => format!("{value:.0}"),
        }
    }
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most so many times what it stands beside.
    Ratio(f64),
    /// Not more than what it stands beside, or called equal.
    NotMore,
    /// At most this.
    AtMost(f64),
}

/// One figure of keepd, and what it stands beside.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) part: Part,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) samples: Samples,
    /// Who else did the same, and what that cost.
    pub(crate) other: Option<(String, Samples)>,
    pub(crate) target: Option<Target>,
}

/// Two figures that are not further apart than this are called equal: so much differs from run to
/// run of the same program.
const EQUAL: f64 = 1.2;

impl Row {
    fn ratio(&self) -> Option<f64> {
        let other = self.other.as_ref()?.1.median().filter(|median| *median > 0.0)?;
        Some(self.samples.median()? / other)
    }

    fn verdict(&self) -> &'static str {
        match self.ratio() {
            Some(ratio) if ratio > EQUAL => "more",
            Some(ratio) if ratio < 1.0 / EQUAL => "less",
            Some(_) => "equal",
            None => "",
        }
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(limit) => self.ratio()? <= limit,
            Target::NotMore => self.ratio()? <= EQUAL,
            Target::AtMost(limit) => self.samples.median()? <= limit,
        })
    }

    fn target_text(&self) -> String {
        let text = match self.target {
            None => return String::new(),
            Some(Target::Ratio(limit)) => format!("<= {limit} x"),
            Some(Target::NotMore) => "not more".to_owned(),
            Some(Target::AtMost(limit)) => format!("<= {}", self.unit.show(limit)),
        };
        match self.is_met() {
            Some(true) => format!("{text}: met"),
            Some(false) => format!("{text}: **missed**"),
            None => text,
        }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let show =
            |value: Option<f64>| value.map_or_else(|| "-".into(), |value| self.unit.show(value));
        let (beside, other) = match &self.other {
            Some((who, samples)) => (who.clone(), show(samples.median())),
            None => ("-".to_owned(), "-".to_owned()),
        };
        [
            format!("{}, {}", self.what, self.unit.word()),
            self.samples.count().to_string(),
            show(self.samples.median()),
            show(self.samples.min()),
            beside,
            other,
            self.ratio().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
            self.verdict().to_owned(),
            self.target_text(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "part": self.part.word(),
            "what": self.what,
            "unit": self.unit.word(),
            "count": self.samples.count(),
            "median": self.samples.median(),
            "min": self.samples.min(),
            "beside": self.other.as_ref().map(|(who, _)| who),
            "beside_median": self.other.as_ref().and_then(|(_, samples)| samples.median()),
            "ratio": self.ratio(),
            "target": self.target.map(|_| self.target_text()),
            "met": self.is_met(),
        })
    }
}

const COLUMNS: [&str; 9] =
    ["what", "n", "keepd", "min", "beside", "median", "ratio", "is", "target"];
/// The columns of words; the others are numbers.
const WORDS: [usize; 4] = [0, 4, 7, 8];

/// All figures of a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The options that give the same run again.
    pub(crate) options: String,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Returns the report as JSON.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let value =
            json!({ "machine": self.machine.json(), "options": self.options, "rows": rows });
        format!("{value:#}\n")
    }

    /// Returns the report as Markdown, which is also what a terminal shows.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for part in Part::ALL {
            let rows = self.rows.iter().filter(|row| row.part == part);
            let lines: Vec<[String; COLUMNS.len()]> = rows.map(Row::cells).collect();
            if !lines.is_empty() {
                let (word, options) = (part.word(), &self.options);
                let table = table(COLUMNS, &WORDS, &lines);
                write!(text, "\n`cargo xtask bench library --only {word}{options}`\n\n{table}")
                    .expect("a String takes every text");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, theirs: Option<f64>, target: Target) -> Row {
        Row {
            part: Part::Calls,
            what: "a call".to_owned(),
            unit: Unit::Nanoseconds,
            samples: [ours].into_iter().collect(),
            other: theirs.map(|theirs| ("theirs".to_owned(), [theirs].into_iter().collect())),
            target: Some(target),
        }
    }

    #[test]
    fn a_fifth_more_or_less_is_equal_but_a_target_is_a_target() {
        let cases = [
            (row(120.0, Some(100.0), Target::Ratio(1.0)), "equal", Some(false)),
            (row(121.0, Some(100.0), Target::Ratio(1.5)), "more", Some(true)),
            (row(121.0, Some(100.0), Target::NotMore), "more", Some(false)),
            (row(104.0, Some(100.0), Target::NotMore), "equal", Some(true)),
            (row(84.0, Some(100.0), Target::Ratio(0.5)), "equal", Some(false)),
            (row(50.0, Some(100.0), Target::Ratio(0.5)), "less", Some(true)),
            (row(50.0, None, Target::AtMost(60.0)), "", Some(true)),
            (row(50.0, None, Target::Ratio(0.5)), "", None),
        ];
        for (row, verdict, met) in cases {
            assert_eq!((row.verdict(), row.is_met()), (verdict, met), "{row:?}");
        }
    }
}
