//! Limits that a test puts on processes that run, and takes away again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::skip;

/// A soft resource limit of one process, until it is dropped; then it has its old one.
#[derive(Debug)]
pub struct ProcessLimit {
    pid: u32,
    resource: Resource,
    before: Rlimit,
}

impl ProcessLimit {
    /// Limits the descriptors of a process: it can have those that fit below its highest one, and
    /// `more`.
    ///
    /// # Panics
    /// If there is no such process, or it is somebody else's.
    #[track_caller]
    pub fn of_descriptors(pid: u32, more: u64) -> Self {
        let numbers = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is ours");
        let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let highest: u64 = numbers.max().expect("a process has descriptors");
        Self::set(pid, Resource::Nofile, "Max open files", highest + 1 + more)
    }

    /// Limits the address space of a process to what it has, and `more` bytes.
    ///
    /// # Panics
    /// If there is no such process, or it is somebody else's.
    #[track_caller]
    pub fn of_memory(pid: u32, more: u64) -> Self {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is ours");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size = size.and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
        let size = size.expect("a process has an address space") * 1024;
        Self::set(pid, Resource::As, "Max address space", size + more)
    }

    /// Limits how many processes the user of a process can have.
    ///
    /// # Panics
    /// If there is no such process, or it is somebody else's.
    #[track_caller]
    pub fn of_processes(pid: u32, count: u64) -> Self {
        Self::set(pid, Resource::Nproc, "Max processes", count)
    }

    #[track_caller]
    fn set(pid: u32, resource: Resource, title: &str, value: u64) -> Self {
        let hard = hard_limit(pid, title);
        let limit = Rlimit { current: Some(value), maximum: hard };
        let before = prlimit(process(pid), resource, limit).expect("a limit can be lowered");
        Self { pid, resource, before }
    }
}

impl Drop for ProcessLimit {
    fn drop(&mut self) {
        // The process may have ended.
        let before = Rlimit { current: self.before.current, maximum: self.before.maximum };
        let _ = prlimit(process(self.pid), self.resource, before);
    }
}

fn process(pid: u32) -> Option<Pid> {
    let pid = Pid::from_raw(pid.try_into().expect("process ids are small"));
    // No process would mean this one.
    Some(pid.expect("process ids are not zero"))
}

/// Reads the second limit of a line of proc_pid_limits(5); `None`: there is none.
fn hard_limit(pid: u32, title: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process is ours");
    let line = text.lines().find_map(|line| line.strip_prefix(title));
    let hard = line.and_then(|line| line.split_whitespace().nth(1).map(str::to_owned));
    hard.expect("the kernel has this limit").parse().ok()
}

/// A control group of version 1, with one controller, until it is dropped; what is in it then goes
/// back to the group above.
///
/// Version 2 of the same machine is what keepd works with; it does not see these.
#[derive(Debug)]
pub struct OldGroup {
    path: PathBuf,
}

static GROUPS: AtomicU32 = AtomicU32::new(0);

impl OldGroup {
    /// Makes a group of this controller (`pids`, `memory`, `freezer`); says aloud where none can be
    /// made.
    pub fn new(controller: &str) -> Option<Self> {
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let name = format!("keepd-test-{}-{number}", std::process::id());
        let made = mount_of(controller).map(|mount| mount.join(name)).filter(|path| {
            // Who is not root may look only.
            fs::create_dir(path).is_ok()
        });
        if made.is_none() {
            skip(&format!("no control group of version 1 with \"{controller}\" can be made"));
        }
        made.map(|path| Self { path })
    }

    /// Writes a file of the group.
    ///
    /// # Errors
    /// What the system said.
    pub fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
    }

    /// Reads a file of the group.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn get(&self, file: &str) -> String {
        let text = fs::read_to_string(self.path.join(file)).expect("the group has this file");
        text.trim().to_owned()
    }

    /// Moves a process into the group, with its threads. What it starts from then on is in it, too.
    ///
    /// # Panics
    /// If there is no such process.
    #[track_caller]
    pub fn add(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string()).expect("the process is there");
    }
}

impl Drop for OldGroup {
    fn drop(&mut self) {
        // Each of these belongs to one controller; a frozen group could not be left.
        let _ = self.set("freezer.state", "THAWED");
        let above = self.path.with_file_name("cgroup.procs");
        for pid in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            // It may have ended.
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Returns where a controller of version 1 is mounted. See proc_pid_mountinfo(5).
fn mount_of(controller: &str) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split_whitespace();
        let has_it = system.next()? == "cgroup"
            && system.nth(1)?.split(',').any(|option| option == controller);
        has_it.then(|| Path::new(mount.split_whitespace().nth(4).unwrap_or("/")).to_owned())
    })
}
