//! A proxy in a folder of its own, and controllers that wait for lines with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keepd_model::Signal;
use keepd_os::cgroup::Group;
use keepd_os::sweep;

/// Everything that a test waits for comes within this time, also on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// How the processes of a service are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// By a leaf in a cgroup.
    Cgroup,
    /// By their environment.
    Environment,
}

/// A running proxy. It ends with the value, and so does everything it started.
pub(crate) struct Proxy {
    child: Child,
    input: Option<ChildStdin>,
    _output: ChildStdout,
    folder: PathBuf,
    instance: String,
    group: Option<Group>,
}

impl Proxy {
    /// Starts a proxy without a cgroup.
    pub(crate) fn start() -> Self {
        Self::start_in(None)
    }

    /// Starts a proxy; `None` where this machine has no cgroup to divide.
    pub(crate) fn start_with(grouping: Grouping) -> Option<Self> {
        match grouping {
            Grouping::Environment => Some(Self::start()),
            Grouping::Cgroup => Self::make_group().map(|group| Self::start_in(Some(group))),
        }
    }

    /// Makes a cgroup for a proxy; `None` where this machine has none to divide.
    pub(crate) fn make_group() -> Option<Group> {
        let Some(own) = Group::own() else {
            eprintln!("skipped: there is no writable cgroup here");
            return None;
        };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("keepd.test.{}.{number}", std::process::id());
        Some(Group::ensure(&own, &name).unwrap())
    }

    pub(crate) fn start_in(group: Option<Group>) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let instance = format!("test-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("keepd-proxy.{instance}"));
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepd-init"));
        command.args(["--interactive", "--own-session", "--instance", &instance]);
        command.arg("--socket").arg(folder.join("proxy.sock"));
        command.arg("--run-dir").arg(&folder);
        if let Some(group) = &group {
            command.arg("--group").arg(group.path());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // What the proxy passes on, and what it must not.
        command.env("PASSED_ON", "yes").env("NOTIFY_SOCKET", "/of/keepd/itself");
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut output = child.stdout.take().unwrap();
        // The greeting of the first turn says that the socket is there.
        let mut greeting = [0; 4];
        output.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"info");
        Self { child, input, _output: output, folder, instance, group }
    }

    /// Connects a plain controller.
    pub(crate) fn connect_plain(&self) -> Client {
        Client::new(UnixStream::connect(self.folder.join("proxy.sock")).unwrap())
    }

    /// Connects an extended controller.
    pub(crate) fn connect(&self) -> Client {
        let mut client = self.connect_plain();
        client.send("proto\tkeepd\t1");
        client.expect("proto\tkeepd\t1");
        client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Waits for the end of the proxy.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + DEADLINE;
        let pidfd = keepd_os::pidfd::open(keepd_model::Pid::new(self.pid()).unwrap()).unwrap();
        wait_readable(&pidfd, until.saturating_duration_since(Instant::now()));
        self.child.try_wait().unwrap().expect("the proxy ends in time").code()
    }

    /// Returns the number of times that the proxy went to sleep by itself.
    pub(crate) fn sleeps(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mark = format!("KEEPD_PROJECT={}", self.instance);
        for process in sweep::processes_marked(mark.as_bytes()).unwrap_or_default() {
            let _ = process.signal(Signal::KILL);
        }
        if let Some(group) = &self.group {
            let _ = group.kill();
            let until = Instant::now() + DEADLINE;
            while group.remove().is_err() && Instant::now() < until {
                std::thread::yield_now();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A controller.
pub(crate) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    seen: Vec<String>,
    last_id: u64,
}

impl Client {
    /// Controls a proxy by a connection that was made.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), seen: Vec::new(), last_id: 0 }
    }

    /// Sends a line.
    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a command with the next number, which is returned.
    pub(crate) fn command(&mut self, command: &str) -> u64 {
        self.last_id += 1;
        self.send(&format!("@{}\t{command}", self.last_id));
        self.last_id
    }

    /// Sends a command and waits until it is accepted.
    pub(crate) fn accepted(&mut self, command: &str) {
        let id = self.command(command);
        let answer = self.answer(id);
        assert!(answer.starts_with("ok\t"), "{command}: {answer}");
    }

    /// Waits for the answer to a command.
    pub(crate) fn answer(&mut self, id: u64) -> String {
        self.find(&format!("answer to {id}"), |line| {
            line == format!("ok\t{id}")
                || line.starts_with(&format!("ok\t{id}\t"))
                || line.starts_with(&format!("fail\t{id}\t"))
        })
    }

    /// Waits for a line that begins so; lines before it are skipped.
    pub(crate) fn expect(&mut self, start: &str) -> String {
        self.find(start, |line| line.starts_with(start))
    }

    /// Waits until a generation of a service is in a state; returns HOW and VALUE.
    pub(crate) fn expect_run(
        &mut self,
        name: &str,
        generation: u64,
        state: &str,
    ) -> (String, String) {
        let start = format!("service.run\t{name}\t{generation}\t{state}\t");
        let line = self.expect(&start);
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[6].to_owned(), fields[7].to_owned())
    }

    fn find(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        let from = self.seen.len();
        loop {
            match self.next_line(until) {
                Some(line) => {
                    let found = wanted(&line);
                    self.seen.push(line.clone());
                    if found {
                        return line;
                    }
                }
                None => panic!("no {what:?} came, but {:#?}", &self.seen[from..]),
            }
        }
    }

    /// Returns the next line; `None` at the end of the connection or of the time.
    pub(crate) fn next_line(&mut self, until: Instant) -> Option<String> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end_input(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Reads to the end of the connection, which must come in time.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        let until = Instant::now() + DEADLINE;
        let lines = std::iter::from_fn(|| self.next_line(until)).collect();
        assert!(Instant::now() < until, "the connection does not end");
        lines
    }

    /// Waits for silence of this length and returns whether there was any line.
    pub(crate) fn is_silent_for(&mut self, duration: Duration) -> bool {
        self.next_line(Instant::now() + duration).is_none()
    }
}

fn wait_readable(descriptor: &impl std::os::fd::AsFd, time: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout =
        Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout)).unwrap();
}
