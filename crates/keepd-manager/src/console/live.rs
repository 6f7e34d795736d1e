//! What everybody waits for, while changes are on their way.

use std::collections::BTreeSet;
use std::time::Duration;

use keepd_engine::manager::{Manager, ServiceStatus};
use keepd_model::{Instant, ServiceName, State};

/// Between two looks, on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(250);

/// Between two looks where every look that finds something new adds a line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How many services one line names.
const NAMED_MAX: usize = 6;

/// How much of what one service waits for is named.
const MISSING_MAX: usize = 3;

/// What open changes still wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    names: BTreeSet<ServiceName>,
    /// What is missing to the first few of them.
    missing: Vec<String>,
}

impl Waiting {
    /// Returns what is waited for now.
    pub(crate) fn of(machine: &Manager) -> Self {
        let open = machine.changes().filter(|change| !change.is_closed());
        let goals = open.flat_map(|change| &change.goals);
        let names: BTreeSet<ServiceName> =
            goals.filter(|goal| goal.outcome.is_none()).map(|goal| goal.name.clone()).collect();
        let statuses = names.iter().take(NAMED_MAX).map(|name| machine.status(name));
        let missing = statuses.map(|status| status.as_ref().map_or_else(String::new, missing));
        Self { missing: missing.collect(), names }
    }

    /// Returns `waiting: db (ready.port 127.0.0.1:5432: connection refused), web (after db)`.
    fn sentence(&self) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        let named = self.names.iter().zip(&self.missing);
        let parts = named.map(|(name, missing)| format!("{name} ({missing})"));
        Some(format!("waiting: {}", listed(parts, self.names.len(), self.missing.len())))
    }
}

/// Joins the first of `count` parts, and counts the others.
fn listed(parts: impl Iterator<Item = String>, count: usize, named_max: usize) -> String {
    let mut parts: Vec<String> = parts.take(named_max).collect();
    if count > parts.len() {
        parts.push(format!("and {} more", count - parts.len()));
    }
    parts.join(", ")
}

fn missing(status: &ServiceStatus) -> String {
    let waits_for = &status.waits_for;
    let list = listed(waits_for.iter().cloned(), waits_for.len(), MISSING_MAX);
    match status.state {
        State::Waiting if !list.is_empty() => format!("after {list}"),
        State::Starting if !list.is_empty() => list,
        state => state.word().to_owned(),
    }
}

/// What a look found worth showing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// Make this the last line of the terminal.
    Live(Option<String>),
    /// Add this line.
    Line(String),
}

/// Decides when to look and what is new.
pub(crate) struct Progress {
    terminal: bool,
    /// Something happened since the last look.
    stale: bool,
    looked: Instant,
    live: Option<String>,
    names: BTreeSet<ServiceName>,
}

impl Progress {
    /// Returns a progress that is shown on a terminal, or not.
    pub(crate) fn new(terminal: bool, now: Instant) -> Self {
        Self { terminal, stale: false, looked: now, live: None, names: BTreeSet::new() }
    }

    /// Notes that something may have changed.
    pub(crate) fn note_change(&mut self) {
        self.stale = true;
    }

    /// Returns when to look; never, as long as nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LINE_INTERVAL };
        self.stale.then(|| self.looked.saturating_add(interval))
    }

    /// Takes what is waited for now; returns what to show if that is new.
    pub(crate) fn look(&mut self, now: Instant, waiting: &Waiting) -> Option<Show> {
        self.stale = false;
        self.looked = now;
        let sentence = waiting.sentence();
        if self.terminal {
            if sentence == self.live {
                return None;
            }
            self.live.clone_from(&sentence);
            return Some(Show::Live(sentence));
        }
        if waiting.names == self.names {
            return None;
        }
        self.names.clone_from(&waiting.names);
        sentence.map(Show::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(services: &[(&str, &str)]) -> Waiting {
        Waiting {
            names: services.iter().map(|(name, _)| ServiceName::new(name).unwrap()).collect(),
            missing: services
                .iter()
                .take(NAMED_MAX)
                .map(|(_, missing)| (*missing).to_owned())
                .collect(),
        }
    }

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn a_terminal_sees_changes_of_what_is_missing() {
        let mut progress = Progress::new(true, at(0));
        assert_eq!(progress.due(), None);
        progress.note_change();
        assert_eq!(progress.due(), Some(at(250)));
        let missing = "ready.port 127.0.0.1:5432: connection refused";
        let awaited = waiting(&[("db", missing), ("web", "after db")]);
        let text = format!("waiting: db ({missing}), web (after db)");
        assert_eq!(progress.look(at(250), &awaited), Some(Show::Live(Some(text))));
        assert_eq!(progress.due(), None);
        assert_eq!(progress.look(at(600), &awaited), None);
        assert_eq!(progress.look(at(900), &waiting(&[])), Some(Show::Live(None)));
        assert_eq!(progress.look(at(901), &waiting(&[])), None);
    }

    #[test]
    fn elsewhere_only_other_services_make_a_line() {
        let mut progress = Progress::new(false, at(0));
        progress.note_change();
        assert_eq!(progress.due(), Some(at(1_000)));
        let line = |text: &str| Some(Show::Line(text.to_owned()));
        assert_eq!(progress.look(at(1), &waiting(&[("db", "x")])), line("waiting: db (x)"));
        assert_eq!(progress.look(at(2), &waiting(&[("db", "y")])), None);
        let both = waiting(&[("db", "y"), ("web", "z")]);
        assert_eq!(progress.look(at(3), &both), line("waiting: db (y), web (z)"));
        assert_eq!(progress.look(at(4), &waiting(&[])), None);
        assert_eq!(progress.look(at(5), &waiting(&[("db", "x")])), line("waiting: db (x)"));
    }

    #[test]
    fn a_thousand_services_are_a_short_line() {
        let names: Vec<String> = (0..1_000).map(|number| format!("s{number:03}")).collect();
        let services: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let sentence = waiting(&services).sentence().unwrap();
        assert!(sentence.ends_with(", s005 (x), and 994 more"), "{sentence}");
    }

    #[test]
    fn what_one_service_waits_for_is_counted_too() {
        let mut status = crate::api::samples::status();
        status.state = State::Waiting;
        status.waits_for = (0..40).map(|number| format!("s{number} to be ready")).collect();
        assert_eq!(
            missing(&status),
            "after s0 to be ready, s1 to be ready, s2 to be ready, and 37 more"
        );
    }
}
