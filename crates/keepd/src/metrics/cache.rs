//! What a thread remembers of the names it used last.
//!
//! A hit is a comparison of the name and an access without any lock. The memory is direct-mapped:
//! two names that share a slot push each other out, which costs time and nothing else.

use std::cell::RefCell;
use std::sync::Arc;

use super::cell::{Counter, GaugeCell, HistogramCell, LocalCounter};
use super::registry::Registry;

/// How many names of each kind are remembered; a power of two.
const SLOTS: usize = 32;

struct Slot<C> {
    /// The collector.
    number: u64,
    name: Box<str>,
    cell: C,
}

/// The memory for one kind of metric.
pub(super) struct Memory<C>(RefCell<[Option<Slot<C>>; SLOTS]>);

impl<C> Memory<C> {
    const fn new() -> Self {
        Self(RefCell::new([const { None }; SLOTS]))
    }

    /// Calls `f` with what the name stands for, which `find` says if it is not remembered. Returns
    /// false if the memory is in use further up the stack.
    #[inline]
    fn with(&self, number: u64, name: &str, find: impl FnOnce() -> C, f: impl FnOnce(&C)) -> bool {
        let Ok(mut slots) = self.0.try_borrow_mut() else { return false };
        let slot = &mut slots[slot_of(number, name)];
        if let Some(slot) = slot
            && slot.number == number
            && *slot.name == *name
        {
            f(&slot.cell);
            return true;
        }
        let pushed_out = remember(slot, number, name, find());
        if let Some(slot) = slot {
            f(&slot.cell);
        }
        // Dropping it takes a lock, which nobody needs to wait for while this is borrowed.
        drop(slots);
        drop(pushed_out);
        true
    }
}

/// Puts a name into a slot, and returns what was there.
#[cold]
#[inline(never)]
fn remember<C>(slot: &mut Option<Slot<C>>, number: u64, name: &str, cell: C) -> Option<Slot<C>> {
    slot.replace(Slot { number, name: name.into(), cell })
}

/// Returns a slot from the parts in which names of one program differ: length, beginning, end.
#[inline]
fn slot_of(number: u64, name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |index: usize| u64::from(bytes.get(index).copied().unwrap_or_default());
    let last = bytes.len().saturating_sub(1);
    let mixed = number
        ^ (bytes.len() as u64)
        ^ (at(0) << 8)
        ^ (at(bytes.len() / 2) << 16)
        ^ (at(last) << 24);
    // Fibonacci hashing: the upper bits of the product depend on all bits.
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59) as usize % SLOTS
}

thread_local! {
    static COUNTERS: Memory<LocalCounter> = const { Memory::new() };
    static GAUGES: Memory<Arc<GaugeCell>> = const { Memory::new() };
    static HISTOGRAMS: Memory<Arc<HistogramCell>> = const { Memory::new() };
}

impl Registry {
    #[inline]
    pub(super) fn increment(&self, name: &str, value: u64) {
        let find = || self.new_local(name);
        let count = |counter: &LocalCounter| counter.increment(value);
        let is_done = COUNTERS.try_with(|memory| memory.with(self.number, name, find, count));
        if is_done != Ok(true) {
            // The thread is ending, and its memory is gone.
            Counter(self.counters.get(name)).increment(value);
        }
    }

    /// Out of line, so that counting itself is short enough to stand where it is called.
    #[cold]
    #[inline(never)]
    fn new_local(&self, name: &str) -> LocalCounter {
        Counter(self.counters.get(name)).local()
    }

    #[inline]
    pub(super) fn set(&self, name: &str, value: u64) {
        let find = || self.gauges.get(name);
        let set = |gauge: &Arc<GaugeCell>| gauge.set(value);
        let is_done = GAUGES.try_with(|memory| memory.with(self.number, name, find, set));
        if is_done != Ok(true) {
            self.gauges.get(name).set(value);
        }
    }

    #[inline]
    pub(super) fn record(&self, name: &str, duration: std::time::Duration) {
        let find = || self.histograms.get(name);
        let record = |histogram: &Arc<HistogramCell>| histogram.record(duration);
        let is_done = HISTOGRAMS.try_with(|memory| memory.with(self.number, name, find, record));
        if is_done != Ok(true) {
            self.histograms.get(name).record(duration);
        }
    }
}
