//! Kills a process at its k-th system call: a program of its own, because the kernel tells a tracer
//! about its tracees as if they were its children.
//!
//! It says `attached` on its standard output when it counts, and `killed NUMBER` when it has
//! killed, with the number of the call that was not made any more. Whoever does not want to wait
//! for that kills it; what it traced goes on then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use keepd_model::{Errno, Pid, Signal};
use keepd_os::trace::{self, Stop, Until};

use crate::processes;

/// The first argument of the program that makes it a tracer; process, [`Whose`] and the number of
/// the call follow.
pub const TRACER: &str = "--trace";
/// How long the tracer may take until it counts.
const ATTACH_PATIENCE: Duration = Duration::from_secs(10);

/// Whose calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of the process itself.
    Own,
    /// Those of each process that it makes, until that executes a program.
    Child,
    /// Those of each process that it makes, to its end.
    Successor,
}

impl Whose {
    const ALL: [Self; 3] = [Self::Own, Self::Child, Self::Successor];

    const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Child => "child",
            Self::Successor => "successor",
        }
    }
}

/// A tracer that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    killed: Option<u64>,
}

impl Tracer {
    /// Starts the tracer, and waits until it counts. `call` is the number of the call at which the
    /// process is killed, from 1.
    ///
    /// # Errors
    /// It cannot be started, or may not trace.
    pub fn start(program: &Path, pid: u32, whose: Whose, call: u64) -> Result<Self, String> {
        let mut child = Command::new(program)
            .args([TRACER, &pid.to_string(), whose.word(), &call.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the tracer: {error}"))?;
        let stdout = child.stdout.take().expect("the output is a pipe");
        let lines = collect(stdout);
        let tracer = Self { child, lines, killed: None };
        match tracer.lines.recv_timeout(ATTACH_PATIENCE) {
            Ok(line) if line == "attached" => Ok(tracer),
            Ok(line) => Err(format!("cannot trace process {pid}: {line}")),
            Err(error) => Err(format!("cannot trace process {pid}: {error}")),
        }
    }

    /// Returns the number of the system call at which somebody was killed, if that has happened.
    pub fn killed(&mut self) -> Option<u64> {
        match self.lines.try_recv() {
            Ok(line) => {
                let number = line.strip_prefix("killed ").and_then(|word| word.parse().ok());
                self.killed = self.killed.or(number);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        self.killed
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.map_while(|line| sender.send(line).ok()).for_each(drop);
    });
    lines
}

/// Tries whether a process can be traced here: containers may forbid it.
///
/// # Errors
/// Why not.
pub fn check(program: &Path) -> Result<(), String> {
    let mut process = Command::new("/bin/sleep")
        .arg("60")
        .spawn()
        .map_err(|error| format!("cannot start a process to trace: {error}"))?;
    let traced = Tracer::start(program, process.id(), Whose::Own, u64::MAX);
    // It waits for nothing else than this.
    let _ = process.kill();
    let _ = process.wait();
    traced.map(drop)
}

/// Runs the tracer with the arguments behind [`TRACER`].
///
/// # Panics
/// If the arguments are wrong.
pub fn run(arguments: &[String]) -> ExitCode {
    let [pid, whose, call] = arguments else { panic!("process, whose and call are needed") };
    let pid = pid.parse().ok().and_then(Pid::new).expect("a process has a number");
    let whose = Whose::ALL.into_iter().find(|it| it.word() == whose).expect("the word is known");
    let call = call.parse().expect("a call has a number");
    let (fates, held) = (BTreeMap::new(), BTreeSet::new());
    match (Counter { pid, whose, call, fates, held, count: 0 }).trace() {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => {
            say(&format!("{errno}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Nobody may be listening any more, and then it does not matter.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What becomes of a process that was made by one that is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Counted,
    LeftAlone,
}

struct Counter {
    pid: Pid,
    whose: Whose,
    call: u64,
    fates: BTreeMap<Pid, Fate>,
    /// Processes that stand still until whoever made them has said so.
    held: BTreeSet<Pid>,
    count: u64,
}

impl Counter {
    fn trace(mut self) -> Result<(), Errno> {
        trace::seize(self.pid)?;
        trace::interrupt(self.pid)?;
        let mut is_said = false;
        while let Some((pid, stop)) = trace::wait()? {
            let is_over = self.on_stop(pid, stop);
            if !is_said && pid == self.pid {
                is_said = true;
                say("attached");
            }
            match is_over {
                Ok(false) => {}
                // Whoever is left goes on alone when we end.
                Ok(true) => return Ok(()),
                // It was killed while it stood still; its end is told next.
                Err(Errno(number)) if number == rustix::io::Errno::SRCH.raw_os_error() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers one stop. Returns `true` when somebody was killed.
    fn on_stop(&mut self, pid: Pid, stop: Stop) -> Result<bool, Errno> {
        let is_counted = if pid == self.pid {
            self.whose == Whose::Own
        } else {
            match self.fates.get(&pid) {
                Some(Fate::Counted) => true,
                Some(Fate::LeftAlone) => {
                    self.fates.remove(&pid);
                    trace::detach(pid)?;
                    return Ok(false);
                }
                None => {
                    self.held.insert(pid);
                    return Ok(false);
                }
            }
        };
        let mut signal = None;
        match stop {
            Stop::Ended => {
                self.fates.remove(&pid);
                return Ok(false);
            }
            Stop::Made(child) => self.on_made(pid, child)?,
            Stop::Executed if pid != self.pid && self.whose == Whose::Child => {
                self.fates.remove(&pid);
                trace::detach(pid)?;
                return Ok(false);
            }
            Stop::Call(number) if is_counted => {
                self.count += 1;
                if self.count == self.call {
                    processes::signal(pid.get(), Signal::KILL);
                    say(&format!("killed {number}"));
                    return Ok(true);
                }
            }
            Stop::Signal(came) => signal = Some(came),
            Stop::Executed | Stop::Call(_) | Stop::Other => {}
        }
        trace::go_on(pid, if is_counted { Until::Call } else { Until::Event }, signal)?;
        Ok(false)
    }

    /// Decides about a process that was made. It stands still already, or will.
    fn on_made(&mut self, by: Pid, child: Pid) -> Result<(), Errno> {
        let is_meant = by == self.pid && self.whose != Whose::Own;
        self.fates.insert(child, if is_meant { Fate::Counted } else { Fate::LeftAlone });
        if self.held.remove(&child) {
            self.on_stop(child, Stop::Other)?;
        }
        Ok(())
    }
}
