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

    /// Takes over what a predecessor noted, and what we noted ourselves. What was on its way to a
    /// proxy that was lost is written down again: nobody else has it.
    pub(super) fn restore(&mut self, notes: &BTreeMap<String, Vec<u8>>) {
        let is_missing = |number: &&u64| !notes.contains_key(&format!("{RUN_KEY}{number}"));
        self.unsaved.extend(self.runs.keys().filter(is_missing));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::Cause;
    use crate::manager::interface::LastEnd;
    use keepd_model::{Exit, Generation, Instant, Reason};
    use std::time::Duration;

    fn run(generation: u64) -> PastRun {
        let end = LastEnd {
            generation: Generation::new(generation),
            pid: None,
            at: Instant::ZERO,
            exit: Some(Exit::Code(3)),
            reason: Reason::Exit,
            ran: Duration::ZERO,
            failure: None,
        };
        PastRun { cause: Cause::Boot, ready_after: None, end }
    }

    #[test]
    fn what_a_lost_proxy_did_not_note_is_written_again() {
        let mut history = History::default();
        for generation in 1..=3 {
            history.add(run(generation), 10);
        }
        // All three were sent, and the proxy was lost after the first.
        history.unsaved.clear();
        let notes = BTreeMap::from([("run.1".to_owned(), encode_past_run(&run(1)))]);
        history.restore(&notes);
        assert_eq!(history.unsaved, BTreeSet::from([2, 3]));
        assert_eq!(history.runs().count(), 3);
    }
}
