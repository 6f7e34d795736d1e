//! `cargo xtask torture`: keepd's own processes are killed again and again, with the release build.

use std::process::Command;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{cargo, root, run as run_program, target};

/// Runs the command. The arguments belong to `keepd-torture`, and so does the exit status.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    // One after the other: what the tests need of a shared crate must not become part of the
    // program that is tested.
    for package in ["keepd-cli", "keepd-e2e"] {
        let mut build = cargo("build --quiet --release --package");
        if !run_program(build.arg(package))?.success() {
            return Ok(Verdict::No);
        }
    }
    let mut torture = Command::new(target()?.join("release/keepd-torture"));
    let status = run_program(torture.args(arguments).current_dir(root()))?;
    Ok(match status.code().map(u8::try_from) {
        Some(Ok(0)) => Verdict::Yes,
        Some(Ok(code)) => Verdict::Status(code),
        // A signal ended it, or the code is none: all that is known is that it did not succeed.
        Some(Err(_)) | None => Verdict::No,
    })
}
