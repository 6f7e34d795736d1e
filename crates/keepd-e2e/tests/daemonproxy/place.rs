//! A folder from which any number of proxies is started, with any options, descriptors and
//! surroundings.

use std::cell::Cell;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keepd_model::Signal;
use keepd_testkit::daemonproxy::{Conversation, Setup};
use keepd_testkit::{Finished, LONG, Running, wait_until};

/// A folder for proxies. Everything that was started from it is killed at the end.
pub(crate) struct Place {
    setup: Setup,
    files: Cell<u32>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(Setup::new())
    }

    /// Makes a folder for proxies that are `keepd-init`.
    pub(crate) fn of_init() -> Self {
        Self::of(Setup::of_init())
    }

    fn of(setup: Setup) -> Self {
        Self { setup, files: Cell::new(0) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a program of `sh`, and returns its path.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.write(name, format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// Reads a file, which may not be there yet.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Makes a FIFO.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Returns a command in this folder; its standard input is the null device.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.setup.command_of(program);
        command.stdin(Stdio::null());
        command
    }

    /// Returns daemonproxy with these words.
    pub(crate) fn daemonproxy(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.program());
        command.args(words);
        command
    }

    /// Returns daemonproxy with these words, started by bash, which does `before` first.
    pub(crate) fn after(&self, before: &str, words: &[&str]) -> Command {
        let mut command = self.command("bash");
        let script = format!("{before}\nexec \"$@\"");
        command.args(["-c", &script, "bash", &self.program()]).args(words);
        command
    }

    pub(crate) fn program(&self) -> String {
        self.setup.program().display().to_string()
    }

    /// Runs daemonproxy with these words to its end; standard input is the null device.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Finished {
        Running::start(&mut self.daemonproxy(words)).wait()
    }

    /// Starts daemonproxy with these words and `-S sock`; standard input is the null device.
    #[track_caller]
    pub(crate) fn socket(&self, words: &[&str]) -> Proxy {
        let words: Vec<&str> = words.iter().copied().chain(["-S", "sock"]).collect();
        self.start_with_socket(&mut self.daemonproxy(&words))
    }

    /// Starts a command that is a daemonproxy with `-S sock`, and connects to it.
    #[track_caller]
    pub(crate) fn start_with_socket(&self, command: &mut Command) -> Proxy {
        let mut running = Running::start(command);
        let stream = wait_until("the control socket", LONG, || {
            assert!(running.is_running(), "it ended: {}", running.stderr().text());
            UnixStream::connect(self.path("sock")).ok()
        });
        let talk = Conversation::over_socket(stream, running.stderr().clone());
        Proxy { running, talk }
    }

    /// Starts daemonproxy with `-i` and these words, and passes over its banner.
    #[track_caller]
    pub(crate) fn interactive(&self, words: &[&str]) -> Proxy {
        let words: Vec<&str> = ["-i"].iter().chain(words).copied().collect();
        let mut proxy = Self::start_interactive(&mut self.daemonproxy(&words));
        proxy.talk.sync();
        proxy
    }

    /// Starts a command that is a daemonproxy with `-i`: pipes are its standard input and output.
    #[track_caller]
    pub(crate) fn start_interactive(command: &mut Command) -> Proxy {
        let (running, stdin, stdout) = Running::start_conversation(command);
        let log = running.stderr().clone();
        Proxy { talk: Conversation::new(stdin.into(), stdout.into(), log), running }
    }

    /// Connects to the control socket of this name.
    #[track_caller]
    pub(crate) fn connect(&self, socket: &str, proxy: &Proxy) -> Conversation {
        let stream = wait_until("a socket that takes connections", LONG, || {
            UnixStream::connect(self.path(socket)).ok()
        });
        Conversation::over_socket(stream, proxy.running.stderr().clone())
    }

    /// Starts a service which runs this script of `sh`, waits for its end, and returns what it
    /// wrote to the file named by `$OUT`: its own descriptors stay free for the test.
    #[track_caller]
    pub(crate) fn in_service(
        &self,
        talk: &mut Conversation,
        handles: &str,
        script: &str,
    ) -> String {
        let number = self.files.get() + 1;
        self.files.set(number);
        let file = format!("seen-{number}");
        let name = format!("look-{number}");
        let script = script.replace("$OUT", &self.path(&file).display().to_string());
        talk.send(format!("service.fds\t{name}\t{handles}"));
        talk.send(format!("service.args\t{name}\tsh\t-c\t{script}"));
        talk.send(format!("service.start\t{name}"));
        talk.expect(&format!("service.state\t{name}\tdown\t{{rest}}"));
        self.read(&file)
    }
}

/// A daemonproxy that runs, and the conversation with it.
pub(crate) struct Proxy {
    pub(crate) running: Running,
    pub(crate) talk: Conversation,
}

impl Proxy {
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Returns its log so far.
    pub(crate) fn log(&self) -> String {
        self.running.stderr().text()
    }

    /// Waits for a line of the log that holds all these words, case ignored.
    #[track_caller]
    pub(crate) fn log_line(&self, words: &[&str]) -> String {
        let what = format!("a line with {words:?}");
        self.running.stderr().wait_for_line(&what, LONG, |line| holds(line, words))
    }

    pub(crate) fn signal(&self, number: u8) {
        self.running.signal(Signal::new(number).unwrap());
    }

    /// Waits for its end.
    #[must_use = "a run whose result nobody looks at tests nothing"]
    #[track_caller]
    pub(crate) fn wait(self) -> Finished {
        self.running.wait()
    }

    /// Starts `sleep 600` as a service, and returns its process id.
    #[track_caller]
    pub(crate) fn sleeper(&mut self, name: &str) -> u32 {
        self.talk.send(format!("service.args\t{name}\tsleep\t600"));
        self.talk.send(format!("service.start\t{name}"));
        let up = format!("service.state\t{name}\tup\t{{num}}\t{{pid}}\t{{rest}}");
        self.talk.expect(&up).pid(1)
    }

    /// Returns a field of `/proc/PID/status`.
    #[track_caller]
    pub(crate) fn status(&self, field: &str) -> String {
        status_of(self.pid(), field)
    }

    /// Returns the flags of one of its descriptors, as in open(2).
    #[track_caller]
    pub(crate) fn flags(&self, descriptor: u32) -> u32 {
        let path = format!("/proc/{}/fdinfo/{descriptor}", self.pid());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("no {path}: {e}"));
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap()
    }
}

/// What a descriptor was opened with, when it does not block.
pub(crate) const NONBLOCK: u32 = 0o4000;

/// Returns a field of `/proc/PID/status`.
#[track_caller]
pub(crate) fn status_of(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let prefix = format!("{field}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {field} in the status of {pid}")).trim().to_owned()
}

/// Returns where a descriptor of a process leads, and `None` if it is closed.
pub(crate) fn link(pid: u32, descriptor: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    Some(path.display().to_string())
}

/// Reports whether a line holds all these words, case ignored.
pub(crate) fn holds(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    words.iter().all(|word| line.contains(&word.to_lowercase()))
}

/// Reports whether a line of this text holds all these words, case ignored.
pub(crate) fn shows(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| holds(line, words))
}

/// Returns the names of all handles.
#[track_caller]
pub(crate) fn handles(talk: &mut Conversation) -> Vec<String> {
    let dump = talk.ask("statedump");
    let states = dump.iter().filter_map(|line| line.strip_prefix("fd.state\t"));
    states.map(|state| state.split('\t').next().unwrap().to_owned()).collect()
}

/// Returns the `fd.state` line of a handle, `None` if there is none.
#[track_caller]
pub(crate) fn handle(talk: &mut Conversation, name: &str) -> Option<String> {
    let start = format!("fd.state\t{name}\t");
    talk.ask("statedump").into_iter().find(|line| line.starts_with(&start))
}

/// Returns a path in a folder, of exactly this many bytes.
pub(crate) fn path_of_length(folder: &Path, length: usize) -> String {
    let folder = folder.display().to_string();
    let name = "s".repeat(length - folder.len() - 1);
    format!("{folder}/{name}")
}
