//! A proxy of this very program, and conversations with it.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Conversation;
use keepd_testkit::{LONG, Running, Scratch, wait_until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The word that makes this program a proxy.
pub(crate) const PROXY: &str = "be-the-proxy";

/// A proxy with a control socket.
pub(crate) struct Proxy {
    scratch: Scratch,
    pub(crate) running: Running,
}

/// What a sealed proxy says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used_max: usize,
    pub(crate) region: usize,
    pub(crate) calls: usize,
}

impl Proxy {
    /// Starts one with these words beside its socket.
    pub(crate) fn start(words: &[&str]) -> Self {
        let scratch = Scratch::new();
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.arg(PROXY).args(words).args(["-v", "-S", "sock"]);
        command.current_dir(scratch.path()).stdin(Stdio::null());
        let running = Running::start(&mut command);
        Self { scratch, running }
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Conversation {
        let path = self.scratch.path().join("sock");
        let stream = wait_until("the control socket", LONG, || UnixStream::connect(&path).ok());
        Conversation::over_socket(stream, self.running.stderr().clone())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Returns a number of `/proc/PID/status`, in bytes.
    pub(crate) fn bytes_of(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.running.pid());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Lets its address space grow by so much and no more.
    pub(crate) fn limit_growth(&self, bytes: u64) {
        let limit = Some(self.bytes_of("VmSize") + bytes);
        self.set_limit(Rlimit { current: limit, maximum: None });
    }

    pub(crate) fn end_limit(&self) {
        self.set_limit(Rlimit { current: None, maximum: None });
    }

    fn set_limit(&self, limit: Rlimit) {
        let pid = Pid::from_raw(self.running.pid().cast_signed());
        prlimit(pid, Resource::As, limit).unwrap();
    }

    /// Ends it, and returns what it says of its region.
    pub(crate) fn end(self, talk: &mut Conversation) -> Usage {
        talk.send("terminate\t0");
        let ended = self.running.wait().expect_code(0);
        let line = ended.stderr.lines().find(|line| line.starts_with("debug: memory: "));
        let line = line.unwrap_or_else(|| panic!("nothing of memory: {}", ended.stderr));
        let numbers: Vec<usize> =
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [used_max, region, calls] = numbers[..] else { panic!("{line}") };
        Usage { used_max, region, calls }
    }
}

/// Sends many lines, reading what comes meanwhile, and returns every line up to their end.
pub(crate) fn pour(talk: &mut Conversation, lines: impl Iterator<Item = String>) -> Vec<String> {
    const LINES: usize = 32;
    let mut heard = Vec::new();
    let mut waiting = Vec::new();
    for line in lines {
        waiting.push(line);
        if waiting.len() == LINES {
            heard.extend(talk.ask(waiting.join("\n")));
            waiting.clear();
        }
    }
    heard.extend(talk.ask(waiting.join("\n")));
    heard
}
