//! What the kernel counts about a process, from /proc. See proc(5).

use std::path::Path;
use std::time::Duration;

use keepd_model::Pid;
use keepd_os::proc;

use crate::error::{Attempt, BenchError};
use crate::guard;

/// One of the processes that run services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurProcess {
    /// `floor`, `top`, `proxy` or `manager`.
    pub role: &'static str,
    /// The process.
    pub pid: Pid,
}

/// Memory of one process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, each page divided by how many processes share it.
    pub pss: u64,
    /// Written by this process and shared with nobody.
    pub private_dirty: u64,
}

/// Returns the processes of the instance whose project is in this folder.
///
/// # Errors
/// /proc cannot be read, or one of the three is not there.
pub fn keepd_processes(
    keepd: &Path,
    folder: &Path,
    id: &str,
) -> Result<Vec<OurProcess>, BenchError> {
    let mark = format!("{}={id}", guard::MARK);
    let entries = std::fs::read_dir("/proc").attempt("read \"/proc\"")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found = Vec::new();
    for pid in pids.filter_map(Pid::new) {
        let is_keepd = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == keepd);
        if is_keepd
            && proc::environment_has(pid, mark.as_bytes())
            && let Some(role) = role(pid, folder)
        {
            found.push(OurProcess { role, pid });
        }
    }
    // What the proxy has just cloned looks like the proxy until it executes its program; the oldest
    // one is the process itself.
    let age = |process: &&OurProcess| proc::start_ticks(process.pid).unwrap_or(u64::MAX);
    let oldest = |role: &&str| found.iter().filter(|process| process.role == *role).min_by_key(age);
    let processes: Vec<OurProcess> = ROLES.iter().filter_map(oldest).copied().collect();
    if processes.len() == ROLES.len() {
        Ok(processes)
    } else {
        let folder = folder.display();
        let error = format!("cannot find keepd's processes of \"{folder}\": {processes:?}");
        Err(BenchError::new(error))
    }
}

/// In the order of the tables.
const ROLES: [&str; 3] = ["top", "proxy", "manager"];

/// Returns what a process of keepd is, if it belongs to the instance of this folder.
fn role(pid: Pid, folder: &Path) -> Option<&'static str> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words).into_owned();
    // The run folder of the instance is named after the folder of the project.
    let name = folder.file_name()?.to_str()?;
    if !words.contains(&format!("{name}-")) {
        return None;
    }
    match words.split('\0').nth(1)? {
        "__warden" => Some("top"),
        "proxy" => Some("proxy"),
        "__manager" => Some("manager"),
        _ => None,
    }
}

/// Reads `/proc/PID/smaps_rollup`. See proc_pid_smaps(5).
///
/// # Errors
/// It cannot be read.
pub fn memory(pid: Pid) -> Result<Memory, BenchError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).attempt(format!("read \"{path}\""))?;
    Ok(parse_memory(&text))
}

fn parse_memory(text: &str) -> Memory {
    let mut memory = Memory::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next(), words.next().and_then(|word| word.parse().ok()));
        match (key, value) {
            (Some("Pss:"), Some(value)) => memory.pss = value,
            (Some("Private_Dirty:"), Some(value)) => memory.private_dirty = value,
            (_, _) => {}
        }
    }
    memory
}

/// Reads `/proc/PID/task/*/status`: returns how often a thread of the process was switched to,
/// whether it had slept or had been pushed aside. See proc_pid_status(5).
///
/// # Errors
/// It cannot be read.
pub fn context_switches(pid: Pid) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/task");
    let what = format!("read \"{path}\"");
    let mut count = 0;
    for thread in std::fs::read_dir(&path).attempt(&what)? {
        let status = thread.attempt(&what)?.path().join("status");
        // A thread may end between the two.
        let text = std::fs::read_to_string(status).unwrap_or_default();
        count += parse_context_switches(&text);
    }
    Ok(count)
}

fn parse_context_switches(text: &str) -> u64 {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let counts = lines.filter(|(key, _)| key.ends_with("voluntary_ctxt_switches"));
    counts.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
}

/// Returns the processor time that these processes used up to now.
pub fn cpu_time(processes: &[OurProcess]) -> Duration {
    processes.iter().filter_map(|process| proc::cpu_time(process.pid)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_found_among_the_others() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss: 4000 kB\nPss: 1234 kB\n\
                      Pss_Dirty: 70 kB\nPrivate_Clean: 8 kB\nPrivate_Dirty: 56 kB\n";
        assert_eq!(parse_memory(rollup), Memory { pss: 1234, private_dirty: 56 });
        let status = "Name:\tkeepd\nThreads:\t1\nvoluntary_ctxt_switches:\t7\n\
                      nonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(parse_context_switches(status), 12);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let own = keepd_os::process::id();
        assert!(memory(own).expect("our own figures can be read").private_dirty > 0);
        assert!(context_switches(own).expect("our own figures can be read") > 0);
    }
}
