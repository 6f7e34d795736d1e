//! How long something takes.

use std::time::Instant;

use super::cell::Histogram;
use super::collector::MetricsCollector;

/// Records the time from its making to its end, as exactly one duration: when it is stopped or when
/// it is dropped.
///
/// ```
/// use keepd::metrics::{MetricsCollector, Timer};
///
/// let metrics = MetricsCollector::new();
/// let timer = Timer::new(metrics.clone(), "work");
/// timer.stop();
/// assert_eq!(metrics.get_metrics().histograms["work"].len(), 1);
/// ```
#[derive(Debug)]
#[must_use = "a timer that is dropped at once measures nothing"]
pub struct Timer {
    histogram: Histogram,
    started: Instant,
}

impl Timer {
    /// Starts to measure.
    #[expect(clippy::needless_pass_by_value, reason = "the signature is proc-daemon's")]
    pub fn new(collector: MetricsCollector, name: impl AsRef<str>) -> Self {
        Self { histogram: collector.histogram(name.as_ref()), started: Instant::now() }
    }

    /// Ends the measurement.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.record(self.started.elapsed());
    }
}
