//! What all clones of a manager share: the machine under one lock, and the shell that does what the
//! machine says.
//!
//! The lock is never held while foreign code runs: bodies, health checks and spawning come after
//! it. The shutdown table has a lock of its own, taken inside this one and never the other way
//! round.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant as StdInstant};

use keepd_model::Instant;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::body::{Body, Report};
use super::events::Events;
use super::machine::Machine;
use super::types::{HealthCheck, SubsystemEvent};
use super::words::{End, Output, Settings};
use crate::shutdown::{Key, ShutdownCoordinator, ShutdownReason, clock};

/// One subsystem, as the shell knows it.
pub(super) struct Entry {
    pub(super) body: Arc<dyn Body>,
    pub(super) name: Arc<str>,
    pub(super) key: Key,
    task: Option<AbortHandle>,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) machine: Machine,
    /// By the index of the machine; absent where the place is free.
    pub(super) entries: Vec<Option<Entry>>,
    /// The index of the machine by that of the shutdown table.
    places: Vec<u32>,
    pub(super) checks: Vec<(u32, Arc<HealthCheck>)>,
    pub(super) events: Option<Events>,
    /// What of the coordinator the machine was told.
    followed: u32,
    /// Who waits for the end of one.
    ends: Vec<(u32, oneshot::Sender<()>)>,
    /// Who waits for the next run of one.
    starts: Vec<(u32, oneshot::Sender<()>)>,
    runtime: Option<Handle>,
    keeper: Option<AbortHandle>,
    /// What the keeper sleeps for.
    sleeps_until: Option<Instant>,
    pub(super) health_interval: Option<Duration>,
    /// Names of those that were aborted in the shutdown.
    pub(super) overdue: Vec<String>,
    /// The first failure that decided about all.
    pub(super) fatal: Option<(String, String)>,
}

pub(super) struct Inner {
    pub(super) coordinator: ShutdownCoordinator,
    origin: StdInstant,
    chance: AtomicU64,
    state: Mutex<State>,
    /// Wakes the keeper.
    wake: Arc<Notify>,
    /// Wakes those who wait until nobody is live.
    idle: Notify,
    /// Wakes the one who tells others of the health.
    pub(super) health_changed: Notify,
}

/// A task that was just spawned.
struct Started {
    id: u64,
    run: u32,
    task: AbortHandle,
}

/// So many tasks are spawned between two times that the lock is held.
const SPAWNS_MAX: usize = 256;

/// A run whose task is to be spawned after the lock. There may be very many at once, so what is
/// needed for that is looked up when it is its turn.
#[derive(Clone, Copy)]
struct Start {
    index: u32,
    run: u32,
}

/// What is done after the lock.
enum Deferred {
    Abort(AbortHandle),
    Failure { name: String, error: String },
    Unhealthy { name: String },
    Healthy { name: String },
    ShutDown { name: Arc<str>, failed: bool },
    GraceOver { names: Vec<String> },
}

impl Inner {
    pub(super) fn new(coordinator: ShutdownCoordinator) -> Arc<Self> {
        let state = State {
            machine: Machine::new(Settings::default()),
            entries: Vec::new(),
            places: Vec::new(),
            checks: Vec::new(),
            events: None,
            followed: 0,
            ends: Vec::new(),
            starts: Vec::new(),
            runtime: None,
            keeper: None,
            sleeps_until: None,
            health_interval: None,
            overdue: Vec::new(),
            fatal: None,
        };
        Arc::new(Self {
            coordinator,
            origin: clock::now(),
            chance: AtomicU64::new(RandomState::new().build_hasher().finish()),
            state: Mutex::new(state),
            wake: Arc::new(Notify::new()),
            idle: Notify::new(),
            health_changed: Notify::new(),
        })
    }

    /// A panic while the lock is held leaves the machine whole: no foreign code runs under it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.at(clock::now())
    }

    fn at(&self, time: StdInstant) -> Instant {
        Instant::ZERO.saturating_add(time.saturating_duration_since(self.origin))
    }

    pub(super) fn time_of(&self, instant: Instant) -> StdInstant {
        self.origin + instant.saturating_since(Instant::ZERO)
    }

    /// Adds the shell's side of a subsystem that the machine has just registered.
    pub(super) fn add(&self, state: &mut State, index: u32, name: Arc<str>, body: Arc<dyn Body>) {
        let key = self.coordinator.insert(Arc::clone(&name));
        let entry = Entry { body, name, key, task: None };
        set_at(&mut state.entries, index, Some(entry), || None);
        set_at(&mut state.places, key.index(), index, || u32::MAX);
    }

    /// Returns the place of the subsystem that a handle was made for.
    pub(super) fn place_of(&self, state: &State, key: Key) -> Option<u32> {
        let index = *state.places.get(key.index() as usize)?;
        let entry = state.entries.get(index as usize)?.as_ref()?;
        (entry.key == key).then_some(index)
    }

    /// Takes the runtime of the caller, and makes sure that the keeper runs there.
    pub(super) fn enter(self: &Arc<Self>) -> crate::Result<()> {
        let runtime = Handle::try_current().map_err(|error| {
            let message = format!("cannot start subsystems: {error}");
            crate::Error::runtime_with_code(crate::ErrorCode::MissingRuntime, message)
        })?;
        let mut state = self.lock();
        if state.keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            if state.keeper.is_none() {
                let wake = Arc::clone(&self.wake);
                self.coordinator.observe(Arc::new(move || wake.notify_one()));
            }
            let keeper = keep(Arc::downgrade(self), Arc::clone(&self.wake));
            state.sleeps_until = None;
            state.runtime = Some(runtime.clone());
            // A keeper that was dropped with its runtime is replaced by one in this runtime.
            drop(state);
            let keeper = runtime.spawn(keeper).abort_handle();
            self.lock().keeper = Some(keeper);
        } else {
            state.runtime = Some(runtime);
        }
        Ok(())
    }

    /// Gives news to the machine, and does what it says.
    pub(super) fn update<T>(self: &Arc<Self>, news: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut state = self.lock();
        let now = self.now();
        let revision = self.coordinator.revision();
        if state.followed != revision {
            state.followed = revision;
            self.follow_shutdown(&mut state.machine, now);
        }
        let answer = news(&mut state.machine, now);
        let (starts, deferred) = self.carry_out(&mut state, now);
        let next = state.machine.poll_timeout();
        let is_idle = state.machine.live() == 0;
        let must_wake = next.is_some_and(|next| state.sleeps_until.is_none_or(|at| next < at));
        let runtime = (!starts.is_empty()).then(|| state.runtime.clone()).flatten();
        drop(state);
        if must_wake {
            self.wake.notify_one();
        }
        if is_idle {
            self.idle.notify_waiters();
        }
        if let Some(runtime) = runtime {
            self.spawn(&starts, &runtime);
        }
        for deferred in deferred {
            self.finish_off(deferred);
        }
        answer
    }

    /// Spawns the tasks of these runs.
    fn spawn(self: &Arc<Self>, starts: &[Start], runtime: &Handle) {
        for starts in starts.chunks(SPAWNS_MAX) {
            let mut parts = Vec::with_capacity(starts.len());
            let mut state = self.lock();
            for Start { index, run } in starts.iter().copied() {
                let id = state.machine.id(index);
                let Entry { body, key, .. } = entry(&mut state, index);
                parts.push((index, run, id, Arc::clone(body), *key));
            }
            drop(state);
            let spawned = parts.into_iter().map(|(index, run, id, body, key)| {
                let report = Report::new(Arc::clone(self), index, run);
                let task = body.spawn(runtime, report, self.coordinator.handle(key));
                Started { id, run, task }
            });
            self.keep_tasks(spawned.collect());
        }
    }

    /// Keeps what is needed to abort these tasks.
    fn keep_tasks(&self, started: Vec<Started>) {
        let mut aborted = Vec::new();
        let mut state = self.lock();
        for Started { id, run, task } in started {
            let Some(index) = state.machine.index(id) else { continue };
            // It may have ended, or been told to end, between the spawn and here.
            if state.machine.is_aborted(index, run) {
                aborted.push(task);
            } else if state.machine.run(index) == run && state.machine.has_task(index) {
                entry(&mut state, index).task = Some(task);
            }
        }
        drop(state);
        aborted.iter().for_each(AbortHandle::abort);
    }

    pub(super) fn ended(self: &Arc<Self>, index: u32, run: u32, end: End) {
        let random = self.random();
        self.update(|machine, now| machine.ended(now, index, run, end, random));
    }

    /// Returns a number from 0 to 1. Only a rule with jitter looks at it: that processes differ,
    /// and the restarts in one, is enough. It is SplitMix64, without its last step.
    fn random(&self) -> f64 {
        let seed = self.chance.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mixed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed as f64 / u64::MAX as f64
    }

    /// Tells the machine what the coordinator knows: anybody may ask everybody to end, without us.
    fn follow_shutdown(&self, machine: &mut Machine, now: Instant) {
        if !self.coordinator.is_shutdown() {
            return;
        }
        let begun = self.coordinator.begun().unwrap_or(self.origin);
        let timeouts = self.coordinator.timeouts();
        let after = |timeout| self.at(begun).saturating_add(timeout);
        // Who asks with the reason `Forced` wants no graceful time.
        let grace = if self.coordinator.is_forced() { Duration::ZERO } else { timeouts.graceful };
        machine.shut_down(now, after(grace), after(timeouts.force));
        if self.coordinator.is_aborting() {
            machine.abort_all();
        }
    }

    /// Does under the lock what has to be done there; returns the rest.
    fn carry_out(&self, state: &mut State, now: Instant) -> (Vec<Start>, Vec<Deferred>) {
        let (mut starts, mut deferred) = (Vec::new(), Vec::new());
        for output in state.machine.take_outputs() {
            if let Output::Start { index, run } = output {
                starts.push(Start { index, run });
            }
            self.carry_out_one(state, now, output, &mut deferred);
        }
        (starts, deferred)
    }

    fn carry_out_one(
        &self,
        state: &mut State,
        now: Instant,
        output: Output,
        deferred: &mut Vec<Deferred>,
    ) {
        let coordinator = &self.coordinator;
        match output {
            Output::Start { index, .. } => {
                coordinator.renew(entry(state, index).key);
                tell(&mut state.starts, index);
            }
            Output::Ask { index } => coordinator.cancel(entry(state, index).key),
            Output::Abort { index } => {
                if state.machine.was_overdue(index) {
                    let name = self.path(state, index);
                    state.overdue.push(name);
                }
                deferred.extend(entry(state, index).task.take().map(Deferred::Abort));
            }
            Output::Hold { index } => coordinator.hold(entry(state, index).key, true),
            Output::Release { index } => coordinator.hold(entry(state, index).key, false),
            Output::Finish { index } => {
                entry(state, index).task = None;
                coordinator.finish(entry(state, index).key);
                tell(&mut state.starts, index);
                tell(&mut state.ends, index);
            }
            Output::Remove { index } => {
                state.checks.retain(|(checked, _)| *checked != index);
                if let Some(entry) = state.entries[index as usize].take() {
                    coordinator.remove(entry.key);
                }
            }
            Output::Changed { index, state: changed } => {
                let name = entry(state, index).name.to_string();
                let (id, at) = (state.machine.id(index), self.time_of(now));
                if let Some(events) = &mut state.events {
                    events.push(SubsystemEvent::StateChanged { id, name, state: changed, at });
                }
            }
            Output::Failure { index } => {
                let name = self.path(state, index);
                let error = state.machine.facts(index).error.unwrap_or_default();
                deferred.push(Deferred::Failure { name, error });
            }
            Output::Unhealthy { index } => {
                deferred.push(Deferred::Unhealthy { name: self.path(state, index) });
            }
            Output::Healthy { index } => {
                deferred.push(Deferred::Healthy { name: self.path(state, index) });
            }
            Output::ShutDown { index, failed } => {
                let name = Arc::clone(&entry(state, index).name);
                if failed && state.fatal.is_none() {
                    let error = state.machine.facts(index).error.unwrap_or_default();
                    state.fatal = Some((name.to_string(), error));
                }
                deferred.push(Deferred::ShutDown { name, failed });
            }
            Output::GraceOver => {
                let late = |index: &u32| !state.machine.was_asked_late(*index);
                deferred.push(Deferred::GraceOver { names: self.paths(state, late) });
            }
        }
    }

    fn finish_off(&self, deferred: Deferred) {
        match deferred {
            Deferred::Abort(task) => task.abort(),
            Deferred::Failure { name, error } => {
                tracing::error!(subsystem = %name, %error, "Subsystem failed.");
            }
            Deferred::Unhealthy { name } => {
                tracing::warn!(subsystem = %name, "Subsystem is unhealthy; nothing restarts it.");
                self.health_changed.notify_one();
            }
            Deferred::Healthy { name } => {
                tracing::info!(subsystem = %name, "Subsystem is healthy again.");
                self.health_changed.notify_one();
            }
            Deferred::ShutDown { name, failed } => {
                tracing::error!(subsystem = %name, failed, "Subsystem ended; so does the daemon.");
                let reason = if failed { ShutdownReason::Error } else { ShutdownReason::Requested };
                self.coordinator.initiate_shutdown(reason);
            }
            Deferred::GraceOver { names } => {
                if !names.is_empty() {
                    let names = names.join(", ");
                    tracing::warn!(%names, "The graceful time is over and these still run.");
                }
                self.coordinator.end_grace();
            }
        }
    }

    /// Returns the names of those whose tasks still run.
    pub(super) fn unfinished(&self, state: &State) -> Vec<String> {
        self.paths(state, |_| true)
    }

    fn paths(&self, state: &State, is_meant: impl Fn(&u32) -> bool) -> Vec<String> {
        let machine = &state.machine;
        let running = machine.indices().filter(|index| machine.has_task(*index));
        running.filter(is_meant).map(|index| self.path(state, index)).collect()
    }

    /// Returns the name of a subsystem, behind those that it is inside of.
    fn path(&self, state: &State, index: u32) -> String {
        let mut names = Vec::new();
        let mut next = Some(index);
        while let Some(index) = next {
            if let Some(Some(entry)) = state.entries.get(index as usize) {
                names.push(&*entry.name);
            }
            next = state.machine.parent(index);
        }
        names.reverse();
        names.join("/")
    }

    /// Asks everyone that runs and has a health check; those who answer badly too often are treated
    /// as failures.
    pub(super) fn check_health(self: &Arc<Self>) {
        let state = self.lock();
        let machine = &state.machine;
        let running: Vec<_> = state
            .checks
            .iter()
            .filter(|(index, _)| machine.has_task(*index))
            .map(|(index, check)| (*index, machine.run(*index), Arc::clone(check)))
            .collect();
        drop(state);
        for (index, run, check) in running {
            let is_healthy = is_healthy(&check);
            self.update(|machine, now| machine.health(now, index, run, is_healthy));
        }
    }

    /// Waits until nobody is live.
    pub(super) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            if self.lock().machine.live() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Waits until this one is not live.
    pub(super) async fn wait_ended(&self, index: u32) {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if !state.machine.is_live(index) {
                return;
            }
            state.ends.push((index, sender));
        }
        // An error means that the manager has gone, and everything in it.
        let _ = receiver.await;
    }

    /// Waits until a run after `run` has begun, or nothing follows any more.
    pub(super) async fn wait_for_run(&self, index: u32, run: u32) {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if !state.machine.is_live(index) || state.machine.run(index) != run {
                return;
            }
            state.starts.push((index, sender));
        }
        // An error means that the manager has gone, and everything in it.
        let _ = receiver.await;
    }

    pub(super) fn wake_keeper(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever waits for everybody no longer waits for ours.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for entry in state.entries.drain(..).flatten() {
            self.coordinator.remove(entry.key);
        }
        // The keeper sees that there is nothing to keep.
        self.wake.notify_one();
    }
}

/// Asks one health check. One that panics is not healthy.
pub(super) fn is_healthy(check: &HealthCheck) -> bool {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or(false)
}

fn entry(state: &mut State, index: u32) -> &mut Entry {
    let entry = state.entries[index as usize].as_mut();
    entry.expect("the machine speaks only of subsystems that are registered")
}

/// Tells everybody who waits for news of this one.
fn tell(waiting: &mut Vec<(u32, oneshot::Sender<()>)>, index: u32) {
    for (_, sender) in waiting.extract_if(.., |(waited, _)| *waited == index) {
        // Whoever waited may have lost interest.
        let _ = sender.send(());
    }
}

fn set_at<T>(list: &mut Vec<T>, index: u32, value: T, filler: impl FnMut() -> T) {
    let index = index as usize;
    if list.len() <= index {
        list.resize_with(index + 1, filler);
    }
    list[index] = value;
}

/// The one task of a manager: wakes for the timers of the machine, for the phases of the shutdown
/// and for the health checks, and sleeps otherwise. It ends with the manager.
async fn keep(inner: Weak<Inner>, wake: Arc<Notify>) {
    let mut health_due: Option<tokio::time::Instant> = None;
    loop {
        let until = {
            let Some(inner) = inner.upgrade() else { return };
            inner.update(|machine, now| machine.handle_timeout(now));
            if health_due.is_some_and(|due| due <= tokio::time::Instant::now()) {
                inner.check_health();
                health_due = None;
            }
            let mut state = inner.lock();
            let wants_health = !state.checks.is_empty() && !state.machine.is_shutting_down();
            health_due = state.health_interval.filter(|_| wants_health).map(|interval| {
                health_due.unwrap_or_else(|| tokio::time::Instant::now() + interval)
            });
            state.sleeps_until = state.machine.poll_timeout();
            let timer = state.sleeps_until.map(|at| inner.time_of(at).into());
            [timer, health_due].into_iter().flatten().min()
        };
        match until {
            Some(until) => {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = wake.notified() => {}
                }
            }
            None => wake.notified().await,
        }
    }
}
