//! Where things are in the mapped part.
//!
//! | bytes | what |
//! | --- | --- |
//! | 512 | head: magic `keepdldg`, version, boot, instance, checksum |
//! | 8 | cell: number of chunks |
//! | 8 | cell: number of the last journal record whose command was answered |
//! | to 4096 | zero |
//! | 36,864 each | chunks |
//!
//! A chunk holds [`CHUNK_SLOTS`] slots, one page with what is looked at always, and their rings,
//! which are touched by ends only. Chunks are added at the end and never move: the child holds an
//! address of its word.
//!
//! | bytes of a slot | what |
//! | --- | --- |
//! | 8 | [`Word`](super::Word) |
//! | 8 | [`Identity`](super::Identity) |
//! | 8 | cell: owner, from the name of the service ([`owner_cell`]) |
//! | 8 | cell: outcomes that were overwritten before anybody acknowledged them; bit 57 of the |
//! |   | number: a generation was cancelled |
//!
//! A ring is 16 entries of 16 bytes: word, cell with the monotonic time in ns.

use std::fmt;

use super::cell::{open_cell, seal_cell};
use super::checksum::crc32c;
use super::ring::ENTRIES;
use super::{HEAD_BYTES, HeadError, Scope, begin_head, check_head, seal_head, u64_at};

const MAGIC: [u8; 8] = *b"keepdldg";

/// The size of what is before the first chunk, in bytes.
pub const HEADER_BYTES: u64 = 4096;
/// Where the number of chunks is.
pub const CHUNKS_OFFSET: u64 = HEAD_BYTES as u64;
/// Where the number of the last answered journal record is.
pub const ANSWERED_OFFSET: u64 = CHUNKS_OFFSET + CELL_BYTES;
/// How many slots a chunk holds.
pub const CHUNK_SLOTS: u32 = 128;
/// The size of a chunk in bytes: a multiple of the page size.
pub const CHUNK_BYTES: u64 = CHUNK_SLOTS as u64 * (SLOT_BYTES + RING_BYTES);
/// How many chunks a file has at most: 131,072 services.
pub const CHUNKS_MAX: u32 = 1024;

const CELL_BYTES: u64 = 8;
const SLOT_BYTES: u64 = 32;
const ENTRY_BYTES: u64 = 16;
const RING_BYTES: u64 = ENTRIES as u64 * ENTRY_BYTES;

/// The number of a slot: 0, 1, 2, … in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotNumber(pub u32);

/// A cell of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotCell {
    /// The word.
    Word,
    /// The identity of the process.
    Identity,
    /// Whose slot it is.
    Owner,
    /// How many outcomes were overwritten.
    Overwritten,
    /// The word of an entry of the ring; entries beyond the last begin again with the first.
    EntryWord(usize),
    /// The time of an entry of the ring.
    EntryTime(usize),
}

impl SlotNumber {
    /// Returns where a cell of this slot begins, in bytes from the start of the file. Always a
    /// multiple of 8.
    pub const fn offset(self, cell: SlotCell) -> u64 {
        let chunk = HEADER_BYTES + (self.0 / CHUNK_SLOTS) as u64 * CHUNK_BYTES;
        let place = (self.0 % CHUNK_SLOTS) as u64;
        let slot = chunk + place * SLOT_BYTES;
        let rings = chunk + CHUNK_SLOTS as u64 * SLOT_BYTES;
        let ring = rings + place * RING_BYTES;
        match cell {
            SlotCell::Word => slot,
            SlotCell::Identity => slot + CELL_BYTES,
            SlotCell::Owner => slot + 2 * CELL_BYTES,
            SlotCell::Overwritten => slot + 3 * CELL_BYTES,
            SlotCell::EntryWord(index) => ring + entry_offset(index),
            SlotCell::EntryTime(index) => ring + entry_offset(index) + CELL_BYTES,
        }
    }
}

const fn entry_offset(index: usize) -> u64 {
    (index % ENTRIES) as u64 * ENTRY_BYTES
}

/// Returns the size of a file with so many chunks, in bytes.
pub const fn file_bytes(chunks: u32) -> u64 {
    HEADER_BYTES + chunks as u64 * CHUNK_BYTES
}

/// Returns how many slots so many chunks have.
pub const fn slots(chunks: u32) -> u32 {
    chunks.saturating_mul(CHUNK_SLOTS)
}

/// Returns the owner cell of a service: a slot whose journal record names another service is not
/// trusted.
pub fn owner_cell(service: &str) -> u64 {
    // The bit beyond tells an empty name's sum from no owner.
    seal_cell(u64::from(crc32c(service.as_bytes())) | 1 << 32)
}

/// Returns the first page of a new file.
///
/// # Errors
///
/// Only for a name that is too long.
pub fn encode_header(scope: &Scope<'_>, chunks: u32) -> Result<Vec<u8>, HeadError> {
    let mut head = begin_head(MAGIC, scope)?;
    seal_head(&mut head);
    let mut page = head.to_vec();
    page.extend_from_slice(&seal_cell(u64::from(chunks)).to_le_bytes());
    page.extend_from_slice(&seal_cell(0).to_le_bytes());
    page.resize(HEADER_BYTES as usize, 0);
    Ok(page)
}

/// What the first page of a good file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many chunks the file has.
    pub chunks: u32,
    /// The number of the last journal record whose command was answered.
    pub answered: u64,
    /// What is in the file after the last chunk: somebody was lost while adding one. It is cut off.
    pub surplus_bytes: u64,
}

/// Why a file is not used as a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// Its head is not that of this boot and instance.
    Head(HeadError),
    /// The number of chunks is damaged.
    Chunks,
    /// The number of the last answered record is damaged.
    Answered,
    /// The file is shorter than its chunks.
    Cut {
        /// How long it should be.
        wanted_bytes: u64,
        /// How long it is.
        found_bytes: u64,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot use the ledger: ")?;
        match self {
            Self::Head(error) => error.fmt(formatter),
            Self::Chunks => write!(formatter, "its number of slots is damaged"),
            Self::Answered => write!(formatter, "its place in the journal is damaged"),
            Self::Cut { wanted_bytes, found_bytes } => write!(
                formatter,
                "the file is cut short: it has {found_bytes} bytes of {wanted_bytes}"
            ),
        }
    }
}

impl std::error::Error for LayoutError {}

/// Reads the first page of a file of this length.
///
/// # Errors
///
/// Everything that is not this boot's and this instance's, whole. Nothing of such a file is used.
pub fn check_header(
    page: &[u8],
    length_bytes: u64,
    scope: &Scope<'_>,
) -> Result<Header, LayoutError> {
    let page = page.get(..HEADER_BYTES as usize).ok_or(LayoutError::Head(HeadError::Short))?;
    check_head(page, MAGIC, scope).map_err(LayoutError::Head)?;
    let cell = |offset: u64| open_cell(u64_at(page, offset as usize));
    let chunks = cell(CHUNKS_OFFSET)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number <= CHUNKS_MAX)
        .ok_or(LayoutError::Chunks)?;
    let answered = cell(ANSWERED_OFFSET).ok_or(LayoutError::Answered)?;
    let wanted_bytes = file_bytes(chunks);
    let surplus_bytes = length_bytes
        .checked_sub(wanted_bytes)
        .ok_or(LayoutError::Cut { wanted_bytes, found_bytes: length_bytes })?;
    Ok(Header { chunks, answered, surplus_bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::BootId;
    use super::*;

    const SCOPE: Scope<'static> = Scope { boot: BootId::new([7; 16]), instance: "shop-0badcafe" };

    #[test]
    fn cells_do_not_overlap_and_fill_the_chunks() {
        let mut offsets = BTreeSet::new();
        for number in 0..slots(2) {
            let slot = SlotNumber(number);
            let entries = (0..ENTRIES)
                .flat_map(|index| [SlotCell::EntryWord(index), SlotCell::EntryTime(index)]);
            let cells =
                [SlotCell::Word, SlotCell::Identity, SlotCell::Owner, SlotCell::Overwritten];
            for cell in cells.into_iter().chain(entries) {
                assert!(offsets.insert(slot.offset(cell)), "{number} {cell:?}");
            }
        }
        assert_eq!(offsets.first(), Some(&HEADER_BYTES));
        assert!(offsets.iter().zip(offsets.iter().skip(1)).all(|(a, b)| a + 8 == *b));
        assert_eq!(offsets.last(), Some(&(file_bytes(2) - 8)));
        assert_eq!(CHUNK_BYTES % 4096, 0);
        assert_eq!(CHUNK_BYTES, 36_864);
    }

    #[test]
    fn a_good_header_is_taken() {
        let page = encode_header(&SCOPE, 3).unwrap();
        let header = check_header(&page, file_bytes(3) + 5, &SCOPE).unwrap();
        assert_eq!(header, Header { chunks: 3, answered: 0, surplus_bytes: 5 });
        let long = "x".repeat(256);
        let scope = Scope { instance: &long, ..SCOPE };
        assert_eq!(encode_header(&scope, 1), Err(HeadError::InstanceTooLong));
    }

    #[test]
    fn every_flipped_bit_that_means_something_is_refused() {
        let page = encode_header(&SCOPE, 1).unwrap();
        for bit in 0..(ANSWERED_OFFSET as usize + 8) * 8 {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check_header(&damaged, file_bytes(1), &SCOPE).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn files_of_others_are_refused_with_a_sentence() {
        let page = encode_header(&SCOPE, 1).unwrap();
        let length = file_bytes(1);
        let refusal = |page: &[u8], length, scope: &Scope<'_>| {
            check_header(page, length, scope).unwrap_err().to_string()
        };
        let text = |rest: &str| format!("cannot use the ledger: {rest}");
        for bytes in 0..page.len() {
            let found = refusal(&page[..bytes], bytes as u64, &SCOPE);
            assert_eq!(found, text("the file is cut short within its head"));
        }
        let found = refusal(&page, length - 1, &SCOPE);
        assert_eq!(found, text("the file is cut short: it has 40959 bytes of 40960"));
        let other = Scope { boot: BootId::new([8; 16]), ..SCOPE };
        let found = refusal(&page, length, &other);
        assert_eq!(found, text("it was made before the machine was started"));
        let other = Scope { instance: "shop", ..SCOPE };
        let found = refusal(&page, length, &other);
        assert_eq!(found, text("it belongs to instance \"shop-0badcafe\""));
        let mut later = page.clone();
        later[8] = 2;
        let found = refusal(&later, length, &SCOPE);
        assert_eq!(found, text("it has version 2, and this program knows 1"));
        let mut huge = page;
        huge[512..520].copy_from_slice(&seal_cell(1 << 20).to_le_bytes());
        assert_eq!(refusal(&huge, length, &SCOPE), text("its number of slots is damaged"));
        assert_eq!(refusal(&[0; 4096], length, &SCOPE), text("it is another kind of file"));
    }

    #[test]
    fn owners_are_told_apart() {
        assert_ne!(owner_cell("web"), owner_cell("web@1"));
        assert_ne!(owner_cell(""), 0);
    }
}
