//! One service as one row.

use std::time::Duration;

use keepd_manager::api::types::{LastExitObject, ServiceObject};
use keepd_model::{Reason, State};

use crate::output::{Align, Cell, Clock, Column, Paint, ago, bytes, parse_time, percent, span};

const fn left(title: &'static str, width_min: usize) -> Column {
    Column { title, align: Align::Left, width_min }
}

const fn right(title: &'static str, width_min: usize) -> Column {
    Column { title, align: Align::Right, width_min }
}

/// The columns of the wide table; the plain one has all before USER.
const COLUMNS: [Column; 14] = [
    left("NAME", 0),
    left("STATE", 8),
    left("HEALTH", 7),
    right("PID", 5),
    right("UPTIME", 7),
    right("RESTARTS", 0),
    right("CPU", 4),
    right("MEM", 6),
    left("LAST", 0),
    left("USER", 0),
    right("TASKS", 0),
    left("SINCE", 0),
    right("GENERATION", 0),
    left("DESCRIPTION", 0),
];

const PLAIN_COLUMNS: usize = 9;

/// How many services a note names.
const NAMES_MAX: usize = 8;

/// What stands for a value that there is not.
const ABSENT: &str = "-";

/// Returns the columns of a table.
pub(super) fn columns(wide: bool) -> &'static [Column] {
    if wide { &COLUMNS } else { &COLUMNS[..PLAIN_COLUMNS] }
}

/// Returns the cells of a service, as many as there are columns.
pub(super) fn cells(
    service: &ServiceObject,
    clock: &Clock,
    absolute: bool,
    wide: bool,
) -> Vec<Cell> {
    let mut cells = vec![
        service.name.as_str().into(),
        state_cell(&service.state),
        health_cell(&service.health),
        number(service.pid),
        uptime(service, clock, absolute).into(),
        service.restarts.to_string().into(),
        cpu(service).into(),
        service.memory_bytes.map_or_else(|| ABSENT.to_owned(), bytes).into(),
        last(service, clock, absolute).into(),
    ];
    if wide {
        cells.extend([
            service.user.as_deref().unwrap_or(ABSENT).into(),
            number(service.tasks),
            since(service, clock, absolute).into(),
            number(Some(service.generation).filter(|generation| *generation > 0)),
            service.description.as_str().into(),
        ]);
    }
    cells
}

/// Returns the note about services whose processes run with an older configuration.
pub(super) fn outdated(services: &[ServiceObject]) -> Option<String> {
    let names: Vec<&str> = services
        .iter()
        .filter(|service| service.config_changed)
        .map(|service| service.name.as_str())
        .collect();
    let (first, more) =
        (names.get(..NAMES_MAX).unwrap_or(&names), names.len().saturating_sub(NAMES_MAX));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| {
        format!(
            "not restarted since their configuration changed: {}{more}; \"keepd restart NAME\" \
             gives them the new one",
            first.join(", ")
        )
    })
}

fn number(value: Option<impl ToString>) -> Cell {
    value.map_or_else(|| ABSENT.to_owned(), |value| value.to_string()).into()
}

fn state_cell(word: &str) -> Cell {
    Cell { text: word.to_owned(), paint: State::from_word(word).map(Paint::of_state) }
}

fn health_cell(word: &str) -> Cell {
    Cell { text: word.to_owned(), paint: (word == "unhealthy").then_some(Paint::Bad) }
}

fn uptime(service: &ServiceObject, clock: &Clock, absolute: bool) -> String {
    match service.uptime_s {
        Some(seconds) if absolute => clock.absolute(clock.before(seconds)),
        Some(seconds) => span(duration(seconds)),
        None => ABSENT.to_owned(),
    }
}

fn since(service: &ServiceObject, clock: &Clock, absolute: bool) -> String {
    match parse_time(&service.since) {
        Some(time) if absolute => clock.absolute(time),
        Some(time) => format!("{} ago", ago(duration(clock.seconds_since(time)))),
        None => ABSENT.to_owned(),
    }
}

/// Returns the share of one CPU since the process started.
pub(super) fn cpu(service: &ServiceObject) -> String {
    match (service.cpu_s, service.uptime_s) {
        (Some(cpu_s), Some(uptime_s)) if uptime_s > 0.0 => percent(cpu_s / uptime_s),
        (Some(_), _) | (None, _) => ABSENT.to_owned(),
    }
}

/// Returns how the last run ended, and when the next one comes or how long ago that was.
fn last(service: &ServiceObject, clock: &Clock, absolute: bool) -> String {
    let next = next_start(service, clock, absolute).map(|next| format!("next {next}"));
    let Some(end) = &service.last_exit else {
        return next.unwrap_or_else(|| ABSENT.to_owned());
    };
    // What stands in brackets (where it was looked for) is for the details, and so is what there is
    // to say about a status.
    let how = match (&end.failure, end.code, &end.signal) {
        (Some(failure), None, None) => failure.split(" (").next().unwrap_or(failure).to_owned(),
        (Some(_) | None, _, _) => how(end),
    };
    match next.or_else(|| when(end, clock, absolute)) {
        Some(when) => format!("{how}, {when}"),
        None => how,
    }
}

/// Returns when it will be started: `in 7s`.
pub(super) fn next_start(service: &ServiceObject, clock: &Clock, absolute: bool) -> Option<String> {
    let time = parse_time(service.next_start.as_deref()?)?;
    Some(if absolute {
        format!("at {}", clock.absolute(time))
    } else {
        format!("in {}", ago(duration(-clock.seconds_since(time))))
    })
}

/// Returns when a run ended: `3h ago`.
pub(super) fn when(end: &LastExitObject, clock: &Clock, absolute: bool) -> Option<String> {
    let time = parse_time(&end.time)?;
    Some(if absolute {
        clock.absolute(time)
    } else {
        format!("{} ago", ago(duration(clock.seconds_since(time))))
    })
}

/// Returns how a run ended: `exit 3`, `signal KILL`, `OOM`, or why it never began.
pub(crate) fn how(end: &LastExitObject) -> String {
    let core = if end.core { " (core dumped)" } else { "" };
    match (Reason::from_word(&end.reason), end.code, &end.signal) {
        (Some(Reason::Oom), _, _) => "OOM".to_owned(),
        // It ended because keepd stopped it; its exit status says nothing about why.
        (Some(Reason::ReadyTimeout), _, _) => "not ready in time".to_owned(),
        (_, Some(code), _) => format!("exit {code}"),
        (_, None, Some(signal)) => format!("signal {signal}{core}"),
        (_, None, None) => end.failure.clone().unwrap_or_else(|| end.reason.clone()),
    }
}

/// Returns a duration; a negative one, of a clock that was set, as zero.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
