//! The handle that every task gets.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::coordinator::Core;
use super::quit::Quit;
use super::slots::{Event, Key, Place};
use super::{ShutdownReason, clock};

/// Tells one task when to end, and is told when it is done.
///
/// A clone speaks for the same task. Dropping the last one of a handle that
/// [`create_handle`](super::ShutdownCoordinator::create_handle) made means that the task is done.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
///
/// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
/// let mut handle = coordinator.create_handle("web");
/// let task = tokio::spawn(async move {
///     handle.cancelled().await;
///     handle.shutdown_reason()
/// });
/// coordinator.initiate_shutdown(ShutdownReason::Requested);
/// assert_eq!(task.await.unwrap(), Some(ShutdownReason::Requested));
/// # }
/// ```
pub struct ShutdownHandle {
    core: Arc<Core>,
    key: Key,
}

impl ShutdownHandle {
    /// Takes over one handle that the table has counted already.
    pub(super) const fn counted(core: Arc<Core>, key: Key) -> Self {
        Self { core, key }
    }

    /// Makes one handle more for a participant.
    pub(super) fn another(core: &Arc<Core>, key: Key) -> Self {
        if !key.is_kept() {
            core.lock().slots.retain(key);
        }
        Self { core: Arc::clone(core), key }
    }

    /// Returns the participant and what it is part of.
    pub(crate) const fn parts(&self) -> (&Arc<Core>, Key) {
        (&self.core, self.key)
    }

    /// Reports whether this task is asked to end: all are, or it alone.
    ///
    /// One load of an atomic number in the common case.
    pub fn is_shutdown(&self) -> bool {
        self.core.is_cancelled(self.key)
    }

    /// Waits until this task is asked to end; returns at once if it was.
    pub async fn cancelled(&mut self) {
        Wait::new(&self.core, Event::Cancelled(self.key)).await;
    }

    /// Waits until the graceful time is over, or somebody asked twice: what is left has to be
    /// quick.
    pub async fn forced(&mut self) {
        Wait::new(&self.core, Event::Forced).await;
    }

    /// Returns why all are asked to end; `None` before that, and while only this one is asked.
    pub fn shutdown_reason(&self) -> Option<ShutdownReason> {
        self.core.word().reason()
    }

    /// Returns when all were asked to end.
    pub fn shutdown_time(&self) -> Option<Instant> {
        self.core.lock().begun
    }

    /// Reports whether the graceful time is over, or somebody asked twice.
    pub fn is_forced(&self) -> bool {
        self.core.word().is_forced()
    }

    /// Says that this task has done what it wanted to do before the end.
    ///
    /// The end of a subsystem says the same.
    pub fn ready(&self) {
        self.core.set_ready(self.key, true);
    }

    /// Returns what is left of the graceful time; `None` before a shutdown and after that time.
    pub fn time_remaining(&self) -> Option<Duration> {
        let state = self.core.lock();
        let deadline = state.begun?.checked_add(state.timeouts.graceful)?;
        deadline.checked_duration_since(clock::now()).filter(|left| !left.is_zero())
    }

    /// Makes a handle for a part of this task: it is asked to end when this one is, and has its own
    /// line in the statistics, `PARENT/NAME`.
    ///
    /// ```
    /// use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
    ///
    /// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
    /// let server = coordinator.create_handle("server");
    /// let connection = server.child("connection 7");
    /// coordinator.initiate_shutdown(ShutdownReason::Requested);
    /// assert!(connection.is_shutdown());
    /// ```
    #[must_use]
    pub fn child(&self, name: impl AsRef<str>) -> Self {
        let mut state = self.core.lock();
        let parent = state.slots.name(self.key);
        let name = format!("{}/{}", parent.as_deref().unwrap_or(""), name.as_ref());
        let key = state.slots.insert(name.into(), false, Some(self.key));
        drop(state);
        Self { core: Arc::clone(&self.core), key }
    }

    /// Returns the blocking form, for threads.
    #[must_use]
    pub fn quit(&self) -> Quit {
        Quit::new(self.clone())
    }
}

impl Clone for ShutdownHandle {
    fn clone(&self) -> Self {
        Self::another(&self.core, self.key)
    }
}

impl Drop for ShutdownHandle {
    fn drop(&mut self) {
        if !self.key.is_kept() {
            self.core.release(self.key);
        }
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.core.lock().slots.name(self.key);
        formatter
            .debug_struct("ShutdownHandle")
            .field("name", &name.as_deref().unwrap_or(""))
            .field("is_shutdown", &self.is_shutdown())
            .finish_non_exhaustive()
    }
}

/// Waits for one event of a shutdown.
pub(super) struct Wait<'a> {
    core: &'a Core,
    event: Event,
    place: Option<Place>,
}

impl<'a> Wait<'a> {
    pub(super) const fn new(core: &'a Core, event: Event) -> Self {
        Self { core, event, place: None }
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.has_surely_happened(self.event) {
            return Poll::Ready(());
        }
        let mut state = self.core.lock();
        // Asked under the lock: whoever makes it true takes the lock after that to collect wakers.
        if self.core.has_happened(&state, self.event) {
            let old = self.place.take().and_then(|place| state.slots.forget(place));
            drop(state);
            drop(old);
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let (place, old) = match self.place {
            Some(place) => (place, state.slots.wait_again(place, waker)),
            None => (state.slots.wait(self.event, waker), None),
        };
        drop(state);
        drop(old);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        // In the shutdown of all the wakers in the participants were taken, and nobody waits there
        // again; so very many that end at once need no lock for this.
        if !(place.is_inline() && self.core.has_surely_happened(self.event)) {
            let waker = self.core.lock().slots.forget(place);
            drop(waker);
        }
    }
}
