//! All numbers of one moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cell::Recorded;

/// All numbers of one moment.
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
    totals: Vec<(Arc<str>, u64, Duration)>,
}

impl MetricsSnapshot {
    /// Makes an empty one with room for so many counters, gauges and histograms.
    pub(super) fn new(
        timestamp: Instant,
        started: Instant,
        worker_count: usize,
        [counters, gauges, histograms]: [usize; 3],
    ) -> Self {
        Self {
            uptime: timestamp.saturating_duration_since(started),
            counters: HashMap::with_capacity(counters),
            gauges: HashMap::with_capacity(gauges),
            histograms: HashMap::with_capacity(histograms),
            timestamp,
            worker_count,
            totals: Vec::with_capacity(histograms),
        }
    }

    pub(super) fn add_histogram(&mut self, name: &Arc<str>, recorded: Recorded) {
        self.totals.push((Arc::clone(name), recorded.count, recorded.sum));
        self.histograms.insert(String::from(&**name), recorded.durations);
    }

    /// Returns how many durations were recorded under each name and how long they were together,
    /// those that are no longer kept included.
    pub fn totals(&self) -> impl Iterator<Item = (&str, u64, Duration)> {
        self.totals.iter().map(|(name, count, sum)| (&**name, *count, *sum))
    }
}
