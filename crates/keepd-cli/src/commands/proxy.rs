//! `keepd proxy`, also as `daemonproxy`: the parent of services, with options of its own.

use std::ffi::OsString;

use keepd_model::ExitCode;

/// Runs the proxy with the words behind its name. Exit codes and messages are those of daemonproxy.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> ExitCode {
    ExitCode::Service(keepd_proxy::run(name, arguments.iter().cloned()))
}
