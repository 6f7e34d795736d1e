//! The figures of a run, as tables for a terminal, as Markdown, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::arguments::Part;
use crate::machine::Machine;
use crate::samples::Samples;
use crate::table::table;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Lines that came back in a second.
    PerSecond,
    /// KiB of memory.
    Kibibytes,
    /// Times that a thread was switched to.
    Switches,
    /// Share of one processor.
    Percent,
    /// Starts in the time of the measurement.
    Starts,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::PerSecond => "a second",
            Self::Kibibytes => "KiB",
            Self::Switches => "wake-ups",
            Self::Percent => "%",
            Self::Starts => "starts",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds if value < 10.0 => format!("{value:.2}"),
            Self::Milliseconds | Self::Microseconds | Self::Percent => format!("{value:.1}"),
            Self::PerSecond | Self::Kibibytes | Self::Switches | Self::Starts => {
                format!("{value:.0}")
            }
        }
    }
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The median is at most so many times that of the floor.
    TimesFloor(f64),
    /// The median is at most this.
    Median(f64),
    /// The median is at least this.
    AtLeast(f64),
    /// The 99th percentile is less than this.
    P99(f64),
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// The measurement, which is also the word for `--only`.
    pub part: Part,
    /// What was measured.
    pub what: String,
    /// Who was measured.
    pub subject: String,
    /// What the numbers count.
    pub unit: Unit,
    /// The numbers.
    pub samples: Samples,
    /// The median of the floor, where there is one.
    pub floor: Option<f64>,
    /// What it should be.
    pub target: Option<Target>,
}

impl Row {
    /// Returns the median as a multiple of the floor's.
    fn ratio(&self) -> Option<f64> {
        let floor = self.floor.filter(|floor| *floor > 0.0)?;
        Some(self.samples.median()? / floor)
    }

    /// Reports whether the target is met; `None` if there is none, or too few samples.
    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::TimesFloor(limit) => self.ratio()? <= limit,
            Target::Median(limit) => self.samples.median()? <= limit,
            Target::AtLeast(limit) => self.samples.median()? >= limit,
            Target::P99(limit) => self.samples.p99()? < limit,
        })
    }

    fn target_text(&self) -> String {
        let Some(target) = self.target else {
            return String::new();
        };
        let text = match target {
            Target::TimesFloor(limit) => format!("<= {limit} x"),
            Target::Median(limit) => format!("<= {}", self.unit.show(limit)),
            Target::AtLeast(limit) => format!(">= {}", self.unit.show(limit)),
            Target::P99(limit) => format!("p99 < {}", self.unit.show(limit)),
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
        [
            format!("{}, {}", self.what, self.unit.word()),
            self.subject.clone(),
            self.samples.count().to_string(),
            show(self.samples.median()),
            show(self.samples.min()),
            show(self.samples.p90()),
            show(self.samples.p99()),
            self.ratio().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")),
            self.target_text(),
        ]
    }

    fn json(&self) -> Value {
        let samples = &self.samples;
        json!({
            "part": self.part.word(),
            "what": self.what,
            "subject": self.subject,
            "unit": self.unit.word(),
            "count": samples.count(),
            "median": samples.median(),
            "min": samples.min(),
            "p90": samples.p90(),
            "p99": samples.p99(),
            "times_floor": self.ratio(),
            "target": self.target.map(|_| self.target_text()),
            "met": self.is_met(),
        })
    }
}

const COLUMNS: [&str; 9] = ["what", "who", "n", "median", "min", "p90", "p99", "x floor", "target"];
/// The columns of words; the others are numbers.
const WORDS: [usize; 3] = [0, 1, COLUMNS.len() - 1];

/// All figures of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// The options that give the same run again.
    pub options: String,
    /// The figures, in order.
    pub rows: Vec<Row>,
}

impl Report {
    /// Returns the report as JSON.
    pub fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let value = json!({
            "machine": self.machine.json(),
            "options": self.options,
            "rows": rows,
        });
        format!("{value:#}\n")
    }

    /// Returns the report as Markdown, which is also what a terminal shows.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        for part in Part::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.part == part).collect();
            if !rows.is_empty() {
                let options = &self.options;
                let word = part.word();
                write!(text, "\n`cargo xtask bench --only {word}{options}`\n\n{}", table_of(&rows))
                    .expect("a String takes every text");
            }
        }
        text
    }
}

fn table_of(rows: &[&Row]) -> String {
    let lines: Vec<[String; COLUMNS.len()]> = rows.iter().map(|row| row.cells()).collect();
    table(COLUMNS, &WORDS, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64], floor: Option<f64>, target: Option<Target>) -> Row {
        Row {
            part: Part::Restart,
            what: "from here to there".into(),
            subject: "keepd up".into(),
            unit: Unit::Milliseconds,
            samples: values.iter().copied().collect(),
            floor,
            target,
        }
    }

    #[test]
    fn a_target_is_met_or_missed_or_cannot_be_told() {
        let values = [1.0, 2.0, 3.0];
        let cases = [
            (row(&values, Some(1.0), Some(Target::TimesFloor(2.0))), Some(true)),
            (row(&values, Some(1.0), Some(Target::TimesFloor(1.9))), Some(false)),
            (row(&values, None, Some(Target::TimesFloor(1.9))), None),
            (row(&values, None, Some(Target::Median(2.0))), Some(true)),
            (row(&values, None, Some(Target::AtLeast(2.0))), Some(true)),
            (row(&values, None, Some(Target::AtLeast(2.1))), Some(false)),
            (row(&values, None, Some(Target::P99(9.0))), None),
            (row(&values, None, None), None),
        ];
        for (row, met) in cases {
            assert_eq!(row.is_met(), met, "{row:?}");
        }
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            row(&[1.0, 2.0, 12.5], Some(1.0), Some(Target::TimesFloor(1.2))),
            row(&[0.5], None, None),
        ];
        let text = table_of(&rows.iter().collect::<Vec<_>>());
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 4);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(text.contains("  2.00 |"), "{text}");
        assert!(text.contains("<= 1.2 x: **missed**"), "{text}");
    }
}
