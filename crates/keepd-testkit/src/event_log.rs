//! The log in which test services write down what happens to them: the witness that is not keepd.
//!
//! One line for each event, `WHAT NAME PID GENERATION NANOSECONDS [MORE]`, written with one
//! write(2) to a file opened with O_APPEND, so lines of many processes never mix. The time is
//! CLOCK_MONOTONIC.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_os::clock;

use crate::wait_until;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened: `start`, `ready`, `term`, `end`, `violation`, …
    pub what: String,
    /// The service.
    pub name: String,
    /// The process that wrote it.
    pub pid: u32,
    /// KEEPD_GENERATION of the process; 0 if it had none.
    pub generation: u64,
    /// When, on the monotonic clock.
    pub nanoseconds: u64,
    /// The rest of the line.
    pub more: String,
}

/// The log of one project.
#[derive(Clone, Debug)]
pub struct EventLog {
    path: PathBuf,
}

impl EventLog {
    /// Returns the log in this file, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an event of this process.
    ///
    /// # Errors
    /// What the system said.
    pub fn append(&self, what: &str, name: &str, generation: u64, more: &str) -> io::Result<()> {
        let pid = std::process::id();
        let now = clock::monotonic_now().as_nanos();
        let space = if more.is_empty() { "" } else { " " };
        let line = format!("{what} {name} {pid} {generation} {now}{space}{more}\n");
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(line.as_bytes())
    }

    /// Returns every event so far, in the order of writing.
    ///
    /// # Panics
    /// If a line is not one of ours.
    #[track_caller]
    pub fn entries(&self) -> Vec<Entry> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        // The last line is complete as well: it was written at once.
        text.lines()
            .map(|line| Entry::parse(line).unwrap_or_else(|| panic!("no event: \"{line}\"")))
            .collect()
    }

    /// Returns the events of one kind of one service.
    #[track_caller]
    pub fn of(&self, what: &str, name: &str) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| entry.what == what && entry.name == name);
        entries
    }

    /// Waits for the event number `count` (from 1) of a kind and a service, and returns it.
    ///
    /// # Panics
    /// After `limit`.
    #[track_caller]
    pub fn wait_for(&self, what: &str, name: &str, count: usize, limit: Duration) -> Entry {
        let description = format!("event {count} \"{what}\" of \"{name}\"");
        wait_until(&description, limit, || self.of(what, name).into_iter().nth(count - 1))
    }

    /// Returns the order of the first events of a kind: names of services.
    #[track_caller]
    pub fn order(&self, what: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.entries() {
            if entry.what == what && !names.contains(&entry.name) {
                names.push(entry.name);
            }
        }
        names
    }

    /// Checks what must hold of every log: no service ever had two live processes.
    ///
    /// # Panics
    /// If it does not hold.
    #[track_caller]
    pub fn check_instances(&self) {
        let mut violations = self.entries();
        violations.retain(|entry| entry.what == "violation");
        assert!(violations.is_empty(), "what should have ended was alive: {violations:?}");
    }

    /// Checks what must hold where every start reached its program: also that the generations of
    /// each service begin with 1 and have no gaps.
    ///
    /// # Panics
    /// If it does not hold.
    #[track_caller]
    pub fn check(&self) {
        self.check_instances();
        let entries = self.entries();
        let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let generations: Vec<u64> = entries
                .iter()
                .filter(|entry| entry.what == "start" && entry.name == name)
                .map(|entry| entry.generation)
                .collect();
            let expected: Vec<u64> = (1..=generations.len() as u64).collect();
            assert_eq!(generations, expected, "generations of service \"{name}\"");
        }
    }
}

impl Entry {
    /// Reads a line of a log; `None` if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        Some(Self {
            what: fields.next()?.to_owned(),
            name: fields.next()?.to_owned(),
            pid: fields.next()?.parse().ok()?,
            generation: fields.next()?.parse().ok()?,
            nanoseconds: fields.next()?.parse().ok()?,
            more: fields.next().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let entry = Entry::parse("end web 12 3 456 exit 7").unwrap();
        assert_eq!(entry.name, "web");
        assert_eq!((entry.pid, entry.generation), (12, 3));
        assert_eq!((entry.nanoseconds, entry.more.as_str()), (456, "exit 7"));
        assert_eq!(Entry::parse("start web 1 0 2").unwrap().more, "");
        assert_eq!(Entry::parse("start web"), None);
        assert_eq!(Entry::parse("start web x 0 2"), None);
    }
}
