//! `cargo xtask test`: every test there is, and an honest last line.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::outcome::{Failure, Verdict, optional_word};
use crate::skips::Skips;
use crate::workspace::{cannot_run, cargo, run as run_program};
use crate::{init, packages};

/// Runs the command.
pub(crate) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let filter = optional_word("test", arguments)?;
    let mut tests = cargo("test --workspace --no-fail-fast");
    tests.args(filter);
    // What is off by default in the library has tests and examples of its own.
    let mut all_features = cargo("test --package keepd --all-features --no-fail-fast");
    all_features.args(filter);
    run_tests("test", &mut tests, Some(all_features))
}

/// Provides what tests need, builds the programs that they start, runs them, and repeats at the end
/// what was missing and what was skipped. `more` runs after them.
pub(crate) fn run_tests(
    command: &str,
    tests: &mut Command,
    more: Option<Command>,
) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let missing = packages::provide();
    print_lines(&missing);
    let programs =
        "build --package keepd-cli --package keepd-proxy --package keepd --bins --examples";
    if !run_program(&mut cargo(programs))?.success() {
        println!("cargo xtask {command}: FAILED: the programs do not build");
        return Ok(Verdict::No);
    }
    let Some(init) = init::build()? else {
        println!("cargo xtask {command}: FAILED: the static keepd-init does not build");
        return Ok(Verdict::No);
    };
    // What is put into images is what is tested.
    tests.env("KEEPD_INIT_BIN", init);
    let skips = Skips::new()?;
    skips.pass_to(tests);
    let mut tally = Tally::default();
    let mut good = watch(tests, &mut tally)?;
    if let Some(mut more) = more {
        good &= watch(&mut more, &mut tally)?;
    }
    print_lines(&missing);
    let skipped = skips.print()?;
    let word = if good { "ok" } else { "FAILED" };
    println!(
        "cargo xtask {command}: {word}. {} passed, {skipped} of them skipped; {} failed ({:.1?})",
        tally.passed,
        tally.failed,
        started.elapsed()
    );
    Ok(Verdict::from_good(good))
}

/// Runs the tests, hands their output on line by line, and counts.
fn watch(tests: &mut Command, tally: &mut Tally) -> Result<bool, Failure> {
    let mut child =
        tests.stdout(Stdio::piped()).spawn().map_err(|error| cannot_run(tests, &error))?;
    let output = child.stdout.take().expect("the output is a pipe");
    let copied = copy_lines(BufReader::new(output), io::stdout(), tally);
    let status = child.wait().map_err(|error| cannot_run(tests, &error))?;
    copied.map_err(|error| Failure::System(format!("cannot read the tests' output: {error}")))?;
    Ok(status.success())
}

fn copy_lines(mut from: impl BufRead, mut to: impl Write, tally: &mut Tally) -> io::Result<()> {
    let mut line = Vec::new();
    // Tests may print any bytes, so lines are bytes.
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        tally.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    to.flush()
}

fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

/// The sum of the closing lines of all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds a line such as `test result: ok. 5 passed; 0 failed; …`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up_and_nothing_else_counts() {
        let mut tally = Tally::default();
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
            finished in 0.00s\n\
            test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out\n\
            my own words: 9 passed\n";
        let mut copy = Vec::new();
        copy_lines(output.as_bytes(), &mut copy, &mut tally).unwrap();
        assert_eq!(copy, output.as_bytes());
        assert_eq!(tally, Tally { passed: 7, failed: 3 });
    }
}
