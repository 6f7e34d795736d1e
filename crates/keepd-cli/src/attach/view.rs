//! What the terminal of a second `keepd up` shows: the same lines as that of the first.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use keepd_manager::api::types::EventObject;
use keepd_manager::console::{self, append_json_line, append_text_line, is_end_of_run, paint_dim};
use keepd_manager::logs::{Follower, LogLine, StartFrom};
use keepd_manager::time::timestamp;
use keepd_model::{Reason, ServiceName, State};
use keepd_os::clock::wall_now_ns;
use serde::Serialize;

use crate::arguments::Globals;
use crate::error::{CliError, ErrorKind};
use crate::log_places::LogPlaces;
use crate::output::Screen;
use crate::place::Place;

/// Shows lines and events.
#[derive(Debug)]
pub(super) struct View<'p> {
    place: &'p Place,
    screen: Screen,
    follower: Follower,
    names: BTreeSet<ServiceName>,
    /// What was written before this is not shown.
    began_ns: u64,
    colored: bool,
    json: bool,
    reported: BTreeSet<String>,
}

/// A line of keepd's own as JSON.
#[derive(Serialize)]
struct OwnObject<'a> {
    time: &'a str,
    level: &'static str,
    message: &'a str,
}

impl<'p> View<'p> {
    /// Begins with what is written from now on.
    pub(super) fn open(globals: &Globals, place: &'p Place) -> Self {
        let mut view = Self {
            place,
            screen: Screen::stdout(),
            follower: Follower::new(),
            names: BTreeSet::new(),
            began_ns: wall_now_ns(),
            colored: globals.is_colored(io::stdout().is_terminal()),
            json: globals.is_json(),
            reported: BTreeSet::new(),
        };
        view.follow(StartFrom::End);
        view
    }

    /// Follows the services of the configuration in force. If it cannot be read, those of before
    /// are followed on.
    fn follow(&mut self, from: StartFrom) {
        let Some(places) = LogPlaces::accepted(self.place) else { return };
        // Without a log that keepd writes there is nothing to show.
        let logs = places.plan().services.keys().filter_map(|name| places.log(name).ok());
        let logs: Vec<_> = logs.collect();
        let now: BTreeSet<ServiceName> = logs.iter().map(|log| log.name.clone()).collect();
        for gone in self.names.difference(&now) {
            self.follower.remove(gone);
        }
        for log in logs {
            self.follower.add(log, from);
        }
        self.names = now;
    }

    /// Shows new lines of every service.
    pub(super) fn show_lines(&mut self) -> Result<(), CliError> {
        loop {
            let lines = self.follower.read_all_new();
            if lines.is_empty() {
                break;
            }
            self.print(&lines)?;
        }
        for unread in self.follower.take_unread() {
            let error = CliError::of(ErrorKind::System, &unread);
            if self.reported.insert(error.to_string()) {
                error.print(self.json);
            }
        }
        self.screen.flush()
    }

    /// Shows an event if it is for people who look on.
    pub(super) fn show_event(&mut self, event: &EventObject) -> Result<(), CliError> {
        if matches!(event.event.as_str(), "change-opened" | "lost" | "synchronised") {
            // Another configuration may be in force. A service that is new has written nothing that
            // is older than the view, but maybe something before this look.
            self.follow(StartFrom::Beginning);
        }
        // Lines that were written before it come before it.
        self.show_lines()?;
        if let Some(name) = ended(event) {
            let last = self.follower.finish(&name);
            self.print(&last)?;
        }
        if is_worth_a_line(event) {
            self.say_at(&event.time, &event.text)?;
        }
        Ok(())
    }

    /// Shows a sentence of keepd's own.
    pub(super) fn say(&mut self, text: &str) -> Result<(), CliError> {
        let now = timestamp(wall_now_ns());
        self.say_at(&now, text)
    }

    fn say_at(&mut self, time: &str, text: &str) -> Result<(), CliError> {
        let line = if self.json {
            let object = OwnObject { time, level: "info", message: text };
            serde_json::to_string(&object).expect("an object of texts becomes JSON")
        } else if self.colored {
            format!("{} keepd: {text}", paint_dim(time))
        } else {
            format!("{time} keepd: {text}")
        };
        self.screen.line(&line)?;
        self.screen.flush()
    }

    /// Shows the last lines, and why there are no more.
    pub(super) fn finish(&mut self, why: &str) -> Result<(), CliError> {
        self.show_lines()?;
        let last = self.follower.finish_all();
        self.print(&last)?;
        self.say(why)
    }

    fn print(&mut self, lines: &[LogLine]) -> Result<(), CliError> {
        let mut bytes = Vec::new();
        for line in lines {
            if line.stamp.is_some_and(|stamp| stamp.wall_ns < self.began_ns) {
                continue;
            }
            bytes.clear();
            if self.json {
                append_json_line(line, &mut bytes);
            } else {
                append_text_line(line, self.colored, &mut bytes);
            }
            self.screen.bytes(&bytes)?;
        }
        Ok(())
    }
}

/// Returns the service that has no process any more, by this event.
fn ended(event: &EventObject) -> Option<ServiceName> {
    let to = State::from_word(event.to.as_deref()?)?;
    let name = ServiceName::new(event.service.as_deref()?).ok()?;
    is_end_of_run(to).then_some(name)
}

/// Reports whether the first `keepd up` shows this event, too.
fn is_worth_a_line(event: &EventObject) -> bool {
    let Some(to) = event.to.as_deref().and_then(State::from_word) else {
        return !matches!(event.event.as_str(), "change-opened" | "change-closed" | "state");
    };
    let reason = event.reason.as_deref().and_then(Reason::from_word);
    console::is_worth_a_line(to, reason.unwrap_or(Reason::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, to: Option<&str>, reason: &str) -> EventObject {
        serde_json::from_value(serde_json::json!({
            "sequence": 1, "time": "2026-11-21T07:02:55.123Z", "event": kind, "service": "web",
            "from": null, "to": to, "reason": reason, "generation": null, "pid": null,
            "ran_s": null, "next_start": null, "change": null, "text": "web is there",
        }))
        .unwrap()
    }

    #[test]
    fn results_are_lines_and_steps_are_not() {
        for (to, reason, line, end) in [
            ("ready", "operator", true, false),
            ("starting", "operator", false, false),
            ("stopping", "operator", false, false),
            ("stopping", "signal", true, false),
            ("stopping", "dependency", true, false),
            ("backoff", "exit", true, true),
            ("stopped", "operator", true, true),
        ] {
            let event = event("state", Some(to), reason);
            assert_eq!((is_worth_a_line(&event), ended(&event).is_some()), (line, end), "{to}");
        }
        assert!(is_worth_a_line(&event("shutdown", None, "operator")));
        assert!(is_worth_a_line(&event("lost", None, "unknown")));
        assert!(!is_worth_a_line(&event("change-closed", None, "unknown")));
    }
}
