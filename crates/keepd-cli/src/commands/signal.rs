//! `keepd signal`.

use clap::Args;
use keepd_manager::api::types::{ActionOptions, ActionWord};
use keepd_model::{ExitCode, Signal};

use crate::arguments::Globals;
use crate::change;
use crate::error::{CliError, ErrorKind};

/// Send a signal to the main process of services
///
/// What follows from the signal is up to the service and its restart policy: use stop to end it and
/// reload to make it read its files again. Exit code 3 if one of them is not running; then none is
/// signalled. A group stands for its members.
#[derive(Args, Debug)]
pub(crate) struct SignalOptions {
    /// Send this signal: HUP, SIGHUP or 1
    #[arg(value_name = "SIGNAL")]
    signal: String,

    /// Send it to these services
    #[arg(value_name = "SELECTOR", required = true)]
    select: Vec<String>,

    /// Send it to every process of the services, not only to the main ones
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is no such signal, no manager or no such service, or one of them is not running.
pub(crate) fn run(globals: &Globals, options: &SignalOptions) -> Result<ExitCode, CliError> {
    let signal = parse(&options.signal)?;
    let action = ActionOptions {
        signal: Some(signal.to_string()),
        all: options.all,
        ..ActionOptions::default()
    };
    change::perform(globals, ActionWord::Signal, &options.select, action)
}

/// Reads a signal. Lower case is a mistake as anywhere else, but an easy one to answer.
fn parse(text: &str) -> Result<Signal, CliError> {
    Signal::parse(text).map_err(|error| {
        let folded = text.to_ascii_uppercase();
        let name = folded.strip_prefix("SIG").unwrap_or(&folded);
        let nearest = keepd_plan::nearest(name, Signal::names());
        let message = format!("cannot send signal \"{text}\": {error}");
        let refused = CliError::new(ErrorKind::Usage, message);
        match nearest {
            Some(nearest) => refused.with_hint(format!("the nearest signal is \"{nearest}\"")),
            None => refused,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_answered_with_the_nearest() {
        assert_eq!(parse("SIGHUP").unwrap(), Signal::HUP);
        for (text, nearest) in [("hup", "HUP"), ("SIGTREM", "TERM"), ("usr3", "USR1")] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(format!("{error:?}").contains(&format!("is \\\"{nearest}\\\"")), "{error:?}");
        }
        assert!(parse("0").is_err());
    }
}
