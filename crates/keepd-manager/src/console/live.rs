//! What everybody waits for, while changes are on their way.

use std::collections::BTreeSet;
use std::time::Duration;

use keepd_engine::manager::{Manager, ServiceStatus};
use keepd_model::{Instant, ServiceName, State};

/// Between two looks, on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(250);

/// Between two looks where every look that finds something new adds a line.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How many services one line names where nothing else bounds it.
const NAMED_MAX: usize = 12;

/// A service that is waited for, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    name: ServiceName,
    missing: String,
}

/// Returns the services that open changes still wait for, by name.
pub(crate) fn awaited(machine: &Manager) -> Vec<Awaited> {
    let open = machine.changes().filter(|change| !change.is_closed());
    let names: BTreeSet<&ServiceName> = open
        .flat_map(|change| &change.goals)
        .filter(|goal| goal.outcome.is_none())
        .map(|goal| &goal.name)
        .collect();
    names.into_iter().filter_map(|name| machine.status(name).as_ref().map(describe)).collect()
}

fn describe(status: &ServiceStatus) -> Awaited {
    let list = status.waits_for.join(", ");
    let missing = match status.state {
        State::Waiting if !list.is_empty() => format!("after {list}"),
        State::Starting if !list.is_empty() => list,
        state => state.word().to_owned(),
    };
    Awaited { name: status.spec.name.clone(), missing }
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
    pub(crate) fn look(&mut self, now: Instant, awaited: &[Awaited]) -> Option<Show> {
        self.stale = false;
        self.looked = now;
        if self.terminal {
            let live = (!awaited.is_empty()).then(|| sentence(awaited, usize::MAX));
            if live == self.live {
                return None;
            }
            self.live.clone_from(&live);
            return Some(Show::Live(live));
        }
        let names: BTreeSet<_> = awaited.iter().map(|one| one.name.clone()).collect();
        if names == self.names {
            return None;
        }
        self.names = names;
        (!awaited.is_empty()).then(|| Show::Line(sentence(awaited, NAMED_MAX)))
    }
}

/// Returns `waiting: db (ready.port 127.0.0.1:5432: connection refused), web (after db)`.
fn sentence(awaited: &[Awaited], named_max: usize) -> String {
    let named = awaited.iter().take(named_max);
    let mut parts: Vec<String> =
        named.map(|one| format!("{} ({})", one.name, one.missing)).collect();
    if let Some(more) = awaited.len().checked_sub(named_max).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    format!("waiting: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, missing: &str) -> Awaited {
        Awaited { name: ServiceName::new(name).unwrap(), missing: missing.to_owned() }
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
        let awaited = [one("db", missing), one("web", "after db")];
        let text = format!("waiting: db ({missing}), web (after db)");
        assert_eq!(progress.look(at(250), &awaited), Some(Show::Live(Some(text))));
        assert_eq!(progress.due(), None);
        assert_eq!(progress.look(at(600), &awaited), None);
        assert_eq!(progress.look(at(900), &[]), Some(Show::Live(None)));
        assert_eq!(progress.look(at(901), &[]), None);
    }

    #[test]
    fn elsewhere_only_other_services_make_a_line() {
        let mut progress = Progress::new(false, at(0));
        progress.note_change();
        assert_eq!(progress.due(), Some(at(1_000)));
        let line = |text: &str| Some(Show::Line(text.to_owned()));
        assert_eq!(progress.look(at(1), &[one("db", "x")]), line("waiting: db (x)"));
        assert_eq!(progress.look(at(2), &[one("db", "y")]), None);
        let both = [one("db", "y"), one("web", "z")];
        assert_eq!(progress.look(at(3), &both), line("waiting: db (y), web (z)"));
        assert_eq!(progress.look(at(4), &[]), None);
        assert_eq!(progress.look(at(5), &[one("db", "x")]), line("waiting: db (x)"));
    }

    #[test]
    fn a_long_list_is_counted() {
        let many: Vec<Awaited> = (0..15).map(|number| one(&format!("s{number}"), "x")).collect();
        assert!(sentence(&many, 12).ends_with("s11 (x), and 3 more"));
    }
}
