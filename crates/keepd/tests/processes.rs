//! What needs a process of its own and is no example: a runtime that is blocked, a log that nobody
//! reads, a working directory. The process is this program again, with a role.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use keepd::daemon::KillAction;
use keepd::{Config, Daemon, Environment, ShutdownHandle};
use keepd_testkit::Scratch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(60);

/// Names the role of a child.
const ROLE: &str = "KEEPD_TEST_ROLE";

/// A child with a role. It is killed when it is dropped.
struct Role(Child);

impl Role {
    /// Starts the test that plays the role, in this folder.
    fn play(test: &str, folder: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads", "1"]);
        Environment::hide_from(&mut command).env_remove("RUST_LOG").env(ROLE, test);
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        change(&mut command);
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LONG;
        loop {
            match self.0.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() >= deadline => panic!("the process does not end"),
                None => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn plays(test: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == test)
}

/// Waits until a file has this text.
fn until_text(path: &Path, text: &str) {
    let deadline = Instant::now() + LONG;
    while !fs::read_to_string(path).is_ok_and(|found| found.contains(text)) {
        assert!(Instant::now() < deadline, "no {text:?} in {path:?}");
        std::thread::yield_now();
    }
}

async fn until_asked(mut shutdown: ShutdownHandle) -> keepd::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}

/// A runtime with one thread, which a task never gives back.
#[test]
fn role_blocked() {
    if !plays("role_blocked") {
        return;
    }
    let watchdog = Duration::from_millis(300);
    let config = Config::builder()
        .watchdog(watchdog)
        .pid_file("daemon.pid")
        .log_file("daemon.log")
        .build()
        .unwrap();
    let daemon = Daemon::builder(config).with_task("blocks", |_| async {
        loop {
            std::thread::park();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(daemon.run()).unwrap();
}

#[test]
fn a_blocked_runtime_is_seen_told_and_ended_by_the_watchdog() {
    let scratch = Scratch::new();
    let path = scratch.path().join("notify");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(LONG)).unwrap();
    let mut child = Role::play("role_blocked", scratch.path(), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000000");
    });
    assert_eq!(child.end().code(), Some(111));
    assert!(!scratch.path().join("daemon.pid").exists());
    let log = fs::read_to_string(scratch.path().join("daemon.log")).unwrap();
    assert!(log.contains("The runtime does not answer"), "{log}");
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while heard.last().is_none_or(|last: &String| !last.contains("EXIT_STATUS=111")) {
        let count = listener.recv(&mut buffer).unwrap();
        heard.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
    }
    assert!(heard.last().unwrap().contains("the runtime does not answer"), "{heard:?}");
}

/// Waits until nothing more can be written.
fn until_full(writer: &impl AsFd) {
    let deadline = Instant::now() + LONG;
    let is_writable = || {
        let mut asked = [PollFd::new(writer, PollFlags::OUT)];
        poll(&mut asked, Some(&Timespec::default())).unwrap() > 0
    };
    while is_writable() {
        assert!(Instant::now() < deadline, "the pipe is never full");
        std::thread::yield_now();
    }
}

/// Logs for ever, to a pipe that is full.
#[test]
fn role_unread() {
    if !plays("role_unread") {
        return;
    }
    let times = [100, 200, 300].map(Duration::from_millis);
    let config = Config::builder()
        .timeouts(times[0], times[1], times[2])
        .pid_file("daemon.pid")
        .build()
        .unwrap();
    let daemon = Daemon::builder(config).with_task("talks", |_| async {
        fs::write("talks", "yes").unwrap();
        loop {
            tracing::info!("{}", "x".repeat(4096));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(daemon.run()).unwrap();
}

#[test]
fn a_log_that_nobody_reads_keeps_neither_signals_nor_the_end_away() {
    let scratch = Scratch::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = Role::play("role_unread", scratch.path(), |command| {
        command.stdout(writer.try_clone().unwrap());
    });
    until_text(&scratch.path().join("talks"), "yes");
    until_full(&writer);
    child.signal(Signal::TERM);
    let status = child.end();
    assert_eq!((status.code(), status.signal()), (Some(111), None));
    assert!(!scratch.path().join("daemon.pid").exists());
    drop(reader);
}

/// Sends itself a signal with the first instruction of its first task.
#[test]
fn role_early() {
    if !plays("role_early") {
        return;
    }
    let daemon = Daemon::new().with_task("early", |mut shutdown| async move {
        kill_process(rustix::process::getpid(), Signal::TERM).unwrap();
        shutdown.cancelled().await;
        fs::write("cleaned", "yes").unwrap();
        Ok(())
    });
    daemon.build().unwrap().run_blocking().unwrap();
}

#[test]
fn defect_13_a_signal_that_comes_with_the_first_subsystem_is_a_graceful_shutdown() {
    let scratch = Scratch::new();
    let mut child = Role::play("role_early", scratch.path(), |_| {});
    let status = child.end();
    assert!(status.success(), "{status}");
    assert_eq!(fs::read_to_string(scratch.path().join("cleaned")).unwrap(), "yes");
}

/// Paths that begin in a working directory that is itself relative.
#[test]
fn role_relative() {
    if !plays("role_relative") {
        return;
    }
    let config = Config::load_from_file("etc/daemon.toml").unwrap();
    let daemon = Daemon::builder(config)
        .with_config_path("etc/daemon.toml")
        .with_task("a", until_asked)
        .with_reload(|config| fs::write("reloaded", config.shutdown.graceful.to_string()).unwrap())
        .build()
        .unwrap();
    daemon.run_blocking().unwrap();
}

#[test]
fn relative_paths_mean_the_same_before_and_after_a_reload() {
    let scratch = Scratch::new();
    let folder = scratch.path();
    fs::create_dir(folder.join("etc")).unwrap();
    fs::create_dir(folder.join("data")).unwrap();
    let write = |graceful: u32| {
        let text = format!(
            "work_dir = \"data\"\npid_file = \"web.pid\"\n[logging]\nfile = \"web.log\"\n\
             [shutdown]\ngraceful = {graceful}\n"
        );
        fs::write(folder.join("etc/daemon.toml"), text).unwrap();
    };
    write(1000);
    let mut errors = tempfile_in(folder);
    let mut child = Role::play("role_relative", folder, |command| {
        command.stderr(errors.try_clone().unwrap());
    });
    until_text(&folder.join("data/web.log"), "Daemon is ready");
    assert!(folder.join("data/web.pid").exists());
    write(2000);
    child.signal(Signal::HUP);
    until_text(&folder.join("data/reloaded"), "2000");
    until_text(&folder.join("data/web.log"), "live: [\"shutdown.graceful\"], after_restart: []");
    child.signal(Signal::TERM);
    let status = child.end();
    let mut text = String::new();
    errors.read_to_string(&mut text).unwrap();
    assert!(status.success(), "{status} {text}");
    assert!(!folder.join("data/web.pid").exists());
    assert!(!folder.join("data/data").exists());
}

/// A file for what a child complains about.
fn tempfile_in(folder: &Path) -> fs::File {
    let mut options = fs::OpenOptions::new();
    options.read(true).append(true).create(true).open(folder.join("errors")).unwrap()
}

/// A task that ends only when somebody makes it, in a daemon that takes no signals.
#[test]
fn role_deaf() {
    if !plays("role_deaf") {
        return;
    }
    let mut config = Config::default();
    config.shutdown.graceful = 20;
    config.shutdown.force = 40;
    config.shutdown.kill = 60;
    let daemon = Daemon::builder(config)
        .without_signals()
        .on_kill(KillAction::Exit)
        .with_task("deaf", |_| async {
            fs::write("runs", "runs").unwrap();
            loop {
                std::thread::park();
            }
        })
        .build()
        .unwrap();
    let other = daemon.clone();
    std::thread::spawn(move || {
        until_text(Path::new("runs"), "runs");
        other.shutdown();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drop(runtime.block_on(daemon.run()));
}

#[test]
fn the_kill_time_is_kept_without_signals_too() {
    let scratch = Scratch::new();
    let mut child = Role::play("role_deaf", scratch.path(), |_| {});
    assert_eq!(child.end().code(), Some(111));
}
