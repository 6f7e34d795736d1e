//! Descriptors kept back for what must work when there are no others: looking at groups of
//! processes, and ending them.
//!
//! They are given up for the length of one call, and taken again afterwards. Nothing that lasts is
//! opened with them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keepd_model::Errno;
use rustix::io::fcntl_dupfd_cloexec;

use crate::errno;

static SPARES: Mutex<Spares> = Mutex::new(Spares { held: Vec::new(), count: 0 });

struct Spares {
    held: Vec<OwnedFd>,
    /// How many there should be.
    count: usize,
}

/// `fcntl(standard error, F_DUPFD_CLOEXEC, 3)`, repeated: keeps so many descriptors back.
///
/// Call it once, before many descriptors are open. A process that never calls it has none, and what
/// would use them fails with EMFILE like everything else. See fcntl(2).
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

/// Makes a call; if it finds no free descriptor, again with one that was kept back. The caller
/// closes what it opened soon.
pub(crate) fn with_one<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match call() {
        Err(Errno::EMFILE | Errno::ENFILE) => {
            let mut spares = lock();
            // The one before may have been closed since, and was only lent.
            let _ = spares.refill();
            spares.held.pop();
            drop(spares);
            call()
        }
        result => result,
    }
}

impl Spares {
    fn refill(&mut self) -> Result<(), Errno> {
        while self.held.len() < self.count {
            let spare = fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
            self.held.push(spare.map_err(errno::from_rustix)?);
        }
        Ok(())
    }
}

fn lock() -> MutexGuard<'static, Spares> {
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}
