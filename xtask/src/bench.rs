//! `cargo xtask bench`: what keepd costs, measured with the release build.

use std::process::Command;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{cargo, root, run as run_program, target};
use crate::{init, packages};

/// The page with the figures, below the root.
const PAGE: &str = "docs/performance.md";

/// Runs the command. The arguments belong to `keepd-bench`, and so does the exit status; only where
/// the page is, it cannot know.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    // One after the other: what the measuring program needs of a shared crate must not become part
    // of the program that is measured.
    for package in ["keepd-cli", "keepd-bench"] {
        let mut build = cargo("build --quiet --release --package");
        if !run_program(build.arg(package))?.success() {
            return Ok(Verdict::No);
        }
    }
    if init::build()?.is_none() {
        return Ok(Verdict::No);
    }
    for line in packages::provide_for_bench() {
        println!("{line}");
    }
    let mut bench = Command::new(target()?.join("release/keepd-bench"));
    bench.current_dir(root());
    for argument in arguments {
        match argument.as_str() {
            "--write" => bench.arg("--page").arg(root().join(PAGE)),
            other => bench.arg(other),
        };
    }
    let status = run_program(&mut bench)?;
    Ok(match status.code().map(u8::try_from) {
        Some(Ok(0)) => Verdict::Yes,
        Some(Ok(code)) => Verdict::Status(code),
        // A signal ended it, or the code is none: all that is known is that it did not succeed.
        Some(Err(_)) | None => Verdict::No,
    })
}
