//! `keepd events`.

use std::io::{self, IsTerminal};

use clap::Args;
use keepd_manager::api::types::EventObject;
use keepd_manager::console::{paint_dim, paint_name};
use keepd_manager::time::timestamp;
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::client::{Client, block_on};
use crate::error::CliError;
use crate::event_stream::{EventStream, Wanted};
use crate::interrupts::Interrupts;
use crate::moment::{Moment, MomentClock, TimeOfDay};
use crate::output::{Screen, print_json};
use crate::place;

/// Print what happened: state changes, commands and applies
///
/// The manager remembers the last 1,000 events that it told itself. Those of a manager before it
/// are lost, and its own first event says so if services ran on; what why and history say is not
/// lost. With -f it goes on with what happens from now on; a manager that is replaced meanwhile is
/// found again, and a line says that something may be missing.
#[derive(Args, Debug)]
pub(crate) struct EventsOptions {
    /// Print what happened to these services instead of everything
    #[arg(value_name = "SELECTOR")]
    select: Vec<String>,

    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Begin at this time: 10m for ten minutes ago, 14:30, 2026-11-21, or RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service.
pub(crate) fn run(globals: &Globals, options: &EventsOptions) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let since = match &options.since {
        Some(since) => {
            let clock = MomentClock::read(globals);
            Some(timestamp(clock.wall_ns(since, TimeOfDay::Last)))
        }
        // Everything that is remembered.
        None => (!options.follow).then(|| "0".to_owned()),
    };
    let wanted = Wanted { select: options.select.clone(), since, follow: options.follow };
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let mut events = EventStream::open(&client, wanted).await?;
        let colored = globals.is_colored(io::stdout().is_terminal());
        let mut screen = Screen::stdout();
        loop {
            let event = tokio::select! {
                event = events.next() => event?,
                () = interrupts.next() => return Ok(ExitCode::Done),
            };
            let Some(event) = event else {
                return Ok(ExitCode::Done);
            };
            if globals.is_json() {
                print_json(&event)?;
            } else {
                screen.line(&line(&event, colored))?;
                screen.flush()?;
            }
        }
    })
}

/// Returns `2026-11-21T07:02:55.123Z web is ready (1.2s)`; what concerns no service is said by
/// keepd.
fn line(event: &EventObject, colored: bool) -> String {
    let time = if colored { paint_dim(&event.time) } else { event.time.clone() };
    let named = event.service.as_ref().and_then(|name| {
        let rest = event.text.strip_prefix(name.as_str())?;
        rest.starts_with(' ').then_some((name, rest))
    });
    match named {
        Some((name, rest)) if colored => format!("{time} {}{rest}", paint_name(name, name)),
        Some(_) => format!("{time} {}", event.text),
        None => format!("{time} keepd: {}", event.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(service: Option<&str>, text: &str) -> EventObject {
        serde_json::from_value(serde_json::json!({
            "sequence": 1, "time": "2026-11-21T07:02:55.123Z", "event": "state",
            "service": service, "from": null, "to": null, "reason": null, "generation": null,
            "pid": null, "ran_s": null, "next_start": null, "change": null, "text": text,
        }))
        .unwrap()
    }

    #[test]
    fn a_line_has_time_name_and_sentence() {
        let ready = event(Some("web"), "web is ready (1.2s)");
        assert_eq!(line(&ready, false), "2026-11-21T07:02:55.123Z web is ready (1.2s)");
        assert!(line(&ready, true).ends_with("mweb\x1b[0m is ready (1.2s)"));
        assert_eq!(
            line(&event(None, "change 3 is complete"), false),
            "2026-11-21T07:02:55.123Z keepd: change 3 is complete"
        );
    }
}
