//! All names of a collector.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::cell::{CounterCell, GaugeCell, HistogramCell, Recorded};
use super::snapshot::MetricsSnapshot;

/// The numbers of collectors, so that a thread's memory of one that is gone is never taken for that
/// of a new one at the same address.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What is behind a collector and its clones.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) number: u64,
    started: RwLock<Instant>,
    pub(super) counters: Names<CounterCell>,
    pub(super) gauges: Names<GaugeCell>,
    pub(super) histograms: Names<HistogramCell>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            started: RwLock::new(Instant::now()),
            counters: Names::default(),
            gauges: Names::default(),
            histograms: Names::default(),
        }
    }

    pub(super) fn snapshot(&self, worker_count: usize) -> MetricsSnapshot {
        let timestamp = Instant::now();
        let started = *self.started.read().unwrap_or_else(PoisonError::into_inner);
        let mut totals = Vec::new();
        let counters = self.counters.values(|_, cell| cell.value());
        let gauges = self.gauges.values(|_, cell| cell.value());
        let histograms = self.histograms.values(|name, cell| {
            let Recorded { durations, count, sum } = cell.recorded()?;
            totals.push((Arc::clone(name), count, sum));
            Some(durations)
        });
        let uptime = timestamp.saturating_duration_since(started);
        MetricsSnapshot { uptime, counters, gauges, histograms, timestamp, worker_count, totals }
    }

    pub(super) fn reset(&self) {
        self.counters.each(|cell| cell.reset());
        self.gauges.each(|cell| cell.reset());
        self.histograms.each(|cell| cell.reset());
        *self.started.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The names of one kind. A name is never taken away, so a handle stays good; programs have as many
/// as stand in their code.
#[derive(Debug)]
pub(super) struct Names<C>(RwLock<HashMap<Arc<str>, Arc<C>>>);

impl<C> Default for Names<C> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<C: Default> Names<C> {
    /// Returns what a name stands for, which is made at its first use.
    #[cold]
    pub(super) fn get(&self, name: &str) -> Arc<C> {
        if let Some(cell) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(cell);
        }
        let mut cells = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(name.into()).or_default())
    }

    /// Returns what `value` says of each name, without those of which it says nothing.
    fn values<V>(&self, mut value: impl FnMut(&Arc<str>, &C) -> Option<V>) -> HashMap<String, V> {
        let cells = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut values = HashMap::with_capacity(cells.len());
        for (name, cell) in cells.iter() {
            if let Some(value) = value(name, cell) {
                values.insert(String::from(&**name), value);
            }
        }
        values
    }

    fn each(&self, mut f: impl FnMut(&C)) {
        for cell in self.0.read().unwrap_or_else(PoisonError::into_inner).values() {
            f(cell);
        }
    }
}
