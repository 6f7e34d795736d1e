//! The journal: facts are collected, and appended at once before anything that follows from them.

use std::path::{Path, PathBuf};

use keepd_model::Errno;
use keepd_os::ledger::JournalFile;
use keepd_os::random;
use keepd_wire::ledger::Scope;
use keepd_wire::ledger::journal::{BeginError, Record, TooLong, Writer, wants_compaction};
use keepd_wire::ledger::keeper::set_answered;

use super::cells::MappedCells;

/// A buffer that grew beyond this is given back once it is empty.
const CAPACITY_KEPT_BYTES: usize = 64 * 1024;
/// What a line may bring beside itself: slots, and what else it starts. On tmpfs it is memory.
const SLACK_BYTES: usize = 64 * 1024;
/// Invalid argument: no record has room for this.
const EINVAL: Errno = Errno(22);

/// The journal of this process, which is its only writer.
pub(crate) struct Journal {
    path: PathBuf,
    file: JournalFile,
    writer: Writer,
    /// Records that are not in the file yet.
    pending: Vec<u8>,
    /// Up to here there is space for the file.
    room_until: u64,
    /// The size of what still held when it was compacted last.
    snapshot_bytes: u64,
}

impl Journal {
    /// Makes a journal in the place of the one before, if there is one; its first record has the
    /// number `first`.
    pub(super) fn begin(
        path: &Path,
        scope: &Scope<'_>,
        first: u64,
        snapshot: &[Record<'_>],
    ) -> Result<Self, Errno> {
        let salt = random::seed()? as u64;
        let (bytes, writer) =
            Writer::begin(scope, salt, first, snapshot).map_err(|error| match error {
                BeginError::Head(_) | BeginError::TooLong => EINVAL,
            })?;
        let file = JournalFile::replace(path, &bytes)?;
        let snapshot_bytes = bytes.len() as u64;
        Ok(Self {
            path: path.to_owned(),
            file,
            writer,
            pending: Vec::new(),
            room_until: 0,
            snapshot_bytes,
        })
    }

    /// Goes on with the journal of a predecessor.
    pub(super) fn resume(path: &Path, file: JournalFile, writer: Writer) -> Self {
        let snapshot_bytes = file.length_bytes() / 2;
        Self {
            path: path.to_owned(),
            file,
            writer,
            pending: Vec::new(),
            room_until: 0,
            snapshot_bytes,
        }
    }

    /// Adds a record, to be appended by [`Journal::flush`].
    ///
    /// # Errors
    ///
    /// It is too long; then nothing was added.
    pub(super) fn note(&mut self, record: &Record<'_>) -> Result<(), TooLong> {
        self.writer.encode(record, &mut self.pending).map(drop)
    }

    /// Appends what was noted, and says in the mapped part that it counts.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be; it is kept, and tried again with the next call.
    pub(super) fn flush(&mut self, cells: &MappedCells) -> Result<(), Errno> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.file.append(&[&self.pending])?;
        set_answered(cells, self.writer.next() - 1);
        self.pending.clear();
        if self.pending.capacity() > CAPACITY_KEPT_BYTES {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Returns how much was noted and is not in the file.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Makes sure that so many bytes can be appended, and a little more beside them.
    ///
    /// # Errors
    ///
    /// Returns why they cannot.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), Errno> {
        let wanted = (self.pending.len() + bytes + SLACK_BYTES) as u64;
        if self.file.length_bytes() + wanted <= self.room_until {
            return Ok(());
        }
        // More than that at once, because each line would ask otherwise.
        let taken = wanted + SLACK_BYTES as u64;
        self.file.reserve(taken)?;
        self.room_until = self.file.length_bytes() + taken;
        Ok(())
    }

    /// Reports whether most of the file does not hold any more.
    pub(super) fn wants_compaction(&self) -> bool {
        wants_compaction(self.file.length_bytes(), self.snapshot_bytes)
    }

    /// Replaces the file by one with what still holds; everything noted was flushed before.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be; the file is as it was, and it is tried again when it has grown.
    pub(super) fn compact(
        &mut self,
        cells: &MappedCells,
        scope: &Scope<'_>,
        snapshot: &[Record<'_>],
    ) -> Result<(), Errno> {
        match Self::begin(&self.path, scope, self.writer.next(), snapshot) {
            Ok(compacted) => {
                set_answered(cells, compacted.writer.next() - 1);
                *self = compacted;
                Ok(())
            }
            Err(error) => {
                self.snapshot_bytes = self.file.length_bytes();
                Err(error)
            }
        }
    }
}
