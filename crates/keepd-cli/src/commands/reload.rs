//! `keepd reload`.

use clap::Args;
use keepd_manager::api::types::{ActionOptions, ActionWord};
use keepd_model::ExitCode;

use crate::arguments::Globals;
use crate::change;
use crate::error::CliError;

/// Ask services to read their own files again
///
/// Each of them gets its reload_signal, or its reload_command is run; its process goes on. A group
/// stands for its members. Exit code 100 if one of them has neither.
#[derive(Args, Debug)]
pub(crate) struct ReloadOptions {
    /// Ask these services
    #[arg(value_name = "SELECTOR", required = true)]
    select: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no manager or no such service, one of them cannot reload, or the wait ends early.
pub(crate) fn run(globals: &Globals, options: &ReloadOptions) -> Result<ExitCode, CliError> {
    let action = ActionOptions::default();
    change::perform(globals, ActionWord::Reload, &options.select, action)
}
