//! A file that is appended to, whole or not at all, and replaced at once.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;

use keepd_model::Errno;
use rustix::fs::FallocateFlags;
use rustix::io::{pwritev, retry_on_intr};

use super::private::{self, Place};
use crate::{errno, file};

/// The longest file that is read.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;

/// What is reserved beyond what was asked for.
const AHEAD_BYTES: u64 = 64 * 1024;

/// What one call of writev(2) takes at most (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;

/// The end of a journal. There is one writer at a time.
#[derive(Debug)]
pub struct JournalFile {
    file: OwnedFd,
    length_bytes: u64,
    /// Up to here there is space for it.
    reserved_bytes: u64,
    /// Something that was not accepted is behind the end, and could not be cut off.
    is_torn: bool,
}

impl JournalFile {
    /// Makes a file with these bytes, 0600, and puts it in the place of the one before, if there is
    /// one. After an error that one is still there, whole. See rename(2).
    pub fn replace(path: &Path, bytes: &[u8]) -> Result<Self, Errno> {
        let file = private::create(path, Place::Any, |file| private::write_all(file, bytes, 0))?;
        let length_bytes = bytes.len() as u64;
        Ok(Self { file, length_bytes, reserved_bytes: length_bytes, is_torn: false })
    }

    /// Opens a file and returns it with everything in it.
    ///
    /// Fails with EPERM if it is not ours alone, and with EFBIG beyond [`JOURNAL_BYTES_MAX`].
    pub fn open(path: &Path) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let opened = private::open(path)?;
        let length = file::length(&opened)?;
        if length > JOURNAL_BYTES_MAX {
            return Err(Errno(libc::EFBIG));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno(libc::EFBIG))?];
        let mut filled = 0;
        while filled < bytes.len() {
            match file::read_at(&opened, &mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok((opened, bytes))
    }

    /// Goes on after so many bytes of an opened file, and cuts off the rest.
    pub fn resume(file: OwnedFd, length_bytes: u64) -> Result<Self, Errno> {
        file::truncate(&file, length_bytes)?;
        Ok(Self { file, length_bytes, reserved_bytes: length_bytes, is_torn: false })
    }

    /// `pwritev(fd, pieces, end)`: appends with one call.
    ///
    /// Fails, ENOSPC for example, and leaves what was there: what was written in part is cut off,
    /// at the latest before the next record. Fails with EINVAL for more than 1,024 pieces. See
    /// writev(2).
    pub fn append(&mut self, pieces: &[&[u8]]) -> Result<(), Errno> {
        if pieces.len() > PIECES_MAX {
            return Err(Errno::EINVAL);
        }
        self.cut_off_torn()?;
        let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let written = retry_on_intr(|| pwritev(&self.file, &slices, self.length_bytes));
        match written {
            Ok(count) if count == whole => {
                self.length_bytes += whole as u64;
                Ok(())
            }
            Ok(_) => {
                self.is_torn = true;
                // Whether this works or not, it is tried again before the next record.
                let _ = self.cut_off_torn();
                Err(Errno(libc::ENOSPC))
            }
            Err(error) => Err(errno::from_rustix(error)),
        }
    }

    /// `fallocate(fd, FALLOC_FL_KEEP_SIZE, end, bytes)`: makes sure that appends of up to so many
    /// bytes find the space that they need, also on tmpfs.
    ///
    /// ENOSPC: there is none, and everything is as it was. Where the file system has no such call,
    /// nothing can be promised, and nothing is: an append may fail, and says so. See fallocate(2).
    pub fn reserve(&mut self, bytes: u64) -> Result<(), Errno> {
        self.cut_off_torn()?;
        let needed = self.length_bytes.checked_add(bytes).ok_or(Errno(libc::EFBIG))?;
        if needed <= self.reserved_bytes {
            return Ok(());
        }
        // More than is needed, so that not every record asks the kernel; but not if it is too much.
        self.allocate(bytes.saturating_add(AHEAD_BYTES)).or_else(|_| self.allocate(bytes))
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), Errno> {
        let (flags, end) = (FallocateFlags::KEEP_SIZE, self.length_bytes);
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, end, bytes)) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.reserved_bytes = end.saturating_add(bytes);
                Ok(())
            }
            Err(error) => Err(errno::from_rustix(error)),
        }
    }

    /// Returns the length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn cut_off_torn(&mut self) -> Result<(), Errno> {
        if self.is_torn {
            file::truncate(&self.file, self.length_bytes)?;
            // What was reserved behind it is gone with it.
            self.reserved_bytes = self.length_bytes;
            self.is_torn = false;
        }
        Ok(())
    }
}
