//! Which instance this is, and where its files are.
//!
//! An instance is a folder with a configuration file, or one of the two that stand on their own
//! ([`Standing`]). Two programs that name the same folder compute the same [`Instance`], so that a
//! verb of the command line finds the manager without asking anybody.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use keepd_model::{ManagerSpec, ServiceName};

use crate::standing::{Folders, Standing};

/// The longest path of a Unix socket, without the byte that ends it (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The longest part of an identity that comes from the folder's name.
const LABEL_BYTES_MAX: usize = 40;

/// What to do about folders that cannot be used.
const STATE_DIR_HINT: &str = "make it writable, or set keepd.state_dir to a folder that is";
const LOG_DIR_HINT: &str = "make it writable, or set keepd.log_dir to a folder that is";

/// An instance and its paths. All of them are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The identity: label of the folder, `-`, and 8 hexadecimal digits of its path; or `system`,
    /// or `user`.
    pub name: String,
    /// Sockets and what lives no longer than the instance.
    pub run_dir: PathBuf,
    /// What outlives it.
    pub state_dir: PathBuf,
    /// The parent of the services' log folders.
    pub log_dir: PathBuf,
    /// The folder of the first configuration file.
    pub config_dir: PathBuf,
}

/// What the paths depend on besides the configuration file: the user and the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Own user id.
    pub uid: u32,
    /// KEEPD_RUN_DIR: the parent of the run folder, whatever else is said.
    pub keepd_run_dir: Option<PathBuf>,
    /// XDG_RUNTIME_DIR.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// XDG_CONFIG_HOME.
    pub xdg_config_home: Option<PathBuf>,
    /// XDG_STATE_HOME.
    pub xdg_state_home: Option<PathBuf>,
    /// HOME.
    pub home: Option<PathBuf>,
}

/// Why the paths of an instance cannot be found or made: one sentence, and what to do.
#[derive(Debug)]
pub struct InstanceError {
    text: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

impl InstanceError {
    pub(crate) fn new(text: String, source: io::Error) -> Self {
        Self { text, hint: None, source: Some(source) }
    }

    fn refused(text: String, hint: &str) -> Self {
        Self { text, hint: Some(hint.to_owned()), source: None }
    }

    /// Returns the sentence with what the system said.
    fn chain(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.text),
            None => self.text.clone(),
        }
    }

    fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// Returns what to do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for InstanceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for InstanceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl Surroundings {
    /// Reads the environment of this process. Empty and relative values count as unset, as the XDG
    /// base directory specification asks for.
    pub fn from_environment(uid: u32) -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|value: &OsString| !value.is_empty())
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        Self {
            uid,
            keepd_run_dir: path("KEEPD_RUN_DIR"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
        }
    }

    /// Returns the folder in which the run folders of all instances of this user are.
    pub(crate) fn run_parent(&self, manager: &ManagerSpec) -> PathBuf {
        if let Some(path) = &self.keepd_run_dir {
            path.clone()
        } else if let Some(path) = &manager.run_dir {
            PathBuf::from(path)
        } else if self.uid == 0 {
            PathBuf::from("/run/keepd")
        } else if let Some(path) = &self.xdg_runtime_dir {
            path.join("keepd")
        } else {
            PathBuf::from(format!("/tmp/keepd-{}", self.uid))
        }
    }

    /// Returns the mode of run folders: services under other user ids must reach their notify
    /// sockets below the folder of root, but must not see what else there is.
    fn run_mode(&self) -> u32 {
        if self.uid == 0 { 0o711 } else { 0o700 }
    }

    /// Returns the folder in which the run folder of a standing instance is. That of the system is
    /// everywhere where root would put it, so that everybody looks for it in the same place.
    pub(crate) fn standing_run_parent(&self, standing: Standing, manager: &ManagerSpec) -> PathBuf {
        match standing {
            Standing::System => Self { uid: 0, ..self.clone() }.run_parent(manager),
            Standing::User => self.run_parent(manager),
        }
    }

    /// Returns `$XDG_CONFIG_HOME/keepd`.
    pub(crate) fn user_config_dir(&self) -> Option<PathBuf> {
        let home = self.home.as_ref().map(|home| home.join(".config"));
        Some(self.xdg_config_home.clone().or(home)?.join("keepd"))
    }

    /// Returns `$XDG_STATE_HOME/keepd`.
    pub(crate) fn user_state_dir(&self) -> Option<PathBuf> {
        let home = self.home.as_ref().map(|home| home.join(".local/state"));
        Some(self.xdg_state_home.clone().or(home)?.join("keepd"))
    }

    /// Returns the state folder for a project whose own folder cannot be written.
    fn state_elsewhere(&self, name: &str) -> Option<PathBuf> {
        Some(self.user_state_dir()?.join(name))
    }
}

impl Instance {
    /// Finds the instance of this configuration file. Nothing is made.
    ///
    /// # Errors
    /// The file's folder cannot be found.
    pub fn locate(
        first_file: &Path,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
    ) -> Result<Self, InstanceError> {
        let parent = match first_file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        let config_dir = fs::canonicalize(parent).map_err(|source| {
            InstanceError::new(format!("cannot find folder \"{}\"", parent.display()), source)
        })?;
        let name = identity(&config_dir);
        let state_dir = match &manager.state_dir {
            Some(path) => PathBuf::from(path),
            None => find_state_dir(&config_dir, &name, surroundings),
        };
        let log_dir = match &manager.log_dir {
            Some(path) => PathBuf::from(path),
            None => state_dir.join("log"),
        };
        Ok(Self {
            run_dir: surroundings.run_parent(manager).join(&name),
            name,
            state_dir,
            log_dir,
            config_dir,
        })
    }

    /// Returns an instance without a configuration file, for `keepd run -- CMD`: known by the
    /// process that runs it, and gone with it, state and logs included.
    ///
    /// # Errors
    /// The current folder cannot be found.
    pub fn of_run(pid: u32, surroundings: &Surroundings) -> Result<Self, InstanceError> {
        let config_dir = std::env::current_dir().map_err(|source| {
            InstanceError::new("cannot find the current folder".to_owned(), source)
        })?;
        let name = format!("run-{pid}");
        let run_dir = surroundings.run_parent(&ManagerSpec::default()).join(&name);
        Ok(Self {
            state_dir: run_dir.join("state"),
            log_dir: run_dir.join("log"),
            name,
            run_dir,
            config_dir,
        })
    }

    /// Returns which standing instance this is, if it is one.
    pub fn standing(&self) -> Option<Standing> {
        Standing::from_word(&self.name)
    }

    /// Returns how messages call it: `project "shop-00c0ffee"`, `the system instance`.
    pub fn shown(&self) -> String {
        match self.standing() {
            Some(standing) => format!("the {} instance", standing.word()),
            None => format!("project \"{}\"", self.name),
        }
    }

    /// Returns the word that marks its processes and its cgroup. Two users may each have a user
    /// instance, and only the folder tells them apart.
    pub fn mark(&self) -> String {
        match self.standing() {
            Some(standing) => {
                let hash = fnv_1a_32(self.run_dir.as_os_str().as_bytes());
                format!("{}-{hash:08x}", standing.word())
            }
            None => self.name.clone(),
        }
    }

    /// Makes the folders, and checks that the run folder belongs to nobody else. Returns what had
    /// to be done differently, in sentences.
    ///
    /// State and logs of a standing instance move to its run folder where their own folders cannot
    /// be made or written: the run folder is the only one that it cannot do without. Where `.keepd`
    /// cannot be made beside the configuration file, state and logs of a project move to the user's
    /// state folder. `self` says so afterwards, and readers find them there from then on.
    ///
    /// # Errors
    /// A folder cannot be made, is not a folder, or can be written by somebody else.
    pub fn create(
        &mut self,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
    ) -> Result<Vec<String>, InstanceError> {
        self.check_socket_path(&self.control_socket())?;
        let is_new = !self.run_dir.exists();
        self.create_run_dir(surroundings)?;
        if let Some(standing) = self.standing() {
            let folders = Folders::of(standing, manager, surroundings, &self.run_dir);
            return self.create_standing(folders);
        }
        let made = self.create_lasting_dirs(manager, surroundings);
        if made.is_err() && is_new {
            // Nothing is to be left of a start that is refused.
            for dir in [self.notify_dir(), self.run_dir.clone()] {
                let _ = fs::remove_dir(dir);
            }
        }
        made.map(|()| Vec::new())
    }

    fn create_lasting_dirs(
        &mut self,
        manager: &ManagerSpec,
        surroundings: &Surroundings,
    ) -> Result<(), InstanceError> {
        if let Err(error) = create_state_dir(&self.state_dir) {
            let elsewhere = surroundings.state_elsewhere(&self.name);
            match elsewhere {
                Some(path) if manager.state_dir.is_none() && path != self.state_dir => {
                    create_state_dir(&path)?;
                    self.state_dir = path;
                    if manager.log_dir.is_none() {
                        self.log_dir = self.state_dir.join("log");
                    }
                }
                Some(_) | None => return Err(error),
            }
        }
        make_dirs(&self.log_dir, 0o755)
            .and_then(|()| check_writable(&self.log_dir))
            .map_err(|error| error.with_hint(LOG_DIR_HINT))
    }

    /// Removes state and logs that an earlier start had to keep in the run folder and that this one
    /// does not. Only for who holds the lock.
    pub fn remove_moved(&self) {
        let moved = [Folders::STATE, Folders::LOG].map(|name| self.run_dir.join(name));
        for folder in moved.iter().filter(|path| ![&self.state_dir, &self.log_dir].contains(path)) {
            // What stays is in the way of nobody but a reader of old logs.
            let _ = fs::remove_dir_all(folder);
        }
    }

    fn create_standing(&mut self, folders: Folders) -> Result<Vec<String>, InstanceError> {
        let mut warnings = Vec::new();
        let mut make = |what: &str, wanted: PathBuf, fallback: PathBuf| {
            let Err(error) = create_writable(&wanted) else {
                return Ok(wanted);
            };
            make_dirs(&fallback, 0o755)?;
            let (folder, why) = (fallback.display(), error.chain());
            warnings.push(format!("{what} in \"{folder}\", and lost with it: {why}"));
            Ok(fallback)
        };
        self.state_dir =
            make("state is kept", folders.state_dir, self.run_dir.join(Folders::STATE))?;
        self.log_dir = make("logs are kept", folders.log_dir, self.run_dir.join(Folders::LOG))?;
        Ok(warnings)
    }

    fn create_run_dir(&self, surroundings: &Surroundings) -> Result<(), InstanceError> {
        let mode = surroundings.run_mode();
        create_run_parent(&self.run_dir, surroundings)?;
        for dir in [&self.run_dir, &self.notify_dir()] {
            make_dirs(dir, mode)?;
            check_owner(dir, surroundings.uid)?;
            // The umask may have taken away what services need.
            fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(|source| {
                InstanceError::new(format!("cannot set the mode of \"{}\"", dir.display()), source)
            })?;
        }
        Ok(())
    }

    fn check_socket_path(&self, path: &Path) -> Result<(), InstanceError> {
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(());
        }
        Err(InstanceError::refused(
            format!(
                "cannot use socket path \"{}\": it has more than {SOCKET_PATH_BYTES_MAX} bytes",
                path.display()
            ),
            "set KEEPD_RUN_DIR to a folder with a shorter path",
        ))
    }

    /// Returns where its run folder would be if the configuration said nothing about it. This is
    /// where everybody looks who does not know the files.
    pub fn usual_run_dir(&self, surroundings: &Surroundings) -> PathBuf {
        let manager = ManagerSpec::default();
        let parent = match self.standing() {
            Some(standing) => surroundings.standing_run_parent(standing, &manager),
            None => surroundings.run_parent(&manager),
        };
        parent.join(&self.name)
    }

    /// Returns the file that is locked as long as the instance lives.
    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("lock")
    }

    /// Returns the file that says what runs, also when warden and proxy are lost.
    pub fn ledger_file(&self) -> PathBuf {
        self.run_dir.join("ledger")
    }

    /// Returns the socket on which the proxy speaks its protocol.
    pub fn proxy_socket(&self) -> PathBuf {
        self.run_dir.join("proxy.sock")
    }

    /// Returns the socket on which the manager serves HTTP.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("keepd.sock")
    }

    /// Returns the folder of the notify sockets.
    pub fn notify_dir(&self) -> PathBuf {
        self.run_dir.join("n")
    }

    /// Returns the notify socket of a service.
    pub fn notify_socket(&self, name: &ServiceName) -> PathBuf {
        self.notify_dir().join(name.as_str())
    }

    /// Returns the commands that the proxy reads first.
    pub fn boot_file(&self) -> PathBuf {
        self.run_dir.join("boot.tsv")
    }

    /// Returns the file of the accepted configuration.
    pub fn accepted_file(&self) -> PathBuf {
        self.run_dir.join("accepted.json")
    }

    /// Returns the file that holds the process id of the proxy.
    pub fn proxy_pid_file(&self) -> PathBuf {
        self.run_dir.join("proxy.pid")
    }

    /// Returns the file of the last configuration that was good as a whole.
    pub fn last_good_file(&self) -> PathBuf {
        self.state_dir.join("last-good.json")
    }

    /// Returns where keepd's own output goes when it runs in the background.
    pub fn own_log_file(&self) -> PathBuf {
        self.state_dir.join("keepd.log")
    }

    /// Returns the default log folder of a service.
    pub fn service_log_dir(&self, name: &ServiceName) -> PathBuf {
        self.log_dir.join(name.as_str())
    }
}

/// Returns the identity of the instance of this folder: its name, made fit for file names and
/// cgroups, `-`, and 8 hexadecimal digits of FNV-1a-32 of its path.
pub fn identity(folder: &Path) -> String {
    let base = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut label: String = base
        .chars()
        .map(|found| match found {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => found,
            _ => '_',
        })
        .take(LABEL_BYTES_MAX)
        .collect();
    if label.is_empty() {
        label.push_str("root");
    }
    let hash = fnv_1a_32(folder.as_os_str().as_bytes());
    format!("{label}-{hash:08x}")
}

/// Returns the hash of Fowler, Noll and Vo, variant 1a, 32 bits. Small, stable, and not for
/// enemies.
pub(crate) fn fnv_1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Returns where the state of this project is, or where it would be made.
///
/// `.keepd` beside the file counts if it can be written. Where it is not there, a state folder of
/// an earlier start elsewhere counts, so that readers find what the start found.
fn find_state_dir(config_dir: &Path, name: &str, surroundings: &Surroundings) -> PathBuf {
    let beside = config_dir.join(".keepd");
    let elsewhere = surroundings.state_elsewhere(name);
    let probe = OpenOptions::new().append(true).open(beside.join(".gitignore"));
    match (probe, elsewhere) {
        (Ok(_), _) | (Err(_), None) => beside,
        (Err(error), Some(elsewhere)) if error.kind() == io::ErrorKind::NotFound => {
            if elsewhere.is_dir() { elsewhere } else { beside }
        }
        (Err(_), Some(elsewhere)) => elsewhere,
    }
}

fn create_state_dir(dir: &Path) -> Result<(), InstanceError> {
    make_dirs(dir, 0o755)
        .and_then(|()| check_writable(dir))
        .map_err(|error| error.with_hint(STATE_DIR_HINT))?;
    let ignore = dir.join(".gitignore");
    if fs::metadata(&ignore).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    match fs::write(&ignore, "*\n") {
        // A full disk is no reason to look for the logs elsewhere from now on.
        Err(error) if error.kind() != io::ErrorKind::StorageFull => {
            let text = format!("cannot write \"{}\"", ignore.display());
            Err(InstanceError::new(text, error).with_hint(STATE_DIR_HINT))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the folder in which a run folder is, and checks that it belongs to nobody else.
pub(crate) fn create_run_parent(
    run_dir: &Path,
    surroundings: &Surroundings,
) -> Result<(), InstanceError> {
    let Some(parent) = run_dir.parent() else {
        return Ok(());
    };
    make_dirs(parent, surroundings.run_mode())?;
    check_owner(parent, surroundings.uid)
}

fn check_writable(dir: &Path) -> Result<(), InstanceError> {
    keepd_os::file::check_writable_folder(dir).map_err(|errno| {
        let source = io::Error::from_raw_os_error(errno.0);
        InstanceError::new(format!("cannot write to folder \"{}\"", dir.display()), source)
    })
}

/// Makes a folder, and finds out whether files can be made in it.
fn create_writable(dir: &Path) -> Result<(), InstanceError> {
    make_dirs(dir, 0o755)?;
    let probe = dir.join(".writable");
    let failed = |source| {
        InstanceError::new(format!("cannot write in folder \"{}\"", dir.display()), source)
    };
    fs::write(&probe, "").map_err(failed)?;
    fs::remove_file(&probe).map_err(failed)
}

fn make_dirs(dir: &Path, mode: u32) -> Result<(), InstanceError> {
    DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|source| {
        InstanceError::new(format!("cannot make folder \"{}\"", dir.display()), source)
    })
}

/// Refuses a folder in which somebody else could put a socket of theirs in our place.
fn check_owner(dir: &Path, uid: u32) -> Result<(), InstanceError> {
    let found = fs::symlink_metadata(dir).map_err(|source| {
        InstanceError::new(format!("cannot look at folder \"{}\"", dir.display()), source)
    })?;
    let refused = |why: &str| {
        InstanceError::refused(
            format!("cannot use folder \"{}\": {why}", dir.display()),
            "remove it, or set KEEPD_RUN_DIR to a folder of your own",
        )
    };
    if !found.is_dir() {
        return Err(refused("it is no folder"));
    }
    if found.uid() != uid {
        return Err(refused("it belongs to another user"));
    }
    // The sticky bit of /tmp does not help here: what matters is who can make files inside.
    if found.mode() & 0o022 != 0 {
        return Err(refused("others can write to it"));
    }
    Ok(())
}

/// Writes a file so that readers see the old content or the new one, never a part: a temporary file
/// beside it, then a rename. Mode 0600.
///
/// # Errors
/// What the system said.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A file that a killed predecessor left behind may have another mode; begin with none.
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_data()?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_testkit::Scratch;

    fn surroundings(scratch: &Scratch) -> Surroundings {
        Surroundings {
            uid: fs::metadata(scratch.path()).unwrap().uid(),
            keepd_run_dir: Some(scratch.path().join("run")),
            xdg_runtime_dir: None,
            xdg_config_home: None,
            xdg_state_home: Some(scratch.path().join("state")),
            home: None,
        }
    }

    #[test]
    fn the_identity_is_label_and_hash_of_the_path() {
        // Reference values of FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
        assert_eq!(fnv_1a_32(b""), 0x811c_9dc5);
        assert_eq!(fnv_1a_32(b"foobar"), 0xbf9c_f968);
        let shop = identity(Path::new("/srv/shop"));
        assert_eq!(shop, format!("shop-{:08x}", fnv_1a_32("/srv/shop".as_bytes())));
        assert_ne!(shop, identity(Path::new("/home/shop")));
        assert!(identity(Path::new("/srv/my shop\t")).starts_with("my_shop_-"));
        assert!(identity(Path::new("/")).starts_with("root-"));
    }

    #[test]
    fn the_run_folder_is_the_users() {
        let manager = ManagerSpec::default();
        let mut place = Surroundings::default();
        assert_eq!(place.run_parent(&manager), Path::new("/run/keepd"));
        place.uid = 7;
        assert_eq!(place.run_parent(&manager), Path::new("/tmp/keepd-7"));
        place.xdg_runtime_dir = Some("/run/user/7".into());
        assert_eq!(place.run_parent(&manager), Path::new("/run/user/7/keepd"));
        let file = ManagerSpec { run_dir: Some("/r".into()), ..ManagerSpec::default() };
        assert_eq!(place.run_parent(&file), Path::new("/r"));
        place.keepd_run_dir = Some("/k".into());
        assert_eq!(place.run_parent(&file), Path::new("/k"));
    }

    #[test]
    fn folders_are_made_once_and_found_again() {
        let scratch = Scratch::new();
        let place = surroundings(&scratch);
        let file = scratch.write("shop/keepd.toml", "");
        let manager = ManagerSpec::default();
        let mut instance = Instance::locate(&file, &manager, &place).unwrap();
        assert_eq!(instance.state_dir, scratch.path().canonicalize().unwrap().join("shop/.keepd"));
        instance.create(&manager, &place).unwrap();
        assert!(instance.notify_dir().is_dir());
        assert!(instance.log_dir.is_dir());
        let ignore = instance.state_dir.join(".gitignore");
        assert_eq!(fs::read_to_string(ignore).unwrap(), "*\n");
        assert_eq!(
            Instance::locate(&file, &manager, &place).unwrap(),
            instance,
            "a second look finds the same"
        );
    }

    #[test]
    fn state_goes_elsewhere_where_the_folder_cannot_be_used() {
        let scratch = Scratch::new();
        let place = surroundings(&scratch);
        let file = scratch.write("shop/keepd.toml", "");
        // A file in the way stands for a read-only folder: root is stopped by it too.
        scratch.write("shop/.keepd", "");
        let manager = ManagerSpec::default();
        let mut instance = Instance::locate(&file, &manager, &place).unwrap();
        instance.create(&manager, &place).unwrap();
        let elsewhere = scratch.path().join("state/keepd").join(&instance.name);
        assert_eq!(instance.state_dir, elsewhere);
        assert_eq!(instance.log_dir, elsewhere.join("log"));
        assert_eq!(Instance::locate(&file, &manager, &place).unwrap(), instance);
    }

    #[test]
    fn folders_that_cannot_be_used_are_named_with_what_to_do() {
        let scratch = Scratch::new();
        let mut place = surroundings(&scratch);
        let file = scratch.write("shop/keepd.toml", "");
        scratch.write("shop/.keepd", "");
        scratch.write("state", "");
        let manager = ManagerSpec::default();
        let refused = |place: &Surroundings, manager: &ManagerSpec| {
            let mut instance = Instance::locate(&file, manager, place).unwrap();
            let error = instance.create(manager, place).unwrap_err();
            (error.to_string(), error.hint().unwrap().to_owned())
        };
        let (text, hint) = refused(&place, &manager);
        assert!(text.contains("/state/keepd/shop-"), "{text}");
        assert!(hint.contains("keepd.state_dir"), "{hint}");
        place.xdg_state_home = None;
        let (text, hint) = refused(&place, &manager);
        assert!(text.ends_with("shop/.keepd\""), "{text}");
        assert!(hint.contains("keepd.state_dir"), "{hint}");
        let logs = scratch.path().join("state/log").display().to_string();
        let state = scratch.path().join("fine").display().to_string();
        let manager =
            ManagerSpec { log_dir: Some(logs.clone()), state_dir: Some(state), ..manager };
        let (text, hint) = refused(&place, &manager);
        assert_eq!(text, format!("cannot make folder \"{logs}\""));
        assert!(hint.contains("keepd.log_dir"), "{hint}");
    }

    #[test]
    fn a_run_folder_that_others_can_write_is_refused() {
        let scratch = Scratch::new();
        let place = surroundings(&scratch);
        let file = scratch.write("shop/keepd.toml", "");
        let manager = ManagerSpec::default();
        let mut instance = Instance::locate(&file, &manager, &place).unwrap();
        fs::create_dir_all(&instance.run_dir).unwrap();
        fs::set_permissions(&instance.run_dir, Permissions::from_mode(0o777)).unwrap();
        let error = instance.create(&manager, &place).unwrap_err();
        assert!(error.to_string().ends_with("others can write to it"), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_long_socket_path_is_refused() {
        let scratch = Scratch::new();
        let mut place = surroundings(&scratch);
        place.keepd_run_dir = Some(scratch.path().join("x".repeat(120)));
        let file = scratch.write("shop/keepd.toml", "");
        let manager = ManagerSpec::default();
        let mut instance = Instance::locate(&file, &manager, &place).unwrap();
        let error = instance.create(&manager, &place).unwrap_err();
        assert!(error.to_string().contains("more than 107 bytes"), "{error}");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let scratch = Scratch::new();
        let path = scratch.write("a.json", "old");
        scratch.write("a.json.new", "left behind");
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!scratch.path().join("a.json.new").exists());
    }
}
