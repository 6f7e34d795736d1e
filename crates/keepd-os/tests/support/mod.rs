//! What the tests of this crate share: processes, deadlines, folders of their own.
#![expect(dead_code, reason = "each test program uses its own part of this module")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keepd_model::{Exit, Pid, Signal};
use keepd_os::cgroup::Group;
use keepd_os::process::DescriptorLimit;
use keepd_os::spawn::{
    Descriptor, FAILURE_STATUS, Report, Session, SpawnRequest, Spawned, reserve_slots, spawn,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A hang is a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An owned description of a process, with defaults.
pub(crate) struct Start {
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) environment: Vec<Cow<'static, [u8]>>,
    pub(crate) directory: Option<Vec<u8>>,
    pub(crate) umask: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) session: Session,
    pub(crate) ignored: Vec<Signal>,
    pub(crate) descriptor_limit: Option<DescriptorLimit>,
    pub(crate) failure_status: u8,
}

impl Start {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            environment: vec![b"PATH=/usr/bin:/bin".into()],
            directory: None,
            umask: 0o022,
            uid: None,
            gid: None,
            groups: None,
            session: Session::New,
            ignored: Vec::new(),
            descriptor_limit: None,
            failure_status: FAILURE_STATUS,
        }
    }

    pub(crate) fn shell(script: &str) -> Self {
        Self::new(&["/bin/sh", "-c", script])
    }

    pub(crate) fn request<'a>(
        &'a self,
        descriptors: &'a [Descriptor<'a>],
        extra: &'a [(BorrowedFd<'a>, RawFd)],
        cgroup: Option<&'a Group>,
    ) -> SpawnRequest<'a> {
        // The same tests run as two programs, without and with shared descriptors.
        if env!("CARGO_CRATE_NAME").ends_with("slots") {
            reserve_slots().unwrap();
        }
        SpawnRequest {
            file: None,
            arguments: &self.arguments,
            environment: &self.environment,
            directory: self.directory.as_deref(),
            umask: self.umask,
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.as_deref(),
            descriptors,
            extra,
            keep_from: None,
            cgroup: cgroup.map(Group::directory),
            session: self.session,
            ignored: &self.ignored,
            descriptor_limit: self.descriptor_limit,
            record: None,
            failure_status: self.failure_status,
        }
    }

    /// Starts it with null descriptors.
    pub(crate) fn start_in(&self, cgroup: Option<&Group>) -> Spawned {
        let null = null();
        spawn(&self.request(&standard([null.as_fd(); 3]), &[], cgroup)).unwrap()
    }

    pub(crate) fn start(&self) -> Spawned {
        self.start_in(None)
    }

    /// Runs it to its end and returns report, standard output and end.
    pub(crate) fn run(&self) -> (Report, String, Exit) {
        self.run_with(&[])
    }

    pub(crate) fn run_with(&self, extra: &[(BorrowedFd<'_>, RawFd)]) -> (Report, String, Exit) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = null();
        let descriptors = standard([null.as_fd(), write.as_fd(), write.as_fd()]);
        let mut spawned = spawn(&self.request(&descriptors, extra, None)).unwrap();
        drop(write);
        let report = final_report(&mut spawned);
        let mut output = String::new();
        std::fs::File::from(read).read_to_string(&mut output).unwrap();
        (report, output, end_of(spawned.pid()))
    }
}

/// The usual list.
pub(crate) fn standard(descriptors: [BorrowedFd<'_>; 3]) -> [Descriptor<'_>; 3] {
    descriptors.map(Descriptor::Open)
}

pub(crate) fn null() -> OwnedFd {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    OwnedFd::from(file)
}

/// Waits until the descriptor is ready.
pub(crate) fn await_ready(descriptor: impl AsFd, flags: PollFlags) {
    let end = Instant::now() + DEADLINE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        let mut polled = [PollFd::new(&descriptor, flags)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => panic!("not ready within {DEADLINE:?}"),
            Ok(_) => return,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn await_readable(descriptor: impl AsFd) {
    await_ready(descriptor, PollFlags::IN);
}

/// Waits for the last word of a child.
pub(crate) fn final_report(spawned: &mut Spawned) -> Report {
    loop {
        match spawned.report() {
            Report::Pending => await_readable(&*spawned),
            report => return report,
        }
    }
}

/// Waits until a child has ended, and leaves it a zombie.
pub(crate) fn await_end(pid: Pid) {
    await_readable(keepd_os::pidfd::open(pid).unwrap());
}

/// Waits for the end of a child and reaps it, and only it: tests are threads of one process.
pub(crate) fn end_of(pid: Pid) -> Exit {
    await_end(pid);
    let number = rustix::process::Pid::from_raw(pid.get() as i32).unwrap();
    let status = waitid(WaitId::Pid(number), WaitIdOptions::EXITED).unwrap().unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, Some(signal)) => {
            Exit::Signal { signal: Signal::new(signal as u8).unwrap(), core: status.dumped() }
        }
        (None, None) => Exit::Unknown,
    }
}

/// Reads until the text holds what is waited for.
pub(crate) fn read_until(descriptor: impl AsFd, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        await_readable(&descriptor);
        let mut bytes = [0; 4096];
        let count = rustix::io::read(&descriptor, &mut bytes).unwrap();
        assert!(count > 0, "ended before {wanted:?}: {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    text
}

/// The variables of a `/proc/PID/environ`-like text, or of `env`.
pub(crate) fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

/// A group of this test's own, removed with everything in it at the end.
pub(crate) struct TestGroup(pub(crate) Group);

impl TestGroup {
    /// `None`, said loudly, where no group can be made.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let Some(own) = Group::own() else {
            eprintln!("SKIPPED: {test}: no control group can be made here");
            return None;
        };
        let name = format!("keepd-test.{test}.{}", std::process::id());
        Some(Self(Group::create(&own, &name).unwrap()))
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let _ = self.0.kill();
        for pid in self.0.pids().unwrap_or_default() {
            if let Ok(pidfd) = keepd_os::pidfd::open(pid) {
                await_readable(pidfd);
            }
        }
        let _ = self.0.remove();
    }
}

pub(crate) fn is_root(test: &str) -> bool {
    let root = keepd_os::process::effective_uid() == 0;
    if !root {
        eprintln!("SKIPPED: {test}: needs root");
    }
    root
}

const ALONE: &str = "KEEPD_TEST_ALONE";

/// Lets a test run in a process of its own, where it may change what belongs to the whole process:
/// returns whether this is that process. If not, it has run there, and passed.
pub(crate) fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some_and(|alone| alone == test) {
        return true;
    }
    let output = alone(test).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}{err}", output.status);
    false
}

/// Returns the command that runs one test of this program in a process of its own.
pub(crate) fn alone(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, test);
    command
}

/// A folder of this test's own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keepd-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tmpfs of 1 MiB.
pub(crate) struct SmallFileSystem(Folder);

impl SmallFileSystem {
    /// `None`, said loudly, where no file system can be mounted.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let folder = Folder::new(test);
        let options = c"size=1m";
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, options) {
            Ok(()) => Some(Self(folder)),
            Err(error) => {
                eprintln!("SKIPPED: {test}: no file system can be mounted here: {error}");
                None
            }
        }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
