//! The numbers of a daemon: what its process uses, and how its subsystems are.

use std::sync::OnceLock;
use std::time::Duration;

use crate::Config;
#[cfg(feature = "metrics")]
use crate::metrics::MetricsCollector;
use crate::resources::{ResourceTracker, Sampler};
use crate::subsystem::Counts;

/// What the numbers are kept in, made when somebody first wants them.
#[derive(Default)]
pub(super) struct Kept {
    tracker: OnceLock<ResourceTracker>,
    #[cfg(feature = "metrics")]
    metrics: OnceLock<MetricsCollector>,
}

impl Kept {
    /// Keeps the numbers in a collector that the program has.
    #[cfg(feature = "metrics")]
    pub(super) fn with_metrics(metrics: MetricsCollector) -> Self {
        Self { metrics: metrics.into(), tracker: OnceLock::new() }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn metrics(&self) -> &MetricsCollector {
        self.metrics.get_or_init(MetricsCollector::new)
    }

    /// Returns the tracker, whose samples are taken by the loop of the daemon.
    pub(super) fn tracker(&self, config: &Config) -> &ResourceTracker {
        self.tracker.get_or_init(|| {
            let tracker = ResourceTracker::new(config.metrics_interval());
            #[cfg(feature = "metrics")]
            if config.monitoring.enable_metrics {
                return tracker.with_metrics(self.metrics().clone());
            }
            tracker
        })
    }
}

/// What takes the numbers, again and again.
pub(super) struct Numbers {
    /// Absent where nothing is measured, or where the system does not let us.
    sampler: Option<Sampler>,
    /// Absent where the configuration wants no numbers.
    #[cfg(feature = "metrics")]
    metrics: Option<MetricsCollector>,
    /// What the counters had at the last time.
    #[cfg(feature = "metrics")]
    restarts: u64,
}

impl Numbers {
    /// Begins to measure as it is configured. A process that cannot be measured is a line of the
    /// log: a daemon works the same without its numbers.
    pub(super) fn begin(config: &Config, kept: &Kept) -> Self {
        let sampler = config.monitoring.track_resources.then(|| {
            let begun = kept.tracker(config).sampler();
            begun.inspect_err(|error| tracing::debug!(%error, "Nothing is measured.")).ok()
        });
        Self {
            sampler: sampler.flatten(),
            #[cfg(feature = "metrics")]
            metrics: config.monitoring.enable_metrics.then(|| kept.metrics().clone()),
            #[cfg(feature = "metrics")]
            restarts: 0,
        }
    }

    /// Returns how often the numbers are taken; zero is never.
    pub(super) fn period(config: &Config) -> Duration {
        let monitoring = &config.monitoring;
        let publishes = cfg!(feature = "metrics") && monitoring.enable_metrics;
        if publishes || monitoring.track_resources {
            config.metrics_interval()
        } else {
            Duration::ZERO
        }
    }

    /// Takes the numbers of this moment.
    pub(super) fn take(&mut self, counts: Counts) {
        if self.sampler.as_mut().is_some_and(|sampler| !sampler.sample()) {
            self.sampler = None;
        }
        #[cfg(feature = "metrics")]
        self.publish(counts);
        #[cfg(not(feature = "metrics"))]
        let _ = counts;
    }

    #[cfg(feature = "metrics")]
    fn publish(&mut self, counts: Counts) {
        let Some(metrics) = &self.metrics else { return };
        let Counts { registered, running, failed, unhealthy, restarts } = counts;
        metrics.set_gauge("daemon.subsystems", registered);
        metrics.set_gauge("daemon.subsystems_running", running);
        metrics.set_gauge("daemon.subsystems_failed", failed);
        metrics.set_gauge("daemon.subsystems_unhealthy", unhealthy);
        metrics.increment_counter("daemon.restarts_total", restarts - self.restarts);
        self.restarts = restarts;
    }
}
