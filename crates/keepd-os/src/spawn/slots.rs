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

/// Spawns that can share the table at the same time.
const SETS_MAX: usize = 16;
/// The error pipe, three standard descriptors, and a few more.
const SLOTS_PER_SET: usize = 8;
/// At most this part of the descriptor limit is spent on slots.
const LIMIT_SHARE: u64 = 16;

static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

struct Slots {
    /// What an unused slot refers to, so that its number stays taken.
    null: OwnedFd,
    sets: Vec<Set>,
    /// One more than the highest slot.
    below: RawFd,
    ticket_next: u64,
}

struct Set {
    slots: Vec<OwnedFd>,
    user: Option<User>,
}

/// A child that may still look at our table.
struct User {
    ticket: u64,
    /// So many slots of the set, the first ones, refer to something of its.
    slots_used: usize,
    pipe: Arc<OwnedFd>,
    /// Unknown during the clone.
    pid: Option<Pid>,
}

/// The right to one set, until the child has a table of its own. Not returning it is safe: the set
/// is found to be free when it is needed.
#[derive(Debug)]
pub(super) struct Lease {
    set: usize,
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
/// calls it spawns correctly, only slower. At most 128 descriptors are taken, fewer under a small
/// limit. See fcntl(2).
pub fn reserve_slots() -> Result<(), Errno> {
    let mut slots = lock();
    if slots.is_none() {
        *slots = Some(Slots::new()?);
    }
    Ok(())
}

/// Puts the descriptors into a free set; `None` where there are no slots, none free or too many
/// descriptors.
pub(super) fn lease(descriptors: &[BorrowedFd<'_>], pipe: &Arc<OwnedFd>) -> Option<Leased> {
    lock().as_mut()?.lease(descriptors, pipe)
}

/// Says which child uses the set, so that its end can be noticed.
pub(super) fn started(lease: &Lease, pid: Pid) {
    if let Some(user) = lock().as_mut().and_then(|slots| slots.user_mut(lease)) {
        user.pid = Some(pid);
    }
}

/// Gives a set back: the child has a table of its own, has ended, or never was.
pub(super) fn release(lease: Lease) {
    let Lease { set, ticket } = lease;
    if let Some(slots) = lock().as_mut()
        && slots.user_mut(&Lease { set, ticket }).is_some()
    {
        slots.clear(set);
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
        let affordable = limit / LIMIT_SHARE / SLOTS_PER_SET as u64;
        let count = usize::try_from(affordable).map_or(SETS_MAX, |count| count.min(SETS_MAX));
        let mut below = 0;
        let mut sets = Vec::with_capacity(count);
        for _ in 0..count {
            let mut slots = Vec::with_capacity(SLOTS_PER_SET);
            for _ in 0..SLOTS_PER_SET {
                let slot = fcntl_dupfd_cloexec(&null, 3).map_err(errno::from_rustix)?;
                below = below.max(slot.as_raw_fd() + 1);
                slots.push(slot);
            }
            sets.push(Set { slots, user: None });
        }
        Ok(Self { null, sets, below, ticket_next: 0 })
    }

    fn lease(&mut self, descriptors: &[BorrowedFd<'_>], pipe: &Arc<OwnedFd>) -> Option<Leased> {
        if descriptors.len() > SLOTS_PER_SET {
            return None;
        }
        let set = self.free_set()?;
        let ticket = self.ticket_next;
        self.ticket_next += 1;
        self.sets[set].user =
            Some(User { ticket, slots_used: descriptors.len(), pipe: Arc::clone(pipe), pid: None });
        let slots = &mut self.sets[set].slots;
        let placed = descriptors
            .iter()
            .zip(slots.iter_mut())
            .all(|(descriptor, slot)| dup3(descriptor, slot, DupFlags::CLOEXEC).is_ok());
        let numbers = slots.iter().take(descriptors.len()).map(AsRawFd::as_raw_fd).collect();
        if !placed {
            self.clear(set);
            return None;
        }
        Some(Leased { lease: Lease { set, ticket }, numbers, below: self.below })
    }

    /// Returns a free set, after looking whether a used one has become free.
    fn free_set(&mut self) -> Option<usize> {
        if let Some(free) = self.sets.iter().position(|set| set.user.is_none()) {
            return Some(free);
        }
        let mut found = None;
        for index in 0..self.sets.len() {
            if self.sets[index].user.as_ref().is_some_and(User::is_done) {
                self.clear(index);
                found = found.or(Some(index));
            }
        }
        found
    }

    fn user_mut(&mut self, lease: &Lease) -> Option<&mut User> {
        let user = self.sets.get_mut(lease.set)?.user.as_mut();
        user.filter(|user| user.ticket == lease.ticket)
    }

    /// Lets go of what the slots refer to and keeps their numbers.
    fn clear(&mut self, set: usize) {
        let set = &mut self.sets[set];
        let slots_used = set.user.take().map_or(0, |user| user.slots_used);
        for slot in set.slots.iter_mut().take(slots_used) {
            // dup3(2) onto an open number fails only for EINTR and EBUSY, and then the slot keeps
            // an additional reference until its next use, which hurts nobody.
            let _ = dup3(&self.null, slot, DupFlags::CLOEXEC);
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
