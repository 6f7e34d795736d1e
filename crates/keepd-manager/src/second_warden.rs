//! When warden and proxy were both lost: services run on, and so do we. Somebody has to be their
//! parent again, so we start a second warden, which takes over from the ledger.
//!
//! It must not be a child of ours: we are one of its services, and it outlives us. So a process in
//! between forks into the background, becomes the warden there, and ends.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use keepd_model::{Errno, ExitCode};
use keepd_os::daemon::{self, Fork};
use keepd_os::{file, process};

use crate::instance::Instance;
use crate::options::Options;
use crate::prepare::inherited;

/// The hidden verb of the manager.
pub const MANAGER_VERB: &str = "__manager";

/// Stands before the options of the manager, and makes it the process in between.
pub const BEGIN_WARDEN: &str = "--begin-warden";

/// The verb of the warden, which reads the same options as the manager.
const WARDEN_VERB: &str = "__warden";

/// Tells it that there was one before, and that nobody passes anything on to it.
const RESUME: &str = "--resume";

/// How much keepd says: the one of its variables that is chosen by the user.
const LOG_VARIABLE: &str = "KEEPD_LOG";

/// What became of whoever kept the proxy alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is there: a proxy will come.
    Alive,
    /// It was lost, and left a ledger.
    Lost,
    /// It is gone, and nothing says that it should not be.
    Gone,
}

/// Why no second warden was started.
#[derive(Debug)]
pub(crate) enum RescueError {
    Executable(Errno),
    Start(io::Error),
    /// The process in between could not become it; its own message says why.
    Refused,
}

impl fmt::Display for RescueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cannot start a second warden: ")?;
        match self {
            Self::Executable(errno) => write!(formatter, "cannot find the keepd program: {errno}"),
            Self::Start(error) => write!(formatter, "{error}"),
            Self::Refused => formatter.write_str("it did not come to be"),
        }
    }
}

/// Returns what became of the warden of an instance: it holds the lock as long as it lives, and
/// takes its ledger away when it ends as it should.
pub(crate) fn fate(instance: &Instance) -> Fate {
    let is_held = OpenOptions::new()
        .write(true)
        .open(instance.lock_file())
        .is_ok_and(|lock| !matches!(file::lock_exclusive(&lock), Ok(true)));
    match (is_held, instance.ledger_file().exists()) {
        (true, _) => Fate::Alive,
        (false, true) => Fate::Lost,
        (false, false) => Fate::Gone,
    }
}

/// Starts a second warden, with the arguments that this manager was started with. Blocks until the
/// process in between has ended.
pub(crate) fn start(arguments: &[OsString]) -> Result<(), RescueError> {
    let program = process::own_executable().map_err(RescueError::Executable)?;
    let status = Command::new(program)
        .arg(MANAGER_VERB)
        .arg(BEGIN_WARDEN)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .map_err(RescueError::Start)?;
    if status.success() { Ok(()) } else { Err(RescueError::Refused) }
}

/// Is the process in between: a copy of it in the background becomes the warden of the instance.
/// Returns the exit code.
pub fn begin(options: &Options) -> u8 {
    let failed = |what: &dyn fmt::Display| {
        eprintln!("keepd: cannot start a second warden: {what}");
        ExitCode::System.get()
    };
    let program = match process::own_executable() {
        Ok(program) => program,
        Err(errno) => return failed(&errno),
    };
    match daemon::fork_into_background() {
        Ok(Fork::Parent(_)) => ExitCode::Done.get(),
        Ok(Fork::Child) => failed(&command(program, options).exec()),
        Err(errno) => failed(&errno),
    }
}

/// Returns the command that becomes the warden. Its variables are those of the first one: what the
/// proxy gave us as one of its services is not for the others.
fn command(program: impl AsRef<std::ffi::OsStr>, options: &Options) -> Command {
    use std::os::unix::ffi::OsStringExt;
    let variables = inherited()
        .into_iter()
        .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)));
    let chosen = std::env::var_os(LOG_VARIABLE).map(|value| (LOG_VARIABLE, value));
    let mut command = Command::new(program);
    command
        .arg(WARDEN_VERB)
        .arg(RESUME)
        .args(options.to_arguments())
        .env_clear()
        .envs(variables)
        .envs(chosen);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;
    use std::fs;

    fn instance(scratch: &Scratch) -> Instance {
        let path = |name: &str| scratch.path().join(name);
        Instance {
            name: "test-1".into(),
            run_dir: scratch.path().to_owned(),
            state_dir: path("state"),
            log_dir: path("log"),
            config_dir: path("config"),
        }
    }

    #[test]
    fn lock_and_ledger_say_what_became_of_the_warden() {
        // (behaviour 11.19)
        let scratch = Scratch::new();
        let instance = instance(&scratch);
        assert_eq!(fate(&instance), Fate::Gone);
        fs::write(instance.ledger_file(), "").unwrap();
        assert_eq!(fate(&instance), Fate::Lost);
        let lock = fs::File::create(instance.lock_file()).unwrap();
        assert_eq!(fate(&instance), Fate::Lost);
        assert_eq!(file::lock_exclusive(&lock), Ok(true));
        assert_eq!(fate(&instance), Fate::Alive);
        fs::remove_file(instance.ledger_file()).unwrap();
        assert_eq!(fate(&instance), Fate::Alive);
        // A look leaves the lock to others.
        drop(lock);
        assert_eq!(fate(&instance), Fate::Gone);
        let again = OpenOptions::new().write(true).open(instance.lock_file()).unwrap();
        assert_eq!(file::lock_exclusive(&again), Ok(true));
    }

    #[test]
    fn the_second_warden_is_told_what_the_first_one_was() {
        let scratch = Scratch::new();
        let words = ["--foreground", "--color", "never", "--only", "web*"].map(OsString::from);
        let mut arguments = Vec::new();
        for option in ["--instance", "--run-dir", "--state-dir", "--log-dir", "--config-dir"] {
            arguments.extend([OsString::from(option), scratch.path().into()]);
        }
        arguments.extend(words);
        let options = Options::parse(arguments).unwrap();
        let command = command("/bin/keepd", &options);
        let given: Vec<OsString> = command.get_args().map(OsString::from).collect();
        assert_eq!(given[..2], ["__warden", "--resume"]);
        assert_eq!(Options::parse(given[2..].to_vec()), Ok(options));
        let own = |name: &std::ffi::OsStr| name == "INVOCATION_ID" || name == "KEEPD_SERVICE";
        assert!(command.get_envs().all(|(name, value)| value.is_none() || !own(name)));
    }
}
