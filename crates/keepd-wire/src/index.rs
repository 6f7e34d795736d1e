//! Records of a log index: which bytes of a stream were written when, and by which run.
//!
//! An index file is a row of records and nothing else. Each record says what it is and has a
//! checksum, so a file cut anywhere, or with a torn record in the middle, loses that record alone.
//!
//! | bytes | what | from to |
//! | --- | --- | --- |
//! | 4 | magic `kidx` | 0–3 |
//! | 1 | version: 1 | 4 |
//! | 1 | kind: 1 chunk, 2 start | 5 |
//! | 1 | stream: 1 out, 2 err | 6 |
//! | 1 | reserved, 0 | 7 |
//! | 8 | logical offset of the first byte | 8–15 |
//! | 8 | generation | 16–23 |
//! | 8 | monotonic time in ns | 24–31 |
//! | 8 | wall time in ns since 1970 | 32–39 |
//! | 4 | length in bytes | 40–43 |
//! | 4 | CRC-32 (IEEE 802.3) of bytes 0–43 | 44–47 |
//!
//! Numbers are little endian. Numbers of kinds and streams are never reused.
//!
//! # History
//!
//! | version | since | what it is |
//! | --- | --- | --- |
//! | 1 | keepd 0.1 | chunk (1), start (2); out (1), err (2) |

use std::fmt;
use std::time::Duration;

use keepd_model::protocol::Stream;
use keepd_model::{Generation, Instant};

/// The size of a record in bytes.
pub const RECORD_BYTES: usize = 48;

/// What a record begins with.
const MAGIC: [u8; 4] = *b"kidx";
/// The version of the record.
const VERSION: u8 = 1;
/// How many bytes the checksum covers.
const CHECKED_BYTES: usize = RECORD_BYTES - 4;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IndexKind {
    /// These bytes were written at this time.
    Chunk = 1,
    /// The border between two runs: what follows this offset is of this generation. Its length is
    /// 0.
    Start = 2,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexRecord {
    /// What it says.
    pub kind: IndexKind,
    /// About which stream.
    pub stream: Stream,
    /// Logical offset of the first byte: bytes since the stream began, however often files were
    /// rotated.
    pub offset: u64,
    /// How many bytes.
    pub length_bytes: u32,
    /// Whose output it is.
    pub generation: Generation,
    /// When, for distances.
    pub monotonic: Instant,
    /// When, for people: time since 1970-01-01 00:00 UTC. Cut to 64 bits of nanoseconds (the year
    /// 2554).
    pub wall: Duration,
}

/// Why bytes are no record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexError {
    /// They do not begin with the magic.
    Magic,
    /// They are damaged: the checksum is another one.
    Checksum,
    /// A whole record, of a version that this program does not know.
    Version(u8),
    /// A whole record, of a kind that this program does not know.
    Kind(u8),
    /// A whole record, of a stream that this program does not know.
    Stream(u8),
}

impl fmt::Display for IndexError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(formatter, "these bytes are no index record"),
            Self::Checksum => write!(formatter, "the index record is damaged"),
            Self::Version(number) => {
                write!(formatter, "the index record has unknown version {number}")
            }
            Self::Kind(number) => write!(formatter, "the index record has unknown kind {number}"),
            Self::Stream(number) => {
                write!(formatter, "the index record has unknown stream {number}")
            }
        }
    }
}

impl std::error::Error for IndexError {}

/// Returns the bytes of a record.
pub fn encode_record(record: &IndexRecord) -> [u8; RECORD_BYTES] {
    let wall_ns = u64::try_from(record.wall.as_nanos()).unwrap_or(u64::MAX);
    let mut bytes = [0; RECORD_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4] = VERSION;
    bytes[5] = record.kind as u8;
    bytes[6] = stream_number(record.stream);
    bytes[8..16].copy_from_slice(&record.offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.generation.get().to_le_bytes());
    bytes[24..32].copy_from_slice(&record.monotonic.as_nanos().to_le_bytes());
    bytes[32..40].copy_from_slice(&wall_ns.to_le_bytes());
    bytes[40..44].copy_from_slice(&record.length_bytes.to_le_bytes());
    let checksum = crc32(&bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads a record.
///
/// # Errors
///
/// Returns whether the bytes are damaged, or whole but from a later version. The reserved byte is
/// not looked at, so a later version may give it a meaning that can be ignored.
pub fn decode_record(bytes: &[u8; RECORD_BYTES]) -> Result<IndexRecord, IndexError> {
    if bytes[0..4] != MAGIC {
        return Err(IndexError::Magic);
    }
    if crc32(&bytes[..CHECKED_BYTES]) != number_u32(bytes, CHECKED_BYTES) {
        return Err(IndexError::Checksum);
    }
    if bytes[4] != VERSION {
        return Err(IndexError::Version(bytes[4]));
    }
    Ok(IndexRecord {
        kind: match bytes[5] {
            1 => IndexKind::Chunk,
            2 => IndexKind::Start,
            other => return Err(IndexError::Kind(other)),
        },
        stream: match bytes[6] {
            1 => Stream::Out,
            2 => Stream::Err,
            other => return Err(IndexError::Stream(other)),
        },
        offset: number_u64(bytes, 8),
        length_bytes: number_u32(bytes, 40),
        generation: Generation::new(number_u64(bytes, 16)),
        monotonic: Instant::from_nanos(number_u64(bytes, 24)),
        wall: Duration::from_nanos(number_u64(bytes, 32)),
    })
}

/// Reads a whole index file. Returns the records in order, and how many were lost to damage.
///
/// Damage is skipped to the next bytes that are a whole record, wherever they are: a torn write
/// moves everything after it off the grid of record sizes. Lost records are counted by their size,
/// a part of one as one. Whole records of a kind from a later version are skipped and not counted.
pub fn decode_all(bytes: &[u8]) -> (Vec<IndexRecord>, usize) {
    let mut records = Vec::with_capacity(bytes.len() / RECORD_BYTES);
    let mut damaged = 0;
    let mut damaged_from = None;
    let mut position = 0;
    while let Some(window) = bytes[position..].first_chunk::<RECORD_BYTES>() {
        let whole = match decode_record(window) {
            Ok(record) => {
                records.push(record);
                true
            }
            Err(IndexError::Version(_) | IndexError::Kind(_) | IndexError::Stream(_)) => true,
            Err(IndexError::Magic | IndexError::Checksum) => false,
        };
        if whole {
            damaged += lost_records(damaged_from.take(), position);
            position += RECORD_BYTES;
        } else {
            damaged_from.get_or_insert(position);
            position += 1;
        }
    }
    let tail_from = damaged_from.or((position < bytes.len()).then_some(position));
    damaged += lost_records(tail_from, bytes.len());
    (records, damaged)
}

fn lost_records(from: Option<usize>, to: usize) -> usize {
    from.map_or(0, |from| (to - from).div_ceil(RECORD_BYTES))
}

const fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::Out => 1,
        Stream::Err => 2,
    }
}

fn number_u64(bytes: &[u8; RECORD_BYTES], at: usize) -> u64 {
    let field = bytes[at..].first_chunk().expect("every field lies within the record");
    u64::from_le_bytes(*field)
}

fn number_u32(bytes: &[u8; RECORD_BYTES], at: usize) -> u32 {
    let field = bytes[at..].first_chunk().expect("every field lies within the record");
    u32::from_le_bytes(*field)
}

/// How many bytes one step of the checksum takes, each through a table of its own: who reads a long
/// index checks millions of records.
const STEP_BYTES: usize = 4;

/// What becomes of a byte that is followed by so many others of its step.
const CRC_TABLES: [[u32; 256]; STEP_BYTES] = crc_tables();

const fn crc_tables() -> [[u32; 256]; STEP_BYTES] {
    let mut tables = [[0; 256]; STEP_BYTES];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let low_bit_mask = (remainder & 1).wrapping_neg();
            remainder = (remainder >> 1) ^ (0xEDB8_8320 & low_bit_mask);
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut distance = 1;
    while distance < STEP_BYTES {
        let mut byte = 0;
        while byte < 256 {
            let nearer = tables[distance - 1][byte];
            tables[distance][byte] = (nearer >> 8) ^ tables[0][(nearer & 0xFF) as usize];
            byte += 1;
        }
        distance += 1;
    }
    tables
}

/// CRC-32 of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    let mut steps = bytes.chunks_exact(STEP_BYTES);
    for step in &mut steps {
        let [a, b, c, d] = remainder.to_le_bytes();
        remainder = CRC_TABLES[3][usize::from(a ^ step[0])]
            ^ CRC_TABLES[2][usize::from(b ^ step[1])]
            ^ CRC_TABLES[1][usize::from(c ^ step[2])]
            ^ CRC_TABLES[0][usize::from(d ^ step[3])];
    }
    for byte in steps.remainder() {
        let [low, ..] = remainder.to_le_bytes();
        remainder = (remainder >> 8) ^ CRC_TABLES[0][usize::from(low ^ byte)];
    }
    !remainder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> IndexRecord {
        IndexRecord {
            kind: if number.is_multiple_of(5) { IndexKind::Start } else { IndexKind::Chunk },
            stream: if number.is_multiple_of(2) { Stream::Out } else { Stream::Err },
            offset: number.wrapping_mul(0x0123_4567_89AB_CDEF),
            length_bytes: number as u32,
            generation: Generation::new(number),
            monotonic: Instant::from_nanos(u64::MAX - number),
            wall: Duration::from_nanos(1_700_000_000_000_000_000 + number),
        }
    }

    fn file(records: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let records = records.into_iter().map(record);
        records.flat_map(|record| encode_record(&record)).collect()
    }

    fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<IndexRecord> {
        numbers.into_iter().map(record).collect()
    }

    /// Makes the checksum right again after a change.
    fn seal(bytes: &mut [u8; RECORD_BYTES]) {
        let checksum = crc32(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"1234567"), 0x5003_699F);
    }

    #[test]
    fn the_layout_is_pinned() {
        let bytes = encode_record(&IndexRecord {
            kind: IndexKind::Start,
            stream: Stream::Err,
            offset: 0x0807_0605_0403_0201,
            length_bytes: 0x2423_2221,
            generation: Generation::new(3),
            monotonic: Instant::from_nanos(4),
            wall: Duration::from_nanos(5),
        });
        let expected: [u8; CHECKED_BYTES] = [
            b'k', b'i', b'd', b'x', 1, 2, 2, 0, // magic, version, kind, stream, reserved
            1, 2, 3, 4, 5, 6, 7, 8, // offset
            3, 0, 0, 0, 0, 0, 0, 0, // generation
            4, 0, 0, 0, 0, 0, 0, 0, // monotonic
            5, 0, 0, 0, 0, 0, 0, 0, // wall
            0x21, 0x22, 0x23, 0x24, // length
        ];
        assert_eq!(bytes[..CHECKED_BYTES], expected);
    }

    #[test]
    fn records_come_back_as_they_were() {
        for number in 0..1000 {
            let record = record(number);
            assert_eq!(decode_record(&encode_record(&record)), Ok(record));
        }
        assert_eq!(decode_all(&file(0..1000)), (records(0..1000), 0));
        assert_eq!(decode_all(b""), (Vec::new(), 0));
    }

    #[test]
    fn every_single_bit_of_damage_is_seen() {
        let whole = encode_record(&record(7));
        for bit in 0..RECORD_BYTES * 8 {
            let mut damaged = whole;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_record(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_loses_only_its_tail() {
        let whole = file(0..4);
        for length in 0..whole.len() {
            let complete = length / RECORD_BYTES;
            let cut = usize::from(length % RECORD_BYTES != 0);
            let expected = (records(0..complete as u64), cut);
            assert_eq!(decode_all(&whole[..length]), expected, "{length} bytes");
        }
    }

    #[test]
    fn damage_in_the_middle_loses_only_what_it_hit() {
        let mut damaged = file(0..6);
        damaged[RECORD_BYTES * 2 + 9] ^= 0x40;
        damaged[RECORD_BYTES * 3] = 0;
        assert_eq!(decode_all(&damaged), (records([0, 1, 4, 5]), 2));
    }

    #[test]
    fn a_torn_record_that_was_written_over_loses_only_itself() {
        for torn_bytes in 1..RECORD_BYTES {
            let torn = &file([2])[..torn_bytes];
            let bytes = [&file(0..2), torn, &file(3..6)].concat();
            let expected = (records([0, 1, 3, 4, 5]), 1);
            assert_eq!(decode_all(&bytes), expected, "{torn_bytes} bytes");
        }
    }

    #[test]
    fn whole_records_of_a_later_version_are_skipped_and_are_no_damage() {
        let later = |at: usize, number: u8| {
            let mut bytes = encode_record(&record(1));
            bytes[at] = number;
            seal(&mut bytes);
            bytes
        };
        assert_eq!(decode_record(&later(4, 2)), Err(IndexError::Version(2)));
        assert_eq!(decode_record(&later(5, 9)), Err(IndexError::Kind(9)));
        assert_eq!(decode_record(&later(6, 0)), Err(IndexError::Stream(0)));
        assert!(decode_record(&later(7, 1)).is_ok(), "the byte is reserved");
        let bytes = [&file([0]), &later(5, 9)[..], &file([2])].concat();
        assert_eq!(decode_all(&bytes), (records([0, 2]), 0));
    }
}
