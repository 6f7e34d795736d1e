//! What can be asked for: `cargo xtask bench [OPTIONS]`.

use std::path::PathBuf;
use std::time::Duration;

/// The text of `--help`.
pub const USAGE: &str = "\
usage: cargo xtask bench [OPTIONS]

Measures keepd beside a bare loop that only spawns and reaps, in turns.

  --rounds N    rounds of each measurement (20)
  --services N  services in the fleet (1000)
  --only WORD   one measurement: restart, kills, fleet, status, storm, init,
                protocol or plain
  --quick       3 rounds, 100 services, shorter waits: to see whether it works
  --write       also put the tables into docs/performance.md
  -o json       JSON instead of tables
";

/// One of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From a death to the new instance.
    Restart,
    /// keepd's own processes are killed.
    Kills,
    /// Many services: start, memory, idle, stop.
    Fleet,
    /// `keepd status` as a whole process.
    Status,
    /// Many services that end at once, for ever.
    Storm,
    /// A command under the inits of containers.
    Init,
    /// Commands of a plain connection.
    Protocol,
    /// Many services of a plain configuration.
    Plain,
}

impl Part {
    /// Every part, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self::Restart,
        Self::Kills,
        Self::Fleet,
        Self::Status,
        Self::Storm,
        Self::Init,
        Self::Protocol,
        Self::Plain,
    ];

    /// Returns the word for `--only`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Kills => "kills",
            Self::Fleet => "fleet",
            Self::Status => "status",
            Self::Storm => "storm",
            Self::Init => "init",
            Self::Protocol => "protocol",
            Self::Plain => "plain",
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Rounds of each measurement; in a round each subject has its turn.
    pub rounds: usize,
    /// Services in the fleet.
    pub services: usize,
    /// Only this measurement.
    pub only: Option<Part>,
    /// Short waits.
    pub quick: bool,
    /// JSON on standard output instead of tables.
    pub json: bool,
    /// The page that gets the tables.
    pub write: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 20, services: 1_000, only: None, quick: false, json: false, write: None }
    }
}

impl Options {
    /// Reads the words behind the name of the program.
    ///
    /// # Errors
    /// A sentence about the first word that cannot be taken.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let (mut rounds, mut services) = (None, None);
        let mut words = arguments.iter();
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
                "--rounds" => rounds = Some(count(key, &value()?)?),
                "--services" => services = Some(count(key, &value()?)?),
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
        if options.quick {
            (options.rounds, options.services) = (3, 100);
        }
        options.rounds = rounds.unwrap_or(options.rounds);
        options.services = services.unwrap_or(options.services);
        Ok(options)
    }

    /// Reports whether a measurement was asked for.
    pub fn includes(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// Returns how long idle processes are watched.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 10 })
    }
}

fn count(key: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(number @ 1..=20_000) => Ok(number),
        Ok(_) | Err(_) => Err(format!("option \"{key}\" needs a number from 1 to 20000")),
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
        let options = parse("--rounds 5 --quick --only=storm").expect("the words are right");
        assert_eq!((options.rounds, options.services), (5, 100));
        assert_eq!(options.only, Some(Part::Storm));
        assert!(options.includes(Part::Storm) && !options.includes(Part::Fleet));
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let refusals = [
            ("--rounds", "option \"--rounds\" needs a value"),
            ("--rounds 0", "option \"--rounds\" needs a number from 1 to 20000"),
            (
                "--only fast",
                "cannot measure \"fast\": there are restart, kills, fleet, status, storm, init, \
                 protocol, plain",
            ),
            ("-o xml", "cannot write \"xml\": json or text"),
            ("now", "cannot take argument \"now\""),
        ];
        for (words, refusal) in refusals {
            assert_eq!(parse(words), Err(refusal.to_owned()));
        }
    }
}
