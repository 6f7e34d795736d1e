//! The one who asks everybody to end, and knows how far they are.
#![cfg_attr(
    all(not(feature = "tokio"), not(test)),
    expect(dead_code, reason = "only the managers of subsystems use all of it")
)]

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::handle::{ShutdownHandle, Wait};
use super::slots::{Event, Key, Slots};
use super::word::Word;
use super::{ShutdownReason, ShutdownStats, clock};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// How long each phase of a shutdown may take, counted from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) graceful: Duration,
    pub(crate) force: Duration,
    pub(crate) kill: Duration,
}

impl Timeouts {
    const fn from_millis(graceful: u64, force: u64, kill: u64) -> Self {
        Self {
            graceful: Duration::from_millis(graceful),
            force: Duration::from_millis(force),
            kill: Duration::from_millis(kill),
        }
    }
}

/// Is told when the phase of a shutdown changes. It has to return at once and takes no lock of
/// this module.
pub(crate) type Observer = Arc<dyn Fn() + Send + Sync>;

/// What all handles share. The word and the exceptions are written under the lock only, and read
/// without it.
pub(crate) struct Core {
    word: AtomicU64,
    alone: AtomicU32,
    held: AtomicU32,
    /// Counts the changes of the phase and of the timeouts.
    revision: AtomicU32,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) slots: Slots,
    pub(super) begun: Option<Instant>,
    pub(super) timeouts: Timeouts,
    observers: Vec<Observer>,
}

impl Core {
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// A panic while the lock is held leaves the table whole: nothing in it calls foreign code.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_cancelled(&self, key: Key) -> bool {
        let begun = self.word().is_begun();
        let exceptions = if begun { &self.held } else { &self.alone };
        if exceptions.load(Ordering::Acquire) == 0 {
            return begun;
        }
        let state = self.lock();
        state.slots.is_cancelled(key, self.word().is_begun())
    }

    /// Reports, without the lock, whether this has happened and stays so. What is not sure has to
    /// be asked under the lock. Once this is true of a cancellation, the wakers in the participants
    /// have been taken, or are being taken under the lock.
    pub(super) fn has_surely_happened(&self, event: Event) -> bool {
        let word = self.word();
        match event {
            Event::Cancelled(_) => word.is_begun() && self.held.load(Ordering::Acquire) == 0,
            Event::Begun => word.is_begun(),
            Event::Forced => word.is_forced(),
            Event::Complete => false,
        }
    }

    pub(super) fn has_happened(&self, state: &State, event: Event) -> bool {
        let word = self.word();
        match event {
            Event::Cancelled(key) => state.slots.is_cancelled(key, word.is_begun()),
            Event::Begun => word.is_begun(),
            Event::Forced => word.is_forced(),
            Event::Complete => state.slots.is_complete(),
        }
    }

    /// Changes the table and wakes whom that concerns.
    fn change(&self, change: impl FnOnce(&mut Slots, bool) -> Vec<Waker>) {
        let mut state = self.lock();
        // Under the lock: a request that comes between would wake nobody whom this change concerns.
        let begun = self.word().is_begun();
        let was_complete = state.slots.is_complete();
        let mut due = change(&mut state.slots, begun);
        if !was_complete && state.slots.is_complete() {
            due.extend(state.slots.due_on(Event::Complete));
        }
        let (alone, held) = state.slots.exceptions();
        self.alone.store(alone, Ordering::Release);
        self.held.store(held, Ordering::Release);
        drop(state);
        wake(due);
    }

    pub(super) fn release(&self, key: Key) {
        self.change(|slots, begun| slots.release(key, begun));
    }

    pub(super) fn set_ready(&self, key: Key, ready: bool) {
        self.change(|slots, _| {
            slots.set_ready(key, ready);
            Vec::new()
        });
    }

    fn begin(&self, reason: ShutdownReason) -> bool {
        let mut state = self.lock();
        if self.word().is_begun() {
            return false;
        }
        state.begun = Some(clock::now());
        let word = Word::begun(reason);
        self.word.store(word.0, Ordering::Release);
        self.revision.fetch_add(1, Ordering::Release);
        let mut due = state.slots.due_on_begin();
        if word.is_forced() {
            due.extend(state.slots.due_on(Event::Forced));
        }
        let observers = state.observers.clone();
        drop(state);
        wake(due);
        observers.iter().for_each(|observer| observer());
        true
    }

    /// Puts marks on the word of a shutdown that has begun. Returns whether that changed it.
    fn mark(&self, mark: impl Fn(Word) -> Word) -> bool {
        let state = self.lock();
        let (old, new) = (self.word(), mark(self.word()));
        if !old.is_begun() || old == new {
            return false;
        }
        self.word.store(new.0, Ordering::Release);
        self.revision.fetch_add(1, Ordering::Release);
        let due = state.slots.due_on(Event::Forced);
        let observers = state.observers.clone();
        drop(state);
        wake(due);
        observers.iter().for_each(|observer| observer());
        true
    }
}

fn wake(due: Vec<Waker>) {
    due.into_iter().for_each(Waker::wake);
}

/// Asks every task to end, once, and knows how far they are.
///
/// Clones are the same coordinator. The three timeouts count from the request: after `graceful` the
/// handles say [`is_forced`](ShutdownHandle::is_forced), after `force` what still runs is aborted,
/// after `kill` the process ends. The coordinator itself only asks and counts; a
/// [`SubsystemManager`](crate::subsystem::SubsystemManager) and a [`Daemon`](crate::Daemon) carry
/// the phases out.
///
/// ```
/// use keepd::shutdown::{ShutdownCoordinator, ShutdownReason};
///
/// let coordinator = ShutdownCoordinator::new(5_000, 10_000, 15_000);
/// assert!(coordinator.initiate_shutdown(ShutdownReason::Requested));
/// assert!(!coordinator.initiate_shutdown(ShutdownReason::Error), "the first reason stays");
/// assert_eq!(coordinator.get_reason(), Some(ShutdownReason::Requested));
/// ```
#[derive(Clone)]
pub struct ShutdownCoordinator {
    core: Arc<Core>,
}

impl ShutdownCoordinator {
    /// Makes a coordinator with these timeouts, in milliseconds from the request.
    pub fn new(graceful_timeout_ms: u64, force_timeout_ms: u64, kill_timeout_ms: u64) -> Self {
        let timeouts =
            Timeouts::from_millis(graceful_timeout_ms, force_timeout_ms, kill_timeout_ms);
        let state = State { slots: Slots::default(), begun: None, timeouts, observers: Vec::new() };
        Self {
            core: Arc::new(Core {
                word: AtomicU64::new(0),
                alone: AtomicU32::new(0),
                held: AtomicU32::new(0),
                revision: AtomicU32::new(0),
                state: Mutex::new(state),
            }),
        }
    }

    /// Makes a handle for one more task.
    pub fn create_handle<S: Into<String>>(&self, name: S) -> ShutdownHandle {
        let name = Arc::from(name.into());
        let key = self.core.lock().slots.insert(name, false, None);
        ShutdownHandle::counted(Arc::clone(&self.core), key)
    }

    /// Asks everybody to end. Returns whether this was the first request; its reason stays.
    pub fn initiate_shutdown(&self, reason: ShutdownReason) -> bool {
        let first = self.begin(reason);
        if first {
            tracing::info!(%reason, "Shutdown begins.");
        }
        first
    }

    /// Asks everybody to end and says nothing in the log, which may be blocked.
    pub(crate) fn begin(&self, reason: ShutdownReason) -> bool {
        self.core.begin(reason)
    }

    /// Ends the force time now: what still runs is aborted by its manager. This is what a second
    /// signal does. Returns whether a shutdown goes on and this was the first time.
    pub fn force(&self) -> bool {
        self.core.mark(Word::aborting)
    }

    /// Ends the graceful time now.
    pub(crate) fn end_grace(&self) {
        self.core.mark(Word::forced);
    }

    /// Reports whether the force time is over.
    pub(crate) fn is_aborting(&self) -> bool {
        self.core.word().is_aborting()
    }

    /// Reports whether a shutdown was asked for.
    pub fn is_shutdown(&self) -> bool {
        self.core.word().is_begun()
    }

    /// Reports whether the graceful time is over.
    pub fn is_forced(&self) -> bool {
        self.core.word().is_forced()
    }

    /// Returns the first reason.
    pub fn get_reason(&self) -> Option<ShutdownReason> {
        self.core.word().reason()
    }

    /// Returns how far the shutdown has come.
    pub fn get_stats(&self) -> ShutdownStats {
        let state = self.core.lock();
        let (total_subsystems, ready_subsystems) = state.slots.counts();
        ShutdownStats {
            is_shutdown: self.is_shutdown(),
            reason: self.get_reason(),
            shutdown_time: state.begun,
            total_subsystems,
            ready_subsystems,
            subsystem_states: state.slots.states(),
        }
    }

    /// Replaces the timeouts, in milliseconds from the request; also while a shutdown goes on.
    pub fn update_timeouts(&self, graceful_ms: u64, force_ms: u64, kill_ms: u64) {
        let mut state = self.core.lock();
        state.timeouts = Timeouts::from_millis(graceful_ms, force_ms, kill_ms);
        self.core.revision.fetch_add(1, Ordering::Release);
        let observers = state.observers.clone();
        drop(state);
        observers.iter().for_each(|observer| observer());
    }

    /// Waits until a shutdown is asked for.
    pub async fn wait_initiated(&self) {
        Wait::new(&self.core, Event::Begun).await;
    }

    /// Returns the timeouts.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.core.lock().timeouts
    }

    /// Returns a number that is another one after every change of the phase and of the timeouts,
    /// and 0 before the first.
    pub(crate) fn revision(&self) -> u32 {
        self.core.revision.load(Ordering::Acquire)
    }

    /// Returns when the shutdown was asked for.
    pub(crate) fn begun(&self) -> Option<Instant> {
        self.core.lock().begun
    }

    /// Calls `observer` at every change of the phase or of the timeouts, for ever.
    pub(crate) fn observe(&self, observer: Observer) {
        self.core.lock().observers.push(observer);
    }

    /// Adds a participant that stays until [`remove`](Self::remove), whoever holds handles.
    pub(crate) fn insert(&self, name: Arc<str>) -> Key {
        self.core.lock().slots.insert(name, true, None)
    }

    /// Makes a handle for a participant.
    pub(crate) fn handle(&self, key: Key) -> ShutdownHandle {
        ShutdownHandle::another(&self.core, key)
    }

    /// Reports whether a handle belongs to this coordinator.
    pub(crate) fn owns(&self, handle: &ShutdownHandle) -> bool {
        Arc::ptr_eq(&self.core, handle.parts().0)
    }

    /// Asks this participant alone to end.
    pub(crate) fn cancel(&self, key: Key) {
        self.core.change(|slots, begun| {
            slots.set_alone(key, true);
            slots.due_on_cancel(key, begun)
        });
    }

    /// Keeps the request to all away from this participant, or lets it come.
    pub(crate) fn hold(&self, key: Key, held: bool) {
        self.core.change(|slots, begun| {
            slots.set_held(key, held);
            if begun && !held { slots.due_on_cancel(key, begun) } else { Vec::new() }
        });
    }

    /// Prepares a participant for its next run: it is not done, and not asked alone to end.
    pub(crate) fn renew(&self, key: Key) {
        self.core.change(|slots, _| {
            slots.set_ready(key, false);
            slots.set_alone(key, false);
            Vec::new()
        });
    }

    /// Marks a participant as done.
    pub(crate) fn finish(&self, key: Key) {
        self.core.set_ready(key, true);
    }

    /// Takes a participant out.
    pub(crate) fn remove(&self, key: Key) {
        self.core.change(|slots, _| slots.remove(key));
    }
}

#[cfg(feature = "tokio")]
impl ShutdownCoordinator {
    /// Waits until everybody is done.
    ///
    /// # Errors
    ///
    /// Fails before a shutdown (InvalidState), and when the graceful time is over (Timeout).
    pub async fn wait_for_shutdown(&self) -> crate::Result<()> {
        if !self.is_shutdown() {
            return Err(crate::Error::invalid_state("shutdown has not been initiated"));
        }
        self.wait_until_done("graceful shutdown", self.timeouts().graceful).await
    }

    /// Waits until everybody is done.
    ///
    /// # Errors
    ///
    /// Fails when the force time is over (Timeout).
    pub async fn wait_for_force_shutdown(&self) -> crate::Result<()> {
        self.wait_until_done("force shutdown", self.timeouts().force).await
    }

    /// Waits until everybody is done.
    ///
    /// # Errors
    ///
    /// Fails when the kill time is over (Timeout).
    pub async fn wait_for_kill_shutdown(&self) -> crate::Result<()> {
        self.wait_until_done("kill shutdown", self.timeouts().kill).await
    }

    async fn wait_until_done(&self, operation: &str, timeout: Duration) -> crate::Result<()> {
        let begun = self.begun().unwrap_or_else(clock::now);
        let complete = Wait::new(&self.core, Event::Complete);
        let Some(deadline) = begun.checked_add(timeout) else {
            complete.await;
            return Ok(());
        };
        tokio::time::timeout_at(deadline.into(), complete).await.map_err(|_| {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            crate::Error::timeout(operation, timeout_ms)
        })
    }
}

impl fmt::Debug for ShutdownCoordinator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShutdownCoordinator")
            .field("reason", &self.get_reason())
            .field("timeouts", &self.timeouts())
            .finish_non_exhaustive()
    }
}
