//! A deterministic source of every command and message that can be said.

use std::time::Duration;

use keepd_model::protocol::{
    Attributes, Command, EXEC_OUTPUT_BYTES_MAX, Environment, EnvironmentChange, Event, Fail,
    FailKind, FilterChange, Lease, LeaseAfter, LogTarget, Message, NOTIFY_BYTES_MAX, Place, Reply,
    Request, RequestId, RunEnd, RunReport, RunState, Scope, SessionPlace, SignalNumber, Stream,
    Triggers,
};
use keepd_model::{
    Address, Domain, Errno, Exit, ExpectedEnd, FdSlot, Generation, HandleKind, HandleName,
    HandleReport, Instant, KillMode, LogLevel, OpenFlags, Pid, PipeEnd, PipeSpec, ServiceName,
    Signal, SocketSpec, SocketType, SpawnFailure, SpawnStep,
};
use keepd_wire::words;

/// How many kinds of command [`Generator::command`] makes.
pub(crate) const COMMANDS: u64 = 35;
/// How many kinds of message [`Generator::message`] makes.
pub(crate) const MESSAGES: u64 = 28;

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number that is often at an edge.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => self.below(100),
            _ => self.next(),
        }
    }

    /// Bytes of every value, with many of those that need escapes.
    pub(crate) fn bytes(&mut self, length_max: u64) -> Vec<u8> {
        let length = self.below(length_max + 1);
        (0..length)
            .map(|_| match self.below(3) {
                0 => self.pick(b"\\\t\n\r=+-@#, \0tnr"),
                _ => (self.next() >> 56) as u8,
            })
            .collect()
    }

    fn nonzero(&mut self, length_max: u64) -> Vec<u8> {
        let mut bytes = self.bytes(length_max);
        bytes.retain(|byte| *byte != 0);
        bytes
    }

    fn path(&mut self) -> Vec<u8> {
        let mut path = self.nonzero(40);
        path.insert(0, b'/');
        path
    }

    fn list(&mut self) -> Vec<Vec<u8>> {
        (0..self.below(5)).map(|_| self.bytes(12)).collect()
    }

    fn arguments(&mut self) -> Vec<Vec<u8>> {
        (0..self.below(5)).map(|_| self.nonzero(12)).collect()
    }

    fn text(&mut self) -> String {
        let letters = ['a', '"', '\\', '\t', '\n', '\r', 'ß', '→', '\u{1F600}', '\0'];
        (0..self.below(20)).map(|_| self.pick(&letters)).collect()
    }

    pub(crate) fn name(&mut self) -> ServiceName {
        let name = self.pick(&[
            "web",
            "_x",
            "9",
            "a.b-c_d",
            "web@blue",
            "w@a:b",
            "keepd.manager",
            "aaaaaaaaaabbbbbbbbbbccccccccccd@aaaaaaaaaabbbbbbbbbbccccccccccd",
        ]);
        ServiceName::new_internal(name).unwrap()
    }

    fn signal(&mut self) -> Signal {
        Signal::new(1 + self.below(64) as u8).unwrap()
    }

    fn generation(&mut self) -> Generation {
        Generation::new(self.number())
    }

    fn pid(&mut self) -> Pid {
        Pid::new(1 + self.u32() % (i32::MAX as u32)).unwrap()
    }

    fn instant(&mut self) -> Instant {
        Instant::from_nanos(self.number())
    }

    fn milliseconds(&mut self) -> Duration {
        Duration::from_millis(self.number())
    }

    fn optional<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    fn attributes(&mut self) -> Attributes {
        let id = |generator: &mut Self| generator.u32() % u32::MAX;
        Attributes {
            directory: self.optional(Self::path),
            umask: self.below(0o1000) as u32,
            uid: self.optional(id),
            gid: self.optional(id),
            groups: self.optional(|it| (0..it.below(4)).map(|_| id(it)).collect()),
            notify: self.coin(),
            ready_fd: self.optional(|it| 3 + it.below(1_021) as u32),
            kill_mode: self.pick(KillMode::ALL),
            stop_signal: self.signal(),
            stop_timeout: self.milliseconds(),
            respawn: (0..self.below(4)).map(|_| self.milliseconds()).collect(),
            place: self.pick(&[Place::Service, Place::Own, Place::None]),
            session: self.pick(&[SessionPlace::New, SessionPlace::Inherit]),
            marks: self.coin(),
            retry: self.optional(Self::milliseconds),
        }
    }

    fn variable(&mut self) -> Vec<u8> {
        let mut variable = self.nonzero(10);
        variable.retain(|byte| *byte != b'=');
        variable.push(b'V');
        variable
    }

    fn environment(&mut self) -> Environment {
        let change = |it: &mut Self| {
            if it.coin() {
                EnvironmentChange::Set(it.variable(), it.nonzero(12))
            } else {
                EnvironmentChange::Remove(it.variable())
            }
        };
        Environment {
            clear: self.coin(),
            changes: (0..self.below(5)).map(|_| change(self)).collect(),
        }
    }

    fn log(&mut self) -> LogTarget {
        match self.below(4) {
            0 => LogTarget::Null,
            1 => LogTarget::Inherit,
            2 => LogTarget::File { dir: self.path(), merge: self.coin() },
            _ => LogTarget::Append { file: self.path() },
        }
    }

    fn note(&mut self) -> (String, Vec<u8>) {
        (format!("k{}", self.text()), self.bytes(60))
    }

    fn exit(&mut self) -> Exit {
        match self.below(3) {
            0 => Exit::Code(self.below(256) as u8),
            1 => Exit::Signal { signal: self.signal(), core: self.coin() },
            _ => Exit::Unknown,
        }
    }

    fn spawn_failure(&mut self) -> SpawnFailure {
        SpawnFailure { step: self.pick(&SpawnStep::ALL), errno: Errno(1 + self.below(4095) as i32) }
    }

    fn handle_name(&mut self) -> HandleName {
        let longest = "h".repeat(63);
        let name = self.pick(&["null", "-x", "a.b", "control.cmd", "_", "fd_9", &longest]);
        HandleName::new(name).unwrap()
    }

    fn open_flags(&mut self) -> OpenFlags {
        OpenFlags {
            read: self.coin(),
            write: self.coin(),
            append: self.coin(),
            create: self.coin(),
            trunc: self.coin(),
            nonblock: self.coin(),
            mkdir: self.coin(),
        }
    }

    fn domain(&mut self) -> Domain {
        self.pick(&[Domain::Unix, Domain::Inet, Domain::Inet6])
    }

    fn socket_type(&mut self) -> SocketType {
        self.pick(&[SocketType::Stream, SocketType::Datagram, SocketType::SequencedPacket])
    }

    fn pipe_spec(&mut self) -> PipeSpec {
        let socket = self.optional(|it| (it.domain(), it.socket_type()));
        PipeSpec { socket, nonblock: self.coin() }
    }

    fn backlog(&mut self) -> u32 {
        1 + self.below(65_535) as u32
    }

    /// An address and its text, which has more than one form.
    fn address(&mut self, domain: Domain) -> (Address, Vec<u8>) {
        let port = self.below(65_536) as u16;
        let octets = self.next().to_be_bytes();
        match domain {
            Domain::Unix => {
                let mut path = self.nonzero(words::SOCKET_PATH_BYTES_MAX as u64 - 1);
                path.push(b's');
                (Address::Unix(path.clone()), path)
            }
            Domain::Inet => {
                let host: [u8; 4] = octets[..4].try_into().unwrap();
                let text = std::net::Ipv4Addr::from(host).to_string();
                self.with_port(Address::Inet, host, &text, port)
            }
            Domain::Inet6 => {
                let host = [octets, self.next().to_be_bytes()].concat().try_into().unwrap();
                let text = format!("[{}]", std::net::Ipv6Addr::from(host));
                self.with_port(Address::Inet6, host, &text, port)
            }
        }
    }

    fn with_port<const BYTES: usize>(
        &mut self,
        make: fn([u8; BYTES], u16) -> Address,
        host: [u8; BYTES],
        text: &str,
        port: u16,
    ) -> (Address, Vec<u8>) {
        match self.below(4) {
            0 => (make([0; BYTES], 0), b"*".to_vec()),
            1 => (make([0; BYTES], port), format!("*:{port}").into_bytes()),
            2 => (make(host, 0), text.as_bytes().to_vec()),
            _ => (make(host, port), format!("{text}:{port}").into_bytes()),
        }
    }

    fn socket_spec(&mut self) -> SocketSpec {
        let domain = self.domain();
        let address = self.optional(|it| it.address(domain));
        let listen = if address.is_some() { self.optional(Self::backlog) } else { None };
        let (bind, address_text) = address.unzip();
        SocketSpec {
            domain,
            kind: self.socket_type(),
            bind,
            address_text: address_text.unwrap_or_default(),
            listen,
            nonblock: self.coin(),
            mkdir: domain == Domain::Unix && self.coin(),
        }
    }

    fn handle_report(&mut self) -> HandleReport {
        let kind = match self.below(4) {
            0 => HandleKind::File(self.open_flags()),
            1 => HandleKind::Special(self.open_flags()),
            2 => HandleKind::Pipe {
                end: self.pick(&[PipeEnd::From, PipeEnd::To]),
                spec: self.pipe_spec(),
            },
            _ => HandleKind::Socket {
                domain: self.domain(),
                kind: self.socket_type(),
                bind: self.coin(),
                listen: self.optional(Self::backlog),
                mkdir: self.coin(),
                nonblock: self.coin(),
            },
        };
        HandleReport { name: self.handle_name(), kind, description: self.bytes(40) }
    }

    fn slots(&mut self) -> Vec<FdSlot> {
        let slot = |it: &mut Self| match it.below(3) {
            0 => FdSlot::Closed,
            1 => FdSlot::Skipped,
            _ => FdSlot::Handle(it.handle_name()),
        };
        (0..self.below(6)).map(|_| slot(self)).collect()
    }

    fn trigger_words(&mut self) -> Vec<Vec<u8>> {
        let all = ["always", "TERM", "SIGTERM", "SIGUSR1", "HUP", "15", "0", "65535", "64"];
        (0..self.below(5)).map(|_| self.pick(&all).as_bytes().to_vec()).collect()
    }

    fn triggers(&mut self) -> Triggers {
        words::triggers(self.trigger_words()).unwrap()
    }

    fn interval(&mut self) -> u32 {
        1 + self.u32() % words::INTERVAL_SECONDS_MAX
    }

    fn integer(&mut self) -> i64 {
        self.number().cast_signed()
    }

    fn filter_change(&mut self) -> FilterChange {
        match self.below(4) {
            0 => FilterChange::Show,
            1 => FilterChange::Less,
            2 => FilterChange::More,
            _ => FilterChange::To(self.pick(&LogLevel::ALL)),
        }
    }

    /// One of the kinds of command that an extended connection takes.
    pub(crate) fn command(&mut self, kind: u64) -> Command {
        match kind % COMMANDS {
            kind @ 0..18 => self.command_for_the_proxy(kind),
            kind => self.command_for_a_service(kind - 18),
        }
    }

    fn command_for_the_proxy(&mut self, kind: u64) -> Command {
        match kind {
            0 => Command::Echo { text: self.bytes(30) },
            1 => Command::StateDump,
            2 => Command::WatchLogs { on: self.coin() },
            3 => Command::WatchStarts { on: self.coin() },
            4 => Command::Exit,
            5 => Command::Terminate {
                code: self.below(256) as u8,
                guard: self.optional(Self::integer),
            },
            6 => Command::TerminateGuard { set: self.coin(), code: self.integer() },
            7 => Command::TerminateExec { arguments: self.arguments() },
            8 => Command::Chdir { path: self.path() },
            9 => Command::LogFilter { change: self.filter_change() },
            10 => Command::LogDestination { handle: self.handle_name() },
            11 => Command::SocketCreate { path: self.path() },
            12 => Command::SocketDelete,
            13 => {
                let mut flags = self.open_flags();
                flags.read |= !flags.write;
                Command::HandleOpen { name: self.handle_name(), flags, path: self.path() }
            }
            14 => {
                let (read, write) = (self.handle_name(), HandleName::new("other").unwrap());
                Command::HandlePipe { read, write, spec: self.pipe_spec() }
            }
            15 => Command::HandleSocket { name: self.handle_name(), spec: self.socket_spec() },
            16 => Command::HandleTake { name: self.handle_name() },
            _ => Command::HandleDelete { name: self.handle_name() },
        }
    }

    fn command_for_a_service(&mut self, kind: u64) -> Command {
        let name = self.name();
        match kind {
            0 => Command::SignalClear { signal: self.signal(), count: self.number() },
            1 => Command::ServiceArgs { name, arguments: self.arguments() },
            2 => Command::ServiceTags { name, tags: self.list() },
            3 => Command::ServiceSet { name, attributes: self.attributes().into() },
            4 => Command::ServiceEnv { name, environment: self.environment() },
            5 => Command::ServiceLog { name, log: self.log() },
            6 => Command::ServiceFds { name, slots: self.slots() },
            7 => {
                let seconds = self.optional(Self::interval);
                Command::ServiceAutoUp { name, seconds, triggers: self.triggers() }
            }
            8 => Command::ServiceStart {
                name,
                expected: self.optional(Self::generation),
                at: self.optional(Self::instant),
            },
            9 => Command::ServiceCancel { name },
            10 => Command::ServiceStop {
                name,
                expected: self.generation(),
                other: self.optional(|it| (it.signal(), it.milliseconds())),
            },
            11 => Command::ServiceSignal {
                name,
                expected: self.optional(Self::generation),
                signal: SignalNumber(self.below(65_536) as u16 >> self.below(16)),
                scope: self.pick(&[Scope::Main, Scope::All, Scope::ProcessGroup]),
            },
            12 => {
                let mut arguments = self.arguments();
                arguments.push(b"x".to_vec());
                let deadline = Duration::from_millis(self.number().max(1));
                Command::ServiceExec { name, deadline, arguments }
            }
            13 => {
                let (key, value) = self.note();
                Command::ServiceNote { name, key, value }
            }
            14 => Command::ServiceAck { name, generation: self.generation() },
            15 => Command::ServiceLease { name, expected: self.generation(), lease: self.lease() },
            _ => Command::ServiceDelete { name },
        }
    }

    /// A command, with a number or without one.
    pub(crate) fn request(&mut self, kind: u64) -> Request {
        let command = self.command(kind);
        if self.below(4) == 0 {
            Request::Unnumbered(command)
        } else {
            Request::Numbered(RequestId(self.number()), command)
        }
    }

    fn run_report(&mut self) -> RunReport {
        RunReport {
            name: self.name(),
            generation: self.generation(),
            state: self.pick(&RunState::ALL),
            at: self.instant(),
            pid: self.optional(Self::pid),
            ended: self.optional(|it| it.run_end()),
            started: None,
            ended_at: None,
        }
    }

    fn event(&mut self, kind: u64) -> Event {
        let name = self.name();
        match kind {
            0 | 1 => Event::Run(self.run_report()),
            2 => Event::Invocation {
                name,
                generation: self.generation(),
                id: u128::from(self.number()) << 64 | u128::from(self.next()),
            },
            3 => Event::Notify {
                name,
                generation: self.generation(),
                pid: self.pid(),
                text: self.bytes(NOTIFY_BYTES_MAX as u64),
            },
            4 => Event::Output {
                name,
                stream: self.pick(&[Stream::Out, Stream::Err]),
                offset: self.number(),
            },
            5 => Event::OutputBlocked { name, errno: self.optional(|it| it.spawn_failure().errno) },
            6 => Event::Args(name, self.arguments()),
            7 => Event::Tags(name, self.list()),
            8 => Event::Set(name, self.attributes().into()),
            9 => Event::Env(name, self.environment()),
            10 => Event::Log(name, self.log()),
            11 => {
                let triggers = self.trigger_words();
                let seconds = if triggers.is_empty() { 0 } else { self.interval() };
                Event::AutoUp(name, seconds, triggers)
            }
            12 => {
                let (key, value) = self.note();
                Event::Note(name, key, value)
            }
            13 => Event::Deleted(name),
            14 => Event::Signal { signal: self.signal(), at: self.instant(), count: self.number() },
            15 => Event::Fds(name, self.slots()),
            16 => Event::Handle(self.handle_report()),
            17 => Event::HandleDeleted(self.handle_name()),
            18 => Event::LogFilter(self.pick(&LogLevel::ALL)),
            19 => Event::Lease(name, self.generation(), self.lease()),
            20 => Event::Ended {
                name,
                generation: self.generation(),
                at: self.optional(|it| Instant::from_nanos(it.number().max(1))),
                end: self.run_end(),
            },
            _ => Event::DumpEnd { sequence: self.number() },
        }
    }

    fn run_end(&mut self) -> RunEnd {
        match self.below(3) {
            0 => RunEnd::Exit(self.exit()),
            1 => RunEnd::Failed(self.spawn_failure()),
            _ => RunEnd::Cancelled,
        }
    }

    fn lease(&mut self) -> Lease {
        let success = |it: &mut Self| match it.coin() {
            true => ExpectedEnd::Code(it.below(256) as u8),
            false => ExpectedEnd::Signal(it.signal()),
        };
        Lease {
            after: self.pick(&[LeaseAfter::Any, LeaseAfter::Failure]),
            successes: (0..self.below(4)).map(|_| success(self)).collect(),
            delays: (0..self.below(17)).map(|_| self.milliseconds()).collect(),
        }
    }

    fn reply(&mut self, kind: u64) -> Reply {
        match kind {
            0 => Reply::Ok,
            1 => {
                Reply::Exec { exit: self.exit(), output: self.bytes(EXEC_OUTPUT_BYTES_MAX as u64) }
            }
            _ => Reply::Fail(Fail {
                kind: self.pick(&FailKind::ALL),
                spawn: self.optional(Self::spawn_failure),
                text: self.text(),
            }),
        }
    }

    /// One of the kinds of message.
    pub(crate) fn message(&mut self, kind: u64) -> Message {
        match kind % MESSAGES {
            event @ 0..22 => Message::Event(self.event(event)),
            22 => Message::ProtoAccepted {
                version: self.u32(),
                features: (0..self.below(4)).map(|_| self.text()).collect(),
            },
            23 => Message::Text(self.bytes(30)),
            24 => Message::Error(self.text()),
            reply => Message::Reply(RequestId(self.number()), self.reply(reply - 25)),
        }
    }
}
