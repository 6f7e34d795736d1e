//! `cargo xtask e2e`: the tests with real processes alone.

use crate::outcome::{Failure, Verdict, optional_word};
use crate::test::run_tests;
use crate::workspace::cargo;

/// Runs the command. Two tests run at a time: each has many processes of its own, and their
/// deadlines are for a machine that is busy but not swamped.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let pattern = optional_word("e2e", arguments)?;
    let mut tests = cargo("test --package keepd-e2e --no-fail-fast");
    tests.args(pattern).args(["--", "--test-threads=2"]);
    run_tests("e2e", &mut tests, None)
}
