//! The index beside the log files: one record for each wake-up and stream, one for each start.

use std::path::Path;

use keepd_model::Errno;
use keepd_model::protocol::Stream;
use keepd_wire::index::{IndexKind, IndexRecord, RECORD_BYTES, decode_record, encode_record};

use super::file::{LogFile, Placement};

/// Records that wait for a disk with room; when there are more, starts go unrecorded (chunks cannot
/// come, because a stream waits for its record).
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// What is read of an index at once, a whole number of records, and how often.
const LOOK_BYTES: usize = 1024 * RECORD_BYTES;
const LOOKS_MAX: usize = 32;

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

    /// Returns up to where the records say that a stream was written, or where its first run began;
    /// `None` if none of the last ones is about it.
    pub(super) fn reaches(&self, stream: Stream) -> Result<Option<u64>, Errno> {
        let mut end = self.file.length();
        let mut bytes = vec![0; LOOK_BYTES];
        let mut first_start = None;
        for _ in 0..LOOKS_MAX {
            let start = end.saturating_sub(LOOK_BYTES as u64);
            // Less than was there a moment ago: somebody truncates it.
            let count = self.file.read_at(&mut bytes[..(end - start) as usize], start)?;
            let (records, _) = bytes[..count].as_chunks::<RECORD_BYTES>();
            let found = records.iter().rev().filter_map(|bytes| decode_record(bytes).ok());
            for record in found.filter(|record| record.stream == stream) {
                match record.kind {
                    IndexKind::Chunk => {
                        let end = record.offset.saturating_add(record.length_bytes.into());
                        return Ok(Some(end));
                    }
                    IndexKind::Start => first_start = Some(record.offset),
                }
            }
            if start == 0 {
                break;
            }
            end = start;
        }
        Ok(first_start)
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
