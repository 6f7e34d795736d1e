//! `keepd proxy --warden`: the process that was started is the warden of a proxy with the same
//! words.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use keepd_model::{Errno, HandleName, Signal};
use keepd_os::daemon::{self, Fork, Standard};
use keepd_os::ledger::{self, MISSING_PIDFDS_HINT};
use keepd_os::spawn::Session;
use keepd_os::{exec, file, handle, process};

use super::machine::Ending;
use super::say::say;
use super::setup::{Keys, Origin, Setup};
use super::{Ended, News, SurvivorsError, forget, run, survivors};
use crate::descriptors;
use crate::estate::Label;
use crate::exit;
use crate::options::Options;

/// The word that says where a lost warden left its estate.
const ESTATE: &str = "--estate";
/// The word that only a proxy under a warden is given.
const CHANNEL: &str = "--channel";
/// The name of the proxy of a program that is several.
const PROXY: &str = "keepd-proxy";
/// The lock in the run folder, as of every instance.
const LOCK: &str = "lock";
/// The exit code where it is not known what runs.
const SYSTEM: u8 = 111;

/// The words of a command line, as far as they say who is a warden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Without those of a succession.
    pub(crate) rest: Vec<OsString>,
    /// The estate of a lost warden, by its number.
    estate: Option<RawFd>,
    /// There is a warden above.
    pub(crate) is_proxy: bool,
}

impl Words {
    /// Takes them apart.
    pub(crate) fn new(mut words: Vec<OsString>) -> Self {
        let is_proxy = words.iter().any(|word| word == CHANNEL);
        let mut estate = None;
        if let [.., option, number] = words.as_slice()
            && !is_proxy
            && option == ESTATE
        {
            estate = number.to_str().and_then(|number| number.parse().ok());
        }
        if estate.is_some() {
            words.truncate(words.len() - 2);
        }
        Self { rest: words, estate, is_proxy }
    }

    /// Reports whether this process goes on where a warden was lost.
    pub(crate) fn is_succession(&self) -> bool {
        self.estate.is_some()
    }
}

/// What is known when the words are read.
pub(crate) struct Alone<'a> {
    /// The name that it was called by.
    pub(crate) name: &'a str,
    pub(crate) words: Words,
    pub(crate) options: &'a Options,
    /// What `--exit-exec` says.
    pub(crate) rescue: Vec<Vec<u8>>,
    /// What whoever started us wanted to be ignored.
    pub(crate) ignored: Vec<Signal>,
    /// What whoever started us left open; nothing where it is a lost warden's.
    pub(crate) inherited: Vec<OwnedFd>,
}

impl Alone<'_> {
    /// Lives until the end; returns the exit code.
    pub(crate) fn live(mut self) -> u8 {
        let Some(run_dir) = self.options.run_dir.clone() else {
            return exit::USAGE;
        };
        let instance = match &self.options.instance {
            Some(name) => name.clone(),
            None => run_dir.to_string_lossy().into_owned(),
        };
        let origin = match self.origin(&run_dir, &instance) {
            Ok(origin) => origin,
            Err(why) => {
                say(why);
                return exit::START;
            }
        };
        let mut waiting = match self.daemonize() {
            Ok(Background::Stay(waiting)) => waiting,
            Ok(Background::Leave(code)) => return code,
            Err(errno) => {
                say(format_args!("cannot go on in the background: {errno}"));
                return exit::START;
            }
        };
        if self.options.lock_memory
            && let Err(errno) = daemon::lock_memory()
        {
            say(format_args!("cannot lock memory (mlockall): {errno}"));
        }
        let setup = match self.setup(run_dir, instance) {
            Ok(setup) => setup,
            Err(errno) => {
                say(format_args!("cannot find the program of this process: {errno}"));
                return exit::START;
            }
        };
        let ended = run(&setup, origin, &mut |news| match news {
            News::Started(_) => {}
            News::Ready => waiting.tell(0),
        });
        let code = match ended {
            Ok(ended) => code_of(&ended),
            Err(error) => {
                say(error);
                exit::START
            }
        };
        waiting.tell(code);
        code
    }

    /// Finds out what there was, and takes the lock.
    fn origin(&mut self, run_dir: &Path, instance: &str) -> Result<Origin, String> {
        if let Some(number) = self.words.estate {
            return match handle::adopt(number) {
                Ok(estate) => Ok(Origin::Successor { estate }),
                Err(error) => Err(format!("cannot use the estate: {}", error.errno)),
            };
        }
        ledger::require_pidfds().map_err(|(call, errno)| {
            format!("cannot be a warden without {call}: {errno}\nhint: {MISSING_PIDFDS_HINT}")
        })?;
        let lock = lock(run_dir)?;
        // Of which nothing lives, is over: whoever is started now reads its configuration.
        match survivors(run_dir, instance) {
            Ok(found) if found.processes > 0 => {
                say(format_args!("took over {} services of a lost keepd", found.services));
                Ok(Origin::Survivors { lock })
            }
            Ok(found) if found.unreadable > 0 => {
                let why = format!("{} words of the ledger are damaged", found.unreadable);
                Err(refusal(run_dir, &why))
            }
            Err(SurvivorsError::Unusable(why)) => Err(refusal(run_dir, &why)),
            Ok(_) | Err(SurvivorsError::NoLedger) => {
                forget(run_dir);
                let handles = std::mem::take(&mut self.inherited).into_iter().filter_map(label);
                Ok(Origin::Fresh { lock, handles: handles.collect() })
            }
        }
    }

    /// `-D`: goes on as another process. The first one says its number once the proxy is ready, or
    /// ends as it did.
    fn daemonize(&self) -> Result<Background, Errno> {
        let is_possible = !self.options.interactive && process::id().get() != 1;
        if !self.options.daemonize || !is_possible || self.words.estate.is_some() {
            return Ok(Background::Stay(Waiting(None)));
        }
        let (reader, writer) = handle::pipe(false).map_err(|error| error.errno)?;
        match daemon::fork_into_background()? {
            Fork::Parent(pid) => {
                drop(writer);
                let mut code = [exit::START];
                // Without a word it has ended without one.
                let _ = fs::File::from(reader).read(&mut code);
                if code == [0] {
                    let mut out = std::io::stdout();
                    // The number is all that the caller gets; the daemon runs all the same.
                    let _ = write!(out, "{pid}").and_then(|()| out.flush());
                } else {
                    say(format_args!("cannot go on in the background: exit {}", code[0]));
                }
                Ok(Background::Leave(code[0]))
            }
            Fork::Child => {
                let keeps_input = self.options.config.as_deref() == Some(Path::new("-"));
                let input = (!keeps_input).then_some(Standard::Input);
                for standard in input.into_iter().chain([Standard::Output, Standard::Error]) {
                    daemon::replace_by_null(standard)?;
                }
                Ok(Background::Stay(Waiting(Some(writer.into()))))
            }
        }
    }

    fn setup(&self, run_dir: PathBuf, instance: String) -> Result<Setup, Errno> {
        // Who is called by one of several names is asked for the proxy by a word.
        let verb = (self.name == PROXY).then(|| OsString::from("proxy"));
        let words = verb.into_iter().chain(self.words.rest.iter().cloned());
        let successor: Vec<Vec<u8>> = words.map(OsString::into_vec).collect();
        let program = std::env::args_os().next().unwrap_or_else(|| OsString::from("keepd"));
        let proxy = [vec![program.into_vec()], successor.clone()].concat();
        Ok(Setup {
            file: Some(exec::own_program()?),
            proxy,
            successor,
            // Programs of the plain language are in the session of the proxy, and that is ours.
            session: Session::Inherit,
            input: None,
            run_dir,
            instance,
            more_signals: Vec::new(),
            ignored: self.ignored.clone(),
            keys: Keys::Everybody,
            rescue: Some(self.rescue.clone()),
        })
    }
}

/// Which process goes on.
enum Background {
    /// This one.
    Stay(Waiting),
    /// Another one; this one ends.
    Leave(u8),
}

/// The process that waits for the outcome of the start.
struct Waiting(Option<fs::File>);

impl Waiting {
    /// Tells it, the first time.
    fn tell(&mut self, code: u8) {
        if let Some(mut writer) = self.0.take() {
            // If it is gone, nobody wants to know.
            let _ = writer.write_all(&[code]);
        }
    }
}

fn code_of(ended: &Ended) -> u8 {
    match &ended.ending {
        Ending::Exit(code) => *code,
        Ending::Become { code, arguments } => {
            let (name, errno) = ended.become_other(*code, arguments);
            say(format_args!("cannot execute \"{name}\": {errno}"));
            *code
        }
        Ending::NotStarted(failure) => {
            say(format_args!("cannot start the proxy: {failure}"));
            exit::START
        }
        Ending::Lost { why } => {
            say(format_args!(
                "the proxy was lost, and it is not known what runs: {why}; every service is left \
                 as it is"
            ));
            SYSTEM
        }
    }
}

/// Returns a descriptor that whoever started us left open, as the handle that it becomes.
fn label(descriptor: OwnedFd) -> Option<(Label, OwnedFd)> {
    let name = HandleName::new(&format!("fd_{}", descriptor.as_raw_fd())).ok()?;
    let report = descriptors::report_of(name, &descriptor);
    Some((Label::Handle { report: Box::new(report), standard: None }, descriptor))
}

/// Refuses to begin anew where something may run that nobody would know of.
fn refusal(run_dir: &Path, why: &str) -> String {
    let folder = run_dir.display();
    format!(
        "cannot say what a lost keepd left running: {why}; nothing was touched\n\
         hint: end what it left, and remove \"{folder}/ledger\""
    )
}

/// Takes the lock of an instance, and makes its folder where there is none.
fn lock(run_dir: &Path) -> Result<OwnedFd, String> {
    let path = run_dir.join(LOCK);
    let failed = |why: &dyn std::fmt::Display| format!("cannot lock \"{}\": {why}", path.display());
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir);
    let lock = made.and_then(|()| {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600).open(&path)
    });
    let lock = lock.map_err(|error| failed(&error))?;
    match file::lock_exclusive(&lock) {
        Ok(true) => Ok(lock.into()),
        Ok(false) => Err(failed(&"keepd runs there already")),
        Err(errno) => Err(failed(&errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Words {
        Words::new(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn a_succession_is_at_the_end_and_a_proxy_has_a_channel() {
        let plain = words(&["--warden", "-S", "/x"]);
        assert_eq!((plain.estate, plain.is_proxy, plain.rest.len()), (None, false, 3));
        let successor = words(&["--warden", "-S", "/x", "--estate", "7"]);
        assert_eq!((successor.estate, successor.is_proxy), (Some(7), false));
        assert_eq!(successor.rest, plain.rest);
        let proxy = words(&["--warden", "-S", "/x", "--estate", "3", "--channel", "4"]);
        assert_eq!((proxy.estate, proxy.is_proxy, proxy.rest.len()), (None, true, 7));
        assert_eq!(words(&["--estate"]).rest.len(), 1);
        assert_eq!(words(&["--estate", "x"]).rest.len(), 2);
    }
}
