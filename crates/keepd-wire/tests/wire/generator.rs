//! A deterministic source of every command and message that can be said.

use std::time::Duration;

use keepd_model::protocol::{
    Attributes, Command, EXEC_OUTPUT_BYTES_MAX, Environment, EnvironmentChange, Event, Fail,
    FailKind, LogTarget, Message, NOTIFY_BYTES_MAX, Place, Reply, Request, RequestId, RunEnd,
    RunReport, RunState, Scope, Stream,
};
use keepd_model::{
    Errno, Exit, Generation, Instant, KillMode, Pid, ServiceName, Signal, SpawnFailure, SpawnStep,
};

/// How many kinds of command [`Generator::command`] makes.
pub(crate) const COMMANDS: u64 = 18;
/// How many kinds of message [`Generator::message`] makes.
pub(crate) const MESSAGES: u64 = 24;

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
            place: self.pick(&[Place::Service, Place::Own]),
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

    /// One of the kinds of command that an extended connection can number.
    pub(crate) fn command(&mut self, kind: u64) -> Command {
        let name = self.name();
        match kind % COMMANDS {
            0 => Command::Echo { text: self.bytes(30) },
            1 => Command::StateDump,
            2 => Command::WatchLogs { on: self.coin() },
            3 => Command::Exit,
            4 => Command::Terminate { code: self.below(256) as u8 },
            5 => Command::SignalClear { signal: self.signal(), count: self.number() },
            6 => Command::ServiceArgs { name, arguments: self.arguments() },
            7 => Command::ServiceTags { name, tags: self.list() },
            8 => Command::ServiceSet { name, attributes: self.attributes() },
            9 => Command::ServiceEnv { name, environment: self.environment() },
            10 => Command::ServiceLog { name, log: self.log() },
            11 => Command::ServiceAutoUp {
                name,
                seconds: self.optional(|it| 1 + it.u32() % (i32::MAX as u32)),
                always: self.coin(),
            },
            12 => Command::ServiceStart { name, expected: self.optional(Self::generation) },
            13 => Command::ServiceStop {
                name,
                expected: self.generation(),
                other: self.optional(|it| (it.signal(), it.milliseconds())),
            },
            14 => Command::ServiceSignal {
                name,
                expected: self.optional(Self::generation),
                signal: self.signal(),
                scope: self.pick(&[Scope::Main, Scope::All]),
            },
            15 => {
                let mut arguments = self.arguments();
                arguments.push(b"x".to_vec());
                Command::ServiceExec {
                    name,
                    deadline: Duration::from_millis(self.number().max(1)),
                    arguments,
                }
            }
            16 => {
                let (key, value) = self.note();
                Command::ServiceNote { name, key, value }
            }
            _ => Command::ServiceDelete { name },
        }
    }

    /// A numbered command.
    pub(crate) fn request(&mut self, kind: u64) -> Request {
        Request::Numbered(RequestId(self.number()), self.command(kind))
    }

    fn run_report(&mut self) -> RunReport {
        RunReport {
            name: self.name(),
            generation: self.generation(),
            state: self.pick(&RunState::ALL),
            at: self.instant(),
            pid: self.optional(Self::pid),
            ended: self.optional(|it| {
                if it.coin() { RunEnd::Exit(it.exit()) } else { RunEnd::Failed(it.spawn_failure()) }
            }),
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
            8 => Event::Set(name, self.attributes()),
            9 => Event::Env(name, self.environment()),
            10 => Event::Log(name, self.log()),
            11 => Event::AutoUp(name, self.optional(|it| it.u32())),
            12 => {
                let (key, value) = self.note();
                Event::Note(name, key, value)
            }
            13 => Event::Deleted(name),
            14 => Event::Signal { signal: self.signal(), at: self.instant(), count: self.number() },
            _ => Event::DumpEnd { sequence: self.number() },
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
            event @ 0..16 => Message::Event(self.event(event)),
            16 => Message::ProtoAccepted {
                version: self.u32(),
                features: (0..self.below(4)).map(|_| self.text()).collect(),
            },
            17 => Message::Text(self.bytes(30)),
            18 => Message::PlainError(self.text()),
            19 => Message::Overflow,
            reply => Message::Reply(RequestId(self.number()), self.reply(reply - 20)),
        }
    }
}
