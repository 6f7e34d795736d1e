//! `keepd apply`.

use clap::Args;
use keepd_manager::api::types::{ApplyAccepted, ApplyRequest, ChangeObject};
use keepd_model::ExitCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::arguments::Globals;
use crate::change;
use crate::client::{Client, block_on, token};
use crate::error::CliError;
use crate::output::{Screen, print_json};
use crate::place;
use crate::steps::{print_errors, print_steps, print_warnings};

/// Make what runs match the configuration file
///
/// The file is read and checked as a whole: with any error in it nothing is changed, unless
/// --keep-going says so. Then new services are started, removed ones are stopped, and those with
/// changed keys are restarted, in the order of their dependencies; keys that need no restart take
/// effect at once. Exit code 1 if a service does not get there. `-o json` prints one document: the
/// `steps`, and the change at its end as `result`.
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
    /// Those that run go on as they are, with what they need; new ones are shown as failed, with
    /// the reason. `keepd status` says so until files without errors are applied.
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
        if globals.is_json() {
            return finish_as_json(&client, globals, accepted, asked_at).await;
        }
        print_errors(&accepted.errors);
        print_warnings(&accepted.warnings);
        for note in &accepted.notes {
            eprintln!("keepd: {note}");
        }
        let mut screen = Screen::stdout();
        print_steps(globals, &mut screen, &accepted.steps, "Nothing has changed.")?;
        change::finish(&client, globals, &accepted.change, asked_at).await
    })
}

/// Everything about an apply in one document.
#[derive(Serialize)]
struct ApplyObject {
    #[serde(flatten)]
    accepted: ApplyAccepted,
    /// What became of it; `null` if nobody waited.
    result: Option<ChangeObject>,
}

async fn finish_as_json(
    client: &Client,
    globals: &Globals,
    accepted: ApplyAccepted,
    asked_at: Instant,
) -> Result<ExitCode, CliError> {
    let result = match globals.no_wait {
        true => None,
        false => Some(change::result(client, globals, &accepted.change, asked_at).await?),
    };
    let code = result.as_ref().map_or(ExitCode::Done, change::exit_code);
    print_json(&ApplyObject { accepted, result })?;
    Ok(code)
}
