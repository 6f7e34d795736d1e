//! A runtime as the configuration describes it, for programs without one.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};

use super::Daemon;
use crate::{Config, Error, ErrorCode, Result};

impl Daemon {
    /// Runs the daemon in a runtime of its own, with `performance.worker_threads` threads, and
    /// returns when everything has ended.
    ///
    /// ```no_run
    /// use keepd::{Config, Daemon};
    ///
    /// fn main() -> keepd::Result<()> {
    ///     Daemon::builder(Config::load()?).build()?.run_blocking()
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Daemon::run`]; fails where the threads cannot be made (RuntimeSpawnError).
    pub fn run_blocking(self) -> Result<()> {
        let runtime = build(self.config())?;
        let result = runtime.block_on(self.run());
        if result.as_ref().is_err_and(Error::is_timeout) {
            // Whoever blocks its thread now would block the end of the runtime as well.
            runtime.shutdown_background();
        }
        result
    }
}

fn build(config: &Config) -> Result<Runtime> {
    let threads = config.worker_threads();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all();
    if config.performance.thread_pinning {
        let started = AtomicUsize::new(0);
        builder.on_thread_start(move || {
            // The threads for blocking work come later and go where they want.
            let number = started.fetch_add(1, Ordering::Relaxed);
            if number < threads {
                pin(number);
            }
        });
    }
    builder.build().map_err(|error| {
        let message = format!("cannot start the runtime: {error}");
        Error::runtime_with_code(ErrorCode::RuntimeSpawnError, message)
    })
}

/// Keeps the calling thread on one of the processors that the process may use.
#[cfg(target_os = "linux")]
fn pin(number: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let pinned = sched_getaffinity(None).and_then(|allowed| {
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        let mut one = CpuSet::new();
        one.set(usable[number % usable.len()]);
        sched_setaffinity(None, &one)
    });
    if let Err(error) = pinned {
        tracing::warn!(%error, "Cannot pin a thread to a processor.");
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(number: usize) {
    tracing::debug!(number, "Threads are pinned on Linux only.");
}
