//! `keepd history`.

use std::io::{self, IsTerminal};

use clap::Args;
use keepd_manager::api::types::{HistoryObject, RunObject};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change::seconds;
use crate::client::{Client, block_on, url_encoded};
use crate::commands::status;
use crate::error::CliError;
use crate::output::{
    Align, Cell, Clock, Column, Paint, Screen, ago, parse_time, print_json, render, span,
};
use crate::place;

/// Show when a service started and how it ended
///
/// The newest run comes first, the present one included. REASON is why the run ended, WHY is why it
/// was started. keepd.history says how many runs are remembered.
#[derive(Args, Debug)]
pub(crate) struct HistoryOptions {
    /// Show the runs of this service
    #[arg(value_name = "NAME")]
    name: String,

    /// Show only the last N runs
    #[arg(short = 'n', long, value_name = "N")]
    runs: Option<u32>,
}

const COLUMNS: [Column; 6] = [
    Column { title: "GENERATION", align: Align::Right, width_min: 0 },
    Column { title: "STARTED", align: Align::Left, width_min: 0 },
    Column { title: "RAN", align: Align::Right, width_min: 0 },
    Column { title: "ENDED", align: Align::Left, width_min: 0 },
    Column { title: "REASON", align: Align::Left, width_min: 0 },
    Column { title: "WHY", align: Align::Left, width_min: 0 },
];

/// What stands for a value that there is not.
const ABSENT: &str = "-";

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service.
pub(crate) fn run(globals: &Globals, options: &HistoryOptions) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let mut path = format!("/v1/services/{}/history", url_encoded(&options.name));
    if let Some(runs) = options.runs {
        path.push_str(&format!("?limit={runs}"));
    }
    let history: HistoryObject = block_on(client.get(&path))?;
    if globals.is_json() {
        print_json(&history)?;
        return Ok(ExitCode::Done);
    }
    let clock = Clock::read(globals);
    let rows: Vec<_> =
        history.runs.iter().map(|run| cells(run, &clock, globals.abs_time)).collect();
    let colored = globals.is_colored(io::stdout().is_terminal());
    let mut screen = Screen::stdout();
    screen.text(&render(&COLUMNS, &rows, !globals.quiet, colored))?;
    screen.flush()?;
    Ok(ExitCode::Done)
}

fn cells(run: &RunObject, clock: &Clock, absolute: bool) -> Vec<Cell> {
    let started = run.started.as_deref().and_then(parse_time);
    let shown = match started {
        Some(time) if absolute => clock.absolute(time),
        Some(time) => format!("{} ago", ago(status::duration(clock.seconds_since(time)))),
        None => ABSENT.to_owned(),
    };
    let Some(end) = &run.end else {
        let ran = started.map(|time| span(status::duration(clock.seconds_since(time))));
        let ran = ran.unwrap_or_else(|| ABSENT.to_owned());
        return vec![
            run.generation.to_string().into(),
            shown.into(),
            ran.into(),
            ABSENT.into(),
            ABSENT.into(),
            run.cause.as_str().into(),
        ];
    };
    let good = end.code == Some(0);
    vec![
        run.generation.to_string().into(),
        shown.into(),
        seconds(end.ran_s).into(),
        Cell { text: status::how(end), paint: (!good).then_some(Paint::Bad) },
        end.reason.as_str().into(),
        run.cause.as_str().into(),
    ]
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use keepd_manager::api::types::LastExitObject;

    use super::*;

    fn run(generation: u64, started: &str, end: Option<(Option<u8>, &str)>) -> RunObject {
        RunObject {
            generation,
            pid: None,
            cause: "keepd started".to_owned(),
            started: Some(started.to_owned()),
            ready_after_s: None,
            end: end.map(|(code, reason)| LastExitObject {
                generation,
                time: "2026-11-21T07:02:00.000Z".to_owned(),
                code,
                signal: code.is_none().then(|| "KILL".to_owned()),
                core: false,
                reason: reason.to_owned(),
                ran_s: 12.44,
                failure: None,
            }),
        }
    }

    #[test]
    fn a_row_has_both_ends_of_a_run() {
        let clock = Clock::new("2026-11-21T07:02:55Z".parse().unwrap(), TimeZone::UTC);
        let runs = [
            run(3, "2026-11-21T07:02:50Z", None),
            run(2, "2026-11-21T07:01:50Z", Some((None, "oom"))),
            run(1, "2026-11-21T04:01:50Z", Some((Some(3), "exit"))),
        ];
        let rows =
            |absolute| -> Vec<_> { runs.iter().map(|run| cells(run, &clock, absolute)).collect() };
        assert_eq!(
            render(&COLUMNS, &rows(false), true, false),
            "\
GENERATION  STARTED    RAN  ENDED   REASON  WHY
         3  5s ago      5s  -       -       keepd started
         2  1m ago   12.4s  OOM     oom     keepd started
         1  3h ago   12.4s  exit 3  exit    keepd started
"
        );
        assert!(render(&COLUMNS, &rows(true), true, false).contains("2026-11-21T07:02:50Z"));
    }
}
