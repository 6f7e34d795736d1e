//! The process above the measurements: whatever becomes of them (an error, a panic, Ctrl-C), it
//! ends every process of the run and removes every file and control group.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use keepd_model::{Exit, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::SignalReader;
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Session, SpawnRequest, spawn};
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
    process::become_subreaper().attempt(what)?;
    let heard = [Signal::CHLD, Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
    let reader = SignalReader::new(&heard).attempt(what)?;
    let epoll = Epoll::new().attempt(what)?;
    epoll.add(&reader, 0, Interest::READ).attempt(what)?;
    let worker = start_worker(arguments, id)?;
    let mut ready = Vec::new();
    loop {
        epoll.wait(None, &mut ready).attempt(what)?;
        for (signal, _) in reader.read().attempt(what)? {
            if signal != Signal::CHLD {
                eprintln!("keepd-bench: got signal {signal}: ending every process of this run");
                return Ok(INTERRUPTED);
            }
        }
        while let Some((pid, exit)) = reap::peek().attempt(what)? {
            reap::consume(pid).attempt(what)?;
            if pid == worker {
                return Ok(status_of(exit));
            }
        }
    }
}

/// Starts the process that measures. Nothing of our signal mask is left in it, which would be
/// passed on to everything below.
fn start_worker(arguments: &[String], id: &str) -> Result<Pid, BenchError> {
    let what = "start the measurements";
    let program = process::own_executable().attempt(what)?;
    let words = arguments.iter().map(|word| word.clone().into_bytes());
    let arguments: Vec<Vec<u8>> = [program.into_os_string().into_vec(), WORKER_WORD.into()]
        .into_iter()
        .chain(words)
        .collect();
    let mark = format!("{MARK}={id}").into_bytes();
    let environment: Vec<Cow<'_, [u8]>> = std::env::vars_os()
        .map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat().into())
        .chain([mark.into()])
        .collect();
    let null = File::open("/dev/null").attempt(what)?;
    let (out, err) = (std::io::stdout(), std::io::stderr());
    let descriptors = [null.as_fd(), out.as_fd(), err.as_fd()].map(Descriptor::Open);
    let request = SpawnRequest {
        file: None,
        arguments: &arguments,
        environment: &environment,
        directory: None,
        umask: 0o022,
        uid: None,
        gid: None,
        groups: None,
        descriptors: &descriptors,
        extra: &[],
        keep_from: None,
        cgroup: None,
        // A process group of its own: Ctrl-C comes to us alone, and we end the rest in order.
        session: Session::ProcessGroup,
        ignored: &[],
        descriptor_limit: None,
        record: None,
        failure_status: FAILURE_STATUS,
    };
    // Whether it was executed is in its exit status, too.
    spawn(&request).map(|spawned| spawned.pid()).attempt(what)
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
