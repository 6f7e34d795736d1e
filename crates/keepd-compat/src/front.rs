//! The front end as a machine: lines of plain connections in, commands for the core and bytes for
//! the connections out.
//!
//! One command is carried out at a time, whoever sent it. What is left to do when the core has
//! answered is in [`Pending`]; its line waits beside it, because most setters are told to everybody
//! in the very bytes in which they came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use keepd_engine::proxy::{ConnectionId, Proxy};
use keepd_model::protocol::{Attributes, Command, Message, Request, RequestId, VERSION};
use keepd_model::{Instant, LogLevel, ServiceName};
use keepd_wire::Line;

use crate::answers::{self, Next};
use crate::client::{Connection, Overdue, Timeouts};
use crate::decode::{Refusal, decode_line};
use crate::dump::Progress;
use crate::encode;
use crate::pools::{self, Limits, List, Resources};

/// The connection that the front end is to the core. The shell numbers its own from 1.
pub const FRONT: ConnectionId = ConnectionId(0);

/// What an interactive client is greeted with.
const GREETING: [&str; 3] = [
    concat!("info\tdaemonproxy (keepd) version ", env!("CARGO_PKG_VERSION"), "\n"),
    "info\ta command is a line, its words are parted by tabs; \"echo\" and a word returns the \
     word\n",
    "info\t\"statedump\" tells everything that is there, \"exit\" ends this session\n",
];

/// What kind of connection a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `-i`: greeted with `info` lines.
    Interactive,
    /// A socket client, or a service with both directions.
    Both,
    /// A configuration file: a stream of commands without a way back, whose last line needs no line
    /// feed.
    Configuration,
    /// A stream of commands without a way back: a service with `control.cmd` alone.
    CommandsOnly,
    /// A service with `control.event` alone.
    EventsOnly,
}

/// What the shell is asked to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give this to the core as a request of [`FRONT`], and everything that comes of it back to
    /// [`Front::handle_message`], before anything else of any connection.
    Ask(Request),
    /// From here on this connection is the core's: tell it `Connected`. The rest of what was read
    /// from it is in the extended language. What waits in [`Front::output`] comes before all that
    /// the core has to say to it: the shell takes it over, then says [`Front::disconnected`].
    Upgrade {
        /// Which.
        connection: ConnectionId,
    },
    /// Read no more from this connection, write its buffer, then close it. Said again when its
    /// time limit is over meanwhile: then its buffer is empty.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// A message for the proxy's own log.
    Log {
        /// How bad it is.
        level: LogLevel,
        /// One line.
        text: String,
    },
}

/// A command that the core is carrying out.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Who sent it. It may be gone when the answer comes.
    pub(crate) connection: ConnectionId,
    /// The number whose answer is waited for.
    pub(crate) awaited: RequestId,
    /// What is to be done then.
    pub(crate) next: Next,
}

/// The front end.
#[derive(Debug)]
pub struct Front {
    pub(crate) resources: Resources,
    /// What every service has that was made here.
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) clients: BTreeMap<ConnectionId, Connection>,
    pub(crate) outputs: VecDeque<Output>,
    /// Connections that are to be written to before there is more news, each once.
    pub(crate) crowded: VecDeque<ConnectionId>,
    /// The number of the last request.
    requests: u64,
    pub(crate) pending: Option<Pending>,
    /// Who sent the last command: an answer may come as an event, after the reply.
    pub(crate) asker: ConnectionId,
    /// The line of the last command. Kept, like `scratch`, so that a line costs no allocation.
    pub(crate) line: Vec<u8>,
    /// A line that is being made for several clients.
    pub(crate) scratch: Vec<u8>,
}

impl Default for Front {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Front {
    /// Returns a front end without connections. The shell must have told the core that [`FRONT`]
    /// is connected, and do at once what [`Front::poll_output`] says.
    pub fn new(limits: Limits) -> Self {
        let mut front = Self {
            resources: Resources { limits },
            attributes: Arc::new(answers::attributes()),
            clients: BTreeMap::new(),
            outputs: VecDeque::new(),
            crowded: VecDeque::new(),
            requests: 0,
            pending: None,
            asker: FRONT,
            line: Vec::new(),
            scratch: Vec::new(),
        };
        front.ask(FRONT, Command::WatchStarts { on: true }, Next::Nothing);
        front
    }

    /// A plain connection was made: it hears the pending signals.
    pub fn connected(&mut self, _now: Instant, core: &Proxy, id: ConnectionId, client: Client) {
        let mut connection = Connection::new(client);
        match client {
            Client::Interactive => {
                GREETING.iter().for_each(|line| connection.reply(line.as_bytes()));
            }
            Client::Both | Client::Configuration | Client::CommandsOnly | Client::EventsOnly => {}
        }
        self.scratch.clear();
        for (signal, at, count) in core.pending_signals() {
            encode::write_signal(signal, at, count, &mut self.scratch);
        }
        connection.reply(&self.scratch);
        self.clients.insert(id, connection);
    }

    /// A service got its control connection, and its process is about to be told to the core: the
    /// first news for it is its own `up`.
    pub fn connected_service(
        &mut self,
        now: Instant,
        core: &Proxy,
        id: ConnectionId,
        client: Client,
        name: &ServiceName,
    ) {
        self.connected(now, core, id, client);
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.wait_for(name);
        }
    }

    /// A connection ended, or is the core's from here on.
    pub fn disconnected(&mut self, id: ConnectionId) {
        self.clients.remove(&id);
    }

    /// Reports whether a connection is one of the front end's.
    pub fn has(&self, id: ConnectionId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Reports whether the next line of a connection may be given: no command is being carried out,
    /// its own dump is complete, and not too much of its output waits.
    pub fn is_ready(&self, id: ConnectionId) -> bool {
        self.pending.is_none() && self.clients.get(&id).is_some_and(Connection::is_ready)
    }

    /// A connection sent a line. Given one by one, only while [`Front::is_ready`]; ignored after
    /// `exit` and `proto`.
    pub fn handle_line(&mut self, now: Instant, core: &Proxy, id: ConnectionId, line: &Line) {
        if !self.clients.get(&id).is_some_and(Connection::is_open) {
            return;
        }
        self.asker = id;
        self.line.clear();
        match line {
            Line::Complete(line) => self.run_line(now, core, id, line),
            Line::TooLong { start } => {
                self.line.extend_from_slice(start);
                self.refuse_long_line(id);
            }
        }
    }

    /// The stream of commands of a connection ended; `rest` is what came after its last line feed
    /// (a configuration file runs it, every other connection drops it; both are logged). Only while
    /// [`Front::is_ready`]. The connection is closed after what waits is written.
    pub fn handle_end(&mut self, now: Instant, core: &Proxy, id: ConnectionId, rest: &[u8]) {
        let Some(connection) = self.clients.get(&id) else {
            return;
        };
        let kind = connection.kind();
        if !rest.is_empty() {
            let runs = kind == Client::Configuration;
            let what = if runs { "it is run all the same" } else { "it is ignored" };
            let text = format!("the last command has no line feed, {what}");
            self.log(LogLevel::Warning, text);
            if runs {
                self.handle_line(now, core, id, &Line::Complete(rest.to_vec()));
            }
        }
        self.close(id);
    }

    /// The core told [`FRONT`] something.
    pub fn handle_message(&mut self, now: Instant, core: &Proxy, message: &Message) {
        match message {
            Message::Event(event) => self.on_event(now, core, event),
            Message::Reply(id, reply) => self.on_reply(core, *id, reply),
            // The answer to a command without a number, see [`Front::ask_for_news`].
            Message::Error(text) => {
                if let Some(id) = self.asking() {
                    self.refuse(id, text);
                }
            }
            // The front end knows what the core can do, and echoes by itself.
            Message::ProtoAccepted { .. } | Message::Text(_) => {}
        }
    }

    /// Returns the connection whose command the core is carrying out. What [`FRONT`] does then
    /// (`fd.take`) is meant for this one.
    pub fn asking(&self) -> Option<ConnectionId> {
        self.pending.as_ref().map(|pending| pending.connection)
    }

    /// Returns the bytes that wait for a connection. More may come with each call of
    /// [`Front::written`], while a dump goes on.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.clients.get(&id).map_or(&[], Connection::output)
    }

    /// The shell wrote the first `count` bytes of a connection's output; 0: nobody took any.
    pub fn written(&mut self, now: Instant, core: &Proxy, id: ConnectionId, count: usize) {
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.written(now, count);
            self.resume_dump(now, core, id);
        }
    }

    /// Returns a connection of which so much output waits that the shell should try to write it
    /// before it tells more. Otherwise the news of one turn could overflow a client that reads all
    /// the time. To be called until there is none after each of [`Front::poll_output`] and
    /// [`Front::handle_message`].
    pub fn take_crowded(&mut self) -> Option<ConnectionId> {
        self.crowded.pop_front()
    }

    /// Nobody is there to hear any longer: its commands are still run.
    pub fn output_lost(&mut self, id: ConnectionId) {
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.lose_output();
        }
    }

    /// Says whether more commands of a connection are waiting than its input buffer takes.
    pub fn set_input_full(&mut self, id: ConnectionId, is_full: bool) {
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.set_input_full(is_full);
        }
    }

    /// Returns when [`Front::handle_timeout`] must be called at the latest, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clients.values().filter_map(Connection::due).min()
    }

    /// Carries out the time limits that are over. Afterwards [`Front::poll_timeout`] is later than
    /// `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (id, connection) in &mut self.clients {
            while let Some(overdue) = connection.handle_timeout(now) {
                let (level, text) = match overdue {
                    Overdue::Reset => {
                        (LogLevel::Warning, format!("connection {} does not read", id.0))
                    }
                    Overdue::Close => {
                        self.outputs.push_back(Output::Close { connection: *id });
                        let text = format!("connection {} is closed, it does not read", id.0);
                        (LogLevel::Error, text)
                    }
                };
                self.outputs.push_back(Output::Log { level, text });
            }
        }
    }

    /// Returns the next thing to do; to be called until there is none after each of the above.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// What a line asks for.
impl Front {
    fn run_line(&mut self, now: Instant, core: &Proxy, id: ConnectionId, line: &[u8]) {
        // Controllers wait for their own words all the time, so these take no detour.
        if let Some(text) = line.strip_prefix(b"echo\t") {
            return self.echo(id, text);
        }
        self.line.extend_from_slice(line);
        match decode_line(now, line) {
            Ok(None) => {}
            Ok(Some(command)) => self.run_command(now, core, id, command),
            Err(Refusal::UnknownCommand) => self.refuse_unknown(id),
            Err(Refusal::Invalid { text, makes: None }) => self.refuse(id, &text),
            Err(Refusal::Invalid { text, makes: Some(name) }) => {
                self.make_service(core, id, &name, Next::Refuse(text));
            }
        }
    }

    fn run_command(&mut self, now: Instant, core: &Proxy, id: ConnectionId, command: Command) {
        match command {
            Command::Echo { text } => self.echo(id, &text),
            Command::StateDump => {
                if let Some(connection) = self.clients.get_mut(&id) {
                    connection.begin_dump();
                }
                self.resume_dump(now, core, id);
            }
            Command::EventTimeout { reset, close } => {
                if let Some(connection) = self.clients.get_mut(&id) {
                    connection.set_timeouts(Timeouts { reset, close });
                }
            }
            Command::Exit => self.close(id),
            Command::Proto { version } => self.upgrade(id, version),
            Command::ServiceArgs { ref name, ref arguments } => {
                let bytes = pools::bytes(arguments.iter().map(Vec::as_slice));
                let name = name.clone();
                self.ask_setter(core, id, &name, (List::Args, bytes), command);
            }
            Command::ServiceTags { ref name, ref tags } => {
                let bytes = pools::bytes(tags.iter().map(Vec::as_slice));
                let name = name.clone();
                self.ask_setter(core, id, &name, (List::Tags, bytes), command);
            }
            Command::ServiceFds { ref name, ref slots } => {
                let bytes = pools::fds_bytes(slots);
                let name = name.clone();
                self.ask_setter(core, id, &name, (List::Fds, bytes), command);
            }
            Command::ServiceAutoUp { ref name, ref triggers, .. } => {
                let bytes = pools::bytes(triggers.words.iter().map(Vec::as_slice));
                let name = name.clone();
                self.ask_setter(core, id, &name, (List::Triggers, bytes), command);
            }
            Command::HandleOpen { .. }
            | Command::HandleSocket { .. }
            | Command::HandleTake { .. } => {
                self.ask_for_handles(core, id, 1, command);
            }
            Command::HandlePipe { .. } => self.ask_for_handles(core, id, 2, command),
            Command::LogDestination { .. } => self.ask(id, command, Next::WarnOfLogHandle),
            Command::SocketCreate { .. }
            | Command::TerminateExec { .. }
            | Command::Terminate { .. }
            | Command::TerminateGuard { .. }
            | Command::Chdir { .. }
            | Command::LogFilter { .. }
            | Command::SocketDelete
            | Command::HandleDelete { .. }
            | Command::SignalClear { .. }
            | Command::ServiceStart { .. }
            | Command::ServiceCancel { .. }
            | Command::ServiceSignal { .. }
            | Command::ServiceDelete { .. }
            // Not of the plain language, so no line is read as one of these.
            | Command::WatchLogs { .. }
            | Command::WatchStarts { .. }
            | Command::ServiceSet { .. }
            | Command::ServiceEnv { .. }
            | Command::ServiceLog { .. }
            | Command::ServiceStop { .. }
            | Command::ServiceExec { .. }
            | Command::ServiceAck { .. }
            | Command::ServiceLease { .. }
            | Command::ServiceNote { .. } => self.ask(id, command, Next::Nothing),
        }
    }

    /// Asks for a setter, after its service was made if it is new.
    fn ask_setter(
        &mut self,
        core: &Proxy,
        id: ConnectionId,
        name: &ServiceName,
        (list, bytes): (List, usize),
        command: Command,
    ) {
        let room = self.resources.list(core, name, list, bytes);
        match (core.service(name.as_str()).is_some(), room) {
            (true, Ok(())) => self.set(id, command),
            (true, Err(text)) => self.refuse(id, &text),
            (false, Ok(())) => self.make_service(core, id, name, Next::Set(command)),
            // An interval that is refused changes nothing; what the other setters are refused is
            // only the value.
            (false, Err(text)) if list == List::Triggers => self.refuse(id, &text),
            (false, Err(text)) => self.make_service(core, id, name, Next::Refuse(text)),
        }
    }

    /// Asks for something that makes so many handles.
    fn ask_for_handles(&mut self, core: &Proxy, id: ConnectionId, count: usize, command: Command) {
        match self.resources.new_handles(core, count) {
            Ok(()) => self.ask_for_news(id, command),
            Err(text) => self.refuse(id, &text),
        }
    }

    /// Gives the core a command, and says what is to be done when it has answered.
    pub(crate) fn ask(&mut self, connection: ConnectionId, command: Command, next: Next) {
        self.requests += 1;
        let awaited = RequestId(self.requests);
        self.outputs.push_back(Output::Ask(Request::Numbered(awaited, command)));
        self.pending = Some(Pending { connection, awaited, next });
    }

    /// `proto⇥keepd⇥VERSION`.
    fn upgrade(&mut self, id: ConnectionId, version: u32) {
        if version != VERSION {
            let text = format!("version {version} of the protocol is not spoken, only {VERSION}");
            self.refuse(id, &text);
            return;
        }
        // Their lines have up to 1 MiB, and what they set has no place in a pool.
        if self.resources.are_static() {
            self.refuse(id, "the extended protocol is not spoken with static pools");
            return;
        }
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.leave();
            self.outputs.push_back(Output::Upgrade { connection: id });
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.clients.get_mut(&id) {
            connection.leave();
            self.outputs.push_back(Output::Close { connection: id });
        }
    }

    /// Goes on with a dump while there is room.
    fn resume_dump(&mut self, now: Instant, core: &Proxy, id: ConnectionId) {
        let description_bytes_max = self.resources.description_bytes_max();
        let Some(connection) = self.clients.get_mut(&id) else {
            return;
        };
        while let Some((dump, out)) = connection.dump_mut() {
            match dump.write_piece(now, core, description_bytes_max, out) {
                Progress::More => {}
                Progress::Done => connection.end_dump(),
            }
        }
    }

    fn echo(&mut self, id: ConnectionId, text: &[u8]) {
        if let Some(connection) = self.clients.get_mut(&id).filter(|_| !text.is_empty()) {
            connection.reply(text);
            connection.reply(b"\n");
        }
    }

    pub(crate) fn log(&mut self, level: LogLevel, text: String) {
        self.outputs.push_back(Output::Log { level, text });
    }

    /// Returns what waits for the answer with this number.
    pub(crate) fn take_pending(&mut self, id: RequestId) -> Option<Pending> {
        self.pending.take_if(|pending| pending.awaited == id)
    }
}
