//! The JSON objects of the HTTP API, for the server and for its clients.
//!
//! Keys are never removed, and absent values are `null` in [`ServiceObject`]. Times are RFC 3339 in
//! UTC with milliseconds; durations are seconds, with the unit in the key. Lists are ordered by
//! name.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServicesObject {
    /// The services, ordered by name.
    pub services: Vec<ServiceObject>,
    /// What a reader should know first, one sentence each: promises that are weaker here.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A service as it is now: one entry of `GET /v1/services`, answer of `GET /v1/services/{name}`,
/// and the object that `keepd status -o json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceObject {
    /// Its whole name.
    pub name: String,
    /// The name without the instance.
    pub base: String,
    /// The instance, after the `@`.
    pub instance: Option<String>,
    /// `daemon`, `oneshot` or `group`.
    pub kind: String,
    /// `up` or `down`.
    pub wanted: String,
    /// What it is doing ([`keepd_model::State`]).
    pub state: String,
    /// Why ([`keepd_model::Reason`]).
    pub reason: String,
    /// Whether its checks answer ([`keepd_model::Health`]).
    pub health: String,
    /// Its main process.
    pub pid: Option<u32>,
    /// The number of its last start; 0 if it never ran.
    pub generation: u64,
    /// INVOCATION_ID of that start, 32 hexadecimal digits.
    pub invocation_id: Option<String>,
    /// Since when it is in this state.
    pub since: String,
    /// How long its process has been there.
    pub uptime_s: Option<f64>,
    /// From the start to ready, of this generation.
    pub ready_after_s: Option<f64>,
    /// Automatic restarts so far.
    pub restarts: u64,
    /// Automatic restarts within `restart_window`; `null` without a `restart_limit`.
    pub restarts_in_window: Option<u64>,
    /// When it will be started.
    pub next_start: Option<String>,
    /// How its last run ended.
    pub last_exit: Option<LastExitObject>,
    /// CPU time of all its processes; `null` without a cgroup of its own.
    pub cpu_s: Option<f64>,
    /// Memory of all its processes; `null` without a cgroup of its own.
    pub memory_bytes: Option<u64>,
    /// How many processes it has; `null` where that is not known.
    pub tasks: Option<u64>,
    /// Every limit that was asked for is in force.
    pub limits_enforced: bool,
    /// Output that was thrown away.
    pub log_dropped_bytes: u64,
    /// The services it depends on.
    pub depends_on: Vec<String>,
    /// Its words for selectors.
    pub tags: Vec<String>,
    /// Wanted up when keepd starts.
    pub enabled: bool,
    /// Its process runs with an older configuration.
    pub config_changed: bool,
    /// Why its table cannot be used; `null` if it can.
    #[serde(default)]
    pub quarantine: Option<String>,
    /// One line for people.
    pub description: String,
    /// The user it runs as; `null` is keepd's own.
    pub user: Option<String>,
    /// What it waits for: services, or readiness questions with their last answers.
    pub waits_for: Vec<String>,
    /// `STATUS=` of this generation.
    pub status_text: Option<String>,
    /// Why its output cannot be written at the moment.
    pub output_blocked: Option<String>,
    /// Why it does not get where it should be by itself; `null` if it does, or is there.
    pub hopeless: Option<String>,
    /// Processes that runs which are over left behind (`kill_mode = "main"`); `null` without a
    /// cgroup, where nobody knows.
    pub leftovers: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastExitObject {
    /// Which run.
    pub generation: u64,
    /// When.
    pub time: String,
    /// Exit code, if it exited.
    pub code: Option<u8>,
    /// The signal that ended it, without `SIG`.
    pub signal: Option<String>,
    /// A core was dumped.
    pub core: bool,
    /// Why, as a word ([`keepd_model::Reason`]).
    pub reason: String,
    /// How long it ran.
    pub ran_s: f64,
    /// What more there is to say, as a clause: why a start failed, why it was killed, what it
    /// followed.
    pub failure: Option<String>,
}

/// Body of `POST /v1/actions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// What shall be done.
    pub action: ActionWord,
    /// Selectors; must be empty for `shutdown`, may be for `up`, and must not be for the others.
    #[serde(default)]
    pub select: Vec<String>,
    /// How.
    #[serde(default)]
    pub options: ActionOptions,
    /// A word chosen by the asker: the same word again gets the same change, not a second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The verb of an [`ActionRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionWord {
    /// Wanted up.
    Start,
    /// Wanted up as far as they are neither ready nor done; without `select`: what is enabled.
    Up,
    /// Wanted down.
    Stop,
    /// Down and up again.
    Restart,
    /// Read your files again.
    Reload,
    /// Send them a signal.
    Signal,
    /// Stop everything and end.
    Shutdown,
}

/// The options of an [`ActionRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActionOptions {
    /// Without dependencies (`start`), without dependents (`stop`).
    pub alone: bool,
    /// KILL at once (`stop`).
    pub kill: bool,
    /// KILL everything at once (`shutdown`).
    pub now: bool,
    /// Which signal (`signal`, and needed there): `HUP`, `SIGHUP` or `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// To every process of each service, not only the main one (`signal`).
    pub all: bool,
}

/// Answer of `GET /v1/wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitObject {
    /// Every service is in the state.
    pub reached: bool,
    /// The time was over before it was decided.
    pub timed_out: bool,
    /// The services, ordered by name.
    pub services: Vec<WaitedObject>,
}

/// One service of a [`WaitObject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitedObject {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: String,
    /// It is in the state.
    pub reached: bool,
    /// Why it cannot get there any more by itself.
    pub hopeless: Option<String>,
}

/// Answer of `GET /v1/services/{name}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryObject {
    /// Which service.
    pub name: String,
    /// Its runs, the newest first; the present one too.
    pub runs: Vec<RunObject>,
}

/// One run of a service, or a start that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunObject {
    /// Its number.
    pub generation: u64,
    /// Its main process.
    pub pid: Option<u32>,
    /// Why it was started, as a clause.
    pub cause: String,
    /// When it was started; `null` if it never was executed.
    pub started: Option<String>,
    /// From the start to ready.
    pub ready_after_s: Option<f64>,
    /// How it ended; `null`: it goes on.
    pub end: Option<LastExitObject>,
}

/// Answer of `GET /v1/services/{name}/launch`: what a start would be given now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchObject {
    /// Which service.
    pub name: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// The whole environment, ordered by name.
    pub environment: std::collections::BTreeMap<String, String>,
    /// Working directory.
    pub directory: String,
    /// User id, if another than keepd's.
    pub uid: Option<u32>,
    /// Group id, if another than keepd's.
    pub gid: Option<u32>,
    /// Supplementary groups, if others than keepd's.
    pub groups: Option<Vec<u32>>,
}

/// Answer of `POST /v1/actions`, with status 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionAccepted {
    /// The number of the change.
    pub change: String,
}

/// Answer of `GET /v1/changes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangesObject {
    /// The changes that are remembered, oldest first.
    pub changes: Vec<ChangeObject>,
}

/// What somebody asked for, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeObject {
    /// Its number.
    pub id: String,
    /// The verb ([`keepd_engine::manager::Verb`]).
    pub verb: String,
    /// The user id of the asker; `null`: keepd itself.
    pub uid: Option<u32>,
    /// The process id of the asker.
    pub pid: Option<u32>,
    /// When it was accepted.
    pub opened: String,
    /// Every goal is settled.
    pub closed: bool,
    /// Every goal was reached.
    pub success: bool,
    /// What must hold, service by service, ordered by name.
    pub goals: Vec<GoalObject>,
}

/// What must hold of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalObject {
    /// Which service.
    pub name: String,
    /// `up`, `down`, `restarted`, `reloaded`, `signalled` or `gone`.
    pub target: String,
    /// It was not named by the asker; the change takes it along.
    pub along: bool,
    /// `null`: not settled yet.
    pub reached: Option<bool>,
    /// After this time it was reached.
    pub after_s: Option<f64>,
    /// Why it cannot be reached any more.
    pub message: Option<String>,
}

/// Answer of `GET /v1/services/{name}/why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyObject {
    /// Which service.
    pub name: String,
    /// The chain of causes, the present state first.
    pub lines: Vec<WhyLineObject>,
}

/// One line of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLineObject {
    /// How far down the chain of causes; 0 is the present state.
    pub depth: usize,
    /// When it happened.
    pub time: Option<String>,
    /// The sentence, without the time.
    pub text: String,
}

/// Body of `POST /v1/config/apply`. An empty body is the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApplyRequest {
    /// Restart services whose changed keys need it; otherwise they are only marked.
    pub restart: bool,
    /// Leave out services with errors instead of refusing the whole configuration.
    pub keep_going: bool,
    /// Only if what would be done is still this plan of a preview ([`DiffObject::plan`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// A word chosen by the asker: the same word again gets the same change, not a second one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Default for ApplyRequest {
    fn default() -> Self {
        Self { restart: true, keep_going: false, plan: None, token: None }
    }
}

/// Answer of `POST /v1/config/apply`, with status 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyAccepted {
    /// The number of the change.
    pub change: String,
    /// What is done.
    pub steps: Vec<StepObject>,
    /// What is odd in the files, but no error.
    pub warnings: Vec<DiagnosticObject>,
    /// Everything that is wrong with what was left out ([`ApplyRequest::keep_going`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<DiagnosticObject>,
    /// What is in force other than what the files say, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Body of `POST /v1/config/diff`. An empty body is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffRequest {
    /// Compare with these texts instead of the files that are in force, read again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<SourceObject>>,
}

/// Answer of `POST /v1/config/diff`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffObject {
    /// What names exactly this difference; it goes into [`ApplyRequest::plan`].
    #[serde(default)]
    pub plan: String,
    /// What an apply would do.
    pub steps: Vec<StepObject>,
    /// What is odd in the files, but no error.
    pub warnings: Vec<DiagnosticObject>,
}

/// What an apply would do to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepObject {
    /// Which service.
    pub name: String,
    /// `start`, `add`, `quarantine`, `remove`, `restart`, `marked` (a restart that
    /// [`ApplyRequest::restart`] leaves to an operator), `live` or `next-start`.
    pub action: String,
    /// The keys that are the reason.
    pub keys: Vec<String>,
}

/// Answer of `GET /v1/config`: the configuration that is in force, as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigObject {
    /// The files in the order of reading.
    pub sources: Vec<SourceObject>,
}

/// One configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceObject {
    /// The file as the user named it.
    pub file: String,
    /// The folder that relative paths are relative to.
    pub directory: String,
    /// What it holds.
    pub text: String,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticObject {
    /// The file as the user named it.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column in characters, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// One event of `GET /v1/events`, in the `data:` of a server-sent event whose `id:` is `sequence`.
///
/// A manager remembers the last 1,000 that it told itself. Those of the one before it are lost: its
/// event `synchronised` says so if services ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventObject {
    /// Counts the events of this manager from 1.
    pub sequence: u64,
    /// When it happened.
    pub time: String,
    /// `state`, `change-opened`, `change-closed`, `output-blocked`, `synchronised`, `shutdown` or
    /// `lost` (events were thrown away because the reader was too slow).
    pub event: String,
    /// Which service.
    pub service: Option<String>,
    /// The state before.
    pub from: Option<String>,
    /// The state now.
    pub to: Option<String>,
    /// Why, as a word.
    pub reason: Option<String>,
    /// Which run.
    pub generation: Option<u64>,
    /// Its main process.
    pub pid: Option<u32>,
    /// From the start of the process, for `ready` and ends.
    pub ran_s: Option<f64>,
    /// When it will be started.
    pub next_start: Option<String>,
    /// Which change.
    pub change: Option<String>,
    /// The whole of it as a sentence.
    pub text: String,
}

impl EventObject {
    /// Returns an event that is about nothing yet.
    pub fn new(sequence: u64, time: String, event: &str) -> Self {
        Self {
            sequence,
            time,
            event: event.to_owned(),
            service: None,
            from: None,
            to: None,
            reason: None,
            generation: None,
            pid: None,
            ran_s: None,
            next_start: None,
            change: None,
            text: String::new(),
        }
    }
}

/// Answer of `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionObject {
    /// The version of keepd.
    pub version: String,
    /// The identity of the instance.
    pub instance: String,
    /// The process id of the manager.
    pub pid: u32,
}

/// Answer of `GET /livez`, `/readyz` and `/healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthObject {
    /// `ok` with status 200, `failing` with status 503.
    pub status: String,
    /// What is not as it should be, one clause each.
    pub failing: Vec<String>,
}

/// An error (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the code says what it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The words of the HTTP status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of error, the same word as in the command line's JSON.
    pub code: ProblemCode,
    /// One sentence: what cannot be done, on what, and why.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The service it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Everything that is wrong with the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticObject>,
}

/// The kinds of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// A selector matches nothing.
    NoSuchService,
    /// There is no such change, or it is forgotten.
    NoSuchChange,
    /// There is no such path.
    NoSuchPath,
    /// The service has no way to reload.
    CannotReload,
    /// The service is not running.
    NotRunning,
    /// Everything is being stopped.
    ShuttingDown,
    /// The manager does not know yet what runs. Asking again soon helps.
    NotSynchronised,
    /// What would be done is not what the preview said any more.
    PlanChanged,
    /// The configuration cannot be used.
    Config,
    /// The request cannot be read.
    Usage,
    /// The asker is neither root nor the user of keepd.
    NotAllowed,
    /// The fault is keepd's or the system's.
    Internal,
}

impl ProblemCode {
    /// Returns the word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoSuchService => "no-such-service",
            Self::NoSuchChange => "no-such-change",
            Self::NoSuchPath => "no-such-path",
            Self::CannotReload => "cannot-reload",
            Self::NotRunning => "not-running",
            Self::ShuttingDown => "shutting-down",
            Self::NotSynchronised => "not-synchronised",
            Self::PlanChanged => "plan-changed",
            Self::Config => "config",
            Self::Usage => "usage",
            Self::NotAllowed => "not-allowed",
            Self::Internal => "internal",
        }
    }
}
