//! Everything before the first process: lock, leftovers, folders, the accepted configuration, the
//! commands that the proxy reads first, and the cgroup.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use keepd_manager::accepted::Accepted;
use keepd_manager::instance::{Surroundings, write_atomically};
use keepd_manager::{Instance, Options, Signpost};
use keepd_model::protocol::{Attributes, Command, LogTarget, Place, Request, RequestId, VERSION};
use keepd_model::{Errno, Generation, ManagerSpec, ServiceName};
use keepd_os::cgroup::Group;
use keepd_os::ledger::{self, MISSING_PIDFDS_HINT};
use keepd_os::{file, process};
use keepd_proxy::warden::Origin;

use super::leftovers::group_name;
use super::survivors::take_over;
use super::system;
use crate::commands::manager;
use crate::error::{CliError, ErrorKind};

/// The delays after which the proxy starts a manager that ended again; the last one repeats.
const MANAGER_RESPAWN_MS: [u64; 5] = [0, 10, 50, 200, 1_000];

/// How often the lock of an instance is tried before somebody else has it.
const LOCK_TRIES: u32 = 5;

/// From one try to the next: longer than a look takes.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What the user asked of the manager that will run.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// In the foreground of a terminal or a script.
    pub(crate) foreground: bool,
    /// Whether output is coloured.
    pub(crate) color: keepd_manager::console::ColorChoice,
    /// Selectors of what is wanted up at the start; empty: everything that is enabled.
    pub(crate) only: Vec<String>,
    /// Nothing is wanted up at the start.
    pub(crate) no_start: bool,
    /// `--log-level`.
    pub(crate) log_level: Option<String>,
}

/// An instance that is ours to start: nobody else can, and nothing of it runs but what was taken
/// over from a lost keepd.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) options: Options,
    lock: OwnedFd,
    has_survivors: bool,
}

impl Prepared {
    /// Makes an instance ready. What must be refused is refused here, before anything runs.
    pub(crate) fn new(
        mut instance: Instance,
        accepted: &Accepted,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
        wishes: Wishes,
    ) -> Result<Self, CliError> {
        require_kernel(&instance)?;
        if let Some(run_dir) = instance.clear_signpost()? {
            return Err(runs_elsewhere(&instance, &run_dir));
        }
        let warnings = instance.create(manager, surroundings)?;
        say_where(&instance, manager);
        let lock = lock(&instance)?;
        put_signpost(&instance, accepted, surroundings)?;
        instance.remove_moved();
        for warning in warnings {
            eprintln!("keepd: warning: {warning}");
        }
        if let Some(options) = take_over(&instance)? {
            // It goes on as it was started, with the configuration that is in force.
            return Ok(Self::of_parts(options, lock.into(), true));
        }
        let group = make_group(&instance);
        let Wishes { foreground, color, only, no_start, log_level } = wishes;
        let group = group.as_ref().map(|group| group.path().to_owned());
        let options = Options { instance, foreground, color, only, no_start, log_level, group };
        let accepted_file = options.instance.accepted_file();
        accepted.write(&accepted_file).map_err(|error| {
            let message = "cannot write down the accepted configuration";
            CliError::because(ErrorKind::System, message, error)
        })?;
        write_boot_file(&options)?;
        Ok(Self::of_parts(options, lock.into(), false))
    }

    /// Puts together what another process has prepared and locked.
    pub(crate) fn of_parts(options: Options, lock: OwnedFd, has_survivors: bool) -> Self {
        Self { options, lock, has_survivors }
    }

    /// Locks an instance whose warden and proxy were lost. Fails if nothing of it can be taken
    /// over.
    pub(crate) fn resume(instance: &Instance) -> Result<Self, CliError> {
        let lock = lock(instance)?;
        if let Some(options) = take_over(instance)? {
            return Ok(Self::of_parts(options, lock.into(), true));
        }
        let message = format!("cannot take over {}: nothing of it runs", instance.shown());
        Err(system(message))
    }

    /// Reports whether something of a lost keepd runs, which is taken over.
    pub(crate) fn has_survivors(&self) -> bool {
        self.has_survivors
    }

    /// Returns what the warden begins with.
    pub(super) fn into_origin(self) -> (Options, Origin) {
        let Self { options, lock, has_survivors } = self;
        let origin = match has_survivors {
            true => Origin::Survivors { lock },
            false => Origin::Fresh { lock, handles: Vec::new() },
        };
        (options, origin)
    }

    /// Returns the lock, for a process that takes over from here.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Refuses to start where a lost proxy could not be replaced.
fn require_kernel(instance: &Instance) -> Result<(), CliError> {
    ledger::require_pidfds().map_err(|(call, errno)| {
        let message = format!("cannot start {}: {call} is missing: {errno}", instance.shown());
        system(message).with_hint(MISSING_PIDFDS_HINT)
    })
}

/// Says where state and logs are if they are not beside the configuration file, and nobody chose
/// that.
fn say_where(instance: &Instance, manager: &ManagerSpec) {
    let beside = instance.config_dir.join(".keepd");
    let is_below_run_dir = instance.state_dir.starts_with(&instance.run_dir);
    let is_of_project = instance.standing().is_none() && !is_below_run_dir;
    if manager.state_dir.is_none() && instance.state_dir != beside && is_of_project {
        eprintln!(
            "keepd: state and logs are in \"{}\", because \"{}\" cannot be written",
            instance.state_dir.display(),
            beside.display()
        );
    }
}

/// Takes the lock of the instance.
fn lock(instance: &Instance) -> Result<File, CliError> {
    let path = instance.lock_file();
    let failed = |error: &dyn std::fmt::Display| {
        system(format!("cannot lock \"{}\": {error}", path.display()))
    };
    loop {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(&error))?;
        if !try_lock(&lock).map_err(|errno| failed(&errno))? {
            let shown = instance.shown();
            let message = format!("cannot start {shown}: keepd runs it already");
            return Err(system(message).with_hint(running_hint(instance)));
        }
        // The keepd that had the lock before may have removed the file with its folder: then we
        // hold the lock of a file that nobody else will ever open.
        let ours = lock.metadata().map_err(|error| failed(&error))?;
        if fs::metadata(&path).is_ok_and(|found| found.ino() == ours.ino()) {
            return Ok(lock);
        }
        let run_dir = &instance.run_dir;
        fs::create_dir_all(run_dir).map_err(|error| failed(&error))?;
    }
}

/// Makes the instance known where everybody looks for it, if its run folder is somewhere else.
fn put_signpost(
    instance: &Instance,
    accepted: &Accepted,
    surroundings: &Surroundings,
) -> Result<(), CliError> {
    match instance.put_signpost(surroundings) {
        Ok(Signpost::NotNeeded | Signpost::Put) => Ok(()),
        Ok(Signpost::Runs(run_dir)) => {
            // Nothing is to be left of a start that is refused, and the lock is ours.
            let _ = fs::remove_dir_all(&instance.run_dir);
            Err(runs_elsewhere(instance, &run_dir))
        }
        // Who reads the same files finds the run folder; named files are not known to everybody.
        Err(error) => {
            if instance.standing().is_some() && accepted.roots.iter().any(|root| root.required) {
                let error = CliError::from(error);
                let socket = instance.control_socket();
                eprintln!(
                    "keepd: warning: verbs do not find this instance by themselves: {error}\n\
                     hint: use -s {}",
                    socket.display()
                );
            }
            Ok(())
        }
    }
}

/// Refuses an instance that runs with another run folder than this start would use.
fn runs_elsewhere(instance: &Instance, run_dir: &Path) -> CliError {
    let shown = instance.shown();
    let folder = run_dir.display();
    let message = format!("cannot start {shown}: keepd runs it already, in \"{folder}\"");
    system(message).with_hint(running_hint(instance))
}

/// Returns what to do about an instance that runs.
fn running_hint(instance: &Instance) -> String {
    match instance.standing() {
        Some(standing) => {
            let word = standing.word();
            format!("look at it with \"keepd status --{word}\"")
        }
        None => "look at it with \"keepd status\", end it with \"keepd down\"".to_owned(),
    }
}

/// Reports whether a keepd runs this instance.
pub(crate) fn is_locked(instance: &Instance) -> bool {
    HeldLock::of(instance).is_some()
}

/// The lock of an instance that somebody else has: until the end of that process, whatever becomes
/// of the run folder before.
#[derive(Debug)]
pub(crate) struct HeldLock(File);

impl HeldLock {
    /// Returns the lock if a keepd runs this instance.
    pub(crate) fn of(instance: &Instance) -> Option<Self> {
        let lock = OpenOptions::new().write(true).open(instance.lock_file()).ok().map(Self)?;
        lock.is_held().then_some(lock)
    }

    /// Reports whether somebody has it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(file::lock_exclusive(&self.0), Ok(false))
    }
}

/// Takes a lock, and tries a few times: a verb that only looks whether somebody has it has it for
/// that moment.
fn try_lock(lock: &File) -> Result<bool, Errno> {
    for _ in 0..LOCK_TRIES {
        if file::lock_exclusive(lock)? {
            return Ok(true);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    file::lock_exclusive(lock)
}

/// Takes the lock of an instance that is to be cleaned up, so that nobody starts it meanwhile.
/// There is none to be taken if its run folder is gone.
pub(crate) fn hold(instance: &Instance) -> Result<Option<File>, CliError> {
    match instance.run_dir.is_dir() {
        true => lock(instance).map(Some),
        false => Ok(None),
    }
}

/// Makes the cgroup of the instance, where that is possible. Where it is not, the weaker way to
/// find what services leave behind is used, and `status` says so.
///
/// A group that a lost keepd left is empty by now, but it is not used again: once a group was
/// killed as a whole, the kernel (seen on 6.18) kills every child that its processes start in
/// another group.
fn make_group(instance: &Instance) -> Option<Group> {
    let parent = Group::own()?;
    let name = group_name(instance);
    if let Ok(old) = parent.child(&name) {
        old.remove().ok()?;
    }
    let group = Group::create(&parent, &name).ok()?;
    Group::create(&group, "own").ok()?;
    Some(group)
}

/// Writes what the proxy is told first: to run the manager, and to start it again whenever it ends.
fn write_boot_file(options: &Options) -> Result<(), CliError> {
    let executable = process::own_executable()
        .map_err(|errno| system(format!("cannot find the keepd program: {errno}")))?;
    let name =
        ServiceName::new_internal("keepd.manager").map_err(|error| system(error.to_string()))?;
    let mut arguments = vec![executable.into_os_string(), OsString::from(manager::VERB)];
    arguments.extend(options.to_arguments());
    let arguments = arguments.iter().map(|word| word.as_bytes().to_vec()).collect();
    let attributes = Attributes {
        place: Place::Own,
        respawn: MANAGER_RESPAWN_MS.into_iter().map(Duration::from_millis).collect(),
        ..Attributes::default()
    };
    let commands = [
        Command::ServiceArgs { name: name.clone(), arguments },
        Command::ServiceSet { name: name.clone(), attributes: attributes.into() },
        Command::ServiceLog { name: name.clone(), log: LogTarget::Inherit },
        Command::ServiceStart { name, expected: Some(Generation::NONE), at: None },
    ];
    let mut text = Vec::new();
    let proto = Request::Unnumbered(Command::Proto { version: VERSION });
    keepd_wire::encode_request(&proto, &mut text);
    for (id, command) in (1..).zip(commands) {
        keepd_wire::encode_request(&Request::Numbered(RequestId(id), command), &mut text);
    }
    let path = options.instance.boot_file();
    write_atomically(&path, &text)
        .map_err(|error| system(format!("cannot write \"{}\": {error}", path.display())))
}
