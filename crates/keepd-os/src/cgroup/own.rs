//! Which control group this process is in, and whether it is ours to divide.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Access, AtFlags};

use super::Group;
use crate::process;

pub(super) fn discover() -> Option<Group> {
    let membership = std::fs::read("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    candidates(&membership, &mounts)
        .into_iter()
        .filter_map(|path| Group::open(&path).ok())
        .find(is_divisible)
}

/// A child group can be made, it may hold processes (a threaded one may not), and we may move
/// processes.
fn is_divisible(group: &Group) -> bool {
    let writable =
        rustix::fs::accessat(group.directory(), "cgroup.procs", Access::WRITE_OK, AtFlags::EACCESS);
    if writable.is_err() {
        return false;
    }
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let probe = PROBES.fetch_add(1, Ordering::Relaxed);
    let name = format!("keepd.probe.{}.{probe}", process::id());
    let Ok(child) = Group::create(group, &name) else {
        return false;
    };
    let domain = child.read("cgroup.type").is_ok_and(|kind| kind == b"domain\n");
    child.remove().is_ok() && domain
}

/// Returns where the group may be mounted. The path in `membership` is relative to the root of the
/// hierarchy (or of our cgroup namespace), and each mount shows a part of that hierarchy.
fn candidates(membership: &[u8], mounts: &[u8]) -> Vec<PathBuf> {
    let lines = || membership.split(|byte| *byte == b'\n');
    let Some(own) = lines().find_map(|line| line.strip_prefix(b"0::".as_slice())) else {
        return Vec::new();
    };
    mounts
        .split(|byte| *byte == b'\n')
        .filter_map(cgroup2_mount)
        .filter_map(|(root, mount)| Some(mount.join(below(&root, own)?)))
        .collect()
}

/// Returns root and mount point of a line of mountinfo, if a version 2 hierarchy is mounted there.
fn cgroup2_mount(line: &[u8]) -> Option<(PathBuf, PathBuf)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let mount = unescape(fields.next()?);
    // Optional fields follow, up to a hyphen; then the type.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then_some((root, mount))
}

/// Returns the part of `own` below `root`; `None` if it is not below, or outside of our namespace.
fn below<'a>(root: &Path, own: &'a [u8]) -> Option<&'a Path> {
    let own = Path::new(std::ffi::OsStr::from_bytes(own));
    let rest = own.strip_prefix(root).ok()?;
    let outside = rest.components().any(|part| part == std::path::Component::ParentDir);
    (!outside).then_some(rest)
}

/// Decodes `\040` and the like, with which mountinfo keeps its fields apart.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.first_chunk::<3>().and_then(|digits| octal(*digits));
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &[u8] = b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const BOUND: &[u8] = b"30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    const SPACED: &[u8] = b"30 23 0:26 / /mnt/c\\040group rw - cgroup2 none rw\n";

    fn found(membership: &str, mounts: &[u8]) -> Vec<String> {
        let paths = candidates(membership.as_bytes(), mounts);
        paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn the_group_is_found_below_its_mount() {
        assert_eq!(found("0::/user.slice/a\n", UNIFIED), ["/sys/fs/cgroup/user.slice/a"]);
        assert_eq!(found("4:memory:/x\n0::/\n", HYBRID), ["/sys/fs/cgroup/unified/"]);
        assert_eq!(found("0::/docker/abc/in\n", BOUND), ["/sys/fs/cgroup/in"]);
        assert_eq!(found("0::/x\n", SPACED), ["/mnt/c group/x"]);
    }

    #[test]
    fn a_group_outside_of_every_mount_is_not_found() {
        assert!(found("0::/docker/other\n", BOUND).is_empty());
        assert!(found("0::/../..\n", UNIFIED).is_empty());
        assert!(found("4:memory:/x\n", HYBRID).is_empty());
        assert!(found("0::/\n", b"broken\n\n - \n").is_empty());
    }
}
