//! A stand-in for the proxy: it speaks the protocol, and its services do what they are told.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Event, LogTarget, Message, Reply, Request, RequestId, RunEnd,
    RunReport, RunState, Stream, VERSION,
};
use keepd_model::{Exit, Generation, Pid, ServiceName, Signal};
use keepd_os::clock::{monotonic_now, wall_now_ns};
use keepd_wire::index::{IndexKind, IndexRecord, encode_record};
use keepd_wire::{Line, LineReader};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// What the stand-in knows of a service.
#[derive(Default)]
struct Held {
    generation: Generation,
    up: bool,
    log: Option<LogTarget>,
    notes: BTreeMap<String, Vec<u8>>,
}

/// The stand-in.
pub(super) struct StandIn {
    listener: UnixListener,
    stream: Option<UnixStream>,
    lines: LineReader,
    services: BTreeMap<ServiceName, Held>,
    dumps: u64,
    /// Every command, in order.
    pub(super) received: Vec<Command>,
}

impl StandIn {
    pub(super) fn listen(path: &Path) -> Self {
        Self {
            listener: UnixListener::bind(path).unwrap(),
            stream: None,
            lines: LineReader::new(EXTENDED_LINE_BYTES_MAX),
            services: BTreeMap::new(),
            dumps: 0,
            received: Vec::new(),
        }
    }

    /// Does what it is told, for ever.
    pub(super) async fn run(&mut self) {
        loop {
            self.step().await;
        }
    }

    /// Does what it is told until this was seen.
    pub(super) async fn run_until(&mut self, mut seen: impl FnMut(&Command) -> bool) {
        let mut looked = 0;
        let work = async {
            loop {
                while let Some(command) = self.received.get(looked) {
                    looked += 1;
                    if seen(command) {
                        return;
                    }
                }
                self.step().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), work).await.expect("the command comes");
    }

    /// Cuts the connection.
    pub(super) fn hang_up(&mut self) {
        self.stream = None;
        self.lines = LineReader::new(EXTENDED_LINE_BYTES_MAX);
    }

    /// Waits until a command that begins with this word is in the socket, and answers nothing.
    pub(super) async fn expect(&mut self, word: &str) {
        while !self.is_waiting(word) {
            self.stream.as_ref().unwrap().readable().await.unwrap();
        }
    }

    /// Reports whether a command that is in the socket now begins with this word.
    fn is_waiting(&mut self, word: &str) -> bool {
        let mut buffer = vec![0; 65_536];
        let count = self.stream.as_ref().unwrap().try_read(&mut buffer).unwrap_or(0);
        let found = buffer[..count].split(|byte| *byte == b'\n').any(|line| {
            let mut fields = line.split(|byte| *byte == b'\t');
            fields.nth(1) == Some(word.as_bytes())
        });
        self.lines.push(&buffer[..count]);
        found
    }

    /// Takes a connection, or what came on the one that is there.
    async fn step(&mut self) {
        let Some(stream) = &self.stream else {
            self.stream = Some(self.listener.accept().await.unwrap().0);
            return;
        };
        if let Some(line) = self.lines.next_line() {
            let Line::Complete(line) = line else { panic!("a line is too long") };
            // The line that makes a plain connection an extended one.
            if line.starts_with(b"proto\t") {
                self.received.push(Command::Proto { version: VERSION });
                let features = Vec::new();
                self.send(&[Message::ProtoAccepted { version: VERSION, features }]).await;
                return;
            }
            let request = keepd_wire::decode_request(&line).unwrap().unwrap();
            let answer = self.answer(request);
            self.send(&answer).await;
            return;
        }
        stream.readable().await.unwrap();
        let mut buffer = vec![0; 65_536];
        match stream.try_read(&mut buffer) {
            Ok(0) => self.hang_up(),
            Ok(count) => self.lines.push(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }

    /// Sends messages.
    pub(super) async fn send(&mut self, messages: &[Message]) {
        let mut bytes = Vec::new();
        for message in messages {
            keepd_wire::encode_message(message, &mut bytes);
        }
        if let Some(stream) = &mut self.stream {
            // The manager may have ended; then nobody listens.
            let _ = stream.write_all(&bytes).await;
        }
    }

    /// Sends READY=1 of the present run of a service.
    pub(super) async fn say_ready(&mut self, name: &str) {
        let name = ServiceName::new(name).unwrap();
        let generation = self.services[&name].generation;
        let (pid, text) = (pid(generation), b"READY=1\nSTATUS=at work".to_vec());
        self.send(&[Message::Event(Event::Notify { name, generation, pid, text })]).await;
    }

    fn answer(&mut self, request: Request) -> Vec<Message> {
        let (id, command) = match request {
            Request::Unnumbered(command) => panic!("{command:?} has no number"),
            Request::Numbered(id, command) => (id, command),
        };
        self.received.push(command.clone());
        let mut events = Vec::new();
        match command {
            Command::StateDump => return self.dump(id),
            Command::ServiceStart { name, .. } => self.start(&name, &mut events),
            Command::ServiceStop { name, .. } => self.stop(&name, &mut events),
            Command::ServiceDelete { name } => {
                self.services.remove(&name);
                events.push(Event::Deleted(name));
            }
            Command::ServiceLog { name, log } => self.held(&name).log = Some(log),
            Command::ServiceNote { name, key, value } => {
                self.held(&name).notes.insert(key, value);
            }
            Command::ServiceArgs { name, .. }
            | Command::ServiceTags { name, .. }
            | Command::ServiceSet { name, .. }
            | Command::ServiceEnv { name, .. } => {
                self.held(&name);
            }
            other => drop(other),
        }
        let events = events.into_iter().map(Message::Event);
        std::iter::once(Message::Reply(id, Reply::Ok)).chain(events).collect()
    }

    fn held(&mut self, name: &ServiceName) -> &mut Held {
        self.services.entry(name.clone()).or_default()
    }

    fn dump(&mut self, id: RequestId) -> Vec<Message> {
        let mut events = Vec::new();
        for (name, held) in &self.services {
            if let Some(log) = &held.log {
                events.push(Event::Log(name.clone(), log.clone()));
            }
            for (key, value) in &held.notes {
                events.push(Event::Note(name.clone(), key.clone(), value.clone()));
            }
            let state = if held.up { RunState::Up } else { RunState::Down };
            events.push(report(name, held.generation, state));
        }
        self.dumps += 1;
        events.push(Event::DumpEnd { sequence: self.dumps });
        let reply = std::iter::once(Message::Reply(id, Reply::Ok));
        events.into_iter().map(Message::Event).chain(reply).collect()
    }

    /// Starts a service, which says hello at once.
    fn start(&mut self, name: &ServiceName, events: &mut Vec<Event>) {
        let held = self.held(name);
        held.generation = held.generation.next();
        held.up = true;
        let generation = held.generation;
        let dir = log_dir(held);
        events.push(Event::Invocation { name: name.clone(), generation, id: 7 });
        events.push(report(name, generation, RunState::Forked));
        events.push(report(name, generation, RunState::Up));
        if let Some(dir) = dir {
            write_line(&dir, generation, "hello");
            let (name, stream) = (name.clone(), Stream::Out);
            events.push(Event::Output { name, stream, offset: 6 });
        }
    }

    /// Stops a service, which says something at the end that no event tells of.
    fn stop(&mut self, name: &ServiceName, events: &mut Vec<Event>) {
        let held = self.held(name);
        held.up = false;
        let generation = held.generation;
        if let Some(dir) = log_dir(held) {
            write_line(&dir, generation, "goodbye");
        }
        events.push(report(name, generation, RunState::Stopping));
        events.push(report(name, generation, RunState::Down));
    }
}

fn log_dir(held: &Held) -> Option<PathBuf> {
    match &held.log {
        Some(LogTarget::File { dir, .. }) => Some(String::from_utf8(dir.clone()).unwrap().into()),
        Some(LogTarget::Null | LogTarget::Inherit | LogTarget::Append { .. }) | None => None,
    }
}

fn pid(generation: Generation) -> Pid {
    Pid::new(1_000 + u32::try_from(generation.get()).unwrap()).unwrap()
}

fn report(name: &ServiceName, generation: Generation, state: RunState) -> Event {
    let ended = Exit::Signal { signal: Signal::TERM, core: false };
    let has_run = generation != Generation::NONE;
    Event::Run(RunReport {
        name: name.clone(),
        generation,
        state,
        at: monotonic_now(),
        pid: has_run.then(|| pid(generation)),
        ended: (has_run && state == RunState::Down).then_some(RunEnd::Exit(ended)),
        started: None,
        ended_at: None,
    })
}

/// Writes a line as the pump would.
fn write_line(dir: &Path, generation: Generation, text: &str) {
    let append = |file: &str, bytes: &[u8]| {
        let file = OpenOptions::new().append(true).create(true).open(dir.join(file));
        file.unwrap().write_all(bytes).unwrap();
    };
    let offset = fs::metadata(dir.join("out.log")).map_or(0, |found| found.len());
    let line = format!("{text}\n");
    append("out.log", line.as_bytes());
    let record = IndexRecord {
        kind: IndexKind::Chunk,
        stream: Stream::Out,
        offset,
        length_bytes: u32::try_from(line.len()).unwrap(),
        generation,
        monotonic: monotonic_now(),
        wall: Duration::from_nanos(wall_now_ns()),
    };
    append("index", &encode_record(&record));
}
