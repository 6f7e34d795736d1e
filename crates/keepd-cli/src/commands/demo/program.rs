//! Which demonstration.

use clap::Subcommand;
use keepd_model::ExitCode;

use super::{flaky, setup, web, worker};
use crate::error::CliError;

/// Be an example service: a web server, a worker, a setup step, or a program that crashes
///
/// For a first keepd.toml, and to see what readiness, graceful stops and restarts look like.
#[derive(Debug, Subcommand)]
pub(crate) enum Demo {
    Web(web::WebOptions),
    Worker(worker::WorkerOptions),
    Setup(setup::SetupOptions),
    Flaky(flaky::FlakyOptions),
}

/// Runs the demonstration until it is asked to end, or ends by itself.
///
/// # Errors
/// It cannot do what it shows: a port is taken, for example.
pub(crate) fn run(demo: &Demo) -> Result<ExitCode, CliError> {
    match demo {
        Demo::Web(options) => web::run(options),
        Demo::Worker(options) => worker::run(options),
        Demo::Setup(options) => setup::run(options),
        Demo::Flaky(options) => flaky::run(options),
    }
}
