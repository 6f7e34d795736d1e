//! The manager: registering, starting, ending and asking.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::body::{Body, OfFunction, OfSubsystem};
use super::events::Events;
use super::inner::{Inner, State, is_healthy};
use super::order::start_order;
use super::types::{
    Subsystem, SubsystemEvent, SubsystemFuture, SubsystemId, SubsystemMetadata, SubsystemState,
    SubsystemStats,
};
use super::words::{Counts, Settings, Setup};
use crate::restart::Restart;
use crate::shutdown::{ShutdownCoordinator, ShutdownHandle};
use crate::{DEFAULT_SHUTDOWN_TIMEOUT_MS, Error, ErrorCode, Result};

/// Runs subsystems: starts them, restarts them by their rules, asks them to end in the right order,
/// and knows how they are.
///
/// Clones are the same manager. It works in any runtime of tokio, with one thread or many.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// use keepd::subsystem::{SubsystemManager, SubsystemState};
///
/// let manager = SubsystemManager::default();
/// let web = manager.register_fn("web", |mut shutdown| async move {
///     shutdown.cancelled().await;
///     Ok(())
/// });
/// manager.start_all().await?;
/// assert_eq!(manager.get_stats().running_subsystems, 1);
/// manager.stop_all().await?;
/// let metadata = manager.get_subsystem_metadata(web).unwrap();
/// assert_eq!(metadata.state, SubsystemState::Stopped);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SubsystemManager {
    inner: Arc<Inner>,
    /// The run of a subsystem that everything registered here is inside of.
    scope: Option<Scope>,
}

#[derive(Clone, Copy)]
struct Scope {
    id: SubsystemId,
    run: u32,
}

/// What a subsystem asks for besides its body.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    restart: Restart,
    is_critical: bool,
    stop_timeout: Option<Duration>,
}

impl Default for SubsystemManager {
    /// Makes a manager with a coordinator of its own: 5 s graceful, 10 s force, 15 s kill.
    fn default() -> Self {
        let coordinator = ShutdownCoordinator::new(DEFAULT_SHUTDOWN_TIMEOUT_MS, 10_000, 15_000);
        Self::new(coordinator)
    }
}

impl SubsystemManager {
    /// Makes a manager whose subsystems end when this coordinator asks.
    pub fn new(shutdown_coordinator: ShutdownCoordinator) -> Self {
        Self { inner: Inner::new(shutdown_coordinator), scope: None }
    }

    /// Returns a manager for subsystems *inside* the one that this handle was given to.
    ///
    /// They belong to its current run: whenever that is asked to end, they are asked first, and it
    /// only after all of them have ended; when it ends by itself, they are asked too; and they are
    /// forgotten when it is started again, which registers its own. Their states and names
    /// (`OUTER/INNER` where something is late) are those of one manager.
    ///
    /// # Errors
    ///
    /// Fails with InvalidState where no subsystem that runs has this handle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> keepd::Result<()> {
    /// use keepd::subsystem::SubsystemManager;
    ///
    /// let manager = SubsystemManager::default();
    /// let nest = manager.clone();
    /// manager.register_fn("server", move |mut shutdown| {
    ///     let nest = nest.clone();
    ///     async move {
    ///         let inside = nest.nested(&shutdown)?;
    ///         inside.register_fn("connection", |mut shutdown| async move {
    ///             shutdown.cancelled().await;
    ///             Ok(())
    ///         });
    ///         inside.start_all().await?;
    ///         shutdown.cancelled().await; // The connection has ended.
    ///         Ok(())
    ///     }
    /// });
    /// manager.start_all().await?;
    /// manager.stop_all().await
    /// # }
    /// ```
    pub fn nested(&self, handle: &ShutdownHandle) -> Result<Self> {
        let state = self.inner.lock();
        let place = Some(handle)
            .filter(|handle| self.inner.coordinator.owns(handle))
            .and_then(|handle| self.inner.place_of(&state, handle.parts().1))
            .filter(|index| state.machine.has_task(*index));
        let Some(index) = place else {
            return Err(Error::invalid_state(
                "cannot nest subsystems: this handle is not that of a running subsystem",
            ));
        };
        let scope = Scope { id: state.machine.id(index), run: state.machine.run(index) };
        Ok(Self { inner: Arc::clone(&self.inner), scope: Some(scope) })
    }

    /// Adds a subsystem, and returns its number. It is not started.
    pub fn register<S: Subsystem>(&self, subsystem: S) -> SubsystemId {
        let wishes = Wishes {
            restart: subsystem.restart(),
            is_critical: subsystem.critical(),
            stop_timeout: subsystem.stop_timeout(),
        };
        let name = Arc::from(subsystem.name());
        self.register_body(name, Arc::new(OfSubsystem(subsystem)), wishes)
    }

    /// Adds a function that makes one run, and returns its number. It is not started.
    pub fn register_fn<F, Fut>(&self, name: &str, func: F) -> SubsystemId
    where
        F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.register_body(name.into(), Arc::new(OfFunction(func)), Wishes::default())
    }

    /// Adds a closure that makes one run and boxes it itself, and returns its number. It is not
    /// started.
    pub fn register_closure<F>(&self, closure: F, name: &str) -> SubsystemId
    where
        F: Fn(ShutdownHandle) -> SubsystemFuture + Send + Sync + 'static,
    {
        self.register_body(name.into(), Arc::new(OfFunction(closure)), Wishes::default())
    }

    fn register_body(&self, name: Arc<str>, body: Arc<dyn Body>, wishes: Wishes) -> SubsystemId {
        let check = body.health_check();
        let mut state = self.inner.lock();
        let parent = self.scope.and_then(|scope| state.machine.index(scope.id));
        let Wishes { restart, is_critical, stop_timeout } = wishes;
        let setup = Setup { parent, restart, is_critical, stop_timeout };
        let index = state.machine.register(self.inner.now(), setup);
        self.inner.add(&mut state, index, name, body);
        if let Some(check) = check {
            state.checks.push((index, Arc::new(check)));
        }
        state.machine.id(index)
    }

    /// Starts one subsystem, after those that it depends on. One that is live already stays as it
    /// is.
    ///
    /// # Errors
    ///
    /// Fails for a number that nobody has (SubsystemNotFound), outside of a runtime
    /// (MissingRuntime), where a dependency does not exist or depends on itself
    /// (SubsystemStartFailed), and once a shutdown has begun (SubsystemStateInvalid).
    pub async fn start_subsystem(&self, id: SubsystemId) -> Result<()> {
        let index = self.find(id)?;
        self.start(&[index])
    }

    /// Starts all that are registered, in that order, but each after those that it depends on.
    ///
    /// # Errors
    ///
    /// Those of [`start_subsystem`](Self::start_subsystem); then nothing was started.
    pub async fn start_all(&self) -> Result<()> {
        self.start_everything()
    }

    fn start(&self, wanted: &[u32]) -> Result<()> {
        self.inner.enter()?;
        let order = {
            let mut state = self.inner.lock();
            if let Some(Scope { id, run }) = self.scope {
                let parent = state.machine.index(id).filter(|index| {
                    state.machine.run(*index) == run && state.machine.has_task(*index)
                });
                if parent.is_none() {
                    return Err(Error::invalid_state(
                        "cannot start nested subsystems: the run that they belong to has ended",
                    ));
                }
            }
            self.resolve(&mut state)?;
            let needs = |index| state.machine.needs(index);
            start_order(wanted, needs).map_err(|index| {
                let name = name_of(&state, index);
                let message = format!("cannot start \"{name}\": it depends on itself");
                Error::subsystem_with_code(ErrorCode::SubsystemStartFailed, name, message)
            })?
        };
        let refused = self
            .inner
            .update(|machine, now| order.into_iter().find(|index| !machine.start(now, *index)));
        let Some(index) = refused else { return Ok(()) };
        let name = name_of(&self.inner.lock(), index);
        let message = format!("cannot start \"{name}\": a shutdown has begun");
        Err(Error::subsystem_with_code(ErrorCode::SubsystemStateInvalid, name, message))
    }

    /// Finds the subsystems behind the names that others depend on. A name stands for all that have
    /// it, next to the one that names it.
    fn resolve(&self, state: &mut State) -> Result<()> {
        let indices = self.scoped(state);
        let body = |index: &u32| {
            let entry = state.entries[*index as usize].as_ref()?;
            let depends = !entry.body.depends_on().is_empty();
            depends.then(|| (*index, Arc::clone(&entry.body)))
        };
        let is_new =
            |index: &u32| !state.machine.is_live(*index) && state.machine.needs(*index).is_empty();
        let depending: Vec<(u32, Arc<dyn Body>)> =
            indices.iter().filter(|index| is_new(index)).filter_map(body).collect();
        if depending.is_empty() {
            return Ok(());
        }
        let mut by_name: HashMap<Arc<str>, Vec<u32>> = HashMap::new();
        for index in indices {
            if let Some(Some(entry)) = state.entries.get(index as usize) {
                by_name.entry(Arc::clone(&entry.name)).or_default().push(index);
            }
        }
        for (index, body) in depending {
            let mut needs = Vec::new();
            for needed in body.depends_on() {
                let Some(found) = by_name.get(*needed) else {
                    let name = name_of(state, index);
                    let message = format!(
                        "cannot start \"{name}\": it depends on \"{needed}\", which is not \
                         registered"
                    );
                    let code = ErrorCode::SubsystemStartFailed;
                    return Err(Error::subsystem_with_code(code, name, message));
                };
                needs.extend(found);
            }
            state.machine.set_needs(index, needs);
        }
        Ok(())
    }

    /// Ends one subsystem, after those inside it, and waits for that. One that takes longer than
    /// its stop timeout (by default the force time) is aborted.
    ///
    /// # Errors
    ///
    /// Fails for a number that nobody has (SubsystemNotFound).
    pub async fn stop_subsystem(&self, id: SubsystemId) -> Result<()> {
        let index = self.find(id)?;
        self.use_timeouts();
        self.inner.update(|machine, now| machine.stop(now, index));
        self.inner.wait_ended(index).await;
        Ok(())
    }

    /// Ends one subsystem and starts it again, which counts as a restart. Returns when it runs.
    ///
    /// The delay in between is that of proc-daemon: with a growing delay the first is doubled, and
    /// there is none with the other rules.
    ///
    /// # Errors
    ///
    /// Fails for a number that nobody has (SubsystemNotFound), outside of a runtime
    /// (MissingRuntime), and once a shutdown has begun (SubsystemStateInvalid).
    pub async fn restart_subsystem(&self, id: SubsystemId) -> Result<()> {
        let index = self.find(id)?;
        self.inner.enter()?;
        self.use_timeouts();
        let run = self.inner.lock().machine.run(index);
        let started = self.inner.update(|machine, now| machine.restart(now, index));
        if started {
            self.inner.wait_for_run(index, run).await;
        }
        if started && self.inner.lock().machine.run(index) != run {
            return Ok(());
        }
        let name = name_of(&self.inner.lock(), index);
        let message = format!("cannot restart \"{name}\": a shutdown has begun");
        Err(Error::subsystem_with_code(ErrorCode::SubsystemStateInvalid, name, message))
    }

    /// Ends all, each after those that need it, and waits for that; at most for the kill time.
    ///
    /// # Errors
    ///
    /// None; the signature is proc-daemon's.
    pub async fn stop_all(&self) -> Result<()> {
        self.use_timeouts();
        let indices: Vec<u32> = self.visible(&self.inner.lock()).collect();
        self.inner.update(|machine, now| machine.stop_many(now, &indices));
        let all_ended = async {
            if self.scope.is_none() {
                self.inner.wait_idle().await;
                return;
            }
            for index in indices {
                self.inner.wait_ended(index).await;
            }
        };
        let kill = self.inner.coordinator.timeouts().kill;
        if tokio::time::timeout(kill, all_ended).await.is_err() {
            let names = self.unfinished().join(", ");
            tracing::error!(%names, "These subsystems cannot be ended: they block their threads.");
        }
        Ok(())
    }

    /// Takes out a subsystem that is not live, with those inside it.
    ///
    /// # Errors
    ///
    /// Fails for a number that nobody has (SubsystemNotFound), and for one that is live
    /// (SubsystemStateInvalid).
    pub fn remove_subsystem(&self, id: SubsystemId) -> Result<()> {
        let index = self.find(id)?;
        if self.inner.update(|machine, _| machine.remove(index)) {
            return Ok(());
        }
        let name = name_of(&self.inner.lock(), index);
        let message = format!("cannot remove \"{name}\": it has not ended");
        Err(Error::subsystem_with_code(ErrorCode::SubsystemStateInvalid, name, message))
    }

    /// Returns what is known about all.
    pub fn get_stats(&self) -> SubsystemStats {
        let subsystems = self.get_all_metadata();
        let count = |state| subsystems.iter().filter(|subsystem| subsystem.state == state).count();
        SubsystemStats {
            total_subsystems: subsystems.len(),
            running_subsystems: count(SubsystemState::Running),
            failed_subsystems: count(SubsystemState::Failed),
            stopping_subsystems: count(SubsystemState::Stopping),
            total_restarts: self.inner.lock().machine.total_restarts(),
            subsystems,
        }
    }

    /// Returns what is known about each, in the order of their numbers.
    pub fn get_all_metadata(&self) -> Vec<SubsystemMetadata> {
        let state = self.inner.lock();
        let known: Vec<_> =
            self.visible(&state).filter_map(|index| self.metadata(&state, index)).collect();
        drop(state);
        known.into_iter().map(complete).collect()
    }

    /// Returns what is known about one; `None` for a number that nobody has.
    pub fn get_subsystem_metadata(&self, id: SubsystemId) -> Option<SubsystemMetadata> {
        let state = self.inner.lock();
        let known = self.metadata(&state, state.machine.index(id)?)?;
        drop(state);
        Some(complete(known))
    }

    /// Asks everyone for its health: the number, the name, and whether it is well. Whoever does not
    /// run or has no check is well. Nothing follows from the answers.
    pub fn run_health_checks(&self) -> Vec<(SubsystemId, String, bool)> {
        let state = self.inner.lock();
        let checks: HashMap<u32, _> = state.checks.iter().cloned().collect();
        let asked: Vec<_> = self
            .visible(&state)
            .map(|index| {
                let check = checks
                    .get(&index)
                    .filter(|_| state.machine.state(index) == SubsystemState::Running);
                (state.machine.id(index), name_of(&state, index), check.cloned())
            })
            .collect();
        drop(state);
        asked
            .into_iter()
            .map(|(id, name, check)| (id, name, check.is_none_or(|check| is_healthy(&check))))
            .collect()
    }

    /// From now on every change of a state is kept for [`try_next_event`](Self::try_next_event):
    /// the last 65,536 of them.
    pub fn enable_events(&self) {
        let mut state = self.inner.lock();
        state.events.get_or_insert_with(Events::new);
        state.machine.announce();
    }

    /// Takes the oldest change; `None` where there is none, and before
    /// [`enable_events`](Self::enable_events).
    pub fn try_next_event(&self) -> Option<SubsystemEvent> {
        self.inner.lock().events.as_mut()?.pop()
    }

    /// Returns a receiver of the changes; `None` before [`enable_events`](Self::enable_events). All
    /// receivers and [`try_next_event`](Self::try_next_event) share one queue: each change goes to
    /// one of them.
    #[cfg(feature = "lockfree-coordination")]
    pub fn subscribe_events(&self) -> Option<crate::coord::chan::Receiver<SubsystemEvent>> {
        self.inner.lock().events.as_ref().map(Events::reader)
    }

    /// Returns the names of those whose tasks run, with the names of those that they are inside of.
    pub fn unfinished(&self) -> Vec<String> {
        self.inner.unfinished(&self.inner.lock())
    }

    /// Waits until nobody is live: each has ended, and nothing follows.
    pub async fn wait_idle(&self) {
        self.inner.wait_idle().await;
    }

    /// Reports whether nobody is live.
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.lock().machine.live() == 0
    }

    /// Asks everyone for its health so often, and acts on `failures` bad answers in a row; `None`
    /// asks nobody.
    pub fn set_health_checks(&self, interval: Option<Duration>, failures: u32) {
        let mut state = self.inner.lock();
        state.health_interval = interval.filter(|interval| !interval.is_zero());
        let settings = Settings { health_failures: failures.max(1), ..state.machine.settings() };
        state.machine.set_settings(settings);
        drop(state);
        self.inner.wake_keeper();
    }

    /// Says whether a failure that nothing follows ends all. Default: only that of a critical one.
    pub(crate) fn set_fail_fast(&self, fail_fast: bool) {
        let mut state = self.inner.lock();
        let settings = Settings { fail_fast, ..state.machine.settings() };
        state.machine.set_settings(settings);
    }

    /// Makes the subsystems with this name critical.
    pub(crate) fn set_critical(&self, name: &str) -> bool {
        let mut state = self.inner.lock();
        let named = self.named(&state, name);
        for index in &named {
            state.machine.set_critical(*index);
        }
        !named.is_empty()
    }

    /// Replaces the rule of the subsystems with this name.
    pub(crate) fn set_restart(&self, name: &str, restart: Restart) {
        let mut state = self.inner.lock();
        for index in self.named(&state, name) {
            state.machine.set_restart(index, restart);
        }
    }

    /// [`start_all`](Self::start_all), which has nothing to wait for.
    pub(crate) fn start_everything(&self) -> Result<()> {
        let indices = self.scoped(&self.inner.lock());
        self.start(&indices)
    }

    /// Returns those that had to be aborted in the shutdown.
    pub(crate) fn overdue(&self) -> Vec<String> {
        self.inner.lock().overdue.clone()
    }

    /// Returns the name and the error of the subsystem whose failure ended all.
    pub(crate) fn fatal(&self) -> Option<(String, String)> {
        self.inner.lock().fatal.clone()
    }

    /// Reports whether a critical subsystem answers badly.
    pub(crate) fn is_critical_unhealthy(&self) -> bool {
        let machine = &self.inner.lock().machine;
        let mut indices = machine.indices();
        indices.any(|index| machine.is_critical(index) && machine.is_unhealthy(index))
    }

    /// Returns the names of those who run and answer badly, at most so many.
    pub(crate) fn unhealthy(&self, names_max: usize) -> Vec<String> {
        let state = self.inner.lock();
        let unhealthy = state.machine.indices().filter(|index| state.machine.is_unhealthy(*index));
        unhealthy.take(names_max).map(|index| name_of(&state, index)).collect()
    }

    /// Waits until somebody whom nothing restarts begins to answer badly, or well again.
    pub(crate) async fn health_changed(&self) {
        self.inner.health_changed.notified().await;
    }

    /// Returns how many there are of each kind; cheap also where there are very many.
    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().machine.counts()
    }

    fn named(&self, state: &State, name: &str) -> Vec<u32> {
        let has_name = |index: &u32| {
            let entry = state.entries.get(*index as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| &*entry.name == name)
        };
        state.machine.indices().filter(has_name).collect()
    }

    /// One that is stopped alone may take as long as the force time.
    fn use_timeouts(&self) {
        let stop_timeout = self.inner.coordinator.timeouts().force;
        let mut state = self.inner.lock();
        let settings = Settings { stop_timeout, ..state.machine.settings() };
        state.machine.set_settings(settings);
    }

    fn find(&self, id: SubsystemId) -> Result<u32> {
        self.inner.lock().machine.index(id).ok_or_else(|| {
            Error::subsystem_with_code(
                ErrorCode::SubsystemNotFound,
                id.to_string(),
                format!("no subsystem has the number {id}"),
            )
        })
    }

    /// Returns those that were registered here, without those inside them.
    fn scoped(&self, state: &State) -> Vec<u32> {
        let parent = self.scope.and_then(|scope| state.machine.index(scope.id));
        if self.scope.is_some() && parent.is_none() {
            return Vec::new();
        }
        state.machine.indices().filter(|index| state.machine.parent(*index) == parent).collect()
    }

    /// Returns those that were registered here, and those inside them.
    fn visible<'a>(&self, state: &'a State) -> impl Iterator<Item = u32> + use<'a> {
        let parent = self.scope.map(|scope| state.machine.index(scope.id));
        state.machine.indices().filter(move |index| match parent {
            None => true,
            Some(None) => false,
            Some(Some(parent)) => *index != parent && state.machine.is_within(*index, parent),
        })
    }

    /// The policy is asked for without the lock: it is foreign code.
    fn metadata(&self, state: &State, index: u32) -> Option<(SubsystemMetadata, Arc<dyn Body>)> {
        let entry = state.entries.get(index as usize)?.as_ref()?;
        let facts = state.machine.facts(index);
        let time = |instant| self.inner.time_of(instant);
        let metadata = SubsystemMetadata {
            id: state.machine.id(index),
            name: entry.name.to_string(),
            state: facts.state,
            registered_at: time(facts.registered),
            started_at: facts.started.map(time),
            stopped_at: facts.stopped.map(time),
            restart_count: facts.restarts,
            last_error: facts.error,
            restart_policy: super::RestartPolicy::Never,
        };
        Some((metadata, Arc::clone(&entry.body)))
    }
}

fn complete((mut metadata, body): (SubsystemMetadata, Arc<dyn Body>)) -> SubsystemMetadata {
    metadata.restart_policy = body.restart_policy();
    metadata
}

fn name_of(state: &State, index: u32) -> String {
    let entry = state.entries.get(index as usize).and_then(Option::as_ref);
    entry.map(|entry| entry.name.to_string()).unwrap_or_default()
}

impl std::fmt::Debug for SubsystemManager {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live = self.inner.lock().machine.live();
        formatter.debug_struct("SubsystemManager").field("live", &live).finish_non_exhaustive()
    }
}
