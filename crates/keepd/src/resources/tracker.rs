//! Measuring again and again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sample::{self, Counted};
use super::usage::{Alert, ResourceUsage};
use crate::error::{Error, ErrorCode, Result};

/// How many samples are kept unless something else is said.
const HISTORY_MAX: usize = 60;

/// Measures a process at intervals, on a thread of its own or in [`ResourceTracker::run`]. Clones
/// share the samples.
///
/// ```
/// # #[cfg(target_os = "linux")]
/// # fn main() -> keepd::Result<()> {
/// use keepd::resources::ResourceTracker;
/// use std::time::Duration;
///
/// let mut tracker = ResourceTracker::new(Duration::from_secs(1)).with_max_history(10);
/// tracker.start()?;
/// assert!(tracker.current_usage().memory_bytes() > 0);
/// # Ok(())
/// # }
/// # #[cfg(not(target_os = "linux"))]
/// # fn main() {}
/// ```
pub struct ResourceTracker {
    settings: Settings,
    samples: Arc<Samples>,
    /// Only the value that started it has it; clones only look.
    worker: Option<Worker>,
}

type AlertHandler = Arc<dyn Fn(Alert) + Send + Sync>;

#[derive(Clone)]
struct Settings {
    interval: Duration,
    pid: u32,
    history_max: usize,
    memory_limit_bytes: Option<u64>,
    alert: Option<AlertHandler>,
    #[cfg(feature = "metrics")]
    metrics: Option<crate::metrics::MetricsCollector>,
}

/// What clones share.
#[derive(Default)]
struct Samples {
    history: Mutex<VecDeque<ResourceUsage>>,
}

struct Worker {
    /// True when it must end.
    quit: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for ResourceTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceTracker")
            .field("pid", &self.settings.pid)
            .field("interval", &self.settings.interval)
            .field("is_started", &self.worker.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for ResourceTracker {
    /// Measures this process every second.
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

impl Clone for ResourceTracker {
    fn clone(&self) -> Self {
        let (settings, samples) = (self.settings.clone(), Arc::clone(&self.samples));
        Self { settings, samples, worker: None }
    }
}

impl Drop for ResourceTracker {
    fn drop(&mut self) {
        self.end();
    }
}

impl ResourceTracker {
    /// Returns a tracker of this process that is not started yet.
    pub fn new(sample_interval: Duration) -> Self {
        let settings = Settings {
            interval: sample_interval,
            pid: std::process::id(),
            history_max: HISTORY_MAX,
            memory_limit_bytes: None,
            alert: None,
            #[cfg(feature = "metrics")]
            metrics: None,
        };
        Self { settings, samples: Arc::default(), worker: None }
    }

    /// Measures another process.
    #[must_use]
    pub const fn with_pid(mut self, pid: u32) -> Self {
        self.settings.pid = pid;
        self
    }

    /// Keeps so many samples instead of 60; at least one.
    #[must_use]
    pub const fn with_max_history(mut self, samples: usize) -> Self {
        self.settings.history_max = if samples == 0 { 1 } else { samples };
        self
    }

    /// Calls the alert handler when the memory rises above a limit.
    #[must_use]
    pub const fn with_memory_soft_limit_bytes(mut self, limit: u64) -> Self {
        self.settings.memory_limit_bytes = Some(limit);
        self
    }

    /// Sets what is called when a limit is crossed, on the thread that measures.
    #[must_use]
    pub fn with_alert_handler<F: Fn(Alert) + Send + Sync + 'static>(mut self, handler: F) -> Self {
        self.settings.alert = Some(Arc::new(handler));
        self
    }

    /// Logs a warning when a limit is crossed.
    #[must_use]
    pub fn with_alert_to_tracing(self) -> Self {
        self.with_alert_handler(|alert| match alert {
            Alert::MemorySoftLimit { limit_bytes, current_bytes } => tracing::warn!(
                limit_bytes,
                current_bytes,
                "the process uses more memory than its soft limit"
            ),
        })
    }

    /// Writes every sample into a collector: gauges `proc.memory_bytes`, `proc.cpu_milli_percent`
    /// and `proc.thread_count`, counter `proc.samples_total`, histogram `proc.sample_interval`.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_metrics(mut self, metrics: crate::metrics::MetricsCollector) -> Self {
        self.settings.metrics = Some(metrics);
        self
    }

    /// Takes the first sample, and starts the thread that takes the others. Does nothing if this
    /// was done.
    ///
    /// # Errors
    ///
    /// An input or output error if there is no such process, a platform error outside of Linux, and
    /// a runtime error if no thread can be started.
    pub fn start(&mut self) -> Result<()> {
        if self.worker.is_some() {
            return Ok(());
        }
        let mut sampler = Sampler::begin(self.settings.clone(), Arc::clone(&self.samples))?;
        let quit = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = {
            let quit = Arc::clone(&quit);
            let run = move || while !waited_for_quit(&quit, sampler.next) && sampler.sample() {};
            std::thread::Builder::new().name("keepd-resources".to_owned()).spawn(run)
        };
        let thread = thread.map_err(|error| {
            let text = format!("cannot start the thread that measures: {error}");
            Error::runtime_with_code(ErrorCode::RuntimeSpawnError, text)
        })?;
        self.worker = Some(Worker { quit, thread });
        Ok(())
    }

    /// Ends the thread. The samples stay.
    #[expect(clippy::unused_async, reason = "the signature is proc-daemon's")]
    pub async fn stop(&mut self) {
        // At most as long as one sample takes.
        self.end();
    }

    /// Measures until the future is dropped or the process is gone: the form for a task.
    ///
    /// # Errors
    ///
    /// As [`ResourceTracker::start`]. It is no error when the process ends later.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use keepd::resources::ResourceTracker;
    ///
    /// let tracker = ResourceTracker::default();
    /// let task = tracker.clone();
    /// let task = tokio::spawn(async move { task.run().await });
    /// while tracker.history().is_empty() {
    ///     tokio::task::yield_now().await;
    /// }
    /// task.abort();
    /// # }
    /// # #[cfg(not(target_os = "linux"))]
    /// # fn main() {}
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn run(&self) -> Result<()> {
        let mut sampler = self.sampler()?;
        loop {
            tokio::time::sleep(self.settings.interval.max(INTERVAL_MIN)).await;
            if !sampler.sample() {
                return Ok(());
            }
        }
    }

    /// Takes the first sample, and returns what takes the others when its owner says so.
    #[cfg(feature = "tokio")]
    pub(crate) fn sampler(&self) -> Result<Sampler> {
        Sampler::begin(self.settings.clone(), Arc::clone(&self.samples))
    }

    /// Returns the last sample; all zero before the first one.
    pub fn current_usage(&self) -> ResourceUsage {
        let last = self.samples.lock().back().cloned();
        last.unwrap_or_else(|| ResourceUsage::new(0, 0.0, 0))
    }

    /// Returns the samples that are kept, oldest first.
    pub fn history(&self) -> Vec<ResourceUsage> {
        self.samples.lock().iter().cloned().collect()
    }

    fn end(&mut self) {
        let Some(Worker { quit, thread }) = self.worker.take() else { return };
        *quit.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        quit.1.notify_one();
        // An alert handler may drop the tracker, and cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            // A panic of the handler was printed by its thread.
            drop(thread.join());
        }
    }
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, VecDeque<ResourceUsage>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a moment; true if the end was asked for.
fn waited_for_quit(quit: &(Mutex<bool>, Condvar), until: Instant) -> bool {
    let mut is_asked = quit.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if *is_asked || left.is_zero() {
            return *is_asked;
        }
        let waited = quit.1.wait_timeout(is_asked, left);
        is_asked = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Takes the samples, and remembers what the next one is compared with.
pub(crate) struct Sampler {
    settings: Settings,
    samples: Arc<Samples>,
    last: Counted,
    last_at: Instant,
    is_above_limit: bool,
    /// When the next sample is due.
    next: Instant,
}

/// A second sample at once would divide nothing by nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Sampler {
    fn begin(settings: Settings, samples: Arc<Samples>) -> Result<Self> {
        let last = sample::read(settings.pid)?;
        let now = Instant::now();
        let next = now + settings.interval.max(INTERVAL_MIN);
        let mut sampler =
            Self { settings, samples, last, last_at: now, is_above_limit: false, next };
        // Nothing to compare with yet: the time since the process began is not this interval's.
        sampler.take(last, 0.0, None);
        Ok(sampler)
    }

    /// Takes one sample; false if the process is gone.
    pub(crate) fn sample(&mut self) -> bool {
        let now = Instant::now();
        let counted = match sample::read(self.settings.pid) {
            Ok(counted) => counted,
            Err(error) => {
                tracing::debug!(%error, "measuring ends");
                return false;
            }
        };
        let elapsed = now.saturating_duration_since(self.last_at);
        let used = (counted.cpu_seconds - self.last.cpu_seconds).max(0.0);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let available = elapsed.as_secs_f64() * processors as f64;
        let percent = if available > 0.0 { (100.0 * used / available).min(100.0) } else { 0.0 };
        (self.last, self.last_at) = (counted, now);
        self.next = now + self.settings.interval.max(INTERVAL_MIN);
        self.take(counted, percent, Some(elapsed));
        true
    }

    fn take(&mut self, counted: Counted, cpu_percent: f64, interval: Option<Duration>) {
        let usage = ResourceUsage::new(counted.memory_bytes, cpu_percent, counted.thread_count);
        #[cfg(feature = "metrics")]
        self.publish(&usage, interval);
        #[cfg(not(feature = "metrics"))]
        let _ = interval;
        {
            let mut history = self.samples.lock();
            while history.len() >= self.settings.history_max {
                history.pop_front();
            }
            history.push_back(usage);
        }
        self.alert(counted.memory_bytes);
    }

    #[cfg(feature = "metrics")]
    fn publish(&self, usage: &ResourceUsage, interval: Option<Duration>) {
        let Some(metrics) = &self.settings.metrics else { return };
        metrics.set_gauge("proc.memory_bytes", usage.memory_bytes());
        metrics.set_gauge("proc.cpu_milli_percent", (usage.cpu_percent * 1000.0) as u64);
        metrics.set_gauge("proc.thread_count", u64::from(usage.thread_count));
        metrics.increment_counter("proc.samples_total", 1);
        if let Some(interval) = interval {
            metrics.record_histogram("proc.sample_interval", interval);
        }
    }

    /// Calls the handler when the limit is crossed upwards.
    fn alert(&mut self, current_bytes: u64) {
        let Some(limit_bytes) = self.settings.memory_limit_bytes else { return };
        let was_above = std::mem::replace(&mut self.is_above_limit, current_bytes > limit_bytes);
        if let (false, true, Some(alert)) = (was_above, self.is_above_limit, &self.settings.alert) {
            alert(Alert::MemorySoftLimit { limit_bytes, current_bytes });
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn counted(memory_bytes: u64) -> Counted {
        Counted { memory_bytes, cpu_seconds: 0.0, thread_count: 1 }
    }

    #[test]
    fn an_alert_is_told_when_the_limit_is_crossed_and_not_again() {
        let (sender, alerts) = channel();
        let tracker = ResourceTracker::default()
            .with_memory_soft_limit_bytes(u64::MAX - 1)
            .with_alert_handler(move |alert| sender.send(alert).unwrap());
        let mut sampler =
            Sampler::begin(tracker.settings.clone(), Arc::clone(&tracker.samples)).unwrap();
        sampler.settings.memory_limit_bytes = Some(100);
        for bytes in [50, 101, 150, 100, 99, 200, 300] {
            sampler.take(counted(bytes), 0.0, None);
        }
        let alert = |current_bytes| Alert::MemorySoftLimit { limit_bytes: 100, current_bytes };
        assert_eq!(alerts.try_iter().collect::<Vec<_>>(), [alert(101), alert(200)]);
    }

    #[test]
    fn the_first_sample_is_taken_at_the_start_and_has_no_processor_time() {
        let mut tracker = ResourceTracker::new(Duration::from_secs(3600));
        assert_eq!(tracker.current_usage().memory_bytes(), 0);
        tracker.start().unwrap();
        tracker.start().unwrap();
        let history = tracker.clone().history();
        assert_eq!(history.len(), 1);
        assert!(history[0].memory_bytes() > 0);
        assert_eq!(history[0].cpu_percent(), 0.0);
    }

    #[test]
    fn the_history_is_bounded() {
        let tracker = ResourceTracker::default().with_max_history(3);
        let samples = Arc::clone(&tracker.samples);
        let mut sampler = Sampler::begin(tracker.settings.clone(), samples).unwrap();
        for bytes in 1..=10 {
            sampler.take(counted(bytes), 0.0, None);
        }
        let bytes: Vec<u64> = tracker.history().iter().map(ResourceUsage::memory_bytes).collect();
        assert_eq!(bytes, [8, 9, 10]);
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error_of_the_start() {
        let error = ResourceTracker::default().with_pid(u32::MAX).start().unwrap_err();
        assert!(error.to_string().contains("cannot measure process 4294967295"), "{error}");
    }

    #[test]
    fn processor_time_is_of_the_interval_and_never_above_100() {
        let tracker = ResourceTracker::default();
        let samples = Arc::clone(&tracker.samples);
        let mut sampler = Sampler::begin(tracker.settings.clone(), samples).unwrap();
        // As if the process had used an hour in the last millisecond.
        sampler.last.cpu_seconds = -3600.0;
        assert!(sampler.sample());
        assert_eq!(tracker.current_usage().cpu_percent(), 100.0);
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn samples_are_written_into_the_collector() {
        let metrics = crate::metrics::MetricsCollector::new();
        let tracker = ResourceTracker::default().with_metrics(metrics.clone());
        let samples = Arc::clone(&tracker.samples);
        let mut sampler = Sampler::begin(tracker.settings.clone(), samples).unwrap();
        assert!(sampler.sample());
        let snapshot = metrics.get_metrics();
        assert_eq!(snapshot.counters["proc.samples_total"], 2);
        assert_eq!(snapshot.histograms["proc.sample_interval"].len(), 1);
        assert!(snapshot.gauges["proc.memory_bytes"] > 0);
        assert!(snapshot.gauges.contains_key("proc.cpu_milli_percent"));
        assert!(snapshot.gauges["proc.thread_count"] > 0);
    }
}
