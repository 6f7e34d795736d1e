//! Descriptors kept back for what must work when there are no others: looking at groups of
//! processes, and ending them.
//!
//! They are given up for the length of one call, and taken again afterwards. Nothing that lasts is
//! opened with them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keepd_model::Errno;
use rustix::event::{EventfdFlags, eventfd};

use crate::errno;

static SPARES: Mutex<Spares> = Mutex::new(Spares { held: Vec::new(), count: 0 });

struct Spares {
    held: Vec<OwnedFd>,
    /// How many there should be.
    count: usize,
}

/// `eventfd(0, EFD_CLOEXEC)`, repeated: keeps so many descriptors back.
///
/// Call it once, before many descriptors are open. A process that never calls it has none, and what
/// would use them fails with EMFILE like everything else. See eventfd(2).
pub fn keep(count: usize) -> Result<(), Errno> {
    let mut spares = lock();
    spares.count = count;
    spares.refill()
}

/// The descriptors that were kept back are free while this lives.
pub(crate) struct Room(());

/// Gives up everything that is kept back, for a call that opens several descriptors.
pub(crate) fn lend() -> Room {
    lock().held.clear();
    Room(())
}

impl Drop for Room {
    fn drop(&mut self) {
        // What cannot be taken again now is taken by a later call.
        let _ = lock().refill();
    }
}

/// Makes a call that opens a descriptor and closes it; if it finds none that is free, again with
/// one that was kept back.
pub(crate) fn with_one<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::EMFILE | Errno::ENFILE) => {
            let mut spares = lock();
            spares.held.pop();
            let result = call();
            // What cannot be taken again now is taken by a later call.
            let _ = spares.refill();
            result
        }
        result => result,
    }
}

impl Spares {
    fn refill(&mut self) -> Result<(), Errno> {
        while self.held.len() < self.count {
            // Something that nobody else waits to see closed.
            let spare = eventfd(0, EventfdFlags::CLOEXEC);
            self.held.push(spare.map_err(errno::from_rustix)?);
        }
        Ok(())
    }
}

fn lock() -> MutexGuard<'static, Spares> {
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}
