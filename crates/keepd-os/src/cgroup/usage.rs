//! What the processes of a group use, read for many groups in a row: as few system calls as there
//! can be.

use std::time::Duration;

use keepd_model::{Errno, Pid};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::{Group, check_name, number_of, parse_pids};
use crate::{errno, proc};

/// The links of a directory without directories in it: its name and its `.`.
const LINKS_OF_LEAF: u8 = 2;

/// What the processes of a group use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since the group was made, ended processes included. `None` where the kernel
    /// does not count it.
    pub cpu: Option<Duration>,
    /// The sum of what is resident of each process; what they share counts for each of them.
    pub memory_bytes: u64,
    /// How many processes there are.
    pub tasks: u64,
}

impl Group {
    /// Reads what the processes of a child group, and of the groups below that, use: `cpu.stat`,
    /// `cgroup.procs`, and `/proc/PID/statm` of each. See cgroups(7).
    pub fn child_usage(&self, name: &str) -> Result<Usage, Errno> {
        check_name(name)?;
        let pids = self.child_pids(name)?;
        let stat = self.read_short(&format!("{name}/cpu.stat")).unwrap_or_default();
        Ok(Usage {
            cpu: number_of(&stat, "usage_usec").map(Duration::from_micros),
            memory_bytes: pids.iter().filter_map(|pid| proc::memory_resident_bytes(*pid)).sum(),
            tasks: u64::try_from(pids.len()).unwrap_or(u64::MAX),
        })
    }

    fn child_pids(&self, name: &str) -> Result<Vec<Pid>, Errno> {
        let found = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(errno::from_rustix)?;
        // The directories of this file system say how many are in them, as most do; where they say
        // something else, everything is looked at.
        // The type of the number is not the same everywhere.
        if u8::try_from(found.st_nlink) != Ok(LINKS_OF_LEAF) {
            return self.child(name)?.pids();
        }
        match self.read_short(&format!("{name}/cgroup.procs")) {
            Ok(bytes) => Ok(parse_pids(&bytes)),
            // A threaded group lists its processes elsewhere.
            Err(_) => self.child(name)?.pids(),
        }
    }

    fn read_short(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, path, flags, Mode::empty())
            .map_err(errno::from_rustix)?;
        proc::read_short_lines(&file)
    }
}
