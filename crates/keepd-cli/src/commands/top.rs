//! `keepd __top`: the top process of an instance in the background. Not for people: `keepd up -d`
//! starts it.

use std::ffi::OsString;

use keepd_manager::Options;
use keepd_model::ExitCode;

use crate::error::{CliError, ErrorKind};
use crate::top::{self, Input};

/// The verb.
pub(crate) const VERB: &str = "__top";

/// Runs the verb. The lock of the instance came as a descriptor, and stays open as long as we live.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let result = Options::parse(arguments.iter().cloned())
        .map_err(|error| CliError::because(ErrorKind::Usage, "cannot start the top process", error))
        .and_then(|options| top::supervise(&options, Input::Null));
    result.unwrap_or_else(|error| {
        error.print(false);
        error.kind().exit_code()
    })
}
