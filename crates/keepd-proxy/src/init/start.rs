//! From the command line to a running command.

use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use keepd_model::{Errno, Pid, Signal, SpawnFailure, SpawnStep};
use keepd_os::sigwait::{self, SignalSet};
use keepd_os::vfork::{self, Addressed, FALLBACK_PATH};
use keepd_os::{panic, process, signals, terminal};

use super::farewell::Family;
use super::options::{Options, OptionsError};
use super::say::say;
use super::watch::Watch;

/// The status if something of our own cannot be done, as for env(1) or timeout(1).
const OWN_FAILURE: u8 = 125;
/// The status if the command was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The status if the command was not found.
const NOT_FOUND: u8 = 127;

/// Variables by which whoever started us means us, and now shall mean the command: socket
/// activation and the watchdog of systemd. See sd_listen_fds(3), sd_watchdog_enabled(3).
const ADDRESSED: [Addressed<'static>; 2] = [
    Addressed { variable: "LISTEN_PID", instead: Some("LISTEN_PIDFDID") },
    Addressed { variable: "WATCHDOG_PID", instead: None },
];

/// Runs the command behind the `--` and everything round it. Returns the exit status.
///
/// For a process with one thread. It returns when the command has ended, and with it, if we are
/// process 1 or a subreaper, all that it left.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    panic::end_at_panic("keepd-init: fatal: ", OWN_FAILURE);
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(shown @ (OptionsError::Help | OptionsError::Version)) => {
            return show(&shown);
        }
        Err(refusal) => {
            say(format_args!("fatal: {refusal}"));
            return OWN_FAILURE;
        }
    };
    // From here on a signal waits until we ask for it, also if it comes before the command runs.
    let blocked = sigwait::block_all();
    let family = match prepare(&options) {
        Ok(family) => family,
        Err(message) => {
            say(format_args!("fatal: {message}"));
            return OWN_FAILURE;
        }
    };
    let terminal = terminal::is_foreground(rustix::stdio::stdin());
    match start(&options, blocked, terminal) {
        Ok(pid) => {
            let exit = Watch::new(&options, family, pid, terminal).run();
            let status = exit.shell_status();
            if options.remapped.contains(&status) { 0 } else { status }
        }
        Err((status, message)) => {
            if terminal {
                take_terminal_back();
            }
            say(format_args!("fatal: {message}"));
            status
        }
    }
}

/// Shows what was asked for, and returns the exit status.
fn show(text: &OptionsError) -> u8 {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => 0,
        Err(error) => {
            say(format_args!("fatal: cannot write to standard output: {error}"));
            OWN_FAILURE
        }
    }
}

/// Finds out, or makes true, who comes to us when its parent ends.
fn prepare(options: &Options) -> Result<Family, String> {
    if let Some(signal) = options.parent_death_signal {
        process::set_parent_death_signal(signal).map_err(|error| {
            format!("cannot ask for signal {signal} at our parent's end: {error}")
        })?;
    }
    // Whoever started us may have ignored it, and then the kernel keeps no status for us.
    signals::restore_default(Signal::CHLD)
        .map_err(|error| format!("cannot be told of the ends of children: {error}"))?;
    if process::id().get() == 1 {
        return Ok(Family::Namespace);
    }
    if options.subreaper {
        process::become_subreaper().map_err(|error| {
            format!("cannot become a subreaper: {error}; leave out -s, or run as process 1")
        })?;
        return Ok(Family::Descendants);
    }
    say("warning: it is neither process 1 nor a subreaper, so orphans go elsewhere and nothing \
         ends what the command leaves: give -s");
    Ok(Family::Command)
}

/// Starts the command. On failure returns the exit status and what to say.
fn start(options: &Options, blocked: SignalSet, terminal: bool) -> Result<Pid, (u8, String)> {
    let words = options.command.iter().map(|word| CString::new(word.as_bytes()));
    let arguments: Vec<CString> =
        words.collect::<Result<_, _>>().expect("an argument of a process holds no NUL byte");
    let request = vfork::Request {
        arguments: &arguments,
        addressed: &ADDRESSED,
        terminal: terminal.then(rustix::stdio::stdin),
        blocked,
        // The runtime of Rust ignores the first at the start of every program.
        default: &[Signal::PIPE, Signal::CHLD],
    };
    vfork::start(&request).map_err(|failure| refusal(&options.command[0], failure))
}

fn refusal(program: &OsString, SpawnFailure { step, errno }: SpawnFailure) -> (u8, String) {
    if step != SpawnStep::Exec {
        let message =
            format!("cannot start \"{}\": step {}: {errno}", program.display(), step.word());
        return (OWN_FAILURE, message);
    }
    let mut message = format!("cannot execute \"{}\": {errno}", program.display());
    let named_by_path = program.as_bytes().contains(&b'/');
    if errno != Errno::ENOENT {
        return (NOT_EXECUTABLE, message);
    }
    if !named_by_path {
        // Writing to it cannot fail.
        let _ = match std::env::var_os("PATH") {
            Some(path) => write!(message, " in PATH, which is \"{}\"", path.display()),
            None => write!(message, " in \"{FALLBACK_PATH}\", as PATH is not set"),
        };
    } else if Path::new(program).exists() {
        message.push_str(
            "; the file is there, but not what it needs to run: the interpreter in its first line, \
             or the dynamic loader of its C library",
        );
    }
    (NOT_FOUND, message)
}

/// At the end the terminal is its owner's again.
pub(super) fn take_terminal_back() {
    // The terminal may have been hung up.
    let _ = terminal::take_foreground(rustix::stdio::stdin());
}
