//! Nobody stays behind: a program of its own that waits until the one under which a project is
//! tortured has ended, in whatever way, and ends the project then.
//!
//! A test that is interrupted drops nothing, and keepd is made to outlive much.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use crate::{processes, torture_program};

/// The first argument of the program that makes it a guard; the folder of the project and the
/// entries in the environment by which its processes are known follow.
pub const GUARD: &str = "--guard";
/// A folder with this file is evidence, and stays.
pub(super) const FINDINGS: &str = "findings.txt";

/// A guard that waits. When this is dropped, or its process ends, the guard does its work.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard of a project. It is told of our end by a pipe that nobody else holds.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(super) fn start(folder: &Path, marks: &[&str]) -> Self {
        let child = Command::new(torture_program())
            .arg(GUARD)
            .arg(folder)
            .args(marks)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Who interrupts a run at a terminal interrupts a process group.
            .process_group(0)
            .spawn();
        Self { child: child.expect("the guard of a project can be started") }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the guard with the arguments behind [`GUARD`].
///
/// # Panics
/// If the arguments are wrong.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let [folder, marks @ ..] = arguments else { panic!("a folder is needed") };
    // Nobody writes; the end comes with the end of whoever holds the other side.
    let _ = std::io::stdin().read(&mut [0]);
    let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
    processes::kill_marked(&marks);
    let folder = Path::new(folder);
    if !folder.join(FINDINGS).exists() && std::env::var_os("KEEPD_TEST_KEEP").is_none() {
        // Who ended as he should has removed it himself.
        let _ = fs::remove_dir_all(folder);
    }
    ExitCode::SUCCESS
}
