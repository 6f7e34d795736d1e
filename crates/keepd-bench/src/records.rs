//! What services write down: one record of fixed size for each start, appended to a file.
//!
//! The time in a record is the witness, so it does not matter how late the file is read.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant as WallInstant};

use keepd_model::{Instant, Pid};
use keepd_os::{file, process};

use crate::error::{Attempt, BenchError};

/// Nanoseconds of CLOCK_MONOTONIC, then the process id, both little-endian.
const RECORD_BYTES: usize = 16;
/// From one look at the file to the next: rare enough to leave the processors to who is measured.
const LOOK: Duration = Duration::from_millis(2);

/// One start of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the service came to its first instruction.
    pub began_at: Instant,
    /// The process.
    pub pid: Pid,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.began_at.as_nanos().to_le_bytes());
        bytes[8..12].copy_from_slice(&self.pid.get().to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let nanoseconds = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let pid = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        Some(Self { began_at: Instant::from_nanos(nanoseconds), pid: Pid::new(pid)? })
    }
}

/// Appends the record of this process.
///
/// # Errors
/// The file cannot be written.
pub fn append(path: &Path, began_at: Instant) -> Result<(), BenchError> {
    let what = format!("append to \"{}\"", path.display());
    let records = file::open_append(path).attempt(&what)?;
    let bytes = Record { began_at, pid: process::id() }.to_bytes();
    let written = file::append(&records, &bytes).attempt(&what)?;
    if written == RECORD_BYTES { Ok(()) } else { Err("the record is torn").attempt(&what) }
}

/// The file of one subject, as the measurements read it.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: OwnedFd,
}

impl Records {
    /// Makes an empty file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: PathBuf) -> Result<Self, BenchError> {
        let file = file::open_append(&path).attempt(format!("create \"{}\"", path.display()))?;
        let records = Self { path, file };
        records.clear()?;
        Ok(records)
    }

    /// Returns where services find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets everything up to now.
    ///
    /// # Errors
    /// The file cannot be cut off.
    pub fn clear(&self) -> Result<(), BenchError> {
        file::truncate(&self.file, 0).attempt(format!("truncate \"{}\"", self.path.display()))
    }

    /// Returns how many starts were written down.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn count(&self) -> Result<usize, BenchError> {
        let bytes =
            file::length(&self.file).attempt(format!("look at \"{}\"", self.path.display()))?;
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX) / RECORD_BYTES)
    }

    /// Returns all starts, in the order in which they were written down.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(&self) -> Result<Vec<Record>, BenchError> {
        let what = format!("read \"{}\"", self.path.display());
        let bytes = std::fs::read(&self.path).attempt(&what)?;
        let records = bytes.chunks_exact(RECORD_BYTES).map(Record::from_bytes);
        let records: Option<Vec<Record>> = records.collect();
        records.ok_or("it holds what is no record").attempt(&what)
    }

    /// Waits until at least so many starts are written down, and returns all.
    ///
    /// # Errors
    /// There are fewer after `limit`.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Record>, BenchError> {
        let asked_at = WallInstant::now();
        while self.count()? < count {
            if asked_at.elapsed() > limit {
                let found = self.count()?;
                return Err(BenchError::new(format!(
                    "cannot see {count} starts in \"{}\": there are {found} after {limit:?}",
                    self.path.display()
                )));
            }
            thread::sleep(LOOK);
        }
        self.read()
    }
}

/// Returns the latest of some starts.
pub fn last(records: &[Record]) -> Option<Instant> {
    records.iter().map(|record| record.began_at).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let pid = Pid::new(4711).expect("the number is not 0");
        let record = Record { began_at: Instant::from_nanos(81_204_377_012_345), pid };
        assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        assert_eq!(Record::from_bytes(&[0; RECORD_BYTES]), None);
        assert_eq!(Record::from_bytes(&[1; 11]), None);
    }
}
