//! Everything that `show --actual` compares: one look at a process, for people.

use std::fs;
use std::path::PathBuf;

use keepd_model::{Errno, Pid};

use super::read;
use crate::errno;

/// What the kernel says about a process. The parts are read one after the other: of a process that
/// executes another program meanwhile they may be of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Its program, as proc_pid_exe(5) shows it.
    pub executable: PathBuf,
    /// Its arguments, the name of the program first, unless it overwrote them.
    pub arguments: Vec<Vec<u8>>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its effective user id.
    pub uid: Option<u32>,
    /// Its effective group id.
    pub gid: Option<u32>,
    /// Its supplementary groups, in the order of the kernel.
    pub groups: Vec<u32>,
    /// Its file mode creation mask.
    pub umask: Option<u32>,
    /// Its group of the unified hierarchy; the groups of each controller where there is none.
    pub cgroup: String,
    /// Its resource limits, in the order of the kernel.
    pub limits: Vec<Limit>,
    /// The `KEY=VALUE` it was started with, unless it overwrote them.
    pub environment: Vec<Vec<u8>>,
}

/// One resource limit (getrlimit(2)). `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What proc_pid_limits(5) calls it: `Max open files`.
    pub name: String,
    /// What holds.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

/// Reads everything about a process.
///
/// # Errors
/// It has ended, or may not be looked at.
pub fn details(pid: Pid) -> Result<Details, Errno> {
    let link = |name: &str| {
        fs::read_link(format!("/proc/{pid}/{name}")).map_err(|error| errno::from_io(&error))
    };
    let text = |name: &str| Ok::<_, Errno>(String::from_utf8_lossy(&read(pid, name)?).into_owned());
    let status = text("status")?;
    Ok(Details {
        executable: link("exe")?,
        arguments: split(&read(pid, "cmdline")?),
        directory: link("cwd")?,
        uid: effective(&status, "Uid:"),
        gid: effective(&status, "Gid:"),
        groups: groups(&status),
        umask: field(&status, "Umask:").and_then(|mask| u32::from_str_radix(mask, 8).ok()),
        cgroup: group(&text("cgroup")?),
        limits: limits(&text("limits")?),
        environment: split(&read(pid, "environ")?),
    })
}

/// Returns what a line of `/proc/PID/status` says.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Returns the effective one of four ids: real, effective, saved, of the file system.
fn effective(status: &str, name: &str) -> Option<u32> {
    field(status, name)?.split_whitespace().nth(1)?.parse().ok()
}

fn groups(status: &str) -> Vec<u32> {
    let groups = field(status, "Groups:").unwrap_or_default();
    groups.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Returns the group of the unified hierarchy, of which there is one (cgroups(7)).
fn group(text: &str) -> String {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    unified.map_or_else(|| text.trim_end().replace('\n', ", "), str::to_owned)
}

fn limits(text: &str) -> Vec<Limit> {
    let rows = text.lines().skip(1).filter_map(|line| {
        // The name has words; the columns begin at a fixed place.
        let (name, rest) = line.split_at_checked(26)?;
        let mut columns = rest.split_whitespace();
        let (soft, hard) = (columns.next()?, columns.next()?);
        Some(Limit {
            name: name.trim().to_owned(),
            soft: soft.parse().ok(),
            hard: hard.parse().ok(),
        })
    });
    rows.collect()
}

/// Returns the words of a text that ends each with a NUL.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn our_own_process_can_be_looked_at() {
        let own = details(crate::process::id()).unwrap();
        assert_eq!(own.executable, std::env::current_exe().unwrap().canonicalize().unwrap());
        let arguments: Vec<_> = std::env::args_os().map(OsStringExt::into_vec).collect();
        assert_eq!(own.arguments, arguments);
        assert_eq!(own.directory, std::env::current_dir().unwrap().canonicalize().unwrap());
        assert_eq!(own.uid, Some(crate::process::effective_uid()));
        assert!(own.gid.is_some() && own.umask.is_some(), "{own:?}");
        assert!(own.limits.iter().any(|limit| limit.name == "Max open files"), "{own:?}");
        let path = std::env::var_os("PATH").map(OsStringExt::into_vec);
        let entry = path.map(|path| [b"PATH=".to_vec(), path].concat());
        assert!(entry.is_none_or(|entry| own.environment.contains(&entry)));
    }

    #[test]
    fn a_process_that_is_gone_cannot() {
        assert_eq!(details(Pid::new(0x3fff_ffff).unwrap()), Err(Errno::ENOENT));
    }

    #[test]
    fn ids_and_limits_are_read_as_the_kernel_writes_them() {
        let status = "Umask:\t0022\nUid:\t7\t8\t9\t9\nGid:\t5\t6\t5\t5\nGroups:\t8 9 \n";
        assert_eq!((effective(status, "Uid:"), effective(status, "Gid:")), (Some(8), Some(6)));
        assert_eq!(groups(status), [8, 9]);
        assert_eq!(groups("Groups:\t \n"), [0; 0]);
        assert_eq!(field(status, "Umask:"), Some("0022"));
        assert_eq!(effective(status, "Other:"), None);
        let row = |name: &str, soft: &str, hard: &str, unit: &str| {
            format!("{name:26}{soft:21}{hard:21}{unit:10}\n")
        };
        let text = [
            row("Limit", "Soft Limit", "Hard Limit", "Units"),
            row("Max cpu time", "unlimited", "unlimited", "seconds"),
            row("Max open files", "1024", "524288", "files"),
        ]
        .concat();
        let limit = |name: &str, soft, hard| Limit { name: name.to_owned(), soft, hard };
        let expected =
            [limit("Max cpu time", None, None), limit("Max open files", Some(1024), Some(524_288))];
        assert_eq!(limits(&text), expected);
    }

    #[test]
    fn the_group_is_that_of_the_unified_hierarchy() {
        assert_eq!(group("8:pids:/\n0::/keepd.x/s.web.1\n"), "/keepd.x/s.web.1");
        assert_eq!(group("8:pids:/\n1:cpu:/a\n"), "8:pids:/, 1:cpu:/a");
    }

    #[test]
    fn words_end_with_a_nul_each() {
        let words = [b"sh".to_vec(), b"-c".to_vec(), b"a b".to_vec(), b"".to_vec()];
        assert_eq!(split(b"sh\0-c\0a b\0\0"), words);
        assert_eq!(split(b""), Vec::<Vec<u8>>::new());
    }
}
