//! `keepd restart`.

use clap::Args;
use keepd_manager::api::types::{ActionOptions, ActionWord};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change;
use crate::error::CliError;

/// Stop services and start them again with today's configuration, and wait until they are ready
///
/// Executable, user and folder are looked at before the old process is asked to stop: a restart
/// that cannot work is refused and leaves what runs alone. Changes of the configuration file are
/// not read, see `apply`.
#[derive(Args, Debug)]
pub(crate) struct RestartOptions {
    /// Restart these services
    #[arg(value_name = "SELECTOR", required = true)]
    select: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &RestartOptions) -> Result<ExitCode, CliError> {
    let action = ActionOptions::default();
    change::perform(globals, ActionWord::Restart, &options.select, action)
}
