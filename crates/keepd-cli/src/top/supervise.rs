//! The life of the top process: it is the warden of one instance. What that is, and what it does
//! about a lost proxy, is `keepd_proxy::warden`; this is what an instance has around it: its
//! terminal, its files, and the end of everything.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use keepd_manager::Options;
use keepd_manager::instance::write_atomically;
use keepd_model::{Errno, ExitCode, Signal};
use keepd_os::cgroup::Group;
use keepd_os::spawn::Session;
use keepd_os::{exec, process, signals, terminal};
use keepd_proxy::warden::{self, Ending, Keys, News, Origin, Setup};

use super::leftovers::{Adoption, end_leftovers, wait_for_manager};
use super::{Prepared, system};
use crate::commands::warden::{TERMINAL, VERB};
use crate::error::{CliError, ErrorKind};
use crate::place;

/// The power is failing. Only the first process of a machine is told.
const PWR: u8 = 30;
/// Stop from the keyboard: a stopped top process would leave the stack without its lid.
const TSTP: u8 = 20;
/// After the proxy ended in order, how long its manager may take to write its last line.
const MANAGER_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for processes that were killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

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

    /// Opens it for the proxy; `None`: what we would read.
    fn open(self) -> Result<Option<OwnedFd>, CliError> {
        match self {
            Self::Own => Ok(None),
            Self::Null => match File::open("/dev/null") {
                Ok(null) => Ok(Some(null.into())),
                Err(error) => {
                    let message = "cannot open \"/dev/null\"";
                    Err(CliError::because(ErrorKind::System, message, error))
                }
            },
        }
    }
}

/// Starts the proxy of a prepared instance, or one for what a lost keepd left, and stays until the
/// instance ends. Returns the status of the instance.
pub(crate) fn supervise(prepared: Prepared, input: Input) -> Result<ExitCode, CliError> {
    let lends_terminal = input.is_terminal();
    let (options, origin) = prepared.into_origin();
    let adoption = Adoption::begin();
    Stack { options: &options, input, lends_terminal, adoption }.live(origin)
}

/// Goes on where a warden was lost: this process is the proxy that it had started, or that very
/// warden after a fault.
pub(crate) fn succeed(
    options: &Options,
    lends_terminal: bool,
    estate: OwnedFd,
) -> Result<ExitCode, CliError> {
    let adoption = Adoption::of_successor();
    leave_group(options);
    // What we read is what the proxy was given.
    let stack = Stack { options, input: Input::Own, lends_terminal, adoption };
    stack.live(Origin::Successor { estate })
}

/// Starts a proxy for what a lost keepd left, where a manager of it started this process, as
/// [`supervise`] does.
pub(crate) fn resume(prepared: Prepared) -> Result<ExitCode, CliError> {
    leave_group(&prepared.options);
    supervise(prepared, Input::Null)
}

/// Who was a process of the instance before is in the group that is killed as a whole at the end.
fn leave_group(options: &Options) {
    if let Some(parent) = options.group.as_deref().and_then(Path::parent)
        && let Err(errno) = Group::open(parent).and_then(|group| group.add_self())
    {
        eprintln!("keepd: warning: cannot leave the group of the instance: {errno}");
    }
}

/// An instance, and what its top process has to give back at the end.
struct Stack<'a> {
    options: &'a Options,
    input: Input,
    lends_terminal: bool,
    adoption: Adoption,
}

impl Stack<'_> {
    fn live(self, origin: Origin) -> Result<ExitCode, CliError> {
        if let Some(stop) = Signal::new(TSTP) {
            signals::ignore(stop).map_err(|errno| failed("ignore signal TSTP", errno))?;
        }
        let setup = self.setup()?;
        let instance = &self.options.instance;
        // The file is for people and scripts; nothing of keepd's own depends on it.
        let mut note_pid = |news| match news {
            News::Started(pid) => {
                let text = format!("{pid}\n");
                let _ = write_atomically(&instance.proxy_pid_file(), text.as_bytes());
            }
            News::Ready => {}
        };
        let ended = warden::run(&setup, origin, &mut note_pid);
        if self.lends_terminal {
            // It may be gone by now, and then nobody misses it.
            let _ = terminal::take_foreground(std::io::stdin());
        }
        // If there is a proxy, it goes on in our place.
        let ended = ended.map_err(|error| system(error.to_string()))?;
        // The lock is among what it holds: it is to be free when this process is gone, not before.
        let ended = ManuallyDrop::new(ended);
        match ended.ending.clone() {
            Ending::Exit(code) => self.finish(code),
            Ending::Become { code, arguments } => {
                let (name, errno) = ended.become_other(code, warden::TERMINATED, &arguments);
                eprintln!("keepd: cannot execute \"{name}\": {errno}");
                self.finish(code)
            }
            Ending::NotStarted(failure) => {
                self.clear()?;
                Err(system(format!("cannot start the proxy: {failure}")))
            }
            // Its codes are daemonproxy's, and mean something else here.
            Ending::FailedStart(code) => {
                self.clear()?;
                let shown = instance.shown();
                Err(system(format!(
                    "cannot start {shown}: its proxy could not start (exit {code}); what it said \
                     is above"
                )))
            }
            Ending::Lost { why } => {
                let shown = instance.shown();
                let message = format!(
                    "cannot go on with {shown}: its proxy was lost, and it is not known what \
                     runs: {why}; every service is left as it is"
                );
                Err(system(message).with_hint("keepd down --leftovers"))
            }
        }
    }

    fn setup(&self) -> Result<Setup, CliError> {
        let instance = &self.options.instance;
        // Only this process stays in the terminal's foreground group: keys reach the stack through
        // it. Who gets the terminal itself must be in its session, and so must the parent.
        let session = if self.lends_terminal { Session::ProcessGroup } else { Session::New };
        let has_terminal = terminal::is_terminal(std::io::stdin());
        Ok(Setup {
            file: Some(
                exec::own_program().map_err(|errno| failed("find the keepd program", errno))?,
            ),
            proxy: self.proxy_arguments()?,
            successor: self.successor_arguments(),
            session,
            input: self.input.open()?,
            run_dir: instance.run_dir.clone(),
            instance: instance.mark(),
            more_signals: Signal::new(PWR).into_iter().collect(),
            ignored: Vec::new(),
            keys: Keys::Ours(if has_terminal { passed_on_by_terminal } else { passed_on }),
            rescue: None,
        })
    }

    fn proxy_arguments(&self) -> Result<Vec<Vec<u8>>, CliError> {
        let instance = &self.options.instance;
        let program =
            process::own_executable().map_err(|errno| failed("find the keepd program", errno))?;
        // What it says for information is for whoever runs it alone.
        let mut arguments =
            vec![program.into_os_string(), OsString::from("proxy"), OsString::from("--quiet")];
        let mut add = |option: &str, value: &OsStr| {
            arguments.push(OsString::from(option));
            arguments.push(value.to_owned());
        };
        add("--socket", instance.proxy_socket().as_os_str());
        add("--config", instance.boot_file().as_os_str());
        add("--run-dir", instance.run_dir.as_os_str());
        add("--instance", OsStr::new(&instance.mark()));
        if let Some(group) = &self.options.group {
            add("--group", group.as_os_str());
        }
        if self.lends_terminal {
            arguments.push(OsString::from("--terminal"));
        }
        Ok(arguments.into_iter().map(OsStringExt::into_vec).collect())
    }

    fn successor_arguments(&self) -> Vec<Vec<u8>> {
        let terminal = self.lends_terminal.then(|| OsString::from(TERMINAL));
        let words = [OsString::from(VERB)].into_iter();
        let words = words.chain(self.options.to_arguments()).chain(terminal);
        words.map(OsStringExt::into_vec).collect()
    }

    /// After an end in order: leaves nothing behind, and returns the status.
    fn finish(&self, code: u8) -> Result<ExitCode, CliError> {
        wait_for_manager(&self.options.instance, &self.adoption, MANAGER_PATIENCE);
        self.clear()?;
        Ok(if code == 0 { ExitCode::Done } else { ExitCode::Service(code) })
    }

    /// Leaves nothing behind: no process, no group, no run folder.
    fn clear(&self) -> Result<(), CliError> {
        let instance = &self.options.instance;
        // Also where it is empty: this removes the group.
        let left = end_leftovers(instance, Some(&self.adoption), KILL_PATIENCE)?;
        if !left.is_empty() {
            let named: Vec<String> =
                left.iter().map(|process| format!("{} ({})", process.pid, process.name)).collect();
            let named = named.join(", ");
            let message = format!("cannot end everything: still there after KILL: {named}");
            return Err(system(message).with_hint("keepd down --leftovers"));
        }
        remove_at_once(&instance.run_dir);
        instance.remove_signpost(&place::surroundings());
        Ok(())
    }
}

/// Removes a folder that the next start may be about to make again: it is there with everything in
/// it, or not at all. What stays behind is found and replaced by the next start.
fn remove_at_once(folder: &Path) {
    let mut aside = folder.as_os_str().to_owned();
    aside.push(".gone");
    // A predecessor may not have come to the end of it.
    let _ = fs::remove_dir_all(&aside);
    let _ = match fs::rename(folder, &aside) {
        Ok(()) => fs::remove_dir_all(&aside),
        Err(_) => fs::remove_dir_all(folder),
    };
}

fn failed(what: &str, errno: Errno) -> CliError {
    system(format!("cannot {what}: {errno}"))
}

/// A hang-up means "apply", a loss of power the end. Who was started without a terminal cannot lose
/// it.
fn passed_on(signal: Signal) -> Signal {
    let power_fails = Signal::new(PWR) == Some(signal);
    if power_fails { Signal::TERM } else { signal }
}

/// A hang-up whose terminal is gone means the end.
fn passed_on_by_terminal(signal: Signal) -> Signal {
    let is_lost = signal == Signal::HUP && terminal::foreground_lost(std::io::stdin());
    if is_lost { Signal::TERM } else { passed_on(signal) }
}
