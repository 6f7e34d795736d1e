//! The journal: what was accepted, record by record, for a successor that replays it.
//!
//! | bytes of the file | what |
//! | --- | --- |
//! | 512 | head: magic `keepdjnl`, version, boot, instance, salt, first number, size of snapshot |
//! | … | records |
//!
//! | bytes of a record | what |
//! | --- | --- |
//! | 4 | length of the text |
//! | 4 | CRC-32C of the salt and of everything here but itself |
//! | 8 | number: one more than that of the record before |
//! | 1 | kind: 1 command, 2 slot, 3 freed, 4 event |
//! | 3 | zero |
//! | … | text |
//!
//! A command or an event is a line of the extended protocol without its line feed, so whatever
//! reads a connection reads the journal. Only commands that define something are recorded
//! (services, attributes, notes); what a start or a stop did stands in the words. Of events it is
//! those that nobody can observe again: which invocation a generation is.
//!
//! The proxy appends before it answers, and then writes the number of the record into the mapped
//! part ("answered"). So at the end of a file two things can be told apart: what was torn by a
//! SIGKILL before it was answered is cut off; what was answered and is not whole is damage, and
//! nothing of the file is trusted.
//!
//! A *compacted* journal is a new file, renamed over the old one. It begins with a snapshot of
//! everything that still holds; its numbers go on where the old ones ended, so the answered number
//! stays right at every instant. The salt (any number that the one before did not have) keeps
//! records of one file from being records of another.

use std::fmt;

use super::checksum::crc32c_of;
use super::layout::SlotNumber;
use super::{
    HEAD_BYTES, HEAD_OWN, HeadError, Scope, begin_head, check_head, seal_head, u32_at, u64_at,
};

const MAGIC: [u8; 8] = *b"keepdjnl";
const SALT_OFFSET: usize = HEAD_OWN;
const FIRST_OFFSET: usize = HEAD_OWN + 8;
const SNAPSHOT_OFFSET: usize = HEAD_OWN + 16;
const RECORD_HEAD_BYTES: usize = 20;

/// The longest text of a record in bytes: a line of the extended protocol.
pub const TEXT_BYTES_MAX: usize = keepd_model::protocol::EXTENDED_LINE_BYTES_MAX;

/// A journal is compacted when it is this much longer than twice its snapshot.
const COMPACTION_SLACK_BYTES: u64 = 64 * 1024;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record<'a> {
    /// This line was accepted.
    Command(&'a [u8]),
    /// The slot is this service's from here on.
    Slot(SlotNumber, &'a str),
    /// The slot is nobody's from here on.
    Freed(SlotNumber),
    /// This line is to be told to a successor.
    Event(&'a [u8]),
}

const COMMAND: u8 = 1;
const SLOT: u8 = 2;
const FREED: u8 = 3;
const EVENT: u8 = 4;

/// The text of a record is longer than [`TEXT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a record of the journal has at most {TEXT_BYTES_MAX} bytes")
    }
}

impl std::error::Error for TooLong {}

/// Where a journal goes on: its salt and the number of its next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    salt: u64,
    next: u64,
}

impl Writer {
    /// Returns a new journal and its writer. `first` is the number of the first record: 1, or one
    /// more than the last of the journal that this one replaces. `salt` is any number that that one
    /// did not have.
    ///
    /// # Errors
    ///
    /// [`HeadError::InstanceTooLong`], [`TooLong`].
    pub fn begin(
        scope: &Scope<'_>,
        salt: u64,
        first: u64,
        snapshot: &[Record<'_>],
    ) -> Result<(Vec<u8>, Self), BeginError> {
        let mut head = begin_head(MAGIC, scope).map_err(BeginError::Head)?;
        head[SALT_OFFSET..SALT_OFFSET + 8].copy_from_slice(&salt.to_le_bytes());
        head[FIRST_OFFSET..FIRST_OFFSET + 8].copy_from_slice(&first.to_le_bytes());
        let count = snapshot.len() as u64;
        head[SNAPSHOT_OFFSET..SNAPSHOT_OFFSET + 8].copy_from_slice(&count.to_le_bytes());
        seal_head(&mut head);
        let mut bytes = head.to_vec();
        let mut writer = Self { salt, next: first };
        for record in snapshot {
            writer.encode(record, &mut bytes).map_err(|TooLong| BeginError::TooLong)?;
        }
        Ok((bytes, writer))
    }

    /// Adds the bytes of the next record and returns its number.
    ///
    /// If they cannot be written, go back to a copy of the writer from before: the number was not
    /// used.
    ///
    /// # Errors
    ///
    /// [`TooLong`]; then nothing was added.
    pub fn encode(&mut self, record: &Record<'_>, bytes: &mut Vec<u8>) -> Result<u64, TooLong> {
        let number;
        let (kind, first, second): (u8, &[u8], &[u8]) = match record {
            Record::Command(line) => (COMMAND, line, &[]),
            Record::Slot(slot, service) => {
                number = slot.0.to_le_bytes();
                (SLOT, &number, service.as_bytes())
            }
            Record::Freed(slot) => {
                number = slot.0.to_le_bytes();
                (FREED, &number, &[])
            }
            Record::Event(line) => (EVENT, line, &[]),
        };
        let length = first.len() + second.len();
        let length = u32::try_from(length).ok().filter(|_| length <= TEXT_BYTES_MAX);
        let length = length.ok_or(TooLong)?.to_le_bytes();
        let sequence = self.next.to_le_bytes();
        let kind = [kind, 0, 0, 0];
        let salt = self.salt.to_le_bytes();
        let sum = crc32c_of(&[&salt, &length, &sequence, &kind, first, second]).to_le_bytes();
        for piece in [&length[..], &sum, &sequence, &kind, first, second] {
            bytes.extend_from_slice(piece);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Returns the number of the next record.
    pub const fn next(&self) -> u64 {
        self.next
    }
}

/// Why there is no new journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginError {
    /// Its head cannot be written.
    Head(HeadError),
    /// A record of the snapshot is too long.
    TooLong,
}

impl fmt::Display for BeginError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot begin a journal: ")?;
        match self {
            Self::Head(error) => error.fmt(formatter),
            Self::TooLong => TooLong.fmt(formatter),
        }
    }
}

impl std::error::Error for BeginError {}

/// Reports whether a journal of this length should be compacted, when a snapshot of what still
/// holds had this length the last time.
pub const fn wants_compaction(file_bytes: u64, snapshot_bytes: u64) -> bool {
    file_bytes > snapshot_bytes.saturating_mul(2).saturating_add(COMPACTION_SLACK_BYTES)
}

/// What was mended; each is a sentence for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The last record was torn before it was answered.
    CutOff {
        /// How much of it there was.
        bytes: u64,
    },
    /// A record is there twice, the same each time; it counts once.
    Repeated {
        /// Its number.
        number: u64,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff { bytes } => write!(
                formatter,
                "The end of the journal ({bytes} bytes) was torn before it was answered, and was \
                 cut off."
            ),
            Self::Repeated { number } => {
                write!(formatter, "Record {number} of the journal was there twice; it counts once.")
            }
        }
    }
}

/// A journal that was read. Before anybody is told of it, its last number is written into the
/// mapped part as answered: from then on it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay<'a> {
    /// What was accepted, in order.
    pub records: Vec<Record<'a>>,
    /// Where it goes on.
    pub writer: Writer,
    /// The file is cut to this length before anything is appended.
    pub sound_bytes: u64,
    /// What was mended.
    pub repairs: Vec<Repair>,
}

/// Why a journal is not used. Nothing of it is replayed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// Its head is not that of this boot and instance.
    Head(HeadError),
    /// A record that was answered, or has others behind it, is damaged.
    Damaged {
        /// Its number.
        number: u64,
    },
    /// Records are missing, at the end or in the middle.
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A record has a number that another one had before it, and says something else.
    OutOfOrder {
        /// Its number.
        number: u64,
    },
    /// A whole record that this version does not write.
    Foreign {
        /// Its number.
        number: u64,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot use the journal: ")?;
        match self {
            Self::Head(error) => error.fmt(formatter),
            Self::Damaged { number } => write!(formatter, "record {number} is damaged"),
            Self::Missing { first, last } if first == last => {
                write!(formatter, "record {first} is missing")
            }
            Self::Missing { first, last } => {
                write!(formatter, "records {first} to {last} are missing")
            }
            Self::OutOfOrder { number } => {
                write!(formatter, "record {number} is there twice, and not the same")
            }
            Self::Foreign { number } => {
                write!(formatter, "record {number} is none that this program writes")
            }
        }
    }
}

impl std::error::Error for JournalError {}

/// A record as it lies in the file.
struct Raw<'a> {
    number: u64,
    kind: u8,
    text: &'a [u8],
    /// The whole record.
    bytes: &'a [u8],
}

/// Reads a journal. `answered` is the number that the mapped part has
/// ([`Header::answered`](super::layout::Header::answered)).
///
/// # Errors
///
/// Everything that is not whole up to the record that was answered last.
pub fn read<'a>(
    bytes: &'a [u8],
    scope: &Scope<'_>,
    answered: u64,
) -> Result<Replay<'a>, JournalError> {
    let head = check_head(bytes, MAGIC, scope).map_err(JournalError::Head)?;
    let salt = u64_at(head, SALT_OFFSET);
    let first = u64_at(head, FIRST_OFFSET);
    // Everything in the snapshot was answered, whatever the mapped part says by now.
    let snapshot_end = first.saturating_add(u64_at(head, SNAPSHOT_OFFSET));
    let needed = snapshot_end.max(answered.saturating_add(1));
    let mut raws: Vec<Raw<'a>> = Vec::new();
    let mut repairs = Vec::new();
    let mut next = first;
    let mut position = HEAD_BYTES;
    while position < bytes.len() {
        let rest = &bytes[position..];
        let Some(raw) = whole_record(rest, salt) else {
            if next < needed || has_later_record(&rest[1..], salt, next) {
                return Err(JournalError::Damaged { number: next });
            }
            repairs.push(Repair::CutOff { bytes: rest.len() as u64 });
            break;
        };
        position += raw.bytes.len();
        if raw.number > next {
            return Err(JournalError::Missing { first: next, last: raw.number - 1 });
        }
        if raw.number == next {
            next += 1;
            raws.push(raw);
            continue;
        }
        let number = raw.number;
        let earlier = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        match earlier.and_then(|index| raws.get(index)) {
            Some(earlier) if earlier.bytes == raw.bytes => {
                repairs.push(Repair::Repeated { number });
            }
            Some(_) | None => return Err(JournalError::OutOfOrder { number }),
        }
    }
    if next < needed {
        return Err(JournalError::Missing { first: next, last: needed - 1 });
    }
    let records: Result<Vec<Record<'a>>, JournalError> = raws
        .iter()
        .map(|raw| meaning(raw).ok_or(JournalError::Foreign { number: raw.number }))
        .collect();
    let sound_bytes = position as u64;
    Ok(Replay { records: records?, writer: Writer { salt, next }, sound_bytes, repairs })
}

/// Returns the record that the bytes begin with, if its sum is right.
fn whole_record(bytes: &[u8], salt: u64) -> Option<Raw<'_>> {
    let head = bytes.first_chunk::<RECORD_HEAD_BYTES>()?;
    let length = usize::try_from(u32_at(head, 0)).ok()?;
    if length > TEXT_BYTES_MAX {
        return None;
    }
    let whole = bytes.get(..RECORD_HEAD_BYTES + length)?;
    let salt = salt.to_le_bytes();
    if crc32c_of(&[&salt, &whole[..4], &whole[8..]]) != u32_at(head, 4) {
        return None;
    }
    let text = &whole[RECORD_HEAD_BYTES..];
    Some(Raw { number: u64_at(head, 8), kind: head[16], text, bytes: whole })
}

/// Reports whether a whole record follows somewhere: then what is broken before it is no torn end.
fn has_later_record(bytes: &[u8], salt: u64, next: u64) -> bool {
    let count_max = (bytes.len() / RECORD_HEAD_BYTES) as u64;
    (0..bytes.len()).any(|position| {
        let rest = &bytes[position..];
        // The numbers are looked at first: a sum over up to 1 MiB at every byte would take hours.
        let is_plausible = rest.first_chunk::<RECORD_HEAD_BYTES>().is_some_and(|head| {
            let number = u64_at(head, 8);
            number >= next && number - next <= count_max && head[17..] == [0; 3]
        });
        is_plausible && whole_record(rest, salt).is_some()
    })
}

/// Returns what a record says.
fn meaning<'a>(raw: &Raw<'a>) -> Option<Record<'a>> {
    match raw.kind {
        COMMAND => return Some(Record::Command(raw.text)),
        EVENT => return Some(Record::Event(raw.text)),
        _ => {}
    }
    let (number, rest) = raw.text.split_first_chunk::<4>()?;
    let number = u32::from_le_bytes(*number);
    match raw.kind {
        SLOT => Some(Record::Slot(SlotNumber(number), std::str::from_utf8(rest).ok()?)),
        FREED if rest.is_empty() => Some(Record::Freed(SlotNumber(number))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::BootId;
    use super::*;

    const SCOPE: Scope<'static> = Scope { boot: BootId::new([7; 16]), instance: "shop-0badcafe" };
    const RECORDS: [Record<'static>; 7] = [
        Record::Slot(SlotNumber(0), "web"),
        Record::Command(b"service.args\tweb\t/bin/webd\t--port\t80"),
        Record::Command(b""),
        Record::Event(b"service.invocation\tweb\t1\tabc"),
        Record::Event(b""),
        Record::Freed(SlotNumber(0)),
        Record::Command(b"service.note\tweb\trecord\t\xFF\x00"),
    ];

    /// A journal with a snapshot of two records and five after it, and where each record begins.
    fn journal() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut writer) = Writer::begin(&SCOPE, 99, 5, &RECORDS[..2]).unwrap();
        let mut starts = vec![HEAD_BYTES];
        let (begun, _) = Writer::begin(&SCOPE, 99, 5, &RECORDS[..1]).unwrap();
        starts.push(begun.len());
        for (record, number) in RECORDS[2..].iter().zip(7..) {
            starts.push(bytes.len());
            assert_eq!(writer.encode(record, &mut bytes), Ok(number));
        }
        (bytes, starts)
    }

    #[test]
    fn what_was_written_is_read_and_goes_on() {
        let (mut bytes, _) = journal();
        let replay = read(&bytes, &SCOPE, 11).unwrap();
        assert_eq!(replay.records, RECORDS);
        assert_eq!((replay.sound_bytes, replay.repairs.len()), (bytes.len() as u64, 0));
        let mut writer = replay.writer;
        assert_eq!(writer.encode(&Record::Command(b"echo"), &mut bytes), Ok(12));
        let replay = read(&bytes, &SCOPE, 12).unwrap();
        assert_eq!(replay.records.last(), Some(&Record::Command(b"echo")));
        assert_eq!(replay.writer.next(), 13);
        let (empty, _) = Writer::begin(&SCOPE, 1, 1, &[]).unwrap();
        assert_eq!(read(&empty, &SCOPE, 0).unwrap().records, []);
    }

    #[test]
    fn a_file_cut_anywhere_loses_nothing_that_was_answered() {
        let (bytes, starts) = journal();
        for length in 0..bytes.len() {
            let complete = starts[1..].iter().filter(|start| **start <= length).count();
            for answered in 0..=11 {
                let found = read(&bytes[..length], &SCOPE, answered);
                let needed = (answered as usize).saturating_sub(4).max(2);
                if length < HEAD_BYTES {
                    assert_eq!(found, Err(JournalError::Head(HeadError::Short)));
                } else if complete < needed {
                    assert!(
                        matches!(
                            found,
                            Err(JournalError::Missing { .. } | JournalError::Damaged { .. })
                        ),
                        "{length} bytes, {answered} answered: {found:?}"
                    );
                } else {
                    let replay = found.unwrap();
                    assert_eq!(replay.records, RECORDS[..complete]);
                    let torn = length - replay.sound_bytes as usize;
                    let expected = (torn > 0).then_some(Repair::CutOff { bytes: torn as u64 });
                    assert_eq!(replay.repairs, Vec::from_iter(expected));
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_something_else() {
        let (bytes, starts) = journal();
        let last = *starts.last().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged, &SCOPE, 11).is_err(), "bit {bit}");
            match read(&damaged, &SCOPE, 10) {
                Ok(replay) => {
                    assert!(bit / 8 >= last, "bit {bit}");
                    assert_eq!(replay.records, RECORDS[..6]);
                    assert_eq!(replay.sound_bytes, last as u64);
                }
                Err(_) => assert!(bit / 8 < last, "bit {bit}"),
            }
        }
    }

    #[test]
    fn records_of_others_are_no_records() {
        let (bytes, starts) = journal();
        let (mut other, _) = Writer::begin(&SCOPE, 100, 5, &RECORDS[..2]).unwrap();
        let sound = other.len();
        other.extend_from_slice(&bytes[starts[2]..]);
        let replay = read(&other, &SCOPE, 6).unwrap();
        assert_eq!((replay.records.len(), replay.sound_bytes), (2, sound as u64));
    }

    #[test]
    fn repeated_records_count_once_and_others_out_of_order_are_refused() {
        let (bytes, starts) = journal();
        let piece = |index: usize| &bytes[starts[index]..starts[index + 1]];
        let twice = [&bytes[..starts[4]], piece(3), piece(2), &bytes[starts[4]..]].concat();
        let replay = read(&twice, &SCOPE, 11).unwrap();
        assert_eq!(replay.records, RECORDS);
        let repeated = [8, 7].map(|number| Repair::Repeated { number });
        assert_eq!(replay.repairs, repeated);
        let swapped = [&bytes[..starts[3]], piece(4), piece(3), &bytes[starts[5]..]].concat();
        let missing = JournalError::Missing { first: 8, last: 8 };
        assert_eq!(read(&swapped, &SCOPE, 11), Err(missing.clone()));
        let without = [&bytes[..starts[3]], &bytes[starts[4]..]].concat();
        assert_eq!(read(&without, &SCOPE, 0), Err(missing));
        let mut changed = bytes[..starts[4]].to_vec();
        let mut writer = Writer { salt: 99, next: 7 };
        writer.encode(&Record::Command(b"another"), &mut changed).unwrap();
        let out_of_order = JournalError::OutOfOrder { number: 7 };
        assert_eq!(read(&changed, &SCOPE, 0), Err(out_of_order));
        let mut before = bytes;
        let mut writer = Writer { salt: 99, next: 4 };
        writer.encode(&Record::Command(b"before the first"), &mut before).unwrap();
        let out_of_order = JournalError::OutOfOrder { number: 4 };
        assert_eq!(read(&before, &SCOPE, 0), Err(out_of_order));
    }

    #[test]
    fn foreign_records_are_refused() {
        let (bytes, _) = journal();
        for (kind, text) in [(5, &b"abcd"[..]), (0, b""), (SLOT, b"abc"), (FREED, b"abcde")] {
            let mut file = bytes.clone();
            let length = (text.len() as u32).to_le_bytes();
            let rest = [&12_u64.to_le_bytes()[..], &[kind, 0, 0, 0], text].concat();
            let sum = crc32c_of(&[&99_u64.to_le_bytes(), &length, &rest]).to_le_bytes();
            file.extend_from_slice(&[&length[..], &sum, &rest].concat());
            assert_eq!(read(&file, &SCOPE, 11), Err(JournalError::Foreign { number: 12 }));
        }
    }

    #[test]
    fn files_of_others_are_refused_with_a_sentence() {
        let (bytes, _) = journal();
        let refusal = |bytes: &[u8], scope: &Scope<'_>| {
            let text = read(bytes, scope, 0).unwrap_err().to_string();
            text.strip_prefix("cannot use the journal: ").unwrap().to_owned()
        };
        let other = Scope { boot: BootId::new([8; 16]), ..SCOPE };
        assert_eq!(refusal(&bytes, &other), "it was made before the machine was started");
        let other = Scope { instance: "shop", ..SCOPE };
        assert_eq!(refusal(&bytes, &other), "it belongs to instance \"shop-0badcafe\"");
        let mut later = bytes.clone();
        later[8] = 9;
        assert_eq!(refusal(&later, &SCOPE), "it has version 9, and this program knows 1");
        assert_eq!(refusal(&bytes[..HEAD_BYTES], &SCOPE), "records 5 to 6 are missing");
    }

    #[test]
    fn long_texts_are_refused_and_lengths_are_bounded() {
        let (mut bytes, mut writer) = Writer::begin(&SCOPE, 1, 1, &[]).unwrap();
        let before = bytes.len();
        let long = vec![b'x'; TEXT_BYTES_MAX + 1];
        assert_eq!(writer.encode(&Record::Command(&long), &mut bytes), Err(TooLong));
        assert_eq!(writer.encode(&Record::Event(&long), &mut bytes), Err(TooLong));
        assert_eq!((bytes.len(), writer.next()), (before, 1));
        assert_eq!(writer.encode(&Record::Command(&long[1..]), &mut bytes), Ok(1));
        assert_eq!(read(&bytes, &SCOPE, 1).unwrap().records, [Record::Command(&long[1..])]);
        let error = Writer::begin(&SCOPE, 1, 1, &[Record::Command(&long)]).unwrap_err();
        assert!(error.to_string().starts_with("cannot begin a journal: a record"));
    }

    #[test]
    fn a_journal_is_compacted_when_most_of_it_is_history() {
        assert!(!wants_compaction(64 * 1024, 0));
        assert!(wants_compaction(64 * 1024 + 1, 0));
        assert!(!wants_compaction(1_000_000, 500_000));
        assert!(wants_compaction(1_100_000, 500_000));
    }
}
