//! The mapped part, as the keeper of `keepd_wire::ledger` wants it.

use keepd_model::Errno;
use keepd_os::ledger::{Cell, Mapping};
use keepd_wire::ledger::keeper::{Cells, set_chunks};
use keepd_wire::ledger::layout::{CHUNKS_MAX, SlotCell, SlotNumber, file_bytes, slots};

/// No space left on device: the format has no room for more.
const ENOSPC: Errno = Errno(28);

/// The cells of the ledger file.
pub(crate) struct MappedCells {
    mapping: Mapping,
    chunks: u32,
}

impl MappedCells {
    /// Takes a mapping of a file with so many chunks.
    pub(super) fn new(mapping: Mapping, chunks: u32) -> Self {
        Self { mapping, chunks }
    }

    /// Returns how many slots there are.
    pub(super) fn slot_count(&self) -> u32 {
        slots(self.chunks)
    }

    /// Makes room for more slots. After an error everything is as before.
    pub(super) fn grow(&mut self) -> Result<(), Errno> {
        if self.chunks >= CHUNKS_MAX {
            return Err(ENOSPC);
        }
        self.mapping.grow(file_bytes(self.chunks + 1))?;
        self.chunks += 1;
        set_chunks(self, self.chunks);
        Ok(())
    }

    /// Returns a cell for a child, which stores into it by itself.
    pub(super) fn cell_of(&self, slot: SlotNumber, cell: SlotCell) -> Cell<'_> {
        self.cell(slot.offset(cell))
    }

    fn cell(&self, offset: u64) -> Cell<'_> {
        self.mapping.cell(offset).expect("only slots that the file has are asked for")
    }
}

impl Cells for MappedCells {
    fn load(&self, offset: u64) -> u64 {
        self.cell(offset).load()
    }

    fn store(&self, offset: u64, value: u64) {
        self.cell(offset).store(value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        self.cell(offset).exchange(expected, new)
    }
}
