//! What the ledger needs of the kernel: cells that many processes share, processes that are told
//! apart for ever, and a file that is appended to whole or not at all.
//!
//! The format is `keepd_wire::ledger`, which this crate does not know: it moves cells and bytes.
//!
//! Start from [`Mapping`] (the cells), [`ChildRecord`] (what a child does before its program),
//! [`examine`] (what became of a process that is held by a pidfd) and [`JournalFile`].

mod child;
mod facilities;
mod journal;
mod mapping;
mod presence;
mod private;

pub use child::{ChildRecord, RecordError};
pub use facilities::{Facility, MISSING_PIDFDS_HINT, facilities, is_in_memory, require_pidfds};
pub use journal::{JOURNAL_BYTES_MAX, JournalFile};
pub use mapping::{CELL_BYTES, Cell, Mapping};
#[cfg(feature = "seccomp")]
pub(crate) use presence::PIDFD_GET_INFO;
pub use presence::{Presence, examine, exit_of, has_inodes, inode, is_consumed};
