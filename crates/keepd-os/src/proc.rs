//! Facts about processes from /proc.
//!
//! A pid says nothing by itself: ask again after the process was taken hold of (as child or by
//! [`pidfd`](crate::pidfd)), and believe the second answer. See proc(5).

mod details;

pub use details::{Details, Limit, details};

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use keepd_model::{Errno, Pid};
use rustix::fs::{Mode, OFlags, RawDir};

use crate::errno;

/// What `/proc/PID/stat` says, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `D`, `Z`, …
    pub state: u8,
    /// Parent; `None` for 0, a parent outside of our PID namespace.
    pub parent: Option<Pid>,
    /// Session; its number is that of the process that made it. `None` for 0.
    pub session: Option<Pid>,
    /// Processor time used by the process itself, in user and kernel mode.
    pub cpu_time: Duration,
    /// When it was started, in clock ticks since boot: tells a process from a later one with the
    /// same number.
    pub start_ticks: u64,
}

/// Reads `/proc/PID/stat`.
///
/// `None` if there is no such process. See proc_pid_stat(5).
pub fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&read(pid, "stat").ok()?)
}

/// Reads `/proc/PID/comm`: returns the short name that the kernel keeps of the process.
///
/// `None` if there is no such process. See proc_pid_comm(5).
pub fn name(pid: Pid) -> Option<String> {
    let bytes = read(pid, "comm").ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Reads `/proc/PID/statm`: returns resident memory in bytes, pages shared with other processes
/// included.
///
/// The number in `/proc/PID/stat` is not used: it lags behind by up to some hundred KiB for each
/// processor. See proc_pid_statm(5).
pub fn memory_resident_bytes(pid: Pid) -> Option<u64> {
    let bytes = read_short_lines(open(pid, "statm").ok()?).ok()?;
    let pages: u64 = std::str::from_utf8(&bytes).ok()?.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Returns the processor time that the process itself used, from `/proc/PID/stat`.
pub fn cpu_time(pid: Pid) -> Option<Duration> {
    stat(pid).map(|stat| stat.cpu_time)
}

/// Returns when the process was started, in clock ticks since boot, from `/proc/PID/stat`.
pub fn start_ticks(pid: Pid) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// Reads `/proc/PID/environ`: reports whether the process was started with exactly this
/// `KEY=VALUE`.
///
/// `false` also where it may not be read. It is the environment at execve(2), unless the process
/// overwrote that memory. See proc_pid_environ(5).
pub fn environment_has(pid: Pid, entry: &[u8]) -> bool {
    // The text ends with a NUL, so an empty entry would be "found" in every process.
    let Ok(environment) = read(pid, "environ") else {
        return false;
    };
    let mut entries = environment.split(|byte| *byte == 0);
    !entry.is_empty() && entries.any(|found| found == entry)
}

/// Reads `/proc/PID/environ`: returns the positions of those `KEY=VALUE` that the process was
/// started with; none where it may not be read.
pub(crate) fn environment_positions(pid: Pid, wanted: &HashMap<&[u8], usize>) -> Vec<usize> {
    let environment = read(pid, "environ").unwrap_or_default();
    let entries = environment.split(|byte| *byte == 0);
    // The text ends with a NUL, so an empty entry would be "found" in every process.
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.filter_map(|entry| wanted.get(entry).copied()).collect()
}

/// Returns the numbers of all visible processes.
///
/// The C library's readdir(3) would ask for memory, which may be scarce just when somebody is
/// looked for.
pub(crate) fn all() -> Result<Vec<Pid>, Errno> {
    const ENTRIES_BYTES: usize = 8 * 1024;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open("/proc", flags, Mode::empty()).map_err(errno::from_rustix)?;
    let mut space = [MaybeUninit::uninit(); ENTRIES_BYTES];
    let mut entries = RawDir::new(folder, &mut space);
    let mut pids = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(errno::from_rustix)?;
        let name = entry.file_name().to_str().ok();
        pids.extend(name.and_then(|name| Pid::new(name.parse().ok()?)));
    }
    Ok(pids)
}

/// `read(file, …)` until the end, from the present position.
pub(crate) fn read_to_end(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    const CHUNK_BYTES: usize = 4096;
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.resize(start + CHUNK_BYTES, 0);
        let result = rustix::io::read(&file, &mut bytes[start..]);
        bytes.truncate(start + result.unwrap_or(0));
        match result {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(errno::from_rustix(error)),
        }
    }
}

/// [`read_to_end`] of a file that the kernel writes line by line, each line shorter than half a
/// page: one read takes them all if they fit into one, and there is no second one to see the end.
pub(crate) fn read_short_lines(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    const PAGE_BYTES: usize = 4096;
    let mut page = [0; PAGE_BYTES];
    let count = rustix::io::read(&file, &mut page).map_err(errno::from_rustix)?;
    let mut bytes = page[..count].to_vec();
    // Otherwise the next line may not have fitted any more.
    if count > PAGE_BYTES / 2 {
        bytes.extend(read_to_end(file)?);
    }
    Ok(bytes)
}

fn read(pid: Pid, name: &str) -> Result<Vec<u8>, Errno> {
    read_to_end(open(pid, name)?)
}

fn open(pid: Pid, name: &str) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/{pid}/{name}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(errno::from_rustix)
}

/// The name in parentheses may hold spaces and parentheses, so the fields are counted from the last
/// one.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.trim_end().split(' ').collect();
    // The state is field 3 of the manual page.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)?.saturating_add(number(15)?);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: u32::try_from(number(4)?).ok().and_then(Pid::new),
        session: u32::try_from(number(6)?).ok().and_then(Pid::new),
        cpu_time: Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second)),
        start_ticks: number(22)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = b"7 (a) R (b)) S 3 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 4711 0 2 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.parent), (b'S', Pid::new(3)));
        assert_eq!(stat.session, Pid::new(7));
        assert_eq!(stat.start_ticks, 4711);
        assert_eq!(stat.cpu_time.as_secs(), 200 / rustix::param::clock_ticks_per_second());
    }

    #[test]
    fn a_short_line_is_no_answer() {
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"7 (a) S 3"), None);
    }
}
