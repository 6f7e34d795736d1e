//! Which process a run is, beyond its number: a pid can be given again, this cannot.

use keepd_model::Generation;

use super::cell::{open_cell, seal_cell};

/// Two bits say what it is.
const NUMBER_BITS: u32 = 56;
const NUMBER_MAX: u64 = (1 << NUMBER_BITS) - 1;

const NOBODY: u64 = 0;
const AWAITED: u64 = 1;
const INODE: u64 = 2;
const START_TICKS: u64 = 3;

/// What the identity cell of a slot says.
///
/// It is written before the word says that the process runs, each time from the very value that the
/// parent put there for this generation: so a child that was cancelled long ago, and only now goes
/// on, cannot write over the identity of a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// There was no process yet.
    Nobody,
    /// The child of this generation has not said who it is.
    Awaited(Generation),
    /// The inode of its pidfd: no two processes of a boot have the same (Linux 6.9).
    Inode(u64),
    /// When it was started, in clock ticks since boot, for older kernels.
    StartTicks(u64),
}

/// What was found out about a process that has the pid now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The inode of its pidfd, where the kernel has them.
    pub inode: Option<u64>,
    /// When it was started, in clock ticks since boot.
    pub start_ticks: Option<u64>,
}

/// Whether a process is the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// It is.
    Same,
    /// It is another one: the recorded one is gone.
    Other,
    /// Nothing was recorded that could be compared.
    Unknown,
}

impl Identity {
    /// Reads a cell. `None`: it is damaged. A cell of zeros is that of a slot that was never used.
    pub fn from_raw(raw: u64) -> Option<Self> {
        if raw == 0 {
            return Some(Self::Nobody);
        }
        let bits = open_cell(raw)?;
        let number = bits & NUMBER_MAX;
        match bits >> NUMBER_BITS {
            NOBODY => (number == 0).then_some(Self::Nobody),
            AWAITED => Some(Self::Awaited(Generation::new(number))),
            INODE => Some(Self::Inode(number)),
            _ => Some(Self::StartTicks(number)),
        }
    }

    /// Returns what is written into the cell. `None` for a number beyond 56 bits, which no kernel
    /// so far reaches: such a process has no recorded identity.
    pub fn raw(self) -> Option<u64> {
        let (kind, number) = match self {
            Self::Nobody => (NOBODY, 0),
            Self::Awaited(generation) => (AWAITED, generation.get()),
            Self::Inode(number) => (INODE, number),
            Self::StartTicks(number) => (START_TICKS, number),
        };
        (number <= NUMBER_MAX).then(|| seal_cell(kind << NUMBER_BITS | number))
    }

    /// Compares with a process.
    pub fn compare(self, seen: Seen) -> Match {
        let (recorded, found) = match self {
            Self::Nobody | Self::Awaited(_) => return Match::Unknown,
            Self::Inode(number) => (number, seen.inode),
            Self::StartTicks(number) => (number, seen.start_ticks),
        };
        match found {
            Some(number) if number == recorded => Match::Same,
            Some(_) => Match::Other,
            None => Match::Unknown,
        }
    }
}

/// Returns the cell with an inode, for the child between clone and its program: it allocates
/// nothing and locks nothing. 0 if there is none; then the cell stays as it is.
pub fn inode_cell(inode: u64) -> u64 {
    Identity::Inode(inode).raw().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back_and_flipped_bits_are_seen() {
        for identity in [
            Identity::Nobody,
            Identity::Awaited(Generation::new(1)),
            Identity::Awaited(Generation::new(super::super::GENERATION_MAX)),
            Identity::Inode(0),
            Identity::Inode(4711),
            Identity::Inode(NUMBER_MAX),
            Identity::StartTicks(123_456),
        ] {
            let raw = identity.raw().unwrap();
            assert_eq!(Identity::from_raw(raw), Some(identity));
            for bit in 0..64 {
                assert_eq!(Identity::from_raw(raw ^ 1 << bit), None, "{identity:?}, bit {bit}");
            }
        }
        assert_eq!(Identity::from_raw(0), Some(Identity::Nobody));
        assert_eq!(Identity::Inode(NUMBER_MAX + 1).raw(), None);
        assert_eq!(inode_cell(NUMBER_MAX + 1), 0);
        assert_eq!(Identity::from_raw(inode_cell(5)), Some(Identity::Inode(5)));
    }

    #[test]
    fn only_what_was_recorded_is_compared() {
        let seen = Seen { inode: Some(5), start_ticks: Some(9) };
        assert_eq!(Identity::Inode(5).compare(seen), Match::Same);
        assert_eq!(Identity::Inode(9).compare(seen), Match::Other);
        assert_eq!(Identity::StartTicks(9).compare(seen), Match::Same);
        assert_eq!(Identity::StartTicks(5).compare(seen), Match::Other);
        assert_eq!(Identity::Inode(5).compare(Seen::default()), Match::Unknown);
        assert_eq!(Identity::Awaited(Generation::new(5)).compare(seen), Match::Unknown);
        assert_eq!(Identity::Nobody.compare(seen), Match::Unknown);
    }
}
