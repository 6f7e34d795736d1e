//! What the warden holds for the next proxy: descriptors under numbers that both know, and the
//! estate, which says what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use keepd_model::{Errno, Pid};
use keepd_os::{held, memfd};
use rustix::io::{DupFlags, dup3};

use super::say::say;
use super::setup::{Origin, WardenError, failed};
use crate::estate::{ESTATE_BYTES_MAX, Entry, Estate, Label};

/// What the file in memory is called in /proc.
const NAME: &str = "keepd-estate";

/// Everything that is held, and the estate as a file in memory that is right after each change.
#[derive(Debug)]
pub(super) struct Holdings {
    estate: Estate,
    /// Not close-on-exec: a warden in this process finds it under its number.
    memory: OwnedFd,
    file_bytes: usize,
    /// The length of the file when it held nothing but what still holds.
    whole_bytes: usize,
    /// A change could not be written; the file is written anew before anybody reads it.
    is_stale: bool,
    held: BTreeMap<RawFd, OwnedFd>,
}

impl Holdings {
    /// Begins with what there was before.
    ///
    /// # Errors
    ///
    /// There is no memory for it, or the lock cannot be held.
    pub(super) fn begin(successor: &[Vec<u8>], origin: Origin) -> Result<Self, WardenError> {
        match origin {
            Origin::Fresh { lock, handles } => {
                let handles = handles.into_iter();
                Self::make(successor, [(Label::Lock, lock)].into_iter().chain(handles))
            }
            Origin::Survivors { lock } => Self::make(successor, [(Label::Lock, lock)].into_iter()),
            Origin::Successor { estate } => Self::take_over(successor, estate),
        }
    }

    fn make(
        successor: &[Vec<u8>],
        first: impl Iterator<Item = (Label, OwnedFd)>,
    ) -> Result<Self, WardenError> {
        let memory = memfd::create(NAME).map_err(failed("make the estate"))?;
        let mut holdings = Self::of(Estate::default(), memory);
        holdings.estate.warden = successor.to_vec();
        holdings.rewrite().map_err(failed("write the estate"))?;
        for (label, descriptor) in first {
            let lifted = held::lift(&descriptor).map_err(failed("hold a descriptor"))?;
            holdings.insert(label, lifted).map_err(failed("hold a descriptor"))?;
        }
        Ok(holdings)
    }

    /// Takes over what a lost warden held, under the same numbers. What has no label is closed.
    fn take_over(successor: &[Vec<u8>], memory: OwnedFd) -> Result<Self, WardenError> {
        let bytes =
            memfd::read_all(&memory, ESTATE_BYTES_MAX).map_err(failed("read the estate"))?;
        let mut holdings = Self::of(Estate::read(&bytes), memory);
        holdings.estate.warden = successor.to_vec();
        let open = held::open_numbers().into_iter().filter(|number| *number >= held::HELD_BASE);
        for number in open {
            let Ok(descriptor) = held::claim(number) else {
                continue;
            };
            if holdings.estate.held.contains_key(&number) {
                let kept = held::set_close_on_exec(number, false);
                kept.map_err(failed("hold a descriptor"))?;
                holdings.held.insert(number, descriptor);
            }
        }
        let Self { estate, held, .. } = &mut holdings;
        estate.held.retain(|number, label| {
            let is_open = held.contains_key(number);
            if !is_open {
                say(format_args!("warning: a lost warden has not left {label:?}"));
            }
            is_open
        });
        holdings.rewrite().map_err(failed("write the estate"))?;
        Ok(holdings)
    }

    fn of(estate: Estate, memory: OwnedFd) -> Self {
        Self {
            estate,
            memory,
            file_bytes: 0,
            whole_bytes: 0,
            is_stale: false,
            held: BTreeMap::new(),
        }
    }

    /// Returns the estate as a file.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// Returns the sum of all changes.
    pub(super) fn estate(&self) -> &Estate {
        &self.estate
    }

    /// Takes a change in, and writes it down.
    pub(super) fn note(&mut self, entry: Entry) {
        let mut line = Vec::new();
        entry.encode(&mut line);
        self.estate.apply(entry);
        if self.is_stale {
            return;
        }
        match memfd::append(&self.memory, &line) {
            Ok(()) => self.file_bytes += line.len(),
            Err(errno) => {
                self.is_stale = true;
                say(format_args!("warning: cannot write the estate: {errno}; it is tried again"));
            }
        }
        if Estate::wants_rewrite(self.file_bytes, self.whole_bytes)
            && let Err(errno) = self.rewrite()
        {
            say(format_args!("warning: cannot rewrite the estate: {errno}"));
            self.whole_bytes = self.file_bytes;
        }
    }

    /// Keeps a descriptor that the proxy has under this number.
    pub(super) fn hold(&mut self, number: RawFd, label: Label, descriptor: &OwnedFd) {
        // The proxy has closed what was there, or it could not have the number.
        self.release(number);
        match held::place_at(descriptor, number) {
            Ok(placed) => {
                self.held.insert(number, placed);
                self.note(Entry::Held(number, label));
            }
            Err(errno) => say(format_args!("warning: cannot hold {label:?}: {errno}")),
        }
    }

    /// Lets go of what is held under this number, unless it is the lock: the instance is locked
    /// until this process has cleaned up after a proxy that ended in order.
    pub(super) fn release(&mut self, number: RawFd) {
        if self.estate.held.get(&number) == Some(&Label::Lock) {
            return;
        }
        // The label goes first: what is open without one is closed by a successor.
        if self.estate.held.contains_key(&number) {
            self.note(Entry::Dropped(number));
        }
        self.held.remove(&number);
    }

    /// Keeps a process for the next proxy.
    ///
    /// # Errors
    ///
    /// No number is free.
    pub(super) fn hold_process(&mut self, pid: Pid, pidfd: &OwnedFd) -> Result<(), Errno> {
        self.insert(Label::Pidfd { pid }, held::lift(pidfd)?)
    }

    /// Lets go of every process for which this is not so.
    pub(super) fn retain_processes(&mut self, is_wanted: impl Fn(Pid, &OwnedFd) -> bool) {
        let processes = self.processes().filter(|(number, pid)| {
            self.held.get(number).is_none_or(|pidfd| !is_wanted(*pid, pidfd))
        });
        let unwanted: Vec<RawFd> = processes.map(|(number, _)| number).collect();
        for number in unwanted {
            self.release(number);
        }
    }

    /// Returns the processes that are held.
    pub(super) fn held_processes(&self) -> BTreeSet<Pid> {
        self.processes().map(|(_, pid)| pid).collect()
    }

    fn processes(&self) -> impl Iterator<Item = (RawFd, Pid)> {
        self.estate.held.iter().filter_map(|(number, label)| match label {
            Label::Pidfd { pid } => Some((*number, *pid)),
            Label::Lock
            | Label::Listener { .. }
            | Label::Log { .. }
            | Label::Notify { .. }
            | Label::Ready { .. }
            | Label::Handle { .. } => None,
        })
    }

    /// Makes sure that the file says what is so, before somebody reads it.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        if self.is_stale { self.rewrite() } else { Ok(()) }
    }

    /// Says that nothing of this survives the next execve(2).
    pub(super) fn close_at_exec(&self) {
        let all = self.held.values().chain([&self.memory]);
        for descriptor in all {
            // It is open, so it can be said of it.
            let _ = held::set_close_on_exec(descriptor.as_raw_fd(), true);
        }
    }

    /// Keeps one of our own, which is open under a held number.
    fn insert(&mut self, label: Label, descriptor: OwnedFd) -> Result<(), Errno> {
        let number = descriptor.as_raw_fd();
        held::set_close_on_exec(number, false)?;
        self.held.insert(number, descriptor);
        self.note(Entry::Held(number, label));
        Ok(())
    }

    /// Puts a new file with what still holds in the place of the one that there is, at once.
    fn rewrite(&mut self) -> Result<(), Errno> {
        let file = self.estate.to_file();
        let memory = memfd::create(NAME)?;
        memfd::append(&memory, &file)?;
        let replaced = dup3(&memory, &mut self.memory, DupFlags::empty());
        replaced.map_err(|error| Errno(error.raw_os_error()))?;
        self.file_bytes = file.len();
        self.whole_bytes = file.len();
        self.is_stale = false;
        Ok(())
    }
}
