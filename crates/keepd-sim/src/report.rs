//! What a run leaves behind: counts, and the story of a failure.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use keepd_model::Instant;

/// How many lines of a trace a failure shows.
const TRACE_LINES: usize = 40;

/// How often each kind of nuisance happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Returns how often this kind happened.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Returns each kind that happened, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// What a run that broke no invariant did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Things that happened: deliveries, deaths, timers, requests.
    pub events: u64,
    /// Nuisances by kind.
    pub faults: Faults,
    /// The virtual time that passed.
    pub lasted: Duration,
    /// The exit code of keepd, if the run ended with a shutdown.
    pub ended: Option<u8>,
}

/// A broken invariant, with everything that is needed to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// How many random actions were to be taken.
    pub actions: u32,
    /// After how many events it showed.
    pub event: u64,
    /// Which invariant, and how it is broken.
    pub broken: Broken,
    /// The last lines of the trace, if one was kept.
    pub trace: Vec<String>,
}

/// Which invariant is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its number, `S1` to `S17`.
    pub number: &'static str,
    /// The sentence with the names filled in.
    pub sentence: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(formatter, "{line}")?;
        }
        let Self { seed, actions, event, broken, trace: _ } = self;
        let Broken { number, sentence } = broken;
        writeln!(formatter, "seed {seed}, event {event}: {number}: {sentence}")?;
        write!(formatter, "replay: cargo xtask sim --seed {seed} --steps {actions}")
    }
}

/// The lines of a run, for the eyes of whoever looks for a fault.
#[derive(Debug)]
pub(crate) enum Trace {
    /// Nobody looks: nothing is formatted.
    Off,
    /// The last lines are kept.
    Last(VecDeque<String>),
    /// Every line goes to standard output.
    Print,
}

impl Trace {
    pub(crate) fn note(&mut self, now: Instant, line: impl FnOnce() -> String) {
        let stamped = |line: String| {
            let micros = now.as_nanos() / 1_000;
            format!("{:>6}.{:06} {line}", micros / 1_000_000, micros % 1_000_000)
        };
        match self {
            Self::Off => {}
            Self::Last(lines) => {
                if lines.len() == TRACE_LINES {
                    lines.pop_front();
                }
                lines.push_back(stamped(line()));
            }
            Self::Print => println!("{}", stamped(line())),
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        match self {
            Self::Off | Self::Print => Vec::new(),
            Self::Last(lines) => lines.into(),
        }
    }
}
