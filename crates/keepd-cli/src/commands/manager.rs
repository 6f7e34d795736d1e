//! `keepd __manager`: the manager process, started by the proxy and never by hand.

use std::ffi::OsString;

use keepd_manager::Options;
use keepd_model::ExitCode;

/// The hidden verb.
pub(crate) const VERB: &str = keepd_manager::MANAGER_VERB;

/// Runs the manager with the words after the verb.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let (begins_warden, options) = match arguments.split_first() {
        Some((first, rest)) if first == keepd_manager::BEGIN_WARDEN => (true, rest),
        Some(_) | None => (false, arguments),
    };
    match Options::parse(options.iter().cloned()) {
        Ok(options) if begins_warden => ExitCode::Service(keepd_manager::begin_warden(&options)),
        Ok(options) => ExitCode::Service(keepd_manager::run(options)),
        Err(error) => {
            eprintln!("keepd: {error}");
            eprintln!("hint: this is a process of keepd itself; start a project with keepd up");
            ExitCode::Caller
        }
    }
}
