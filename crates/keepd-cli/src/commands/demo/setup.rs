//! `keepd demo setup`: a step that must be done before others may start.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keepd_model::ExitCode;

use super::say::say;
use super::signals::{Ending, News};
use crate::arguments::duration_value;
use crate::error::{CliError, ErrorKind};

/// Prepare something, and end with success
///
/// For a service of kind "oneshot": others wait until it is done. Asked to end earlier, it ends
/// with 1, because it is not done.
#[derive(Args, Debug)]
pub(crate) struct SetupOptions {
    /// Take this long
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration_value)]
    takes: Duration,

    /// Write this file at the end
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the demonstration.
pub(super) fn run(options: &SetupOptions) -> Result<ExitCode, CliError> {
    let ending = Ending::new()?;
    let takes = keepd_plan::format_duration(options.takes);
    say(format_args!("setup begins, it takes {takes}"));
    match ending.wait(Some(options.takes))? {
        News::Timeout | News::Readable(_) => {}
        News::End(signal) => {
            say(format_args!("setup was interrupted by {signal}: not done"));
            return Ok(ExitCode::No);
        }
    }
    if let Some(file) = &options.file {
        std::fs::write(file, "set up by keepd demo setup\n").map_err(|error| {
            let message = format!("cannot write \"{}\"", file.display());
            CliError::because(ErrorKind::System, message, &error)
        })?;
        say(format_args!("setup wrote {}", file.display()));
    }
    say("setup is done");
    Ok(ExitCode::Done)
}
