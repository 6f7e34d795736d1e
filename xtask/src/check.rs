//! `cargo xtask check`: all that can be said about the code without running it.

use crate::outcome::{Failure, Verdict, no_arguments};
use crate::steps::Steps;
use crate::tidy;
use crate::workspace::cargo;

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    no_arguments("check", arguments)?;
    let mut steps = Steps::new("check");
    steps.run_program("fmt", &mut cargo("fmt --all --check"));
    steps.run_program("clippy", &mut cargo("clippy --workspace --all-targets -- -D warnings"));
    steps.run("tidy", || tidy::run(&[]));
    steps.run_program("doc", cargo("doc --no-deps --workspace").env("RUSTDOCFLAGS", "-D warnings"));
    Ok(steps.finish())
}
