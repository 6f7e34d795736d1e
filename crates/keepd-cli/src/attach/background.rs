//! `up -d` where keepd runs already: what should run and does not is started.

use keepd_manager::api::types::{
    ActionAccepted, ActionOptions, ActionRequest, ActionWord, ServiceObject, ServicesObject,
};
use keepd_model::{ExitCode, State};
use tokio::time::Instant;

use super::running::{hint_at_changes, wait_until_reachable};
use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on, token, with_selectors};
use crate::error::CliError;
use crate::output::print_json;
use crate::place::Place;

/// Starts the selected services that are not there, or the enabled ones, and waits for them.
///
/// # Errors
/// keepd does not answer, there is no such service, or the wait ends early.
pub(crate) fn start_missing(
    globals: &Globals,
    place: &Place,
    select: &[String],
) -> Result<ExitCode, CliError> {
    let client = Client::new(place);
    block_on(async {
        let asked_at = Instant::now();
        wait_until_reachable(place).await;
        let found: ServicesObject = client.get(&with_selectors("/v1/services", select)).await?;
        hint_at_changes(&client).await;
        let missing = missing(&found.services, !select.is_empty());
        if missing.is_empty() {
            if globals.is_json() {
                print_json(&found)?;
            } else if !globals.quiet {
                println!("Everything is up already.");
            }
            return Ok(ExitCode::Done);
        }
        let request = ActionRequest {
            action: ActionWord::Start,
            select: missing,
            options: ActionOptions::default(),
            token: Some(token()?),
        };
        let accepted: ActionAccepted = client.post("/v1/actions", &request).await?;
        change::finish(&client, globals, &accepted.change, asked_at).await
    })
}

/// Returns the services that should be there and are not. What is done is not done again.
fn missing(services: &[ServiceObject], named: bool) -> Vec<String> {
    let missing = services.iter().filter(|service| {
        let state = State::from_word(&service.state);
        (named || service.enabled) && !matches!(state, Some(State::Ready | State::Done))
    });
    missing.map(|service| service.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::tests::service;

    #[test]
    fn what_is_there_or_not_enabled_is_not_missing() {
        let extra = ServiceObject { enabled: false, ..service("extra", "stopped") };
        let services =
            [service("db", "ready"), service("migrate", "done"), service("web", "failed"), extra];
        assert_eq!(missing(&services, false), ["web"]);
        assert_eq!(missing(&services, true), ["web", "extra"]);
    }
}
