//! Things that are worked with on threads that may hang.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::config::blocking;

/// How many looks at file systems go on at once; those that hang are among them, so that threads
/// are left for everything else.
const LOOKS_MAX: usize = 16;

/// Bounds how many threads look at something.
#[derive(Clone)]
pub(super) struct Looks(Arc<Semaphore>);

impl Looks {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LOOKS_MAX)))
    }
}

/// A thing that one thread at a time works with. A thread that hangs keeps it, so that asking again
/// and again does not cost thread after thread.
#[derive(Debug)]
pub(super) struct Lent<T> {
    home: Mutex<Option<T>>,
    back: Notify,
}

impl<T: Send + 'static> Lent<T> {
    pub(super) fn new(thing: T) -> Arc<Self> {
        Arc::new(Self { home: Mutex::new(Some(thing)), back: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // A panic while the lock is held cannot leave the option half-changed.
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the thing on another thread as soon as it is there and a thread may be had. Who
    /// does not want to wait longer drops the future; the thread goes on.
    pub(super) async fn work<R: Send + 'static>(
        self: &Arc<Self>,
        looks: &Looks,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        let permit = Arc::clone(&looks.0).acquire_owned().await;
        let mut thing = loop {
            let back = self.back.notified();
            if let Some(thing) = self.lock().take() {
                break thing;
            }
            back.await;
        };
        let lent = Arc::clone(self);
        blocking(move || {
            let result = work(&mut thing);
            *lent.lock() = Some(thing);
            lent.back.notify_one();
            drop(permit);
            result
        })
        .await
    }
}
