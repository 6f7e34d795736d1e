//! The invariants that are checked while a world runs, S1 to S27, from what the kernel and the
//! channels know and from what the manager told people.
//!
//! | number | what always holds | where |
//! | --- | --- | --- |
//! | S1 | No two generations of a service live at once. | `kernel` |
//! | S2 | Generations are used once and have no gaps. | `kernel` |
//! | S3 | A start that is no restart by policy comes after its requirements held. | here |
//! | S4 | Once the faults stopped, every service gets where it is wanted. | `convergence` |
//! | S5 | Every request is answered, once, and every change closes. | `clients`, `convergence` |
//! | S6 | A service that is said to have no process has none. | `proxy`, here |
//! | S7 | A service that was stopped is not started without being asked for. | here |
//! | S8 | No signal goes to a stranger, no stop to another generation. | `kernel`, here |
//! | S9 | Every numbered command is answered once, every line can be read. | `proxy`, `observer` |
//! | S10 | The machines' own invariants hold. | everywhere |
//! | S11 | Timeouts advance, and outputs end. | everywhere |
//! | S12 | The loss of a manager alone touches no running service. | here |
//! | S13 | Restarts by policy come no earlier than the backoff allows. | here |
//! | S14 | Who depends on a service is down before it is asked to stop. | here |
//! | S15 | Only what was ready is said to be ready. | here |
//! | S16 | An end is told as it was. | here |
//! | S17 | A start is prepared from the configuration that is in force. | here |
//! | S18 | No service is restarted more often than its limit allows. | here |
//! | S19 | Only open descriptors are given, logged to or closed; each has a name. | `visitor` |
//! | S20 | A plain client hears whole lines of the old language only. | `plain_client` |
//! | S21 | Who has read a dump and all news since knows what is true. | `plain_client` |
//! | S22 | To a plain client a run is `start`, `up`, `down`, in this order. | `plain_client` |
//! | S23 | An error is told only to who asked. | `plain_client` |
//! | S24 | What waits for a plain client is bounded. | `plain` |
//! | S25 | Questions of the front end are answered at once; nobody waits for nothing. | `plain` |
//! | S26 | What a new proxy replays is the machine that was lost. | `succession` |
//! | S27 | Every end has room in the ledger, and is in the history as it was. | `convergence` |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepd_engine::manager::{Announcement, Cause, Happening, LastEnd, Output, Target, Verb};
use keepd_engine::proxy::Owner;
use keepd_model::backoff::Backoff;
use keepd_model::protocol::{Command, RunEnd};
use keepd_model::{
    ChangeId, Generation, Instant, Kind, OnStop, Pid, RestartLimit, ServiceName, ServiceSpec,
    State, Until, Wanted,
};

use crate::ready::{is_shortage, was_ready};
use crate::world::{Step, World, broken};

/// A lease knows milliseconds.
const DELAY_SLACK: Duration = Duration::from_millis(1);

/// Longer than a command is on its way to a proxy that is slow.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Who can be lost.
#[derive(Clone, Copy, Debug)]
enum Party {
    Manager,
    Proxy,
}

/// What the last change that named a service asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) up: bool,
    pub(crate) verb: Verb,
    pub(crate) change: ChangeId,
    /// Who asked for it knows that it was accepted.
    pub(crate) is_answered: bool,
}

/// What is known of one service from outside. The default is to know nothing.
#[derive(Debug, Default)]
pub(crate) struct Track {
    /// `None`: a manager was lost while it wrote this down, so nobody can know.
    pub(crate) wish: Option<Wish>,
    wished_at: Instant,
    /// Its ends stopped counting, of which a lease may not know yet.
    is_reset: bool,
    /// Ends since it was last ready for long; `None`: not known.
    count: Option<u32>,
    ready: Option<(Generation, Instant)>,
    /// A start by policy comes no earlier.
    next_start: Option<Instant>,
    /// The last generation whose end was counted.
    counted: Option<Generation>,
    /// Automatic restarts since somebody asked for it; `None`: not known.
    restarts: Option<Vec<Instant>>,
    /// The limit that they were counted under.
    limit: Option<RestartLimit>,
    /// The delays at its last end.
    backoff: Option<Backoff>,
}

/// A service that ran quietly when the manager was lost.
#[derive(Debug)]
struct Quiet {
    generation: Generation,
    pid: Pid,
    serial: u64,
    is_touched: bool,
}

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Services that are groups, or once were.
    groups: BTreeSet<ServiceName>,
    pub(crate) tracks: BTreeMap<ServiceName, Track>,
    /// What the present turn of the manager moved; if it dies within, nobody knows how far it got.
    moved: BTreeSet<ServiceName>,
    quiet: BTreeMap<ServiceName, Quiet>,
    /// Who depended on whom at any time.
    edges: BTreeSet<(ServiceName, ServiceName)>,
    pub(crate) apply_is_under_way: bool,
    pub(crate) end_was_asked_for: bool,
    /// Since when the manager knows the proxy; `None`: one of them was lost.
    synchronised_at: Option<Instant>,
    /// What was answered well before is written down, whoever is lost.
    pub(crate) settled_until: Instant,
    /// Who was lost since then: manager, proxy.
    lost: [bool; 2],
}

impl World {
    /// Looks at what the manager's machine asks for, before it is done.
    pub(crate) fn check_manager_output(&mut self, output: &Output) -> Step {
        match output {
            Output::Command { command, .. } => match command {
                Command::ServiceStart { name, .. } => self.check_start(name),
                Command::ServiceStop { name, expected, other } => {
                    self.check_stop(name, *expected, other.is_none())
                }
                _ => Ok(()),
            },
            Output::Prepare { .. }
            | Output::Probe { .. }
            | Output::Answer { .. }
            | Output::Announce(_)
            | Output::Finish { .. } => Ok(()),
        }
    }

    /// S7: what was stopped stays so. S17: what is started is what is configured.
    fn check_start(&mut self, name: &ServiceName) -> Step {
        self.checker.moved.insert(name.clone());
        let wish = self.checker.tracks.get(name).and_then(|track| track.wish);
        if let Some(wish) = wish
            && !wish.up
        {
            let Wish { verb, change, .. } = wish;
            let sentence = format!("{name} is started after change {change} ({})", verb.word());
            return broken("S7", sentence);
        }
        let Some(shell) = &self.manager else {
            return Ok(());
        };
        let spec = shell.machine.status(name).map(|status| status.spec);
        if spec.as_deref() != self.prepared.get(name).map(|spec| &**spec) {
            let sentence = format!("{name} is started from values that are not those of today");
            return broken("S17", sentence);
        }
        if shell.machine.is_shutting_down() {
            return broken("S7", format!("{name} is started during a shutdown"));
        }
        // A restart by policy does not look at what does not react; nor does a start that was
        // lost with a proxy, and is made again.
        let status = shell.machine.status(name).filter(|status| {
            let edges = status.spec.depends_on.values();
            !matches!(status.cause, Cause::RestartPolicy | Cause::Cancelled)
                || edges.into_iter().any(|edge| edge.on_stop != OnStop::Ignore)
        });
        status.map_or(Ok(()), |status| self.check_requirements(name, &status.spec))
    }

    /// S8, S12, S14.
    fn check_stop(&mut self, name: &ServiceName, expected: Generation, polite: bool) -> Step {
        let Some(shell) = &self.manager else {
            return Ok(());
        };
        let truth = self.kernel.truths.get(&(name.clone(), expected));
        if truth.is_some_and(|truth| truth.ended.is_some()) {
            // It takes back a start by lease.
            return Ok(());
        }
        let Some(status) = shell.machine.status(name) else {
            return broken("S8", format!("{name} is stopped and unknown"));
        };
        if status.generation != expected {
            let sentence = format!("{name}: a stop is for {expected}, not {}", status.generation);
            return broken("S8", sentence);
        }
        if self.checker.quiet.contains_key(name) && !shell.machine.is_shutting_down() {
            return broken("S12", format!("{name} is stopped by a takeover"));
        }
        if !polite || status.wanted == Wanted::Up {
            return Ok(());
        }
        for (dependent, on) in &self.checker.edges {
            let Some(other) = shell.machine.status(dependent) else {
                continue;
            };
            let is_needed = on == name
                && (other.spec.depends_on.contains_key(name)
                    || other.spec.after.contains(name)
                    || status.spec.before.contains(dependent));
            // Who follows others is asked to go only when they went, later in the same turn.
            let follows = other.spec.depends_on.values().any(|edge| edge.on_stop == OnStop::Stop);
            let is_going = other.wanted == Wanted::Down && !follows;
            if is_needed && is_going && self.kernel.has_live(dependent) {
                let sentence = format!("{name} is stopped while {dependent} still runs");
                return broken("S14", sentence);
            }
        }
        Ok(())
    }

    /// Looks at what the manager tells people.
    pub(crate) fn check_announcement(&mut self, announcement: &Announcement) -> Step {
        let at = announcement.at;
        match &announcement.what {
            Happening::State { name, from, to, cause, generation, next_start, .. } => {
                self.checker.moved.insert(name.clone());
                if let Cause::Operator { .. } | Cause::Applied { .. } = cause {
                    // A start that somebody asked for, or a changed file, forgets the ends so far.
                    let track = self.checker.tracks.entry(name.clone()).or_default();
                    track.count = None;
                    track.restarts = None;
                }
                let Some(shell) = &self.manager else {
                    return Ok(());
                };
                let Some(status) = shell.machine.status(name) else {
                    return Ok(());
                };
                if let Some(end) = &status.last_end {
                    self.check_end(name, end)?;
                }
                let spec = status.spec;
                match to {
                    // A group is nothing but its requirements. What became one by an apply without
                    // restarts still has its process.
                    State::Ready if spec.kind == Kind::Group && status.pid.is_none() => {
                        self.check_requirements(name, &spec)
                    }
                    State::Ready => self.check_ready(at, name, *generation, &spec),
                    State::Starting if *cause == Cause::RestartPolicy => {
                        self.check_restart(at, name, *from, &spec)
                    }
                    State::Backoff if is_shortage(cause) => {
                        self.check_shortage(at, name, *next_start, &spec)
                    }
                    // A successor says again what is known.
                    State::Backoff if *from == State::Stopped && self.is_counted(name) => Ok(()),
                    State::Backoff => self.check_backoff(at, name, *next_start, &spec),
                    State::Stopped | State::Done | State::Failed => {
                        self.end_run(at, name, &spec.backoff);
                        Ok(())
                    }
                    // A restart by policy that looks at its requirements first.
                    State::Waiting
                        if matches!(from, State::Ready | State::Stopping)
                            && spec.kind != Kind::Group =>
                    {
                        self.count_end(at, name, &spec);
                        self.check_restart_limit(at, name, &spec)
                    }
                    // A start that failed, or one that found its requirements gone.
                    State::Waiting if *from == State::Starting => {
                        let track = self.checker.tracks.entry(name.clone()).or_default();
                        track.count = None;
                        track.restarts = None;
                        Ok(())
                    }
                    State::Starting
                    | State::Waiting
                    | State::Scheduled
                    | State::Stopping
                    | State::Stuck
                    | State::Unknown => Ok(()),
                }
            }
            Happening::ChangeOpened(id) => {
                self.note_change(*id);
                Ok(())
            }
            Happening::Synchronised { .. } => {
                self.checker.synchronised_at = Some(self.now);
                self.check_takeover()
            }
            Happening::ChangeClosed(_)
            | Happening::OutputBlocked { .. }
            | Happening::ShutdownBegun(_) => Ok(()),
        }
    }

    /// What a change says about its services is what is wanted from now on.
    fn note_change(&mut self, id: ChangeId) {
        let Some(shell) = &self.manager else {
            return;
        };
        let Some(change) = shell.machine.change(id) else {
            return;
        };
        let verb = change.verb;
        for goal in &change.goals {
            // Somebody asks for it: it runs quietly no more.
            self.checker.quiet.remove(&goal.name);
            let track = self.checker.tracks.entry(goal.name.clone()).or_default();
            self.checker.moved.insert(goal.name.clone());
            let up = match goal.target {
                Target::Up | Target::UpAfter(_) => true,
                Target::Down | Target::Gone => false,
                Target::Reloaded | Target::Signalled => continue,
            };
            track.wish = Some(Wish { up, verb, change: id, is_answered: false });
            track.wished_at = self.now;
            track.next_start = None;
            // Whoever asks for a start forgets the ends so far; whether there were any is not said.
            track.count = None;
            track.restarts = None;
        }
        for spec in self.accepted.services.values() {
            if spec.kind == Kind::Group {
                self.checker.groups.insert(spec.name.clone());
            }
            for on in spec.depends_on.keys().chain(&spec.after) {
                let edge = (spec.name.clone(), on.clone());
                self.checker.edges.insert(edge);
            }
            for later in &spec.before {
                let edge = (later.clone(), spec.name.clone());
                self.checker.edges.insert(edge);
            }
        }
    }

    /// S5: the goals of a change are those of the request.
    pub(crate) fn check_goals(&self, client: usize, id: ChangeId) -> Step {
        use crate::clients::Want;
        let Some(change) = self.manager.as_ref().and_then(|shell| shell.machine.change(id)) else {
            return broken("S5", format!("change {id} was promised and is not known"));
        };
        let (names, up) = match &self.clients[client].want {
            Want::Start(names, _) | Want::Restart(names) => (names, true),
            Want::Stop(names, ..) => (names, false),
            Want::Reload(_) | Want::Signal(_) | Want::Apply(_) | Want::Shutdown(_) => return Ok(()),
        };
        let is_group = |name: &ServiceName| self.checker.groups.contains(name);
        // A group is restarted by way of its members.
        for name in names.iter().filter(|name| !is_group(name)) {
            let is_there = change.goals.iter().any(|goal| {
                let goes_up = matches!(goal.target, Target::Up | Target::UpAfter(_));
                goal.name == *name && goes_up == up && !goal.along
            });
            if !is_there {
                return broken("S5", format!("change {id} has no goal for {name}"));
            }
        }
        Ok(())
    }

    /// S15: every question held once, READY=1 was sent, and the delay is over.
    fn check_ready(
        &mut self,
        at: Instant,
        name: &ServiceName,
        generation: Generation,
        spec: &ServiceSpec,
    ) -> Step {
        let track = self.checker.tracks.entry(name.clone()).or_default();
        track.ready = Some((generation, at));
        track.is_reset = false;
        let Some(truth) = self.kernel.truths.get(&(name.clone(), generation)) else {
            return broken("S15", format!("{name}: {generation} is ready and never was"));
        };
        if was_ready(truth, spec, self.now) {
            return Ok(());
        }
        broken("S15", format!("{name}: {generation} is said to be ready: {truth:?}"))
    }

    /// S16: the status of an end is the one that the kernel gave.
    pub(crate) fn check_end(&self, name: &ServiceName, end: &LastEnd) -> Step {
        let Some(truth) = self.kernel.truths.get(&(name.clone(), end.generation)) else {
            return Ok(());
        };
        let is_true = match (end.exit, truth.ended) {
            (Some(told), Some(RunEnd::Exit(exit))) => told == exit,
            (None, Some(RunEnd::Failed(_) | RunEnd::Cancelled)) => true,
            // A later start that could not even be prepared has no generation of its own.
            (None, Some(RunEnd::Exit(_)) | None) => end.failure.is_some(),
            (Some(_), Some(RunEnd::Failed(_) | RunEnd::Cancelled) | None) => false,
        };
        if is_true {
            return Ok(());
        }
        let sentence = format!("{name}: {end:?} is told, the truth is {:?}", truth.ended);
        broken("S16", sentence)
    }

    /// S3: each requirement holds for what the manager knows, and that is true.
    fn check_requirements(&self, name: &ServiceName, spec: &ServiceSpec) -> Step {
        let Some(shell) = &self.manager else {
            return Ok(());
        };
        let required = match self.sabotage {
            Some(crate::Sabotage::IgnoresEdges) => self.accepted.services.get(name),
            Some(_) | None => None,
        };
        let edges = required.map_or(&spec.depends_on, |spec| &spec.depends_on);
        for (on, edge) in edges.iter().filter(|(_, edge)| edge.required) {
            let Some(status) = shell.machine.status(on) else {
                return broken("S3", format!("{name} is started, and {on} is unknown"));
            };
            let truth = self.kernel.truths.get(&(on.clone(), status.generation));
            let executed = truth.is_some_and(|truth| truth.executed.is_some());
            let exit = truth.and_then(|truth| match truth.ended {
                Some(RunEnd::Exit(exit)) => Some(exit),
                Some(RunEnd::Failed(_) | RunEnd::Cancelled) | None => None,
            });
            let is_done = status.state == State::Done
                && exit.is_some_and(|exit| status.spec.is_success(exit));
            let holds = match edge.until {
                // A group has no process that could tell.
                _ if status.spec.kind == Kind::Group => status.state == State::Ready,
                Until::Started => executed,
                Until::Ready => (status.state == State::Ready && executed) || is_done,
                Until::Done => is_done,
                Until::Exited => is_done || (status.state == State::Failed && exit.is_some()),
            };
            if !holds {
                let sentence = format!(
                    "{name} is started, and {on} is {}, not {} (it ran: {executed}, {exit:?})",
                    status.state, edge.until
                );
                return broken("S3", sentence);
            }
        }
        Ok(())
    }

    /// A run is over. Returns whether it was ready.
    fn end_run(&mut self, at: Instant, name: &ServiceName, backoff: &Backoff) -> bool {
        let generation = self.kernel.generations.get(name).copied().unwrap_or_default();
        // It may have ended long before the manager heard of it.
        let status = self.manager.as_ref().and_then(|shell| shell.machine.status(name));
        let end = status.and_then(|status| status.last_end);
        let ended = end.filter(|end| end.generation == generation).map_or(at, |end| end.at);
        let track = self.checker.tracks.entry(name.clone()).or_default();
        let ready = track.ready.take().filter(|(ready, _)| *ready == generation);
        if ready.is_some_and(|(_, since)| ended.saturating_since(since) >= backoff.reset) {
            track.count = Some(0);
            track.restarts = Some(Vec::new());
        }
        track.is_reset |= track.count == Some(0);
        ready.is_some()
    }

    /// Counts one more end, as the documentation says.
    fn count_end(&mut self, at: Instant, name: &ServiceName, spec: &ServiceSpec) -> Option<u32> {
        let was_ready = self.end_run(at, name, &spec.backoff);
        let generation = self.last_ended(name);
        let track = self.checker.tracks.entry(name.clone()).or_default();
        if track.counted.is_some_and(|one| one.next() < generation || one == generation) {
            // Others ended behind the manager's back, restarted by lease; or who counted this one
            // was lost before that was written down.
            track.count = None;
            track.restarts = None;
        }
        track.counted = Some(generation);
        track.count = track.count.map(|count| Backoff::count_end(count, was_ready));
        track.count
    }

    /// Reports whether the last end that the manager knows was counted.
    fn is_counted(&self, name: &ServiceName) -> bool {
        let counted = self.checker.tracks.get(name).and_then(|track| track.counted);
        counted == Some(self.last_ended(name))
    }

    /// Returns the last generation whose end the manager knows.
    fn last_ended(&self, name: &ServiceName) -> Generation {
        let status = self.manager.as_ref().and_then(|shell| shell.machine.status(name));
        let end =
            status.as_ref().and_then(|status| status.last_end.as_ref().map(|end| end.generation));
        end.or(status.map(|status| status.generation)).unwrap_or_default()
    }

    /// S18: no more automatic restarts than the limit allows.
    fn check_restart_limit(&mut self, at: Instant, name: &ServiceName, spec: &ServiceSpec) -> Step {
        let limit = spec.restart_limit;
        let track = self.checker.tracks.entry(name.clone()).or_default();
        if track.limit.replace(limit) != Some(limit) {
            // What was counted under another limit is nobody's business here.
            track.restarts = None;
        }
        let Some(restarts) = &mut track.restarts else {
            return Ok(());
        };
        restarts.retain(|before| limit.is_recent(at, *before));
        restarts.push(at);
        if limit.count == 0 || restarts.len() <= limit.count as usize {
            return Ok(());
        }
        let count = restarts.len();
        broken("S18", format!("{name} is restarted {count} times within {:?}", limit.window))
    }

    /// S13: the delay is one of those that the count allows.
    fn check_backoff(
        &mut self,
        at: Instant,
        name: &ServiceName,
        next_start: Option<Instant>,
        spec: &ServiceSpec,
    ) -> Step {
        let Some(next_start) = next_start else {
            return broken("S13", format!("{name} is in backoff without an end"));
        };
        let count = self.count_end(at, name, spec);
        self.check_restart_limit(at, name, spec)?;
        // The manager may hear of it late; a lease answers the end itself.
        let truth = self.kernel.truths.get(&(name.clone(), self.last_ended(name)));
        let ended = truth.and_then(|truth| truth.ended_at).unwrap_or(at).min(at);
        let (low, high) = match count {
            Some(count) => (count, count),
            None => (2, u32::MAX),
        };
        let shortest = spec.backoff.delay_with_jitter(low, 1.0);
        // A lease that was reckoned before it was ready is one end ahead.
        let longest = spec.backoff.delay(high.saturating_add(2));
        let (since_end, left) =
            (next_start.saturating_since(ended), next_start.saturating_since(at));
        // A change that is not counted may have come while a lease of before was being used.
        let is_reset = self.checker.tracks.get(name).is_some_and(|track| track.is_reset);
        let is_long = count.is_some() && !is_reset && left > longest + DELAY_SLACK;
        // Of a count that is not known, a lease may have answered the first end at once.
        let is_short = since_end + DELAY_SLACK < shortest && (count.is_some() || !left.is_zero());
        if is_short || is_long {
            let sentence = format!(
                "{name} waits {since_end:?} after end {count:?}, not {shortest:?} to {longest:?}"
            );
            return broken("S13", sentence);
        }
        let track = self.checker.tracks.entry(name.clone()).or_default();
        // Which delay within the jitter it will be, who made the lease that is used has said; one
        // that was given before an apply has the delays of before it.
        let before = track.backoff.replace(spec.backoff).unwrap_or(spec.backoff);
        let both = [spec.backoff, before].map(|backoff| backoff.delay_with_jitter(low, 1.0));
        let leased = both.into_iter().min().unwrap_or_default();
        track.next_start = Some(next_start.min(ended.saturating_add(leased)));
        Ok(())
    }

    /// S13: a start without room is tried again soon, whatever the policy, and is no end. Others
    /// may bring it along earlier.
    fn check_shortage(
        &mut self,
        at: Instant,
        name: &ServiceName,
        next_start: Option<Instant>,
        spec: &ServiceSpec,
    ) -> Step {
        const LONGEST: Duration = Duration::from_secs(10);
        self.end_run(at, name, &spec.backoff);
        let track = self.checker.tracks.entry(name.clone()).or_default();
        track.next_start = None;
        match next_start {
            Some(next) if next.saturating_since(at) <= LONGEST => Ok(()),
            Some(_) | None => {
                broken("S13", format!("{name} without room waits for {next_start:?}"))
            }
        }
    }

    /// S13: a start by policy is due.
    fn check_restart(
        &mut self,
        at: Instant,
        name: &ServiceName,
        from: State,
        spec: &ServiceSpec,
    ) -> Step {
        if from == State::Backoff {
            let track = self.checker.tracks.entry(name.clone()).or_default();
            let due = track.next_start.take();
            // The clock of the world, not that of the machine.
            return match due {
                Some(due) if self.now.saturating_add(DELAY_SLACK) < due => {
                    broken("S13", format!("{name} is restarted before its backoff is over"))
                }
                Some(_) | None => Ok(()),
            };
        }
        let count = self.count_end(at, name, spec);
        self.check_restart_limit(at, name, spec)?;
        match count {
            Some(count) if count > 1 && spec.backoff.jitter < 1.0 => {
                broken("S13", format!("{name} is restarted at once after end {count}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// S6 and S10, after each turn of the manager.
    pub(crate) fn check_manager(&mut self) -> Step {
        let moved = std::mem::take(&mut self.checker.moved);
        let Some(shell) = &self.manager else {
            return Ok(());
        };
        if let Err(sentence) = shell.machine.check_invariants() {
            return broken("S10", format!("manager: {sentence}"));
        }
        if !shell.machine.is_synchronised() {
            return Ok(());
        }
        // The turn of the takeover is over: from now on the manager has its own reasons.
        self.checker.quiet.clear();
        moved.iter().try_for_each(|name| self.check_emptiness(name))
    }

    /// S6: what the manager knows to have no process has none. Called when either side moved.
    pub(crate) fn check_emptiness(&self, name: &ServiceName) -> Step {
        let machine = self.manager.as_ref().map(|shell| &shell.machine);
        let Some(status) = machine
            .filter(|machine| machine.is_synchronised())
            .and_then(|machine| machine.status(name))
        else {
            return Ok(());
        };
        // A later one is a restart by lease, of which the manager has yet to hear.
        let mut generations = self.kernel.live_generations(name);
        let Some(generation) = generations.find(|living| *living <= status.generation) else {
            return Ok(());
        };
        match status.state {
            State::Stopped
            | State::Waiting
            | State::Scheduled
            | State::Backoff
            | State::Done
            | State::Failed => {
                let state = status.state;
                broken("S6", format!("{name} is {state}, and generation {generation} lives"))
            }
            State::Starting | State::Ready | State::Stopping | State::Stuck | State::Unknown => {
                Ok(())
            }
        }
    }

    /// The manager is lost: what its last turn moved is uncertain, and what runs quietly shall go
    /// on.
    pub(crate) fn note_manager_lost(&mut self) {
        for name in std::mem::take(&mut self.checker.moved) {
            let track = self.checker.tracks.entry(name).or_default();
            *track = Track::default();
        }
        self.checker.quiet.clear();
        self.note_loss(Party::Manager);
        if self.manager.is_none() {
            return;
        }
        // If it accepted a plan and did not live to say what it does, its successor follows what
        // the plan says about services that are gone or enabled otherwise, and no change
        // names them.
        for (name, spec) in &self.replaced.services {
            let follows = self.accepted.services.get(name);
            if follows.is_none_or(|accepted| accepted.enabled != spec.enabled)
                && let Some(track) = self.checker.tracks.get_mut(name)
            {
                track.wish = None;
            }
        }
        self.note_quiet();
    }

    /// A proxy is lost: what runs quietly shall go on.
    pub(crate) fn note_quiet_at_loss(&mut self) {
        self.note_loss(Party::Proxy);
        if self.checker.quiet.is_empty() {
            self.note_quiet();
        }
    }

    /// What was answered is on its way to the proxy, and the manager remembers it. Where both are
    /// lost meanwhile, nobody does.
    fn note_loss(&mut self, who: Party) {
        let checker = &mut self.checker;
        if let Some(at) = checker.synchronised_at.take()
            && at.saturating_add(ON_ITS_WAY) < self.now
        {
            checker.settled_until = self.now;
            checker.lost = [false; 2];
        }
        let [manager, proxy] = &mut checker.lost;
        match who {
            Party::Manager => *manager = true,
            Party::Proxy => *proxy = true,
        }
        if !(*manager && *proxy) {
            return;
        }
        for track in checker.tracks.values_mut() {
            // The last end may be counted again by a successor who does not know that it was.
            track.count = None;
            track.restarts = None;
            if track.wished_at.saturating_add(ON_ITS_WAY) > checker.settled_until {
                // What was answered is never forgotten.
                track.wish = track.wish.filter(|wish| wish.is_answered);
            }
        }
    }

    fn note_quiet(&mut self) {
        let Some(shell) = &self.manager else {
            return;
        };
        if !shell.machine.is_synchronised()
            || shell.machine.is_shutting_down()
            || self.checker.apply_is_under_way
            || self.checker.end_was_asked_for
        {
            return;
        }
        let busy: BTreeSet<&ServiceName> = shell
            .machine
            .changes()
            .filter(|change| !change.is_closed())
            .flat_map(|change| change.goals.iter().map(|goal| &goal.name))
            .collect();
        for status in shell.machine.statuses() {
            let name = &status.spec.name;
            let is_quiet = status.state == State::Ready
                && status.wanted == Wanted::Up
                && !status.config_changed
                // Whoever follows another one may do so at the takeover.
                && status.spec.depends_on.values().all(|edge| edge.on_stop == OnStop::Ignore)
                && !busy.contains(name)
                && self.checker.tracks.get(name).is_some_and(|track| track.wish.is_some());
            if is_quiet
                && let Some((generation, pid, serial)) = self.kernel.main_of(name)
                && generation == status.generation
            {
                let quiet = Quiet { generation, pid, serial, is_touched: false };
                self.checker.quiet.insert(name.clone(), quiet);
            }
        }
    }

    /// A signal was sent on behalf of somebody.
    pub(crate) fn note_signalled(&mut self, owner: &Owner) -> Step {
        if let Owner::Service(name, generation) = owner
            && let Some(quiet) = self.checker.quiet.get_mut(name)
            && quiet.generation == *generation
            && self.kernel.is_live(quiet.pid, quiet.serial)
        {
            quiet.is_touched = true;
            return broken("S12", format!("{name} is signalled while there is no manager"));
        }
        Ok(())
    }

    /// A sabotage kills a process: it did not end by itself.
    pub(crate) fn note_foul_play(&mut self, pid: Pid, serial: u64) {
        for quiet in self.checker.quiet.values_mut() {
            quiet.is_touched |= (quiet.pid, quiet.serial) == (pid, serial);
        }
    }

    /// S12: what ran quietly when the manager was lost still does, unless it ended by itself.
    fn check_takeover(&mut self) -> Step {
        for (name, quiet) in std::mem::take(&mut self.checker.quiet) {
            if quiet.is_touched {
                return broken("S12", format!("{name} was ended by a takeover"));
            }
            if self.kernel.is_live(quiet.pid, quiet.serial) {
                self.faults.count("service survives the manager");
                self.checker.quiet.insert(name, quiet);
            }
        }
        Ok(())
    }

    /// A service was deleted at the proxy: it may come again, with a first generation.
    pub(crate) fn forget_service(&mut self, name: &ServiceName) -> Step {
        if self.kernel.has_live(name) {
            return broken("S6", format!("{name} is forgotten while it lives"));
        }
        self.kernel.generations.remove(name);
        self.kernel.truths.retain(|(other, _), _| other != name);
        // Nobody remembers what was wanted of it, either.
        self.checker.tracks.remove(name);
        Ok(())
    }
}
