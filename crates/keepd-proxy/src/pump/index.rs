//! The index beside the log files: one record for each wake-up and stream, one for each start.

use std::path::Path;

use keepd_model::Errno;
use keepd_wire::index::{IndexRecord, RECORD_BYTES, encode_record};

use super::file::{LogFile, Placement};

/// Records that wait for a disk with room; when there are more, starts go unrecorded (chunks cannot
/// come, because a stream waits for its record).
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// An index file and the records that are not written yet.
pub(super) struct Index {
    file: LogFile,
    waiting: Vec<u8>,
}

impl Index {
    /// Opens the index, made if it is missing. A torn record at its end is overwritten.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let mut file = LogFile::open(path, Placement::Offset)?;
        file.align(RECORD_BYTES as u64);
        Ok(Self { file, waiting: Vec::new() })
    }

    /// Opens the file again if somebody removed, replaced or truncated it.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        self.file.refresh()?;
        self.file.align(RECORD_BYTES as u64);
        Ok(())
    }

    /// Adds a record and writes what waits. After an error the record waits for [`Index::flush`].
    pub(super) fn add(&mut self, record: &IndexRecord) -> Result<(), Errno> {
        self.push(record);
        self.flush()
    }

    /// Adds a record that waits for [`Index::flush`].
    pub(super) fn push(&mut self, record: &IndexRecord) {
        if self.waiting.len() < WAITING_BYTES_MAX {
            self.waiting.extend_from_slice(&encode_record(record));
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.file.follow()? {
            self.file.align(RECORD_BYTES as u64);
            // The beginning of the first one is gone with the file.
            self.waiting.drain(..self.waiting.len() % RECORD_BYTES);
        }
        self.file.write_all(&mut self.waiting)?;
        // Its memory is not kept for the next record: there are as many of these as services.
        self.waiting = Vec::new();
        Ok(())
    }
}
