//! `keepd is`.

use clap::Args;
use keepd_manager::api::types::{ServiceObject, ServicesObject};
use keepd_model::{ExitCode, State};
use serde::Serialize;

use crate::aim::Aim;
use crate::arguments::Globals;
use crate::client::{Client, block_on, with_selectors};
use crate::error::{CliError, ErrorKind};
use crate::output::print_json;
use crate::place;

/// Answer by the exit code whether services are in a state
///
/// Prints nothing: 0 means that all of them are, 1 that one is not, 3 that one is not and is not
/// running either, 4 that there is no such service. With -v it says why not. The states are those
/// of wait.
#[derive(Args, Debug)]
#[command(override_usage = "keepd is [OPTIONS] <SELECTOR>... <STATE>")]
pub(crate) struct IsOptions {
    /// Ask about these services; the last word is the state
    #[arg(value_name = "SELECTOR", required = true)]
    words: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager, no such service or no such state.
pub(crate) fn run(globals: &Globals, options: &IsOptions) -> Result<ExitCode, CliError> {
    let (select, aim) = wanted(&options.words)?;
    let client = Client::new(&place::find(globals)?);
    let found: ServicesObject = block_on(client.get(&with_selectors("/v1/services", select)))?;
    let services = &found.services;
    if globals.is_json() {
        print_json(&Answer::new(services, aim))?;
    } else if globals.verbose {
        for service in services.iter().filter(|service| !aim.is_met(service)) {
            eprintln!("keepd: service \"{}\" is {}, not {aim}", service.name, said(service, aim));
        }
    }
    let codes = services.iter().map(|service| answer(service, aim));
    Ok(codes.max_by_key(|code| code.get()).unwrap_or(ExitCode::Done))
}

/// Tells the selectors from the state.
fn wanted(words: &[String]) -> Result<(&[String], Aim), CliError> {
    match words {
        [select @ .., state] if !select.is_empty() => Ok((select, Aim::parse(state)?)),
        _ => Err(CliError::new(ErrorKind::Usage, "cannot go on without <STATE>")
            .with_hint("keepd is web ready")),
    }
}

/// Returns the answer for one service.
fn answer(service: &ServiceObject, aim: Aim) -> ExitCode {
    if aim.is_met(service) {
        return ExitCode::Done;
    }
    match State::from_word(&service.state) {
        Some(
            State::Stopped
            | State::Waiting
            | State::Scheduled
            | State::Backoff
            | State::Done
            | State::Failed,
        ) => ExitCode::NotRunning,
        Some(State::Starting | State::Ready | State::Stopping | State::Stuck | State::Unknown)
        | None => ExitCode::No,
    }
}

fn said(service: &ServiceObject, aim: Aim) -> &str {
    match aim {
        // "-" is for tables.
        Aim::Healthy if service.health == "-" => "without a check",
        Aim::Healthy => &service.health,
        Aim::State(_) | Aim::Any => &service.state,
    }
}

#[derive(Serialize)]
struct Answer<'s> {
    yes: bool,
    services: Vec<AnswerObject<'s>>,
}

#[derive(Serialize)]
struct AnswerObject<'s> {
    name: &'s str,
    state: &'s str,
    health: &'s str,
    yes: bool,
}

impl<'s> Answer<'s> {
    fn new(services: &'s [ServiceObject], aim: Aim) -> Self {
        let objects = services.iter().map(|service| AnswerObject {
            name: &service.name,
            state: &service.state,
            health: &service.health,
            yes: aim.is_met(service),
        });
        let services: Vec<_> = objects.collect();
        Self { yes: services.iter().all(|service| service.yes), services }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::tests::service;

    #[test]
    fn the_answer_is_yes_no_or_not_running() {
        let ready = Aim::State(State::Ready);
        let code = |state: &str| answer(&service("web", state), ready).get();
        assert_eq!(
            ["ready", "starting", "stopping", "backoff", "stopped", "failed"].map(code),
            [0, 1, 1, 3, 3, 3]
        );
        let stopped = Aim::State(State::Stopped);
        assert_eq!(answer(&service("web", "stopped"), stopped), ExitCode::Done);
        assert_eq!(answer(&service("web", "ready"), stopped), ExitCode::No);
    }

    #[test]
    fn the_state_is_the_last_word() {
        let words = ["web".to_owned(), "ready".to_owned()];
        assert_eq!(wanted(&words).unwrap().1, Aim::State(State::Ready));
        assert!(wanted(&words[..1]).is_err());
        assert!(wanted(&["a".to_owned(), "b".to_owned()]).is_err());
    }
}
