//! The front door.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::cell::{Counter, Gauge, Histogram};
use super::registry::Registry;
use super::snapshot::MetricsSnapshot;

/// Collects numbers by name. Clones share them.
///
/// ```
/// use keepd::metrics::MetricsCollector;
/// use std::time::Duration;
///
/// let metrics = MetricsCollector::new();
/// metrics.increment_counter("requests_total", 1);
/// metrics.set_gauge("active_connections", 42);
/// metrics.record_histogram("request_latency", Duration::from_millis(150));
///
/// let snapshot = metrics.get_metrics();
/// assert_eq!(snapshot.counters["requests_total"], 1);
/// assert_eq!(snapshot.gauges["active_connections"], 42);
/// assert_eq!(snapshot.histograms["request_latency"], [Duration::from_millis(150)]);
/// ```
#[derive(Clone, Debug)]
pub struct MetricsCollector(Arc<Registry>);

impl Default for MetricsCollector {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsCollector {
    /// Returns an empty collector.
    pub fn new() -> Self {
        Self(Arc::new(Registry::new()))
    }

    /// Adds to a counter.
    #[inline]
    pub fn increment_counter(&self, name: &str, value: u64) {
        self.0.increment(name, value);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set_gauge(&self, name: &str, value: u64) {
        self.0.set(name, value);
    }

    /// Records a duration. The last 2048 of each name are kept, in their order.
    #[inline]
    pub fn record_histogram(&self, name: &str, duration: Duration) {
        self.0.record(name, duration);
    }

    /// Returns a handle to a counter, which needs no look-up.
    ///
    /// ```
    /// use keepd::metrics::MetricsCollector;
    ///
    /// let metrics = MetricsCollector::new();
    /// let requests = metrics.counter("requests_total");
    /// requests.increment(1);
    /// assert_eq!(requests.value(), 1);
    /// ```
    pub fn counter(&self, name: &str) -> Counter {
        Counter(self.0.counters.get(name))
    }

    /// Returns a handle to a gauge, which needs no look-up.
    pub fn gauge(&self, name: &str) -> Gauge {
        Gauge(self.0.gauges.get(name))
    }

    /// Returns a handle to a histogram, which needs no look-up.
    pub fn histogram(&self, name: &str) -> Histogram {
        Histogram(self.0.histograms.get(name))
    }

    /// Returns all numbers of this moment. Names that were not used since the last reset are not
    /// among them.
    pub fn get_metrics(&self) -> MetricsSnapshot {
        self.0.snapshot(worker_count())
    }

    /// Forgets all numbers and begins anew. Handles stay good.
    pub fn reset(&self) {
        self.0.reset();
    }
}

/// Returns how many threads the runtime of the caller has, outside of one how many processors there
/// are.
fn worker_count() -> usize {
    #[cfg(feature = "tokio")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return runtime.metrics().num_workers();
    }
    // Asking the system takes longer than all the rest of a snapshot.
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS
        .get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
