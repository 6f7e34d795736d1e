//! The cells as one process sees them: every access is an effect.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use keepd_wire::ledger::keeper::Cells;

use super::kernel::{Kernel, Serial, Stopped};

/// The kernel, shared by the shells of one world.
pub(crate) type Shared = Rc<RefCell<Kernel>>;

/// A process of ours: the kernel, and who asks.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) serial: Serial,
    kernel: Shared,
}

impl Actor {
    pub(crate) fn new(serial: Serial, kernel: &Shared) -> Self {
        Self { serial, kernel: Rc::clone(kernel) }
    }

    pub(crate) fn kernel(&self) -> RefMut<'_, Kernel> {
        self.kernel.borrow_mut()
    }

    /// The next thing that others can see.
    pub(crate) fn effect(&self, what: &'static str) -> Result<(), Stopped> {
        self.kernel().effect(self.serial, what)
    }

    /// Says whether this process is there after a function that only touched cells.
    pub(crate) fn goes_on(&self) -> Result<(), Stopped> {
        if self.kernel().goes_on(self.serial) { Ok(()) } else { Err(Stopped) }
    }

    /// An invariant broke; nothing more happens.
    pub(crate) fn breach<T>(&self, number: &'static str, sentence: String) -> Result<T, Stopped> {
        self.kernel().judge.breach(number, sentence);
        Err(Stopped)
    }
}

impl Cells for Actor {
    fn load(&self, offset: u64) -> u64 {
        self.kernel().load(self.serial, offset)
    }

    fn store(&self, offset: u64, value: u64) {
        self.kernel().store(self.serial, offset, value);
    }

    fn exchange(&self, offset: u64, expected: u64, new: u64) -> bool {
        self.kernel().exchange(self.serial, offset, expected, new)
    }
}
