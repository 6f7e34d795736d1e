//! Plain clients and what the proxy's shell does for them: they speak daemonproxy's language, and
//! the front end stands between them and the machine.
//!
//! They have services of their own, so that they are nobody else's business, and see all others.

use std::collections::VecDeque;
use std::time::Duration;

use keepd_compat::{Client, FRONT, Output};
use keepd_engine::proxy::{ConnectionId, ControlEnd, Input};
use keepd_model::protocol::{Command, Message, PLAIN_LINE_BYTES_MAX, Reply, Request};
use keepd_model::{Exit, Instant, Pid, ServiceName};
use keepd_wire::LineReader;

use crate::manager::readable;
use crate::plain_client::{Habit, PlainClient};
use crate::proxy::Arrival;
use crate::sabotage::Sabotage;
use crate::world::{Due, Step, World, broken};

/// The services of plain clients.
pub(crate) const SERVICES: [&str; 3] = ["plain-a", "plain-b", "plain-c"];
/// A name that the old grammar has, too.
const ODD: &str = "-";
/// The most plain clients at the same time.
const CLIENTS_MAX: usize = 6;
/// What waits for a client at most: its buffer, and the answer to one command.
const WAITING_BYTES_MAX: usize = 32 * 1024;
/// Lines of one client in one turn.
const LINES_PER_TURN: usize = 16;

/// Reports whether a service is one that plain clients made.
pub(crate) fn is_foreign(name: &ServiceName) -> bool {
    SERVICES.contains(&name.as_str()) || name.as_str() == ODD
}

/// A plain connection, as the proxy's shell sees it.
#[derive(Debug)]
pub(crate) struct PlainConnection {
    reader: LineReader,
    /// The client sends no more.
    has_ended: bool,
    /// The front end was told so.
    end_is_told: bool,
    closing: bool,
    /// On its way to the client, of so much at most.
    in_flight: usize,
    capacity: usize,
    last_at: Instant,
}

impl World {
    /// A plain client appears; it asks for a dump, and does things from time to time.
    pub(crate) fn add_plain_client(&mut self) {
        if self.proxy.plain.len() >= CLIENTS_MAX {
            return;
        }
        self.faults.count("plain client");
        let id = self.proxy.next_connection();
        self.keep_plain(id, Client::Both);
        let now = self.now;
        self.proxy.front.connected(now, &self.proxy.machine, id, Client::Both);
        self.send_plain(id, b"statedump\necho\t--complete--\n".to_vec());
        self.after(Duration::ZERO, Due::PlainActs(id));
        self.wake_proxy();
    }

    /// A service of a list with a control handle was cloned.
    pub(crate) fn connect_controlling_service(&mut self, control: ControlEnd, name: &ServiceName) {
        self.faults.count("service that controls");
        let client = match (control.commands, control.events) {
            (true, true) => Client::Both,
            (true, false) => Client::CommandsOnly,
            (false, _) => Client::EventsOnly,
        };
        let id = self.proxy.next_connection();
        self.keep_plain(id, client);
        let now = self.now;
        self.proxy.front.connected_service(now, &self.proxy.machine, id, client, name);
        self.after(Duration::ZERO, Due::PlainActs(id));
    }

    fn keep_plain(&mut self, id: ConnectionId, client: Client) {
        let connection = PlainConnection {
            reader: LineReader::with_room(PLAIN_LINE_BYTES_MAX, 8 * 1024),
            has_ended: false,
            end_is_told: false,
            closing: false,
            in_flight: 0,
            capacity: self.random.pick(&[300, 300, 4_096]),
            last_at: self.now,
        };
        self.proxy.plain.insert(id, connection);
        let habit = match client {
            // It hears only what it did not ask for.
            Client::EventsOnly => Habit::Listens,
            _ => self.random.weighted(&[
                (3, Habit::Listens),
                (5, Habit::Commands),
                (2, Habit::ReadsSlowly),
                (4, Habit::ReadsNothing),
            ]),
        };
        self.plain_clients.insert(id, PlainClient::new(habit, client, self.now));
    }

    fn send_plain(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        self.trace(|| format!("plain {} -> {}", id.0, readable(&bytes)));
        let delay = self.random.micros(0, 500);
        let at = self.now.saturating_add(delay);
        if let Some(client) = self.plain_clients.get_mut(&id) {
            let at = at.max(client.sent_until);
            client.sent_until = at;
            self.at(at, Due::ToProxy(Arrival::Plain(id, bytes)));
        }
    }

    /// A client does what it does, or leaves.
    pub(crate) fn on_plain_acts(&mut self, id: ConnectionId) {
        let Some(client) = self.plain_clients.get(&id) else {
            return;
        };
        let (habit, speaks) = (client.habit, client.kind != Client::EventsOnly);
        let needs_dump = client.needs_dump();
        let leaves = if self.is_calm { 0 } else { 6 };
        if self.random.chance(leaves) {
            let halves = self.random.chance(50) && speaks;
            let at = client.sent_until.max(self.now);
            self.at(at, Due::ToProxy(Arrival::PlainEnded(id, halves)));
            return;
        }
        if speaks {
            let mut bytes = Vec::new();
            if needs_dump && habit != Habit::ReadsNothing {
                bytes.extend_from_slice(b"statedump\necho\t--complete--\n");
                if let Some(client) = self.plain_clients.get_mut(&id) {
                    client.asks_for_dump();
                }
            }
            let lines = if self.is_calm { 0 } else { self.random.between(0, 7) };
            for _ in 0..lines {
                let line = match habit {
                    Habit::Listens => self.random.pick(&["statedump", "echo\tx", "# y", ""]).into(),
                    Habit::Commands | Habit::ReadsSlowly | Habit::ReadsNothing => {
                        self.plain_command()
                    }
                };
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
            if !bytes.is_empty() {
                let cut = self.random.index(bytes.len());
                let rest = bytes.split_off(cut);
                self.send_plain(id, bytes);
                self.send_plain(id, rest);
            }
        }
        let pause = self.random.millis(1, 1_500);
        self.after(pause, Due::PlainActs(id));
    }

    /// Returns a random line of the language. What would end keepd, or its services, is not said.
    fn plain_command(&mut self) -> String {
        let random = &mut self.random;
        let service = random.pick(&[SERVICES[0], SERVICES[1], SERVICES[2], ODD, "", "s@t"]);
        let handle = random.pick(&["stderr", "pipe.in", "one", "two", "null", "control.cmd", ""]);
        let word = random.pick(&["x", "", "SIGUSR1", "always", "5", "-", "read", "unix", "0"]);
        let name = random.pick(&[
            "service.args",
            "service.args",
            "service.tags",
            "service.fds",
            "service.auto_up",
            "service.start",
            "service.start",
            "service.signal",
            "service.delete",
            "fd.open",
            "fd.pipe",
            "fd.socket",
            "fd.delete",
            "fd.take",
            "log.filter",
            "log.dest",
            "signal.clear",
            "conn.event_timeout",
            "chdir",
            "socket.create",
            "socket.delete",
            "terminate.exec_args",
            "terminate.guard",
            "statedump",
            "echo",
            "exit",
            "nonsense",
            "proto",
            "long",
        ]);
        let more =
            random.pick(&["", "\t", "\tx", "\t9", "\tSIGUSR1", "\tread\t/p", "\tcontrol.socket"]);
        match name {
            "service.auto_up" => format!("{name}\t{service}\t{}\t{word}", random.between(0, 3)),
            "service.signal" => {
                format!("{name}\t{service}\t{}", random.pick(&["TERM", "KILL", "0"]))
            }
            "service.fds" => format!("{name}\t{service}\t{handle}{more}\tcontrol.event"),
            "fd.pipe" => format!("{name}\t{handle}\ttwo"),
            "signal.clear" => format!("{name}\tSIGUSR1\t{}", random.between(0, 4)),
            "conn.event_timeout" => format!("{name}\t{}\t3", random.between(0, 4)),
            "service.tags" if random.chance(60) => {
                format!("{name}\t{service}\t{}", "t".repeat(random.index(900)))
            }
            "exit" if random.chance(80) => "echo\tstays".to_owned(),
            "terminate.guard" => format!("{name}\t-\t7"),
            "proto" => "proto\tkeepd\t2".to_owned(),
            "long" => "x".repeat(random.index(3_000)),
            _ if name.starts_with("service.") => format!("{name}\t{service}{more}"),
            _ if name.starts_with("fd.") => format!("{name}\t{handle}{more}"),
            _ => format!("{name}\t{word}{more}"),
        }
    }

    /// The process of a plain client's service runs, and ends after a while.
    pub(crate) fn begin_foreign(&mut self, pid: Pid, serial: u64) {
        self.faults.count("service of a plain client");
        let lasts = self.random.millis(0, 3_000);
        let exit = if self.random.chance(50) { Exit::Code(0) } else { Exit::Code(7) };
        self.after(lasts, Due::Dies(pid, serial, exit));
    }

    /// Bytes of a plain client reached the proxy, or its end.
    pub(crate) fn on_plain_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Plain(id, bytes) => {
                if let Some(connection) = self.proxy.plain.get_mut(&id) {
                    connection.reader.push(&bytes);
                }
            }
            Arrival::PlainEnded(id, true) => {
                self.faults.count("plain client half-closes");
                if let Some(connection) = self.proxy.plain.get_mut(&id) {
                    connection.has_ended = true;
                }
            }
            Arrival::PlainEnded(id, false) => self.forget_plain(id),
            Arrival::Bytes(..) | Arrival::Drained(_) | Arrival::Ended(_) => {}
        }
    }

    fn forget_plain(&mut self, id: ConnectionId) {
        self.proxy.plain.remove(&id);
        self.plain_clients.remove(&id);
        self.proxy.front.disconnected(id);
    }

    /// The plain part of a turn: lines are run while they may be, and what waits is written.
    pub(crate) fn plain_turn(&mut self) -> Step {
        if self.proxy.is_lost {
            return Ok(());
        }
        if self.proxy.front.poll_timeout().is_some_and(|due| due <= self.now) {
            self.proxy.front.handle_timeout(self.now);
            self.drain_proxy()?;
            let due = self.proxy.front.poll_timeout().filter(|_| !self.proxy.is_lost);
            if due.is_some_and(|due| due <= self.now) {
                return broken("S11", "front end: the next timeout is not later".to_owned());
            }
        }
        let ids: Vec<ConnectionId> = self.proxy.plain.keys().copied().collect();
        for id in &ids {
            self.run_plain_lines(*id)?;
        }
        for id in &ids {
            self.write_plain(*id);
        }
        if self.proxy.is_lost {
            return Ok(());
        }
        self.check_plain()
    }

    fn run_plain_lines(&mut self, id: ConnectionId) -> Step {
        for _ in 0..LINES_PER_TURN {
            if self.ended.is_some() {
                return Ok(());
            }
            let now = self.now;
            let Some(connection) = self.proxy.plain.get_mut(&id) else {
                return Ok(());
            };
            if !self.proxy.front.is_ready(id) {
                let is_full = connection.reader.buffered_bytes() > PLAIN_LINE_BYTES_MAX;
                self.proxy.front.set_input_full(id, is_full);
                return Ok(());
            }
            let Some(line) = connection.reader.next_line() else {
                if connection.has_ended && !connection.end_is_told {
                    connection.end_is_told = true;
                    self.proxy.front.handle_end(now, &self.proxy.machine, id, b"");
                    self.drain_proxy()?;
                }
                return Ok(());
            };
            self.proxy.front.handle_line(now, &self.proxy.machine, id, &line);
            self.drain_proxy()?;
        }
        // There may be more, for the next turn.
        self.wake_proxy();
        Ok(())
    }

    /// Writes what waits, as far as the client's socket takes it.
    fn write_plain(&mut self, id: ConnectionId) {
        loop {
            let Some(connection) = self.proxy.plain.get_mut(&id) else {
                return;
            };
            let waiting = self.proxy.front.output(id);
            if waiting.is_empty() {
                if connection.closing && connection.in_flight == 0 {
                    self.forget_plain(id);
                }
                return;
            }
            let count = waiting.len().min(connection.capacity - connection.in_flight);
            let bytes = waiting[..count].to_vec();
            self.proxy.front.written(self.now, &self.proxy.machine, id, count);
            if count == 0 {
                return;
            }
            connection.in_flight += count;
            let delay = self.random.micros(0, 800);
            let reads_from =
                self.plain_clients.get(&id).map_or(self.now, |client| client.reads_from);
            if let Some(connection) = self.proxy.plain.get_mut(&id) {
                let at = self.now.saturating_add(delay).max(connection.last_at).max(reads_from);
                connection.last_at = at;
                self.at(at, Due::ToPlain(id, bytes));
            }
        }
    }

    /// Bytes reach a plain client.
    pub(crate) fn on_bytes_for_plain(&mut self, id: ConnectionId, bytes: &[u8]) -> Step {
        if let Some(connection) = self.proxy.plain.get_mut(&id) {
            connection.in_flight -= bytes.len();
        }
        let bytes = self.sabotage_plain(bytes);
        self.read_plain(id, &bytes)?;
        self.wake_proxy();
        Ok(())
    }

    /// Does what the front end asks for.
    pub(crate) fn carry_out_for_front(&mut self, output: Output) -> Step {
        match output {
            Output::Ask(request) => {
                if let Request::Numbered(_, Command::ServiceSet { name, attributes }) = &request {
                    self.kernel.attributes.insert(name.clone(), attributes.clone());
                }
                let request = Input::Request { connection: FRONT, request };
                self.proxy.machine.handle_input(self.now, request);
                Ok(())
            }
            Output::Close { connection } => {
                if let Some(connection) = self.proxy.plain.get_mut(&connection) {
                    connection.closing = true;
                    self.wake_proxy();
                }
                Ok(())
            }
            Output::Upgrade { connection } => {
                broken("S9", format!("{connection:?} is upgraded, and did not ask for it"))
            }
            Output::Log { level, text } => {
                self.trace(|| format!("front logs {level}: {text}"));
                Ok(())
            }
        }
    }

    /// The machine tells the front end something.
    pub(crate) fn tell_front(&mut self, message: &Message) {
        if let Message::Reply(_, Reply::Ok) = message
            && self.proxy.front.asking().is_some_and(|id| id != FRONT)
            && self.sabotage_once(Sabotage::LosesFrontAnswer, true)
        {
            return;
        }
        self.proxy.front.handle_message(self.now, &self.proxy.machine, message);
    }

    /// S24, S25: what waits is bounded, and nobody waits for nothing.
    fn check_plain(&self) -> Step {
        let front = &self.proxy.front;
        if let Some(asking) = front.asking() {
            return broken(
                "S25",
                format!("the question of {asking:?} is not answered in its turn"),
            );
        }
        for (id, connection) in &self.proxy.plain {
            let waiting = front.output(*id).len();
            if waiting > WAITING_BYTES_MAX {
                return broken("S24", format!("{waiting} bytes wait for {id:?}"));
            }
            let is_open = !connection.closing && !connection.end_is_told;
            if is_open && waiting == 0 && !front.is_ready(*id) {
                return broken("S25", format!("{id:?} is not heard, and nothing waits"));
            }
            self.check_table(*id, waiting == 0 && connection.in_flight == 0)?;
        }
        Ok(())
    }

    fn sabotage_plain(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut lines: VecDeque<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let is_whole = lines.iter().all(|line| line.ends_with(b"\n"));
        let first = lines.front().copied().unwrap_or_default();
        if is_whole && self.sabotage == Some(Sabotage::TellsErrorToAll) {
            lines.push_back(b"error\tof somebody else, for command \"x\"\n");
        }
        if is_whole && self.sabotage_once(Sabotage::ShowsInternal, true) {
            lines.push_back(b"service.tags\tkeepd.manager\tx\n");
        }
        if is_whole && self.sabotage_once(Sabotage::AddsField, first.starts_with(b"fd.state")) {
            lines.push_back(b"service.state\tplain-a\tdown\t-\t-\t-\t-\t-\t-\t-\n");
        }
        let is_news = |line: &&[u8]| {
            line.starts_with(b"service.state\tplain-") || line.starts_with(b"fd.state\t")
        };
        if is_whole && self.sabotage == Some(Sabotage::LosesNews) && is_news(&first) {
            lines.pop_front();
        }
        lines.into_iter().flatten().copied().collect()
    }
}
