//! The process above the measurements: whatever becomes of them (an error, a panic, Ctrl-C), it
//! ends every process of the run and removes every file and control group.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use keepd_model::{Exit, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::SignalReader;
use keepd_os::{file, process, reap, sweep};

use crate::arguments::{Options, USAGE};
use crate::error::{Attempt, BenchError};

/// The first argument of the process that measures.
pub const WORKER_WORD: &str = "__worker";
/// The variable that every process of the run inherits: what a process below keepd is known by.
pub const MARK: &str = "KEEPD_BENCH";
/// How long killed processes may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(20);
/// The status of a run that a signal ended, as a shell shows it for INT.
const INTERRUPTED: u8 = 130;

/// Runs the measurements in a process of their own; returns their exit status.
pub fn run(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = Options::parse(arguments) {
        eprint!("keepd-bench: {why}\n{USAGE}");
        return ExitCode::from(100);
    }
    match guarded(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("keepd-bench: {error}");
            ExitCode::from(111)
        }
    }
}

/// Where the files of a run are, by the id of the run.
pub fn scratch(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("keepd-{id}"))
}

fn guarded(arguments: &[String]) -> Result<u8, BenchError> {
    let id = format!("bench-{}", process::id());
    let scratch = scratch(&id);
    file::create_private_dir(&scratch, 0o755)
        .attempt(format!("create \"{}\"", scratch.display()))?;
    let outcome = watch(arguments, &id);
    let cleaned = clean(&id, &scratch);
    let status = outcome?;
    cleaned?;
    Ok(status)
}

/// Starts the worker, and waits for its end or for a signal to us.
fn watch(arguments: &[String], id: &str) -> Result<u8, BenchError> {
    let what = "watch the measurements";
    // Who loses its parent in this run comes to us, and is found by the sweep.
    process::become_subreaper().attempt(&what)?;
    let heard = [Signal::CHLD, Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
    let reader = SignalReader::new(&heard).attempt(&what)?;
    let epoll = Epoll::new().attempt(&what)?;
    epoll.add(&reader, 0, Interest::READ).attempt(&what)?;
    let program = process::own_executable().attempt(&what)?;
    let mut worker = Command::new(program);
    // A process group of its own: Ctrl-C comes to us alone, and we end the rest in order.
    std::os::unix::process::CommandExt::process_group(&mut worker, 0);
    let worker = worker.arg(WORKER_WORD).args(arguments).env(MARK, id).spawn().attempt(&what)?;
    let worker = Pid::new(worker.id());
    let mut ready = Vec::new();
    loop {
        epoll.wait(None, &mut ready).attempt(&what)?;
        for (signal, _) in reader.read().attempt(&what)? {
            if signal != Signal::CHLD {
                eprintln!("keepd-bench: got signal {signal}: ending every process of this run");
                return Ok(INTERRUPTED);
            }
        }
        while let Some((pid, exit)) = reap::peek().attempt(&what)? {
            reap::consume(pid).attempt(&what)?;
            if Some(pid) == worker {
                return Ok(status_of(exit));
            }
        }
    }
}

fn status_of(exit: Exit) -> u8 {
    if !matches!(exit, Exit::Code(_)) {
        eprintln!("keepd-bench: the measurements ended with {exit}");
    }
    exit.shell_status()
}

/// Ends every process of the run, and removes its groups and files.
fn clean(id: &str, scratch: &Path) -> Result<(), BenchError> {
    let mark = format!("{MARK}={id}");
    let begun_at = Instant::now();
    let mut looks_without_find = 0;
    // Who forks during a look may be missed by it, so one empty look is not enough.
    while looks_without_find < 2 {
        let found =
            sweep::processes_marked(mark.as_bytes()).attempt("look for processes of this run")?;
        looks_without_find = if found.is_empty() { looks_without_find + 1 } else { 0 };
        for process in &found {
            // An error means that it has ended meanwhile.
            let _ = process.signal(Signal::KILL);
        }
        while let Ok(Some((pid, _))) = reap::peek() {
            let _ = reap::consume(pid);
        }
        if begun_at.elapsed() > KILL_PATIENCE {
            let count = found.len();
            return Err(BenchError::new(format!(
                "cannot end every process of this run: {count} are left, with {mark} in their \
                 environment"
            )));
        }
    }
    remove_groups(id);
    std::fs::remove_dir_all(scratch).attempt(format!("remove \"{}\"", scratch.display()))
}

/// Removes the control groups of keepd instances whose folders have the id in their names.
fn remove_groups(id: &str) {
    let Some(own) = Group::own() else {
        return;
    };
    let prefix = format!("keepd.{id}-");
    for name in own.children().unwrap_or_default() {
        if name.starts_with(&prefix)
            && let Ok(group) = own.child(&name)
        {
            for leaf in group.children().unwrap_or_default() {
                let _ = group.child(&leaf).and_then(|leaf| leaf.remove());
            }
            if let Err(errno) = group.remove() {
                eprintln!("keepd-bench: cannot remove group \"{}\": {errno}", name);
            }
        }
    }
}
