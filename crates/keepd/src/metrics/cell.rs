//! What a name stands for, and the handles to it.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// How many durations a histogram keeps.
pub(super) const DURATIONS_MAX: usize = 2048;

/// A number of its own cache line: two threads that count must not fight for one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// The state of one counter.
#[derive(Debug, Default)]
pub(super) struct CounterCell {
    /// Counted through shared handles, and by threads that are gone.
    shared: Line,
    /// One for each [`LocalCounter`] that is alive.
    locals: Mutex<Vec<Arc<Line>>>,
    /// What the sum was when it was reset.
    base: AtomicU64,
    /// Something was counted since the last reset.
    is_used: AtomicBool,
}

impl CounterCell {
    /// Returns the count, or none if nothing was counted.
    pub(super) fn value(&self) -> Option<u64> {
        // Under the lock, so that a reset or the end of a thread falls before or after.
        let locals = lock(&self.locals);
        let count = self.sum(&locals).wrapping_sub(self.base.load(Ordering::Relaxed));
        // Who counts during a reset may have taken the mark of before for its own.
        (count != 0 || self.is_used.load(Ordering::Acquire)).then_some(count)
    }

    /// Starts again from nothing.
    pub(super) fn reset(&self) {
        let locals = lock(&self.locals);
        self.is_used.store(false, Ordering::Release);
        // Counts of other threads cannot be set from here; what they are now counts as 0.
        self.base.store(self.sum(&locals), Ordering::Relaxed);
    }

    fn sum(&self, locals: &[Arc<Line>]) -> u64 {
        let local = |line: &Arc<Line>| line.0.load(Ordering::Relaxed);
        let shared = self.shared.0.load(Ordering::Relaxed);
        locals.iter().map(local).fold(shared, u64::wrapping_add)
    }

    fn mark_used(&self) {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Release);
        }
    }
}

/// A counter that threads share. See
/// [`MetricsCollector::counter`](super::MetricsCollector::counter).
///
/// ```
/// let requests = keepd::metrics::MetricsCollector::new().counter("requests_total");
/// requests.increment(2);
/// assert_eq!(requests.value(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Counter(pub(super) Arc<CounterCell>);

impl Counter {
    /// Adds to the count, which begins again at 0 above `u64::MAX`.
    #[inline]
    pub fn increment(&self, value: u64) {
        self.0.mark_used();
        self.0.shared.0.fetch_add(value, Ordering::Relaxed);
    }

    /// Returns a handle for one thread, which counts without telling the others: the fastest way.
    pub fn local(&self) -> LocalCounter {
        let line = Arc::new(Line::default());
        lock(&self.0.locals).push(Arc::clone(&line));
        LocalCounter { cell: Arc::clone(&self.0), line, not_shared: PhantomData }
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.0.value().unwrap_or(0)
    }
}

/// A counter of one thread. It may move to another thread, but not be used by two at once.
///
/// ```
/// use keepd::metrics::MetricsCollector;
///
/// let metrics = MetricsCollector::new();
/// let requests = metrics.counter("requests_total").local();
/// requests.increment(2);
/// assert_eq!(metrics.get_metrics().counters["requests_total"], 2);
/// ```
#[derive(Debug)]
pub struct LocalCounter {
    cell: Arc<CounterCell>,
    /// Written by this handle alone.
    line: Arc<Line>,
    /// Not `Sync`: with one writer, adding needs no locked instruction.
    not_shared: PhantomData<std::cell::Cell<()>>,
}

impl LocalCounter {
    /// Adds to the count, which begins again at 0 above `u64::MAX`.
    #[inline]
    pub fn increment(&self, value: u64) {
        self.cell.mark_used();
        let before = self.line.0.load(Ordering::Relaxed);
        self.line.0.store(before.wrapping_add(value), Ordering::Relaxed);
    }
}

impl Drop for LocalCounter {
    fn drop(&mut self) {
        let mut locals = lock(&self.cell.locals);
        let count = self.line.0.load(Ordering::Relaxed);
        self.cell.shared.0.fetch_add(count, Ordering::Relaxed);
        locals.retain(|line| !Arc::ptr_eq(line, &self.line));
    }
}

/// The state of one gauge.
#[derive(Debug, Default)]
pub(super) struct GaugeCell {
    value: AtomicU64,
    is_used: AtomicBool,
}

impl GaugeCell {
    pub(super) fn value(&self) -> Option<u64> {
        self.is_used.load(Ordering::Acquire).then(|| self.value.load(Ordering::Relaxed))
    }

    pub(super) fn reset(&self) {
        self.is_used.store(false, Ordering::Release);
    }

    #[inline]
    pub(super) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Release);
        }
    }
}

/// A number that goes up and down. See
/// [`MetricsCollector::gauge`](super::MetricsCollector::gauge).
///
/// ```
/// let clients = keepd::metrics::MetricsCollector::new().gauge("clients");
/// clients.set(7);
/// assert_eq!(clients.value(), 7);
/// ```
#[derive(Clone, Debug)]
pub struct Gauge(pub(super) Arc<GaugeCell>);

impl Gauge {
    /// Sets the number.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    /// Returns the number that was set last, 0 if none was.
    pub fn value(&self) -> u64 {
        self.0.value().unwrap_or(0)
    }
}

/// The state of one histogram.
#[derive(Debug, Default)]
pub(super) struct HistogramCell(Mutex<Ring>);

/// The last durations, oldest first from `next` on once it is full.
#[derive(Debug, Default)]
struct Ring {
    durations: Vec<Duration>,
    next: usize,
    count: u64,
    sum: Duration,
}

/// What a histogram has recorded.
pub(super) struct Recorded {
    /// The last ones, oldest first.
    pub(super) durations: Vec<Duration>,
    /// How many there were in all.
    pub(super) count: u64,
    /// How long they were together.
    pub(super) sum: Duration,
}

impl HistogramCell {
    #[inline]
    pub(super) fn record(&self, duration: Duration) {
        let mut ring = lock(&self.0);
        ring.count += 1;
        ring.sum = ring.sum.saturating_add(duration);
        if ring.durations.len() < DURATIONS_MAX {
            ring.durations.push(duration);
            return;
        }
        let next = ring.next;
        ring.durations[next] = duration;
        ring.next = (next + 1) % DURATIONS_MAX;
    }

    /// Returns what was recorded, or none if nothing was.
    pub(super) fn recorded(&self) -> Option<Recorded> {
        let ring = lock(&self.0);
        if ring.count == 0 {
            return None;
        }
        let (newer, older) = ring.durations.split_at(ring.next);
        let mut durations = Vec::with_capacity(ring.durations.len());
        durations.extend_from_slice(older);
        durations.extend_from_slice(newer);
        Some(Recorded { durations, count: ring.count, sum: ring.sum })
    }

    pub(super) fn reset(&self) {
        *lock(&self.0) = Ring::default();
    }
}

/// Durations of something. See
/// [`MetricsCollector::histogram`](super::MetricsCollector::histogram).
///
/// ```
/// use std::time::Duration;
///
/// let metrics = keepd::metrics::MetricsCollector::new();
/// metrics.histogram("latency").record(Duration::from_millis(3));
/// assert_eq!(metrics.get_metrics().histograms["latency"].len(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Histogram(pub(super) Arc<HistogramCell>);

impl Histogram {
    /// Records one duration.
    #[inline]
    pub fn record(&self, duration: Duration) {
        self.0.record(duration);
    }
}

/// Locks; numbers are whole at every moment, so a panic of somebody else does no harm.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
