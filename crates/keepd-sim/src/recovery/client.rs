//! A client that knows what it wants of each service, asks for it, and asks again after a cut.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_engine::proxy::ConnectionId;
use keepd_model::protocol::{
    Command, Event, Lease, Message, Reply, Request, RequestId, RunEnd, RunReport, RunState,
};
use keepd_model::{Generation, Instant, ServiceName};
use keepd_wire::{decode_message, encode_request};

use super::cells::Shared;
use super::kernel::Socket;

/// The key of every note.
const KEY: &str = "wish";

/// What somebody wants of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Goal {
    pub(crate) wanted: Option<bool>,
    /// The definition, by a number that is among its arguments.
    pub(crate) version: u64,
    pub(crate) note: Vec<u8>,
    pub(crate) lease: Option<Lease>,
    pub(crate) is_deleted: bool,
    sent_version: u64,
    known_version: u64,
    sent_note: Vec<u8>,
    known_note: Vec<u8>,
    asked: Option<RequestId>,
    /// Not before.
    retry_at: Instant,
    acknowledge: Option<Generation>,
    acknowledged: Generation,
}

/// What the proxy says of a service.
#[derive(Clone, Debug)]
struct View {
    generation: Generation,
    state: RunState,
    version: u64,
    note: Vec<u8>,
}

/// What an answer is about.
#[derive(Clone, Debug)]
enum Ask {
    Dump,
    Define(ServiceName, u64),
    Note(ServiceName, Vec<u8>),
    Lease(ServiceName),
    Start,
    Stop(ServiceName, Generation),
    Acknowledge(ServiceName, Generation),
    Delete(ServiceName),
}

/// The client.
pub(crate) struct Client {
    kernel: Shared,
    socket: Option<ConnectionId>,
    connections: u64,
    requests: u64,
    is_synchronised: bool,
    asks: BTreeMap<RequestId, Ask>,
    pub(crate) goals: BTreeMap<ServiceName, Goal>,
    views: BTreeMap<ServiceName, View>,
}

impl Client {
    pub(crate) fn new(kernel: &Shared) -> Self {
        Self {
            kernel: Shared::clone(kernel),
            socket: None,
            connections: 0,
            requests: 0,
            is_synchronised: false,
            asks: BTreeMap::new(),
            goals: BTreeMap::new(),
            views: BTreeMap::new(),
        }
    }

    /// Somebody wants something else. Of a service that is being deleted nobody wants anything.
    pub(crate) fn change(&mut self, name: &ServiceName, change: impl FnOnce(&mut Goal)) {
        let goal = self.goal(name);
        if !goal.is_deleted {
            change(goal);
        }
    }

    fn goal(&mut self, name: &ServiceName) -> &mut Goal {
        let new = || Goal { version: 1, ..Goal::default() };
        self.goals.entry(name.clone()).or_insert_with(new)
    }

    /// A service is gone; one of its name that is made later is another one.
    fn forget(&mut self, name: &ServiceName) {
        self.goals.remove(name);
        self.views.remove(name);
        self.kernel.borrow_mut().judge.on_deleted(name);
    }

    /// Reads, and asks for what is missing. Reports whether there was anything to do.
    pub(crate) fn turn(&mut self) -> bool {
        let mut did = self.connect();
        while let Some(line) = self.next_line() {
            did = true;
            match decode_message(&line) {
                Ok(Some(message)) => self.on_message(message),
                Ok(None) => {}
                Err(error) => self.breach("R11", format!("the client cannot read: {error}")),
            }
        }
        did |= self.notice_cut();
        if self.is_synchronised {
            let names: Vec<ServiceName> = self.goals.keys().cloned().collect();
            for name in names {
                did |= self.ask_for(&name);
            }
        }
        did
    }

    fn breach(&self, number: &'static str, sentence: String) {
        self.kernel.borrow_mut().judge.breach(number, sentence);
    }

    fn connect(&mut self) -> bool {
        if self.socket.is_some() {
            return false;
        }
        let mut kernel = self.kernel.borrow_mut();
        let Some(proxy) = kernel.proxy.filter(|_| kernel.is_listening) else {
            return false;
        };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        kernel.sockets.insert(id, Socket { proxy, ..Socket::default() });
        drop(kernel);
        self.socket = Some(id);
        self.views.clear();
        self.send(Command::StateDump, Ask::Dump);
        true
    }

    fn next_line(&self) -> Option<Vec<u8>> {
        let mut kernel = self.kernel.borrow_mut();
        kernel.sockets.get_mut(&self.socket?)?.to_client.pop_front()
    }

    /// The proxy at the other end is gone: what was not answered may have been done or not.
    fn notice_cut(&mut self) -> bool {
        let Some(id) = self.socket else {
            return false;
        };
        let mut kernel = self.kernel.borrow_mut();
        let proxy = kernel.proxy;
        if kernel.sockets.get(&id).is_some_and(|socket| Some(socket.proxy) == proxy) {
            return false;
        }
        kernel.sockets.remove(&id);
        kernel.note(|| "the client is cut off".to_owned());
        drop(kernel);
        self.socket = None;
        self.is_synchronised = false;
        self.asks.clear();
        for goal in self.goals.values_mut() {
            goal.asked = None;
        }
        true
    }

    fn send(&mut self, command: Command, ask: Ask) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let mut line = Vec::new();
        encode_request(&Request::Numbered(id, command), &mut line);
        line.pop();
        let mut kernel = self.kernel.borrow_mut();
        kernel.note(|| format!("client: {ask:?}"));
        if let Some(socket) = self.socket.and_then(|id| kernel.sockets.get_mut(&id)) {
            socket.to_proxy.push_back(line);
        }
        drop(kernel);
        self.asks.insert(id, ask);
        id
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.on_event(event),
            Message::Reply(id, reply) => {
                let Some(ask) = self.asks.remove(&id) else {
                    return self.breach("R11", format!("{} is answered twice: {reply:?}", id.0));
                };
                self.on_reply(id, ask, &reply);
            }
            Message::ProtoAccepted { .. } | Message::Text(_) | Message::Error(_) => {}
        }
    }

    fn view(&mut self, name: &ServiceName) -> &mut View {
        self.views.entry(name.clone()).or_insert_with(|| View {
            generation: Generation::NONE,
            state: RunState::Down,
            version: 0,
            note: Vec::new(),
        })
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Run(report) => self.on_run(&report),
            Event::Ended { name, generation, end, .. } => self.on_end(&name, generation, end),
            Event::Args(name, arguments) => {
                let version = arguments.get(1).and_then(|text| std::str::from_utf8(text).ok());
                let version = version.and_then(|text| text.parse().ok()).unwrap_or(0);
                self.view(&name).version = version;
            }
            Event::Note(name, _, value) => self.view(&name).note = value,
            Event::Deleted(name) => _ = self.views.remove(&name),
            Event::DumpEnd { .. } => self.on_dump_end(),
            Event::Invocation { .. }
            | Event::Notify { .. }
            | Event::Output { .. }
            | Event::OutputBlocked { .. }
            | Event::Tags(..)
            | Event::Set(..)
            | Event::Env(..)
            | Event::Log(..)
            | Event::AutoUp(..)
            | Event::Fds(..)
            | Event::Handle(_)
            | Event::HandleDeleted(_)
            | Event::LogFilter(_)
            | Event::Lease(..)
            | Event::Signal { .. } => {}
        }
    }

    fn on_run(&mut self, report: &RunReport) {
        let view = self.view(&report.name);
        view.generation = report.generation;
        view.state = report.state;
        if let Some(end) = report.ended {
            self.on_end(&report.name, report.generation, end);
        }
    }

    fn on_end(&mut self, name: &ServiceName, generation: Generation, end: RunEnd) {
        if name.is_internal() {
            return;
        }
        self.kernel.borrow_mut().judge.on_told(name, generation, end);
        if let Some(goal) = self.goals.get_mut(name)
            && goal.acknowledged < generation
        {
            let last = goal.acknowledge.unwrap_or_default().max(generation);
            goal.acknowledge = Some(last);
        }
    }

    /// R6: what was answered is there.
    fn on_dump_end(&mut self) {
        self.is_synchronised = true;
        let mut missing = None;
        for (name, goal) in &mut self.goals {
            let view = self.views.get(name);
            let version = view.map_or(0, |view| view.version);
            let note = view.map(|view| view.note.clone()).unwrap_or_default();
            let is_gone = goal.is_deleted && view.is_none();
            if !is_gone && ![goal.known_version, goal.sent_version].contains(&version) {
                missing = Some(format!("{name}: the definition is {version}, not {goal:?}"));
            }
            if !is_gone && ![&goal.known_note, &goal.sent_note].contains(&&note) {
                missing = Some(format!("{name}: the note is {note:?}, not {goal:?}"));
            }
            goal.known_version = version;
            goal.sent_version = version;
            goal.known_note.clone_from(&note);
            goal.sent_note = note;
        }
        if let Some(sentence) = missing {
            self.breach("R6", sentence);
        }
        let unknown =
            self.views.keys().find(|name| !name.is_internal() && !self.goals.contains_key(*name));
        if let Some(name) = unknown {
            self.breach("R6", format!("{name} was deleted, and is there again"));
        }
    }

    fn on_reply(&mut self, id: RequestId, ask: Ask, reply: &Reply) {
        let is_ok = *reply == Reply::Ok;
        let now = self.kernel.borrow().now;
        if !is_ok {
            self.kernel.borrow_mut().note(|| format!("client: {ask:?} is refused: {reply:?}"));
        }
        for goal in self.goals.values_mut().filter(|goal| goal.asked == Some(id)) {
            goal.asked = None;
            if !is_ok {
                goal.retry_at = now.saturating_add(Duration::from_millis(20));
                self.kernel.borrow_mut().wake_at(goal.retry_at);
            }
        }
        if !is_ok {
            return;
        }
        match ask {
            Ask::Dump | Ask::Start => {}
            Ask::Define(name, version) => {
                self.view(&name).version = version;
                self.goal(&name).known_version = version;
            }
            Ask::Note(name, note) => self.goal(&name).known_note = note,
            Ask::Lease(name) => self.goal(&name).lease = None,
            Ask::Stop(name, generation) => {
                self.kernel.borrow_mut().judge.on_stop_answered(&name, generation);
            }
            Ask::Acknowledge(name, generation) => {
                let goal = self.goal(&name);
                goal.acknowledged = generation;
                goal.acknowledge = goal.acknowledge.filter(|last| *last > generation);
            }
            Ask::Delete(name) => self.forget(&name),
        }
    }

    /// Asks for the next thing that is missing.
    fn ask_for(&mut self, name: &ServiceName) -> bool {
        let now = self.kernel.borrow().now;
        let goal = self.goals[name].clone();
        if goal.asked.is_some() || goal.retry_at > now {
            return false;
        }
        let view = self.views.get(name).cloned();
        let Some((command, ask)) = next_ask(name, &goal, view.as_ref()) else {
            if goal.is_deleted && view.is_none() {
                self.forget(name);
            }
            return false;
        };
        match &ask {
            Ask::Define(_, version) => self.goal(name).sent_version = *version,
            Ask::Note(_, note) => self.goal(name).sent_note.clone_from(note),
            Ask::Start => self.kernel.borrow_mut().judge.on_start_asked(name),
            Ask::Dump | Ask::Lease(_) | Ask::Stop(..) | Ask::Acknowledge(..) | Ask::Delete(_) => {}
        }
        let id = self.send(command, ask);
        self.goal(name).asked = Some(id);
        true
    }

    /// R5 and R8, at rest.
    pub(crate) fn check_rest(&self) {
        if !self.is_synchronised {
            return self.breach("R8", "nobody answers the client".to_owned());
        }
        for (name, goal) in &self.goals {
            let Some(view) = self.views.get(name) else {
                return self.breach("R8", format!("{name} is not there"));
            };
            let mut kernel = self.kernel.borrow_mut();
            let living = kernel.live_run(name);
            let is_right = match goal.wanted {
                Some(true) => {
                    living.map(|(generation, _)| generation) == Some(view.generation)
                        && view.state == RunState::Up
                }
                Some(false) | None => living.is_none() && view.state == RunState::Down,
            };
            if !is_right {
                let sentence = format!("{name}: {goal:?}, {view:?}, {living:?}");
                kernel.judge.breach("R8", sentence);
                return;
            }
            kernel.judge.check_rest(name, view.generation, living.is_some());
        }
    }
}

fn next_ask(name: &ServiceName, goal: &Goal, view: Option<&View>) -> Option<(Command, Ask)> {
    let name = name.clone();
    let state = view.map_or(RunState::Down, |view| view.state);
    let generation = view.map_or(Generation::NONE, |view| view.generation);
    if let Some(last) = goal.acknowledge
        && view.is_some()
    {
        let command = Command::ServiceAck { name: name.clone(), generation: last };
        return Some((command, Ask::Acknowledge(name, last)));
    }
    if goal.is_deleted && state == RunState::Down {
        let delete = (Command::ServiceDelete { name: name.clone() }, Ask::Delete(name));
        return view.map(|_| delete);
    }
    if goal.known_version != goal.version {
        let version = goal.version;
        let arguments = vec![b"/bin/service".to_vec(), version.to_string().into_bytes()];
        let command = Command::ServiceArgs { name: name.clone(), arguments };
        return Some((command, Ask::Define(name, version)));
    }
    if goal.known_note != goal.note {
        let value = goal.note.clone();
        let ask = Ask::Note(name.clone(), value.clone());
        return Some((Command::ServiceNote { name, key: KEY.to_owned(), value }, ask));
    }
    match (goal.wanted, state) {
        (Some(true), RunState::Down) => {
            let ask = Ask::Start;
            Some((Command::ServiceStart { name, expected: Some(generation), at: None }, ask))
        }
        (Some(true), RunState::Up) => goal.lease.clone().map(|lease| {
            let ask = Ask::Lease(name.clone());
            (Command::ServiceLease { name, expected: generation, lease }, ask)
        }),
        (Some(false), RunState::Up | RunState::Forked | RunState::Pending) => {
            let other = Some((keepd_model::Signal::TERM, Duration::from_millis(100)));
            let ask = Ask::Stop(name.clone(), generation);
            Some((Command::ServiceStop { name, expected: generation, other }, ask))
        }
        (Some(_) | None, _) => None,
    }
}
