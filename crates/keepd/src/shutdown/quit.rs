//! The blocking form of a shutdown handle, for threads.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::ShutdownHandle;

/// The same question as [`ShutdownHandle`], for code that is not async.
///
/// ```
/// use std::time::Duration;
/// use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
///
/// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
/// let quit = coordinator.create_handle("worker").quit();
/// let worker = std::thread::spawn(move || {
///     let mut rounds = 0;
///     while !quit.wait(Duration::from_secs(3600)) {
///         rounds += 1;
///     }
///     rounds
/// });
/// coordinator.initiate_shutdown(ShutdownReason::Requested);
/// assert_eq!(worker.join().unwrap(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Quit {
    handle: ShutdownHandle,
}

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Quit {
    pub(super) const fn new(handle: ShutdownHandle) -> Self {
        Self { handle }
    }

    /// Reports whether this one is asked to end.
    pub fn is_requested(&self) -> bool {
        self.handle.is_shutdown()
    }

    /// Sleeps for this long, or until this one is asked to end: then at once. Returns whether it
    /// is.
    ///
    /// It blocks the thread; in async code use [`ShutdownHandle::cancelled`].
    pub fn wait(&self, duration: Duration) -> bool {
        let deadline = Instant::now().checked_add(duration);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut handle = self.handle.clone();
        let mut cancelled = pin!(handle.cancelled());
        while cancelled.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            // A deadline beyond the end of the clock is none.
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::{ShutdownCoordinator, ShutdownReason};

    #[test]
    fn a_wait_ends_with_its_time_and_with_the_request() {
        let coordinator = ShutdownCoordinator::new(1, 2, 3);
        let quit = coordinator.create_handle("a").quit();
        assert!(!quit.wait(Duration::from_millis(1)));
        assert!(!quit.is_requested());
        let waiting = thread::spawn(move || quit.wait(Duration::MAX));
        coordinator.initiate_shutdown(ShutdownReason::Requested);
        assert!(waiting.join().unwrap());
    }
}
