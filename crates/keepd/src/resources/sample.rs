//! Reading what the kernel counts for a process.

use crate::error::Result;

/// What the kernel has counted for a process up to one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) memory_bytes: u64,
    /// Of the process itself, not of children it waited for.
    pub(super) cpu_seconds: f64,
    pub(super) thread_count: u32,
}

/// Reads the counts of a process.
///
/// # Errors
///
/// An input or output error if there is no such process; a platform error outside of Linux.
#[cfg(target_os = "linux")]
pub(super) fn read(pid: u32) -> Result<Counted> {
    use crate::error::{Error, ErrorCode, io_code};

    let path = format!("/proc/{pid}/stat");
    // Bytes: the name of a process need not be UTF-8.
    let bytes = std::fs::read(&path).map_err(|error| {
        let message = format!("cannot measure process {pid}: {error}");
        // ESRCH: it ended while it was read.
        let code = match error.raw_os_error() {
            Some(number) if number == rustix::io::Errno::SRCH.raw_os_error() => {
                ErrorCode::FileNotFound
            }
            Some(_) | None => io_code(&error),
        };
        Error::Io { code, message, source: Some(Box::new(error)) }
    })?;
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as u64;
    parse(&bytes, ticks_per_second, page_bytes)
        .ok_or_else(|| Error::io(format!("cannot measure process {pid}: {path:?} is unreadable")))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read(_pid: u32) -> Result<Counted> {
    use crate::error::Error;

    Err(Error::platform("cannot measure processes: that needs /proc", std::env::consts::OS))
}

/// Reads the line of proc_pid_stat(5). Fields are counted from the last bracket, because the name
/// before it may contain anything.
#[cfg(target_os = "linux")]
fn parse(line: &[u8], ticks_per_second: f64, page_bytes: u64) -> Option<Counted> {
    let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first field after the name is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (user, system, threads, pages) = (field(14)?, field(15)?, field(20)?, field(24)?);
    Some(Counted {
        memory_bytes: pages.saturating_mul(page_bytes),
        cpu_seconds: (user + system) as f64 / ticks_per_second,
        thread_count: u32::try_from(threads).ok()?,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_bytes_is_skipped() {
        let mut line = b"42 (a) b \xff (c) S 1 2 3 4 5 6 7 8 9 10 200 50 999 888 20 0 3 0".to_vec();
        line.extend_from_slice(b" 77 1000000 256 18446744073709551615 0");
        let expected = Counted { memory_bytes: 256 * 4096, cpu_seconds: 2.5, thread_count: 3 };
        assert_eq!(parse(&line, 100.0, 4096), Some(expected));
        assert_eq!(parse(b"42 (a) S 1", 100.0, 4096), None);
        assert_eq!(parse(b"", 100.0, 4096), None);
    }

    #[test]
    fn this_process_has_memory_and_threads_and_no_process_has_none() {
        let counted = read(std::process::id()).unwrap();
        assert!(counted.memory_bytes > 0 && counted.thread_count > 0, "{counted:?}");
        let error = read(u32::MAX).unwrap_err();
        assert_eq!(error.code(), crate::ErrorCode::FileNotFound);
    }
}
