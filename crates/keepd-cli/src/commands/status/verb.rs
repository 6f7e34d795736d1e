//! The verb itself: which services, in which form, and what the exit code says.

use std::io::{self, IsTerminal};

use clap::Args;
use keepd_manager::api::types::{ServiceObject, ServicesObject};
use keepd_model::{ExitCode, Health, State};

use super::{details, rows};
use crate::arguments::{Format, Globals};
use crate::client::{Client, block_on, url_encoded, with_selectors};
use crate::error::CliError;
use crate::output::{Clock, Screen, print_json, render};
use crate::place;
use crate::selector::exact_name;

/// Show what services are doing
///
/// With one exact name: everything about that service and the last lines of its output; then the
/// exit code is 0 if it is ready or done, 1 if it is on its way or unhealthy, 3 if it is not
/// running, 4 if there is no such service. CPU is the average since the process started.
#[derive(Args, Debug)]
pub(crate) struct StatusOptions {
    /// Show these services instead of all
    #[arg(value_name = "SELECTOR")]
    select: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager, or a selector means nothing.
pub(crate) fn run(globals: &Globals, options: &StatusOptions) -> Result<ExitCode, CliError> {
    let place = place::find(globals)?;
    let client = Client::new(&place);
    if let Some(name) = exact_name(&options.select) {
        let path = format!("/v1/services/{}", url_encoded(name));
        let service: ServiceObject = block_on(client.get(&path))?;
        let code = exit_code(&service);
        match globals.output {
            Format::Table | Format::Wide => details::print(globals, &place, &service)?,
            Format::Json | Format::Name => {
                let (services, notes) = (vec![service], Vec::new());
                print_list(globals, &ServicesObject { services, notes })?;
            }
        }
        return Ok(code);
    }
    let path = with_selectors("/v1/services", &options.select);
    let found: ServicesObject = block_on(client.get(&path))?;
    print_list(globals, &found)?;
    Ok(ExitCode::Done)
}

fn print_list(globals: &Globals, found: &ServicesObject) -> Result<(), CliError> {
    let wide = match globals.output {
        Format::Json => return print_json(found),
        Format::Name => {
            let mut screen = Screen::stdout();
            for service in &found.services {
                screen.line(&service.name)?;
            }
            return screen.flush();
        }
        Format::Table => false,
        Format::Wide => true,
    };
    let clock = Clock::read(globals);
    let rows: Vec<_> = found
        .services
        .iter()
        .map(|service| rows::cells(service, &clock, globals.abs_time, wide))
        .collect();
    let colored = globals.is_colored(io::stdout().is_terminal());
    let mut screen = Screen::stdout();
    let outdated = rows::outdated(&found.services);
    for note in found.notes.iter().chain(&outdated).filter(|_| !globals.quiet) {
        screen.line(&format!("note: {note}"))?;
    }
    screen.text(&render(rows::columns(wide), &rows, !globals.quiet, colored))?;
    screen.flush()
}

/// Returns the answer to "is it running?".
pub(super) fn exit_code(service: &ServiceObject) -> ExitCode {
    let unhealthy = service.health == Health::Unhealthy.word();
    match State::from_word(&service.state) {
        Some(State::Ready | State::Done) if !unhealthy => ExitCode::Done,
        Some(State::Ready | State::Done | State::Starting | State::Stopping | State::Stuck) => {
            ExitCode::No
        }
        Some(
            State::Stopped | State::Waiting | State::Scheduled | State::Backoff | State::Failed,
        ) => ExitCode::NotRunning,
        Some(State::Unknown) | None => ExitCode::No,
    }
}
