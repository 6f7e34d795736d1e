//! The example programs, run as a user runs them: what needs a process of its own, above all
//! signals. `cargo test` builds the examples; a filter that leaves them out needs `cargo build
//! --examples`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use keepd_testkit::Scratch;
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(60);

/// A running example. It is killed when it is dropped.
struct Example {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap().join("examples");
    let path = folder.join(name);
    assert!(path.exists(), "{path:?} is missing: cargo build -p keepd --examples");
    path
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in
        ["NOTIFY_SOCKET", "NOTIFICATION_FD", "KEEPD_READY_FD", "WATCHDOG_USEC", "RUST_LOG"]
    {
        command.env_remove(variable);
    }
    command
}

impl Example {
    fn run(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(&mut command(name, arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains this text.
    fn line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {text:?} ({error}) in {:#?}", self.seen),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until a signal that was sent is no longer pending; proc_pid_status(5). Nothing is
    /// pending once it has ended.
    fn wait_until_taken(&self, signal: Signal) {
        let path = format!("/proc/{}/status", self.child.id());
        let bit = 1_u64 << (signal.as_raw() - 1);
        let is_pending = |status: &str| {
            let masks =
                status.lines().filter(|line| line.starts_with("S") && line.contains("Pnd:"));
            let masks = masks.filter_map(|line| line.split_whitespace().nth(1));
            let mut masks = masks.filter_map(|mask| u64::from_str_radix(mask, 16).ok());
            masks.any(|mask| mask & bit != 0)
        };
        let deadline = Instant::now() + LONG;
        while fs::read_to_string(&path).is_ok_and(|status| is_pending(&status)) {
            assert!(Instant::now() < deadline, "signal {signal:?} is not taken");
            std::thread::yield_now();
        }
    }

    /// Waits for its end, and returns the status and all lines.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + LONG;
        // Its output ends with it: both readers are gone then.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end in {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        (status, std::mem::take(&mut self.seen))
    }

    fn end_well(self) -> Vec<String> {
        let (status, lines) = self.end();
        assert!(status.success(), "{status} {lines:#?}");
        lines
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn row_1_a_program_for_proc_daemon_runs() {
    let mut example = Example::run("pd_compat", &[]);
    example.line("worker: started");
    example.signal(Signal::INT);
    example.line("worker: Some(Signal(2))");
    example.end_well();
}

#[test]
fn rows_2_3_and_4_rules_are_applied() {
    let lines = Example::run("restarting", &[]).end_well();
    let starts = |name: &str| -> Vec<u128> {
        let start = format!("{name} starts at ");
        let times = lines.iter().filter_map(|line| line.strip_prefix(&start)?.split(' ').next());
        times.map(|time| time.parse().unwrap()).collect()
    };
    let backoff = starts("backoff");
    let gaps: Vec<u128> = backoff.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 5);
    for (gap, at_least) in gaps.iter().zip([50, 100, 200, 400, 400]) {
        // A busy machine may be late, never early; starts are rounded to milliseconds.
        assert!(*gap + 1 >= at_least, "{gaps:?}");
    }
    // The run that lasts makes the next gap the first one of a row again, and then come the five.
    let recovering = starts("recovering");
    assert_eq!(recovering.len(), 9, "{recovering:?}");
    let gaps: Vec<u128> = recovering.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, at_least) in gaps.iter().zip([50, 100, 200, 1550, 100, 200, 400, 400]) {
        assert!(*gap + 1 >= at_least, "{gaps:?}");
    }
    assert_eq!(starts("never").len(), 1);
    assert_eq!(starts("on-failure").len(), 4);
    assert!(has(&lines, "never: Failed after 0 restarts"));
    assert!(has(&lines, "on-failure: Failed after 3 restarts, Runtime error"));
    assert!(has(&lines, "backoff: Failed after 5 restarts"));
    assert!(has(&lines, "panicking: Failed after 1 restarts, panicked: out of luck"));
    assert!(has(&lines, "quiet: Stopped after 0 restarts, "));
}

#[test]
fn row_5_bad_health_restarts_or_is_reported() {
    let mut example = Example::run("health", &[]);
    example.line("restarted: starts after 0 answers");
    example.line("restarted: starts after 4 answers");
    example.signal(Signal::TERM);
    let lines = example.end_well();
    assert!(has(&lines, "Subsystem is unhealthy") && !has(&lines, "reported: starts after 4"));
}

#[test]
fn row_6_a_clean_up_is_waited_for() {
    let mut example = Example::run("hello", &["slowly"]);
    example.line("greeter: hello");
    example.signal(Signal::TERM);
    example.line("greeter: asked to end");
    let begun = Instant::now();
    assert!(has(&example.end_well(), "greeter: goodbye"));
    assert!(begun.elapsed() < Duration::from_secs(15), "not the graceful time of 20 s");
}

#[test]
fn row_7_a_deaf_task_is_named_and_aborted() {
    let mut example = Example::run("deadlines", &["deaf"]);
    example.line("deaf: runs");
    example.signal(Signal::TERM);
    let line = example.line("The graceful time is over");
    assert!(line.contains("deaf") && !line.contains("good"), "{line}");
    let (status, lines) = example.end();
    assert_eq!(status.code(), Some(1));
    assert!(has(&lines, "main: Shutdown error [SHUTDOWN_TIMEOUT(3000)]"), "{lines:#?}");
}

#[test]
fn row_7_a_stuck_process_ends_with_111_and_without_its_pid_file() {
    let scratch = Scratch::new();
    let pid_file = scratch.path().join("stuck.pid");
    let mut example = Example::run("deadlines", &["stuck", pid_file.to_str().unwrap()]);
    example.line("stuck: runs");
    assert!(pid_file.exists());
    example.signal(Signal::TERM);
    let line = example.line("The kill time is over");
    assert!(line.contains("stuck"), "{line}");
    let (status, _) = example.end();
    assert_eq!(status.code(), Some(111));
    assert!(!pid_file.exists());
}

#[test]
fn row_8_a_second_signal_forces() {
    let mut example = Example::run("hello", &["never"]);
    example.line("greeter: hello");
    example.signal(Signal::TERM);
    example.line("greeter: asked to end");
    example.signal(Signal::TERM);
    let begun = Instant::now();
    let (status, lines) = example.end();
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "not the graceful time of 20 s");
    assert!(has(&lines, "aborted: greeter"), "{lines:#?}");
}

#[test]
fn defect_13_a_third_signal_kills() {
    let mut example = Example::run("deadlines", &["stuck"]);
    example.line("stuck: runs");
    for _ in 0..3 {
        example.signal(Signal::TERM);
        // One that comes while the one before it is pending is no second one.
        example.wait_until_taken(Signal::TERM);
    }
    let (status, _) = example.end();
    assert_eq!(status.code(), Some(111));
}

#[test]
fn defect_12_enabled_signals_act_and_disabled_ones_keep_their_meaning() {
    let mut example = Example::run("signals", &[]);
    example.line("worker: runs");
    example.signal(Signal::USR1);
    example.line("told of signal 10");
    example.signal(Signal::WINCH);
    example.line("told of signal 28");
    example.signal(Signal::INT);
    example.end_well();

    let mut example = Example::run("signals", &[]);
    example.line("worker: runs");
    example.signal(Signal::TERM);
    let (status, _) = example.end();
    assert_eq!(status.signal(), Some(15));
}

#[test]
fn defect_13_a_signal_is_caught_as_soon_as_anything_runs() {
    let lines = Example::run("signals", &["early"]).end_well();
    assert!(has(&lines, "worker: Some(Signal(2))"), "{lines:#?}");
}

#[test]
fn row_9_hup_reloads_and_a_broken_edit_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.path().join("daemon.toml");
    let replace = |text: &str| {
        let new = scratch.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    replace("name = \"one\"\n");
    let mut example = Example::run("reload", &[file.to_str().unwrap()]);
    example.line("begins with name one, graceful 5000 ms");
    example.line("Daemon is ready");
    replace("name = \"two\"\n[shutdown]\ngraceful = 2000\n");
    example.signal(Signal::HUP);
    example.line("changes to name two, graceful 2000 ms");
    replace("name = \"three\"\n\n[shutdown]\ngracefull = 1\n");
    example.signal(Signal::HUP);
    let line = example.line("The configuration stays as it was");
    assert!(line.contains("line 4") && line.contains("\"graceful\""), "{line}");
    example.signal(Signal::USR2);
    example.line("State of the daemon");
    example.signal(Signal::TERM);
    assert!(!has(&example.end_well(), "three"));
}

#[test]
fn rows_10_and_11_the_environment_wins_and_a_typo_is_named() {
    let scratch = Scratch::new();
    let file = scratch.path().join("daemon.toml");
    fs::write(&file, "[shutdown]\nkill = 61000\nforce = 60500\n").unwrap();
    let mut command = command("reload", &[file.to_str().unwrap()]);
    command.env("DAEMON_NAME", "env-daemon").env("DAEMON_SHUTDOWN_TIMEOUT_MS", "60000");
    let mut example = Example::spawn(&mut command);
    example.line("begins with name env-daemon, graceful 60000 ms");
    example.line("worker: runs");
    example.signal(Signal::TERM);
    example.end_well();

    fs::write(&file, "\n[shutdown]\ngracefull = 1\n").unwrap();
    let (status, lines) = Example::run("reload", &[file.to_str().unwrap()]).end();
    assert_eq!(status.code(), Some(1));
    assert!(has(&lines, "line 3") && has(&lines, "\"graceful\""), "{lines:#?}");
}

#[test]
fn rows_12_and_13_one_instance_and_a_left_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("one.pid");
    let argument = path.to_str().unwrap();
    let mut first = Example::run("single_instance", &[argument]);
    first.line("worker: runs");
    let content = format!("{}\n", first.child.id());
    assert_eq!(fs::read_to_string(&path).unwrap(), content);

    let (status, lines) = Example::run("single_instance", &[argument]).end();
    assert_eq!(status.code(), Some(1));
    let named = lines.iter().find(|line| line.contains("ALREADY_RUNNING"));
    assert!(named.unwrap().contains(&first.child.id().to_string()), "{lines:#?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content, "untouched");

    first.signal(Signal::KILL);
    first.end();
    assert_eq!(fs::read_to_string(&path).unwrap(), content, "left behind");
    for left in [None, Some("text"), Some("")] {
        if let Some(left) = left {
            fs::write(&path, left).unwrap();
        }
        let mut next = Example::run("single_instance", &[argument]);
        next.line("worker: runs");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", next.child.id()));
        next.signal(Signal::TERM);
        next.end_well();
        assert!(!path.exists());
    }
}

#[test]
fn row_14_clones_see_the_same() {
    let lines = Example::run("clones", &[]).end_well();
    let said: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("running:") || line.starts_with("asked:"))
        .collect();
    assert_eq!(said, ["running: 2 2", "running: 0 0", "asked: true true"]);
}

#[test]
fn row_25_a_supervisor_hears_how_it_is() {
    let scratch = Scratch::new();
    let path = scratch.path().join("notify");
    let listener = supervisor(&path);
    let message = |start: &str| {
        let mut buffer = [0; 4096];
        loop {
            let count = listener.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text.starts_with(start) {
                return text;
            }
        }
    };
    let mut command = command("supervised", &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut example = Example::spawn(&mut command);
    let address = example.line("listening on ").replace("listening on ", "");
    let ready = message("READY=1");
    assert!(ready.contains(&format!("MAINPID={}\n", example.child.id())), "{ready}");
    assert!(ready.contains("STATUS=1 subsystems running"), "{ready}");
    let mut text = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    message("WATCHDOG=1");
    example.signal(Signal::HUP);
    message("RELOADING=1");
    message("READY=1");
    example.signal(Signal::TERM);
    message("STOPPING=1");
    example.end_well();
}

/// A listener in the place of a supervisor, and the datagrams that come to it.
fn supervisor(path: &Path) -> UnixDatagram {
    let listener = UnixDatagram::bind(path).unwrap();
    listener.set_read_timeout(Some(LONG)).unwrap();
    listener
}

#[test]
fn row_25_the_watchdog_is_not_fed_while_the_main_loop_is_blocked() {
    let scratch = Scratch::new();
    let path = scratch.path().join("notify");
    let listener = supervisor(&path);
    let mut command = command("watchdog", &[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut example = Example::spawn(&mut command);
    let mut buffer = [0; 4096];
    let mut seen = Vec::new();
    while !seen.iter().any(|text: &String| text.contains("WATCHDOG=1")) {
        let count = listener.recv(&mut buffer).unwrap();
        seen.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
    }
    assert!(seen.iter().any(|text| text.contains("STATUS=1 subsystems running")), "{seen:?}");
    example.signal(Signal::USR1);
    example.line("worker: blocks");
    // What was sent before that line is here by now.
    listener.set_nonblocking(true).unwrap();
    while listener.recv(&mut buffer).is_ok() {}
    listener.set_nonblocking(false).unwrap();
    // Three times as long as the supervisor would wait.
    listener.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let error = listener.recv(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

/// Runs the example with two listeners as descriptors 3 and 4; `pid` is a word of the shell.
fn activated(pid: &str) -> (Vec<String>, [String; 2]) {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [0, 1].map(|index: usize| listeners[index].local_addr().unwrap().to_string());
    let [first, second] = listeners.map(|listener| Stdio::from(OwnedFd::from(listener)));
    let program = program("socket_activated");
    let script = format!(
        "export LISTEN_PID={pid} LISTEN_FDS=2 LISTEN_FDNAMES=web:admin
         exec {program:?} 3<&0 4<&1 </dev/null 1>&2"
    );
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).stdin(first).stdout(second).stderr(Stdio::piped());
    let output = shell.spawn().unwrap().wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    (text.lines().map(str::to_owned).collect(), addresses)
}

#[test]
fn row_27_sockets_are_taken_by_name_and_only_ours() {
    let (lines, [web, admin]) = activated("$$");
    let expected = [
        format!("admin: a TCP listener at {admin}"),
        "admin: given away again: false".to_owned(),
        format!("web: a TCP listener at {web}"),
        "web: given away again: false".to_owned(),
        "none: not passed".to_owned(),
        "none: given away again: false".to_owned(),
    ];
    assert_eq!(lines, expected);
    let (lines, _) = activated("1");
    assert!(has(&lines, "web: not passed") && has(&lines, "admin: not passed"), "{lines:?}");
}

/// The shell gives descriptors numbers, which the standard library does not.
#[test]
fn row_26_a_descriptor_gets_one_line_when_it_is_ready() {
    let script = format!("NOTIFICATION_FD=3 exec {:?} 3>&1 1>&2", program("supervised"));
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut text = String::new();
    // Its end: the descriptor is closed while the program goes on.
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "\n");
    assert!(child.try_wait().unwrap().is_none(), "it runs");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
