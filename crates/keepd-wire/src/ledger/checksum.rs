//! CRC-32C (Castagnoli, as in iSCSI and ext4).

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let low_bit_mask = (remainder & 1).wrapping_neg();
            remainder = (remainder >> 1) ^ (0x82F6_3B78 & low_bit_mask);
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// Returns the checksum of bytes.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_of(&[bytes])
}

/// Returns the checksum of pieces, as if they were one.
pub(super) fn crc32c_of(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().flat_map(|piece| piece.iter());
    !bytes.fold(u32::MAX, |remainder, byte| {
        let [low, ..] = remainder.to_le_bytes();
        (remainder >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c_of(&[b"1234", b"", b"56789"]), crc32c(b"123456789"));
    }
}
