//! What the proxy machine hears and what it asks for.

use std::sync::Arc;

use keepd_model::protocol::{
    Attributes, Command, Environment, Event, LogTarget, Message, Request, RunEnd, SignalNumber,
    Stream,
};
use keepd_model::{
    Errno, Exit, Generation, HandleKind, Instant, LogLevel, OpenFlags, Pid, PipeSpec, ServiceName,
    Signal, SocketSpec, SpawnFailure,
};

/// A connection, numbered by the shell in the order of arrival and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// An open descriptor that the shell holds, numbered by the machine and never reused: a handle that
/// is replaced under its name is another descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DescriptorId(pub u64);

/// An effect that can fail and whose outcome somebody waits for, numbered by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command that runs in the context of a service (`service.exec`), numbered by the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Whose process, group, log or error pipe something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// One generation of a service.
    Service(ServiceName, Generation),
    /// A `service.exec`.
    Job(JobId),
}

/// News for the proxy machine.
///
/// Within one turn the shell reports in this order: spawn reports, deaths, empty groups,
/// notifications and output, signals, then lines of connections; so a command never overtakes the
/// death before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A connection was made, or has asked for the extension: it is greeted with
    /// [`Message::ProtoAccepted`].
    Connected {
        /// Its number.
        connection: ConnectionId,
        /// Whether it can be written to (a configuration file cannot).
        output: bool,
    },
    /// A connection ended.
    Disconnected {
        /// Its number.
        connection: ConnectionId,
    },
    /// A connection sent a command.
    Request {
        /// Its number.
        connection: ConnectionId,
        /// What it asks.
        request: Request,
    },
    /// A connection sent a line that is no command; the shell made the answer from the error.
    Refused {
        /// Its number.
        connection: ConnectionId,
        /// The answer.
        answer: Message,
    },
    /// A connection's output buffer is full: nothing more fits until `Drained`.
    Full {
        /// Its number.
        connection: ConnectionId,
    },
    /// A connection's output buffer is empty again.
    Drained {
        /// Its number.
        connection: ConnectionId,
    },
    /// A clone was made, or failed before there was a process. Comes before any other news of the
    /// owner.
    Spawned {
        /// Whose.
        owner: Owner,
        /// The process, or the step that failed.
        outcome: Result<Pid, SpawnFailure>,
    },
    /// The child executed its program, or reports the step that failed.
    Report {
        /// Whose.
        owner: Owner,
        /// What it reports.
        outcome: SpawnOutcome,
    },
    /// A child of ours was reaped. Strangers (adopted orphans) are reported too and ignored. If a
    /// run is over with this process ([`Proxy::run_ends_with`](super::Proxy::run_ends_with)), what
    /// it wrote and said comes before.
    Reaped {
        /// The process.
        pid: Pid,
        /// How it ended.
        exit: Exit,
    },
    /// Answer to [`Output::WatchGroup`]: no process is left in the group, and its output is
    /// written.
    GroupEmpty {
        /// Whose group.
        owner: Owner,
    },
    /// A datagram came on the notify socket of a service.
    Notify {
        /// The service.
        name: ServiceName,
        /// The sender, as the kernel says.
        pid: Pid,
        /// The text, bounded by the shell.
        text: Vec<u8>,
    },
    /// A line feed came on the `ready_fd` of a generation. Said once at most.
    ReadyFd {
        /// The service.
        name: ServiceName,
        /// Its generation, which the pipe was made for.
        generation: Generation,
    },
    /// Output of a service was written up to this offset.
    Output {
        /// The service.
        name: ServiceName,
        /// The stream.
        stream: Stream,
        /// Bytes since the stream began.
        offset: u64,
    },
    /// Output of a service cannot be written for now (`Some`), or can be again (`None`).
    OutputBlocked {
        /// The service.
        name: ServiceName,
        /// Why.
        errno: Option<Errno>,
    },
    /// Output of a job, in order; the machine keeps the first bytes.
    JobOutput {
        /// The job.
        job: JobId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Answer to [`Output::Perform`], given at once.
    Performed {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        outcome: Result<Performed, CallFailure>,
    },
    /// The system refuses memory, or gives it again: while it does, every command that would make
    /// something grow is refused (`limit`), and all others work.
    MemoryLow {
        /// It refuses.
        on: bool,
    },
    /// The journal has no room, or has room again: while it has none, every command that would be
    /// a long record is refused (`limit`). Stops, starts and what takes something back are short;
    /// the shell keeps room for them.
    JournalFull {
        /// It has none.
        on: bool,
    },
    /// The proxy itself got a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// How often since the last report.
        count: u64,
    },
    /// What a predecessor wrote down ([`Output::Record`]), in order. Before everything else.
    ///
    /// It is applied without answers, events, starts and records. What the shell itself has to be
    /// told is told as always: guard, exit-exec, filter and destination of the log, and the
    /// directory, as a [`Output::Perform`].
    Replayed {
        /// One fact.
        fact: Fact,
    },
    /// What a predecessor left of a service, once for each that was replayed, after the last
    /// [`Input::Replayed`] and before any connection. For one that was never started it is
    /// [`AdoptedRun::Known`] of [`Generation::NONE`]: from here on it may start by itself.
    ///
    /// The generation is the one of the ledger, whatever the facts say: one that was written down
    /// and never begun is given again.
    ///
    /// A service that no fact names was forgotten: its place in the ledger is free. Where it runs
    /// all the same, it is adopted without a definition, so that it can be stopped.
    ///
    /// A second one is heard only after [`AdoptedRun::Unsure`].
    Adopted {
        /// The service.
        name: ServiceName,
        /// Its last generation.
        generation: Generation,
        /// What became of that.
        run: AdoptedRun,
        /// Ends of generations before that one which nobody has acknowledged, oldest first.
        unacknowledged: Vec<EndedRun>,
    },
}

/// Something that a successor has to know, written down before anybody is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A command that defines something was accepted. What acts is not replayed: of
    /// `service.stop` it stays that nobody wants the service up any more, of a `service.start` for
    /// a later time that somebody does. Of `service.lease`, GEN is the generation whose end spends
    /// the first delay.
    Command(Command),
    /// A generation was asked for: [`Event::Invocation`]; or it said for the first time that it is
    /// ready: [`Event::Notify`] with nothing but that. Nothing else.
    Event(Event),
}

/// What a successor finds of the last generation of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptedRun {
    /// Its main process is there. Its end is told by [`Input::Reaped`], as that of any other.
    Running {
        /// The process.
        pid: Pid,
        /// When it was cloned, as nearly as the kernel says.
        started: Instant,
        /// Whether it has a group of its own.
        leaf: bool,
    },
    /// It is over, and nobody has acknowledged that yet. Others of its group may be left.
    Ended {
        /// How, and when.
        ended: EndedRun,
        /// Whether it had a group of its own, which is still there.
        leaf: bool,
    },
    /// It is over, and its end was acknowledged.
    Known,
    /// It cannot be said whether it runs: nothing is started or signalled until a later `Adopted`
    /// says more.
    Unsure {
        /// One sentence.
        why: String,
    },
}

/// The end of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// Which.
    pub generation: Generation,
    /// How.
    pub end: RunEnd,
    /// When; `None`: nobody can say.
    pub at: Option<Instant>,
}

/// An effect with an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// kill(2), or killpg(3) with `group`.
    Signal {
        /// The process, a child that was not reaped yet.
        pid: Pid,
        /// Its process group.
        group: bool,
        /// What; 0 only asks whether it is there.
        signal: SignalNumber,
    },
    /// open(2).
    Open {
        /// What it becomes.
        descriptor: DescriptorId,
        /// How.
        flags: OpenFlags,
        /// What.
        path: Vec<u8>,
    },
    /// pipe(2) or socketpair(2).
    Pipe {
        /// What the end to be read becomes.
        read: DescriptorId,
        /// What the end to be written becomes.
        write: DescriptorId,
        /// How.
        spec: PipeSpec,
    },
    /// socket(2), bind(2), listen(2).
    Socket {
        /// What it becomes.
        descriptor: DescriptorId,
        /// How.
        spec: SocketSpec,
    },
    /// The oldest descriptor that came with messages of this connection.
    Take {
        /// What it becomes.
        descriptor: DescriptorId,
        /// From whom.
        connection: ConnectionId,
    },
    /// chdir(2).
    Chdir {
        /// Where to.
        path: Vec<u8>,
    },
    /// Listen for controllers at this path, and no longer at another one.
    Listen {
        /// The path.
        path: Vec<u8>,
    },
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    /// It is done.
    Done,
    /// A descriptor was taken, and it is this.
    Taken(HandleKind),
}

/// The call that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// The name of the system call; where none was made, a sentence that says why.
    pub call: &'static str,
    /// What the kernel said; `None` where it was not asked.
    pub errno: Option<Errno>,
}

/// Where a place in a descriptor list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorSource {
    /// Nothing is open there.
    Closed,
    /// This descriptor.
    Held(DescriptorId),
    /// The child's end of its control connection.
    Control,
    /// There is no handle of the name: the child fails when it places its descriptors.
    Missing,
}

/// The descriptors of a start (`service.fds`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorList {
    /// One for each number from 0 on; everything else is closed.
    pub sources: Vec<DescriptorSource>,
    /// How the service controls us, if its list names a control handle: a new connection for each
    /// start.
    pub control: Option<ControlEnd>,
}

/// Directions of the connection between a service and the proxy; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlEnd {
    /// It may send commands.
    pub commands: bool,
    /// It is told answers and events.
    pub events: bool,
}

/// What a child reports through its error pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnOutcome {
    /// The program runs (the pipe ended without an error).
    Executed,
    /// A step failed; the child ends by itself and is reaped like any other.
    Failed(SpawnFailure),
}

/// What the shell is asked to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write a line to a connection. Dropped by the shell if the connection is gone.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What.
        message: Message,
    },
    /// Flush and close a connection.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Start a generation of a service; answered by [`Input::Spawned`].
    Spawn(Box<ServiceSpawn>),
    /// Start a job; answered by [`Input::Spawned`].
    SpawnJob(Box<JobSpawn>),
    /// Signal the main process (a child not yet reaped).
    SignalMain {
        /// Whose.
        owner: Owner,
        /// Its process.
        pid: Pid,
        /// What.
        signal: Signal,
    },
    /// Do this, and say at once how it went.
    Perform {
        /// The number of the answer.
        ticket: Ticket,
        /// What.
        effect: Effect,
    },
    /// Close a descriptor; services that have it keep their copies.
    CloseDescriptor {
        /// Which.
        descriptor: DescriptorId,
    },
    /// No control socket any longer: close it and remove its file. Connections stay.
    StopListening,
    /// Messages of the proxy's own log go to this descriptor; `None`: they wait.
    LogTo {
        /// Where.
        descriptor: Option<DescriptorId>,
    },
    /// Suppress messages of this level and below.
    LogFilter {
        /// The level.
        level: LogLevel,
    },
    /// A message for the proxy's own log.
    Log {
        /// How bad it is.
        level: LogLevel,
        /// One line.
        text: String,
    },
    /// Signal every process of the group; KILL ends the group at once.
    SignalGroup {
        /// Whose.
        owner: Owner,
        /// What.
        signal: Signal,
    },
    /// Say [`Input::GroupEmpty`] once no process of the group is left; the main process is reaped.
    WatchGroup {
        /// Whose.
        owner: Owner,
    },
    /// The run of this group is over, and others than its main process may live on in it
    /// (`kill_mode=main`): leave them alone, and remove what the group is made of once it is empty.
    LeaveGroup {
        /// Whose.
        owner: Owner,
    },
    /// The service is forgotten: close its pipes, log files and notify socket.
    Forget {
        /// Which.
        name: ServiceName,
    },
    /// Tell [`Input::Output`] for services from now on, or no longer.
    WatchOutput {
        /// Whether.
        on: bool,
    },
    /// End the proxy, after everything before this was written. Services are not touched.
    Terminate {
        /// The exit code.
        code: u8,
    },
    /// What this process becomes at its end, whatever brings it about; empty: nothing.
    ExitExec {
        /// Program and arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// Whether a guard is set: with one, no fatal condition ends the proxy.
    Guarded {
        /// It is.
        on: bool,
    },
    /// Write this down for a successor, before anything that was asked for after it is done or
    /// told. Only with [`Settings::records`](super::Settings::records).
    Record {
        /// What.
        fact: Fact,
    },
    /// The ends of this generation and of all before need not be kept for a successor.
    Acknowledge {
        /// The service.
        name: ServiceName,
        /// The generation.
        generation: Generation,
    },
}

/// Everything a start needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpawn {
    /// The service.
    pub name: ServiceName,
    /// The new generation.
    pub generation: Generation,
    /// Program and arguments; not empty.
    pub arguments: Vec<Vec<u8>>,
    /// Differences to the proxy's environment.
    pub environment: Environment,
    /// Process attributes.
    pub attributes: Arc<Attributes>,
    /// Where output goes.
    pub log: LogTarget,
    /// INVOCATION_ID of this generation.
    pub invocation: u128,
    /// Its descriptors, where a list was set; else those of `log`.
    pub descriptors: Option<DescriptorList>,
}

/// Everything a job needs. Its standard output and error go to the asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpawn {
    /// Its number.
    pub job: JobId,
    /// In the context of this service.
    pub name: ServiceName,
    /// Program and arguments; not empty.
    pub arguments: Vec<Vec<u8>>,
    /// Of the service.
    pub environment: Environment,
    /// Of the service.
    pub attributes: Arc<Attributes>,
    /// The main process of the service that was not reaped yet; for MAINPID.
    pub main_pid: Option<Pid>,
}
