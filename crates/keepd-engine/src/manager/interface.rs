//! What the manager machine hears, what it asks for, and what it shows.

use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{Command, Environment, LogTarget, Message, RequestId, Scope};
use keepd_model::{
    ChangeId, Errno, Exit, Generation, Health, Instant, Kind, Pid, Plan, Reason, ServiceName,
    ServiceSpec, Signal, SpawnFailure, SpawnStep, State, Wanted,
};

use super::cause::Cause;

/// What the machine is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For jitter.
    pub seed: u64,
    /// `exit_when = "auto"` means `idle` (a foreground `up`, `run -- CMD`).
    pub idle_by_default: bool,
    /// Only these services are wanted up at the start, with what they need (`up SELECTOR…`).
    pub only: Option<Vec<ServiceName>>,
}

/// A question to the machine, numbered by the shell; answered exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// A preparation asked of the shell, numbered by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who asks, by the credentials of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// User id.
    pub uid: u32,
    /// Process id, for people.
    pub pid: u32,
}

/// News for the manager machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// The plan to begin with. A successor gets the accepted plan, changed or not.
    Boot {
        /// What is wanted.
        plan: Plan,
    },
    /// The connection to the proxy stands; nothing was sent on it yet.
    Connected,
    /// The connection to the proxy is gone.
    Disconnected,
    /// A line from the proxy.
    Message(Message),
    /// A `service.notify` event, its text read by the shell.
    Notified {
        /// The service.
        name: ServiceName,
        /// The generation it came from.
        generation: Generation,
        /// What it says.
        said: Said,
    },
    /// Somebody wants something.
    Ask {
        /// Its number.
        ask: AskId,
        /// Who.
        who: Who,
        /// A word chosen by the asker: the same word again gets the same change, not a second one.
        token: Option<String>,
        /// What.
        request: Ask,
    },
    /// Answer to [`Output::Prepare`].
    Prepared {
        /// Which.
        ticket: Ticket,
        /// What to run, or why not.
        outcome: Result<Box<Launch>, PrepareFailure>,
    },
    /// Answer to [`Output::Probe`].
    Probed {
        /// The service.
        name: ServiceName,
        /// The generation that was asked.
        generation: Generation,
        /// Which of its questions.
        index: usize,
        /// It holds, or what stood against it.
        outcome: Result<(), String>,
    },
}

/// What a service said of itself, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `READY=1`.
    pub ready: bool,
    /// A line feed on its `ready.fd`.
    pub ready_fd: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `MONOTONIC_USEC=…`.
    pub stamp: Option<Instant>,
    /// `STATUS=…`.
    pub status: Option<String>,
}

/// What somebody can want.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Wanted up, with dependencies unless alone.
    Start {
        /// Which.
        names: Vec<ServiceName>,
        /// Without dependencies.
        alone: bool,
    },
    /// Wanted up, with dependencies, as far as they are neither ready nor done.
    Up {
        /// Which.
        names: Vec<ServiceName>,
        /// Only those that are enabled; what is quarantined is no error then.
        enabled_only: bool,
    },
    /// Wanted down, dependents first unless alone.
    Stop {
        /// Which.
        names: Vec<ServiceName>,
        /// Without dependents.
        alone: bool,
        /// KILL at once.
        kill: bool,
    },
    /// Down and up again with today's configuration.
    Restart {
        /// Which.
        names: Vec<ServiceName>,
    },
    /// Read your files again.
    Reload {
        /// Which.
        names: Vec<ServiceName>,
    },
    /// Send them a signal.
    Signal {
        /// Which.
        names: Vec<ServiceName>,
        /// The signal.
        signal: Signal,
        /// Who of each gets it.
        scope: Scope,
    },
    /// Make this so.
    Apply {
        /// The whole plan, already validated and written down by the shell.
        plan: Plan,
        /// Restart what must be restarted; otherwise it is only marked.
        restart: bool,
    },
    /// Stop everything in order and end.
    Shutdown {
        /// KILL everything at once.
        now: bool,
    },
}

/// What the shell is asked to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a command to the proxy. `Proto` goes untagged, the rest under its number.
    Command {
        /// The number.
        id: RequestId,
        /// The command.
        command: Command,
    },
    /// Find out what a start needs: users, variables, files, paths. Answered by
    /// [`Input::Prepared`].
    Prepare {
        /// Its number.
        ticket: Ticket,
        /// For which service.
        spec: Arc<ServiceSpec>,
        /// What for.
        preparation: Preparation,
    },
    /// Ask from outside whether it is ready. Answered by [`Input::Probed`].
    Probe {
        /// The service.
        name: ServiceName,
        /// The generation.
        generation: Generation,
        /// Which of its questions.
        index: usize,
        /// The question; never [`Question::Exec`], which goes to the proxy.
        question: Question,
        /// No answer by then is an answer.
        timeout: Duration,
    },
    /// The answer to an ask: the change that was opened, or why not.
    Answer {
        /// Which ask.
        ask: AskId,
        /// The answer.
        answer: Result<ChangeId, Refusal>,
    },
    /// Something happened that people may want to read.
    Announce(Announcement),
    /// Everything is stopped (or given up): tell the proxy to end with this code.
    Finish {
        /// The exit code.
        code: u8,
    },
}

/// What is going to be done with what is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// A start: what is left of an earlier run may be cleaned away.
    Start,
    /// Nothing yet: it may run, and nothing is changed.
    Check,
    /// Its `reload_command` is run, for this main process.
    Reload(Pid),
}

/// What a start needs, found out by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Differences to the proxy's environment.
    pub environment: Environment,
    /// Working directory.
    pub directory: Vec<u8>,
    /// User id, if another than keepd's.
    pub uid: Option<u32>,
    /// Group id, if another than keepd's.
    pub gid: Option<u32>,
    /// Supplementary groups, if another than keepd's.
    pub groups: Option<Vec<u32>>,
    /// Where output goes.
    pub log: LogTarget,
    /// The readiness questions, filled in, in the order of the specification.
    pub questions: Vec<Question>,
    /// `reload_command`, filled in; only for [`Preparation::Reload`].
    pub reload: Option<Vec<Vec<u8>>>,
}

/// A readiness question, filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Connect to `host:port`.
    Tcp(String),
    /// GET this URL.
    Http(String),
    /// Run this in the service's context.
    Exec(Vec<Vec<u8>>),
    /// Connect to the unix socket at this path.
    Socket(String),
    /// See whether this path exists.
    File(String),
    /// Look for a line of this generation that matches this regular expression.
    Log(String),
}

/// Why a start cannot be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareFailure {
    /// The step of the start that it would have been.
    pub step: SpawnStep,
    /// What the system said, if it said something.
    pub errno: Option<Errno>,
    /// One clause, to follow `cannot start service "web": `.
    pub text: String,
}

impl PrepareFailure {
    /// Reports whether the system had no room for the start ([`SpawnFailure::is_shortage`]).
    pub fn is_shortage(&self) -> bool {
        let step = self.step;
        self.errno.is_some_and(|errno| SpawnFailure { step, errno }.is_shortage())
    }
}

/// Why an ask was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such service.
    NoSuchService(ServiceName),
    /// Its table in the file cannot be used; why.
    Quarantined(ServiceName, String),
    /// It has no way to reload.
    CannotReload(ServiceName),
    /// It is not running.
    NotRunning(ServiceName),
    /// Everything is being stopped.
    ShuttingDown,
    /// The proxy has not told its state yet.
    NotSynchronised,
}

/// News for people: the console and the event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A service changed its state.
    State {
        /// Which.
        name: ServiceName,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        cause: Cause,
        /// The generation it is about.
        generation: Generation,
        /// Its main process, where there is one.
        pid: Option<Pid>,
        /// From the start of the process, for `ready` and ends.
        ran: Option<Duration>,
        /// When it will be started, for `backoff`.
        next_start: Option<Instant>,
    },
    /// A change was opened.
    ChangeOpened(ChangeId),
    /// A change is complete.
    ChangeClosed(ChangeId),
    /// Output of a service cannot be written (`Some`), or can be again.
    OutputBlocked {
        /// Which.
        name: ServiceName,
        /// Why.
        errno: Option<Errno>,
    },
    /// The machine knows the proxy's state: after a start, or after a predecessor was lost.
    Synchronised {
        /// Services that were running already.
        adopted: usize,
    },
    /// The stop of everything began.
    ShutdownBegun(Cause),
}

/// Where somebody waits for a service to get to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Ready; a oneshot: done.
    There,
    /// Its checks answer.
    Healthy,
    /// In another state.
    In(State),
}

/// What a service looks like from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceStatus {
    /// What was asked for.
    pub spec: Arc<ServiceSpec>,
    /// Up or down.
    pub wanted: Wanted,
    /// What it is doing.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Why its last run was started.
    pub start_cause: Cause,
    /// Since when.
    pub since: Instant,
    /// Whether its checks answer.
    pub health: Health,
    /// Its main process.
    pub pid: Option<Pid>,
    /// The last generation.
    pub generation: Generation,
    /// INVOCATION_ID of that generation.
    pub invocation: Option<u128>,
    /// When its process was started.
    pub started: Option<Instant>,
    /// From start to ready, of this generation.
    pub ready_after: Option<Duration>,
    /// Automatic restarts so far.
    pub restarts: u64,
    /// When it was restarted automatically, as far as `restart_limit` counts it.
    pub restart_times: Vec<Instant>,
    /// Why it does not get where it should be by itself, if that is so.
    pub hopeless: Option<String>,
    /// When it will be started.
    pub next_start: Option<Instant>,
    /// How the last run ended.
    pub last_end: Option<LastEnd>,
    /// What it waits for: services not there yet, or readiness questions not yet answered well.
    pub waits_for: Vec<String>,
    /// `STATUS=` of this generation.
    pub status_text: Option<String>,
    /// The process runs with an older specification.
    pub config_changed: bool,
    /// Its output waits for room.
    pub output_blocked: Option<Errno>,
}

impl ServiceStatus {
    /// Returns the reason word of its cause.
    pub fn reason(&self) -> Reason {
        self.cause.reason()
    }

    /// Returns how many automatic restarts are within `restart_window`; `None` where there is no
    /// `restart_limit`.
    pub fn restarts_in_window(&self, now: Instant) -> Option<u64> {
        let limit = self.spec.restart_limit;
        let recent = self.restart_times.iter().filter(|at| limit.is_recent(now, **at));
        (limit.count > 0).then(|| u64::try_from(recent.count()).unwrap_or(u64::MAX))
    }

    /// Reports whether it is where it should be for good: ready, or a oneshot that is done.
    pub fn is_there(&self) -> bool {
        match self.spec.kind {
            Kind::Daemon | Kind::Group => self.state == State::Ready,
            Kind::Oneshot => self.state == State::Done,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEnd {
    /// Which run.
    pub generation: Generation,
    /// Its main process.
    pub pid: Option<Pid>,
    /// When.
    pub at: Instant,
    /// How its process ended; `None` if there never was a program.
    pub exit: Option<Exit>,
    /// Why, as a word.
    pub reason: Reason,
    /// How long it ran.
    pub ran: Duration,
    /// What more there is to say, as a clause: why a start failed, why it was killed, what it
    /// followed.
    pub failure: Option<String>,
}

/// A run that is over, or a start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// Why it was started.
    pub cause: Cause,
    /// From start to ready, if it got ready.
    pub ready_after: Option<Duration>,
    /// How it ended.
    pub end: LastEnd,
}

/// What somebody asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub id: ChangeId,
    /// The verb.
    pub verb: Verb,
    /// Who asked; `None`: keepd itself (boot, signals).
    pub who: Option<Who>,
    /// The asker's word.
    pub token: Option<String>,
    /// When it was accepted.
    pub opened: Instant,
    /// When the last goal was settled.
    pub closed: Option<Instant>,
    /// What must hold, service by service.
    pub goals: Vec<Goal>,
}

/// The verb of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The first start of everything that is enabled.
    Boot,
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `restart`.
    Restart,
    /// `reload`.
    Reload,
    /// `signal`.
    Signal,
    /// `apply`.
    Apply,
    /// `shutdown`, `down`, a signal.
    Shutdown,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 8] = [
        Self::Boot,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Reload,
        Self::Signal,
        Self::Apply,
        Self::Shutdown,
    ];

    /// Returns the word that people type.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Signal => "signal",
            Self::Apply => "apply",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What must hold of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Which service.
    pub name: ServiceName,
    /// What.
    pub target: Target,
    /// It was not named by the asker; the change takes it along.
    pub along: bool,
    /// What became of it.
    pub outcome: Option<Outcome>,
}

/// Where a service must get to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ready; a oneshot: done.
    Up,
    /// No process left.
    Down,
    /// Up in a generation later than this one.
    UpAfter(Generation),
    /// It was asked to read its files again, and did not refuse.
    Reloaded,
    /// The signal was sent.
    Signalled,
    /// No process left, and forgotten.
    Gone,
}

/// How a goal was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds, after this time.
    Reached(Duration),
    /// It cannot be reached any more; the sentence says why.
    Missed(String),
}

impl Change {
    /// Reports whether every goal is settled.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Reports whether every goal was reached.
    pub fn is_success(&self) -> bool {
        self.is_closed()
            && self.goals.iter().all(|goal| matches!(goal.outcome, Some(Outcome::Reached(_))))
    }
}

/// One line of a preview: what an apply would do to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which service.
    pub name: ServiceName,
    /// What would be done.
    pub action: Action,
    /// The keys that are the reason.
    pub keys: Vec<String>,
}

/// What an apply would do to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new and enabled.
    Start,
    /// It is new and not enabled.
    Add,
    /// It is new, and its table cannot be used.
    Quarantine,
    /// It is gone from the file.
    Remove,
    /// A changed key needs a restart.
    Restart,
    /// Changed keys take effect at once.
    Live,
    /// Changed keys take effect at the next start.
    NextStart,
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyLine {
    /// How far down the chain of causes; 0 is the present state.
    pub depth: usize,
    /// When it happened.
    pub at: Option<Instant>,
    /// The sentence, without the time.
    pub text: String,
}
