//! `cargo xtask sim`: the simulated world, optimised but with every assertion.

use crate::outcome::{Failure, Verdict};
use crate::workspace::{cargo, run as run_program};

/// Runs the command. The arguments belong to the simulator, and so does the exit status.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let mut simulator = cargo("run --quiet --package keepd-sim --profile sim --");
    let status = run_program(simulator.args(arguments))?;
    Ok(match status.code().map(u8::try_from) {
        Some(Ok(0)) => Verdict::Yes,
        Some(Ok(code)) => Verdict::Status(code),
        // A signal ended it, or the code is none: all that is known is that it did not succeed.
        Some(Err(_)) | None => Verdict::No,
    })
}
