//! `keepd stop`.

use clap::Args;
use keepd_manager::api::types::{ActionOptions, ActionWord};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change;
use crate::error::CliError;

/// Stop services, those that depend on them first, and wait until nothing of them is left
///
/// They stay stopped until `keepd start` or a new start of keepd, whatever their restart policy is.
/// What is left after stop_timeout gets KILL. Exit code 1 if something is left even then.
#[derive(Args, Debug)]
pub(crate) struct StopOptions {
    /// Stop these services
    #[arg(value_name = "SELECTOR", required = true)]
    select: Vec<String>,

    /// Leave services that depend on them running
    #[arg(long)]
    alone: bool,

    /// Send KILL at once instead of the stop signal
    #[arg(long)]
    kill: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &StopOptions) -> Result<ExitCode, CliError> {
    let action =
        ActionOptions { alone: options.alone, kill: options.kill, ..ActionOptions::default() };
    change::perform(globals, ActionWord::Stop, &options.select, action)
}
