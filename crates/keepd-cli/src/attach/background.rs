//! `up -d` where keepd runs already: what should run and does not is started.

use keepd_manager::api::types::{
    ActionAccepted, ActionOptions, ActionRequest, ActionWord, ChangeObject,
};
use keepd_model::ExitCode;
use tokio::time::Instant;

use super::running::{hint_at_changes, wait_until_reachable};
use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on, token};
use crate::error::CliError;
use crate::place::Place;

/// Starts the selected services that are not there, or the enabled ones, and waits for them. Which
/// these are is decided by the manager, at the moment in which it starts them.
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
        hint_at_changes(&client).await;
        let request = ActionRequest {
            action: ActionWord::Up,
            select: select.to_vec(),
            options: ActionOptions::default(),
            token: Some(token()?),
        };
        let accepted: ActionAccepted = client.post("/v1/actions", &request).await?;
        let path = format!("/v1/changes/{}", accepted.change);
        let change: ChangeObject = client.get(&path).await?;
        if change.goals.is_empty() && !globals.is_json() && !globals.no_wait {
            if !globals.quiet {
                println!("Everything is up already.");
            }
            return Ok(ExitCode::Done);
        }
        change::finish(&client, globals, &accepted.change, asked_at).await
    })
}
