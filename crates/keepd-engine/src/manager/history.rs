//! The runs of a service that are over: kept as notes, one a run, each written once.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::ServiceName;
use keepd_model::protocol::Command;

use super::Manager;
use super::interface::PastRun;
use super::record::{decode_past_run, encode_past_run};

/// The beginning of the key of a run's note.
const RUN_KEY: &str = "run.";

/// Runs that are over, by a number that counts them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    runs: BTreeMap<u64, PastRun>,
    /// Not written down yet.
    unsaved: BTreeSet<u64>,
    /// Written down, and not remembered any more.
    outlived: BTreeSet<u64>,
}

impl History {
    /// Returns the runs, oldest first.
    pub(super) fn runs(&self) -> impl Iterator<Item = &PastRun> {
        self.runs.values()
    }

    /// Remembers one more run, and forgets the oldest of more than `runs_max`.
    pub(super) fn add(&mut self, run: PastRun, runs_max: usize) {
        let number = self.runs.last_key_value().map_or(1, |(last, _)| last + 1);
        self.runs.insert(number, run);
        self.unsaved.insert(number);
        while self.runs.len() > runs_max {
            if let Some((number, _)) = self.runs.pop_first()
                && !self.unsaved.remove(&number)
            {
                self.outlived.insert(number);
            }
        }
    }

    /// Takes over what a predecessor noted.
    pub(super) fn restore(&mut self, notes: &BTreeMap<String, Vec<u8>>) {
        for (key, value) in notes {
            if let Some(number) = key.strip_prefix(RUN_KEY).and_then(|word| word.parse().ok())
                && let Some(run) = decode_past_run(value)
            {
                self.runs.entry(number).or_insert(run);
            }
        }
    }
}

impl Manager {
    /// Returns the runs of a service that are over, oldest first.
    pub fn history<'m>(
        &'m self,
        name: &ServiceName,
    ) -> Option<impl Iterator<Item = &'m PastRun> + use<'m>> {
        self.services.get(name).map(|service| service.history.runs())
    }

    /// Writes the runs that came to their end in this turn.
    pub(super) fn write_history(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let history = &mut service.history;
        let mut notes = Vec::new();
        for number in std::mem::take(&mut history.outlived) {
            notes.push((number, Vec::new()));
        }
        for number in std::mem::take(&mut history.unsaved) {
            if let Some(run) = history.runs.get(&number) {
                notes.push((number, encode_past_run(run)));
            }
        }
        for (number, value) in notes {
            let key = format!("{RUN_KEY}{number}");
            self.send(Command::ServiceNote { name: name.clone(), key, value });
        }
    }
}
