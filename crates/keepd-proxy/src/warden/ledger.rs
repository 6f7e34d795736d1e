//! The cells of the ledger, as the warden needs them: it records ends of its own children, takes
//! back intents and holds what runs. It never makes the file, never makes it longer, and knows
//! nothing of the journal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use keepd_model::{Errno, Exit, Pid};
use keepd_os::ledger::{Cell, Mapping, inode};
use keepd_os::{file, pidfd, proc, process};
use keepd_wire::ledger::keeper::{
    Cells, Slot, answered, cancel_intents, slot_count, slots_that_run,
};
use keepd_wire::ledger::layout::{
    HEADER_BYTES, LayoutError, SlotNumber, check_header, file_bytes, slots,
};
use keepd_wire::ledger::{BootId, HeadError, Match, Scope, Seen, State};

/// Its name in the run folder.
const NAME: &str = "ledger";
/// ESRCH.
const NO_SUCH_PROCESS: Errno = Errno(3);

/// Where the ledger of an instance is, and its cells once somebody needed them.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    instance: String,
    cells: Option<MappedCells>,
}

/// Why there are no cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// There is no file, or none of this boot.
    Absent,
    /// It cannot be used, and this is why.
    Unusable(String),
}

impl Ledger {
    /// Names the ledger of an instance, whose file there need not be.
    pub(super) fn new(run_dir: &Path, instance: &str) -> Self {
        Self { path: run_dir.join(NAME), instance: instance.to_owned(), cells: None }
    }

    /// Writes down how a child of ours ended, which is not consumed yet. One that is of no service
    /// is nowhere in it.
    ///
    /// # Errors
    ///
    /// There are no cells.
    pub(super) fn record(&mut self, pid: Pid, exit: Exit) -> Result<(), Unreadable> {
        let cells = self.cells()?;
        for (number, generation, found) in slots_that_run(cells, cells.count) {
            let slot = Slot::new(cells, number);
            // The word is about a process that had the number before.
            if found != pid || compare(&slot, pid, None) == Match::Other {
                continue;
            }
            // Whoever was faster wrote the same, or knew more.
            let _ = slot.end(generation, Some(pid), exit);
        }
        Ok(())
    }

    /// The parent of the children is dead: takes back every intent, so that no child goes on that
    /// is not recorded. Returns what runs.
    ///
    /// # Errors
    ///
    /// There are no cells.
    pub(super) fn recover(&mut self) -> Result<Vec<(SlotNumber, Pid)>, Unreadable> {
        // It may have grown, and it may be another file.
        self.cells = None;
        let cells = self.cells()?;
        cancel_intents(cells, cells.count);
        Ok(slots_that_run(cells, cells.count).map(|(slot, _, pid)| (slot, pid)).collect())
    }

    /// Takes hold of the process of a slot. `None`: it is not there any more, or is not the one
    /// that was recorded.
    ///
    /// # Errors
    ///
    /// It cannot be found out.
    pub(super) fn take_hold(&self, number: SlotNumber, pid: Pid) -> Result<Option<OwnedFd>, Errno> {
        let Some(cells) = &self.cells else {
            return Ok(None);
        };
        let held = match pidfd::open(pid) {
            Ok(held) => held,
            Err(NO_SUCH_PROCESS) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(self.is_of(cells, number, pid, &held).then_some(held))
    }

    /// Reports whether a descriptor that was taken before still is about the process of this slot.
    pub(super) fn still_holds(&self, number: SlotNumber, pid: Pid, held: impl AsFd) -> bool {
        self.cells.as_ref().is_some_and(|cells| self.is_of(cells, number, pid, &held))
    }

    fn is_of(&self, cells: &MappedCells, number: SlotNumber, pid: Pid, held: impl AsFd) -> bool {
        let slot = Slot::new(cells, number);
        let found = compare(&slot, pid, Some(held.as_fd()));
        // Asked only now, so that the process was in our hand while the word named it.
        let is_named = slot
            .word()
            .is_ok_and(|word| matches!(word.state(), State::Run(_, named) if named == pid));
        // Nobody consumes a child of ours before it is recorded, so its number is its own.
        let is_ours = || proc::stat(pid).is_some_and(|stat| stat.parent == Some(process::id()));
        is_named
            && match found {
                Match::Same => true,
                Match::Unknown => is_ours(),
                Match::Other => false,
            }
    }

    /// Returns the slots whose process is alive.
    ///
    /// # Errors
    ///
    /// There are no cells.
    pub(super) fn living(&mut self) -> Result<Vec<SlotNumber>, Unreadable> {
        self.cells = None;
        let cells = self.cells()?;
        let running: Vec<(SlotNumber, Pid)> =
            slots_that_run(cells, cells.count).map(|(slot, _, pid)| (slot, pid)).collect();
        let is_alive = |(slot, pid): &(SlotNumber, Pid)| {
            let held = self.take_hold(*slot, *pid).ok().flatten();
            held.is_some()
                && proc::stat(*pid).is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
        };
        Ok(running.into_iter().filter(is_alive).map(|(slot, _)| slot).collect())
    }

    /// Returns how many slots have a word that is damaged.
    ///
    /// # Errors
    ///
    /// There are no cells.
    pub(super) fn unreadable(&mut self) -> Result<usize, Unreadable> {
        let cells = self.cells()?;
        let is_damaged = |number: &SlotNumber| Slot::new(cells, *number).word().is_err();
        Ok((0..cells.count).map(SlotNumber).filter(is_damaged).count())
    }

    /// Calls the function with whose ledger it is, and with the last record of its journal that was
    /// answered.
    ///
    /// # Errors
    ///
    /// There are no cells.
    pub(super) fn with_scope<R>(
        &mut self,
        read: impl FnOnce(&Scope<'_>, u64) -> R,
    ) -> Result<R, Unreadable> {
        let answered = answered(self.cells()?);
        let damaged = || Unreadable::Unusable("its place in the journal is damaged".to_owned());
        let answered = answered.ok_or_else(damaged)?;
        Ok(read(&Scope { boot: boot()?, instance: &self.instance }, answered))
    }

    fn cells(&mut self) -> Result<&MappedCells, Unreadable> {
        let has_grown = |cells: &MappedCells| slot_count(cells) != Some(cells.count);
        if self.cells.as_ref().is_none_or(has_grown) {
            self.cells = Some(open(&self.path, &self.instance)?);
        }
        Ok(self.cells.as_ref().expect("it was made a line above if there was none"))
    }
}

/// Compares the recorded process with the one that has the number now.
fn compare(slot: &Slot<'_, MappedCells>, pid: Pid, held: Option<BorrowedFd<'_>>) -> Match {
    let opened = match held {
        Some(_) => None,
        // A zombie has one too.
        None => pidfd::open(pid).ok(),
    };
    let held = held.or_else(|| opened.as_ref().map(AsFd::as_fd));
    let seen = Seen { inode: held.and_then(inode), start_ticks: proc::start_ticks(pid) };
    slot.identity().map_or(Match::Unknown, |identity| identity.compare(seen))
}

fn boot() -> Result<BootId, Unreadable> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    text.as_deref().and_then(BootId::parse).ok_or_else(|| {
        Unreadable::Unusable("the kernel does not say which boot this is".to_owned())
    })
}

fn open(path: &Path, instance: &str) -> Result<MappedCells, Unreadable> {
    let unusable = |what: &dyn std::fmt::Display| Unreadable::Unusable(what.to_string());
    let boot = boot()?;
    let failed = |errno: Errno| match errno {
        Errno::ENOENT => Unreadable::Absent,
        errno => unusable(&format_args!("cannot open \"{}\": {errno}", path.display())),
    };
    let (opened, length) = Mapping::open(path).map_err(failed)?;
    let mut page = vec![0; HEADER_BYTES as usize];
    let count = file::read_at(&opened, &mut page, 0).map_err(failed)?;
    let header = match check_header(&page[..count], length, &Scope { boot, instance }) {
        Ok(header) => header,
        // What it was about has ended with the machine.
        Err(LayoutError::Head(HeadError::Boot)) => return Err(Unreadable::Absent),
        Err(error) => return Err(unusable(&error)),
    };
    let mapping = Mapping::beside(opened, file_bytes(header.chunks)).map_err(failed)?;
    Ok(MappedCells { mapping, count: slots(header.chunks) })
}

/// The cells, and how many slots of them are mapped.
#[derive(Debug)]
struct MappedCells {
    mapping: Mapping,
    count: u32,
}

impl MappedCells {
    fn cell(&self, offset: u64) -> Cell<'_> {
        self.mapping.cell(offset).expect("only slots that are mapped are asked for")
    }
}

impl Cells for MappedCells {
    fn load(&self, offset: u64) -> u64 {
        self.cell(offset).load()
    }

    fn store(&self, offset: u64, value: u64) {
        self.cell(offset).store(value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        self.cell(offset).exchange(expected, new)
    }
}
