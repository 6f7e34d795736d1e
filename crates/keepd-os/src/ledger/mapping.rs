//! Shared memory, cell by cell.
#![expect(unsafe_code, reason = "rustix's mmap(2) is unsafe as well, and needs a further feature")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use keepd_model::Errno;

use super::private::{self, Place};
use crate::{errno, file};

/// The size of a cell.
pub const CELL_BYTES: u64 = 8;

/// A file of cells of 64 bits, shared by every process that maps it.
///
/// It is written to as memory, so it belongs on tmpfs; a SIGKILL loses nothing of what was stored.
/// Addresses stay as they are when it grows.
#[derive(Debug)]
pub struct Mapping {
    file: OwnedFd,
    pieces: Vec<Piece>,
    length_bytes: u64,
}

/// A part of the file, mapped at one place.
#[derive(Debug)]
struct Piece {
    start: NonNull<u8>,
    offset: u64,
    bytes: usize,
}

/// One cell. It changes at once or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a>(&'a AtomicU64);

impl Cell<'_> {
    /// Reads it, and with it everything that was stored before it.
    pub fn load(self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Stores a value, for a cell that has one writer.
    pub fn store(self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Replaces the expected value and no other. Reports whether it was there.
    pub fn exchange(self, expected: u64, new: u64) -> bool {
        self.0.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Mapping {
    /// Makes a file of this length that begins with these bytes, and maps it: 0600, whole or not at
    /// all, with its space allocated. Both lengths are multiples of [`CELL_BYTES`].
    ///
    /// Fails with EEXIST if there is one, and with ENOSPC without leaving anything. See
    /// fallocate(2), mmap(2).
    pub fn create(path: &Path, first: &[u8], length_bytes: u64) -> Result<Self, Errno> {
        let file = private::create(path, Place::Free, |file| {
            private::allocate(file, 0, length_bytes)?;
            private::write_all(file, first, 0)
        })?;
        Self::of(file, length_bytes)
    }

    /// Opens a file and returns it with its length, so that its first bytes can be looked at
    /// ([`file::read_at`]) before it is trusted with [`Mapping::of`].
    ///
    /// Fails with EPERM if it is not ours alone. See open(2).
    pub fn open(path: &Path) -> Result<(OwnedFd, u64), Errno> {
        let opened = private::open(path)?;
        let length = file::length(&opened)?;
        Ok((opened, length))
    }

    /// Maps so much of a file, and cuts off the rest, which somebody who was lost had begun to add.
    ///
    /// Fails with EINVAL if the file is shorter: touching what is not there is a SIGBUS. See
    /// mmap(2).
    pub fn of(file: OwnedFd, length_bytes: u64) -> Result<Self, Errno> {
        let found = file::length(&file)?;
        if found < length_bytes || length_bytes == 0 || !length_bytes.is_multiple_of(CELL_BYTES) {
            return Err(Errno::EINVAL);
        }
        if found > length_bytes {
            file::truncate(&file, length_bytes)?;
        }
        Self::map(file, length_bytes)
    }

    /// Maps so much of a file that another process may be adding to: as [`Mapping::of`], and the
    /// rest stays.
    pub fn beside(file: OwnedFd, length_bytes: u64) -> Result<Self, Errno> {
        let found = file::length(&file)?;
        if found < length_bytes || length_bytes == 0 || !length_bytes.is_multiple_of(CELL_BYTES) {
            return Err(Errno::EINVAL);
        }
        Self::map(file, length_bytes)
    }

    fn map(file: OwnedFd, length_bytes: u64) -> Result<Self, Errno> {
        let piece = Piece::map(file.as_fd(), 0, length_bytes)?;
        Ok(Self { file, pieces: vec![piece], length_bytes })
    }

    /// Makes the file longer by zeros, and maps them. Cells stay where they are.
    ///
    /// After an error the file is as it was, or has a surplus that [`Mapping::of`] cuts off.
    pub fn grow(&mut self, length_bytes: u64) -> Result<(), Errno> {
        if length_bytes < self.length_bytes || !length_bytes.is_multiple_of(CELL_BYTES) {
            return Err(Errno::EINVAL);
        }
        let before = self.length_bytes;
        let result = private::allocate(&self.file, before, length_bytes)
            .and_then(|()| Piece::map(self.file.as_fd(), before, length_bytes));
        match result {
            Ok(piece) => {
                self.pieces.push(piece);
                self.length_bytes = length_bytes;
                Ok(())
            }
            Err(error) => {
                // If this fails too, the surplus is cut off by a successor.
                let _ = file::truncate(&self.file, before);
                Err(error)
            }
        }
    }

    /// Returns the length in bytes.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Returns the cell at an offset. `None`: there is none, or the offset is no multiple of
    /// [`CELL_BYTES`].
    pub fn cell(&self, offset: u64) -> Option<Cell<'_>> {
        if !offset.is_multiple_of(CELL_BYTES) || offset.checked_add(CELL_BYTES)? > self.length_bytes
        {
            return None;
        }
        // Pieces may overlap, and the same bytes are the same memory in each.
        self.pieces.iter().rev().find_map(|piece| piece.cell(offset))
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Piece {
    /// `mmap(NULL, …, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset)`.
    fn map(file: BorrowedFd<'_>, from: u64, to: u64) -> Result<Self, Errno> {
        let page = rustix::param::page_size() as u64;
        // Pages may be larger than the units in which the file grows.
        let offset = from - from % page;
        let bytes = usize::try_from(to - offset).map_err(|_| Errno::ENOMEM)?;
        let place = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
        let start = unsafe {
            let none = ptr::null_mut();
            libc::mmap(none, bytes, access, libc::MAP_SHARED, file.as_raw_fd(), place)
        };
        if start == libc::MAP_FAILED {
            return Err(errno::last());
        }
        let start = NonNull::new(start.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Self { start, offset, bytes })
    }

    fn cell(&self, offset: u64) -> Option<Cell<'_>> {
        let within = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        if within.checked_add(CELL_BYTES as usize)? > self.bytes {
            return None;
        }
        // SAFETY: the cell lies within the mapping, which lives as long as the borrow; it is
        // aligned, because the mapping begins with a page and the offset is a multiple of 8; every
        // process uses it as an atomic only.
        let cell = unsafe { &*self.start.as_ptr().add(within).cast::<AtomicU64>() };
        Some(Cell(cell))
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: it is what mmap(2) gave, and no cell of it is borrowed any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
