//! Skipped tests, said aloud. libtest hides what a passing test prints, so a test that cannot run
//! here appends one line to the file named by `KEEPD_TEST_SKIPS`; the file is printed at the end.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::outcome::Failure;
use crate::workspace;

/// The variable by which tests learn the name of the file.
const VARIABLE: &str = "KEEPD_TEST_SKIPS";

/// The file to which the tests of one run append.
pub(crate) struct Skips {
    path: PathBuf,
}

impl Skips {
    /// Makes an empty file for this run.
    pub(crate) fn new() -> Result<Self, Failure> {
        let path = workspace::target()?.join("test-skips.txt");
        fs::write(&path, "").map_err(|error| {
            Failure::System(format!("cannot write \"{}\": {error}", path.display()))
        })?;
        Ok(Self { path })
    }

    /// Tells a run of tests where to write.
    pub(crate) fn pass_to(&self, tests: &mut Command) {
        tests.env(VARIABLE, &self.path);
    }

    /// Prints what was skipped and why, and returns how many tests that are.
    pub(crate) fn print(&self) -> Result<usize, Failure> {
        let text = fs::read(&self.path).map_err(|error| {
            Failure::System(format!("cannot read \"{}\": {error}", self.path.display()))
        })?;
        let lines = sorted_lines(&String::from_utf8_lossy(&text));
        for line in &lines {
            println!("{line}");
        }
        Ok(lines.len())
    }
}

/// Returns the lines in order, each with its mark; tests run side by side, so their order is
/// chance.
fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            if line.starts_with("SKIPPED:") { line.to_owned() } else { format!("SKIPPED: {line}") }
        })
        .collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_kept_and_marked_once() {
        let text = "SKIPPED: redis is missing\n\nno cgroup v2\nSKIPPED: redis is missing\n";
        assert_eq!(
            sorted_lines(text),
            ["SKIPPED: no cgroup v2", "SKIPPED: redis is missing", "SKIPPED: redis is missing"]
        );
    }
}
