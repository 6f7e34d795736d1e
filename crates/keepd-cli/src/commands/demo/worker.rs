//! `keepd demo worker`: one item after the other, and none is left half done.

use std::time::Duration;

use clap::Args;
use keepd_model::ExitCode;

use super::notify::Notifier;
use super::say::{complain, say};
use super::signals::{Ending, News};
use crate::arguments::duration_value;
use crate::error::{CliError, ErrorKind};

/// Work on one item after the other
///
/// Asked to end with TERM, it finishes the item at hand first. With --notify it says READY=1 and
/// STATUS= on NOTIFY_SOCKET, for a service with ready.notify = true.
#[derive(Args, Debug)]
pub(crate) struct WorkerOptions {
    /// Take this long for each item
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_value)]
    period: Duration,

    /// Tell the supervisor when it is ready, and what it does
    #[arg(long)]
    notify: bool,
}

/// Runs the demonstration.
pub(super) fn run(options: &WorkerOptions) -> Result<ExitCode, CliError> {
    let ending = Ending::new()?;
    let notifier = if options.notify { connect()? } else { None };
    let tell = |text: String| {
        // A supervisor that does not listen is no reason not to work.
        if let Some(Err(error)) = notifier.as_ref().map(|notifier| notifier.say(&text)) {
            complain(format_args!("worker cannot tell its supervisor: {error}"));
        }
    };
    say(format_args!("worker {} is ready", std::process::id()));
    tell("READY=1\nSTATUS=waiting for the first item".to_owned());
    let mut item = 0_u64;
    loop {
        item += 1;
        tell(format!("STATUS=item {item}"));
        let asked_to_end = work(&ending, options.period)?;
        say(format_args!("item {item} is done"));
        if let Some(signal) = asked_to_end {
            tell("STOPPING=1\nSTATUS=ending".to_owned());
            say(format_args!("worker got {signal}, finished item {item} and ends"));
            return Ok(ExitCode::Done);
        }
    }
}

/// Works on one item to its end, and returns the signal that came meanwhile.
fn work(ending: &Ending, period: Duration) -> Result<Option<keepd_model::Signal>, CliError> {
    let end = std::time::Instant::now() + period;
    let mut asked = None;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        match ending.wait(Some(left))? {
            News::Timeout | News::Readable(_) => return Ok(asked),
            News::End(signal) => asked = Some(signal),
        }
    }
}

fn connect() -> Result<Option<Notifier>, CliError> {
    let notifier = Notifier::connect().map_err(|error| {
        CliError::because(ErrorKind::System, "cannot reach the notify socket", &error)
    })?;
    if notifier.is_none() {
        complain("worker has nobody to notify: ready.notify = true would set NOTIFY_SOCKET");
    }
    Ok(notifier)
}
