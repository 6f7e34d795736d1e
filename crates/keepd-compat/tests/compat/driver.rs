//! A front end, a core, and a shell that only pretends: effects succeed unless told otherwise,
//! processes are numbers. Lines are written with `⇥` for a tab.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepd_compat::{Client, FRONT, Front, Limits, Output};
use keepd_engine::proxy::{
    CallFailure, ConnectionId, Effect, Input, Output as CoreOutput, Owner, Performed, Proxy,
    ServiceSpawn, Settings, SpawnOutcome,
};
use keepd_model::protocol::{Command, Message, PLAIN_LINE_BYTES_MAX, Request, RequestId};
use keepd_model::{
    Errno, Exit, HandleKind, HandleName, HandleReport, Instant, LogLevel, OpenFlags, Pid, Signal,
    SpawnFailure, SpawnStep,
};
use keepd_wire::{Line, LineReader};

/// The client of most stories.
pub(crate) const BOSS: ConnectionId = ConnectionId(1);
/// A second one.
pub(crate) const OTHER: ConnectionId = ConnectionId(2);
/// One without output.
pub(crate) const FILE: ConnectionId = ConnectionId(3);
/// An extended connection.
pub(crate) const MANAGER: ConnectionId = ConnectionId(9);
/// When it is tried again to make a process.
pub(crate) const FRONT_RETRY: Duration = Duration::from_secs(3);

/// Everything that a turn of a shell has in hand.
pub(crate) struct Driver {
    pub(crate) front: Front,
    pub(crate) core: Proxy,
    pub(crate) now: Instant,
    readers: BTreeMap<ConnectionId, LineReader>,
    /// What the proxy's own log got.
    pub(crate) log: Vec<(LogLevel, String)>,
    /// What was closed, and what became an extended connection with which bytes before it.
    pub(crate) closed: BTreeSet<ConnectionId>,
    pub(crate) upgraded: Vec<(ConnectionId, String)>,
    /// What extended connections were told.
    pub(crate) messages: Vec<Message>,
    /// What was started, with its process.
    pub(crate) spawns: Vec<(ServiceSpawn, Option<Pid>)>,
    /// Every effect, and how the next ones go.
    pub(crate) effects: Vec<Effect>,
    pub(crate) effect_failure: Option<CallFailure>,
    pub(crate) cannot_clone: bool,
    /// Who asked when a descriptor was taken.
    pub(crate) taken_from: Option<ConnectionId>,
    pub(crate) exit_code: Option<u8>,
    /// How the next service is connected, if its list names a control handle.
    pub(crate) control: Option<ConnectionId>,
    next_pid: u32,
}

fn handle(name: &str, kind: HandleKind, description: &str) -> HandleReport {
    HandleReport {
        name: HandleName::new(name).unwrap(),
        kind,
        description: description.as_bytes().to_vec(),
    }
}

fn built_in() -> Vec<HandleReport> {
    let both = OpenFlags { read: true, write: true, ..OpenFlags::default() };
    let mut handles = vec![handle("null", HandleKind::Special(both), "/dev/null")];
    for name in ["stdin", "stdout", "stderr"] {
        handles.push(handle(name, HandleKind::File(both), "unknown"));
    }
    handles
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn tabs(text: &str) -> Vec<u8> {
    text.replace('⇥', "\t").into_bytes()
}

impl Driver {
    /// Returns a shell at 1,182.9 s with [`BOSS`] connected.
    pub(crate) fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let settings =
            Settings { handles: built_in(), log_filter: LogLevel::Debug, ..Settings::default() };
        let mut driver = Self {
            front: Front::new(limits),
            core: Proxy::new(settings),
            now: Instant::from_nanos(1_182_900_000_000),
            readers: BTreeMap::new(),
            log: Vec::new(),
            closed: BTreeSet::new(),
            upgraded: Vec::new(),
            messages: Vec::new(),
            spawns: Vec::new(),
            effects: Vec::new(),
            effect_failure: None,
            cannot_clone: false,
            taken_from: None,
            exit_code: None,
            control: None,
            next_pid: 16_787,
        };
        driver.give(Input::Connected { connection: FRONT, output: true });
        driver.connect(BOSS, Client::Both);
        driver
    }

    pub(crate) fn connect(&mut self, id: ConnectionId, client: Client) {
        self.readers.insert(id, LineReader::new(PLAIN_LINE_BYTES_MAX));
        self.front.connected(self.now, &self.core, id, client);
        self.settle();
    }

    /// Gives the core an input and does all that comes of it.
    pub(crate) fn give(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.settle();
    }

    /// Sends lines of a client, the last line feed included, without reading what it is told.
    pub(crate) fn send(&mut self, id: ConnectionId, text: &str) {
        let mut bytes = tabs(text);
        bytes.push(b'\n');
        self.send_bytes(id, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.readers.get_mut(&id).unwrap().push(bytes);
        self.run_lines();
    }

    /// Runs every line that may be run.
    pub(crate) fn run_lines(&mut self) {
        let ids: Vec<ConnectionId> = self.readers.keys().copied().collect();
        for id in ids {
            while self.exit_code.is_none() && self.front.is_ready(id) {
                let line: Option<Line> = self.readers.get_mut(&id).unwrap().next_line();
                let Some(line) = line else { break };
                self.front.handle_line(self.now, &self.core, id, &line);
                self.settle();
            }
        }
    }

    /// Sends lines and returns everything the client is told.
    pub(crate) fn say(&mut self, id: ConnectionId, text: &str) -> String {
        self.send(id, text);
        self.heard(id)
    }

    /// Takes what waits for a client until nothing does, running its lines meanwhile.
    pub(crate) fn heard(&mut self, id: ConnectionId) -> String {
        let mut heard = Vec::new();
        while !self.front.output(id).is_empty() {
            let piece = self.front.output(id).len().min(700);
            heard.extend_from_slice(&self.front.output(id)[..piece]);
            self.front.written(self.now, &self.core, id, piece);
            self.run_lines();
        }
        String::from_utf8(heard).unwrap().replace('\t', "⇥")
    }

    /// Says that nobody took anything of a client's output.
    pub(crate) fn blocked(&mut self, id: ConnectionId) {
        self.front.written(self.now, &self.core, id, 0);
    }

    pub(crate) fn end(&mut self, id: ConnectionId, rest: &str) {
        self.front.handle_end(self.now, &self.core, id, &tabs(rest));
        self.settle();
    }

    /// Does what both machines ask for until neither asks for more.
    pub(crate) fn settle(&mut self) {
        loop {
            self.settle_core();
            let Some(output) = self.front.poll_output() else { break };
            match output {
                Output::Ask(request) => {
                    let input = Input::Request { connection: FRONT, request };
                    self.core.handle_input(self.now, input);
                }
                Output::Upgrade { connection } => {
                    let before = String::from_utf8(self.front.output(connection).to_vec()).unwrap();
                    self.upgraded.push((connection, before));
                    self.front.disconnected(connection);
                    self.readers.remove(&connection);
                    let input = Input::Connected { connection, output: true };
                    self.core.handle_input(self.now, input);
                }
                Output::Close { connection } => {
                    self.closed.insert(connection);
                }
                Output::Log { level, text } => self.log.push((level, text)),
            }
        }
    }

    fn settle_core(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                CoreOutput::Send { connection: FRONT, message } => {
                    self.front.handle_message(self.now, &self.core, &message);
                }
                CoreOutput::Send { message, .. } => self.messages.push(message),
                CoreOutput::Spawn(spawn) => self.spawn(*spawn),
                CoreOutput::Perform { ticket, effect } => {
                    let outcome = self.perform(effect);
                    self.core.handle_input(self.now, Input::Performed { ticket, outcome });
                }
                CoreOutput::Log { level, text } => self.log.push((level, text)),
                CoreOutput::Terminate { code } => self.exit_code = Some(code),
                CoreOutput::Close { .. }
                | CoreOutput::SpawnJob(_)
                | CoreOutput::SignalMain { .. }
                | CoreOutput::SignalGroup { .. }
                | CoreOutput::WatchGroup { .. }
                | CoreOutput::LeaveGroup { .. }
                | CoreOutput::Forget { .. }
                | CoreOutput::WatchOutput { .. }
                | CoreOutput::CloseDescriptor { .. }
                | CoreOutput::StopListening
                | CoreOutput::LogTo { .. }
                | CoreOutput::LogFilter { .. }
                | CoreOutput::ExitExec { .. }
                | CoreOutput::Record { .. }
                | CoreOutput::Acknowledge { .. }
                | CoreOutput::Guarded { .. } => {}
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Result<Performed, CallFailure> {
        if let Some(failure) = self.effect_failure.take() {
            return Err(failure);
        }
        let is_take = matches!(effect, Effect::Take { .. });
        self.effects.push(effect);
        if is_take {
            self.taken_from = self.front.asking();
            let read = OpenFlags { read: true, ..OpenFlags::default() };
            return Ok(Performed::Taken(HandleKind::File(read)));
        }
        Ok(Performed::Done)
    }

    fn spawn(&mut self, spawn: ServiceSpawn) {
        let owner = Owner::Service(spawn.name.clone(), spawn.generation);
        let outcome = if self.cannot_clone {
            Err(SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN })
        } else {
            self.next_pid += 1;
            Ok(Pid::new(self.next_pid).unwrap())
        };
        if let Some(id) = self.control.take() {
            self.readers.insert(id, LineReader::new(PLAIN_LINE_BYTES_MAX));
            self.front.connected_service(self.now, &self.core, id, Client::Both, &spawn.name);
        }
        self.spawns.push((spawn, outcome.ok()));
        self.core.handle_input(self.now, Input::Spawned { owner, outcome });
    }

    /// The last process executes its program, or could not.
    pub(crate) fn report(&mut self, outcome: SpawnOutcome) {
        let (spawn, _) = self.spawns.last().unwrap();
        let owner = Owner::Service(spawn.name.clone(), spawn.generation);
        self.give(Input::Report { owner, outcome });
    }

    /// Returns the process of the last start.
    pub(crate) fn last_pid(&self) -> Pid {
        self.spawns.last().and_then(|(_, pid)| *pid).unwrap()
    }

    pub(crate) fn reap(&mut self, pid: Pid, exit: Exit) {
        self.give(Input::Reaped { pid, exit });
    }

    pub(crate) fn signal(&mut self, signal: Signal, count: u64) {
        self.give(Input::Signal { signal, count });
    }

    /// Lets time pass, with every timeout of either machine at its time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        loop {
            let due = [self.core.poll_timeout(), self.front.poll_timeout()];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.core.handle_timeout(self.now);
            self.front.handle_timeout(self.now);
            assert!(self.front.poll_timeout().is_none_or(|next| next > self.now));
            self.settle();
            self.run_lines();
        }
        self.now = end;
    }

    /// An extended connection asks for something.
    pub(crate) fn manager_asks(&mut self, number: u64, command: Command) {
        let request = Request::Numbered(RequestId(number), command);
        self.give(Input::Request { connection: MANAGER, request });
    }

    pub(crate) fn connect_manager(&mut self) {
        self.give(Input::Connected { connection: MANAGER, output: true });
    }

    /// Returns the texts of the log at a level, and forgets all of it.
    pub(crate) fn logged(&mut self, level: LogLevel) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        log.into_iter().filter(|(found, _)| *found == level).map(|(_, text)| text).collect()
    }

    /// Returns the names of the services there are.
    pub(crate) fn services(&self) -> Vec<String> {
        self.core.services().map(|service| service.name.to_string()).collect()
    }

    /// Returns the lines of a dump that begin with these words.
    pub(crate) fn dumped(&mut self, start: &str) -> String {
        let dump = self.say(BOSS, "statedump");
        let lines = dump.lines().filter(|line| line.starts_with(start));
        lines.map(|line| format!("{line}\n")).collect()
    }
}
