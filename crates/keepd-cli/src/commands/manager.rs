//! `keepd __manager`: the manager process, started by the proxy and never by hand.

use std::ffi::OsString;

use keepd_manager::Options;
use keepd_model::ExitCode;

/// The hidden verb.
pub(crate) const VERB: &str = "__manager";

/// Runs the manager with the words after the verb.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    match Options::parse(arguments.iter().cloned()) {
        Ok(options) => ExitCode::Service(keepd_manager::run(options)),
        Err(error) => {
            eprintln!("keepd: {error}");
            eprintln!("hint: this is a process of keepd itself; start a project with keepd up");
            ExitCode::Caller
        }
    }
}
