//! `keepd why`.

use clap::Args;
use keepd_manager::api::types::{WhyLineObject, WhyObject};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::client::{Client, block_on, url_encoded};
use crate::error::CliError;
use crate::output::{Clock, Screen, parse_time, print_json};
use crate::place;

/// Say why a service is in its state
///
/// The chain of recorded causes, newest first: what it is, because of what, and what wanted it so.
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
    let client = Client::new(&place::find(globals)?);
    let path = format!("/v1/services/{}/why", url_encoded(&options.name));
    let why: WhyObject = block_on(client.get(&path))?;
    if globals.is_json() {
        print_json(&why)?;
        return Ok(ExitCode::Done);
    }
    let clock = Clock::read(globals);
    let mut screen = Screen::stdout();
    for line in &why.lines {
        screen.line(&sentence(line, &clock, globals.abs_time))?;
    }
    screen.flush()?;
    Ok(ExitCode::Done)
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
