//! A machine with virtual time, and its outputs as short texts.

use std::time::Duration;

use keepd_engine::proxy::{
    AdoptedRun, CallFailure, ConnectionId, Effect, EndedRun, Fact, Input, JobId, Output, Owner,
    Performed, Proxy, Settings, SpawnOutcome, Ticket,
};
use keepd_model::protocol::{
    Attributes, Command, Event, Lease, LeaseAfter, Message, Reply, Request, RequestId, RunEnd,
    RunState, Triggers,
};
use keepd_model::{
    Errno, Exit, ExpectedEnd, FdSlot, Generation, HandleKind, HandleName, HandleReport, Instant,
    OpenFlags, Pid, PipeEnd, ServiceName, Signal, SpawnFailure, SpawnStep,
};

/// The connection of most stories.
pub(crate) const BOSS: ConnectionId = ConnectionId(1);
/// A connection on which somebody types commands without numbers.
pub(crate) const TYPIST: ConnectionId = ConnectionId(2);
/// One more connection.
pub(crate) const OTHER: ConnectionId = ConnectionId(3);

/// A machine and its clock.
pub(crate) struct Driver {
    pub(crate) proxy: Proxy,
    pub(crate) now: Instant,
    last_request: u64,
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new_internal(text).unwrap()
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::new(number).unwrap()
}

pub(crate) fn service(text: &str, generation: u64) -> Owner {
    Owner::Service(name(text), Generation::new(generation))
}

pub(crate) fn job(number: u64) -> Owner {
    Owner::Job(JobId(number))
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) const NO_FILE: SpawnFailure =
    SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
pub(crate) const NO_PROCESS: SpawnFailure =
    SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN };

pub(crate) fn killed_by(signal: Signal) -> Exit {
    Exit::Signal { signal, core: false }
}

pub(crate) fn arguments(text: &str) -> Command {
    Command::ServiceArgs { name: name(text), arguments: vec![b"/bin/true".to_vec()] }
}

pub(crate) fn set(text: &str, attributes: Attributes) -> Command {
    Command::ServiceSet { name: name(text), attributes: attributes.into() }
}

pub(crate) fn start(text: &str, expected: u64) -> Command {
    Command::ServiceStart { name: name(text), expected: Some(Generation::new(expected)), at: None }
}

pub(crate) fn stop(text: &str, expected: u64) -> Command {
    Command::ServiceStop { name: name(text), expected: Generation::new(expected), other: None }
}

pub(crate) fn stop_with(text: &str, expected: u64, signal: Signal, timeout: Duration) -> Command {
    Command::ServiceStop {
        name: name(text),
        expected: Generation::new(expected),
        other: Some((signal, timeout)),
    }
}

pub(crate) fn lease(text: &str, expected: u64, after: LeaseAfter, delays: &[u64]) -> Command {
    let lease = Lease {
        after,
        successes: vec![ExpectedEnd::Code(0)],
        delays: delays.iter().copied().map(ms).collect(),
    };
    Command::ServiceLease { name: name(text), expected: Generation::new(expected), lease }
}

pub(crate) fn ack(text: &str, generation: u64) -> Command {
    Command::ServiceAck { name: name(text), generation: Generation::new(generation) }
}

pub(crate) fn ended_run(generation: u64, end: RunEnd, at: Option<Instant>) -> EndedRun {
    EndedRun { generation: Generation::new(generation), end, at }
}

pub(crate) fn auto_up(text: &str, seconds: Option<u32>, always: bool) -> Command {
    let triggers = if always { Triggers::always() } else { Triggers::default() };
    Command::ServiceAutoUp { name: name(text), seconds, triggers }
}

pub(crate) fn handle_name(text: &str) -> HandleName {
    HandleName::new(text).unwrap()
}

/// A handle of the start.
pub(crate) fn null() -> HandleReport {
    let flags = OpenFlags { read: true, write: true, ..OpenFlags::default() };
    HandleReport {
        name: handle_name("null"),
        kind: HandleKind::Special(flags),
        description: b"/dev/null".to_vec(),
    }
}

impl Driver {
    /// Returns a machine without connections, at 1,000 s.
    pub(crate) fn new() -> Self {
        Self::with_settings(Settings::default())
    }

    /// Returns a machine without connections, made with these settings.
    pub(crate) fn with_settings(settings: Settings) -> Self {
        let features = vec!["notify".to_owned()];
        Self {
            proxy: Proxy::new(Settings { seed: 7, features, ..settings }),
            now: Instant::from_nanos(1_000_000_000_000),
            last_request: 0,
        }
    }

    /// Returns a machine with [`BOSS`] connected.
    pub(crate) fn with_boss() -> Self {
        let mut driver = Self::new();
        driver.connect(BOSS);
        driver
    }

    /// Returns a machine with [`BOSS`] and a service that is up as generation 1, pid 100.
    pub(crate) fn with_service_up(attributes: Attributes) -> Self {
        let mut driver = Self::with_boss();
        driver.ask(set("web", attributes));
        driver.ask(arguments("web"));
        driver.ask(start("web", 0));
        driver.spawned(service("web", 1), 100);
        driver.executed(service("web", 1));
        driver
    }

    /// Returns a machine whose predecessor was lost, with what that wrote down, and what comes of
    /// it. Nobody is connected.
    pub(crate) fn succeed(settings: Settings, now: Instant, facts: &[Fact]) -> (Self, Vec<String>) {
        let mut driver = Self::with_settings(Settings { records: true, ..settings });
        driver.now = now;
        let replay = |fact: &Fact| driver.give(Input::Replayed { fact: fact.clone() });
        let lines = facts.iter().flat_map(replay).collect();
        (driver, lines)
    }

    /// Says what the predecessor left of a service.
    pub(crate) fn adopt(&mut self, text: &str, generation: u64, run: AdoptedRun) -> Vec<String> {
        let (name, generation) = (name(text), Generation::new(generation));
        self.give(Input::Adopted { name, generation, run, unacknowledged: Vec::new() })
    }

    /// Makes a connection and returns what it hears after the greeting.
    pub(crate) fn connect(&mut self, connection: ConnectionId) -> Vec<String> {
        let mut lines = self.give(Input::Connected { connection, output: true });
        assert_eq!(lines.remove(0), format!("{}> proto 1 notify", connection.0));
        lines
    }

    /// Gives an input and returns every output it leads to.
    pub(crate) fn drive(&mut self, input: Input) -> Vec<Output> {
        self.proxy.handle_input(self.now, input);
        self.check();
        self.outputs()
    }

    pub(crate) fn give(&mut self, input: Input) -> Vec<String> {
        self.drive(input).iter().map(text).collect()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.proxy.poll_output()).collect()
    }

    pub(crate) fn check(&self) {
        if let Err(sentence) = self.proxy.check_invariants() {
            panic!("{sentence}");
        }
    }

    /// A numbered command of a connection; answers carry the next number.
    pub(crate) fn ask_as(&mut self, connection: ConnectionId, command: Command) -> Vec<String> {
        self.last_request += 1;
        let request = Request::Numbered(RequestId(self.last_request), command);
        self.give(Input::Request { connection, request })
    }

    pub(crate) fn ask(&mut self, command: Command) -> Vec<String> {
        self.ask_as(BOSS, command)
    }

    /// A command without a number.
    pub(crate) fn say(&mut self, connection: ConnectionId, command: Command) -> Vec<String> {
        self.give(Input::Request { connection, request: Request::Unnumbered(command) })
    }

    pub(crate) fn spawned(&mut self, owner: Owner, number: u32) -> Vec<String> {
        self.give(Input::Spawned { owner, outcome: Ok(pid(number)) })
    }

    pub(crate) fn not_spawned(&mut self, owner: Owner) -> Vec<String> {
        self.give(Input::Spawned { owner, outcome: Err(NO_PROCESS) })
    }

    pub(crate) fn executed(&mut self, owner: Owner) -> Vec<String> {
        self.give(Input::Report { owner, outcome: SpawnOutcome::Executed })
    }

    /// The shell did what the last ticket asked for.
    pub(crate) fn performed(&mut self, ticket: u64) -> Vec<String> {
        self.give(Input::Performed { ticket: Ticket(ticket), outcome: Ok(Performed::Done) })
    }

    /// The shell could not do what the last ticket asked for.
    pub(crate) fn not_performed(
        &mut self,
        ticket: u64,
        call: &'static str,
        errno: Option<Errno>,
    ) -> Vec<String> {
        let outcome = Err(CallFailure { call, errno });
        self.give(Input::Performed { ticket: Ticket(ticket), outcome })
    }

    pub(crate) fn reaped(&mut self, number: u32, exit: Exit) -> Vec<String> {
        self.give(Input::Reaped { pid: pid(number), exit })
    }

    pub(crate) fn empty(&mut self, owner: Owner) -> Vec<String> {
        self.give(Input::GroupEmpty { owner })
    }

    /// Lets time pass, with every timeout at its time, and returns what came of it.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now.saturating_add(time);
        let mut lines = Vec::new();
        while let Some(due) = self.proxy.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.proxy.handle_timeout(self.now);
            self.check();
            lines.extend(self.outputs().iter().map(text));
            assert!(
                self.proxy.poll_timeout().is_none_or(|next| next > self.now),
                "the next timeout is later than the one that fired"
            );
        }
        self.now = end;
        lines
    }

    /// Returns the time until the next timeout.
    pub(crate) fn until_timeout(&self) -> Option<Duration> {
        let due = self.proxy.poll_timeout()?;
        Some(due.saturating_since(self.now))
    }

    /// Returns the state of a service.
    pub(crate) fn state(&self, text: &str) -> Option<RunState> {
        self.proxy
            .services()
            .find(|service| service.name.as_str() == text)
            .map(|service| service.state)
    }
}

fn owner_text(owner: &Owner) -> String {
    match owner {
        Owner::Service(name, generation) => format!("{name}.{generation}"),
        Owner::Job(id) => format!("job{}", id.0),
    }
}

fn bytes_text(words: &[Vec<u8>]) -> String {
    words
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn slots_text(slots: &[FdSlot]) -> String {
    let words = slots.iter().map(|slot| match slot {
        FdSlot::Closed => "-",
        FdSlot::Skipped => "''",
        FdSlot::Handle(name) => name.as_str(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn open_flags_text(flags: &OpenFlags) -> String {
    let words = [
        (flags.read, "read"),
        (flags.write, "write"),
        (flags.append, "append"),
        (flags.create, "create"),
    ];
    let said = words.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| *word);
    said.collect::<Vec<_>>().join(",")
}

fn kind_text(kind: &HandleKind) -> String {
    match kind {
        HandleKind::File(flags) => format!("file {}", open_flags_text(flags)),
        HandleKind::Special(flags) => format!("special {}", open_flags_text(flags)),
        HandleKind::Pipe { end: PipeEnd::From, .. } => "pipe from".to_owned(),
        HandleKind::Pipe { end: PipeEnd::To, .. } => "pipe to".to_owned(),
        HandleKind::Socket { domain, kind, bind, listen, .. } => {
            format!("socket {} {} {bind} {listen:?}", domain.word(), kind.word())
        }
    }
}

fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Signal { pid, group, signal } => {
            let whom = if *group { "process group" } else { "process" };
            format!("signal {} to {whom} {pid}", signal.0)
        }
        Effect::Open { descriptor, flags, path } => {
            let (flags, path) = (open_flags_text(flags), String::from_utf8_lossy(path));
            format!("open {} {flags} {path}", descriptor.0)
        }
        Effect::Pipe { read, write, .. } => format!("pipe {} {}", read.0, write.0),
        Effect::Socket { descriptor, spec } => {
            format!("socket {} {}", descriptor.0, String::from_utf8_lossy(&spec.address_text))
        }
        Effect::Take { descriptor, connection } => {
            format!("take {} from {}", descriptor.0, connection.0)
        }
        Effect::Chdir { path } => format!("chdir {}", String::from_utf8_lossy(path)),
        Effect::Listen { path } => format!("listen {}", String::from_utf8_lossy(path)),
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Run(report) => {
            let mut line = format!("{} {} {}", report.name, report.generation, report.state.word());
            if let Some(pid) = report.pid {
                line += &format!(" pid {pid}");
            }
            match report.ended {
                Some(RunEnd::Exit(exit)) => line += &format!(" {exit}"),
                Some(RunEnd::Failed(failure)) => {
                    line += &format!(" failed {}", failure.step.word());
                }
                Some(RunEnd::Cancelled) => line += " cancelled",
                None => {}
            }
            line
        }
        Event::Invocation { name, generation, .. } => format!("{name} {generation} invocation"),
        Event::Lease(name, generation, lease) => {
            format!("{name} {generation} lease {:?}", lease.delays)
        }
        Event::Ended { name, generation, end, .. } => format!("{name} {generation} ended {end:?}"),
        Event::Notify { name, generation, pid, text } => {
            format!("{name} {generation} notify {pid} {}", String::from_utf8_lossy(text))
        }
        Event::Output { name, stream, offset } => {
            format!("{name} output {} {offset}", stream.word())
        }
        Event::OutputBlocked { name, errno } => {
            format!("{name} blocked {}", errno.map_or(0, |errno| errno.0))
        }
        Event::Args(name, words) => format!("{name} args {}", bytes_text(words)),
        Event::Tags(name, words) => format!("{name} tags {}", bytes_text(words)),
        Event::Set(name, _) => format!("{name} set"),
        Event::Env(name, _) => format!("{name} env"),
        Event::Log(name, _) => format!("{name} log"),
        Event::AutoUp(name, seconds, words) => {
            format!("{name} auto_up {seconds} {}", bytes_text(words))
        }
        Event::Fds(name, slots) => format!("{name} fds {}", slots_text(slots)),
        Event::Handle(report) => format!(
            "handle {} {} {}",
            report.name,
            kind_text(&report.kind),
            String::from_utf8_lossy(&report.description)
        ),
        Event::HandleDeleted(name) => format!("handle {name} deleted"),
        Event::LogFilter(level) => format!("log.filter {level}"),
        Event::Note(name, key, value) => {
            format!("{name} note {key}={}", String::from_utf8_lossy(value))
        }
        Event::Deleted(name) => format!("{name} deleted"),
        Event::Signal { signal, count, .. } => format!("signal {signal} {count}"),
        Event::DumpEnd { sequence } => format!("dump.end {sequence}"),
    }
}

/// Returns the kind of a command that was written down, or the event.
fn fact_text(fact: &Fact) -> String {
    match fact {
        Fact::Command(Command::ServiceLease { name, expected, lease }) => {
            format!("lease of {name} from {expected} {:?}", lease.delays)
        }
        Fact::Command(command) => {
            let text = format!("{command:?}");
            text.split(' ').next().unwrap_or_default().to_owned()
        }
        Fact::Event(event) => event_text(event),
    }
}

fn message_text(message: &Message) -> String {
    match message {
        Message::ProtoAccepted { version, features } => {
            format!("proto {version} {}", features.join(" "))
        }
        Message::Event(event) => event_text(event),
        Message::Reply(id, Reply::Ok) => format!("ok {}", id.0),
        Message::Reply(id, Reply::Exec { exit, output }) => {
            format!("ok {} {exit} {:?}", id.0, String::from_utf8_lossy(output))
        }
        Message::Reply(id, Reply::Fail(fail)) => format!("fail {} {}", id.0, fail.kind.word()),
        Message::Text(bytes) => format!("text {}", String::from_utf8_lossy(bytes)),
        Message::Error(why) => format!("error {why}"),
    }
}

/// Returns an output as a short text; `N>` is a line to connection N.
pub(crate) fn text(output: &Output) -> String {
    match output {
        Output::Send { connection, message } => {
            format!("{}> {}", connection.0, message_text(message))
        }
        Output::Close { connection } => format!("close {}", connection.0),
        Output::Spawn(spawn) => format!("spawn {}.{}", spawn.name, spawn.generation),
        Output::SpawnJob(spawn) => format!("spawn job{} of {}", spawn.job.0, spawn.name),
        Output::SignalMain { owner, pid, signal } => {
            format!("{signal} to main {} of {}", pid, owner_text(owner))
        }
        Output::SignalGroup { owner, signal } => {
            format!("{signal} to group of {}", owner_text(owner))
        }
        Output::WatchGroup { owner } => format!("watch {}", owner_text(owner)),
        Output::LeaveGroup { owner } => format!("leave {}", owner_text(owner)),
        Output::Forget { name } => format!("forget {name}"),
        Output::WatchOutput { on } => format!("watch output {on}"),
        Output::Terminate { code } => format!("terminate {code}"),
        Output::Perform { ticket, effect } => {
            format!("perform {}: {}", ticket.0, effect_text(effect))
        }
        Output::CloseDescriptor { descriptor } => format!("close descriptor {}", descriptor.0),
        Output::StopListening => "stop listening".to_owned(),
        Output::LogTo { descriptor: Some(descriptor) } => format!("log to {}", descriptor.0),
        Output::LogTo { descriptor: None } => "log waits".to_owned(),
        Output::LogFilter { level } => format!("log filter {level}"),
        Output::Log { level, text } => format!("log {level}: {text}"),
        Output::ExitExec { arguments } => format!("exit-exec {}", bytes_text(arguments)),
        Output::Guarded { on } => format!("guarded {on}"),
        Output::Record { fact } => format!("record {}", fact_text(fact)),
        Output::Acknowledge { name, generation } => format!("acknowledge {name} {generation}"),
    }
}
