//! One service as the manager knows it: what is wanted, what it is doing, and why.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::protocol::{Attributes, Environment, LogTarget};
use keepd_model::{
    Errno, Exit, Generation, Instant, KillMode, Kind, OnStop, Pid, RestartPolicy, ServiceName,
    ServiceSpec, Signal, State, StopSpec, Until, Wanted,
};

use super::cause::Cause;
use super::explain::{cause_clause, seconds};
use super::history::History;
use super::interface::{LastEnd, PastRun, Question, Said, Ticket};
use super::lease::Leasing;
use super::reload::Reloads;

/// How many steps of a service's past are kept for `why`.
const HISTORY_MAX: usize = 64;

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// It shall run.
    Up,
    /// It shall not run; if it does, it is ended in this manner.
    Down(Manner),
}

/// How a service is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    /// Its stop signal, its time, then KILL.
    Polite,
    /// KILL at once.
    Kill,
}

/// What a service is doing. The data of a phase lives in its variant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// No process, nothing due.
    Resting(Rest),
    /// Wanted up; something it depends on is missing.
    Waiting,
    /// The shell is finding out what the start needs.
    Preparing { ticket: Ticket },
    /// `service.start` was sent; the program does not run yet.
    Commanded {
        generation: Generation,
        pid: Option<Pid>,
        /// The readiness questions of this start; `None` if a predecessor commanded it.
        questions: Option<Vec<Question>>,
        /// Its program must run by then.
        deadline: Option<Instant>,
    },
    /// The program runs and is not ready.
    Starting(Box<Starting>),
    /// It is ready.
    Running(Running),
    /// A group of which every member is there.
    Gathered,
    /// It is on its way down: asked to end, or ended by itself with others of its group still
    /// there.
    Ending(Ending),
    /// Something of it is left long after KILL.
    Stuck(Ending),
    /// It ended; the next start has a time.
    Backoff { until: Instant },
    /// It ended, and the proxy starts it again by its lease.
    Leased {
        /// When; `None`: at once.
        until: Option<Instant>,
        /// If nothing is heard by then, the proxy is asked what became of it.
        overdue: Instant,
        /// It is being taken back, and may have been made before the proxy hears of that.
        cancelled: bool,
    },
}

impl Phase {
    /// Returns the run as one that is on its way down; `None` if there is no run, or it already is.
    pub(super) fn begin_ending(&self, why: EndWhy) -> Option<Ending> {
        let (generation, pid, started, ready) = match self {
            Self::Commanded { generation, pid, .. } => (*generation, *pid, None, None),
            Self::Starting(run) => (run.generation, Some(run.pid), Some(run.started), None),
            Self::Running(run) => {
                (run.generation, Some(run.pid), Some(run.started), Some(run.ready))
            }
            Self::Resting(_)
            | Self::Waiting
            | Self::Preparing { .. }
            | Self::Backoff { .. }
            | Self::Leased { .. }
            | Self::Gathered
            | Self::Ending(_)
            | Self::Stuck(_) => return None,
        };
        Some(Ending { generation, pid, started, ready, why, pressed: None })
    }
}

/// How a service without a process came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was stopped, or never started.
    Stopped,
    /// It ended with success and stays so.
    Done,
    /// It ended and will not be started again by itself.
    Failed,
}

/// A program that runs and is not ready.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Starting {
    pub(super) generation: Generation,
    pub(super) pid: Pid,
    pub(super) started: Instant,
    pub(super) readiness: Readiness,
}

/// A program that is ready.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) generation: Generation,
    pub(super) pid: Pid,
    pub(super) started: Instant,
    pub(super) ready: Instant,
}

/// A run on its way down.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) generation: Generation,
    pub(super) pid: Option<Pid>,
    pub(super) started: Option<Instant>,
    pub(super) ready: Option<Instant>,
    pub(super) why: EndWhy,
    /// How hard the proxy was asked; a harder wish is sent on.
    pub(super) pressed: Option<Manner>,
}

/// Why a run is on its way down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndWhy {
    /// It is not wanted any more.
    Unwanted,
    /// It shall be started again with today's configuration.
    Restart,
    /// What it depends on left the state it needs; it is started when that is back.
    Dependency,
    /// It did not become ready in time.
    ReadyTimeout {
        /// What had not answered well.
        missing: String,
    },
    /// Its main process ended by itself.
    ByItself,
}

/// What still stands between a running program and `ready`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Readiness {
    /// `READY=1` has not come yet.
    pub(super) notify_missing: bool,
    /// The line feed on its `ready.fd` has not come yet.
    pub(super) fd_missing: bool,
    /// The questions; `None` while they are being filled in again (after a takeover).
    pub(super) questions: Option<Vec<Asked>>,
    /// They could not be filled in, and are to be again.
    pub(super) refill: Option<Refill>,
    /// It must stay up until then; `None`: it is never ready (a oneshot).
    pub(super) settled: Option<Instant>,
    /// All of it by then.
    pub(super) deadline: Option<Instant>,
}

/// Readiness questions that could not be filled in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refill {
    /// To be tried again at this time; `None`: it is being tried.
    pub(super) at: Option<Instant>,
    /// What was missing.
    pub(super) why: String,
}

/// One readiness question and how far it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) progress: Progress,
}

/// How far a readiness question is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Progress {
    /// To be asked at this time; the last answer, if there was one, was this.
    Due { at: Instant, last: Option<String> },
    /// Asked, not answered yet; the answer before was this.
    Open { last: Option<String> },
    /// It held once.
    Passed,
}

impl Readiness {
    /// Reports whether only time can still stand in the way.
    pub(super) fn is_answered(&self) -> bool {
        !self.notify_missing
            && !self.fd_missing
            && self.questions.as_ref().is_some_and(|questions| {
                questions.iter().all(|asked| asked.progress == Progress::Passed)
            })
    }

    /// Returns the next time at which something must be done.
    fn next_time(&self) -> Option<Instant> {
        let due = self.questions.iter().flatten().filter_map(|asked| match &asked.progress {
            Progress::Due { at, .. } => Some(*at),
            Progress::Open { .. } | Progress::Passed => None,
        });
        let refill = match (&self.questions, &self.refill) {
            (None, Some(refill)) => refill.at,
            (None | Some(_), _) => None,
        };
        let settled = self.settled.filter(|_| self.is_answered());
        due.chain(refill).chain(settled).chain(self.deadline).min()
    }

    /// Describes what is missing, one clause each.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.notify_missing {
            missing.push("ready.notify: READY=1 has not come".to_owned());
        }
        if self.fd_missing {
            missing.push("ready.fd: the line feed has not come".to_owned());
        }
        if let (None, Some(refill)) = (&self.questions, &self.refill) {
            missing.push(refill.why.clone());
        }
        for asked in self.questions.iter().flatten() {
            let last = match &asked.progress {
                Progress::Due { last, .. } | Progress::Open { last } => last,
                Progress::Passed => continue,
            };
            let last = last.as_deref().unwrap_or("no answer yet");
            missing.push(format!("{}: {last}", describe(&asked.question)));
        }
        missing
    }
}

fn describe(question: &Question) -> String {
    match question {
        Question::Tcp(address) => format!("ready.port {address}"),
        Question::Http(url) => format!("ready.http {url}"),
        Question::Exec(arguments) => {
            let program = arguments.first().map_or(&b""[..], Vec::as_slice);
            format!("ready.exec {}", String::from_utf8_lossy(program))
        }
        Question::Socket(path) => format!("ready.socket {path}"),
        Question::File(path) => format!("ready.file {path}"),
        Question::Log(pattern) => format!("ready.log {pattern}"),
    }
}

/// What the proxy is known to hold of a service's definition; only differences are sent.
///
/// Of what is only ever compared as a whole there is a digest: the proxy has it, and a second copy
/// of everything would be most of what a service costs here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Definition {
    /// The first of the arguments: the program that the proxy was told to start.
    pub(super) program: Option<Box<[u8]>>,
    pub(super) arguments: Option<Digest>,
    /// Shared by services that have the same, which most have.
    pub(super) attributes: Option<Arc<Attributes>>,
    pub(super) environment: Option<Digest>,
    pub(super) log: Option<Digest>,
    pub(super) tags: Option<Digest>,
    pub(super) record: Option<Digest>,
}

impl Definition {
    /// Notes the arguments that the proxy holds; reports whether that is news.
    pub(super) fn note_arguments(&mut self, arguments: &[Vec<u8>]) -> bool {
        self.program = arguments.first().map(|program| program.as_slice().into());
        note(&mut self.arguments, arguments)
    }

    /// Notes the environment that the proxy holds; reports whether that is news.
    pub(super) fn note_environment(&mut self, environment: &Environment) -> bool {
        note(&mut self.environment, environment)
    }

    /// Notes where the proxy sends the output; reports whether that is news.
    pub(super) fn note_log(&mut self, log: &LogTarget) -> bool {
        note(&mut self.log, log)
    }

    /// Notes the tags that the proxy holds; reports whether that is news.
    pub(super) fn note_tags(&mut self, tags: &[Vec<u8>]) -> bool {
        note(&mut self.tags, tags)
    }

    /// Notes the record that the proxy holds; reports whether that is news.
    pub(super) fn note_record(&mut self, record: &[u8]) -> bool {
        note(&mut self.record, record)
    }
}

/// 64 bits of a value, and never zero, so that there being none takes no room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(NonZeroU64);

impl Digest {
    pub(super) fn of(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = Fnv::default();
        value.hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }
}

/// Notes a value; reports whether another one, or none, was known.
fn note(known: &mut Option<Digest>, value: &(impl Hash + ?Sized)) -> bool {
    let digest = Some(Digest::of(value));
    std::mem::replace(known, digest) != digest
}

/// One step of a service's past.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PastStep {
    pub(super) at: Instant,
    pub(super) state: State,
    pub(super) cause: Cause,
}

/// Everything the manager knows of one service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) spec: Arc<ServiceSpec>,
    /// It is gone from the plan; once it is down it is forgotten.
    pub(super) removed: bool,
    pub(super) want: Want,
    /// Why that is wanted.
    pub(super) want_cause: Cause,
    pub(super) phase: Phase,
    /// Why that is its phase.
    pub(super) cause: Cause,
    pub(super) since: Instant,
    /// The last generation that was commanded or seen.
    pub(super) generation: Generation,
    pub(super) invocation: Option<u128>,
    /// Ends since it was last ready for the reset time.
    pub(super) end_count: u32,
    /// When it was restarted automatically, within the window of `restart_limit`.
    pub(super) restart_times: VecDeque<Instant>,
    pub(super) restarts: u64,
    pub(super) ready_after: Option<Duration>,
    pub(super) last_end: Option<Box<LastEnd>>,
    /// Runs that are over, oldest first.
    pub(super) history: History,
    /// Why the present or last run was started.
    pub(super) start_cause: Cause,
    /// What it depends on with a reaction (`on_stop`), as far as that held since its start: only
    /// what was there can be lost.
    pub(super) held: BTreeSet<ServiceName>,
    /// It does not get where it should be by itself soon. Derived when it is looked at, so that
    /// nobody has to walk the graph of dependencies to know.
    pub(super) is_hopeless: bool,
    pub(super) status_text: Option<String>,
    pub(super) reloads: Reloads,
    /// The last generation that said READY=1. The proxy may hear that before it hears that the
    /// program runs, because a child that is forked meanwhile holds a copy of the pipe that
    /// tells it.
    pub(super) notified: Generation,
    /// The same for the line feed on its `ready.fd`.
    pub(super) notified_fd: Generation,
    pub(super) output_blocked: Option<Errno>,
    /// Fingerprint of the specification that the last generation was started with.
    pub(super) launched: Option<u64>,
    /// Fingerprint of a specification that somebody chose not to restart for.
    pub(super) kept: Option<u64>,
    /// Changed keys take effect at its next start by the manager, which has to come before another
    /// by lease.
    pub(super) needs_new_start: bool,
    pub(super) known: Definition,
    pub(super) leasing: Leasing,
    /// The proxy was told that the ends up to this generation are known.
    pub(super) acknowledged: Generation,
    pub(super) past: VecDeque<PastStep>,
    /// The timer that is set for it, so that it can be unset.
    pub(super) timer: Option<Instant>,
}

impl Service {
    pub(super) fn new(spec: Arc<ServiceSpec>, now: Instant) -> Self {
        Self {
            spec,
            removed: false,
            want: Want::Down(Manner::Polite),
            want_cause: Cause::NotEnabled,
            phase: Phase::Resting(Rest::Stopped),
            cause: Cause::NotEnabled,
            since: now,
            generation: Generation::NONE,
            invocation: None,
            end_count: 0,
            restart_times: VecDeque::new(),
            restarts: 0,
            ready_after: None,
            last_end: None,
            history: History::default(),
            start_cause: Cause::NotEnabled,
            held: BTreeSet::new(),
            is_hopeless: false,
            status_text: None,
            reloads: Reloads::default(),
            notified: Generation::NONE,
            notified_fd: Generation::NONE,
            output_blocked: None,
            launched: None,
            kept: None,
            needs_new_start: false,
            known: Definition::default(),
            leasing: Leasing::default(),
            acknowledged: Generation::NONE,
            past: VecDeque::new(),
            timer: None,
        }
    }

    pub(super) fn name(&self) -> &ServiceName {
        &self.spec.name
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self.want {
            Want::Up => Wanted::Up,
            Want::Down(_) => Wanted::Down,
        }
    }

    /// Returns the word for people.
    pub(super) fn state(&self) -> State {
        match &self.phase {
            Phase::Resting(Rest::Stopped) => State::Stopped,
            Phase::Resting(Rest::Done) => State::Done,
            Phase::Resting(Rest::Failed) => State::Failed,
            Phase::Waiting => State::Waiting,
            Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Leased { until: None, .. } => State::Starting,
            Phase::Running(_) | Phase::Gathered => State::Ready,
            Phase::Ending(_) => State::Stopping,
            Phase::Stuck(_) => State::Stuck,
            Phase::Backoff { .. } | Phase::Leased { until: Some(_), .. } => State::Backoff,
        }
    }

    /// Reports whether the proxy has, or may have, a process of it.
    pub(super) fn has_process(&self) -> bool {
        match &self.phase {
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Gathered
            | Phase::Leased { cancelled: false, .. }
            | Phase::Backoff { .. } => false,
            Phase::Commanded { .. }
            | Phase::Leased { cancelled: true, .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Ending(_)
            | Phase::Stuck(_) => true,
        }
    }

    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.phase {
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Gathered
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => None,
            Phase::Commanded { pid, .. } => *pid,
            Phase::Starting(starting) => Some(starting.pid),
            Phase::Running(running) => Some(running.pid),
            Phase::Ending(ending) | Phase::Stuck(ending) => ending.pid,
        }
    }

    pub(super) fn started(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Leased { .. }
            | Phase::Gathered
            | Phase::Commanded { .. } => None,
            Phase::Starting(starting) => Some(starting.started),
            Phase::Running(running) => Some(running.started),
            Phase::Ending(ending) | Phase::Stuck(ending) => ending.started,
        }
    }

    /// Reports whether it stands for others and has no process of its own.
    pub(super) fn is_group(&self) -> bool {
        self.spec.kind == Kind::Group
    }

    /// Reports whether it has reached what an edge asks for.
    pub(super) fn satisfies(&self, until: Until) -> bool {
        if self.phase == Phase::Gathered {
            return true; // A group is there as far as its members are.
        }
        let done = self.phase == Phase::Resting(Rest::Done);
        let oneshot = self.spec.kind == Kind::Oneshot;
        match until {
            Until::Started => done || matches!(self.phase, Phase::Starting(_) | Phase::Running(_)),
            Until::Ready => matches!(self.phase, Phase::Running(_)) || (oneshot && done),
            Until::Done => done,
            Until::Exited => {
                done || (self.phase == Phase::Resting(Rest::Failed)
                    && self.last_end.as_ref().is_some_and(|end| end.exit.is_some()))
            }
        }
    }

    /// Reports whether it is where it should be for good.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.phase, Phase::Running(_) | Phase::Gathered | Phase::Resting(Rest::Done))
    }

    /// Returns when the machine must look at it again.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let of_phase = match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Commanded { deadline, .. } => *deadline,
            Phase::Starting(starting) => starting.readiness.next_time(),
            Phase::Leased { overdue, .. } => Some(*overdue),
            // From then on its next end is a first one, which its lease has to say.
            Phase::Running(running) => self
                .has_ended_lately()
                .then(|| running.ready.saturating_add(self.spec.backoff.reset)),
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_) => None,
        };
        of_phase.into_iter().chain(self.reloads.next_time()).min()
    }

    /// Reports whether the policy starts it again after this end (`None`: it never ran its
    /// program).
    pub(super) fn wants_restart_after(&self, exit: Option<Exit>) -> bool {
        match self.spec.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_some_and(|exit| self.spec.is_success(exit)),
            RestartPolicy::Never => false,
        }
    }

    /// Forgets how often it ended: somebody begins anew.
    pub(super) fn forget_ends(&mut self) {
        self.end_count = 0;
        self.restart_times.clear();
    }

    /// Reports whether one more automatic restart is allowed.
    pub(super) fn may_restart(&self, now: Instant) -> bool {
        let limit = self.spec.restart_limit;
        limit.count == 0 || self.recent_restarts(now) < limit.count as usize
    }

    /// Returns how many automatic restarts are within the window of `restart_limit`.
    pub(super) fn recent_restarts(&self, now: Instant) -> usize {
        let limit = self.spec.restart_limit;
        self.restart_times.iter().filter(|at| limit.is_recent(now, **at)).count()
    }

    /// Notes an end that is followed by an automatic restart.
    pub(super) fn count_restart(&mut self, now: Instant, was_ready: bool) {
        let limit = self.spec.restart_limit;
        self.restart_times.retain(|at| limit.count > 0 && limit.is_recent(now, *at));
        if limit.count > 0 {
            self.restart_times.push_back(now);
        }
        self.end_count = Backoff::count_end(self.end_count, was_ready);
        self.restarts += 1;
    }

    /// Reports whether an end still counts for what follows the next one.
    fn has_ended_lately(&self) -> bool {
        self.end_count > 0 || !self.restart_times.is_empty()
    }

    /// Reports whether an edge of it reacts when the other service leaves its state. Such a service
    /// looks at its edges again before every start, an automatic one too.
    pub(super) fn reacts(&self) -> bool {
        self.spec.depends_on.values().any(|edge| edge.on_stop != OnStop::Ignore)
    }

    /// Reports whether its process runs with another specification than today's.
    pub(super) fn is_outdated(&self) -> bool {
        self.has_process()
            && self.spec.quarantine.is_none()
            && self.launched.is_some_and(|launched| launched != fingerprint(&self.spec))
    }

    /// Notes that a generation said that it is ready.
    pub(super) fn note_said(&mut self, generation: Generation, said: &Said) {
        if said.ready {
            self.notified = self.notified.max(generation);
        }
        if said.ready_fd {
            self.notified_fd = self.notified_fd.max(generation);
        }
    }

    /// Returns what there is to say about an end beside its status.
    pub(super) fn remark(
        &self,
        now: Instant,
        ending: &Ending,
        exit: Option<Exit>,
        cause: &Cause,
    ) -> Option<String> {
        let Some(exit) = exit else {
            return Some(cause_clause(cause));
        };
        let StopSpec { signal, timeout, .. } = self.spec.stop;
        let is_killed = matches!(exit, Exit::Signal { signal: Signal::KILL, .. });
        let waited = now.saturating_since(self.since) >= timeout;
        match (&ending.why, ending.pressed) {
            (EndWhy::ByItself, _) | (_, Some(Manner::Kill) | None) => None,
            (_, Some(Manner::Polite))
                if is_killed && waited && signal != Signal::KILL && !timeout.is_zero() =>
            {
                let timeout = seconds(timeout);
                Some(format!("it did not end within {timeout} of signal {signal} (stop_timeout)"))
            }
            (EndWhy::Dependency, _) => Some(cause_clause(&self.cause)),
            (EndWhy::Unwanted | EndWhy::Restart | EndWhy::ReadyTimeout { .. }, _) => None,
        }
    }

    /// Remembers how a run ended, or a start that failed.
    pub(super) fn remember_run(
        &mut self,
        end: LastEnd,
        ready_after: Option<Duration>,
        runs_max: usize,
    ) {
        self.last_end = Some(Box::new(end.clone()));
        let cause = self.start_cause.clone();
        self.history.add(PastRun { cause, ready_after, end }, runs_max);
    }

    pub(super) fn remember(&mut self, step: PastStep) {
        if self.past.len() == HISTORY_MAX {
            self.past.pop_front();
        } else if self.past.len() == self.past.capacity() {
            // Most services take two steps and then run for months.
            self.past.reserve_exact(2);
        }
        self.past.push_back(step);
    }
}

/// Returns a number that changes when a key changes that needs a restart.
///
/// It is written into notes and compared by later versions of keepd, so it is built from words and
/// file forms, never from the debugging form of a type.
pub(super) fn fingerprint(spec: &ServiceSpec) -> u64 {
    use keepd_model::{CommandLine, EnvInherit, LogMode};
    let mut hash = Fnv::default();
    hash.field(spec.kind.word());
    match &spec.command {
        None => hash.field("nothing"),
        Some(CommandLine::Words(words)) => {
            hash.field("words");
            words.iter().for_each(|word| hash.field(&word.to_string()));
        }
        Some(CommandLine::Shell(line)) => {
            hash.field("shell");
            hash.field(line);
        }
    }
    hash.field(&spec.working_dir.to_string());
    hash.field(spec.user.as_deref().unwrap_or("-"));
    // Only what is given is in the number: a version that does not know the key has the same one.
    if let Some(group) = &spec.group {
        hash.field(&format!("group {group}"));
    }
    if let Some(groups) = &spec.extra_groups {
        hash.field(&format!("extra_groups {}", groups.join(",")));
    }
    hash.field(&format!("{:o}", spec.umask));
    for (name, value) in &spec.env {
        hash.field(name);
        hash.field(&value.as_ref().map_or_else(|| "-".to_owned(), |value| format!("={value}")));
    }
    match &spec.env_inherit {
        EnvInherit::All => hash.field("all"),
        EnvInherit::None => hash.field("none"),
        EnvInherit::Only(names) => names.iter().for_each(|name| hash.field(name)),
    }
    hash.field(if spec.ready.notify { "notify" } else { "-" });
    if let Some(fd) = spec.ready.fd {
        hash.field(&format!("ready_fd {fd}"));
    }
    match &spec.log.mode {
        LogMode::File { dir: None } => hash.field("file"),
        LogMode::File { dir: Some(dir) } => hash.field(&format!("file {dir}")),
        LogMode::Append { file } => hash.field(&format!("append {file}")),
        LogMode::Null => hash.field("null"),
        LogMode::Inherit => hash.field("inherit"),
    }
    hash.field(spec.log.stderr.word());
    hash.0
}

/// FNV-1a with 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Fnv {
    fn field(&mut self, text: &str) {
        self.write(text.as_bytes());
        self.write(&[0]);
    }
}

/// Returns the attributes for a start of this specification.
pub(super) fn attributes(
    spec: &ServiceSpec,
    directory: Vec<u8>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
) -> Attributes {
    let base = Attributes {
        directory: Some(directory),
        umask: spec.umask,
        uid,
        gid,
        groups,
        notify: spec.ready.notify,
        ready_fd: spec.ready.fd,
        ..Attributes::default()
    };
    with_stop(base, spec)
}

/// Returns the attributes with the keys that take effect at once brought up to date.
pub(super) fn with_stop(attributes: Attributes, spec: &ServiceSpec) -> Attributes {
    let kill_mode: KillMode = spec.stop.kill_mode;
    Attributes {
        kill_mode,
        stop_signal: spec.stop.signal,
        stop_timeout: spec.stop.timeout,
        ..attributes
    }
}
