//! From a wish to a running program: starts by command, starts by themselves, and what the shell
//! and the child report of them.

use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{Command, Event, Fail, FailKind, Lease, Place, RunEnd, RunState};
use keepd_model::{
    Exit, Generation, Instant, LogLevel, Pid, ServiceName, Signal, SpawnFailure, Wanted,
};

use super::commands::{Asker, fail, stale};
use super::connections::Audience;
use super::service::{Cause, Ended, Main, Run, Service};
use super::{Fact, Output, Proxy, ServiceSpawn, SpawnOutcome};

/// A start may be asked for with a time that is over, but not for longer than this.
const START_PAST_MAX: Duration = Duration::from_secs(100_000);
/// How soon a service with `respawn` is back after KILL, which never counts.
const RESPAWN_AFTER_KILL: Duration = Duration::from_millis(10);
/// A run of this length starts the count of `respawn` again.
const RESPAWN_COUNT_RESET: Duration = Duration::from_secs(10);

impl Proxy {
    /// `service.start`.
    pub(super) fn start_by_command(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        expected: Option<Generation>,
        at: Option<Instant>,
    ) -> Result<(), Fail> {
        let service = self.service_mut("start", name)?;
        if let Some(expected) = expected
            && expected != service.generation
        {
            return Err(stale("start", name, expected, service.generation));
        }
        if let Err((kind, why)) = self.check_startable(now, name, at) {
            return Err(fail(kind, format!("cannot start service \"{name}\": {why}")));
        }
        let service = self.service_mut("start", name)?;
        service.respawn_count = 0;
        service.wanted = Wanted::Up;
        match at.filter(|at| *at > now) {
            Some(due) => {
                self.record(|| {
                    Command::ServiceStart { name: name.clone(), expected, at: Some(due) }.into()
                });
                self.accept(asker);
                self.schedule_by_command(now, name, due);
            }
            None => self.start(now, name, Cause::Command, Some(asker)),
        }
        Ok(())
    }

    /// Says why a service cannot be started now, if anything stands against it.
    fn check_startable(
        &self,
        now: Instant,
        name: &ServiceName,
        at: Option<Instant>,
    ) -> Result<(), (FailKind, String)> {
        let Some(service) = self.services.get(name) else {
            return Ok(());
        };
        if let Some(why) = self.doubts.get(name) {
            return Err((FailKind::Running, why.clone()));
        }
        if !service.run().is_at_rest() {
            let why = format!("not startable, generation {} is running", service.generation);
            return Err((FailKind::Running, why));
        }
        if service.arguments.is_empty() {
            return Err((FailKind::NoArguments, "no arguments set (service.args)".to_owned()));
        }
        if at.is_some_and(|at| now.saturating_since(at) > START_PAST_MAX) {
            let seconds = START_PAST_MAX.as_secs();
            let why = format!("the timestamp is invalid, it is more than {seconds} s ago");
            return Err((FailKind::Malformed, why));
        }
        match &self.settings.safe_mode {
            Some(why) => Err((FailKind::Limit, format!("nothing is started in safe mode: {why}"))),
            None => Ok(()),
        }
    }

    /// Reports whether anything is started at all.
    pub(super) const fn may_start(&self) -> bool {
        self.settings.safe_mode.is_none()
    }

    /// Makes a start that was asked for pending. Who takes events for answers hears of it also when
    /// nothing changed.
    fn schedule_by_command(&mut self, now: Instant, name: &ServiceName, due: Instant) {
        let is_news = self.services.get(name).is_some_and(|service| match service.run() {
            Run::Pending { due: before, .. } => before != due,
            Run::Down { .. }
            | Run::Spawning { .. }
            | Run::Forked { .. }
            | Run::Up { .. }
            | Run::Stopping { .. }
            | Run::Emptying { .. }
            | Run::Stuck { .. }
            | Run::Unsure { .. } => true,
        });
        self.schedule(now, name, due, Cause::Command);
        if !is_news {
            self.tell_watchers_of_starts(name);
        }
    }

    /// `service.cancel`: this start is taken back, and a lease with it. It is not an end that was
    /// asked for: triggers may still start the service.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
    ) -> Result<(), Fail> {
        let service = self.service_mut("cancel the start of", name)?;
        match service.run() {
            Run::Pending { .. } => {}
            Run::Down { .. }
            | Run::Spawning { .. }
            | Run::Forked { .. }
            | Run::Up { .. }
            | Run::Stopping { .. }
            | Run::Emptying { .. }
            | Run::Stuck { .. }
            | Run::Unsure { .. } => {
                let text =
                    format!("cannot cancel the start of service \"{name}\": no start pending");
                return Err(fail(FailKind::NotRunning, text));
            }
        }
        let expected = service.generation;
        if service.lease.take().is_some() {
            // Its next start would be this one again.
            self.record(|| {
                let name = name.clone();
                Command::ServiceLease { name, expected, lease: Lease::default() }.into()
            });
        }
        self.accept(asker);
        self.transition(name, Run::Down { since: now, ended: None });
        Ok(())
    }

    /// Tells the present state to those who asked for every start.
    fn tell_watchers_of_starts(&mut self, name: &ServiceName) {
        if let Some(service) = self.services.get(name) {
            let report = service.report(name);
            self.broadcast(&Event::Run(report), Audience::WatchersOfStarts);
        }
    }

    /// Makes the next generation and asks the shell for its process. What a successor has to know
    /// of it goes first, then the answer to who asked for it.
    fn start(&mut self, now: Instant, name: &ServiceName, cause: Cause, asker: Option<Asker>) {
        self.starts += 1;
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let known = service.begin_generation(cause);
        service.invocation =
            invocation_id(self.settings.seed, name, service.generation, self.starts);
        let slots = service.fds.take();
        let mut spawn = ServiceSpawn {
            name: name.clone(),
            generation: service.generation,
            arguments: match service.arguments.unpack() {
                none if none.is_empty() => vec![Vec::new()],
                arguments => arguments,
            },
            environment: service.environment.unpack(),
            attributes: Arc::clone(&service.attributes),
            log: service.log.clone(),
            invocation: service.invocation,
            descriptors: None,
        };
        let leaf = service.attributes.place == Place::Service;
        let invocation = Event::Invocation {
            name: name.clone(),
            generation: spawn.generation,
            id: spawn.invocation,
        };
        self.record(|| Fact::Event(invocation.clone()));
        if let Some(asker) = asker {
            self.accept(asker);
        }
        spawn.descriptors = slots.as_ref().map(|slots| self.descriptors_for(name, slots));
        if let Some(service) = self.services.get_mut(name) {
            service.fds = slots;
        }
        self.transition(name, Run::Spawning { asked: now, leaf, stop: None });
        self.broadcast(&invocation, Audience::Everyone);
        if asker.is_some() {
            // Of one that was pending, the `start` line was sent when it became so.
            self.tell_watchers_of_starts(name);
        }
        if let Some(older) = known.and_then(|known| known.older) {
            self.say_acknowledged(name, older);
        }
        self.outputs.push_back(Output::Spawn(Box::new(spawn)));
        if let Some(known) = known {
            self.say_acknowledged(name, known.last);
        }
    }

    /// Makes a start pending; one that is due already is carried out in this turn.
    pub(super) fn schedule(
        &mut self,
        now: Instant,
        name: &ServiceName,
        due: Instant,
        cause: Cause,
    ) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let ended = service.run().ended().copied();
        self.transition(name, Run::Pending { due, ended, cause });
        if due <= now {
            self.start_due(now, name, due, ended, cause);
        }
    }

    /// Carries out a pending start, or holds it where its end would have no room. A trigger does
    /// not look at arguments: without any, there is no program of the name, and the child says so.
    pub(super) fn start_due(
        &mut self,
        now: Instant,
        name: &ServiceName,
        due: Instant,
        ended: Option<Ended>,
        cause: Cause,
    ) {
        let has_room = self.services.get(name).is_some_and(|service| service.has_room());
        match cause {
            Cause::Lease | Cause::Held if !has_room => {
                self.transition(name, Run::Pending { due, ended, cause: Cause::Held });
                self.log_held(name);
            }
            Cause::Command | Cause::Itself | Cause::Lease | Cause::Held => {
                self.start(now, name, cause, None);
            }
        }
    }

    /// The shell cloned, or could not.
    pub(super) fn on_service_spawned(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        outcome: Result<Pid, SpawnFailure>,
    ) {
        let Some(service) = self.present_generation(name, generation) else {
            return;
        };
        match service.run() {
            Run::Spawning { asked, leaf, stop } => match outcome {
                Ok(pid) => {
                    let main = Main { pid, started: now, leaf, failure: None };
                    self.transition(name, Run::Forked { main });
                    if let Some(order) = stop {
                        self.begin_stop(now, name, main, order);
                    }
                }
                Err(failure) => {
                    let is_respawned = !service.attributes.respawn.is_empty();
                    let retry = service.attributes.retry.filter(|_| !is_respawned);
                    let ended =
                        Ended { at: now, end: RunEnd::Failed(failure), pid: None, started: asked };
                    self.come_down(now, name, ended);
                    if let Some(retry) = retry {
                        self.log_retry(name, failure, retry);
                    }
                }
            },
            // One question has one answer.
            Run::Down { .. }
            | Run::Pending { .. }
            | Run::Forked { .. }
            | Run::Up { .. }
            | Run::Stopping { .. }
            | Run::Emptying { .. }
            | Run::Stuck { .. }
            | Run::Unsure { .. } => {}
        }
    }

    /// The child executed its program, or says at which step it failed.
    pub(super) fn on_service_report(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        outcome: SpawnOutcome,
    ) {
        let Some(service) = self.present_generation(name, generation) else {
            return;
        };
        let run = service.run();
        match (run, outcome) {
            (Run::Forked { main }, SpawnOutcome::Executed) => {
                self.transition(name, Run::Up { main, since: now });
            }
            // The end itself is told by the reaping; until then the process is there.
            (_, SpawnOutcome::Failed(failure)) => {
                let program = service.arguments.iter().next().unwrap_or_default();
                let program = String::from_utf8_lossy(program).into_owned();
                self.log(
                    LogLevel::Error,
                    format!("cannot execute \"{program}\" for service \"{name}\": {failure}"),
                );
                self.transition(name, run.with_failure(failure));
            }
            // A stop came first, and what it began goes on.
            (
                Run::Stopping { .. } | Run::Emptying { .. } | Run::Stuck { .. },
                SpawnOutcome::Executed,
            )
            // Not possible in these.
            | (
                Run::Down { .. }
                | Run::Pending { .. }
                | Run::Spawning { .. }
                | Run::Up { .. }
                | Run::Unsure { .. },
                SpawnOutcome::Executed,
            ) => {}
        }
    }

    /// Nothing of the generation is left: it is down, and perhaps starts again by itself.
    pub(super) fn come_down(&mut self, now: Instant, name: &ServiceName, ended: Ended) {
        self.transition(name, Run::Down { since: now, ended: Some(ended) });
        if let Some((due, cause)) = self.restart_due(now, name, &ended) {
            self.schedule(now, name, due, cause);
        }
    }

    /// Returns when a service that ended starts again without a command, and counts the end. One
    /// that was cancelled is no failure of the service: nothing is counted, and nothing waited for.
    fn restart_due(
        &mut self,
        now: Instant,
        name: &ServiceName,
        ended: &Ended,
    ) -> Option<(Instant, Cause)> {
        if !self.may_start() {
            return None;
        }
        let is_triggered = self.is_service_triggered(name);
        let is_cancelled = ended.end == RunEnd::Cancelled;
        let service = self.services.get_mut(name)?;
        match service.wanted {
            Wanted::Down => return None,
            Wanted::Up => {}
        }
        let itself = |due| Some((due, Cause::Itself));
        if let Some(last) = service.attributes.respawn.len().checked_sub(1) {
            if ended.at.saturating_since(ended.started) >= RESPAWN_COUNT_RESET {
                service.respawn_count = 0;
            }
            if is_cancelled {
                return itself(now);
            }
            if was_killed(ended.end) {
                return itself(now.saturating_add(RESPAWN_AFTER_KILL));
            }
            let delay = service.attributes.respawn[service.respawn_count.min(last)];
            service.respawn_count = service.respawn_count.saturating_add(1);
            return itself(now.saturating_add(delay));
        }
        if let Some(due) = self.lease_due(now, name, ended) {
            return Some((due, Cause::Lease));
        }
        let service = self.services.get(name)?;
        if let Some(retry) = service.attributes.retry.filter(|_| ended.is_unmade()) {
            return itself(now.saturating_add(retry));
        }
        let due = ended.started.saturating_add(service.auto_up_interval());
        let due = if is_cancelled { now } else { now.max(due) };
        is_triggered.then_some((due, Cause::Itself))
    }

    /// Reports whether a trigger of a service holds now.
    pub(super) fn is_service_triggered(&self, name: &ServiceName) -> bool {
        let auto_up = self.services.get(name).map(|service| &service.auto_up);
        auto_up.is_some_and(|auto_up| self.is_triggered(auto_up.always, &auto_up.signals))
    }

    /// Nobody waits for a start that is tried again by itself, so the log says what happened.
    fn log_retry(&mut self, name: &ServiceName, failure: SpawnFailure, retry: Duration) {
        self.log(LogLevel::Error, format!("cannot start service \"{name}\": {failure}"));
        let is_pending = self
            .services
            .get(name)
            .is_some_and(|service| service.run().state() == RunState::Pending);
        if is_pending {
            let text = format!("the start of service \"{name}\" is tried again in {retry:?}");
            self.log(LogLevel::Info, text);
        }
    }

    /// Returns the service if this is news of its present generation.
    pub(super) fn present_generation(
        &self,
        name: &ServiceName,
        generation: Generation,
    ) -> Option<&Service> {
        let service = self.services.get(name).map(Box::as_ref);
        service.filter(|service| service.generation == generation)
    }
}

/// Reports whether KILL ended the main process.
fn was_killed(end: RunEnd) -> bool {
    match end {
        RunEnd::Exit(Exit::Signal { signal, .. }) => signal == Signal::KILL,
        RunEnd::Exit(Exit::Code(_) | Exit::Unknown) | RunEnd::Failed(_) | RunEnd::Cancelled => {
            false
        }
    }
}

/// Returns the INVOCATION_ID of a generation: the same for the same history, different for every
/// start.
///
/// The number of the start among all of this machine is part of it, because a service that is
/// deleted and made again begins with generation 1 again.
fn invocation_id(seed: u128, name: &ServiceName, generation: Generation, start: u64) -> u128 {
    let words = [fnv1a(name.as_str().as_bytes()), generation.get(), start];
    // The halves get different constants, so that a seed with equal halves still gives 128 bits.
    let [high, low] = [(seed >> 64) as u64, seed as u64 ^ GOLDEN_GAMMA]
        .map(|half| words.iter().fold(half, |half, word| mix(half ^ word)));
    u128::from(high) << 64 | u128::from(low)
}

/// The odd constant of SplitMix64 (Steele, Lea and Flood 2014): 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// One round of SplitMix64: a one-to-one mapping in which every bit depends on every other.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN_GAMMA);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
