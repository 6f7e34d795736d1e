//! All numbers of one moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All numbers of one moment.
///
/// ```
/// use std::time::Duration;
///
/// let metrics = keepd::metrics::MetricsCollector::new();
/// metrics.record_histogram("latency", Duration::from_millis(3));
/// let snapshot = metrics.get_metrics();
/// let (name, count, sum) = snapshot.totals().next().expect("one was recorded");
/// assert_eq!((name, count, sum), ("latency", 1, Duration::from_millis(3)));
/// ```
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// How long the collector has existed, or since its last reset.
    pub uptime: Duration,
    /// The counts by name.
    pub counters: HashMap<String, u64>,
    /// The gauges by name.
    pub gauges: HashMap<String, u64>,
    /// The last 2048 durations by name, oldest first.
    pub histograms: HashMap<String, Vec<Duration>>,
    /// The moment.
    pub timestamp: Instant,
    /// Threads of the runtime in which the snapshot was taken, or processors outside of one.
    pub worker_count: usize,
    /// All durations ever recorded, how many and how long, by name.
    pub(super) totals: Vec<(Arc<str>, u64, Duration)>,
}

impl MetricsSnapshot {
    /// Returns how many durations were recorded under each name and how long they were together,
    /// those that are no longer kept included.
    pub fn totals(&self) -> impl Iterator<Item = (&str, u64, Duration)> {
        self.totals.iter().map(|(name, count, sum)| (&**name, *count, *sum))
    }
}
