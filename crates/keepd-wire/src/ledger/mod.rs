//! The ledger: what a successor must know, in a form that is right after a SIGKILL at any
//! instruction.
//!
//! It has two files in the run folder, both worth something for one boot of one instance only:
//!
//! - the **mapped part** ([`layout`]): for each service one slot with a [`Word`]
//!   (`generation | pid or outcome | state`), the [`Identity`] of its process and a [`ring`] of
//!   outcomes that nobody has acknowledged yet. It is shared memory: each 64-bit cell changes at
//!   once or not at all, and every change is one compare-and-exchange of a named transition;
//! - the **journal** ([`journal`]): the accepted definitions, as records that are appended before
//!   the command is answered.
//!
//! This module is the format and the decisions ([`decide`]) and nothing else. Who maps, appends and
//! asks the kernel is `keepd_os::ledger`. The reasons are in `docs/design/0009-ledger.md`.
//!
//! # Who may write what, and when
//!
//! The *parent* is whoever cloned the child; the *keepers* are warden and proxy.
//!
//! | cell | change | by whom | when |
//! | --- | --- | --- | --- |
//! | owner | of nobody → of a service | proxy | the slot is in the journal, the word is unused |
//! | word | unused → down(0) | proxy | after the owner |
//! | identity | anything → awaited(g) | parent | before the intent of g |
//! | word | down(g-1) → intent(g) | parent | there is room in the ring for g; before the clone |
//! | identity | awaited(g) → inode | child of g | before it records itself |
//! | identity | awaited(g) → start ticks | parent | after the clone, where there are no inodes |
//! | word | intent(g) → run(g, pid) | child of g | before its program; it must end if this fails |
//! | word | intent(g), run(g) → failed(g) | child of g, or its parent | no program will run |
//! | word | intent(g), run(g) → ended(g) | its parent | it saw the zombie, which is still there |
//! | word | run(g) → ended(g) | a keeper | its pidfd says that the process is gone |
//! | word | intent(g) → cancelled(g) | warden | the parent is dead; before there is a new proxy |
//! | ring | room → outcome of g | a keeper | the word holds that outcome |
//! | word | ended, failed, cancelled(g) → down(g) | a keeper | the outcome is in the ring |
//! | ring | outcome of g → down(g) | proxy | it was acknowledged |
//! | all but owner | → zeros | proxy | the word is down, the journal says that the slot is free |
//! | owner | of a service → of nobody, or retired | proxy | the slot is zeros otherwise |
//!
//! Every change expects the very value that it replaces. Who loses such a race looks again, and
//! never writes over what is there. [`keeper`] is this table, but for what the child does
//! (`keepd_os::ledger::ChildRecord`).
//!
//! A slot in which a generation was cancelled is *retired* instead of given to another service: the
//! cancelled child may be stopped for any time, and then find an intent that looks like its own.
//!
//! # History
//!
//! Numbers are little endian, and never reused. Another version is refused, not guessed.
//!
//! | version | since | what it is |
//! | --- | --- | --- |
//! | 1 | keepd 0.1 | mapped part and journal as here |

mod cell;
mod checksum;
mod decide;
mod identity;
pub mod journal;
pub mod keeper;
pub mod layout;
pub mod ring;
mod word;

pub use cell::{CELL_NUMBER_MAX, open_cell, seal_cell};
pub use decide::{Decision, Doubt, Found, decide};
pub use identity::{Identity, Match, Seen, inode_cell};
pub use word::{GENERATION_MAX, Outcome, PID_MAX, State, Word, WordError, failed_word, run_word};

use std::fmt;

/// The version of both files.
pub const VERSION: u32 = 1;

/// The longest name of an instance that the headers hold, in bytes.
pub const INSTANCE_BYTES_MAX: usize = 255;

/// `/proc/sys/kernel/random/boot_id`: tells one boot of a machine from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId([u8; 16]);

impl BootId {
    /// Returns the boot with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the text of the kernel: 32 hexadecimal digits, with dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut count = 0;
        for character in text.trim_end().chars().filter(|character| *character != '-') {
            let digit = u8::try_from(character.to_digit(16)?).ok()?;
            let byte: &mut u8 = bytes.get_mut(count / 2)?;
            *byte = *byte << 4 | digit;
            count += 1;
        }
        (count == 32).then_some(Self(bytes))
    }

    /// Returns the bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Whose ledger a file is. Only one of the same boot and the same instance is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The boot: process ids and inodes mean something until the next one.
    pub boot: BootId,
    /// The instance.
    pub instance: &'a str,
}

/// Why the head of a file is not the one that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The name of the instance is longer than [`INSTANCE_BYTES_MAX`]; only when writing.
    InstanceTooLong,
    /// The file is shorter than a head.
    Short,
    /// It does not begin with the magic.
    Magic,
    /// It is damaged: the checksum is another one.
    Checksum,
    /// It is whole, of a version that this program does not know.
    Version(u32),
    /// It is whole, and was made before the machine was started.
    Boot,
    /// It is whole, and belongs to this other instance.
    Instance(String),
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstanceTooLong => write!(
                formatter,
                "the name of the instance has more than {INSTANCE_BYTES_MAX} bytes"
            ),
            Self::Short => write!(formatter, "the file is cut short within its head"),
            Self::Magic => write!(formatter, "it is another kind of file"),
            Self::Checksum => write!(formatter, "its head is damaged"),
            Self::Version(number) => {
                write!(formatter, "it has version {number}, and this program knows {VERSION}")
            }
            Self::Boot => write!(formatter, "it was made before the machine was started"),
            Self::Instance(name) => write!(formatter, "it belongs to instance {name:?}"),
        }
    }
}

impl std::error::Error for HeadError {}

/// The common beginning of both heads: magic (8), version (4), zero (4), boot (16), length of the
/// instance (2), instance (255), zero. What follows is the file's own.
const HEAD_BYTES: usize = 512;
/// Where the own part of a head begins.
const HEAD_OWN: usize = 304;
/// Where its checksum is: CRC-32C of all bytes before.
const HEAD_CHECKSUM: usize = HEAD_BYTES - 4;

/// Writes the common part of a head; the own part is added, then [`seal_head`] closes it.
fn begin_head(magic: [u8; 8], scope: &Scope<'_>) -> Result<[u8; HEAD_BYTES], HeadError> {
    let instance = scope.instance.as_bytes();
    if instance.len() > INSTANCE_BYTES_MAX {
        return Err(HeadError::InstanceTooLong);
    }
    let length = u16::try_from(instance.len()).map_err(|_| HeadError::InstanceTooLong)?;
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&magic);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[16..32].copy_from_slice(&scope.boot.bytes());
    head[32..34].copy_from_slice(&length.to_le_bytes());
    head[34..34 + instance.len()].copy_from_slice(instance);
    Ok(head)
}

fn seal_head(head: &mut [u8; HEAD_BYTES]) {
    let sum = checksum::crc32c(&head[..HEAD_CHECKSUM]);
    head[HEAD_CHECKSUM..].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a head. The version comes before the checksum, which another version may have elsewhere.
fn check_head<'b>(
    bytes: &'b [u8],
    magic: [u8; 8],
    scope: &Scope<'_>,
) -> Result<&'b [u8; HEAD_BYTES], HeadError> {
    let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(HeadError::Short)?;
    if head[..8] != magic {
        return Err(HeadError::Magic);
    }
    let is_whole = checksum::crc32c(&head[..HEAD_CHECKSUM]) == u32_at(head, HEAD_CHECKSUM);
    let version = u32_at(head, 8);
    match (version == VERSION, is_whole) {
        (true, true) => {}
        (true, false) => return Err(HeadError::Checksum),
        (false, _) => return Err(HeadError::Version(version)),
    }
    if head[16..32] != scope.boot.bytes() {
        return Err(HeadError::Boot);
    }
    let length = usize::from(u16::from_le_bytes([head[32], head[33]])).min(INSTANCE_BYTES_MAX);
    let instance = &head[34..34 + length];
    if instance != scope.instance.as_bytes() {
        return Err(HeadError::Instance(String::from_utf8_lossy(instance).into_owned()));
    }
    Ok(head)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes[at..].first_chunk().expect("every field lies within its record");
    u32::from_le_bytes(*field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes[at..].first_chunk().expect("every field lies within its record");
    u64::from_le_bytes(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_read_as_the_kernel_writes_them() {
        let text = "01020304-0506-0708-090a-0b0c0d0e0fFF\n";
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255];
        assert_eq!(BootId::parse(text), Some(BootId::new(bytes)));
        for bad in ["", "0102", &text[1..], "g1020304-0506-0708-090a-0b0c0d0e0fff"] {
            assert_eq!(BootId::parse(bad), None, "{bad}");
        }
        assert_eq!(BootId::parse(&"0".repeat(34)), None);
    }
}
