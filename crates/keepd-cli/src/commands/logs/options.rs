//! What can be typed behind `keepd logs`, and what it selects.

use std::str::FromStr;

use clap::Args;
use keepd_manager::logs::{Filter, Pattern, Selection};
use keepd_model::protocol::Stream;

use crate::arguments::Globals;
use crate::error::{CliError, ErrorKind};
use crate::moment::{Moment, MomentClock, TimeOfDay};

/// How many lines are printed if nobody says how many, or from when.
const LINES_DEFAULT: u64 = 100;

/// Print what services wrote, in the order of time
///
/// Lines of standard error have `!` instead of `|`. Works without a running keepd, too: it reads
/// the files. Without --since, --until, --previous or -n these are the last 100 lines of all
/// services together.
///
/// T is a point in time: `10m` (that long ago), `14:30` (the last time the clock showed it), a date
/// (`2026-11-21`, its midnight), a date and a time (`2026-11-21T14:30`), or RFC 3339
/// (`2026-11-21T14:30:00Z`). Where no zone is written it is the local one, with --utc UTC. The time
/// of a line is when keepd read it from the service.
#[derive(Args, Debug)]
pub(crate) struct LogsOptions {
    /// Print the output of these services instead of all
    #[arg(value_name = "SELECTOR")]
    pub(super) select: Vec<String>,

    /// Go on with what is written from now on, until Ctrl-C
    ///
    /// All other options count for the new lines, too. With --until it ends when that time has
    /// passed.
    #[arg(short, long)]
    pub(super) follow: bool,

    /// Print the last N lines of those that are wanted, or all of them [default: 100, or all with
    /// --since, --until or --previous]
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<LineCount>,

    /// Leave out what was written before T
    #[arg(long, value_name = "T")]
    pub(super) since: Option<Moment>,

    /// Leave out what was written at T and later
    ///
    /// With --follow a time of the day is the next one, not the last one.
    #[arg(long, value_name = "T")]
    pub(super) until: Option<Moment>,

    /// Print only lines in which this regular expression is found
    ///
    /// It is looked for in the bytes of each line, which need not be text. `(?i)` at its beginning
    /// makes it blind to case. Lines longer than 64 KiB are looked at in pieces of that size.
    #[arg(long, value_name = "RE")]
    pub(super) grep: Option<Pattern>,

    /// Print standard output only
    #[arg(long)]
    pub(super) out: bool,

    /// Print standard error only
    #[arg(long)]
    pub(super) err: bool,

    /// Print the output of the run before the present one
    ///
    /// Of a service that does not run it is that of its last run: the one that has ended.
    #[arg(long, conflicts_with = "follow")]
    pub(super) previous: bool,

    /// Print the bytes of one service as it wrote them, without times and names
    ///
    /// Standard output, or standard error with --err; all of it unless --since, --until or
    /// --previous say otherwise.
    #[arg(long, conflicts_with_all = ["grep", "lines"])]
    pub(super) raw: bool,
}

/// `-n`: how many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineCount {
    /// Every one.
    All,
    /// The last so many.
    Last(u64),
}

impl FromStr for LineCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            text => text
                .parse()
                .map(Self::Last)
                .map_err(|_| "it takes a number of lines, or \"all\"".to_owned()),
        }
    }
}

impl LogsOptions {
    /// Returns the lines that are wanted.
    ///
    /// # Errors
    /// Nothing can be between the two times.
    pub(super) fn selection(&self, globals: &Globals) -> Result<Selection, CliError> {
        let (since_ns, until_ns) = self.range(globals)?;
        let filter =
            Filter { since_ns, until_ns, stream: self.stream(), pattern: self.grep.clone() };
        let count = match self.lines {
            Some(LineCount::All) => None,
            Some(LineCount::Last(count)) => Some(count),
            None => (!self.has_range()).then_some(LINES_DEFAULT),
        };
        Ok(Selection { filter, count, followed: self.follow })
    }

    /// Returns the times between which output is wanted, in nanoseconds since 1970.
    ///
    /// # Errors
    /// Nothing can be between the two.
    pub(super) fn range(&self, globals: &Globals) -> Result<(Option<u64>, Option<u64>), CliError> {
        let clock = MomentClock::read(globals);
        let of_until = if self.follow { TimeOfDay::Next } else { TimeOfDay::Last };
        let since_ns = self.since.as_ref().map(|since| clock.wall_ns(since, TimeOfDay::Last));
        let until_ns = self.until.as_ref().map(|until| clock.wall_ns(until, of_until));
        if let (Some(since_ns), Some(until_ns)) = (since_ns, until_ns)
            && since_ns >= until_ns
        {
            let message = format!(
                "cannot print what was written between --since {} and --until {}: the first is \
                 not before the second",
                clock.text(since_ns),
                clock.text(until_ns)
            );
            return Err(CliError::new(ErrorKind::Usage, message)
                .with_hint("write dates or RFC 3339 where a time of the day is not enough"));
        }
        Ok((since_ns, until_ns))
    }

    /// Returns the stream that is wanted alone. Both options together mean both streams.
    pub(super) fn stream(&self) -> Option<Stream> {
        match (self.out, self.err) {
            (true, false) => Some(Stream::Out),
            (false, true) => Some(Stream::Err),
            (true, true) | (false, false) => None,
        }
    }

    /// Reports whether something else than a number says where to begin.
    fn has_range(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.previous
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{CommandLine, Verb};

    fn selection(words: &[&str]) -> Result<Selection, String> {
        let line = CommandLine::try_parse_from(["keepd", "logs"].iter().chain(words))
            .map_err(|error| crate::usage::error_of(&error).to_string())?;
        match &line.verb {
            Verb::Logs(options) => {
                options.selection(&line.globals).map_err(|error| error.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_number_of_lines_depends_on_what_else_is_said() {
        for (words, expected) in [
            (&[][..], Some(100)),
            (&["-f"], Some(100)),
            (&["--grep", "x"], Some(100)),
            (&["-n", "7"], Some(7)),
            (&["-n", "all"], None),
            (&["--since", "10m"], None),
            (&["--until", "10m"], None),
            (&["--previous"], None),
            (&["--previous", "-n", "3"], Some(3)),
        ] {
            assert_eq!(selection(words).unwrap().count, expected, "{words:?}");
        }
    }

    #[test]
    fn both_streams_together_are_no_choice() {
        let stream = |words: &[&str]| selection(words).unwrap().filter.stream;
        assert_eq!(stream(&["--out"]), Some(Stream::Out));
        assert_eq!(stream(&["--err"]), Some(Stream::Err));
        assert_eq!(stream(&["--err", "--out"]), None);
        assert_eq!(stream(&[]), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, expected) in [
            (&["-n", "many"][..], "cannot use \"many\" for --lines: it takes a number of lines"),
            (&["--grep", "a("], "cannot use \"a(\" for --grep: unclosed group"),
            (&["--previous", "-f"], "cannot use --previous together with --follow"),
            (&["--raw", "--grep", "x"], "cannot use --raw together with --grep"),
            (&["--raw", "-n", "7"], "cannot use --raw together with --lines"),
            (&["--since", "10m", "--until", "1h"], "cannot print what was written between"),
            (&["--since", "10"], "cannot use \"10\" for --since: a bare number has no unit"),
        ] {
            let message = selection(words).unwrap_err();
            assert!(message.starts_with(expected), "{words:?}: {message}");
        }
    }
}
