//! How a proxy is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::OFlags;

use super::Daemonproxy;
use crate::processes::kill_marked;
use crate::{Output, Running, Scratch, init_program, keepd_program};

/// The variable with the path of another program to test.
const PEER_VARIABLE: &str = "KEEPD_PEER_DAEMONPROXY";

/// The variable that marks the proxy and everything it starts.
const MARK_VARIABLE: &str = "KEEPD_TEST_PROXY";

/// Which of our programs is the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// `keepd`, called as `daemonproxy`.
    Daemonproxy,
    /// `keepd-init`.
    Init,
}

/// How a proxy is to be started.
///
/// It gets a folder of its own as working directory, and an environment with nothing but PATH, HOME
/// (that folder) and the mark by which its processes are found again. Standard input, output and
/// error are pipes, unless something else is said.
#[derive(Debug)]
pub struct Setup {
    program: Program,
    folder: Scratch,
    before: Vec<OsString>,
    options: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

impl Setup {
    /// Returns a setup without any option.
    #[expect(clippy::new_without_default, reason = "it makes a folder, which no default should")]
    pub fn new() -> Self {
        Self::of(Program::Daemonproxy)
    }

    /// Returns a setup of `keepd-init` without any option.
    pub fn of_init() -> Self {
        Self::of(Program::Init)
    }

    fn of(program: Program) -> Self {
        Self {
            program,
            folder: Scratch::new(),
            before: Vec::new(),
            options: Vec::new(),
            variables: Vec::new(),
            stdin: None,
            stdout: None,
            stderr: None,
        }
    }

    /// Adds options.
    pub fn options<Word: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = Word>) -> Self {
        self.options.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Writes a file into the folder of the proxy.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.folder.write(name, text);
        self
    }

    /// Sets a variable of its environment.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts the proxy through another program, which executes what follows these words: `sh -c
    /// 'ulimit -n 64; exec "$@"' sh`, for example.
    pub fn through<Word: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = Word>) -> Self {
        self.before.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Replaces standard input. There is no controller of the caller then.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Replaces standard output. There is no controller of the caller then.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Replaces standard error. The log cannot be asked for then.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Returns the folder of the proxy.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of a file in the folder of the proxy.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the proxy to its end; the input is closed from the beginning.
    ///
    /// The result is asked for by `wait` and its like; then everything the proxy started is killed
    /// when this setup is dropped.
    pub fn run(&mut self) -> Running {
        let mut command = self.command();
        command.stdin(self.stdin.take().unwrap_or_else(Stdio::null));
        Running::start(&mut command)
    }

    /// Starts the proxy.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[track_caller]
    pub fn start(mut self) -> Daemonproxy {
        let mut command = self.command();
        command
            .stdin(self.stdin.take().unwrap_or_else(Stdio::piped))
            .stdout(self.stdout.take().unwrap_or_else(Stdio::piped))
            .stderr(self.stderr.take().unwrap_or_else(Stdio::piped));
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let log = match child.stderr.take() {
            Some(stderr) => Output::collect(stderr),
            None => Output::collect(std::io::empty()),
        };
        Daemonproxy::new(self, child, log)
    }

    fn command(&self) -> Command {
        let program = self.program();
        let mut words = self.before.iter().map(OsString::as_os_str);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = self.command_of(first);
                command.args(words).arg(program);
                command
            }
            None => self.command_of(program),
        };
        command.args(&self.options);
        command
    }

    /// Returns a command for any program, in the folder and with the environment of the proxy.
    pub fn command_of(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match inherited_descriptors() {
            [] => Command::new(program),
            numbers => {
                let closed: String = numbers.iter().map(|number| format!(" {number}>&-")).collect();
                // bash adds three variables, which the proxy would pass on.
                let exec = "exec env -u PWD -u SHLVL -u _ \"$@\"";
                let mut command = Command::new("bash");
                command.args(["-c", &format!("exec{closed}; {exec}"), "bash"]).arg(program);
                command
            }
        };
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env(MARK_VARIABLE, self.folder.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Returns the program under test, under the name by which it knows what to be.
    pub fn program(&self) -> PathBuf {
        if let Some(peer) = std::env::var_os(PEER_VARIABLE) {
            return PathBuf::from(peer);
        }
        if self.program == Program::Init {
            return init_program();
        }
        let folder = self.folder.path().join(".program");
        let link = folder.join("daemonproxy");
        if !link.exists() {
            std::fs::create_dir_all(&folder).expect("a folder can be made in an own folder");
            symlink(keepd_program(), &link).expect("a link can be made in an own folder");
        }
        link
    }
}

/// Returns the descriptors above 2 that whoever runs the tests left open for every program started
/// here: the proxy would make handles of them.
fn inherited_descriptors() -> &'static [u32] {
    static NUMBERS: OnceLock<Vec<u32>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let entries = std::fs::read_dir("/proc/self/fdinfo").expect("/proc can be read").flatten();
        let mut numbers: Vec<u32> = entries
            .filter(|entry| is_inherited(&entry.path()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|number| *number > 2)
            .collect();
        numbers.sort_unstable();
        numbers
    })
}

/// Reports whether a file of /proc/self/fdinfo is about a descriptor that outlives execve(2).
fn is_inherited(path: &Path) -> bool {
    // It may have been closed meanwhile, by another test.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

impl Drop for Setup {
    fn drop(&mut self) {
        let mark = format!("{MARK_VARIABLE}={}", self.folder.path().display());
        kill_marked(&[&mark]);
    }
}
