//! `keepd apply`.

use clap::Args;
use keepd_manager::api::types::{ApplyAccepted, ApplyRequest, ChangeObject, StepObject};
use keepd_model::ExitCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on, token};
use crate::error::CliError;
use crate::output::{Screen, print_json};
use crate::place;
use crate::steps::{print_steps, print_warnings};

/// Make what runs match the configuration file
///
/// The file is read and checked as a whole: with any error in it nothing is changed, unless
/// --keep-going says so. Then new services are started, removed ones are stopped, and those with
/// changed keys are restarted, in the order of their dependencies; keys that need no restart take
/// effect at once. Exit code 1 if a service does not get there. `-o json` prints the change, and
/// what was done as its `steps`.
#[derive(Args, Debug)]
pub(crate) struct ApplyOptions {
    /// Only mark services that would be restarted; `keepd restart` gives them their new
    /// configuration
    ///
    /// They are shown as `not restarted` (in JSON as `marked`), and `status` names them.
    #[arg(long)]
    no_restart: bool,

    /// Apply only what diff has shown, which is called so in its last line
    ///
    /// Refused if anything else would be done by now.
    #[arg(long, value_name = "ID")]
    plan: Option<String>,

    /// Leave out services with errors instead of refusing everything
    ///
    /// Those that run go on as they are; new ones are shown as failed, with the reason.
    #[arg(long)]
    keep_going: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager, the configuration has errors, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &ApplyOptions) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let request = ApplyRequest {
        restart: !options.no_restart,
        keep_going: options.keep_going,
        plan: options.plan.clone(),
        token: Some(token()?),
    };
    block_on(async {
        let asked_at = Instant::now();
        let accepted: ApplyAccepted = client.post("/v1/config/apply", &request).await?;
        print_warnings(&accepted.warnings);
        if !globals.is_json() {
            let mut screen = Screen::stdout();
            print_steps(globals, &mut screen, &accepted.steps, "Nothing has changed.")?;
        }
        let change = change::follow(&client, globals, &accepted.change, asked_at).await?;
        if globals.is_json() {
            match &change {
                Some(change) => print_json(&Report { change, steps: &accepted.steps })?,
                None => print_json(&accepted)?,
            }
        } else if change.is_none() {
            change::print_accepted(globals, &accepted.change)?;
        }
        Ok(change::exit_code(change.as_ref()))
    })
}

/// What `-o json` prints of a change that is over.
#[derive(Serialize)]
struct Report<'r> {
    #[serde(flatten)]
    change: &'r ChangeObject,
    steps: &'r [StepObject],
}
