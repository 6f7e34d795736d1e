//! What somebody wants: the plan and its services, as read from keepd.toml.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::state::words;
use crate::{Exit, Instant, ServiceName, Signal, Template};

/// Everything one instance of keepd shall do. Validated: names in edges exist, there is no cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The keys of keepd itself.
    pub manager: ManagerSpec,
    /// The services by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceSpec>>,
}

/// The `[keepd]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagerSpec {
    /// A label for people.
    pub name: String,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub log_level: String,
    /// keepd's own messages as JSON lines instead of text.
    pub log_json: bool,
    /// Absolute path, or the default of the instance.
    pub run_dir: Option<String>,
    /// Absolute path, or the default of the instance.
    pub state_dir: Option<String>,
    /// Absolute path, or the default of the instance.
    pub log_dir: Option<String>,
    /// Whether lines of services are copied to keepd's standard output.
    pub echo: Echo,
    /// When keepd ends by itself.
    pub exit_when: ExitWhen,
    /// Everything still alive this long after the start of a shutdown is killed.
    pub shutdown_timeout: Duration,
    /// How many ends of each service are remembered.
    pub history_max: usize,
}

impl Default for ManagerSpec {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            log_level: "info".to_owned(),
            log_json: false,
            run_dir: None,
            state_dir: None,
            log_dir: None,
            echo: Echo::Auto,
            exit_when: ExitWhen::Auto,
            shutdown_timeout: Duration::from_secs(90),
            history_max: 50,
        }
    }
}

words! {
    /// `keepd.echo`.
    Echo {
        /// Text in `up` and as PID 1, else off.
        Auto = "auto",
        /// Nothing.
        Off = "off",
        /// `TIME NAME | line`.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// `keepd.exit_when`.
    ExitWhen {
        /// `idle` in a foreground `up`, else `never`.
        Auto = "auto",
        /// Only when told.
        Never = "never",
        /// When every enabled service ended by itself and stays so.
        Idle = "idle",
    }
}

/// Where a value stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Where the keys of a service stand, by key.
///
/// A sorted list: there are few keys to a service and many services, and a tree takes ten times as
/// much room for one or two entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins(Vec<(Cow<'static, str>, Origin)>);

impl Origins {
    /// Returns where a key stands.
    pub fn get(&self, key: &str) -> Option<&Origin> {
        self.find(key).ok().map(|index| &self.0[index].1)
    }

    /// Notes where a key stands; where it stood before is forgotten.
    pub fn insert(&mut self, key: impl Into<Cow<'static, str>>, origin: Origin) {
        let key = key.into();
        match self.find(&key) {
            Ok(index) => self.0[index].1 = origin,
            Err(index) => {
                // They stay for as long as the service does: no room for more than there are.
                self.0.reserve_exact(1);
                self.0.insert(index, (key, origin));
            }
        }
    }

    /// Returns keys and places in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (&**key, origin))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

/// One service, as wanted. Relative paths are already absolute; variables are not yet filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// One line for people.
    pub description: String,
    /// Daemon, oneshot or group.
    pub kind: Kind,
    /// What to run; a group has nothing to run, nor has what is quarantined.
    pub command: Option<CommandLine>,
    /// Why its table cannot be used. It is there to be seen, and is never started.
    pub quarantine: Option<String>,
    /// Wanted up when keepd starts or the service appears.
    pub enabled: bool,
    /// Words for selectors.
    pub tags: Vec<String>,
    /// Where it runs.
    pub working_dir: Template,
    /// User by name or number; `None` is keepd's own.
    pub user: Option<String>,
    /// Group by name or number; `None` is the user's.
    pub group: Option<String>,
    /// Supplementary groups by name or number; `None` are the user's.
    pub extra_groups: Option<Vec<String>>,
    /// File mode creation mask.
    pub umask: u32,
    /// Variables; `None` removes one.
    pub env: BTreeMap<String, Option<Template>>,
    /// Files of variables, read at every start; later ones win.
    pub env_files: Vec<EnvFile>,
    /// Which of keepd's own variables pass.
    pub env_inherit: EnvInherit,
    /// What must be there first.
    pub depends_on: BTreeMap<ServiceName, Edge>,
    /// What starts before it and stops after it, if both start or stop anyway.
    pub after: BTreeSet<ServiceName>,
    /// What starts after it and stops before it, if both start or stop anyway.
    pub before: BTreeSet<ServiceName>,
    /// How it is ended.
    pub stop: StopSpec,
    /// How it is asked to read its files again; `None` means it cannot reload.
    pub reload: Option<Reload>,
    /// Whether it is started again after an end.
    pub restart: RestartPolicy,
    /// Ends that count as success.
    pub exit_ok: Vec<ExpectedEnd>,
    /// How long to wait before it is started again.
    pub backoff: Backoff,
    /// When it is given up.
    pub restart_limit: RestartLimit,
    /// Whether its end is the end of everything.
    pub shutdown_on: ShutdownOn,
    /// When it counts as ready.
    pub ready: ReadySpec,
    /// Where its output goes.
    pub log: LogSpec,
    /// Where each key that was given stands (`"command"`, `"env.PORT"`, `""` for the table
    /// itself).
    pub origins: Origins,
}

words! {
    /// `kind`.
    Kind {
        /// Runs until it is stopped.
        Daemon = "daemon",
        /// Runs, ends, and stays `done`.
        Oneshot = "oneshot",
        /// Has no process: it stands for what it depends on.
        Group = "group",
    }
}

/// `command`, with or without `shell`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Program and arguments, each filled in on its own.
    Words(Vec<Template>),
    /// A line for `/bin/sh -c`, not substituted.
    Shell(String),
}

/// One entry of `env_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFile {
    /// Path, made absolute.
    pub path: Template,
    /// It may be missing (leading `-`).
    pub optional: bool,
}

/// `env_inherit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvInherit {
    /// All of keepd's variables.
    All,
    /// Only PATH.
    None,
    /// Only these.
    Only(Vec<String>),
}

/// One entry of `depends_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What the other service must have reached.
    pub until: Until,
    /// Without it there is no start. Otherwise its failure is waited for, too, and then it is
    /// started all the same.
    pub required: bool,
    /// What follows when the other service leaves that state later.
    pub on_stop: OnStop,
}

impl Edge {
    /// Returns an edge with every default but this.
    pub const fn until(until: Until) -> Self {
        Self { until, required: true, on_stop: OnStop::Ignore }
    }
}

words! {
    /// `depends_on.X.on_stop`.
    OnStop {
        /// Nothing.
        Ignore = "ignore",
        /// It is stopped, waits for the edge, and is started.
        Restart = "restart",
        /// It is stopped and not wanted any more.
        Stop = "stop",
    }
}

words! {
    /// `depends_on.X.until`.
    Until {
        /// Its process has been executed.
        Started = "started",
        /// It is ready.
        Ready = "ready",
        /// It ended with success.
        Done = "done",
        /// It ended, whatever the status.
        Exited = "exited",
    }
}

/// How a service is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSpec {
    /// The polite signal; CONT follows it.
    pub signal: Signal,
    /// Then KILL to all; zero: KILL at once.
    pub timeout: Duration,
    /// Who is signalled and waited for.
    pub kill_mode: KillMode,
}

impl Default for StopSpec {
    fn default() -> Self {
        Self { signal: Signal::TERM, timeout: Duration::from_secs(10), kill_mode: KillMode::Mixed }
    }
}

words! {
    /// `kill_mode`.
    KillMode {
        /// The signal to the main process, KILL to what is left.
        Mixed = "mixed",
        /// The signal to every process, then KILL.
        All = "all",
        /// Only the main process is signalled and waited for; what it leaves behind stays.
        Main = "main",
    }
}

/// How a service is asked to read its files again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// `reload_signal`: this signal to the main process.
    Signal(Signal),
    /// `reload_command`: this command, in the service's context, with MAINPID.
    Command(CommandLine),
}

/// `restart_limit` and `restart_window`: more automatic restarts than this within the window, and
/// it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// How many; 0: it is never given up.
    pub count: u32,
    /// Within which time.
    pub window: Duration,
}

impl RestartLimit {
    /// Reports whether a restart at this time is still in the window that ends now.
    pub fn is_recent(&self, now: Instant, at: Instant) -> bool {
        now.saturating_since(at) < self.window
    }
}

impl Default for RestartLimit {
    fn default() -> Self {
        Self { count: 0, window: Duration::from_secs(600) }
    }
}

words! {
    /// `restart`.
    RestartPolicy {
        /// After every end.
        Always = "always",
        /// After an end that is no success.
        OnFailure = "on-failure",
        /// Not.
        Never = "never",
    }
}

/// One entry of `exit_ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedEnd {
    /// This exit code.
    Code(u8),
    /// This signal.
    Signal(Signal),
}

impl ExpectedEnd {
    /// Reports whether `exit` is this end.
    pub fn matches(self, exit: Exit) -> bool {
        match (self, exit) {
            (Self::Code(expected), Exit::Code(code)) => expected == code,
            (Self::Signal(expected), Exit::Signal { signal, .. }) => expected == signal,
            (Self::Code(_), Exit::Signal { .. } | Exit::Unknown)
            | (Self::Signal(_), Exit::Code(_) | Exit::Unknown) => false,
        }
    }
}

words! {
    /// `shutdown_on`.
    ShutdownOn {
        /// Its end concerns nobody else.
        Never = "never",
        /// Reaching `failed` ends everything.
        Failure = "failure",
        /// Reaching `done` or `failed` ends everything.
        Exit = "exit",
    }
}

/// When a service counts as ready: every probe succeeded once, and the delay is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadySpec {
    /// `READY=1` on NOTIFY_SOCKET, from any process of the service.
    pub notify: bool,
    /// A line feed on this descriptor (3 or more), which is KEEPD_READY_FD, too.
    pub fd: Option<u32>,
    /// What is asked from outside.
    pub probes: Vec<Probe>,
    /// It must have stayed up this long.
    pub delay: Duration,
    /// All of it within this time, else `ready-timeout`. `None`: no limit.
    pub timeout: Option<Duration>,
    /// From one attempt of a probe to the next.
    pub interval: Duration,
}

/// One question from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection can be made.
    Tcp(TcpProbe),
    /// An HTTP request is answered with 200 to 399.
    Http(HttpProbe),
    /// A command, run in the service's context, exits with 0.
    Exec(CommandLine),
    /// A connection to this unix socket can be made.
    Socket(Template),
    /// This path exists. What is left of an earlier run is removed before a start.
    File(Template),
    /// A line that it wrote since this start matches this regular expression.
    Log(String),
}

impl Probe {
    /// Every key that asks for one.
    pub const KEYS: [&str; 6] =
        ["ready.port", "ready.http", "ready.exec", "ready.socket", "ready.file", "ready.log"];

    /// Returns the key that asks for it.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "ready.port",
            Self::Http(_) => "ready.http",
            Self::Exec(_) => "ready.exec",
            Self::Socket(_) => "ready.socket",
            Self::File(_) => "ready.file",
            Self::Log(_) => "ready.log",
        }
    }
}

/// `ready.port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProbe {
    /// Host and port, `127.0.0.1:5432`; may hold variables.
    pub address: Template,
}

/// `ready.http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The URL (`http://` only); may hold variables.
    pub url: Template,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// The destination.
    pub mode: LogMode,
    /// What becomes of standard error.
    pub stderr: StderrMode,
}

/// `log.mode` with the key that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMode {
    /// Files of keepd's own in this folder (`None`: the default of the service).
    File {
        /// The folder.
        dir: Option<Template>,
    },
    /// One file, opened for appending.
    Append {
        /// The file.
        file: Template,
    },
    /// Nowhere.
    Null,
    /// keepd's own standard output and error.
    Inherit,
}

words! {
    /// `log.stderr`.
    StderrMode {
        /// A file of its own.
        Separate = "separate",
        /// Into the file of standard output.
        Merge = "merge",
    }
}

words! {
    /// When a changed key takes effect.
    Apply {
        /// At once, nothing is restarted.
        Live = "live",
        /// By a restart of the service.
        Restart = "restart",
        /// At the next start.
        NextStart = "next-start",
    }
}

/// One key in which two specifications of a service differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, as in the file (`env.PORT`).
    pub key: String,
    /// When the new value takes effect.
    pub apply: Apply,
}

impl ServiceSpec {
    /// Returns a daemon with this command and every default.
    pub fn new(name: ServiceName, command: CommandLine) -> Self {
        Self {
            name,
            description: String::new(),
            kind: Kind::Daemon,
            command: Some(command),
            quarantine: None,
            enabled: true,
            tags: Vec::new(),
            working_dir: Template::literal("/"),
            user: None,
            group: None,
            extra_groups: None,
            umask: 0o022,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            env_inherit: EnvInherit::All,
            depends_on: BTreeMap::new(),
            after: BTreeSet::new(),
            before: BTreeSet::new(),
            stop: StopSpec::default(),
            reload: None,
            restart: RestartPolicy::Always,
            exit_ok: vec![ExpectedEnd::Code(0)],
            backoff: Backoff::default(),
            restart_limit: RestartLimit::default(),
            shutdown_on: ShutdownOn::Never,
            ready: ReadySpec {
                notify: false,
                fd: None,
                probes: Vec::new(),
                delay: Duration::from_secs(1),
                timeout: Some(Duration::from_secs(60)),
                interval: Duration::from_millis(250),
            },
            log: LogSpec { mode: LogMode::File { dir: None }, stderr: StderrMode::Separate },
            origins: Origins::default(),
        }
    }

    /// Returns a group without members.
    pub fn group(name: ServiceName) -> Self {
        let nothing = CommandLine::Words(Vec::new());
        Self { kind: Kind::Group, command: None, ..Self::new(name, nothing) }
    }

    /// Returns what stands for a service whose table cannot be used, for this reason.
    pub fn quarantined(name: ServiceName, why: String) -> Self {
        let nothing = CommandLine::Words(Vec::new());
        Self { command: None, quarantine: Some(why), ..Self::new(name, nothing) }
    }

    /// Reports whether this end counts as success.
    pub fn is_success(&self, exit: Exit) -> bool {
        self.exit_ok.iter().any(|expected| expected.matches(exit))
    }

    /// Returns the keys in which `new` differs, and when each takes effect.
    ///
    /// Where a value stands in its file is no difference.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut note = |changed: bool, key: &str, apply: Apply| {
            if changed {
                found.push(Difference { key: key.to_owned(), apply });
            }
        };
        // Every field is named, so that a new one cannot be forgotten here.
        let Self {
            name: _,
            description,
            kind,
            command,
            quarantine,
            enabled,
            tags,
            working_dir,
            user,
            group,
            extra_groups,
            umask,
            env,
            env_files,
            env_inherit,
            depends_on,
            after,
            before,
            stop,
            reload,
            restart,
            exit_ok,
            backoff,
            restart_limit,
            shutdown_on,
            ready,
            log,
            origins: _,
        } = self;
        note(*description != new.description, "description", Apply::Live);
        note(*kind != new.kind, "kind", Apply::Restart);
        note(*command != new.command, "command", Apply::Restart);
        // It was not in order, or is not any more: this is not the name of a key.
        note(*quarantine != new.quarantine, "quarantine", Apply::Restart);
        note(*enabled != new.enabled, "enabled", Apply::Live);
        note(*tags != new.tags, "tags", Apply::Live);
        note(*working_dir != new.working_dir, "working_dir", Apply::Restart);
        note(*user != new.user, "user", Apply::Restart);
        note(*group != new.group, "group", Apply::Restart);
        note(*extra_groups != new.extra_groups, "extra_groups", Apply::Restart);
        note(*umask != new.umask, "umask", Apply::Restart);
        let variables: BTreeSet<&String> = env.keys().chain(new.env.keys()).collect();
        for variable in variables {
            let changed = env.get(variable) != new.env.get(variable);
            note(changed, &format!("env.{variable}"), Apply::Restart);
        }
        note(*env_files != new.env_files, "env_file", Apply::NextStart);
        note(*env_inherit != new.env_inherit, "env_inherit", Apply::Restart);
        note(*depends_on != new.depends_on, "depends_on", Apply::Live);
        note(*after != new.after, "after", Apply::Live);
        note(*before != new.before, "before", Apply::Live);
        note(stop.signal != new.stop.signal, "stop_signal", Apply::Live);
        note(stop.timeout != new.stop.timeout, "stop_timeout", Apply::Live);
        note(stop.kill_mode != new.stop.kill_mode, "kill_mode", Apply::Live);
        note(*reload != new.reload, reload_key(reload.as_ref(), new.reload.as_ref()), Apply::Live);
        note(*restart != new.restart, "restart", Apply::Live);
        note(*exit_ok != new.exit_ok, "exit_ok", Apply::Live);
        note(backoff.initial != new.backoff.initial, "backoff_initial", Apply::Live);
        note(backoff.max != new.backoff.max, "backoff_max", Apply::Live);
        note(backoff.factor != new.backoff.factor, "backoff_factor", Apply::Live);
        note(backoff.jitter != new.backoff.jitter, "backoff_jitter", Apply::Live);
        note(backoff.reset != new.backoff.reset, "backoff_reset", Apply::Live);
        let limit = new.restart_limit;
        note(restart_limit.count != limit.count, "restart_limit", Apply::Live);
        note(restart_limit.window != limit.window, "restart_window", Apply::Live);
        note(*shutdown_on != new.shutdown_on, "shutdown_on", Apply::Live);
        note(ready.notify != new.ready.notify, "ready.notify", Apply::Restart);
        note(ready.fd != new.ready.fd, "ready.fd", Apply::Restart);
        for key in Probe::KEYS {
            let probe = |ready: &ReadySpec| ready.probes.iter().find(|p| p.key() == key).cloned();
            note(probe(ready) != probe(&new.ready), key, Apply::Live);
        }
        note(ready.delay != new.ready.delay, "ready.delay", Apply::Live);
        note(ready.timeout != new.ready.timeout, "ready.timeout", Apply::Live);
        note(ready.interval != new.ready.interval, "ready.interval", Apply::Live);
        note(log.mode != new.log.mode, "log.mode", Apply::Restart);
        note(log.stderr != new.log.stderr, "log.stderr", Apply::Restart);
        found
    }
}

/// Names the key by which a service that can reload is asked to.
fn reload_key(old: Option<&Reload>, new: Option<&Reload>) -> &'static str {
    match new.or(old) {
        Some(Reload::Command(_)) => "reload_command",
        Some(Reload::Signal(_)) | None => "reload_signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ServiceSpec {
        let command = CommandLine::Words(vec![Template::literal("true")]);
        ServiceSpec::new(ServiceName::new("web").unwrap(), command)
    }

    #[test]
    fn a_specification_does_not_differ_from_itself() {
        let mut moved = spec();
        let origin = Origin { file: "keepd.toml".into(), line: 9, column: 1 };
        moved.origins.insert("command", origin);
        assert_eq!(spec().differences(&moved), []);
    }

    #[test]
    fn origins_are_sorted_and_the_last_word_counts() {
        let at = |line| Origin { file: "keepd.toml".into(), line, column: 1 };
        let mut origins = Origins::default();
        for (line, key) in (1..).zip(["user", "", "env.A", "command", "env.A"]) {
            origins.insert(key, at(line));
        }
        let found: Vec<_> = origins.iter().map(|(key, origin)| (key, origin.line)).collect();
        assert_eq!(found, [("", 2), ("command", 4), ("env.A", 5), ("user", 1)]);
        assert_eq!(origins.get("env.A"), Some(&at(5)));
        assert_eq!(origins.get("env"), None);
    }

    #[test]
    fn differences_name_the_key_and_when_it_takes_effect() {
        let mut new = spec();
        new.env.insert("PORT".into(), Some(Template::literal("1")));
        new.stop.timeout = Duration::from_secs(1);
        new.env_files.push(EnvFile { path: Template::literal("/e"), optional: true });
        let found = spec().differences(&new);
        let words: Vec<_> = found.iter().map(|d| (d.key.as_str(), d.apply)).collect();
        assert_eq!(
            words,
            [
                ("env.PORT", Apply::Restart),
                ("env_file", Apply::NextStart),
                ("stop_timeout", Apply::Live)
            ]
        );
    }

    #[test]
    fn success_is_what_exit_ok_says() {
        let mut spec = spec();
        assert!(spec.is_success(Exit::Code(0)));
        assert!(!spec.is_success(Exit::Unknown));
        spec.exit_ok = vec![ExpectedEnd::Signal(Signal::INT)];
        assert!(spec.is_success(Exit::Signal { signal: Signal::INT, core: false }));
        assert!(!spec.is_success(Exit::Code(0)));
    }
}
