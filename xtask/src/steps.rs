//! A row of steps: each is announced, timed and run even if an earlier one failed, so that one call
//! shows everything that is wrong.

use std::process::Command;
use std::time::Instant;

use crate::outcome::{Failure, Verdict};
use crate::workspace;

/// The steps of one command, and which of them failed.
pub(crate) struct Steps {
    command: &'static str,
    started: Instant,
    count: usize,
    failed: Vec<&'static str>,
}

impl Steps {
    /// Begins the steps of `cargo xtask COMMAND`.
    pub(crate) fn new(command: &'static str) -> Self {
        Self { command, started: Instant::now(), count: 0, failed: Vec::new() }
    }

    /// Runs one step. A step that cannot be run has failed; its reason is printed.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<Verdict, Failure>,
    ) {
        println!("==> {name}");
        let started = Instant::now();
        let verdict = step().unwrap_or_else(|failure| {
            eprintln!("{failure}");
            Verdict::No
        });
        let good = verdict == Verdict::Yes;
        let word = if good { "ok" } else { "FAILED" };
        println!("<== {name} {word} ({:.1?})", started.elapsed());
        self.count += 1;
        if !good {
            self.failed.push(name);
        }
    }

    /// Runs a program as a step; its exit status decides.
    pub(crate) fn run_program(&mut self, name: &'static str, program: &mut Command) {
        self.run(name, || Ok(Verdict::from_good(workspace::run(program)?.success())));
    }

    /// Prints the closing line and returns the answer.
    pub(crate) fn finish(self) -> Verdict {
        println!("{}", self.closing_line());
        Verdict::from_good(self.failed.is_empty())
    }

    fn closing_line(&self) -> String {
        let Self { command, count, .. } = self;
        let elapsed = self.started.elapsed();
        if self.failed.is_empty() {
            format!("cargo xtask {command}: {count} steps passed ({elapsed:.1?})")
        } else {
            format!(
                "cargo xtask {command}: {} of {count} steps failed: {} ({elapsed:.1?})",
                self.failed.len(),
                self.failed.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_steps_run_after_a_failed_one_and_the_end_names_it() {
        let mut steps = Steps::new("check");
        let mut ran = 0;
        steps.run("first", || Err(Failure::System("cannot run \"x\"".to_owned())));
        steps.run("second", || {
            ran += 1;
            Ok(Verdict::Yes)
        });
        steps.run("third", || Ok(Verdict::Status(3)));
        assert_eq!(ran, 1);
        let line = steps.closing_line();
        assert!(line.contains("2 of 3 steps failed: first, third"), "{line}");
        assert_eq!(steps.finish(), Verdict::No);
    }
}
