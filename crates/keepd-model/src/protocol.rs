//! The words of the proxy protocol: what a connection may ask, and what it hears.
//!
//! `keepd-wire` turns them into bytes and back; `docs/protocol.md` is the reference for people.
//! These are the core's words. A plain connection (daemonproxy's language) is decoded to the same
//! commands; what it hears is formatted in the old form from the same events.
//!
//! Texts that a user chose (arguments, variables, tags, paths, notes) are bytes: the proxy does not
//! care for their encoding. Names and words are text.

mod lease;

use std::sync::Arc;
use std::time::Duration;

pub use lease::{LEASE_DELAYS_MAX, Lease, LeaseAfter};

use crate::{
    Errno, Exit, FdSlot, Generation, HandleName, HandleReport, Instant, KillMode, LogLevel,
    OpenFlags, Pid, PipeSpec, ServiceName, Signal, SocketSpec, SpawnFailure,
};

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
    /// A command without a number, as people type it: success is silent, a refusal is an `error`
    /// line.
    Unnumbered(Command),
    /// `@ID⇥NAME…`: answered exactly once by `ok` or `fail`.
    Numbered(RequestId, Command),
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `proto⇥keepd⇥VERSION`: makes a plain connection an extended one. Always untagged.
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
    /// `conn.start⇥on|off`: whether `service.run … start` is told for starts by command too, just
    /// before the process is asked for.
    WatchStarts {
        /// They are.
        on: bool,
    },
    /// `conn.event_timeout⇥RESET⇥CLOSE`: how long a plain connection may be stalled. Extended
    /// connections keep a backlog instead and have no such command.
    EventTimeout {
        /// After this time the queue of its commands goes on without answers.
        reset: Duration,
        /// After this time the connection is closed.
        close: Duration,
    },
    /// `exit`: closes this connection.
    Exit,
    /// `terminate⇥CODE[⇥GUARD]`: ends the proxy with this code. Services are not touched.
    Terminate {
        /// The exit code.
        code: u8,
        /// The guard code; looked at only while there is a guard.
        guard: Option<i64>,
    },
    /// `terminate.guard⇥+|-⇥CODE`: no end without this code from here on, or no longer.
    TerminateGuard {
        /// Set it, or clear it.
        set: bool,
        /// The code; not 0 where it is set.
        code: i64,
    },
    /// `terminate.exec_args[⇥ARG…]`: what the proxy becomes at its end; nothing: it just ends.
    TerminateExec {
        /// Program and arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// `chdir⇥PATH`: the working directory of the proxy, and so of services that have none of their
    /// own.
    Chdir {
        /// The folder.
        path: Vec<u8>,
    },
    /// `log.filter[⇥+|-|LEVEL]`: shows or changes the filter of the proxy's own log.
    LogFilter {
        /// What to do with it.
        change: FilterChange,
    },
    /// `log.dest⇥fd⇥HANDLE`: where the proxy's own log goes, by the name of a handle.
    LogDestination {
        /// The handle; messages wait until there is one of this name.
        handle: HandleName,
    },
    /// `socket.create⇥-⇥PATH`: the control socket, instead of one there may be.
    SocketCreate {
        /// Its path.
        path: Vec<u8>,
    },
    /// `socket.delete`: no control socket.
    SocketDelete,
    /// `fd.open⇥NAME⇥FLAGS⇥PATH`.
    HandleOpen {
        /// The handle; one of this name is replaced.
        name: HandleName,
        /// How.
        flags: OpenFlags,
        /// What.
        path: Vec<u8>,
    },
    /// `fd.pipe⇥READ⇥WRITE[⇥FLAGS]`.
    HandlePipe {
        /// The end to be read.
        read: HandleName,
        /// The end to be written.
        write: HandleName,
        /// How it is made.
        spec: PipeSpec,
    },
    /// `fd.socket⇥NAME⇥FLAGS[⇥ADDRESS]`.
    HandleSocket {
        /// The handle; one of this name is replaced.
        name: HandleName,
        /// How it is made.
        spec: SocketSpec,
    },
    /// `fd.take⇥NAME`: the oldest descriptor that came with this connection's messages.
    HandleTake {
        /// The handle; one of this name is replaced.
        name: HandleName,
    },
    /// `fd.delete⇥NAME`.
    HandleDelete {
        /// The handle.
        name: HandleName,
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
        /// The attributes; most services have those of another one, too.
        attributes: Arc<Attributes>,
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
    /// `service.fds⇥NAME[⇥HANDLE…]`: the descriptors of the next start, from 0 on, instead of those
    /// of `service.log`; everything else is closed.
    ServiceFds {
        /// The service; made if it is new.
        name: ServiceName,
        /// One for each number from 0 on; none: no descriptor at all.
        slots: Vec<FdSlot>,
    },
    /// `service.auto_up⇥NAME⇥SECONDS|-[⇥TRIGGER…]`: daemonproxy's fixed restart interval.
    ServiceAutoUp {
        /// The service; made if it is new.
        name: ServiceName,
        /// The interval in seconds; `None` keeps the stored one.
        seconds: Option<u32>,
        /// When it starts by itself.
        triggers: Triggers,
    },
    /// `service.start⇥NAME[⇥GEN[⇥AT_NS]]`: starts it, if the last generation is still `expected`;
    /// plain: `service.start⇥NAME[⇥TS]`.
    ServiceStart {
        /// The service.
        name: ServiceName,
        /// The last generation that the asker knows; plain connections do not say.
        expected: Option<Generation>,
        /// When; at once if nothing is said or the time is over. A pending start gets a new time.
        at: Option<Instant>,
    },
    /// `service.cancel⇥NAME`: takes a pending start back; plain: `service.start⇥NAME⇥-`.
    ServiceCancel {
        /// The service.
        name: ServiceName,
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
    /// `service.signal⇥NAME⇥GEN|-⇥SIGNAL⇥main|all|group`; plain:
    /// `service.signal⇥NAME⇥SIGNAL[⇥group]`.
    ServiceSignal {
        /// The service.
        name: ServiceName,
        /// The generation that is meant; plain connections do not say.
        expected: Option<Generation>,
        /// The signal.
        signal: SignalNumber,
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
    /// `service.ack⇥NAME⇥GEN`: the ends of this generation and of all before are known and need
    /// not be told again.
    ServiceAck {
        /// The service.
        name: ServiceName,
        /// The last generation whose end is known.
        generation: Generation,
    },
    /// `service.lease⇥NAME⇥GEN⇥any|failure⇥OKLIST⇥DELAY_MS…`: restarts that the proxy makes without
    /// asking. Without delays there are none, and a lease that was given is taken back.
    ServiceLease {
        /// The service.
        name: ServiceName,
        /// The last generation that the asker knows; another one is refused as stale.
        expected: Generation,
        /// What is allowed.
        lease: Lease,
    },
}

/// The number of a signal as kill(2) takes it: 0 asks whether the process is there, and numbers
/// that the kernel does not have are refused by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalNumber(pub u16);

impl From<Signal> for SignalNumber {
    fn from(signal: Signal) -> Self {
        Self(signal.get().into())
    }
}

impl SignalNumber {
    /// Returns the signal, if the kernel has one of this number.
    pub fn signal(self) -> Option<Signal> {
        u8::try_from(self.0).ok().and_then(Signal::new)
    }
}

/// When a service starts by itself (`service.auto_up`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Triggers {
    /// The words as they were given, for reports. Empty: never.
    pub words: Vec<Vec<u8>>,
    /// `always`: holds at any time.
    pub always: bool,
    /// Each holds while its pending count is above 0. In order, without doubles; what the kernel
    /// does not have is in the words only.
    pub signals: Vec<Signal>,
}

impl Triggers {
    /// Returns the one trigger that always holds.
    pub fn always() -> Self {
        Self { words: vec![b"always".to_vec()], always: true, signals: Vec::new() }
    }
}

/// What `log.filter` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterChange {
    /// Shows it.
    Show,
    /// `+`: less is shown.
    Less,
    /// `-`: more is shown.
    More,
    /// This level and everything below is suppressed.
    To(LogLevel),
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The main process.
    Main,
    /// Every process of the service.
    All,
    /// The process group that the main process leads (killpg(3)).
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
    /// repeats). Only for keepd's own processes; others have leases. Empty: it does not.
    pub respawn: Vec<Duration>,
    /// `place=own|service|none`: which cgroup. keepd's own processes are not in a leaf.
    pub place: Place,
    /// `session=new|inherit`: a session of its own, or the proxy's session and process group.
    pub session: SessionPlace,
    /// `marks=yes|no`: whether INVOCATION_ID and keepd's own variables are added to its
    /// environment.
    pub marks: bool,
    /// `retry_ms=`: a clone that failed is tried again after this time; `None`: it is a failure.
    pub retry: Option<Duration>,
}

/// The session of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionPlace {
    /// Its own: setsid(2).
    New,
    /// The proxy's, and its process group too.
    Inherit,
}

/// Which cgroup a service's processes live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A leaf of its own for each generation.
    Service,
    /// The group of keepd's own processes; its end is that of the main process alone.
    Own,
    /// That of the proxy: nothing but the main process is known, signalled or waited for.
    None,
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
            session: SessionPlace::New,
            marks: true,
            retry: None,
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
    Set(ServiceName, Arc<Attributes>),
    /// `service.env…`: set, or dumped.
    Env(ServiceName, Environment),
    /// `service.log…`: set, or dumped.
    Log(ServiceName, LogTarget),
    /// `service.auto_up⇥NAME⇥SECONDS⇥TRIGGER…`, or `service.auto_up⇥NAME⇥-` without triggers: the
    /// interval and the words of the triggers.
    AutoUp(ServiceName, u32, Vec<Vec<u8>>),
    /// `service.fds⇥NAME[⇥HANDLE…]`: set, or dumped once it was set.
    Fds(ServiceName, Vec<FdSlot>),
    /// `fd.state⇥NAME⇥TYPE⇥FLAGS⇥DESCRIPTION`: made, or dumped.
    Handle(HandleReport),
    /// `fd.state⇥NAME⇥deleted`: deleted by a command.
    HandleDeleted(HandleName),
    /// `log.filter⇥LEVEL`: the answer to who asked.
    LogFilter(LogLevel),
    /// `service.note⇥NAME⇥KEY⇥VALUE`: dumped only; a note is told to nobody when it is set.
    Note(ServiceName, String, Vec<u8>),
    /// `service.lease⇥NAME⇥GEN⇥any|failure⇥OKLIST⇥DELAY_MS…`: what is left of a lease; dumped only.
    /// The end of this generation spends the first delay.
    Lease(ServiceName, Generation, Lease),
    /// `service.ended⇥NAME⇥GEN⇥TS_NS⇥HOW⇥VALUE`: dumped only: the end of a generation before the
    /// present one, which nobody has acknowledged. Before `service.run`, oldest first.
    Ended {
        /// The service.
        name: ServiceName,
        /// The generation.
        generation: Generation,
        /// When it ended; 0 on the line if nobody can say.
        at: Option<Instant>,
        /// How it ended.
        end: RunEnd,
    },
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
    /// `stuck`: something is still there long after KILL. Without a process and an end: it cannot
    /// be said whether it runs.
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
    /// `cancelled⇥-`: its proxy was lost before there was a process that could be known. No program
    /// ran, and nothing failed: whoever wants it starts it again.
    Cancelled,
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
    /// `error⇥TEXT`: the answer to a command without a number that was refused.
    Error(String),
}
