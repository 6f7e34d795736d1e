//! The files from which a successor learns what runs, and what can happen to them.
//!
//! The format is that of docs/design/0009-ledger.md, written down here once more.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use keepd_testkit::Project;
use keepd_testkit::torture::Dice;

/// A head, its version, and its boot id.
const HEAD: usize = 512;
const VERSION: usize = 8;
const BOOT: usize = 16;
/// Cells behind the head of the ledger.
pub(crate) const CHUNKS: usize = 512;
pub(crate) const ANSWERED: usize = 520;
/// The first slot, and the size of each.
const SLOTS: usize = 4096;
const SLOT: usize = 32;
/// The identity behind the word of a slot.
pub(crate) const IDENTITY: usize = 8;
/// The head of a record of the journal, which begins with the length of its text.
const RECORD: usize = 20;

/// One of both files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Ledger,
    Journal,
}

/// Something that happens to a file.
pub(crate) enum Damage {
    /// One bit is another one.
    Flip(usize),
    /// It ends there.
    Cut(usize),
    /// It has this version, or is of this boot, and is sound.
    Version(u32),
    Boot,
    /// It holds what another instance had there.
    Foreign(Vec<u8>),
    /// It holds as many bytes that mean nothing.
    Noise,
    Missing,
    /// It is a link to where it was.
    Link,
    /// Others may read it.
    Mode,
    /// Another user's.
    Owner,
}

/// What was there when everything was sound.
pub(crate) struct Files {
    run: PathBuf,
    pub(crate) ledger: Vec<u8>,
    pub(crate) journal: Vec<u8>,
}

impl Files {
    /// Reads both.
    pub(crate) fn of(project: &Project) -> Self {
        let run = project.run_dir();
        let read = |name: &str| fs::read(run.join(name)).expect("it is there");
        Self { ledger: read("ledger"), journal: read("journal"), run }
    }

    fn name(file: File) -> &'static str {
        match file {
            File::Ledger => "ledger",
            File::Journal => "journal",
        }
    }

    fn bytes(&self, file: File) -> &[u8] {
        match file {
            File::Ledger => &self.ledger,
            File::Journal => &self.journal,
        }
    }

    fn write(&self, file: File, bytes: &[u8]) {
        let path = self.run.join(Self::name(file));
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        std::io::Write::write_all(&mut options.open(path).expect("it is ours"), bytes)
            .expect("there is room");
    }

    /// Makes a file what it was.
    pub(crate) fn restore(&self, file: File) {
        let path = self.run.join(Self::name(file));
        let _ = fs::remove_file(&path);
        let _ = fs::remove_file(self.run.join("elsewhere"));
        self.write(file, self.bytes(file));
    }

    /// Lets something happen to a file.
    pub(crate) fn damage(&self, file: File, damage: &Damage) {
        let path = self.run.join(Self::name(file));
        let mut bytes = self.bytes(file).to_vec();
        match damage {
            Damage::Flip(offset) => bytes[*offset] ^= 0x10,
            Damage::Cut(length) => bytes.truncate(*length),
            Damage::Version(version) => {
                bytes[VERSION..VERSION + 4].copy_from_slice(&version.to_le_bytes());
                seal(&mut bytes);
            }
            Damage::Boot => {
                bytes[BOOT] ^= 1;
                seal(&mut bytes);
            }
            Damage::Foreign(other) => bytes.clone_from(other),
            Damage::Noise => {
                let mut dice = Dice::new(7);
                bytes.iter_mut().for_each(|byte| *byte = dice.below(256).to_le_bytes()[0]);
            }
            Damage::Missing => return fs::remove_file(path).expect("it is there"),
            Damage::Link => {
                let elsewhere = self.run.join("elsewhere");
                fs::rename(&path, &elsewhere).expect("both are ours");
                return std::os::unix::fs::symlink(elsewhere, path).expect("there is room");
            }
            Damage::Mode => {
                return fs::set_permissions(path, Permissions::from_mode(0o644))
                    .expect("it is ours");
            }
            Damage::Owner => {
                return std::os::unix::fs::chown(path, Some(65_534), None).expect("we are root");
            }
        }
        self.write(file, &bytes);
    }

    /// Returns where the word of a running process is.
    pub(crate) fn word_of(&self, pid: u32) -> usize {
        let is_its = |offset: &usize| {
            let bytes = self.ledger[*offset..*offset + 8].try_into().expect("it has 8");
            let word = u64::from_le_bytes(bytes);
            word >> 6 & 7 == 3 && word >> 9 & 0x3F_FFFF == u64::from(pid)
        };
        (SLOTS..SLOTS + 128 * SLOT).step_by(SLOT).find(is_its).expect("it has a slot")
    }

    /// Returns where each record of the journal begins.
    pub(crate) fn records(&self) -> Vec<usize> {
        let mut starts = Vec::new();
        let mut at = HEAD;
        while at + RECORD <= self.journal.len() {
            starts.push(at);
            let bytes = self.journal[at..at + 4].try_into().expect("it has 4");
            at += RECORD + u32::from_le_bytes(bytes) as usize;
        }
        starts
    }
}

/// Puts the right sum behind a head that was changed.
fn seal(bytes: &mut [u8]) {
    let sum = crc32c(&bytes[..HEAD - 4]);
    bytes[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0x82F6_3B78 };
        }
    }
    !sum
}
