//! Lines to standard output, and what is wrong with logs to standard error.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use keepd_manager::console::{append_json_line, append_text_line};
use keepd_manager::logs::{LogLine, Note, Unread};

use crate::arguments::Globals;
use crate::error::{CliError, ErrorKind};
use crate::output::Screen;

/// Writes lines to standard output, and once for each log why it cannot be read to standard error.
pub(super) struct Printer {
    screen: Screen,
    colored: bool,
    json: bool,
    quiet: bool,
    reported: BTreeSet<String>,
    bytes: Vec<u8>,
}

impl Printer {
    pub(super) fn new(globals: &Globals) -> Self {
        Self {
            screen: Screen::stdout(),
            colored: globals.is_colored(io::stdout().is_terminal()),
            json: globals.is_json(),
            quiet: globals.quiet,
            reported: BTreeSet::new(),
            bytes: Vec::new(),
        }
    }

    /// Prints a line, which is seen after [`Printer::flush`] at the latest.
    pub(super) fn line(&mut self, line: &LogLine) -> Result<(), CliError> {
        self.bytes.clear();
        if self.json {
            append_json_line(line, &mut self.bytes);
        } else {
            append_text_line(line, self.colored, &mut self.bytes);
        }
        self.screen.bytes(&self.bytes)
    }

    /// Prints bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.screen.bytes(bytes)
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.screen.flush()
    }

    /// Says which logs cannot be read, each once.
    pub(super) fn report(&mut self, unread: &[Unread]) {
        for failure in unread {
            let error =
                CliError::of(ErrorKind::System, failure).with_service(failure.service.as_str());
            if self.reported.insert(error.to_string()) {
                error.print(self.json);
            }
        }
    }

    /// Says why there are fewer lines than may be expected.
    pub(super) fn explain(&self, notes: &[Note]) {
        for note in notes {
            self.say(&sentence(note));
        }
    }

    /// Says a sentence about what is printed.
    pub(super) fn say(&self, sentence: &str) {
        if !self.quiet {
            eprintln!("keepd: {sentence}");
        }
    }
}

/// Returns why there are fewer lines than may be expected.
fn sentence(note: &Note) -> String {
    match note {
        Note::NoSuchRun(log) => {
            format!("the log of service \"{}\" knows of no previous run", log.name)
        }
        Note::NoTimes(log) => format!(
            "the output of service \"{}\" has no times, because \"{}\" is missing: none of it is \
             printed",
            log.name,
            log.dir.join("index").display()
        ),
    }
}
