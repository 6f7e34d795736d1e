//! Reading an index file: forwards as it grows, and any part of a snapshot of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use keepd_wire::index::{IndexError, IndexRecord, RECORD_BYTES, decode_record};

/// How much of an index is read at once: whole records, about 32 KiB.
const BLOCK_BYTES: u64 = (RECORD_BYTES * 682) as u64;

/// How much is read to find one record: a few of them, so that a torn one costs no second read.
const GLANCE_BYTES: u64 = (RECORD_BYTES * 8) as u64;

/// A record and where it begins in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) position: u64,
    pub(super) record: IndexRecord,
}

impl Placed {
    /// Returns the position behind it.
    pub(super) fn end(&self) -> u64 {
        self.position + RECORD_BYTES as u64
    }
}

/// An index file, read up to a position.
#[derive(Clone, Debug)]
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
    Records(Vec<Placed>),
}

impl IndexReader {
    /// Returns a reader at the beginning of the file, which need not exist yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, position: 0, identity: None }
    }

    /// Returns a reader that goes on from a position in this snapshot.
    pub(super) fn from_snapshot(path: PathBuf, snapshot: &Snapshot, position: u64) -> Self {
        Self { path, position, identity: Some(snapshot.identity) }
    }

    /// Returns the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the next block, not beyond `end`. A file that was replaced or cut off is read from its
    /// beginning.
    pub(super) fn read_next(&mut self, end: u64) -> io::Result<Look> {
        let Some((length, identity)) = look_at(&self.path)? else {
            self.position = 0;
            self.identity = None;
            return Ok(Look::Missing);
        };
        if self.identity != Some(identity) || length < self.position {
            self.position = 0;
            self.identity = Some(identity);
        }
        let end = length.min(end);
        if end.saturating_sub(self.position) < RECORD_BYTES as u64 {
            return Ok(Look::Records(Vec::new()));
        }
        let bytes = read_range(&self.path, self.position, end.min(self.position + BLOCK_BYTES))?;
        let (records, used) = decode(&bytes, self.position);
        self.position += used as u64;
        Ok(Look::Records(records))
    }
}

/// An index file as it was at one moment: what is added later is not looked at.
#[derive(Debug)]
pub(super) struct Snapshot {
    file: File,
    length: u64,
    identity: (u64, u64),
    #[cfg(test)]
    reads: std::cell::Cell<usize>,
}

impl Snapshot {
    /// Opens the file; `None` if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        Ok(Some(Self {
            length: found.len(),
            identity: (found.dev(), found.ino()),
            file,
            #[cfg(test)]
            reads: std::cell::Cell::new(0),
        }))
    }

    /// Returns how often the file was read.
    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.reads.get()
    }

    /// Returns the length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the first record that begins at or behind `position` and before `end`.
    pub(super) fn first_from(&self, position: u64, end: u64) -> io::Result<Option<Placed>> {
        let mut from = position;
        while from < end.min(self.length) {
            let found = self.records_between(from, end.min(from + GLANCE_BYTES))?;
            if let Some(first) = found.first() {
                return Ok(Some(*first));
            }
            from += GLANCE_BYTES;
        }
        Ok(None)
    }

    /// Returns the last record that begins before `end`.
    pub(super) fn last_before(&self, end: u64) -> io::Result<Option<Placed>> {
        let mut blocks = self.backwards(end);
        while let Some(block) = blocks.next_block()? {
            if let Some(last) = block.last() {
                return Ok(Some(*last));
            }
        }
        Ok(None)
    }

    /// Returns the blocks before `end`, the last one first.
    pub(super) fn backwards(&self, end: u64) -> Backwards<'_> {
        Backwards { snapshot: self, end: end.min(self.length) }
    }

    /// Returns the records that begin in this range, in the order of the file.
    fn records_between(&self, start: u64, end: u64) -> io::Result<Vec<Placed>> {
        // The last of them may reach over the end.
        let stop = self.length.min(end.saturating_add(RECORD_BYTES as u64 - 1));
        #[cfg(test)]
        self.reads.set(self.reads.get() + 1);
        let bytes = read_from(&self.file, start, stop)?;
        let (mut records, _) = decode(&bytes, start);
        while records.last().is_some_and(|last| last.position >= end) {
            records.pop();
        }
        Ok(records)
    }
}

/// Blocks of a snapshot from its end to its beginning.
#[derive(Debug)]
pub(super) struct Backwards<'a> {
    snapshot: &'a Snapshot,
    end: u64,
}

impl Backwards<'_> {
    /// Returns the records of the next block, in the order of the file; `None` at the beginning.
    pub(super) fn next_block(&mut self) -> io::Result<Option<Vec<Placed>>> {
        if self.end == 0 {
            return Ok(None);
        }
        // Records stand at multiples of their size unless one was torn; decoding finds them anyway.
        let whole = self.end - self.end % RECORD_BYTES as u64;
        let start = whole.saturating_sub(BLOCK_BYTES);
        let records = self.snapshot.records_between(start, self.end)?;
        self.end = start;
        Ok(Some(records))
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
    read_from(&File::open(path)?, start, end)
}

fn read_from(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
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

/// Returns the whole records of bytes that stand at `start` in the file, and how many bytes are
/// done with. A part of a record at the end is not: the rest of it may follow, or the pump
/// overwrites it.
fn decode(bytes: &[u8], start: u64) -> (Vec<Placed>, usize) {
    let mut records = Vec::with_capacity(bytes.len() / RECORD_BYTES);
    let mut position = 0;
    while let Some(window) = bytes[position..].first_chunk::<RECORD_BYTES>() {
        match decode_record(window) {
            Ok(record) => {
                records.push(Placed { position: start + position as u64, record });
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
