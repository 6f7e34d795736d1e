//! `cargo xtask bench`: what keepd costs, measured with the release build, and with `library` what
//! the library costs.

use std::process::Command;

use crate::outcome::{Failure, Verdict};
use crate::workspace::{cargo, root, run as run_program, target};
use crate::{init, packages};

/// The page with the figures, below the root.
const PAGE: &str = "docs/performance.md";

/// The workspace of the program that measures the library, below the root.
const LIBRARY: &str = "bench/library";

/// Runs the command. The arguments belong to the program that measures, and so does the exit
/// status; only where the page is, it cannot know.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    match arguments.split_first() {
        Some((word, rest)) if word == "library" => run_library(rest),
        Some(_) | None => run_programs(arguments),
    }
}

/// Measures the library beside proc-daemon.
fn run_library(arguments: &[String]) -> Result<Verdict, Failure> {
    let folder = target()?.join("bench-library");
    let mut build = cargo("build --quiet --release");
    build.arg("--manifest-path").arg(root().join(LIBRARY).join("Cargo.toml"));
    if !run_program(build.arg("--target-dir").arg(&folder))?.success() {
        return Ok(Verdict::No);
    }
    measure(Command::new(folder.join("release/keepd-bench-library")), arguments)
}

/// Measures the programs.
fn run_programs(arguments: &[String]) -> Result<Verdict, Failure> {
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
    measure(Command::new(target()?.join("release/keepd-bench")), arguments)
}

/// Runs a program that measures.
fn measure(mut bench: Command, arguments: &[String]) -> Result<Verdict, Failure> {
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
