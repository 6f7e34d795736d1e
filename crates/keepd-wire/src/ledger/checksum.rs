//! CRC-32C (Castagnoli, as in iSCSI and ext4).

/// What four bytes are worth that have three, two, one and no byte behind them: with them, four are
/// added at once, and a successor is not kept waiting by the sums of a long journal.
const TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let low_bit_mask = (remainder & 1).wrapping_neg();
            remainder = (remainder >> 1) ^ (0x82F6_3B78 & low_bit_mask);
            bit += 1;
        }
        tables[3][byte] = remainder;
        byte += 1;
    }
    let mut table = 3;
    while table > 0 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table][byte];
            tables[table - 1][byte] = (before >> 8) ^ tables[3][(before & 0xFF) as usize];
            byte += 1;
        }
        table -= 1;
    }
    tables
}

/// Returns the checksum of bytes.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_of(&[bytes])
}

/// Returns the checksum of pieces, as if they were one.
pub(super) fn crc32c_of(pieces: &[&[u8]]) -> u32 {
    !pieces.iter().fold(u32::MAX, |remainder, piece| add(remainder, piece))
}

fn add(remainder: u32, bytes: &[u8]) -> u32 {
    let [first, second, third, fourth] = &TABLES;
    let (words, rest) = bytes.as_chunks::<4>();
    let remainder = words.iter().fold(remainder, |remainder, word| {
        let [a, b, c, d] = (remainder ^ u32::from_le_bytes(*word)).to_le_bytes().map(usize::from);
        first[a] ^ second[b] ^ third[c] ^ fourth[d]
    });
    rest.iter().fold(remainder, |remainder, byte| {
        let [low, ..] = remainder.to_le_bytes();
        (remainder >> 8) ^ fourth[usize::from(low ^ byte)]
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
        for cut in 0..=9 {
            let (first, second) = b"123456789".split_at(cut);
            assert_eq!(crc32c_of(&[first, b"", second]), 0xE306_9283);
        }
    }
}
