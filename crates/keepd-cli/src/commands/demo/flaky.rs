//! `keepd demo flaky`: a program that crashes, to watch restarts and their growing delays.

use std::time::Duration;

use clap::{Args, ValueEnum};
use keepd_model::ExitCode;

use super::say::{complain, say};
use super::signals::{Ending, News};
use crate::arguments::duration_value;
use crate::error::CliError;

/// Run for a while, then crash
///
/// For watching restart, backoff and `keepd why`. Asked to end in time, it ends with success.
#[derive(Args, Debug)]
pub(crate) struct FlakyOptions {
    /// Crash after this time instead of 5 to 15 seconds
    #[arg(long, value_name = "DURATION", value_parser = duration_value)]
    after: Option<Duration>,

    /// Choose how it ends
    #[arg(long, value_name = "HOW", default_value = "any")]
    how: How,
}

/// Ways to end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// One of the others, another one from run to run
    Any,
    /// With exit code 3
    Exit,
    /// By the signal ABRT, as a failed assertion does
    Abort,
}

/// The shortest and the longest life where none is given.
const LIFE_SECONDS: std::ops::Range<u64> = 5..15;

/// Runs the demonstration.
pub(super) fn run(options: &FlakyOptions) -> Result<ExitCode, CliError> {
    let ending = Ending::new()?;
    let seed = scatter(u64::from(std::process::id()));
    let life = options.after.unwrap_or_else(|| {
        let choice = seed % (LIFE_SECONDS.end - LIFE_SECONDS.start);
        Duration::from_secs(LIFE_SECONDS.start + choice)
    });
    say(format_args!("flaky {} runs, but not for long", std::process::id()));
    if let News::End(signal) = ending.wait(Some(life))? {
        say(format_args!("flaky got {signal} before it crashed, and ends"));
        return Ok(ExitCode::Done);
    }
    // Standard output may be a pipe, and abort(3) does not wait for it.
    let aborts = match options.how {
        How::Any => seed >> 32 & 1 == 1,
        How::Exit => false,
        How::Abort => true,
    };
    if aborts {
        complain("flaky fails an assertion: the world is not flat");
        std::process::abort();
    }
    complain("flaky cannot go on: the moon is in the wrong phase");
    Ok(ExitCode::Service(3))
}

/// Makes neighbouring numbers different in every bit (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
