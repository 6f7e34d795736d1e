//! `keepd why`.

use std::io::{self, IsTerminal};

use clap::Args;
use keepd_manager::api::types::{ServiceObject, WhyLineObject, WhyObject};
use keepd_manager::console::append_text_line;
use keepd_manager::logs::LogLine;
use keepd_model::{ExitCode, State};

use crate::arguments::Globals;
use crate::client::{Client, block_on, url_encoded};
use crate::error::CliError;
use crate::log_places::last_lines;
use crate::output::{Clock, Screen, parse_time, print_json};
use crate::place::{self, Place};

/// How many lines of a run that failed are shown.
const LINES: usize = 3;

/// Say why a service is in its state
///
/// The chain of recorded causes, newest first: what it is, because of what, and what wanted it so.
/// For a service that failed or is in backoff: also the last lines that its last run wrote.
#[derive(Args, Debug)]
pub(crate) struct WhyOptions {
    /// Explain this service
    #[arg(value_name = "NAME")]
    name: String,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service.
pub(crate) fn run(globals: &Globals, options: &WhyOptions) -> Result<ExitCode, CliError> {
    let place = place::find(globals)?;
    let client = Client::new(&place);
    let path = format!("/v1/services/{}", url_encoded(&options.name));
    let why: WhyObject = block_on(client.get(&format!("{path}/why")))?;
    if globals.is_json() {
        print_json(&why)?;
        return Ok(ExitCode::Done);
    }
    let clock = Clock::read(globals);
    let mut screen = Screen::stdout();
    for line in &why.lines {
        screen.line(&sentence(line, &clock, globals.abs_time))?;
    }
    let service: ServiceObject = block_on(client.get(&path))?;
    let lines = last_words(&place, &service);
    if !lines.is_empty() {
        screen.line("  the last lines of that run:")?;
    }
    let colored = globals.is_colored(io::stdout().is_terminal());
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(b"    ");
        append_text_line(&line, colored, &mut bytes);
    }
    screen.bytes(&bytes)?;
    screen.flush()?;
    Ok(ExitCode::Done)
}

/// Returns the last lines of the run whose end put the service where it is. A start that failed
/// before its program has none, and those of earlier runs do not explain it.
fn last_words(place: &Place, service: &ServiceObject) -> Vec<LogLine> {
    let at_rest_by_itself =
        matches!(State::from_word(&service.state), Some(State::Backoff | State::Failed));
    let Some(end) = service.last_exit.as_ref().filter(|end| end.failure.is_none()) else {
        return Vec::new();
    };
    if !at_rest_by_itself {
        return Vec::new();
    }
    let mut lines = last_lines(place, &service.name, LINES);
    lines.retain(|line| {
        line.stamp.as_ref().is_some_and(|stamp| stamp.generation.get() == end.generation)
    });
    lines
}

/// Returns a line with its indentation and, below the present state, when it happened.
fn sentence(line: &WhyLineObject, clock: &Clock, absolute: bool) -> String {
    let indentation = "  ".repeat(line.depth);
    let time = line.time.as_deref().and_then(parse_time);
    match time {
        Some(time) if absolute => format!("{indentation}{}, {}", line.text, clock.absolute(time)),
        Some(time) if line.depth > 0 => {
            format!("{indentation}{}, {}", line.text, clock.of_day(time))
        }
        Some(_) | None => format!("{indentation}{}", line.text),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn causes_are_indented_and_have_a_time() {
        let clock = Clock::new("2026-11-21T07:03:00Z".parse().unwrap(), TimeZone::UTC);
        let line = |depth, time: Option<&str>, text: &str| WhyLineObject {
            depth,
            time: time.map(str::to_owned),
            text: text.to_owned(),
        };
        let time = Some("2026-11-21T07:02:55.120Z");
        let shown = [
            line(0, time, "web is in backoff, next start in 7s (delay 7.3s, 5th restart)"),
            line(1, time, "because its process 4920 (generation 5) was killed by the OOM killer"),
            line(2, None, "because memory.max of its cgroup is 512MiB"),
        ]
        .map(|line| sentence(&line, &clock, false));
        assert_eq!(
            shown,
            [
                "web is in backoff, next start in 7s (delay 7.3s, 5th restart)",
                "  because its process 4920 (generation 5) was killed by the OOM killer, 07:02:55",
                "    because memory.max of its cgroup is 512MiB",
            ]
        );
        let absolute = sentence(&line(0, time, "web is ready"), &clock, true);
        assert_eq!(absolute, "web is ready, 2026-11-21T07:02:55Z");
    }
}
