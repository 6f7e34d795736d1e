//! The life of the top process: one child, the proxy.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use keepd_manager::Options;
use keepd_manager::instance::write_atomically;
use keepd_model::{Exit, ExitCode, Pid, Signal};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::signals::{self, SignalReader};
use keepd_os::spawn::{Report, Session, Spawned};
use keepd_os::{process, reap, terminal};

use super::leftovers::{Adoption, end_leftovers, wait_for_manager};
use super::{spawn_self, system};
use crate::error::{CliError, ErrorKind};
use crate::place;

/// The signals that are passed down.
const PASSED: [Signal; 6] =
    [Signal::INT, Signal::TERM, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];
/// The power is failing. Only the first process of a machine is told.
const PWR: u8 = 30;
/// Stop from the keyboard: a stopped top process would leave the stack without its lid.
const TSTP: u8 = 20;
/// After the proxy ended in order, how long its manager may take to write its last line.
const MANAGER_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for processes that were killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

const SIGNALS: u64 = 0;
const REPORT: u64 = 1;

/// What services with `log.mode = "inherit"` read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing.
    Null,
    /// What this process would read (`keepd run -- CMD`). A terminal is theirs meanwhile.
    Own,
}

impl Input {
    /// Reports whether services get the terminal: it must be ours to give.
    fn is_terminal(self) -> bool {
        match self {
            Self::Null => false,
            Self::Own => terminal::is_foreground(std::io::stdin()),
        }
    }
}

/// Starts the proxy of a prepared instance and stays until it ends. Returns the status of the
/// instance.
pub(crate) fn supervise(options: &Options, input: Input) -> Result<ExitCode, CliError> {
    // As PID 1 every signal of these is handled: the kernel gives it no default action.
    let watched: Vec<Signal> =
        PASSED.into_iter().chain([Signal::CHLD]).chain(Signal::new(PWR)).collect();
    let reader = SignalReader::new(&watched).map_err(|errno| failed("read signals", errno))?;
    if let Some(stop) = Signal::new(TSTP) {
        signals::ignore(stop).map_err(|errno| failed("ignore signal TSTP", errno))?;
    }
    process::become_subreaper().map_err(|errno| failed("become a subreaper", errno))?;
    let has_terminal = terminal::is_terminal(std::io::stdin());
    let adoption = Adoption::begin();
    let lends_terminal = input.is_terminal();
    let mut proxy = start_proxy(options, input, lends_terminal)?;
    // The file is for people and scripts; nothing of keepd's own depends on it.
    let pid = format!("{}\n", proxy.pid());
    let _ = write_atomically(&options.instance.proxy_pid_file(), pid.as_bytes());
    let end = follow(&reader, &mut proxy, has_terminal);
    if lends_terminal {
        // It may be gone by now, and then nobody misses it.
        let _ = terminal::take_foreground(std::io::stdin());
    }
    match end {
        Ok(end) => finish(options, &adoption, end),
        // Whatever it is that cannot be done any more: what was started must not be left alone.
        Err(error) => {
            let _ = finish(options, &adoption, Exit::Unknown);
            Err(error)
        }
    }
}

fn failed(what: &str, errno: keepd_model::Errno) -> CliError {
    system(format!("cannot {what}: {errno}"))
}

fn start_proxy(options: &Options, input: Input, lends_terminal: bool) -> Result<Spawned, CliError> {
    let instance = &options.instance;
    // What it says for information is for whoever runs it alone.
    let mut arguments = vec![OsString::from("proxy"), OsString::from("--quiet")];
    let mut add = |option: &str, value: &OsStr| {
        arguments.push(OsString::from(option));
        arguments.push(value.to_owned());
    };
    add("--socket", instance.proxy_socket().as_os_str());
    add("--config", instance.boot_file().as_os_str());
    add("--run-dir", instance.run_dir.as_os_str());
    add("--instance", OsStr::new(&instance.mark()));
    if let Some(group) = &options.group {
        add("--group", group.as_os_str());
    }
    // Only this process stays in the terminal's foreground group: keys reach the stack through it.
    // Who gets the terminal itself must be in its session, and so must the parent.
    let session = if lends_terminal {
        arguments.push(OsString::from("--terminal"));
        Session::ProcessGroup
    } else {
        Session::New
    };
    let null = File::open("/dev/null").map_err(|error| {
        CliError::because(ErrorKind::System, "cannot open \"/dev/null\"", error)
    })?;
    let (own, out, err) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let input = match input {
        Input::Null => null.as_fd(),
        Input::Own => own.as_fd(),
    };
    spawn_self(arguments, [input, out.as_fd(), err.as_fd()], &[], session)
}

/// Passes signals down until the proxy ends; returns how it ended.
fn follow(
    reader: &SignalReader,
    proxy: &mut Spawned,
    has_terminal: bool,
) -> Result<Exit, CliError> {
    let wait_failed = |errno| failed("wait for the proxy", errno);
    let epoll = Epoll::new().map_err(wait_failed)?;
    epoll.add(reader, SIGNALS, Interest::READ).map_err(wait_failed)?;
    epoll.add(&*proxy, REPORT, Interest::READ).map_err(wait_failed)?;
    let mut ready = Vec::new();
    loop {
        epoll.wait(None, &mut ready).map_err(wait_failed)?;
        if ready.iter().any(|ready| ready.token == REPORT) {
            match proxy.report() {
                Report::Pending => {}
                // Its end is told by its exit status.
                Report::Executed | Report::Ended => epoll.remove(&*proxy).map_err(wait_failed)?,
                Report::Failed(failure) => {
                    return Err(system(format!("cannot start the proxy: {failure}")));
                }
            }
        }
        for (signal, _) in reader.read().map_err(wait_failed)? {
            if signal == Signal::CHLD {
                if let Some(end) = reap_all(proxy.pid()).map_err(wait_failed)? {
                    return Ok(end);
                }
            } else {
                // The proxy is our child and not reaped: the number is its own.
                let _ = signals::send(proxy.pid(), passed_on(signal, has_terminal));
            }
        }
    }
}

/// A hang-up whose terminal is gone means the end, and so does a loss of power; otherwise a hang-up
/// means "apply". Who was started without a terminal cannot lose it.
fn passed_on(signal: Signal, has_terminal: bool) -> Signal {
    let power_fails = Signal::new(PWR) == Some(signal);
    let hung_up =
        signal == Signal::HUP && has_terminal && terminal::foreground_lost(std::io::stdin());
    if power_fails || hung_up { Signal::TERM } else { signal }
}

/// Reaps everything that ended, orphans too; returns how the proxy ended, if it did.
fn reap_all(proxy: Pid) -> Result<Option<Exit>, keepd_model::Errno> {
    let mut end = None;
    while let Some((pid, exit)) = reap::peek()? {
        reap::consume(pid)?;
        if pid == proxy {
            end = Some(exit);
        }
    }
    Ok(end)
}

/// Leaves nothing behind: no process, no group, no run folder.
fn finish(options: &Options, adoption: &Adoption, end: Exit) -> Result<ExitCode, CliError> {
    let instance = &options.instance;
    if let Exit::Code(_) = end {
        wait_for_manager(instance, adoption, MANAGER_PATIENCE);
    }
    // Also where it is empty: this removes the group.
    let left = end_leftovers(instance, Some(adoption), KILL_PATIENCE)?;
    if !left.is_empty() {
        let named: Vec<String> =
            left.iter().map(|process| format!("{} ({})", process.pid, process.name)).collect();
        let named = named.join(", ");
        let message = format!("cannot end everything: still there after KILL: {named}");
        return Err(system(message).with_hint("keepd down --leftovers"));
    }
    // What stays behind here is found and replaced by the next start.
    let _ = fs::remove_dir_all(&instance.run_dir);
    instance.remove_signpost(&place::surroundings());
    match end {
        Exit::Code(0) => Ok(ExitCode::Done),
        Exit::Code(code) => Ok(ExitCode::Service(code)),
        Exit::Signal { .. } | Exit::Unknown => {
            let message = format!(
                "cannot go on with {}: its proxy was lost ({end}); every process of it was killed",
                instance.shown()
            );
            Err(system(message))
        }
    }
}
