//! The shell around the proxy machine: turns, connections with bounded buffers, and the wire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use keepd_compat::{FRONT, Front};
use keepd_engine::proxy::{
    ConnectionId, DescriptorId, Effect, Input, Output, Owner, Proxy, Settings, SpawnOutcome,
};
use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Event, Message, PLAIN_LINE_BYTES_MAX, Reply, Request,
    RequestId, RunEnd, RunState, VERSION,
};
use keepd_model::{
    Exit, Generation, HandleReport, Instant, Pid, ServiceName, Signal, SpawnFailure,
};
use keepd_wire::{FEATURES, Line, LineReader, decode_request, encode_message, encode_request};

use crate::manager::readable;
use crate::plain::PlainConnection;
use crate::random::Random;
use crate::sabotage::Sabotage;
use crate::visitor;
use crate::world::{Due, Step, World, broken};

/// More outputs than this for one input are a loop.
const OUTPUTS_MAX: u32 = 50_000;

/// What the proxy reads before anything else: it starts the manager and keeps it alive.
const BOOT: &str = "proto\tkeepd\t1\n\
    @1\tservice.args\tkeepd.manager\t/keepd\t__manager\n\
    @2\tservice.set\tkeepd.manager\tplace=own\trespawn_ms=0,10,50,200,1000\n\
    @3\tservice.log\tkeepd.manager\tmode=inherit\n\
    @4\tservice.start\tkeepd.manager\t0\n";

/// One connection, as the proxy's shell sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: LineReader,
    /// Its first line asked for the extension; the machine knows it since then.
    is_known: bool,
    /// Written by the machine, not on its way yet.
    out: Vec<u8>,
    /// On its way to the other end.
    in_flight: usize,
    capacity: usize,
    is_full: bool,
    pub(crate) last_at: Instant,
    /// The other end does not read until then.
    pub(crate) stalled_until: Instant,
    /// Commands without an answer, and when they came.
    pub(crate) unanswered: BTreeMap<RequestId, Instant>,
    hears: bool,
}

/// What came on a connection, in the order of arrival.
#[derive(Debug)]
pub(crate) enum Arrival {
    Bytes(ConnectionId, Vec<u8>),
    Drained(ConnectionId),
    Ended(ConnectionId),
    /// Of a plain client.
    Plain(ConnectionId, Vec<u8>),
    /// A plain client leaves; `true`: it still reads.
    PlainEnded(ConnectionId, bool),
}

/// The shell, with the news of the next turn sorted as the machine wants it.
#[derive(Debug)]
pub(crate) struct ProxyShell {
    pub(crate) machine: Proxy,
    /// daemonproxy's language, before the machine.
    pub(crate) front: Front,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) plain: BTreeMap<ConnectionId, PlainConnection>,
    /// What is open for the machine.
    pub(crate) descriptors: BTreeSet<DescriptorId>,
    connections_made: u64,
    spawned: Vec<(Owner, Result<Pid, SpawnFailure>)>,
    pub(crate) reports: Vec<(Owner, SpawnOutcome)>,
    pub(crate) deaths: Vec<Pid>,
    pub(crate) empties: Vec<Owner>,
    pub(crate) notifications: Vec<(ServiceName, Pid, Vec<u8>)>,
    /// Generations that wrote a line feed to their `ready_fd`.
    pub(crate) ready_fds: Vec<(ServiceName, Generation)>,
    pub(crate) signals: Vec<Signal>,
    pub(crate) arrivals: VecDeque<Arrival>,
    pub(crate) turn_is_due: bool,
    /// It does nothing until then.
    pub(crate) stalled_until: Instant,
    /// Whether the answer to a spawn waits for the next turn.
    spawns_late: bool,
    capacity: usize,
    /// It was killed, and has no successor yet.
    pub(crate) is_lost: bool,
    /// There is nobody who sees what ends meanwhile.
    pub(crate) has_no_warden: bool,
    /// It hears what its predecessor left, and nobody is connected.
    pub(crate) is_adopting: bool,
    /// It dies after so many outputs.
    pub(crate) dies_after: Option<u64>,
}

impl ProxyShell {
    pub(crate) fn new(random: &mut Random, handles: Vec<HandleReport>) -> Self {
        let settings = Settings {
            seed: u128::from(random.next()),
            features: FEATURES.map(str::to_owned).to_vec(),
            handles,
            records: true,
            ..Settings::default()
        };
        Self {
            machine: Proxy::new(settings),
            front: Front::default(),
            connections: BTreeMap::new(),
            plain: BTreeMap::new(),
            descriptors: visitor::first_descriptors(),
            connections_made: 0,
            spawned: Vec::new(),
            reports: Vec::new(),
            deaths: Vec::new(),
            empties: Vec::new(),
            notifications: Vec::new(),
            ready_fds: Vec::new(),
            signals: Vec::new(),
            arrivals: VecDeque::new(),
            turn_is_due: false,
            stalled_until: Instant::ZERO,
            spawns_late: random.chance(50),
            capacity: random.pick(&[512, 4_096, 65_536]),
            is_lost: false,
            has_no_warden: false,
            is_adopting: false,
            dies_after: None,
        }
    }
}

impl ProxyShell {
    /// Takes over what is in sockets and pipes that the warden holds.
    pub(crate) fn inherit(&mut self, lost: &mut Self) {
        self.connections_made = lost.connections_made;
        self.notifications = std::mem::take(&mut lost.notifications);
        self.ready_fds = std::mem::take(&mut lost.ready_fds);
        self.signals = std::mem::take(&mut lost.signals);
    }

    pub(crate) fn forget_spawned(&mut self) {
        self.spawned.clear();
    }

    /// Returns the number of a new connection.
    pub(crate) fn next_connection(&mut self) -> ConnectionId {
        self.connections_made += 1;
        ConnectionId(self.connections_made)
    }
}

impl World {
    /// Makes a connection; the machine hears of it when it asks for the extension.
    pub(crate) fn connect(&mut self, hears: bool) -> ConnectionId {
        let proxy = &mut self.proxy;
        let id = proxy.next_connection();
        let connection = Connection {
            reader: LineReader::new(PLAIN_LINE_BYTES_MAX),
            is_known: false,
            out: Vec::new(),
            in_flight: 0,
            capacity: proxy.capacity,
            is_full: false,
            last_at: self.now,
            stalled_until: Instant::ZERO,
            unanswered: BTreeMap::new(),
            hears,
        };
        proxy.connections.insert(id, connection);
        id
    }

    /// Lets the proxy read its configuration.
    pub(crate) fn boot_proxy(&mut self) {
        let connected = Input::Connected { connection: FRONT, output: true };
        self.proxy.machine.handle_input(self.now, connected);
        let id = self.connect(false);
        let bytes = BOOT.as_bytes().to_vec();
        self.proxy.arrivals.push_back(Arrival::Bytes(id, bytes));
        self.proxy.arrivals.push_back(Arrival::Ended(id));
        self.wake_proxy();
    }

    pub(crate) fn wake_proxy(&mut self) {
        if self.proxy.turn_is_due || self.proxy.is_lost {
            return;
        }
        self.proxy.turn_is_due = true;
        let delay = self.random.micros(0, 300);
        let at = self.now.saturating_add(delay).max(self.proxy.stalled_until);
        self.at(at, Due::ProxyTurn);
    }

    /// One turn, in the order that the machine's interface prescribes.
    pub(crate) fn proxy_turn(&mut self) -> Step {
        self.proxy.turn_is_due = false;
        if self.proxy.is_lost {
            return Ok(());
        }
        self.give_spawned()?;
        for (owner, outcome) in std::mem::take(&mut self.proxy.reports) {
            self.give_proxy(Input::Report { owner, outcome })?;
        }
        self.reap_all()?;
        for owner in std::mem::take(&mut self.proxy.empties) {
            self.give_proxy(Input::GroupEmpty { owner })?;
        }
        self.read_notifications()?;
        for signal in std::mem::take(&mut self.proxy.signals) {
            self.give_proxy(Input::Signal { signal, count: 1 })?;
        }
        self.proxy_timers()?;
        while let Some(arrival) = self.proxy.arrivals.pop_front() {
            self.on_arrival(arrival)?;
        }
        self.plain_turn()?;
        self.flush_proxy();
        if self.proxy.is_lost {
            return Ok(());
        }
        self.check_handles()?;
        self.proxy
            .machine
            .check_invariants()
            .or_else(|sentence| broken("S10", format!("proxy: {sentence}")))
    }

    /// Those that ended are let go one after another, each written down before.
    fn reap_all(&mut self) -> Step {
        while !self.proxy.is_lost && !self.proxy.deaths.is_empty() {
            let pid = self.proxy.deaths.remove(0);
            let recorded = self.record_end(pid);
            if let Some(exit) = self.kernel.reap(pid) {
                self.give_last_line(pid)?;
                if let Some((owner, end, true)) = recorded {
                    self.give_unsaid_failure(owner, end)?;
                }
                self.give_proxy(Input::Reaped { pid, exit })?;
            }
        }
        Ok(())
    }

    /// What is not read yet waits in its socket or pipe, whoever is lost.
    fn read_notifications(&mut self) -> Step {
        while !self.proxy.is_lost && !self.proxy.notifications.is_empty() {
            let (name, pid, text) = self.proxy.notifications.remove(0);
            self.give_proxy(Input::Notify { name, pid, text })?;
        }
        while !self.proxy.is_lost && !self.proxy.ready_fds.is_empty() {
            let (name, generation) = self.proxy.ready_fds.remove(0);
            self.give_proxy(Input::ReadyFd { name, generation })?;
        }
        Ok(())
    }

    /// Gives the line feed of a run that is over with this process.
    fn give_last_line(&mut self, pid: Pid) -> Step {
        let Some(name) = self.proxy.machine.run_ends_with(pid).cloned() else {
            return Ok(());
        };
        let lines = std::mem::take(&mut self.proxy.ready_fds);
        let (last, others) = lines.into_iter().partition(|(other, _)| *other == name);
        self.proxy.ready_fds = others;
        let last: Vec<(ServiceName, Generation)> = last;
        for (name, generation) in last {
            self.give_proxy(Input::ReadyFd { name, generation })?;
        }
        Ok(())
    }

    /// Does what is due, if anything is.
    pub(crate) fn proxy_timers(&mut self) -> Step {
        if self.proxy.is_lost {
            return Ok(());
        }
        if self.proxy.machine.poll_timeout().is_some_and(|due| due <= self.now) {
            self.proxy.machine.handle_timeout(self.now);
            self.drain_proxy()?;
            if !self.proxy.spawns_late {
                self.give_spawned()?;
            }
            let due = self.proxy.machine.poll_timeout().filter(|_| !self.proxy.is_lost);
            if due.is_some_and(|due| due <= self.now) {
                return broken("S11", "proxy: the next timeout is not later".to_owned());
            }
        }
        Ok(())
    }

    fn give_spawned(&mut self) -> Step {
        for (owner, outcome) in std::mem::take(&mut self.proxy.spawned) {
            self.give_proxy(Input::Spawned { owner, outcome })?;
        }
        Ok(())
    }

    pub(crate) fn give_proxy(&mut self, input: Input) -> Step {
        if self.proxy.is_lost {
            return Ok(());
        }
        match &input {
            // Seen as a line already.
            Input::Request { .. } => {}
            other => self.trace(|| format!("proxy <- {other:?}")),
        }
        self.proxy.machine.handle_input(self.now, input);
        self.drain_proxy()?;
        if !self.proxy.spawns_late && !self.proxy.spawned.is_empty() {
            self.give_spawned()?;
        }
        Ok(())
    }

    fn on_arrival(&mut self, arrival: Arrival) -> Step {
        match arrival {
            Arrival::Plain(..) | Arrival::PlainEnded(..) => {
                self.on_plain_arrival(arrival);
                Ok(())
            }
            // Of a connection to a predecessor.
            Arrival::Drained(connection) | Arrival::Ended(connection)
                if !self.proxy.connections.contains_key(&connection) =>
            {
                Ok(())
            }
            Arrival::Drained(connection) => self.give_proxy(Input::Drained { connection }),
            Arrival::Ended(connection) => {
                self.proxy.connections.remove(&connection);
                self.sabotage_end_of_connection();
                self.give_proxy(Input::Disconnected { connection })
            }
            Arrival::Bytes(id, bytes) => {
                if let Some(connection) = self.proxy.connections.get_mut(&id) {
                    connection.reader.push(&bytes);
                }
                while let Some(connection) = self.proxy.connections.get_mut(&id)
                    && let Some(line) = connection.reader.next_line()
                {
                    let is_known = connection.is_known;
                    self.on_line(id, line, is_known)?;
                }
                Ok(())
            }
        }
    }

    fn on_line(&mut self, id: ConnectionId, line: Line, is_known: bool) -> Step {
        if self.ended.is_some() {
            // The process is gone; what was on its way to it is read by nobody.
            return Ok(());
        }
        let Line::Complete(line) = line else {
            return broken("S9", format!("{id:?}: a line is too long"));
        };
        self.trace(|| format!("proxy <- {} {}", id.0, readable(&line)));
        if !is_known {
            return self.greet(id, &line);
        }
        let request = match decode_request(&line) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => {
                return broken("S9", format!("{id:?}: the proxy cannot read: {}", error.text));
            }
        };
        if let Request::Numbered(_, Command::ServiceNote { .. }) = &request
            && self.sabotage == Some(Sabotage::LosesNotes)
        {
            return Ok(());
        }
        if let Request::Numbered(_, Command::ServiceSet { name, attributes }) = &request {
            self.kernel.attributes.insert(name.clone(), Arc::clone(attributes));
        }
        if let Request::Numbered(number, _) = &request
            && let Some(connection) = self.proxy.connections.get_mut(&id)
            && connection.hears
            && connection.unanswered.insert(*number, self.now).is_some()
        {
            return broken("S9", format!("{id:?}: number {} is used twice", number.0));
        }
        self.give_proxy(Input::Request { connection: id, request })
    }

    /// The first line of a connection asks for the extension.
    fn greet(&mut self, id: ConnectionId, line: &[u8]) -> Step {
        let mut expected = Vec::new();
        encode_request(&Request::Unnumbered(Command::Proto { version: VERSION }), &mut expected);
        if expected.strip_suffix(b"\n") != Some(line) {
            return broken("S9", format!("{id:?} does not ask for the extension"));
        }
        let Some(connection) = self.proxy.connections.get_mut(&id) else {
            return Ok(());
        };
        connection.is_known = true;
        connection.reader.set_limit(EXTENDED_LINE_BYTES_MAX);
        let output = connection.hears;
        self.give_proxy(Input::Connected { connection: id, output })
    }

    pub(crate) fn drain_proxy(&mut self) -> Step {
        for _ in 0..OUTPUTS_MAX {
            if self.proxy_dies_here() {
                return Ok(());
            }
            if let Some(output) = self.proxy.machine.poll_output() {
                self.carry_out_for_proxy(output)?;
            } else if self.proxy.is_adopting {
                // The front end is not connected to the machine yet.
                return Ok(());
            } else if let Some(output) = self.proxy.front.poll_output() {
                self.carry_out_for_front(output)?;
            } else {
                return Ok(());
            }
        }
        broken("S11", "proxy: the outputs do not end".to_owned())
    }

    fn carry_out_for_proxy(&mut self, output: Output) -> Step {
        match output {
            Output::Send { connection: FRONT, message } => {
                self.check_message(FRONT, &message)?;
                self.tell_front(&message);
            }
            Output::Send { connection, message } => self.send_to(connection, message)?,
            Output::Close { .. } => {
                return broken("S9", "the proxy closes a connection".to_owned());
            }
            Output::Spawn(mut spawn) => {
                if let Some(list) = &spawn.descriptors {
                    self.check_descriptors(list)?;
                }
                self.write_journal();
                if !self.estate.intend(&spawn.name, spawn.generation) {
                    let sentence = format!("the end of {} has no room", spawn.name);
                    return broken("S27", sentence);
                }
                if self.sabotage_once(Sabotage::SkipsGeneration, !spawn.name.is_internal()) {
                    spawn.generation = spawn.generation.next();
                }
                let outcome = self.spawn_service(&spawn)?;
                if self.sabotage_once(Sabotage::SpawnsTwice, outcome.is_ok()) {
                    spawn.generation = spawn.generation.next();
                    let _ = self.spawn_service(&spawn)?;
                }
                self.trace(|| {
                    format!("kernel: {} {} is {outcome:?}", spawn.name, spawn.generation)
                });
                match outcome {
                    Ok(pid) => self.estate.begin(&spawn.name, pid, self.now),
                    Err(failure) => {
                        let (end, at) = (RunEnd::Failed(failure), Some(self.now));
                        self.estate.end(&spawn.name, end, at);
                    }
                }
                let control = spawn.descriptors.as_ref().and_then(|list| list.control);
                if let (Ok(_), Some(control)) = (&outcome, control) {
                    self.connect_controlling_service(control, &spawn.name);
                }
                let owner = Owner::Service(spawn.name.clone(), spawn.generation);
                self.push_spawned(owner, outcome);
            }
            Output::SpawnJob(spawn) => {
                let outcome = self.spawn_job(&spawn);
                self.push_spawned(Owner::Job(spawn.job), outcome);
            }
            Output::SignalMain { owner, pid, signal } => {
                if self.sabotage_once(Sabotage::SignalsStranger, true) {
                    let other = Pid::new(pid.get() + 1).unwrap_or(pid);
                    return self.signal_main(&owner, other, signal);
                }
                self.signal_main(&owner, pid, signal)?;
            }
            Output::Perform { ticket, mut effect } => {
                if let Effect::Signal { pid, .. } = &mut effect
                    && self.sabotage_once(Sabotage::SignalsStranger, true)
                {
                    *pid = Pid::new(pid.get() + 1).unwrap_or(*pid);
                }
                let outcome = self.attempt(&effect)?;
                let performed = Input::Performed { ticket, outcome };
                self.proxy.machine.handle_input(self.now, performed);
            }
            Output::CloseDescriptor { descriptor } => {
                self.check_descriptor(descriptor)?;
                self.proxy.descriptors.remove(&descriptor);
            }
            Output::LogTo { descriptor: Some(descriptor) } => self.check_descriptor(descriptor)?,
            Output::Log { level, text } => self.trace(|| format!("proxy logs {level}: {text}")),
            Output::SignalGroup { owner, signal } => self.signal_group(&owner, signal)?,
            Output::WatchGroup { owner } => self.watch(&owner),
            Output::LeaveGroup { owner } => self.leave_group(&owner)?,
            Output::Forget { name } => {
                self.write_journal();
                self.estate.forget(&name);
                self.forget_service(&name)?;
            }
            Output::Record { fact } => self.estate.note(fact),
            Output::Acknowledge { name, generation } => {
                self.write_journal();
                self.estate.acknowledge(&name, generation);
            }
            Output::WatchOutput { .. }
            | Output::LogTo { descriptor: None }
            | Output::StopListening
            | Output::LogFilter { .. }
            | Output::ExitExec { .. }
            | Output::Guarded { .. } => {}
            Output::Terminate { code } => {
                self.flush_proxy();
                self.ended = Some(code);
            }
        }
        Ok(())
    }

    /// Before anybody is told, and before anything is started.
    fn write_journal(&mut self) {
        if self.estate.write() {
            self.estate.compact(self.proxy.machine.snapshot());
        }
    }

    fn push_spawned(&mut self, owner: Owner, outcome: Result<Pid, SpawnFailure>) {
        self.proxy.spawned.push((owner, outcome));
        if self.proxy.spawns_late {
            self.wake_proxy();
        }
    }

    fn send_to(&mut self, id: ConnectionId, mut message: Message) -> Step {
        self.check_message(id, &message)?;
        self.sabotage_status(&mut message);
        let Some(connection) = self.proxy.connections.get_mut(&id) else {
            return Ok(());
        };
        if let Message::Reply(number, reply) = &message {
            if connection.unanswered.remove(number).is_none() {
                let sentence = format!("{id:?}: {} is answered again: {reply:?}", number.0);
                return broken("S9", sentence);
            }
            if self.sabotage == Some(Sabotage::LosesAnswer) && self.sabotage_left && self.is_calm {
                self.sabotage_left = !matches!(reply, Reply::Ok);
                connection.unanswered.insert(*number, Instant::ZERO);
                return Ok(());
            }
            if self.sabotage == Some(Sabotage::AnswersTwice) && self.sabotage_left {
                self.sabotage_left = false;
                return self.send_to(id, message.clone());
            }
        }
        let now = self.now;
        encode_message(&message, &mut connection.out);
        let waiting = connection.out.len() + connection.in_flight;
        if waiting > connection.capacity && !connection.is_full {
            connection.is_full = true;
            self.faults.count("full");
            let full = Input::Full { connection: id };
            self.proxy.machine.handle_input(now, full);
        }
        Ok(())
    }

    /// S6: a service that is reported down has no process.
    fn check_message(&self, id: ConnectionId, message: &Message) -> Step {
        let Message::Event(Event::Run(report)) = message else {
            return Ok(());
        };
        // What was kept for a slow connection may be of a service that was deleted and made again.
        if report.state != RunState::Down || report.at != self.now {
            return Ok(());
        }
        let owner = Owner::Service(report.name.clone(), report.generation);
        match self.kernel.group(&owner).next() {
            Some(pid) => broken("S6", format!("{id:?} is told {report:?}, and {pid} lives")),
            None => Ok(()),
        }
    }

    /// Everything that was written goes on its way, in one piece or in two.
    pub(crate) fn flush_proxy(&mut self) {
        if self.proxy.is_lost {
            return;
        }
        self.write_journal();
        let written: Vec<(ConnectionId, Vec<u8>)> = self
            .proxy
            .connections
            .iter_mut()
            .filter(|(_, connection)| !connection.out.is_empty())
            .map(|(id, connection)| (*id, std::mem::take(&mut connection.out)))
            .collect();
        for (id, mut bytes) in written {
            let rest = if self.random.chance(30) {
                bytes.split_off(self.random.index(bytes.len()))
            } else {
                Vec::new()
            };
            for bytes in [bytes, rest] {
                if bytes.is_empty() {
                    continue;
                }
                let delay = self.random.micros(0, 1_000);
                let arrives = self.now.saturating_add(delay);
                if let Some(connection) = self.proxy.connections.get_mut(&id) {
                    connection.in_flight += bytes.len();
                    let at = arrives.max(connection.last_at).max(connection.stalled_until);
                    connection.last_at = at;
                    self.at(at, Due::FromProxy(id, bytes));
                }
            }
        }
    }

    /// The other end of a connection has read.
    pub(crate) fn on_read(&mut self, id: ConnectionId, count: usize) {
        let Some(connection) = self.proxy.connections.get_mut(&id) else {
            return;
        };
        connection.in_flight -= count;
        if connection.is_full && connection.in_flight == 0 && connection.out.is_empty() {
            connection.is_full = false;
            self.proxy.arrivals.push_back(Arrival::Drained(id));
            self.wake_proxy();
        }
    }

    fn sabotage_end_of_connection(&mut self) {
        if self.sabotage == Some(Sabotage::KillsAtTakeover) {
            let mains = self.kernel.mains();
            for (pid, serial) in mains {
                let exit = Exit::Code(0);
                self.note_foul_play(pid, serial);
                self.on_dies(pid, serial, exit);
            }
        }
    }

    fn sabotage_status(&mut self, message: &mut Message) {
        let Message::Event(Event::Run(report)) = message else {
            return;
        };
        if report.name.is_internal() {
            return;
        }
        match (self.sabotage, report.state) {
            (Some(Sabotage::ForgesDown), RunState::Up) => {
                report.state = RunState::Down;
                report.ended = Some(RunEnd::Exit(Exit::Code(1)));
            }
            (Some(Sabotage::ForgesStatus), RunState::Down) if report.ended.is_some() => {
                report.ended = Some(RunEnd::Exit(Exit::Code(99)));
            }
            (Some(_) | None, _) => {}
        }
    }
}
