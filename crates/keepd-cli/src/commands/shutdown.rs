//! `keepd shutdown`.

use clap::Args;
use keepd_model::{ExitCode, Pid};

use super::down;
use crate::arguments::Globals;
use crate::error::{CliError, ErrorKind};
use crate::place;

/// Stop every service and keepd itself, whichever instance it is
///
/// Services are stopped in the reverse order of their dependencies, each with its own stop signal
/// and timeout. For a project this is the same as down; for the system and the user
/// instance it is the only way.
#[derive(Args, Debug)]
pub(crate) struct ShutdownOptions {
    /// Start the machine again afterwards; only where keepd is its process 1
    #[arg(long, conflicts_with = "poweroff")]
    reboot: bool,

    /// Switch the machine off afterwards; only where keepd is its process 1
    #[arg(long)]
    poweroff: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is nothing to stop, keepd does not answer, `--timeout` is over, or a signal came.
pub(crate) fn run(globals: &Globals, options: &ShutdownOptions) -> Result<ExitCode, CliError> {
    for (asked, verb) in [(options.reboot, "restart"), (options.poweroff, "switch off")] {
        if asked {
            return Err(refused(verb));
        }
    }
    down::end(globals, place::find(globals)?.instance)
}

/// Returns why the machine stays on.
fn refused(verb: &str) -> CliError {
    let init = Pid::new(1).and_then(keepd_os::proc::name).unwrap_or_default();
    if init == "keepd" || init == "keepd-init" {
        let message = format!("cannot {verb} the machine: it is not supported by this version");
        return CliError::new(ErrorKind::Unsupported, message);
    }
    let message = format!("cannot {verb} the machine: its process 1 is \"{init}\", and not keepd");
    CliError::new(ErrorKind::Usage, message).with_hint("leave the option out to stop only keepd")
}
