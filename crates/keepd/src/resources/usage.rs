//! What was measured.

use std::time::{Duration, Instant};

/// What a process used at one moment.
///
/// The fields and the methods of the same names say the same.
///
/// ```
/// use keepd::resources::ResourceUsage;
///
/// let usage = ResourceUsage::new(3 << 20, 12.5, 4);
/// assert_eq!(usage.memory_mb(), 3.0);
/// assert_eq!(usage.memory_mb, 3.0);
/// assert_eq!(usage.thread_count(), 4);
/// ```
#[derive(Clone, Debug)]
pub struct ResourceUsage {
    memory_bytes: u64,
    /// Resident memory in MiB.
    pub memory_mb: f64,
    /// Processor time since the sample before, 0 to 100 over all processors together.
    pub cpu_percent: f64,
    /// Threads.
    pub thread_count: u32,
    measured: Instant,
}

impl ResourceUsage {
    /// Returns the usage of this moment.
    pub fn new(memory_bytes: u64, cpu_percent: f64, thread_count: u32) -> Self {
        let memory_mb = memory_bytes as f64 / f64::from(1 << 20);
        let measured = Instant::now();
        Self { memory_bytes, memory_mb, cpu_percent, thread_count, measured }
    }

    /// Returns the resident memory in bytes.
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Returns the resident memory in MiB.
    pub const fn memory_mb(&self) -> f64 {
        self.memory_mb
    }

    /// Returns the processor time since the sample before, 0 to 100 over all processors together.
    /// The first sample has 0.
    pub const fn cpu_percent(&self) -> f64 {
        self.cpu_percent
    }

    /// Returns the number of threads.
    pub const fn thread_count(&self) -> u32 {
        self.thread_count
    }

    /// Returns how long ago it was measured.
    pub fn age(&self) -> Duration {
        self.measured.elapsed()
    }
}

/// What an alert handler is told.
///
/// ```
/// use std::time::Duration;
///
/// use keepd::resources::{Alert, ResourceTracker};
///
/// let tracker = ResourceTracker::new(Duration::from_secs(1))
///     .with_memory_soft_limit_bytes(512 << 20)
///     .with_alert_handler(|Alert::MemorySoftLimit { limit_bytes, current_bytes }| {
///         println!("{current_bytes} bytes are more than {limit_bytes}");
///     });
/// # drop(tracker);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// The memory rose above the soft limit. Told once, until it was below again.
    MemorySoftLimit {
        /// The limit, in bytes.
        limit_bytes: u64,
        /// What is used now, in bytes.
        current_bytes: u64,
    },
}
