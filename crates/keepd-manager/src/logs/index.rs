//! Reading an index file: forwards as it grows, and its end backwards.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use keepd_wire::index::{IndexError, IndexRecord, RECORD_BYTES, decode_record};

/// How much of an index is read at once: whole records, about 64 KiB.
const BLOCK_BYTES: u64 = (RECORD_BYTES * 1365) as u64;

/// An index file, read up to a position.
#[derive(Debug)]
pub(super) struct IndexReader {
    path: PathBuf,
    /// Everything before it has been read.
    position: u64,
    /// Device and inode of the file that `position` belongs to.
    identity: Option<(u64, u64)>,
}

/// What a look at an index file found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There is no index.
    Missing,
    /// These records are new; there may be more if it is not empty.
    Records(Vec<IndexRecord>),
}

/// The last records of an index, and where reading goes on.
#[derive(Debug)]
pub(super) struct IndexEnd {
    /// The records, oldest first.
    pub(super) records: Vec<IndexRecord>,
    /// A reader that goes on behind them.
    pub(super) reader: IndexReader,
    /// The index is there.
    pub(super) exists: bool,
    /// There are older records, which were not needed.
    pub(super) cut: bool,
}

impl IndexReader {
    /// Returns a reader at the beginning of the file, which need not exist yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, position: 0, identity: None }
    }

    /// Returns the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the next block. A file that was replaced or cut off is read from its beginning.
    pub(super) fn read_next(&mut self) -> io::Result<Look> {
        let Some((length, identity)) = look_at(&self.path)? else {
            self.position = 0;
            self.identity = None;
            return Ok(Look::Missing);
        };
        if self.identity != Some(identity) || length < self.position {
            self.position = 0;
            self.identity = Some(identity);
        }
        if length - self.position < RECORD_BYTES as u64 {
            return Ok(Look::Records(Vec::new()));
        }
        let bytes = read_range(&self.path, self.position, length.min(self.position + BLOCK_BYTES))?;
        let (records, used) = decode(&bytes);
        self.position += used as u64;
        Ok(Look::Records(records))
    }

    /// Reads the end of the index backwards, block by block, until `enough` is content with the
    /// records found or the file has no more.
    pub(super) fn read_end(
        path: PathBuf,
        enough: impl Fn(&[IndexRecord]) -> bool,
    ) -> io::Result<IndexEnd> {
        let mut reader = Self::new(path);
        let Some((length, identity)) = look_at(&reader.path)? else {
            return Ok(IndexEnd { records: Vec::new(), reader, exists: false, cut: false });
        };
        reader.identity = Some(identity);
        // Records stand at multiples of their size unless one was torn; decoding finds them anyway.
        let grid_end = length - length % RECORD_BYTES as u64;
        let mut window_bytes = BLOCK_BYTES;
        loop {
            let start = grid_end.saturating_sub(window_bytes);
            let bytes = read_range(&reader.path, start, length)?;
            let (records, used) = decode(&bytes);
            if start == 0 || enough(&records) {
                reader.position = start + used as u64;
                return Ok(IndexEnd { records, reader, exists: true, cut: start > 0 });
            }
            // Doubling reads everything twice at most.
            window_bytes = window_bytes.saturating_mul(2);
        }
    }
}

/// Returns length and identity of a file; `None` if it is not there.
fn look_at(path: &Path) -> io::Result<Option<(u64, (u64, u64))>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.len(), (found.dev(), found.ino())))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads from `start` to `end`, or to the end of a file that became shorter meanwhile.
pub(super) fn read_range(path: &Path, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let file = File::open(path)?;
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Returns the whole records, and how many bytes are done with. A part of a record at the end is
/// not: the rest of it may follow, or the pump overwrites it.
fn decode(bytes: &[u8]) -> (Vec<IndexRecord>, usize) {
    let mut records = Vec::new();
    let mut position = 0;
    while let Some(window) = bytes[position..].first_chunk::<RECORD_BYTES>() {
        match decode_record(window) {
            Ok(record) => {
                records.push(record);
                position += RECORD_BYTES;
            }
            Err(IndexError::Version(_) | IndexError::Kind(_) | IndexError::Stream(_)) => {
                position += RECORD_BYTES;
            }
            Err(IndexError::Magic | IndexError::Checksum) => position += 1,
        }
    }
    (records, position)
}
