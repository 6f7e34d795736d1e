//! Control groups, version 2: everything that a service started, as one thing that can be counted,
//! watched and ended.
//!
//! No controller is needed for that, so it also works beside a version 1 hierarchy. See cgroups(7).

mod own;
mod usage;

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_model::{Errno, Pid, Signal};
use rustix::fs::{Dir, FileType, Mode, OFlags};

pub use self::usage::Usage;

use crate::{errno, pidfd, proc, spare};

/// Processes held by descriptor at the same time while a group is signalled.
const PIDFDS_AT_ONCE: usize = 128;
/// Passes over a group that forks faster than it can be killed, where the kernel cannot kill it as
/// one.
const KILL_PASSES_MAX: usize = 1_000;

/// A control group: an open directory and its path.
///
/// It holds one descriptor. The group itself exists until [`Group::remove`], whether or not this
/// value lives.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: OwnedFd,
}

impl Group {
    /// Returns the group of this process, if child groups can be made in it and processes put
    /// there; `None` otherwise (no version 2 hierarchy, read-only, not ours).
    ///
    /// It makes and removes a child group to know. See cgroups(7), proc_pid_mountinfo(5).
    pub fn own() -> Option<Self> {
        own::discover()
    }

    /// `open(path, O_DIRECTORY)`: opens a group that exists. See open(2).
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(errno::from_rustix)?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// `mkdirat(parent, name, 0755)`: makes a child group.
    ///
    /// Fails with EEXIST if there is one of that name, and with EINVAL if `name` is no plain file
    /// name. See mkdir(2).
    pub fn create(parent: &Self, name: &str) -> Result<Self, Errno> {
        check_name(name)?;
        rustix::fs::mkdirat(&parent.directory, name, Mode::from_raw_mode(0o755))
            .map_err(errno::from_rustix)?;
        parent.child(name)
    }

    /// [`Group::create`], or [`Group::child`] if the group exists already.
    pub fn ensure(parent: &Self, name: &str) -> Result<Self, Errno> {
        match Self::create(parent, name) {
            Err(Errno(libc::EEXIST)) => parent.child(name),
            result => result,
        }
    }

    /// `openat(self, name, O_DIRECTORY)`: opens a child group that exists. See openat(2).
    pub fn child(&self, name: &str) -> Result<Self, Errno> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = self.open_file(name, flags)?;
        Ok(Self { path: self.path.join(name), directory })
    }

    /// Returns where the group is in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory, as a [`SpawnRequest`](crate::spawn::SpawnRequest) wants it.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Writes `0` to `cgroup.procs`: moves this process, with all its threads, into the group.
    pub fn add_self(&self) -> Result<(), Errno> {
        self.write("cgroup.procs", b"0")
    }

    /// Writes to `cgroup.procs`: moves a process into the group. Its children stay where they are.
    pub fn add(&self, pid: Pid) -> Result<(), Errno> {
        self.write("cgroup.procs", pid.to_string().as_bytes())
    }

    /// Reads `cgroup.procs` here and in all groups below: returns the processes in no order. A
    /// group that is gone has none.
    pub fn pids(&self) -> Result<Vec<Pid>, Errno> {
        let mut pids = match self.read("cgroup.procs") {
            Ok(bytes) => parse_pids(&bytes),
            // The processes of a threaded group are listed in the nearest group above that is not
            // one.
            Err(error) if is_gone(error) || error == Errno(libc::EOPNOTSUPP) => Vec::new(),
            Err(error) => return Err(error),
        };
        for name in self.children()? {
            match self.child(&name).and_then(|child| child.pids()) {
                Ok(more) => pids.extend(more),
                Err(error) if is_gone(error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pids)
    }

    /// Reads `cgroup.events`: reports whether a live process is in the group or below it. A group
    /// that is gone has none; a zombie does not count.
    pub fn is_populated(&self) -> Result<bool, Errno> {
        match self.read("cgroup.events") {
            Ok(bytes) => Ok(says_populated(&bytes)),
            Err(error) if is_gone(error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `openat(self, "cgroup.events", O_RDONLY)`: returns a descriptor that tells when the group
    /// becomes empty.
    ///
    /// Add it to an epoll set with [`Interest::PRIORITY`](crate::epoll::Interest::PRIORITY) and
    /// call [`read_populated`] at once and after every event: it is the reading that rearms the
    /// descriptor, and without it the event is reported for ever. See cgroups(7).
    pub fn events(&self) -> Result<OwnedFd, Errno> {
        self.open_file("cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC)
    }

    /// Writes `1` to `cgroup.kill`: SIGKILL for every process in the group and below, forks
    /// included.
    ///
    /// Before Linux 5.14 it is done one by one, until a pass finds nobody new. Returns before the
    /// processes have ended. A group that is gone is no error.
    pub fn kill(&self) -> Result<(), Errno> {
        match self.write("cgroup.kill", b"1") {
            Ok(()) => Ok(()),
            Err(error) if is_gone(error) => self.kill_one_by_one(),
            Err(error) => Err(error),
        }
    }

    fn kill_one_by_one(&self) -> Result<(), Errno> {
        let mut hit = HashSet::new();
        for _ in 0..KILL_PASSES_MAX {
            let before = hit.len();
            self.signal_each(Signal::KILL, |pid| {
                hit.insert(pid);
            })?;
            if hit.len() == before {
                return Ok(());
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Signals every process in the group and below, through pidfds; returns how many.
    ///
    /// A process that is forked meanwhile may be missed; for KILL use [`Group::kill`], which misses
    /// none.
    pub fn signal_all(&self, signal: Signal) -> Result<usize, Errno> {
        let mut count = 0;
        self.signal_each(signal, |_| count += 1)?;
        Ok(count)
    }

    /// The membership is read again after the pidfds were opened. A number that is listed then, and
    /// whose pidfd still takes a signal, has been this one process all the time; a reused number is
    /// never hit.
    fn signal_each(&self, signal: Signal, mut on_signalled: impl FnMut(Pid)) -> Result<(), Errno> {
        let pids = self.pids()?;
        let mut rest = pids.as_slice();
        while !rest.is_empty() {
            let _room = spare::lend();
            let mut opened = Vec::new();
            let mut next = rest.len().min(PIDFDS_AT_ONCE);
            for (position, pid) in rest.iter().enumerate().take(PIDFDS_AT_ONCE) {
                match pidfd::open(*pid) {
                    Ok(pidfd) => opened.push((*pid, pidfd)),
                    // Those that are held go first. The last of them makes room for the second
                    // reading, and is the first of the next ones.
                    Err(error @ (Errno::EMFILE | Errno::ENFILE)) => {
                        let last = opened.pop().filter(|_| !opened.is_empty()).ok_or(error)?;
                        let was_last = |pid: &Pid| *pid == last.0;
                        next = rest.iter().position(was_last).unwrap_or(position);
                        break;
                    }
                    // It has ended.
                    Err(_) => {}
                }
            }
            rest = rest.get(next..).unwrap_or_default();
            let members: HashSet<Pid> = self.pids()?.into_iter().collect();
            for (pid, pidfd) in opened {
                if members.contains(&pid) && pidfd::send(&pidfd, signal).is_ok() {
                    on_signalled(pid);
                }
            }
        }
        Ok(())
    }

    /// `unlinkat(…, AT_REMOVEDIR)`, from the bottom up: removes the group and those below it.
    ///
    /// Fails with EBUSY while a process is in one of them. A group that is gone is no error. See
    /// rmdir(2).
    pub fn remove(&self) -> Result<(), Errno> {
        // Mostly none is below, and the kernel knows that without a listing.
        match self.remove_childless() {
            Err(Errno(libc::EBUSY)) => {}
            result => return result,
        }
        let below = self.children()?;
        if below.is_empty() {
            return Err(Errno(libc::EBUSY));
        }
        for name in below {
            match self.child(&name).and_then(|child| child.remove()) {
                Err(error) if !is_gone(error) => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.remove_childless()
    }

    /// Fails with EBUSY if a process is in the group, or a group below it.
    fn remove_childless(&self) -> Result<(), Errno> {
        match rustix::fs::rmdir(&self.path) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(errno::from_rustix(error)),
        }
    }

    /// Returns the names of the groups directly below, in no order. Names that are not UTF-8 are
    /// left out; a group that is gone has none.
    pub fn children(&self) -> Result<Vec<String>, Errno> {
        self.children_that(|_| true)
    }

    /// Returns those of [`Group::children`] for which this is so. Beside thousands of others, a few
    /// are found much faster so.
    pub fn children_that(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        let directory = match Dir::read_from(&self.directory).map_err(errno::from_rustix) {
            Err(error) if is_gone(error) => return Ok(names),
            result => result?,
        };
        for entry in directory {
            let entry = entry.map_err(errno::from_rustix)?;
            let name = entry.file_name().to_str().unwrap_or(".");
            let is_group = entry.file_type() == FileType::Directory && check_name(name).is_ok();
            if is_group && is_wanted(name) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Reads `usage_usec` of `cpu.stat`: returns the processor time used by the group since it was
    /// made, ended processes included. `None` where the kernel does not count it.
    pub fn cpu_usage(&self) -> Option<Duration> {
        let stat = self.read("cpu.stat").ok()?;
        number_of(&stat, "usage_usec").map(Duration::from_micros)
    }

    /// Reads `memory.current`: returns the bytes used by the group, page cache included. `None`
    /// without the memory controller.
    pub fn memory_current(&self) -> Option<u64> {
        let bytes = self.read("memory.current").ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.directory, name, flags, Mode::empty()).map_err(errno::from_rustix)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        spare::with_one(|| proc::read_to_end(&self.open_file(name, flags)?))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        spare::with_one(|| {
            let file = self.open_file(name, flags)?;
            rustix::io::write(file, bytes).map(|_| ()).map_err(errno::from_rustix)
        })
    }
}

/// `pread(events, …, 0)`: reports whether a live process is in the group of this descriptor, which
/// comes from [`Group::events`], and rearms it. `false` also if the group was removed.
pub fn read_populated(events: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut bytes = [0; 256];
    match rustix::io::pread(events, &mut bytes, 0) {
        Ok(count) => Ok(says_populated(&bytes[..count])),
        Err(rustix::io::Errno::NODEV) => Ok(false),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

/// Processes of other PID namespaces are shown as 0 and cannot be named.
fn parse_pids(procs: &[u8]) -> Vec<Pid> {
    let numbers = std::str::from_utf8(procs).unwrap_or("").lines();
    numbers.filter_map(|line| Pid::new(line.parse().ok()?)).collect()
}

fn says_populated(events: &[u8]) -> bool {
    number_of(events, "populated").is_some_and(|number| number > 0)
}

/// Returns the number after the key in a file of `key number` lines.
fn number_of(bytes: &[u8], key: &str) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

fn check_name(name: &str) -> Result<(), Errno> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// ENOENT: no such directory or file; ENODEV: the directory is open and removed.
fn is_gone(error: Errno) -> bool {
    error == Errno::ENOENT || error == Errno(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// What kernels before 5.14 get.
    #[test]
    fn a_group_is_killed_one_by_one_where_the_kernel_cannot() {
        let Some(own) = Group::own() else {
            eprintln!("SKIPPED: a_group_is_killed_one_by_one_…: no control group");
            return;
        };
        let group = Group::create(&own, &format!("keepd-kill.{}", std::process::id())).unwrap();
        let inner = Group::create(&group, "inner").unwrap();
        let mut children: Vec<_> =
            (0..5).map(|_| Command::new("sleep").arg("1000").spawn().unwrap()).collect();
        for child in &children {
            inner.add(Pid::new(child.id()).unwrap()).unwrap();
        }
        group.kill_one_by_one().unwrap();
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        group.remove().unwrap();
    }

    #[test]
    fn numbers_are_found_by_their_whole_key() {
        let events = b"frozen 0\npopulated 1\n";
        assert!(says_populated(events));
        assert_eq!(number_of(events, "popul"), None);
        assert_eq!(number_of(b"usage_usec 12\nuser_usec x\n", "usage_usec"), Some(12));
        assert_eq!(number_of(b"usage_usec 12\nuser_usec x\n", "user_usec"), None);
        assert_eq!(parse_pids(b"0\n7\nx\n9\n").len(), 2);
    }
}
