//! Files of the ledger that are made, or taken over from a predecessor.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use keepd_engine::proxy::Fact;
use keepd_model::{Errno, ServiceName};
use keepd_os::file;
use keepd_os::ledger::{JournalFile, Mapping, has_inodes};
use keepd_wire::ledger::journal::{self, Record, Replay};
use keepd_wire::ledger::keeper::{Cells as _, Released, Slot, set_answered};
use keepd_wire::ledger::layout::{
    HEADER_BYTES, LayoutError, SlotCell, SlotNumber, check_header, encode_header, file_bytes, slots,
};
use keepd_wire::ledger::{BootId, HeadError, Word};

use super::cells::MappedCells;
use super::journal::Journal;
use super::{Ledger, Whose, lines};

/// The names of both files in the run folder.
const LEDGER: &str = "ledger";
const JOURNAL: &str = "journal";
/// The number of the first record of an instance.
const FIRST: u64 = 1;
const ENOENT: Errno = Errno(2);
/// What a file is refused with, however often it is tried: it is not there, it is not ours alone,
/// it is no regular file (ELOOP, ESPIPE, EISDIR, ENXIO), or it is too long.
const FINAL: [Errno; 7] = [ENOENT, Errno(1), Errno(40), Errno(29), Errno(21), Errno(6), Errno(27)];

/// Why there is no ledger. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LedgerError {
    /// The boot of the machine is not known.
    Boot,
    /// A file cannot be made.
    Make(PathBuf, Errno),
    /// A file cannot be opened.
    Open(PathBuf, Errno),
    /// A file is not what it should be: one sentence.
    Refused(PathBuf, String),
}

impl LedgerError {
    /// Reports whether the files themselves are the reason, so that no successor would do better.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Boot | Self::Make(..) => false,
            Self::Open(_, errno) => FINAL.contains(errno),
            Self::Refused(..) => true,
        }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot => formatter.write_str("cannot read the boot id of the kernel"),
            Self::Make(path, errno) => {
                write!(formatter, "cannot make \"{}\": {errno}", path.display())
            }
            Self::Open(path, errno) => {
                write!(formatter, "cannot open \"{}\": {errno}", path.display())
            }
            Self::Refused(path, why) => {
                write!(formatter, "{why} (\"{}\"); nothing was touched", path.display())
            }
        }
    }
}

impl std::error::Error for LedgerError {}

/// What a predecessor left.
pub(crate) struct Resumed {
    pub(crate) ledger: Ledger,
    /// What was accepted, in order.
    pub(crate) facts: Vec<Fact>,
    /// The configuration was read to its end.
    pub(crate) is_configured: bool,
    /// What was mended, in sentences.
    pub(crate) repairs: Vec<String>,
}

/// Takes over the ledger that a predecessor of this instance left in this folder, if there is one.
///
/// # Errors
///
/// Whatever is there and is not whole, or another's.
pub(crate) fn resume(folder: &Path, instance: &str) -> Result<Option<Resumed>, LedgerError> {
    let path = folder.join(LEDGER);
    match Mapping::open(&path) {
        Err(ENOENT) => return Ok(None),
        Err(errno) => return Err(LedgerError::Open(path, errno)),
        Ok(_) => {}
    }
    match take_over(folder, &whose(instance)?) {
        Ok(resumed) => Ok(Some(resumed)),
        // What it was about has ended with the machine.
        Err(Failed::OlderBoot) => {
            remove(folder);
            Ok(None)
        }
        Err(Failed::Other(error)) => Err(error),
    }
}

fn whose(instance: &str) -> Result<Whose, LedgerError> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let boot = boot.as_deref().and_then(BootId::parse).ok_or(LedgerError::Boot)?;
    Ok(Whose { boot, instance: instance.to_owned() })
}

/// Removes both files: whoever comes next begins anew. The one that decides goes first.
pub(crate) fn remove(folder: &Path) {
    for name in [LEDGER, JOURNAL] {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(folder.join(name));
    }
}

/// Makes both files, in the place of what is no ledger of a predecessor. The ledger comes last:
/// only with it there is one.
///
/// # Errors
///
/// Returns which cannot be made, and why.
pub(crate) fn make(folder: &Path, instance: &str) -> Result<Ledger, LedgerError> {
    let whose = whose(instance)?;
    let path = folder.join(JOURNAL);
    let journal = Journal::begin(&path, &whose.scope(), FIRST, &[])
        .map_err(|errno| LedgerError::Make(path, errno))?;
    let path = folder.join(LEDGER);
    let header = encode_header(&whose.scope(), 1)
        .map_err(|error| LedgerError::Refused(path.clone(), error.to_string()))?;
    let mapping = Mapping::create(&path, &header, file_bytes(1))
        .map_err(|errno| LedgerError::Make(path, errno))?;
    let cells = MappedCells::new(mapping, 1);
    let free = (0..cells.slot_count()).rev().map(SlotNumber).collect();
    Ok(Ledger {
        whose,
        folder: folder.to_owned(),
        cells,
        journal,
        is_configured: false,
        slots: HashMap::new(),
        free,
        given_back: Vec::new(),
        runs: HashMap::new(),
        has_inodes: has_inodes(),
    })
}

/// Why the files of a predecessor are not used.
enum Failed {
    /// They are from before the machine was started.
    OlderBoot,
    Other(LedgerError),
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::Other(error)
    }
}

/// Takes over the files. Both are looked at before anything of either is changed.
fn take_over(folder: &Path, whose: &Whose) -> Result<Resumed, Failed> {
    let path = folder.join(LEDGER);
    let failed = |errno| LedgerError::Open(path.clone(), errno);
    let (file, length) = Mapping::open(&path).map_err(failed)?;
    let mut page = vec![0; HEADER_BYTES as usize];
    let count = file::read_at(&file, &mut page, 0).map_err(failed)?;
    let header = match check_header(&page[..count], length, &whose.scope()) {
        Ok(header) => header,
        Err(LayoutError::Head(HeadError::Boot)) => return Err(Failed::OlderBoot),
        Err(error) => return Err(LedgerError::Refused(path, error.to_string()).into()),
    };
    let path = folder.join(JOURNAL);
    let failed = |errno| LedgerError::Open(path.clone(), errno);
    let (journal_file, bytes) = JournalFile::open(&path).map_err(failed)?;
    let refused = |why: String| LedgerError::Refused(path.clone(), why);
    let replay = journal::read(&bytes, &whose.scope(), header.answered)
        .map_err(|error| refused(error.to_string()))?;
    let said = read_records(&replay, slots(header.chunks))
        .map_err(|number| refused(format!("cannot use the journal: {number}")))?;

    let mapping = Mapping::of(file, file_bytes(header.chunks)).map_err(failed)?;
    let cells = MappedCells::new(mapping, header.chunks);
    let journal_file = JournalFile::resume(journal_file, replay.sound_bytes).map_err(failed)?;
    // From here on it counts, whatever was answered.
    set_answered(&cells, replay.writer.next() - 1);
    let journal = Journal::resume(&path, journal_file, replay.writer);
    let free = clear_slots_of_nobody(&cells, &said.slots);
    let ledger = Ledger {
        whose: whose.clone(),
        folder: folder.to_owned(),
        cells,
        journal,
        is_configured: said.is_configured,
        slots: said.slots,
        free,
        given_back: Vec::new(),
        runs: HashMap::new(),
        has_inodes: has_inodes(),
    };
    Ok(Resumed {
        ledger,
        facts: said.facts,
        is_configured: said.is_configured,
        repairs: replay.repairs.iter().map(ToString::to_string).collect(),
    })
}

/// What the records of a journal say together.
struct Said {
    facts: Vec<Fact>,
    slots: HashMap<ServiceName, SlotNumber>,
    is_configured: bool,
}

/// Reads every record of a journal whose ledger has so many slots.
///
/// # Errors
///
/// Returns what is wrong with the first that this program does not write.
fn read_records(replay: &Replay<'_>, slot_count: u32) -> Result<Said, String> {
    let mut said = Said { facts: Vec::new(), slots: HashMap::new(), is_configured: false };
    for record in &replay.records {
        match record {
            Record::Command(line) => match lines::read(line) {
                Some(lines::Line::Fact(fact)) => said.facts.push(fact),
                Some(lines::Line::Configured) => said.is_configured = true,
                Some(lines::Line::Nothing) => {}
                None => return Err(unreadable(line)),
            },
            Record::Event(line) => match lines::read_event(line) {
                Some(fact) => said.facts.push(fact),
                None => return Err(unreadable(line)),
            },
            Record::Slot(number, name) => {
                let name = ServiceName::new_internal(name).ok().filter(|_| number.0 < slot_count);
                let name = name.ok_or_else(|| format!("slot {} is not there", number.0))?;
                said.slots.insert(name, *number);
            }
            Record::Freed(number) => said.slots.retain(|_, owned| owned != number),
        }
    }
    Ok(said)
}

fn unreadable(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let name = line.split('\t').next().unwrap_or_default();
    format!("a record \"{name}\" is none that this program writes")
}

/// Clears what a predecessor had not finished clearing, and returns the slots that are free, the
/// first one last.
fn clear_slots_of_nobody(
    cells: &MappedCells,
    slots: &HashMap<ServiceName, SlotNumber>,
) -> Vec<SlotNumber> {
    let mut is_owned = vec![false; cells.slot_count() as usize];
    for number in slots.values() {
        is_owned[number.0 as usize] = true;
    }
    let numbers = (0..cells.slot_count()).rev().map(SlotNumber);
    let unowned = numbers.filter(|number| !is_owned[number.0 as usize]);
    let free = unowned.filter(|number| {
        let is_untouched = cells.load(number.offset(SlotCell::Owner)) == 0
            && cells.load(number.offset(SlotCell::Word)) == Word::UNUSED.raw();
        // To clear what is clear would only touch its pages.
        is_untouched || Slot::new(cells, *number).release() == Released::Free
    });
    free.collect()
}
