//! Low descriptor numbers, taken early, for spawns that share our table of descriptors for a
//! moment.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keepd_model::{Errno, Pid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

use crate::{errno, reap};

/// A spawn takes one for its error pipe, up to three for the standard descriptors, and a few more.
/// The child copies and closes all of them, so more would make each spawn slower.
pub(crate) const SLOTS_MAX: usize = 192;
/// The most that one spawn may take.
const SLOTS_PER_SPAWN: usize = 8;
/// At most this part of the descriptor limit is spent on slots.
const LIMIT_SHARE: u64 = 16;

static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

struct Slots {
    /// What an unused slot refers to, so that its number stays taken.
    null: OwnedFd,
    slots: Vec<OwnedFd>,
    /// Which of them nobody uses.
    free: Vec<usize>,
    users: Vec<User>,
    /// One more than the highest slot.
    below: RawFd,
    ticket_next: u64,
}

/// A child that may still look at our table.
struct User {
    ticket: u64,
    /// These slots refer to something of its.
    slots: Vec<usize>,
    pipe: Arc<OwnedFd>,
    /// Unknown during the clone.
    pid: Option<Pid>,
}

/// The right to some slots, until the child has a table of its own. Not returning it is safe: they
/// are found to be free when they are needed.
#[derive(Debug)]
pub(super) struct Lease {
    ticket: u64,
}

/// A lease and the numbers under which the child finds its descriptors.
pub(super) struct Leased {
    pub(super) lease: Lease,
    /// In the order asked for.
    pub(super) numbers: Vec<RawFd>,
    /// All numbers are below this one.
    pub(super) below: RawFd,
}

/// `fcntl(null, F_DUPFD_CLOEXEC, 3)`, repeated: takes low descriptor numbers, so that spawning
/// costs the same with 10 and with 20,000 descriptors open.
///
/// Call it once, before many descriptors are open; later calls do nothing. A process that never
/// calls it spawns correctly, only slower. At most 192 descriptors are taken, fewer under a small
/// limit. See fcntl(2).
pub fn reserve_slots() -> Result<(), Errno> {
    let mut slots = lock();
    if slots.is_none() {
        *slots = Some(Slots::new()?);
    }
    Ok(())
}

/// Puts the descriptors, each of which occurs once, into free slots; `None` where there are no
/// slots, too few free or too many descriptors.
pub(super) fn lease(descriptors: &[BorrowedFd<'_>], pipe: &Arc<OwnedFd>) -> Option<Leased> {
    lock().as_mut()?.lease(descriptors, pipe)
}

/// Says which child uses the slots, so that its end can be noticed.
pub(super) fn started(lease: &Lease, pid: Pid) {
    if let Some(user) = lock().as_mut().and_then(|slots| slots.user_mut(lease)) {
        user.pid = Some(pid);
    }
}

/// Gives slots back: the child has a table of its own, has ended, or never was.
pub(super) fn release(Lease { ticket }: Lease) {
    if let Some(slots) = lock().as_mut()
        && let Some(position) = slots.users.iter().position(|user| user.ticket == ticket)
    {
        slots.clear(position);
    }
}

fn lock() -> MutexGuard<'static, Option<Slots>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    fn new() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null =
            rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(errno::from_rustix)?;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let affordable = usize::try_from(limit / LIMIT_SHARE).unwrap_or(SLOTS_MAX);
        let count = affordable.min(SLOTS_MAX);
        let mut below = 0;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let slot = fcntl_dupfd_cloexec(&null, 3).map_err(errno::from_rustix)?;
            below = below.max(slot.as_raw_fd() + 1);
            slots.push(slot);
        }
        let free = (0..count).collect();
        Ok(Self { null, slots, free, users: Vec::new(), below, ticket_next: 0 })
    }

    fn lease(&mut self, descriptors: &[BorrowedFd<'_>], pipe: &Arc<OwnedFd>) -> Option<Leased> {
        let count = descriptors.len();
        if count > SLOTS_PER_SPAWN {
            return None;
        }
        if self.free.len() < count {
            self.clear_done();
        }
        let taken = self.free.split_off(self.free.len().checked_sub(count)?);
        let ticket = self.ticket_next;
        self.ticket_next += 1;
        let placed = descriptors.iter().zip(&taken).all(|(descriptor, slot)| {
            dup3(descriptor, &mut self.slots[*slot], DupFlags::CLOEXEC).is_ok()
        });
        let numbers = taken.iter().map(|slot| self.slots[*slot].as_raw_fd()).collect();
        self.users.push(User { ticket, slots: taken, pipe: Arc::clone(pipe), pid: None });
        if !placed {
            self.clear(self.users.len() - 1);
            return None;
        }
        Some(Leased { lease: Lease { ticket }, numbers, below: self.below })
    }

    /// Looks which slots have become free.
    fn clear_done(&mut self) {
        for position in (0..self.users.len()).rev() {
            if self.users[position].is_done() {
                self.clear(position);
            }
        }
    }

    fn user_mut(&mut self, lease: &Lease) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.ticket == lease.ticket)
    }

    /// Lets go of what the slots of a user refer to and keeps their numbers.
    fn clear(&mut self, position: usize) {
        for slot in self.users.swap_remove(position).slots {
            // dup3(2) onto an open number fails only for EINTR and EBUSY, and then the slot keeps
            // an additional reference until its next use, which hurts nobody.
            let _ = dup3(&self.null, &mut self.slots[slot], DupFlags::CLOEXEC);
            self.free.push(slot);
        }
    }
}

impl User {
    /// The child has said anything (both possible messages mean that it left our table) or has
    /// ended.
    fn is_done(&self) -> bool {
        let mut polled = [PollFd::new(&*self.pipe, PollFlags::IN)];
        let now = Timespec::default();
        let spoke = poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0);
        spoke || self.pid.is_some_and(reap::has_ended)
    }
}
