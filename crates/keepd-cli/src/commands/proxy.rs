//! `keepd proxy`, also as `daemonproxy`: the parent of services, with options of its own.

use std::ffi::OsString;

use keepd_model::ExitCode;
use keepd_proxy::{Options, UsageError};

/// Runs the proxy with the words after the verb. Exit codes and messages are those of daemonproxy.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    match Options::parse(arguments.iter().cloned()) {
        Ok(options) => ExitCode::Service(keepd_proxy::run(&options)),
        Err(shown @ (UsageError::Help | UsageError::Version)) => {
            println!("{shown}");
            ExitCode::Service(shown.exit_code())
        }
        Err(refusal) => {
            eprintln!("fatal: {refusal}");
            ExitCode::Service(refusal.exit_code())
        }
    }
}
