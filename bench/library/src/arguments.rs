//! What can be asked for: `cargo xtask bench library [OPTIONS]`.

use std::path::PathBuf;

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
usage: cargo xtask bench library [OPTIONS]

Measures the library keepd beside proc-daemon 1.1.3, in turns.

  --rounds N       rounds of each measurement (4); in each, everybody has a turn
  --only WORD      one measurement: calls, scale or storm
  --quick          2 rounds of short turns, a tenth of the tasks: to see whether
                   it works
  --write          also put the tables into docs/performance.md
  -o json          JSON instead of tables
";

/// One of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Single calls.
    Calls,
    /// Very many subsystems.
    Scale,
    /// Very many that fail at once.
    Storm,
}

impl Part {
    /// Every part, in the order of the tables.
    pub(crate) const ALL: [Self; 3] = [Self::Calls, Self::Scale, Self::Storm];

    /// Returns the word for `--only`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Scale => "scale",
            Self::Storm => "storm",
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Rounds of each measurement.
    pub(crate) rounds: usize,
    /// Only this measurement.
    pub(crate) only: Option<Part>,
    /// Short turns and few tasks.
    pub(crate) quick: bool,
    /// JSON on standard output instead of tables.
    pub(crate) json: bool,
    /// The page that gets the tables.
    pub(crate) write: Option<PathBuf>,
}

/// Rounds where nothing is said: as many in which one is first as in which the other is.
const ROUNDS: usize = 4;
/// Rounds of a quick look.
const ROUNDS_QUICK: usize = 2;

impl Options {
    /// Reads the words behind the name of the program. The error is a sentence about the first word
    /// that cannot be taken.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self { rounds: 0, only: None, quick: false, json: false, write: None };
        let mut rounds = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (key, mut inline) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || {
                let value = inline.take().or_else(|| words.next().cloned());
                value.ok_or_else(|| format!("option \"{key}\" needs a value"))
            };
            match key {
                "--rounds" => rounds = Some(count(&value()?)?),
                "--only" => options.only = Some(part(&value()?)?),
                "--quick" => options.quick = true,
                "--page" => options.write = Some(PathBuf::from(value()?)),
                "-o" | "--output" => match value()?.as_str() {
                    "json" => options.json = true,
                    "text" => options.json = false,
                    other => return Err(format!("cannot write \"{other}\": json or text")),
                },
                _ => return Err(format!("cannot take argument \"{word}\"")),
            }
        }
        options.rounds = rounds.unwrap_or(if options.quick { ROUNDS_QUICK } else { ROUNDS });
        Ok(options)
    }

    /// Reports whether a measurement was asked for.
    pub(crate) fn includes(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// Returns the options that differ from the usual ones, each with a space before it.
    pub(crate) fn again(&self) -> String {
        let quick = if self.quick { " --quick" } else { "" };
        let usual = if self.quick { ROUNDS_QUICK } else { ROUNDS };
        let rounds = (self.rounds != usual).then(|| format!(" --rounds {}", self.rounds));
        format!("{quick}{}", rounds.unwrap_or_default())
    }
}

fn count(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number @ 1..=1_000) => Ok(number),
        Ok(_) | Err(_) => Err("option \"--rounds\" needs a number from 1 to 1000".to_owned()),
    }
}

fn part(value: &str) -> Result<Part, String> {
    let found = Part::ALL.into_iter().find(|part| part.word() == value);
    found.ok_or_else(|| {
        let words = Part::ALL.map(Part::word).join(", ");
        format!("cannot measure \"{value}\": there are {words}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn a_number_outranks_quick_wherever_it_stands() {
        let options = parse("--rounds 5 --quick --only=scale").unwrap();
        assert_eq!((options.rounds, options.only), (5, Some(Part::Scale)));
        assert_eq!(options.again(), " --quick --rounds 5");
        assert_eq!(parse("").unwrap().again(), "");
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        for (words, refusal) in [
            ("--rounds", "option \"--rounds\" needs a value"),
            ("--rounds 0", "option \"--rounds\" needs a number from 1 to 1000"),
            ("--only fast", "cannot measure \"fast\": there are calls, scale, storm"),
            ("-o xml", "cannot write \"xml\": json or text"),
            ("now", "cannot take argument \"now\""),
        ] {
            assert_eq!(parse(words), Err(refusal.to_owned()));
        }
    }
}
