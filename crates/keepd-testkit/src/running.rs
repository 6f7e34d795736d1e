//! A program that runs, and one that has ended.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use keepd_model::Signal;
use serde_json::Value;

use crate::{LONG, Output, processes};

/// A program in the background, its output collected. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    words: String,
    stdout: Output,
    stderr: Output,
    reaped: bool,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    words: String,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a program. Standard input is that of `command` (the null device, if the caller says
    /// nothing else).
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let words = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {words}: {error}"));
        let stdout = child.stdout.take().expect("the output is a pipe");
        let stderr = child.stderr.take().expect("the output is a pipe");
        Self {
            child,
            words,
            stdout: Output::collect(stdout),
            stderr: Output::collect(stderr),
            reaped: false,
        }
    }

    /// Starts a program whose standard input and output the caller keeps, as pipes in this order.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start_conversation(command: &mut Command) -> (Self, ChildStdin, ChildStdout) {
        let words = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {words}: {error}"));
        let stdin = child.stdin.take().expect("the input is a pipe");
        let stdout = child.stdout.take().expect("the output is a pipe");
        let stderr = child.stderr.take().expect("the output is a pipe");
        let running = Self {
            child,
            words,
            stdout: Output::collect(std::io::empty()),
            stderr: Output::collect(stderr),
            reaped: false,
        };
        (running, stdin, stdout)
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its standard output.
    pub fn stdout(&self) -> &Output {
        &self.stdout
    }

    /// Returns its standard error.
    pub fn stderr(&self) -> &Output {
        &self.stderr
    }

    /// Signals the process.
    ///
    /// # Panics
    /// If it has ended and was waited for.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(processes::signal(self.pid(), signal), "{} has ended", self.words);
    }

    /// Reports whether it still runs.
    pub fn is_running(&mut self) -> bool {
        !self.reaped && matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it runs longer than `limit`, with what it has written.
    #[must_use = "a run whose result nobody looks at tests nothing"]
    #[track_caller]
    pub fn wait_for(mut self, limit: Duration) -> Finished {
        if !processes::wait_for_end(self.pid(), limit) {
            panic!(
                "{} runs longer than {limit:?}\nstdout:\n{}\nstderr:\n{}",
                self.words,
                self.stdout.text(),
                self.stderr.text()
            );
        }
        let status = self.child.wait().expect("an own child can be waited for");
        self.reaped = true;
        // Children of the program may hold its pipes open; what they write is not its output.
        self.stdout.wait_for_end(Duration::from_secs(1));
        self.stderr.wait_for_end(Duration::from_secs(1));
        Finished {
            words: std::mem::take(&mut self.words),
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Waits for its end as long as anything may take here.
    #[must_use = "a run whose result nobody looks at tests nothing"]
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.wait_for(LONG)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// Returns the exit code, or 128 plus the signal that ended it, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .or_else(|| self.status.signal().map(|signal| 128 + signal))
            .expect("a process ends by itself or by a signal")
    }

    /// Checks the exit code, and goes on with the rest.
    ///
    /// # Panics
    /// If it is another one, with everything that was written.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code() == code,
            "{} ended with {}, not {code}\nstdout:\n{}\nstderr:\n{}",
            self.words,
            self.code(),
            self.stdout,
            self.stderr
        );
        self
    }

    /// Reads standard output as one JSON document.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "{} wrote no JSON ({error}):\n{}\nstderr:\n{}",
                self.words, self.stdout, self.stderr
            )
        })
    }
}
