//! The words before `--`.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use keepd_model::Signal;

use super::signal_names;

/// How long what is left may take after TERM, unless somebody says otherwise.
const GRACE: Duration = Duration::from_secs(10);
/// More than a year is a typing error.
const GRACE_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;
/// One place for each signal, 1 to 64.
const SIGNALS: usize = 65;

/// The text of `--help`.
pub const HELP: &str = "\
Usage: keepd-init [OPTIONS] -- COMMAND [ARGUMENT...]

Run COMMAND as the first process of a container (or anywhere, with -s): hand
signals on to it, reap orphans, and end as it does. When COMMAND has ended,
whatever it left gets TERM, and KILL after the grace period.

Options, which stand before the \"--\":
  -g, --group               hand signals on to COMMAND's whole process group,
                            not to COMMAND alone
  -r, --rewrite FROM:TO     hand FROM on as TO; TO 0 drops it. For programs that
                            stop by another signal: -r TERM:QUIT. Repeatable
      --grace SECONDS       from COMMAND's end to KILL for all that is left
                            (default 10; 0: at once; 0.5 is possible)
  -s, --subreaper           take over orphans without being process 1
  -e, --remap-exit CODE     end with 0 where COMMAND's status is CODE, such as
                            143 for a COMMAND ended by TERM. Repeatable
  -p, --parent-death-signal SIGNAL
                            get SIGNAL when our own parent ends
  -w, --warn                say when orphans are reaped
  -h, --help                show this
      --version             show the version

SIGNAL, FROM and TO: TERM, SIGTERM, 15, RTMIN+3.

COMMAND is looked for in PATH. It keeps descriptors, directory, environment and
terminal as they are, and gets a process group of its own, which is the
foreground group if keepd-init has the terminal at standard input.

Exit status: COMMAND's; 128+N if signal N ended it; 127 if COMMAND is not found,
126 if it cannot be executed, 125 if keepd-init itself cannot go on.";

/// What the init is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Signals go to the process group of the command.
    pub group: bool,
    /// Become a subreaper.
    pub subreaper: bool,
    /// Say when orphans are reaped.
    pub warn: bool,
    /// From the end of the command to KILL for what is left.
    pub grace: Duration,
    /// The signal that we get when our parent ends.
    pub parent_death_signal: Option<Signal>,
    /// Statuses of the command that count as 0.
    pub remapped: Vec<u8>,
    /// The command and its arguments; at least one word.
    pub command: Vec<OsString>,
    rewrites: Rewrites,
}

/// What becomes of each signal.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rewrites([Option<Option<Signal>>; SIGNALS]);

impl fmt::Debug for Rewrites {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rewritten = self.0.iter().enumerate();
        let rewritten = rewritten.filter_map(|(from, to)| Some((from, (*to)?)));
        formatter.debug_map().entries(rewritten).finish()
    }
}

/// Why the words are not ones to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// There is no such option.
    Unknown(String),
    /// The option stands without its value.
    ValueMissing(&'static str),
    /// The option takes no value.
    ValueSuperfluous(&'static str),
    /// The value of this option cannot be used.
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What could be given.
        expected: &'static str,
    },
    /// A word that belongs to no option, before the `--`.
    Superfluous(String),
    /// Nothing stands after the `--`.
    NoCommand,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help => formatter.write_str(HELP),
            Self::Version => write!(formatter, "keepd-init, version {}", env!("CARGO_PKG_VERSION")),
            Self::Unknown(option) => {
                write!(formatter, "unknown option \"{option}\" (see keepd-init --help --)")
            }
            Self::ValueMissing(option) => write!(formatter, "option \"{option}\" needs a value"),
            Self::ValueSuperfluous(option) => {
                write!(formatter, "option \"{option}\" takes no value")
            }
            Self::Value { option, value, expected } => {
                write!(formatter, "option \"{option}\" cannot be \"{value}\": {expected}")
            }
            Self::Superfluous(word) => {
                write!(formatter, "unknown argument \"{word}\": the command comes after \"--\"")
            }
            Self::NoCommand => formatter.write_str("no command stands after \"--\""),
        }
    }
}

impl std::error::Error for OptionsError {}

#[derive(Clone, Copy)]
enum Known {
    Group,
    Rewrite,
    Grace,
    Subreaper,
    RemapExit,
    ParentDeathSignal,
    Warn,
    Help,
    Version,
}

/// Every option: short letter, long name.
const KNOWN: [(Option<char>, &str, Known); 9] = [
    (Some('g'), "--group", Known::Group),
    (Some('r'), "--rewrite", Known::Rewrite),
    (None, "--grace", Known::Grace),
    (Some('s'), "--subreaper", Known::Subreaper),
    (Some('e'), "--remap-exit", Known::RemapExit),
    (Some('p'), "--parent-death-signal", Known::ParentDeathSignal),
    (Some('w'), "--warn", Known::Warn),
    (Some('h'), "--help", Known::Help),
    (None, "--version", Known::Version),
];

impl Options {
    /// Reads the words after `keepd-init`, of which one is `--`.
    ///
    /// Short options cluster; a value is the rest of the word (`-e143`, `--grace=5`) or the next
    /// one.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the words; also when help or the version is asked for.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut options = Self {
            group: false,
            subreaper: false,
            warn: false,
            grace: GRACE,
            parent_death_signal: None,
            remapped: Vec::new(),
            command: Vec::new(),
            rewrites: Rewrites([None; SIGNALS]),
        };
        let mut words = arguments.into_iter();
        while let Some(word) = words.next().filter(|word| word != "--") {
            let text = word.to_string_lossy();
            match text.strip_prefix('-') {
                Some(rest) if rest.starts_with('-') => options.take_long(&text, &mut words)?,
                Some(letters) if !letters.is_empty() => options.take_short(letters, &mut words)?,
                Some(_) | None => return Err(OptionsError::Superfluous(text.into_owned())),
            }
        }
        options.command.extend(words);
        if options.command.first().is_none_or(|program| program.is_empty()) {
            return Err(OptionsError::NoCommand);
        }
        Ok(options)
    }

    /// Returns what is to be handed on for a signal; `None`: nothing.
    pub fn rewritten(&self, signal: Signal) -> Option<Signal> {
        let Rewrites(all) = &self.rewrites;
        all.get(usize::from(signal.get())).copied().flatten().unwrap_or(Some(signal))
    }

    fn take_long(
        &mut self,
        word: &str,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), OptionsError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let known = KNOWN.iter().find(|(_, long, _)| *long == name);
        let (_, name, known) = known.ok_or_else(|| OptionsError::Unknown(name.to_owned()))?;
        if known.takes_value() {
            let value = value.map(str::to_owned).or_else(|| next(words));
            self.set(*known, name, &value.ok_or(OptionsError::ValueMissing(name))?)
        } else if value.is_some() {
            Err(OptionsError::ValueSuperfluous(name))
        } else {
            self.set(*known, name, "")
        }
    }

    fn take_short(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), OptionsError> {
        for (position, letter) in letters.char_indices() {
            let known = KNOWN.iter().find(|(short, _, _)| *short == Some(letter));
            let (_, name, known) =
                known.ok_or_else(|| OptionsError::Unknown(format!("-{letter}")))?;
            if known.takes_value() {
                let rest = &letters[position + letter.len_utf8()..];
                let rest = (!rest.is_empty()).then(|| rest.to_owned());
                let value = rest.or_else(|| next(words));
                return self.set(*known, name, &value.ok_or(OptionsError::ValueMissing(name))?);
            }
            self.set(*known, name, "")?;
        }
        Ok(())
    }

    fn set(&mut self, known: Known, option: &'static str, value: &str) -> Result<(), OptionsError> {
        let refuse = |expected| OptionsError::Value { option, value: value.to_owned(), expected };
        match known {
            Known::Group => self.group = true,
            Known::Subreaper => self.subreaper = true,
            Known::Warn => self.warn = true,
            Known::Rewrite => {
                let expected = "write FROM:TO with two signals, such as TERM:QUIT, or 0 as TO";
                let (from, to) = rewrite(value).ok_or_else(|| refuse(expected))?;
                self.rewrites.0[usize::from(from.get())] = Some(to);
            }
            Known::Grace => {
                let expected = "write seconds, such as 10 or 0.5, up to a year";
                self.grace = seconds(value).ok_or_else(|| refuse(expected))?;
            }
            Known::RemapExit => {
                let code = value.parse().map_err(|_| refuse("write a status from 0 to 255"))?;
                self.remapped.push(code);
            }
            Known::ParentDeathSignal => {
                let expected = "write a signal, such as TERM or 15";
                let signal = signal_names::parse(value).ok_or_else(|| refuse(expected))?;
                self.parent_death_signal = Some(signal);
            }
            Known::Help => return Err(OptionsError::Help),
            Known::Version => return Err(OptionsError::Version),
        }
        Ok(())
    }
}

impl Known {
    fn takes_value(self) -> bool {
        match self {
            Self::Rewrite | Self::Grace | Self::RemapExit | Self::ParentDeathSignal => true,
            Self::Group | Self::Subreaper | Self::Warn | Self::Help | Self::Version => false,
        }
    }
}

/// Takes the next word as a value. The `--` is none: the command stands after it.
fn next(words: &mut impl Iterator<Item = OsString>) -> Option<String> {
    let word = words.next().filter(|word| word != "--")?;
    Some(word.to_string_lossy().into_owned())
}

fn rewrite(text: &str) -> Option<(Signal, Option<Signal>)> {
    let (from, to) = text.split_once(':')?;
    let from = signal_names::parse(from)?;
    let to = if to == "0" { None } else { Some(signal_names::parse(to)?) };
    Some((from, to))
}

/// Parses `10` or `0.25`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let is_decimal =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal(whole) || !is_decimal(rest) {
        return None;
    }
    let whole = whole.parse().ok().filter(|seconds| *seconds <= GRACE_SECONDS_MAX)?;
    let nanoseconds = format!("{rest:0<9.9}").parse().ok()?;
    Some(Duration::new(whole, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, OptionsError> {
        Options::parse(text.split_whitespace().map(OsString::from))
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn only_words_before_the_first_dashes_are_options() {
        let options = parse("-gs --warn -- sh -c -- --help").unwrap();
        assert!(options.group && options.subreaper && options.warn);
        assert_eq!(options.command, ["sh", "-c", "--", "--help"]);
        let plain = parse("-- true").unwrap();
        assert!(!plain.group && !plain.subreaper && !plain.warn);
        assert_eq!(plain.grace, Duration::from_secs(10));
        assert_eq!(plain.parent_death_signal, None);
        assert_eq!(plain.remapped, [0; 0]);
    }

    #[test]
    fn values_stand_in_the_same_word_or_in_the_next() {
        for text in [
            "-ge143 --grace=0.25 -pKILL -- x",
            "-g -e 143 --grace .25 --parent-death-signal 9 -- x",
        ] {
            let options = parse(&text.replace(" .25", " 0.25")).unwrap();
            assert_eq!(options.remapped, [143]);
            assert_eq!(options.grace, Duration::from_millis(250));
            assert_eq!(options.parent_death_signal, Some(Signal::KILL));
        }
        assert_eq!(message("-ge -- x"), "option \"--remap-exit\" needs a value");
        assert_eq!(message("--group=1 -- x"), "option \"--group\" takes no value");
    }

    #[test]
    fn signals_are_rewritten_once_and_dropped() {
        let options = parse("-r TERM:QUIT -r15:3 --rewrite QUIT:RTMIN+3 -rHUP:0 -- x").unwrap();
        assert_eq!(options.rewritten(Signal::TERM), Some(Signal::QUIT));
        assert_eq!(options.rewritten(Signal::QUIT), Signal::new(37));
        assert_eq!(options.rewritten(Signal::HUP), None);
        assert_eq!(options.rewritten(Signal::INT), Some(Signal::INT));
        for bad in ["TERM", "TERM:", "0:TERM", "TERM:QUIT:0", "FOO:TERM"] {
            assert!(message(&format!("-r {bad} -- x")).contains("write FROM:TO"), "{bad}");
        }
    }

    #[test]
    fn a_grace_has_decimals_and_bounds() {
        let grace = |text: &str| parse(&format!("--grace {text} -- x")).map(|found| found.grace);
        assert_eq!(grace("0"), Ok(Duration::ZERO));
        assert_eq!(grace("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(grace("1.0000000019"), Ok(Duration::new(1, 1)));
        for bad in ["-1", "1.", ".5", "1e3", "inf", "1.5s", "99999999999", "+1", "1.-5"] {
            assert!(grace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(message("-z -- x"), "unknown option \"-z\" (see keepd-init --help --)");
        assert_eq!(message("sh -- x"), "unknown argument \"sh\": the command comes after \"--\"");
        assert_eq!(message("-g --"), "no command stands after \"--\"");
        assert!(message("-e 256 -- x").contains("write a status from 0 to 255"));
        assert_eq!(parse("-h --"), Err(OptionsError::Help));
        assert_eq!(parse("--version --"), Err(OptionsError::Version));
    }

    #[test]
    fn help_names_every_option_and_fits_a_terminal() {
        for (short, long, _) in KNOWN {
            assert!(HELP.contains(long), "{long}");
            assert!(short.is_none_or(|short| HELP.contains(&format!("  -{short}, "))), "{long}");
        }
        assert!(HELP.lines().all(|line| line.len() <= 80));
    }
}
