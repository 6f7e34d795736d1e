//! examples/controllers as it is in the repository: the same policy in four languages keeps a stack
//! under `keepd proxy`. Services crash, a service is given up, the controller is killed, and the
//! proxy is asked to end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use keepd_model::Signal;
use keepd_testkit::{LONG, Project, Running, find_program, free_port, keepd_program, kill, skip};

use crate::b0900_protocol::Connection;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/controllers");

/// A plain connection that remembers every state it heard of.
pub(crate) struct Watcher {
    connection: Connection,
    /// Every `service.state`, in order; the fields from the name on.
    states: Vec<Vec<String>>,
    /// Where the news of each service is in `states`.
    latest: BTreeMap<String, usize>,
}

impl Watcher {
    /// Connects, and asks for what there is.
    pub(crate) fn new(socket: &Path) -> Self {
        let connection = Connection::new(socket);
        let mut watcher = Self { connection, states: Vec::new(), latest: BTreeMap::new() };
        watcher.connection.say("statedump");
        watcher
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.connection.say(line);
    }

    /// Hears one more line, and returns it.
    fn hear(&mut self) -> String {
        let line = self.connection.hear();
        assert!(!line.starts_with("error\t"), "{line}");
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        if fields[0] == "service.state" {
            self.latest.insert(fields[1].clone(), self.states.len());
            self.states.push(fields[1..].to_vec());
        }
        line
    }

    /// Hears lines until the latest state of a service is the one asked for, and returns the fields
    /// from the state on.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, name: &str, state: &str) -> Vec<String> {
        loop {
            if let Some(&latest) = self.latest.get(name) {
                let fields = &self.states[latest];
                if fields[1] == state {
                    return fields[1..].to_vec();
                }
            }
            self.hear();
        }
    }

    /// Waits until a service is up, and returns the id of its process.
    #[track_caller]
    pub(crate) fn pid(&mut self, name: &str) -> u32 {
        self.wait_for(name, "up")[2].parse().expect("who is up has a process id")
    }

    /// Waits until a service is up in another process than this one.
    #[track_caller]
    pub(crate) fn next_pid(&mut self, name: &str, last: u32) -> u32 {
        loop {
            let pid = self.pid(name);
            if pid != last {
                return pid;
            }
            self.hear();
        }
    }

    /// Kills the process of a service, and returns its successor.
    #[track_caller]
    fn kill(&mut self, name: &str) -> u32 {
        let pid = self.pid(name);
        kill(pid);
        self.next_pid(name, pid)
    }

    /// Hears everything that was said before now.
    fn catch_up(&mut self) {
        let marker = format!("caught-up\t{}", self.states.len());
        self.say(&format!("echo\t{marker}"));
        while self.hear() != marker {}
    }

    /// Returns the states of one service that were heard since the first line of `since`.
    fn words(&self, since: usize, name: &str) -> Vec<&str> {
        let states = self.states[since..].iter().filter(|fields| fields[0] == name);
        states.map(|fields| fields[1].as_str()).collect()
    }
}

/// Returns a command that runs `keepd proxy` with these words in the folder of a project, where it
/// finds `keepd` in PATH.
pub(crate) fn proxy_command(project: &Project, words: &[&str]) -> Command {
    let program = keepd_program();
    let folder = program.parent().expect("a program is in a folder").display().to_string();
    let mut command = project.command(&program);
    command.env("PATH", format!("{folder}:/usr/bin:/bin")).arg("proxy").args(words);
    command
}

/// A copy of the example, running under one of the controllers.
struct Stack {
    project: Project,
    proxy: Running,
    watcher: Watcher,
}

impl Stack {
    fn start(keeper: &str, variables: &[(&str, &str)]) -> Self {
        let project = Project::copied_from(Path::new(EXAMPLE));
        let mut command = proxy_command(&project, &["-c", "stack.conf", "-S", "stack.sock"]);
        command
            .env("KEEPER", keeper)
            // `keepd demo web` listens there.
            .env("PORT", free_port().to_string())
            .envs(variables.iter().copied());
        let proxy = Running::start(&mut command);
        let watcher = Watcher::new(&project.path("stack.sock"));
        Self { project, proxy, watcher }
    }

    #[track_caller]
    fn wait_for_output(&self, words: &str) {
        self.proxy.stdout().wait_for_line(words, LONG, |line| line.starts_with(words));
    }

    #[track_caller]
    fn wait_for_words(&self, words: &str) {
        self.proxy.stderr().wait_for_line(words, LONG, |line| line.contains(words));
    }
}

/// Start, crash, a new controller, and the stop.
fn keeps_its_stack(keeper: &str) {
    let mut stack = Stack::start(keeper, &[]);
    let watcher = &mut stack.watcher;
    let web = watcher.pid("web");
    let first = watcher.pid("worker");

    // A crash is answered one second after it.
    kill(first);
    let down = watcher.wait_for("worker", "down");
    assert_eq!(down[3..5], ["signal", "SIGKILL"]);
    let start = watcher.wait_for("worker", "start");
    let [ended, due] = [&down[1], &start[1]].map(|time| time.parse::<u64>().unwrap());
    assert!(due > ended, "it ended at {ended} and starts again at {due}");
    let worker = watcher.next_pid("worker", first);

    // A new controller touches nothing that runs, and goes on with its work.
    watcher.catch_up();
    let since = watcher.states.len();
    watcher.kill("keeper");
    let last = watcher.kill("worker");
    assert_ne!(last, worker);
    assert_eq!(watcher.words(since, "worker"), ["down", "start", "up"]);
    assert!(watcher.words(since, "web").is_empty(), "{:#?}", watcher.states);

    // The stop, in order: both end by themselves when they are asked, once they can hear it.
    stack.wait_for_output(&format!("web {web} listens"));
    stack.wait_for_output(&format!("worker {last} is ready"));
    stack.proxy.signal(Signal::TERM);
    let watcher = &mut stack.watcher;
    let down = watcher.wait_for("web", "down");
    assert_eq!(down[2..5], [web.to_string(), "exit".to_owned(), "0".to_owned()]);
    assert_eq!(watcher.words(since, "worker"), ["down", "start", "up", "down"]);
    let down = watcher.wait_for("worker", "down");
    assert_eq!(down[2..5], [last.to_string(), "exit".to_owned(), "0".to_owned()]);

    let Stack { project, proxy, .. } = stack;
    proxy.wait().expect_code(0);
    assert_nothing_left(&project);
}

/// A service that cannot run, one that does not stop, and a controller that is killed half way.
fn gives_up_and_kills(keeper: &str) {
    let mut stack = Stack::start(keeper, &[("KEEP_RETRIES", "1"), ("KEEP_STOP_LIMIT", "1")]);
    let watcher = &mut stack.watcher;
    watcher.pid("web");
    let worker = watcher.pid("worker");
    watcher.say("service.args\tworker\tsh\t-c\texit 4");
    watcher.catch_up();
    kill(worker);
    stack.wait_for_words(
        "giving up \"worker\": 2 short runs in a row, the last one ended with exit 4",
    );

    // Somebody puts it right, and it is told to stop, which it does not hear.
    let watcher = &mut stack.watcher;
    watcher.say("service.args\tworker\tsh\t-c\ttrap '' TERM; echo deaf; exec sleep 1000");
    watcher.say("service.start\tworker");
    let keeper_pid = watcher.pid("keeper");
    stack.wait_for_output("deaf");
    stack.proxy.signal(Signal::TERM);
    stack.wait_for_words("stopping \"worker\"");
    kill(keeper_pid);
    // Its successor finds the signal still pending.
    stack.wait_for_words("\"worker\" did not stop in 1 s: KILL");
    let watcher = &mut stack.watcher;
    assert_eq!(watcher.wait_for("web", "down")[3..5], ["exit", "0"]);
    assert_eq!(watcher.wait_for("worker", "down")[3..5], ["signal", "SIGKILL"]);

    let Stack { project, proxy, .. } = stack;
    proxy.wait().expect_code(0);
    assert_nothing_left(&project);
}

/// The controller hears of the end of the proxy, and ends.
#[track_caller]
pub(crate) fn assert_nothing_left(project: &Project) {
    for pid in project.processes() {
        assert!(keepd_testkit::wait_for_end(pid, LONG), "process {pid} is left");
    }
}

/// Returns the command of a controller, or says aloud that its language is missing.
fn script(language: &str, file: &str) -> Option<String> {
    if find_program(language).is_none() {
        skip(&format!("the controller {file}: {language} is not installed"));
        return None;
    }
    Some(format!("{language} {file}"))
}

/// The controller that cargo made of keep.rs.
const COMPILED: &str = env!("CARGO_BIN_EXE_keep");

#[test]
fn the_shell_script_keeps_its_stack() {
    keeps_its_stack("sh keep.sh");
}

#[test]
fn the_shell_script_gives_up_and_kills() {
    gives_up_and_kills("sh keep.sh");
}

#[test]
fn the_perl_script_keeps_its_stack() {
    if let Some(keeper) = script("perl", "keep.pl") {
        keeps_its_stack(&keeper);
    }
}

#[test]
fn the_perl_script_gives_up_and_kills() {
    if let Some(keeper) = script("perl", "keep.pl") {
        gives_up_and_kills(&keeper);
    }
}

#[test]
fn the_python_script_keeps_its_stack() {
    if let Some(keeper) = script("python3", "keep.py") {
        keeps_its_stack(&keeper);
    }
}

#[test]
fn the_python_script_gives_up_and_kills() {
    if let Some(keeper) = script("python3", "keep.py") {
        gives_up_and_kills(&keeper);
    }
}

#[test]
fn the_rust_program_keeps_its_stack() {
    keeps_its_stack(COMPILED);
}

#[test]
fn the_rust_program_gives_up_and_kills() {
    gives_up_and_kills(COMPILED);
}
