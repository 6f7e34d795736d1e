//! From the words of the command line to a proxy that runs.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use keepd_model::{Errno, LogLevel, Signal};
use keepd_os::clock;
use keepd_os::{handle, panic};

use crate::exit::{self, Ended, Exit};
use crate::log::Log;
use crate::options::{self, HELP, Options, Step, UsageError};
use crate::run::Shell;
use crate::start::{self, Starting};
use crate::warden::{self, Alone};

/// What process 1 reads where nothing else is said.
const CONFIG_OF_PROCESS_1: &str = "/etc/daemonproxy.conf";
/// The guard of process 1.
const GUARD_OF_PROCESS_1: i64 = 1;

/// Runs the proxy with the words behind its name; returns its exit code. Services are not touched
/// by that end.
///
/// To be called first thing in `main`: whatever descriptor is open becomes a handle. `name` is what
/// ps(1) shows, at most 15 bytes.
pub fn run(name: &str, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    panic::end_at_panic("fatal: ", exit::FATAL_SIGNAL);
    let words = warden::Words::new(arguments.into_iter().collect());
    // What a lost warden left is taken over by its label.
    let inherited = if words.is_succession() { Vec::new() } else { handle::take_inherited() };
    let ignored = start::ignored_by_the_starter();
    match start(name, words, inherited, ignored) {
        Ok(shell) => shell.run(),
        Err(Ended(code)) => code,
    }
}

fn start(
    name: &str,
    said: warden::Words,
    inherited: Vec<OwnedFd>,
    ignored: Vec<Signal>,
) -> Result<Shell, Ended> {
    let mut words = Words::new();
    words.take_steps(options::read(said.rest.iter().cloned()))?;
    let Words { mut options, log, exit, guard } = words;
    if said.is_proxy {
        // That is the warden's part.
        options.daemonize = false;
    } else if options.warden {
        let rescue = exit.arguments;
        let options = &options;
        let alone = Alone { name, words: said, options, rescue, ignored, inherited };
        return Err(Ended(alone.live()));
    }
    Starting { name, options: &options, log, exit, guard, ignored }.start(inherited)
}

/// What the words have said so far.
struct Words {
    options: Options,
    log: Log,
    exit: Exit,
    /// The code without which there is no end.
    guard: Option<i64>,
}

impl Words {
    fn new() -> Self {
        let mut start = Self {
            options: Options::default(),
            log: Log::default(),
            exit: Exit::default(),
            guard: None,
        };
        if std::process::id() == 1 {
            start.options.config = Some(PathBuf::from(CONFIG_OF_PROCESS_1));
            start.set_guard(Some(GUARD_OF_PROCESS_1));
        }
        start
    }

    fn set_guard(&mut self, guard: Option<i64>) {
        self.guard = guard;
        self.exit.is_guarded = guard.is_some();
    }

    /// Carries the steps out, each before the next is looked at.
    fn take_steps(&mut self, steps: Vec<Step>) -> Result<(), Ended> {
        for step in steps {
            match step {
                Step::Guard(guard) => self.set_guard(guard),
                Step::ExitExec(arguments) => {
                    self.exit.arguments = arguments;
                    self.exit.prepare_rescue(&mut self.log);
                }
                Step::Verbose => self.log.set_filter(self.log.filter().down()),
                Step::Quiet => self.log.set_filter(self.log.filter().up()),
                Step::Set(setting) => self.options.set(setting),
                Step::Config(path) => match look_for(&path) {
                    Ok(()) => self.options.config = Some(path),
                    Err(why) => self.mistake(&UsageError::NoSuchConfig(path, why))?,
                },
                Step::Help => self.show(HELP)?,
                Step::Version => self.show(&version())?,
                Step::Mistake(mistake) => self.mistake(&mistake)?,
            }
            self.log.flush(None, clock::monotonic_now());
        }
        if self.options.has_half_a_warden() {
            self.mistake(&UsageError::HalfAWarden)?;
        }
        if self.options.warden && self.options.run_dir.is_none() {
            self.mistake(&UsageError::WardenWithoutRunDir)?;
        }
        if self.options.has_nothing_to_do() {
            self.mistake(&UsageError::NothingToDo)?;
        }
        Ok(())
    }

    fn mistake(&mut self, mistake: &UsageError) -> Result<(), Ended> {
        self.exit.fatal(&mut self.log, exit::USAGE, &mistake.to_string(), None)
    }

    /// Shows a text. It is written out before another program may take over.
    fn show(&mut self, text: &str) -> Result<(), Ended> {
        let mut out = std::io::stdout();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            self.log.say(LogLevel::Error, format_args!("cannot write to standard output: {error}"));
        }
        self.exit.fatal(&mut self.log, exit::SHOWN, "", None)
    }
}

/// The configuration is opened later, but a mistyped path is told at once.
fn look_for(path: &Path) -> Result<(), Errno> {
    if path.as_os_str() == "-" {
        return Ok(());
    }
    rustix::fs::stat(path).map(|_| ()).map_err(|error| Errno(error.raw_os_error()))
}

/// The text of `--version`.
fn version() -> String {
    format!(
        "daemonproxy protocol, keepd proxy version {}\n\
         build timestamp: {}\n\
         git HEAD: {}\n\
         copyright the keepd authors 2025-2026\n\
         LICENSE: MIT OR Apache-2.0\n",
        env!("CARGO_PKG_VERSION"),
        env!("KEEPD_BUILD_SECONDS"),
        env!("KEEPD_BUILD_COMMIT"),
    )
}
