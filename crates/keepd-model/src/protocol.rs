//! The words of the proxy protocol: what a connection may ask, and what it hears.
//!
//! `keepd-wire` turns them into bytes and back; `docs/protocol.md` is the reference for people.
//! These are the core's words. A plain connection (daemonproxy's language) is decoded to the same
//! commands; what it hears is formatted in the old form from the same events.
//!
//! Texts that a user chose (arguments, variables, tags, paths, notes) are bytes: the proxy does not
//! care for their encoding. Names and words are text.

use std::time::Duration;

use crate::{Errno, Exit, Generation, Instant, KillMode, Pid, ServiceName, Signal, SpawnFailure};

/// The longest line of an extended connection, line feed excluded.
pub const EXTENDED_LINE_BYTES_MAX: usize = 1024 * 1024;
/// The longest line of a plain connection, line feed excluded (daemonproxy's limit).
pub const PLAIN_LINE_BYTES_MAX: usize = 1023;
/// The version of the extension.
pub const VERSION: u32 = 1;
/// The most output of a `service.exec` that is passed to the asker.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 4096;
/// The longest note.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// The most notes one service may have.
pub const NOTES_MAX: usize = 2048;
/// The text of the `service.notify` event that stands for a line feed on the `ready_fd`.
pub const READY_FD_TEXT: &str = "READY_FD=1";
/// The longest text of a readiness notification that is forwarded.
pub const NOTIFY_BYTES_MAX: usize = 4096;

/// The number that an asker gives a command, to recognise its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One line from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command of daemonproxy's language: no number, no answer of its own.
    Plain(Command),
    /// `@ID⇥NAME…`: answered exactly once by `ok` or `fail`.
    Extended(RequestId, Command),
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `proto⇥keepd⇥VERSION`: makes the connection an extended one. Always untagged.
    Proto {
        /// The version that the client speaks.
        version: u32,
    },
    /// `echo⇥TEXT…`: the text comes back as a line.
    Echo {
        /// Everything after the first tab.
        text: Vec<u8>,
    },
    /// `statedump`: everything the proxy knows. Extended: ends with `dump.end`.
    StateDump,
    /// `conn.log⇥on|off`: whether `service.log` events are wanted.
    WatchLogs {
        /// They are.
        on: bool,
    },
    /// `exit`: closes this connection.
    Exit,
    /// `terminate⇥CODE`: ends the proxy with this code. Services are not touched.
    Terminate {
        /// The exit code.
        code: u8,
    },
    /// `signal.clear⇥SIGNAL⇥COUNT`: subtracts from the pending count.
    SignalClear {
        /// The signal.
        signal: Signal,
        /// How many were handled.
        count: u64,
    },
    /// `service.args⇥NAME⇥ARG…`: replaces the argument vector, used at the next start.
    ServiceArgs {
        /// The service; made if it is new.
        name: ServiceName,
        /// Program and arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// `service.tags⇥NAME⇥TAG…`: replaces free words.
    ServiceTags {
        /// The service; made if it is new.
        name: ServiceName,
        /// The words.
        tags: Vec<Vec<u8>>,
    },
    /// `service.set⇥NAME⇥KEY=VALUE…`: replaces all process attributes; a key left out is its
    /// default.
    ServiceSet {
        /// The service; made if it is new.
        name: ServiceName,
        /// The attributes.
        attributes: Attributes,
    },
    /// `service.env⇥NAME[⇥=]⇥+K=V…⇥-K…`: replaces the differences to the base environment.
    ServiceEnv {
        /// The service; made if it is new.
        name: ServiceName,
        /// The differences.
        environment: Environment,
    },
    /// `service.log⇥NAME⇥KEY=VALUE…`: replaces where output goes.
    ServiceLog {
        /// The service; made if it is new.
        name: ServiceName,
        /// Where it goes.
        log: LogTarget,
    },
    /// `service.auto_up⇥NAME⇥SECONDS|-[⇥always]`: daemonproxy's fixed restart interval.
    ServiceAutoUp {
        /// The service; made if it is new.
        name: ServiceName,
        /// The interval in seconds; `None` keeps the stored one.
        seconds: Option<u32>,
        /// Restart always, or not at all.
        always: bool,
    },
    /// `service.start⇥NAME[⇥GEN]`: starts it, if the last generation is still `expected`.
    ServiceStart {
        /// The service.
        name: ServiceName,
        /// The last generation that the asker knows; plain connections do not say.
        expected: Option<Generation>,
    },
    /// `service.stop⇥NAME⇥GEN[⇥SIGNAL⇥TIMEOUT_MS]`: signal, wait, KILL, until the group is empty.
    ServiceStop {
        /// The service.
        name: ServiceName,
        /// The generation to stop.
        expected: Generation,
        /// Signal and time other than those of the attributes.
        other: Option<(Signal, Duration)>,
    },
    /// `service.signal⇥NAME⇥GEN⇥SIGNAL⇥main|all`; plain: `service.signal⇥NAME⇥SIGNAL[⇥group]`.
    ServiceSignal {
        /// The service.
        name: ServiceName,
        /// The generation that is meant; plain connections do not say.
        expected: Option<Generation>,
        /// The signal.
        signal: Signal,
        /// Who gets it.
        scope: Scope,
    },
    /// `service.exec⇥NAME⇥DEADLINE_MS⇥ARG…`: runs a command in the service's context.
    ServiceExec {
        /// The service.
        name: ServiceName,
        /// Killed after this time.
        deadline: Duration,
        /// Program and arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// `service.note⇥NAME⇥KEY⇥VALUE`: something a controller wants to find again; empty: forget it.
    ServiceNote {
        /// The service; made if it is new.
        name: ServiceName,
        /// The key.
        key: String,
        /// The value; empty removes the note.
        value: Vec<u8>,
    },
    /// `service.delete⇥NAME`: forgets a service that is down.
    ServiceDelete {
        /// The service.
        name: ServiceName,
    },
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The main process.
    Main,
    /// Every process of the service.
    All,
    /// The process group of the main process (plain connections only).
    ProcessGroup,
}

/// Process attributes (`service.set`). Keys are the field names, units last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `directory=`: working directory; `None`: the proxy's.
    pub directory: Option<Vec<u8>>,
    /// `umask=`: octal.
    pub umask: u32,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
    /// `groups=`: comma list of supplementary groups; `None`: the proxy's. Empty: none.
    pub groups: Option<Vec<u32>>,
    /// `notify=yes`: a notify socket, its path in NOTIFY_SOCKET.
    pub notify: bool,
    /// `ready_fd=`: the descriptor (3 or more) on which a line feed means ready; it is told in
    /// KEEPD_READY_FD, too.
    pub ready_fd: Option<u32>,
    /// `kill_mode=mixed|all|main`.
    pub kill_mode: KillMode,
    /// `stop_signal=`.
    pub stop_signal: Signal,
    /// `stop_timeout_ms=`.
    pub stop_timeout: Duration,
    /// `respawn_ms=0,10,50`: the proxy starts it again by itself after these delays (the last one
    /// repeats). Only for keepd's own processes, until leases exist. Empty: it does not.
    pub respawn: Vec<Duration>,
    /// `place=own|service`: which cgroup. keepd's own processes are not in a leaf.
    pub place: Place,
}

/// Which cgroup a service's processes live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A leaf of its own for each generation.
    Service,
    /// The group of keepd's own processes; its end is that of the main process alone.
    Own,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            directory: None,
            umask: 0o022,
            uid: None,
            gid: None,
            groups: None,
            notify: false,
            ready_fd: None,
            kill_mode: KillMode::Mixed,
            stop_signal: Signal::TERM,
            stop_timeout: Duration::from_secs(10),
            respawn: Vec::new(),
            place: Place::Service,
        }
    }
}

/// The environment of a service as differences to the proxy's own (`service.env`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Environment {
    /// `=`: begin with nothing.
    pub clear: bool,
    /// In order: `+K=V` and `-K`.
    pub changes: Vec<EnvironmentChange>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvironmentChange {
    /// `+K=V`.
    Set(Vec<u8>, Vec<u8>),
    /// `-K`.
    Remove(Vec<u8>),
}

/// Where output goes (`service.log`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// `mode=null`.
    #[default]
    Null,
    /// `mode=inherit`: the proxy's standard input, output and error.
    Inherit,
    /// `mode=file⇥dir=PATH⇥stderr=separate|merge`: `out.log`, `err.log` and `index` in the folder.
    File {
        /// The folder; made if missing.
        dir: Vec<u8>,
        /// Standard error goes into `out.log`.
        merge: bool,
    },
    /// `mode=append⇥file=PATH`: both streams into one file, opened with O_APPEND. No index.
    Append {
        /// The file.
        file: Vec<u8>,
    },
}

/// Returns the name of the cgroup leaf of one generation, below the group of its instance: the
/// proxy makes it, and whoever measures or shows the service looks into it.
pub fn leaf_name(name: &ServiceName, generation: Generation) -> String {
    format!("s.{name}.{generation}")
}

/// Which stream of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output (and standard error where they are merged).
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// Returns the word of the stream: `out`, `err`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

/// The answer to an extended command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `ok⇥ID`.
    Ok,
    /// `ok⇥ID⇥HOW⇥VALUE⇥OUTPUT`: a `service.exec` ended.
    Exec {
        /// How it ended.
        exit: Exit,
        /// The first bytes of its standard output and error.
        output: Vec<u8>,
    },
    /// `fail⇥ID⇥KIND⇥STEP⇥ERRNO⇥TEXT`.
    Fail(Fail),
}

/// Why a command was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// The kind, for programs.
    pub kind: FailKind,
    /// Where a spawn failed, and why.
    pub spawn: Option<SpawnFailure>,
    /// One sentence for people.
    pub text: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailKind {
    /// The line cannot be read as a command.
    Malformed,
    /// There is no such command (in this version).
    UnknownCommand,
    /// There is no such service.
    NoSuchService,
    /// The generation is not the expected one.
    Stale,
    /// It is running (or ending) already.
    Running,
    /// It is not running.
    NotRunning,
    /// It has no arguments.
    NoArguments,
    /// Killed at its deadline.
    Deadline,
    /// A spawn failed.
    Spawn,
    /// A limit of keepd's was reached.
    Limit,
    /// A system call failed.
    System,
}

impl FailKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::UnknownCommand,
        Self::NoSuchService,
        Self::Stale,
        Self::Running,
        Self::NotRunning,
        Self::NoArguments,
        Self::Deadline,
        Self::Spawn,
        Self::Limit,
        Self::System,
    ];

    /// Returns the word on the protocol.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownCommand => "unknown-command",
            Self::NoSuchService => "no-such-service",
            Self::Stale => "stale",
            Self::Running => "running",
            Self::NotRunning => "not-running",
            Self::NoArguments => "no-arguments",
            Self::Deadline => "deadline",
            Self::Spawn => "spawn",
            Self::Limit => "limit",
            Self::System => "system",
        }
    }
}

/// News for every connection that listens, and the lines of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `service.run⇥NAME⇥GEN⇥STATE⇥TS_NS⇥PID⇥HOW⇥VALUE`.
    Run(RunReport),
    /// `service.invocation⇥NAME⇥GEN⇥HEX`: the INVOCATION_ID of this generation, before its
    /// `forked`.
    Invocation {
        /// The service.
        name: ServiceName,
        /// The generation.
        generation: Generation,
        /// 128 bits, 32 hexadecimal digits in text.
        id: u128,
    },
    /// `service.notify⇥NAME⇥GEN⇥PID⇥TEXT`: a datagram on its notify socket.
    Notify {
        /// The service.
        name: ServiceName,
        /// The generation that was running.
        generation: Generation,
        /// The sender.
        pid: Pid,
        /// The datagram, cut to [`NOTIFY_BYTES_MAX`].
        text: Vec<u8>,
    },
    /// `service.output⇥NAME⇥STREAM⇥OFFSET`: output reaches to this offset. Only if asked for,
    /// coalesced.
    Output {
        /// The service.
        name: ServiceName,
        /// The stream.
        stream: Stream,
        /// Bytes since the stream began.
        offset: u64,
    },
    /// `service.output_blocked⇥NAME⇥ERRNO`: output waits, because its file cannot be written; 0: it
    /// flows.
    OutputBlocked {
        /// The service.
        name: ServiceName,
        /// Why; `None`: no longer.
        errno: Option<Errno>,
    },
    /// `service.args…`: set, or dumped.
    Args(ServiceName, Vec<Vec<u8>>),
    /// `service.tags…`: set, or dumped.
    Tags(ServiceName, Vec<Vec<u8>>),
    /// `service.set…`: set, or dumped.
    Set(ServiceName, Attributes),
    /// `service.env…`: set, or dumped.
    Env(ServiceName, Environment),
    /// `service.log…`: set, or dumped.
    Log(ServiceName, LogTarget),
    /// `service.auto_up⇥NAME⇥SECONDS⇥always` or `service.auto_up⇥NAME⇥-`.
    AutoUp(ServiceName, Option<u32>),
    /// `service.note⇥NAME⇥KEY⇥VALUE`: dumped only; a note is told to nobody when it is set.
    Note(ServiceName, String, Vec<u8>),
    /// `service.deleted⇥NAME`.
    Deleted(ServiceName),
    /// `signal⇥SIGNAME⇥TS⇥COUNT`: the proxy itself got signals that nobody cleared yet.
    Signal {
        /// Which.
        signal: Signal,
        /// When the last one came.
        at: Instant,
        /// How many are pending.
        count: u64,
    },
    /// `dump.end⇥SEQ`: the dump is complete; SEQ counts the dumps of this connection from 1.
    DumpEnd {
        /// The number of the dump.
        sequence: u64,
    },
}

/// One step in the life of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The service.
    pub name: ServiceName,
    /// The generation that this is about; [`Generation::NONE`] if it never ran.
    pub generation: Generation,
    /// What it is doing.
    pub state: RunState,
    /// Since when; for [`RunState::Pending`]: until when.
    pub at: Instant,
    /// The main process, while it is there and in the report of its end.
    pub pid: Option<Pid>,
    /// How the main process ended, once it has.
    pub ended: Option<RunEnd>,
    /// When this generation was cloned. Only for the forms of plain connections: it is not on
    /// extended lines, and `None` after reading one.
    pub started: Option<Instant>,
    /// When its main process was reaped, once it was. Not on extended lines either.
    pub ended_at: Option<Instant>,
}

/// What a service is doing, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// `down`: no process. The end of the last generation is in the report.
    Down,
    /// `start`: a start by itself is due at a time (`auto_up`, `respawn`).
    Pending,
    /// `forked`: cloned, not yet executed.
    Forked,
    /// `up`: executed.
    Up,
    /// `stopping`: asked to end.
    Stopping,
    /// `emptying`: the main process ended, others of its group are still there.
    Emptying,
    /// `stuck`: something is still there long after KILL.
    Stuck,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Down,
        Self::Pending,
        Self::Forked,
        Self::Up,
        Self::Stopping,
        Self::Emptying,
        Self::Stuck,
    ];

    /// Returns the word on the protocol.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Pending => "start",
            Self::Forked => "forked",
            Self::Up => "up",
            Self::Stopping => "stopping",
            Self::Emptying => "emptying",
            Self::Stuck => "stuck",
        }
    }
}

/// How a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEnd {
    /// Its main process ended.
    Exit(Exit),
    /// It never got as far as its program.
    Failed(SpawnFailure),
}

/// One line from the proxy to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `proto⇥keepd⇥VERSION⇥FEATURE…`: the connection is an extended one from here on.
    ProtoAccepted {
        /// The version that the proxy speaks.
        version: u32,
        /// Words for what it can do beyond the version.
        features: Vec<String>,
    },
    /// News, or a line of a dump.
    Event(Event),
    /// The answer to an extended command.
    Reply(RequestId, Reply),
    /// What `echo` returns.
    Text(Vec<u8>),
    /// `error⇥TEXT`, on plain connections.
    PlainError(String),
    /// `overflow`: events were lost; plain connections only.
    Overflow,
}
