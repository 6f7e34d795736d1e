//! What the proxy knows of one service: its definition, and the run of its last generation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{
    Attributes, Event, LogTarget, READY_FD_TEXT, RunEnd, RunReport, RunState, Triggers,
};
use keepd_model::{
    Errno, Generation, Instant, KillMode, Pid, ServiceName, Signal, SpawnFailure, SpawnStep, Wanted,
};

use super::connections::Audience;
use super::leases::Granted;
use super::packed::{Changes, Slots, Words};
use super::stop::StopOrder;
use super::{EndedRun, Owner, Proxy};

/// The most notifications of one generation that are kept for a controller that comes later.
pub(super) const NOTIFICATIONS_MAX: usize = 16;

/// Reports whether a notification says that its service is ready. It is said once, and must not
/// give way to any number of others while nobody listens.
pub(super) fn says_ready(text: &[u8]) -> bool {
    readiness(text).is_some()
}

/// Returns what a notification says of readiness, in the way in which it says it, if anything.
pub(super) fn readiness(text: &[u8]) -> Option<&'static [u8]> {
    const WAYS: [&[u8]; 2] = [b"READY=1", READY_FD_TEXT.as_bytes()];
    WAYS.into_iter().find(|way| text.split(|byte| *byte == b'\n').any(|line| line == *way))
}

/// A definition and a run.
#[derive(Debug)]
pub(super) struct Service {
    /// Program and arguments of the next start.
    pub(super) arguments: Words,
    /// Free words.
    pub(super) tags: Words,
    /// Process attributes, in one piece of memory with those of services that have the same.
    pub(super) attributes: Arc<Attributes>,
    /// Differences to the proxy's environment, for the next start.
    pub(super) environment: Changes,
    /// Where output goes from the next start on.
    pub(super) log: LogTarget,
    /// The descriptors of the next start, where a list was set.
    pub(super) fds: Option<Slots>,
    /// When it starts by itself, and how often at most.
    pub(super) auto_up: AutoUp,
    /// What controllers want to find again, in the order of the keys. A vector, because most
    /// services have few notes and there are many services.
    pub(super) notes: Vec<Note>,
    /// The last generation that was started.
    pub(super) generation: Generation,
    /// The INVOCATION_ID of that generation.
    pub(super) invocation: u128,
    /// What the last command asked for: without `Up` nothing starts by itself.
    pub(super) wanted: Wanted,
    /// Ends that count for the delays of `respawn`.
    pub(super) respawn_count: usize,
    /// Restarts that need no command.
    pub(super) lease: Option<Box<Granted>>,
    /// The ends of this generation and of all before need not be told again.
    pub(super) acknowledged: Generation,
    /// The ends between that generation and the present one, oldest first.
    pub(super) unacknowledged: Vec<EndedRun>,
    /// The last notifications of the present generation.
    pub(super) notifications: VecDeque<Notification>,
    /// A line feed came on the `ready_fd` of the present generation.
    pub(super) ready_fd_said: bool,
    /// Why output cannot be written, while it cannot.
    pub(super) output_blocked: Option<Errno>,
    /// What it is doing. Only [`Proxy::transition`] writes it.
    run: Run,
}

/// `service.auto_up`.
#[derive(Debug)]
pub(super) struct AutoUp {
    /// At least this many seconds from one start to the next; at least 1.
    pub(super) seconds: u32,
    /// The words of the triggers as they were given; the interval is remembered without any.
    pub(super) words: Words,
    /// It starts by itself at any time.
    pub(super) always: bool,
    /// It starts by itself while one of these is pending. In order, without doubles.
    pub(super) signals: Box<[Signal]>,
}

impl AutoUp {
    fn new() -> Self {
        Self { seconds: 1, words: Words::default(), always: false, signals: Box::default() }
    }

    /// Reports whether there is any trigger that can ever hold.
    pub(super) fn has_triggers(&self) -> bool {
        self.always || !self.signals.is_empty()
    }

    /// Keeps these triggers from now on.
    pub(super) fn set(&mut self, triggers: Triggers) {
        self.words = Words::new(&triggers.words);
        self.always = triggers.always;
        self.signals = triggers.signals.into();
    }
}

/// `service.note`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) key: Box<str>,
    pub(super) value: Box<[u8]>,
}

/// A datagram that came on the notify socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) pid: Pid,
    pub(super) text: Vec<u8>,
}

/// A main process that was not reaped yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Main {
    pub(super) pid: Pid,
    /// When it was cloned.
    pub(super) started: Instant,
    /// Whether its generation has a group of its own, which can be signalled and waited for. Taken
    /// at the start, because `place` may be set to something else while it runs.
    pub(super) leaf: bool,
    /// The step at which it failed to become its program.
    pub(super) failure: Option<SpawnFailure>,
}

/// The end of a generation's main process, or of the attempt to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: Instant,
    pub(super) end: RunEnd,
    /// `None` if the clone itself failed, or a predecessor saw the end.
    pub(super) pid: Option<Pid>,
    /// When it was cloned, or should have been; of one that a predecessor saw, when it ended.
    pub(super) started: Instant,
}

impl Ended {
    /// Reports whether there was never a process. What fails in the child is a failure of another
    /// kind: it would fail again.
    pub(super) fn is_unmade(&self) -> bool {
        let step = match self.end {
            RunEnd::Failed(SpawnFailure { step, .. }) => step,
            RunEnd::Exit(_) | RunEnd::Cancelled => return false,
        };
        self.pid.is_none()
            && matches!(step, SpawnStep::Prepare | SpawnStep::Cgroup | SpawnStep::Clone)
    }
}

/// How far an end is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked politely; KILL follows at a time.
    Polite { kill_due: Instant },
    /// KILL was sent and is sent again at a time.
    Killed { again: Instant },
}

/// What is still there long after KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// The main process.
    Main(Main),
    /// Others of the group; the main process ended.
    Group(Ended),
}

/// Why a generation is started, or is going to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// `service.start`.
    Command,
    /// By itself: `auto_up`, `respawn`, `retry`.
    Itself,
    /// A lease allows it.
    Lease,
    /// As [`Cause::Lease`], but there is no room for one more end that nobody has acknowledged.
    /// Nothing is due until there is.
    Held,
}

/// The run of the last generation; see the essay in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// No process, and none will come by itself.
    Down { since: Instant, ended: Option<Ended> },
    /// No process; a start is due at a time.
    Pending { due: Instant, ended: Option<Ended>, cause: Cause },
    /// The shell was asked for a process and has not answered. A stop waits for the answer.
    Spawning { asked: Instant, leaf: bool, stop: Option<StopOrder> },
    /// Cloned; the child has not executed its program yet.
    Forked { main: Main },
    /// The program runs.
    Up { main: Main, since: Instant },
    /// Asked to end.
    Stopping { main: Main, since: Instant, phase: Phase },
    /// The main process ended; its group is not known to be empty.
    Emptying { ended: Ended, phase: Phase },
    /// Something is there [`super::stop::STUCK_AFTER`] after KILL.
    Stuck { remains: Remains, since: Instant, again: Instant },
    /// A predecessor was lost, and it cannot be said whether something runs.
    Unsure { since: Instant },
}

impl Phase {
    /// Returns when the next step of this phase is due.
    const fn due(self) -> Instant {
        match self {
            Self::Polite { kill_due } => kill_due,
            Self::Killed { again } => again,
        }
    }
}

impl Run {
    /// Returns the state that connections see.
    pub(super) const fn state(&self) -> RunState {
        match self {
            Self::Down { .. } => RunState::Down,
            // No process is known, so nothing more can be said than that one is due.
            Self::Pending { .. } | Self::Spawning { .. } => RunState::Pending,
            Self::Forked { .. } => RunState::Forked,
            Self::Up { .. } => RunState::Up,
            Self::Stopping { .. } => RunState::Stopping,
            Self::Emptying { .. } => RunState::Emptying,
            // Without a process and without an end, which no other run that is stuck lacks both.
            Self::Stuck { .. } | Self::Unsure { .. } => RunState::Stuck,
        }
    }

    /// Reports whether nothing of the last generation is left, nor a next one begun.
    pub(super) const fn is_at_rest(&self) -> bool {
        match self {
            Self::Down { .. } | Self::Pending { .. } => true,
            Self::Spawning { .. }
            | Self::Forked { .. }
            | Self::Up { .. }
            | Self::Stopping { .. }
            | Self::Emptying { .. }
            | Self::Stuck { .. }
            | Self::Unsure { .. } => false,
        }
    }

    /// Returns when this state must be left or renewed without any news.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Down { .. }
            | Self::Pending { cause: Cause::Held, .. }
            | Self::Spawning { .. }
            | Self::Forked { .. }
            | Self::Up { .. }
            | Self::Unsure { .. } => None,
            Self::Pending { due, cause: Cause::Command | Cause::Itself | Cause::Lease, .. } => {
                Some(*due)
            }
            Self::Stopping { phase, .. } | Self::Emptying { phase, .. } => Some(phase.due()),
            Self::Stuck { again, .. } => Some(*again),
        }
    }

    /// Returns the main process that was not reaped yet.
    pub(super) const fn main(&self) -> Option<&Main> {
        match self {
            Self::Forked { main }
            | Self::Up { main, .. }
            | Self::Stopping { main, .. }
            | Self::Stuck { remains: Remains::Main(main), .. } => Some(main),
            Self::Down { .. }
            | Self::Pending { .. }
            | Self::Spawning { .. }
            | Self::Emptying { .. }
            | Self::Stuck { remains: Remains::Group(_), .. }
            | Self::Unsure { .. } => None,
        }
    }

    /// Returns the process that the generation began with, while a process of it may exist; it may
    /// be reaped.
    pub(super) fn first_pid(&self) -> Option<Pid> {
        match self {
            Self::Down { .. }
            | Self::Pending { .. }
            | Self::Spawning { .. }
            | Self::Unsure { .. } => None,
            Self::Forked { main }
            | Self::Up { main, .. }
            | Self::Stopping { main, .. }
            | Self::Stuck { remains: Remains::Main(main), .. } => Some(main.pid),
            Self::Emptying { ended, .. } | Self::Stuck { remains: Remains::Group(ended), .. } => {
                ended.pid
            }
        }
    }

    /// Returns the same run with a failure of its main process noted, where there is one.
    pub(super) fn with_failure(mut self, failure: SpawnFailure) -> Self {
        match &mut self {
            // One that was adopted is up for its successor, whether or not it had executed.
            Self::Forked { main }
            | Self::Up { main, .. }
            | Self::Stopping { main, .. }
            | Self::Stuck { remains: Remains::Main(main), .. } => main.failure = Some(failure),
            // Only a child that did not execute can fail to.
            Self::Down { .. }
            | Self::Pending { .. }
            | Self::Spawning { .. }
            | Self::Emptying { .. }
            | Self::Stuck { remains: Remains::Group(_), .. }
            | Self::Unsure { .. } => {}
        }
        self
    }

    /// Returns the end that this state carries.
    pub(super) const fn ended(&self) -> Option<&Ended> {
        match self {
            Self::Down { ended, .. } | Self::Pending { ended, .. } => ended.as_ref(),
            Self::Emptying { ended, .. } | Self::Stuck { remains: Remains::Group(ended), .. } => {
                Some(ended)
            }
            Self::Spawning { .. }
            | Self::Forked { .. }
            | Self::Up { .. }
            | Self::Stopping { .. }
            | Self::Stuck { remains: Remains::Main(_), .. }
            | Self::Unsure { .. } => None,
        }
    }

    /// Returns since when it is in this state; for a pending start, until when.
    const fn at(&self) -> Instant {
        match self {
            Self::Pending { due, .. } => *due,
            Self::Spawning { asked, .. } => *asked,
            Self::Forked { main } => main.started,
            Self::Emptying { ended, .. } => ended.at,
            Self::Down { since, .. }
            | Self::Up { since, .. }
            | Self::Stopping { since, .. }
            | Self::Stuck { since, .. }
            | Self::Unsure { since } => *since,
        }
    }
}

impl Service {
    /// Returns a service that was just named for the first time.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            arguments: Words::default(),
            tags: Words::default(),
            attributes: Arc::default(),
            environment: Changes::default(),
            log: LogTarget::default(),
            fds: None,
            auto_up: AutoUp::new(),
            notes: Vec::new(),
            generation: Generation::NONE,
            invocation: 0,
            wanted: Wanted::Down,
            respawn_count: 0,
            lease: None,
            acknowledged: Generation::NONE,
            unacknowledged: Vec::new(),
            notifications: VecDeque::new(),
            ready_fd_said: false,
            output_blocked: None,
            run: Run::Down { since: now, ended: None },
        }
    }

    /// Returns what it is doing.
    pub(super) const fn run(&self) -> Run {
        self.run
    }

    /// Returns the report of its present state.
    /// Reports whether the present generation said in this way that it is ready.
    pub(super) fn has_said(&self, said: &[u8]) -> bool {
        self.notifications.iter().any(|kept| readiness(&kept.text) == Some(said))
    }

    pub(super) fn report(&self, name: &ServiceName) -> RunReport {
        let main = self.run.main();
        let ended = self.run.ended();
        // A clone that failed has an end, but no process that could have started.
        let cloned = ended.and_then(|ended| Some((ended.pid?, ended.started)));
        let cloned = main.map(|main| (main.pid, main.started)).or(cloned);
        RunReport {
            name: name.clone(),
            generation: self.generation,
            state: self.run.state(),
            at: self.run.at(),
            pid: cloned.map(|(pid, _)| pid),
            ended: ended.map(|ended| ended.end),
            started: cloned.map(|(_, started)| started),
            ended_at: ended.map(|ended| ended.at),
        }
    }

    /// Reports whether the run goes on after the end of its main process, until its group (with
    /// `leaf` it has one) is empty.
    pub(super) fn waits_for_group(&self, leaf: bool) -> bool {
        match self.attributes.kill_mode {
            KillMode::Mixed | KillMode::All => leaf,
            KillMode::Main => false,
        }
    }

    /// Returns how many bytes a note has, 0 if there is none.
    pub(super) fn note_bytes(&self, key: &str) -> usize {
        let found = self.notes.binary_search_by(|note| (*note.key).cmp(key));
        found.map_or(0, |position| self.notes[position].value.len())
    }

    /// Takes over `service.auto_up`. Who sets a trigger wants the service up.
    pub(super) fn set_auto_up(&mut self, seconds: Option<u32>, triggers: Triggers) {
        if let Some(seconds) = seconds {
            self.auto_up.seconds = seconds.max(1);
        }
        self.auto_up.set(triggers);
        if self.auto_up.has_triggers() {
            self.wanted = Wanted::Up;
        }
    }

    /// Returns the event that tells `service.auto_up`.
    pub(super) fn auto_up_event(&self, name: &ServiceName) -> Event {
        Event::AutoUp(name.clone(), self.auto_up.seconds, self.auto_up.words.unpack())
    }

    /// Returns the shortest time from one start to the next by `auto_up`.
    pub(super) fn auto_up_interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.auto_up.seconds.max(1)))
    }
}

/// What a timer is for; each has at most one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// [`Run::deadline`].
    Service(ServiceName),
    /// The next step of a job.
    Job(super::JobId),
}

impl Proxy {
    /// The only door through which a run changes: it keeps timers and process ids in step with the
    /// run, and announces the new state unless nothing about it is new to a reader.
    ///
    /// `Spawning` is not announced here: connections hear the invocation instead, and those that
    /// watch starts must hear of each exactly once.
    pub(super) fn transition(&mut self, name: &ServiceName, run: Run) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let before = (service.run, service.report(name));
        service.run = run;
        let report = service.report(name);
        if before.0.deadline() != run.deadline() {
            if let Some(due) = before.0.deadline() {
                self.timers.remove(&(due, Timer::Service(name.clone())));
            }
            if let Some(due) = run.deadline() {
                self.timers.insert((due, Timer::Service(name.clone())));
            }
        }
        let pids = [before.0.main(), run.main()].map(|main| main.map(|main| main.pid));
        if pids[0] != pids[1] {
            if let Some(pid) = pids[0] {
                self.processes.remove(&pid);
            }
            if let Some(pid) = pids[1] {
                let owner = Owner::Service(name.clone(), report.generation);
                self.processes.insert(pid, owner);
            }
        }
        let is_news = report != before.1 && !matches!(run, Run::Spawning { .. });
        if is_news {
            self.broadcast(&Event::Run(report), Audience::Everyone);
        }
    }
}
