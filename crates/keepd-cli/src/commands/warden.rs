//! `keepd __warden`: the top process of an instance where no person started it. `keepd up -d`
//! starts it in the background; the proxy becomes it when its warden was lost; and with `--resume`
//! it takes over what both of them left.

use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};

use keepd_manager::Options;
use keepd_model::ExitCode;
use keepd_os::handle;

use crate::error::{CliError, ErrorKind};
use crate::top::{self, Input, Prepared};

/// The hidden verb.
pub(crate) const VERB: &str = "__warden";
/// The number of the descriptor with the lock of the instance.
pub(crate) const LOCK: &str = "--lock";
/// With the lock: warden and proxy were lost, and something runs.
pub(crate) const SURVIVORS: &str = "--survivors";
/// Services that read our input get the terminal there.
pub(crate) const TERMINAL: &str = "--terminal";
/// The number of the descriptor with what a lost warden held; the process that says so adds it.
const ESTATE: &str = "--estate";
/// Warden and proxy were lost: take the lock, and what runs.
const RESUME: &str = "--resume";

/// Runs the verb.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    Words::parse(arguments).and_then(Words::live).unwrap_or_else(|error| {
        error.print(false);
        error.kind().exit_code()
    })
}

/// What the words say.
struct Words {
    options: Options,
    lock: Option<OwnedFd>,
    estate: Option<OwnedFd>,
    survivors: bool,
    terminal: bool,
    resume: bool,
}

impl Words {
    fn parse(arguments: &[OsString]) -> Result<Self, CliError> {
        let (mut lock, mut estate) = (None, None);
        let (mut survivors, mut terminal, mut resume) = (false, false, false);
        let mut rest = Vec::new();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some(LOCK) => lock = Some(adopt(LOCK, words.next())?),
                Some(ESTATE) => estate = Some(adopt(ESTATE, words.next())?),
                Some(SURVIVORS) => survivors = true,
                Some(TERMINAL) => terminal = true,
                Some(RESUME) => resume = true,
                Some(_) | None => rest.push(word.clone()),
            }
        }
        let options = Options::parse(rest).map_err(|error| {
            CliError::because(ErrorKind::Usage, "cannot start the top process", error)
        })?;
        Ok(Self { options, lock, estate, survivors, terminal, resume })
    }

    fn live(self) -> Result<ExitCode, CliError> {
        let Self { options, lock, estate, survivors, terminal, resume } = self;
        match (estate, lock) {
            (Some(estate), _) => top::succeed(&options, terminal, estate),
            (None, Some(lock)) => {
                top::supervise(Prepared::of_parts(options, lock, survivors), Input::Null)
            }
            (None, None) if resume => top::resume(Prepared::resume(&options.instance)?),
            (None, None) => {
                let message = "cannot start the top process: it has no lock";
                let error = CliError::new(ErrorKind::Usage, message);
                Err(error
                    .with_hint("this is a process of keepd itself; start a project with keepd up"))
            }
        }
    }
}

/// Takes over a descriptor that was left to this process under a number.
fn adopt(option: &str, number: Option<&OsString>) -> Result<OwnedFd, CliError> {
    let shown = number.map_or(OsStr::new(""), OsString::as_os_str).display();
    let parsed = number.and_then(|word| word.to_str()).and_then(|word| word.parse::<RawFd>().ok());
    let refused = |why: String| {
        let message = format!("cannot use descriptor \"{shown}\" of option \"{option}\": {why}");
        CliError::new(ErrorKind::Usage, message)
    };
    let parsed = parsed.ok_or_else(|| refused("it is no number".to_owned()))?;
    handle::adopt(parsed).map_err(|error| refused(error.errno.to_string()))
}
