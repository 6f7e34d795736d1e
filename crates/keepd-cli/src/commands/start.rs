//! `keepd start`.

use clap::Args;
use keepd_manager::api::types::{ActionOptions, ActionWord};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change;
use crate::error::CliError;

/// Start services and what they depend on, and wait until they are ready
///
/// A daemon is waited for until it is ready, a oneshot until it is done. A service that failed is
/// tried again at once. Exit code 1 if one of them does not get there.
#[derive(Args, Debug)]
pub(crate) struct StartOptions {
    /// Start these services
    #[arg(value_name = "SELECTOR", required = true)]
    select: Vec<String>,

    /// Leave their dependencies alone, and do not wait for them
    #[arg(long)]
    alone: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &StartOptions) -> Result<ExitCode, CliError> {
    let action = ActionOptions { alone: options.alone, ..ActionOptions::default() };
    change::perform(globals, ActionWord::Start, &options.select, action)
}
