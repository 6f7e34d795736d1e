//! The clone itself: clone3(2) where the kernel and its filters allow it, else clone(2).
#![expect(
    unsafe_code,
    reason = "clone3(2) has no safe face: the same function goes on in two processes"
)]

use std::collections::BTreeMap;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keepd_model::{Errno, Pid, SpawnFailure, SpawnStep};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::child::{self, Plan};
use super::report::Spawned;
use super::slots::{self, Leased};
use super::{Descriptor, SpawnRequest};
use crate::errno;
use crate::image::Image;
use crate::signals::{self, AllBlocked};

/// Set once clone3(2) has turned out not to exist here.
static CLONE3_MISSING: AtomicBool = AtomicBool::new(false);

/// `clone3({CLONE_INTO_CGROUP | CLONE_FILES | CLONE_CLEAR_SIGHAND, …})`, then execve(2) in the
/// child: starts a process and returns at once, before the program runs.
///
/// Fails only if there is no child: strings with a NUL byte, no pipe, no process. What goes wrong
/// in the child comes through [`Spawned::report`]. Where clone3 is missing or filtered (ENOSYS,
/// EPERM), the child is made by clone(2) and writes itself into `cgroup.procs`. See clone(2),
/// execve(2).
pub fn spawn(request: &SpawnRequest<'_>) -> Result<Spawned, SpawnFailure> {
    let image = prepare(request)?;
    if !CLONE3_MISSING.load(Ordering::Relaxed) {
        match attempt(request, &image, Method::Clone3) {
            Err(error) if is_worth_another_way(error) => {
                let missing = error.errno == Errno(libc::ENOSYS);
                CLONE3_MISSING.store(missing, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    attempt(request, &image, Method::Clone)
}

fn prepare(request: &SpawnRequest<'_>) -> Result<Image, SpawnFailure> {
    check_targets(request)
        .and_then(|()| Image::new(request.arguments, request.environment, request.directory))
        .map_err(|error| failure(SpawnStep::Prepare, error))
}

/// Further numbers lie above the list and below what is kept, and are wanted once each.
fn check_targets(request: &SpawnRequest<'_>) -> Result<(), Errno> {
    let first = RawFd::try_from(request.descriptors.len()).map_err(|_| Errno::EINVAL)?;
    let end = request.keep_from.unwrap_or(RawFd::MAX);
    if first > end {
        return Err(Errno::EINVAL);
    }
    for (index, (_, target)) in request.extra.iter().enumerate() {
        let twice = request.extra[..index].iter().any(|(_, other)| other == target);
        if *target < first || *target >= end || twice {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// Into the cgroup, without signal handlers, with slots if there are any.
    Clone3,
    /// A plain copy; the child enters the cgroup and resets all signals by itself.
    Clone,
}

/// E2BIG and EINVAL: the kernel knows clone3(2), but not yet with CLONE_CLEAR_SIGHAND (before 5.5)
/// or a cgroup (before 5.7).
fn is_worth_another_way(failure: SpawnFailure) -> bool {
    const NOT_HERE: [i32; 4] = [libc::ENOSYS, libc::EPERM, libc::E2BIG, libc::EINVAL];
    let is_clone = failure.step == SpawnStep::Clone || failure.step == SpawnStep::Cgroup;
    is_clone && NOT_HERE.contains(&failure.errno.0)
}

fn attempt(
    request: &SpawnRequest<'_>,
    image: &Image,
    method: Method,
) -> Result<Spawned, SpawnFailure> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|error| failure(SpawnStep::Prepare, errno::from_rustix(error)))?;
    let pipe = Arc::new(read);
    let procs = match (method, request.cgroup) {
        (Method::Clone, Some(directory)) => Some(open_procs(directory)?),
        (Method::Clone3 | Method::Clone, _) => None,
    };
    let Layout { sources, placements, file, is_one_missing } = layout(request, &write);
    let leased = match (method, request.keep_from) {
        (Method::Clone3, None) => slots::lease(&sources, &pipe),
        // The copy of the lowest part of the table would lack what is to be kept.
        (Method::Clone3, Some(_)) | (Method::Clone, _) => None,
    };
    let mut numbers: Vec<RawFd> = match &leased {
        Some(leased) => leased.numbers.clone(),
        None => sources.iter().map(AsRawFd::as_raw_fd).collect(),
    };
    let mut kept = vec![0; numbers.len()];
    let mut plan = Plan {
        defaults: match method {
            Method::Clone3 => signals::ignored(),
            Method::Clone => u64::MAX,
        },
        ignored: signals::kernel_set_of(request.ignored),
        report: numbers[0],
        sources: &mut numbers[1..],
        kept: &mut kept,
        placements: &placements,
        file,
        keep_from: request.keep_from,
        record: request.record,
        is_one_missing,
        unshare_below: leased.as_ref().map(|leased| leased.below),
        enter_cgroup: procs.as_ref().map(AsRawFd::as_raw_fd),
        session: request.session,
        descriptor_limit: request.descriptor_limit,
        umask: request.umask & 0o777,
        groups: request.groups,
        gid: request.gid,
        uid: request.uid,
        directory: image.directory,
        candidates: &image.candidates,
        arguments: image.arguments.as_ptr(),
        environment: image.environment.as_ptr(),
        failure_status: request.failure_status,
    };
    let lease = leased.map(|Leased { lease, .. }| lease);
    let cgroup = request.cgroup.filter(|_| method == Method::Clone3);
    match clone(&mut plan, method, cgroup, lease.is_some()) {
        Ok(pid) => {
            if let Some(lease) = &lease {
                slots::started(lease, pid);
            }
            Ok(Spawned::new(pid, pipe, lease))
        }
        Err(error) => {
            if let Some(lease) = lease {
                slots::release(lease);
            }
            Err(failure(clone_step(error, cgroup.is_some()), error))
        }
    }
}

/// What the child needs and where.
struct Layout<'a> {
    /// The error pipe first, then the others, each once.
    sources: Vec<BorrowedFd<'a>>,
    /// Which of the others gets which number.
    placements: Vec<(usize, RawFd)>,
    /// Which of them is executed.
    file: Option<usize>,
    is_one_missing: bool,
}

/// Mostly one descriptor is wanted more than once: /dev/null.
fn layout<'a>(request: &SpawnRequest<'a>, write: &'a OwnedFd) -> Layout<'a> {
    let mut known = BTreeMap::new();
    let mut sources = vec![write.as_fd()];
    let mut source_of = |descriptor: BorrowedFd<'a>| {
        *known.entry(descriptor.as_raw_fd()).or_insert_with(|| {
            sources.push(descriptor);
            sources.len() - 2
        })
    };
    let dense =
        (0..).zip(request.descriptors).filter_map(|(target, descriptor)| match descriptor {
            Descriptor::Open(descriptor) => Some((*descriptor, target)),
            Descriptor::Closed | Descriptor::Missing => None,
        });
    let placements = dense
        .chain(request.extra.iter().copied())
        .map(|(descriptor, target)| (source_of(descriptor), target))
        .collect();
    let file = request.file.map(source_of);
    let is_one_missing =
        request.descriptors.iter().any(|descriptor| matches!(descriptor, Descriptor::Missing));
    Layout { sources, placements, file, is_one_missing }
}

fn open_procs(directory: BorrowedFd<'_>) -> Result<OwnedFd, SpawnFailure> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, "cgroup.procs", flags, Mode::empty())
        .map_err(|error| failure(SpawnStep::Cgroup, errno::from_rustix(error)))
}

/// These errors of clone3(2) come only from CLONE_INTO_CGROUP.
fn clone_step(error: Errno, into_cgroup: bool) -> SpawnStep {
    const FROM_CGROUP: [i32; 6] =
        [libc::EACCES, libc::EBADF, libc::EBUSY, libc::ENODEV, libc::ENOENT, libc::EOPNOTSUPP];
    if into_cgroup && FROM_CGROUP.contains(&error.0) { SpawnStep::Cgroup } else { SpawnStep::Clone }
}

fn clone(
    plan: &mut Plan<'_>,
    method: Method,
    cgroup: Option<BorrowedFd<'_>>,
    share_descriptors: bool,
) -> Result<Pid, Errno> {
    let blocked = AllBlocked::new();
    // SAFETY: without CLONE_VM the child is a copy with a stack of its own, as after fork(2).
    let result = unsafe {
        match method {
            Method::Clone3 => clone3(cgroup, share_descriptors),
            Method::Clone => {
                let (flags, none) = (libc::SIGCHLD as libc::c_ulong, 0_usize);
                libc::syscall(libc::SYS_clone, flags, none, none, none, none)
            }
        }
    };
    if result == 0 {
        // SAFETY: this is the new process, all signals are blocked, and `attempt` keeps everything
        // that the plan points to alive across the call.
        unsafe { child::run(plan) }
    }
    let error = errno::last();
    drop(blocked);
    u32::try_from(result).ok().and_then(Pid::new).ok_or(error)
}

/// # Safety
///
/// The function returns twice; the child must not return from its caller.
unsafe fn clone3(cgroup: Option<BorrowedFd<'_>>, share_descriptors: bool) -> libc::c_long {
    /// Absent from some of libc's targets under this name.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    /// Handlers become defaults; what is ignored stays ignored. Absent as well.
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    let mut flags = CLONE_CLEAR_SIGHAND;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    if share_descriptors {
        flags |= libc::CLONE_FILES as u64;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64),
    };
    // SAFETY: `arguments` is a clone_args of the given size and holds no pointers.
    unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, mem::size_of::<libc::clone_args>())
    }
}

fn failure(step: SpawnStep, errno: Errno) -> SpawnFailure {
    SpawnFailure { step, errno }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Group;
    use crate::ledger::{ChildRecord, Mapping, has_inodes};
    use crate::spawn::{FAILURE_STATUS, Report, Session};
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{WaitOptions, waitpid};

    /// What kernels and containers without clone3(2) get.
    #[test]
    fn the_fallback_enters_its_group_by_itself() {
        let Some(own) = Group::own() else {
            eprintln!("SKIPPED: the_fallback_enters_its_group_by_itself: no control group");
            return;
        };
        let leaf = Group::create(&own, &format!("keepd-test.{}", std::process::id())).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let descriptors = [Descriptor::Open(null.as_fd()); 3];
        let script = "grep -q '^0::.*/keepd-test' /proc/self/cgroup";
        let arguments = [b"/bin/sh".to_vec(), b"-c".to_vec(), script.into()];
        let path = std::env::temp_dir().join(format!("keepd-fallback-{}", std::process::id()));
        let cells = Mapping::create(&path, b"", 4096).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (word, identity) = (cells.cell(0).unwrap(), cells.cell(8).unwrap());
        let record = ChildRecord {
            word,
            identity,
            intent: 0,
            awaited: 0,
            has_inodes: has_inodes(),
            run_word: |_, pid| u64::from(pid),
            failed_word: |_, _, _| u64::MAX,
            inode_cell: |inode| inode,
        };
        let request = SpawnRequest {
            file: None,
            arguments: &arguments,
            environment: &[],
            directory: None,
            umask: 0,
            uid: None,
            gid: None,
            groups: None,
            descriptors: &descriptors,
            extra: &[],
            keep_from: None,
            cgroup: Some(leaf.directory()),
            session: Session::New,
            ignored: &[],
            descriptor_limit: None,
            record: Some(record),
            failure_status: FAILURE_STATUS,
        };
        let image = prepare(&request).unwrap();
        let mut spawned = attempt(&request, &image, Method::Clone).unwrap();
        while spawned.report() == Report::Pending {
            poll(&mut [PollFd::new(&spawned, PollFlags::IN)], None).unwrap();
        }
        assert_eq!(spawned.report(), Report::Executed);
        let pid = rustix::process::Pid::from_raw(spawned.pid().get() as i32);
        let (_, status) = waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(word.load(), u64::from(spawned.pid().get()));
        assert_eq!(identity.load() != 0, has_inodes());
        leaf.remove().unwrap();

        // The group is gone: the way through the child says so too.
        let failure = attempt(&request, &image, Method::Clone).unwrap_err();
        assert_eq!(failure.step, SpawnStep::Cgroup);
        let failure = attempt(&request, &image, Method::Clone3).unwrap_err();
        assert_eq!(failure.step, SpawnStep::Cgroup);
    }
}
