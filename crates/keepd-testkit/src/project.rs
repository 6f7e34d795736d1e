//! A folder with a configuration, and everything that runs in it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keepd_os::cgroup::Group;
use serde_json::Value;

use crate::{
    Api, Deadline, EventLog, Finished, LONG, Running, keepd_program, processes, test_service,
    test_service_program, wait_until,
};

/// The variable that every process of a project inherits, keepd's own included.
const MARK: &str = "TEST_PROJECT";

/// Counts the projects of this program.
static PROJECTS: AtomicU32 = AtomicU32::new(0);

/// A project of its own: configuration, run folder, home and environment. When it is dropped, every
/// process of it is killed and its files are removed (not with KEEPD_TEST_KEEP in the environment).
///
/// Services find the test service as `${TEST_SERVICE}`; it writes to [`Project::events`] by itself.
#[derive(Debug)]
pub struct Project {
    root: PathBuf,
    folder: PathBuf,
    mark: String,
    variables: Vec<(String, String)>,
    keeps_files: bool,
}

impl Project {
    /// Makes a project with this `keepd.toml`.
    #[track_caller]
    pub fn new(configuration: &str) -> Self {
        Self::named("app", configuration)
    }

    /// Makes a project in a folder of this name.
    #[track_caller]
    pub fn named(name: &str, configuration: &str) -> Self {
        let number = PROJECTS.fetch_add(1, Ordering::Relaxed);
        let id = format!("keepd-test-{}-{number}", std::process::id());
        let root = std::env::temp_dir()
            .canonicalize()
            .expect("there is a folder for temporary files")
            .join(&id);
        let project = Self {
            folder: root.join(name),
            root,
            mark: format!("{MARK}={id}"),
            variables: Vec::new(),
            keeps_files: false,
        };
        for folder in ["", name, "home", "run"] {
            let folder = project.root.join(folder);
            fs::create_dir_all(&folder).expect("folders can be made");
            // Services under other users look into them; nobody else writes to them.
            fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("they are ours");
        }
        project.configure(configuration);
        project
    }

    /// Makes a project from a copy of a folder with a `keepd.toml`.
    ///
    /// # Panics
    /// If it cannot be read.
    #[track_caller]
    pub fn copied_from(folder: &Path) -> Self {
        let project = Self::new("");
        copy_folder(folder, &project.folder)
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", folder.display()));
        project
    }

    /// Leaves the files of the project where they are, as evidence; its processes are killed all
    /// the same when it is dropped. Returns the folder.
    pub fn keep_files(&mut self) -> &Path {
        self.keeps_files = true;
        &self.root
    }

    /// Returns the entry in the environment by which every process of the project is known.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Gives a variable to everything that is started from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Replaces `keepd.toml`.
    #[track_caller]
    pub fn configure(&self, configuration: &str) {
        self.write("keepd.toml", configuration);
    }

    /// Writes a file of the project.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        let parent = path.parent().expect("the path is below the folder");
        fs::create_dir_all(parent).expect("folders can be made");
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Writes a file that can be executed.
    #[track_caller]
    pub fn write_program(&self, path: &str, content: &str) -> PathBuf {
        let path = self.write(path, content);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("the file is ours");
        path
    }

    /// Returns a path in the folder of the project.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Returns the folder that holds `keepd.toml`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the identity that keepd must give the instance: computed here once more, from the
    /// documentation.
    pub fn instance(&self) -> String {
        let name = self.folder.file_name().expect("the folder has a name");
        let path = self.folder.as_os_str().as_bytes();
        let hash = path.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        format!("{}-{hash:08x}", name.to_string_lossy())
    }

    /// Returns the run folder of the instance.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run").join(self.instance())
    }

    /// Returns the log folder of a service.
    pub fn log_dir(&self, service: &str) -> PathBuf {
        self.folder.join(".keepd/log").join(service)
    }

    /// Returns what a service wrote to its standard output, from its log file.
    #[track_caller]
    pub fn out_log(&self, service: &str) -> Vec<u8> {
        fs::read(self.log_dir(service).join("out.log")).unwrap_or_default()
    }

    /// Returns the log that the test services write.
    pub fn events(&self) -> EventLog {
        EventLog::new(self.root.join("events.log"))
    }

    /// Returns the HTTP API of the instance.
    pub fn api(&self) -> Api {
        Api::new(self.run_dir().join("keepd.sock"))
    }

    /// Returns a command that runs in the folder of the project, with its environment and nothing
    /// else.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let (key, value) = self.mark.split_once('=').expect("the mark has a value");
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.root.join("home"))
            .env("LANG", "C.UTF-8")
            .env("KEEPD_RUN_DIR", self.root.join("run"))
            .env(key, value)
            .env(test_service::EVENTS_VARIABLE, self.events().path())
            .env("TEST_SERVICE", test_service_program())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs `keepd` with these words, to its end.
    #[must_use = "a run whose result nobody looks at tests nothing"]
    #[track_caller]
    pub fn keepd<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Finished {
        self.start_keepd(words).wait_for(2 * LONG)
    }

    /// Starts `keepd` with these words.
    #[track_caller]
    pub fn start_keepd<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Running {
        let mut command = self.command(keepd_program());
        // Not in our process group: Ctrl-C at the terminal of the tests is not for it.
        std::os::unix::process::CommandExt::process_group(command.args(words), 0);
        Running::start(&mut command)
    }

    /// Starts `keepd up` in the foreground, and waits until its API answers.
    #[track_caller]
    pub fn up(&self) -> Running {
        let mut up = self.start_keepd(["up"]);
        wait_until("an answer of the API", LONG, || {
            assert!(
                up.is_running(),
                "keepd up ended\nstdout:\n{}\nstderr:\n{}",
                up.stdout().text(),
                up.stderr().text()
            );
            let answer = self.api().get("/v1/services").ok()?;
            (answer.status == 200).then_some(())
        });
        up
    }

    /// Starts `keepd up` and waits until every service that should run is ready or done.
    #[track_caller]
    pub fn up_and_ready(&self) -> Running {
        let up = self.up();
        self.wait_for("every service to be ready or done", LONG, |services| {
            let settled = |service: &Value| {
                service["wanted"] == "down" || matches!(state_of(service), "ready" | "done")
            };
            services.iter().all(settled).then_some(())
        });
        up
    }

    /// Returns the status objects of all services, from the API.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn services(&self) -> Vec<Value> {
        self.try_services()
            .unwrap_or_else(|| panic!("the API of {} does not answer", self.instance()))
    }

    fn try_services(&self) -> Option<Vec<Value>> {
        let answer = self.api().get("/v1/services").ok()?;
        if answer.status != 200 {
            return None;
        }
        answer.json()["services"].as_array().cloned()
    }

    /// Returns the status object of one service.
    #[track_caller]
    pub fn service(&self, name: &str) -> Value {
        let services = self.services();
        let found = services.iter().find(|service| service["name"] == name);
        found.unwrap_or_else(|| panic!("there is no service \"{name}\"")).clone()
    }

    /// Returns the process id of a service that runs.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        let service = self.service(name);
        let pid = service["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("service \"{name}\" has no process: {service}"))
    }

    /// Waits until the status objects make `condition` answer, and returns the answer. It looks
    /// after each event of the API, and again when a new manager has taken over.
    ///
    /// # Panics
    /// After `limit`, with the last status.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&[Value]) -> Option<T>,
    ) -> T {
        let deadline = Deadline::after(limit);
        let mut last = Vec::new();
        while let Some(remaining) = deadline.remaining() {
            // The stream is open before the first look, so nothing falls between the two.
            let (mut events, mut services) =
                wait_until("a manager that answers", remaining, || {
                    Some((self.api().events().ok()?, self.try_services()?))
                });
            loop {
                if let Some(found) = condition(&services) {
                    return found;
                }
                last = services;
                match (events.next(deadline), self.try_services()) {
                    (Some(_), Some(now)) => services = now,
                    (Some(_) | None, _) => break,
                }
            }
        }
        panic!("waited {limit:?} in vain for {what}: {last:#?}");
    }

    /// Waits until a service is in a state, and returns its status object.
    #[track_caller]
    pub fn wait_for_state(&self, name: &str, state: &str) -> Value {
        let what = format!("service \"{name}\" to be {state}");
        self.wait_for(&what, LONG, |services| {
            services
                .iter()
                .find(|service| service["name"] == name && service["state"] == state)
                .cloned()
        })
    }

    /// Returns the ids of all live processes of the project.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids = processes::marked(&self.mark);
        pids.extend(processes::marked(&self.project_entry()));
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Returns what keepd puts into the environment of every service of the instance.
    pub fn project_entry(&self) -> String {
        format!("KEEPD_PROJECT={}", self.instance())
    }

    /// Checks that the end of keepd was the end of everything: no process, no run folder, no
    /// cgroup.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left: Vec<String> = self
            .processes()
            .iter()
            .map(|pid| (pid, fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
            // Who has no memory any more is on its way out of exit(2).
            .filter(|(_, words)| !words.is_empty())
            .map(|(pid, words)| format!("{pid} {}", String::from_utf8_lossy(&words)))
            .collect();
        assert!(left.is_empty(), "processes are left: {left:#?}");
        assert!(!self.run_dir().exists(), "the run folder is left");
        assert!(self.cgroup().is_none(), "the cgroup is left");
    }

    /// Returns the cgroup of the instance, if there is one.
    pub fn cgroup(&self) -> Option<Group> {
        let own = Group::own()?;
        own.child(&format!("keepd.{}", self.instance())).ok()
    }
}

/// Copies files with their modes, and folders; what a keepd left in its own folder stays behind.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if entry.file_name() != ".keepd" {
                copy_folder(&entry.path(), &target)?;
            }
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn state_of(service: &Value) -> &str {
    service["state"].as_str().unwrap_or_default()
}

impl Drop for Project {
    fn drop(&mut self) {
        processes::kill_marked(&[&self.mark, &self.project_entry()]);
        if let Some(group) = self.cgroup() {
            for leaf in group.children().unwrap_or_default() {
                let _ = group.child(&leaf).and_then(|leaf| leaf.remove());
            }
            let _ = group.remove();
        }
        if self.keeps_files || std::env::var_os("KEEPD_TEST_KEEP").is_some() {
            eprintln!("the project is kept: {}", self.root.display());
        } else {
            if std::thread::panicking() {
                let events = fs::read_to_string(self.events().path()).unwrap_or_default();
                eprintln!("events of the services:\n{events}");
            }
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}
