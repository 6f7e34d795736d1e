//! A number of 58 bits in a cell of 64: the rest is a check, so that no single flipped bit goes
//! unseen.

use super::word::{CHECK_BITS, check};

/// The highest number that a cell can hold.
pub const CELL_NUMBER_MAX: u64 = u64::MAX >> CHECK_BITS;

/// Returns the cell that holds a number; one that is too large is cut to [`CELL_NUMBER_MAX`].
pub const fn seal_cell(number: u64) -> u64 {
    let number = if number > CELL_NUMBER_MAX { CELL_NUMBER_MAX } else { number };
    number << CHECK_BITS | check(number)
}

/// Returns the number in a cell, or `None` if the cell is damaged. A cell that was never written
/// (0) is damaged, too.
pub const fn open_cell(cell: u64) -> Option<u64> {
    let number = cell >> CHECK_BITS;
    if number << CHECK_BITS | check(number) == cell { Some(number) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_and_flipped_bits_are_seen() {
        for number in [0, 1, 2, 63, 64, 4711, u64::from(u32::MAX), CELL_NUMBER_MAX] {
            let cell = seal_cell(number);
            assert_eq!(open_cell(cell), Some(number));
            for bit in 0..64 {
                assert_eq!(open_cell(cell ^ 1 << bit), None, "bit {bit} of {number}");
            }
        }
        assert_eq!(open_cell(0), None);
        assert_eq!(open_cell(seal_cell(u64::MAX)), Some(CELL_NUMBER_MAX));
    }
}
