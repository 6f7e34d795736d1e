//! One service as a page.

use std::io::{self, IsTerminal};

use keepd_manager::api::types::ServiceObject;
use keepd_manager::console::append_text_line;
use keepd_model::State;

use super::rows::{cpu, duration, how, next_start, when};
use crate::arguments::Globals;
use crate::change::seconds;
use crate::error::CliError;
use crate::log_places::last_lines;
use crate::output::{Clock, Paint, Screen, ago, bytes, parse_time, span};
use crate::place::Place;

/// How many lines of output are shown.
const LINES: usize = 10;

/// How wide the names of facts are.
const LABEL_WIDTH: usize = 12;

/// Prints everything about a service, and the last lines of its output.
pub(super) fn print(
    globals: &Globals,
    place: &Place,
    service: &ServiceObject,
) -> Result<(), CliError> {
    let colored = globals.is_colored(io::stdout().is_terminal());
    let clock = Clock::read(globals);
    let mut screen = Screen::stdout();
    if !globals.quiet {
        let headline = headline(service);
        let paint = State::from_word(&service.state).map_or(Paint::Strong, Paint::of_state);
        screen.line(&if colored { paint.apply(&headline) } else { headline })?;
    }
    for (label, value) in facts(service, &clock, globals.abs_time) {
        screen.line(&format!("  {label:LABEL_WIDTH$}{value}"))?;
    }
    let lines = last_lines(place, &service.name, LINES);
    if !lines.is_empty() {
        screen.line("")?;
    }
    let mut bytes = Vec::new();
    for line in lines {
        append_text_line(&line, colored, &mut bytes);
    }
    screen.bytes(&bytes)?;
    screen.flush()
}

fn headline(service: &ServiceObject) -> String {
    if service.description.is_empty() {
        format!("{} is {}", service.name, service.state)
    } else {
        format!("{} is {}: {}", service.name, service.state, service.description)
    }
}

/// Returns what there is to say, in the order of interest; what is not there is left out.
pub(super) fn facts(
    service: &ServiceObject,
    clock: &Clock,
    absolute: bool,
) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut say = |label: &'static str, value: Option<String>| {
        facts.extend(value.filter(|value| !value.is_empty()).map(|value| (label, value)));
    };
    let list = |words: &[String]| words.join(", ");
    let reason = format!("{} ({})", service.state, service.reason);
    let since = parse_time(&service.since).map(|time| {
        if absolute {
            format!("since {}", clock.absolute(time))
        } else {
            format!("for {}", span(duration(clock.seconds_since(time))))
        }
    });
    say("state", Some([Some(reason), since].into_iter().flatten().collect::<Vec<_>>().join(", ")));
    say(
        "because",
        service.quarantine.as_ref().map(|why| format!("its table cannot be used: {why}")),
    );
    say("wanted", Some(wanted(service)));
    say("health", Some(service.health.clone()).filter(|health| health != "-"));
    say("says", service.status_text.clone());
    say("waits for", Some(list(&service.waits_for)));
    say("process", process(service, clock, absolute));
    say("ready", service.ready_after_s.map(|after_s| format!("after {}", seconds(after_s))));
    say("uses", uses(service));
    say("left behind", service.leftovers.and_then(left_behind));
    say("restarts", Some(service.restarts.to_string()).filter(|count| count != "0"));
    say(
        "last run",
        service.last_exit.as_ref().map(|end| {
            let parts = [Some(how(end)), when(end, clock, absolute)];
            let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
            format!("{text}, after {}", seconds(end.ran_s))
        }),
    );
    say("next start", next_start(service, clock, absolute));
    say("output", service.output_blocked.as_ref().map(|why| format!("cannot be written: {why}")));
    say("depends on", Some(list(&service.depends_on)));
    say("tags", Some(list(&service.tags)));
    say("user", service.user.clone());
    if service.config_changed {
        let name = &service.name;
        let what = "its configuration is newer than its process";
        say("changed", Some(format!("{what}; \"keepd restart {name}\" gives it the new one")));
    }
    facts
}

/// Says what runs that are over left behind, if anything.
fn left_behind(count: u64) -> Option<String> {
    match count {
        0 => None,
        1 => Some("1 process of an earlier run".to_owned()),
        count => Some(format!("{count} processes of earlier runs")),
    }
}

fn wanted(service: &ServiceObject) -> String {
    let enabled = if service.enabled { "enabled" } else { "not enabled" };
    format!("{}, {}, {enabled}", service.wanted, service.kind)
}

fn process(service: &ServiceObject, clock: &Clock, absolute: bool) -> Option<String> {
    let pid = service.pid?;
    let mut text = format!("{pid}, generation {}", service.generation);
    if let Some(uptime_s) = service.uptime_s {
        if absolute {
            text.push_str(&format!(", started {}", clock.absolute(clock.before(uptime_s))));
        } else {
            text.push_str(&format!(", up {}", ago(duration(uptime_s))));
        }
    }
    Some(text)
}

fn uses(service: &ServiceObject) -> Option<String> {
    let mut parts = Vec::new();
    if service.cpu_s.is_some() {
        parts.push(format!("{} CPU", cpu(service)));
    }
    parts.extend(service.memory_bytes.map(|count| format!("{} memory", bytes(count))));
    parts.extend(service.tasks.map(|count| match count {
        1 => "1 task".to_owned(),
        count => format!("{count} tasks"),
    }));
    (!parts.is_empty()).then(|| parts.join(", "))
}
