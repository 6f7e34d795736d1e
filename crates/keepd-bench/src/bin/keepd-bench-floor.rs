//! The floor: a parent that starts programs, waits for their ends, and does nothing else.
//!
//! Usage: `keepd-bench-floor once|again COUNT PROGRAM [ARGUMENT...]`. `again`: what ends is started
//! at once; `once`: the floor ends with the last of its children.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use rustix::process::{WaitOptions, wait};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [mode, count, program, rest @ ..] = arguments.as_slice() else {
        return usage();
    };
    let again = match mode.to_str() {
        Some("again") => true,
        Some("once") => false,
        Some(_) | None => return usage(),
    };
    let Some(count) = count.to_str().and_then(|word| word.parse::<usize>().ok()) else {
        return usage();
    };
    // The standard library makes such a child by posix_spawn(3), which shares memory with its
    // parent until the program is executed: no way to start a process is faster.
    let mut command = Command::new(program);
    command.args(rest);
    match run(&mut command, count, again) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot run {command:?}: {error}");
            ExitCode::from(111)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: keepd-bench-floor once|again COUNT PROGRAM [ARGUMENT...]");
    ExitCode::from(100)
}

/// Starts the children and reaps them until none is left.
fn run(command: &mut Command, count: usize, again: bool) -> std::io::Result<()> {
    for _ in 0..count {
        // A child that is dropped is neither killed nor waited for; the loop below does that.
        drop(command.spawn()?);
    }
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) if again => drop(command.spawn()?),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
