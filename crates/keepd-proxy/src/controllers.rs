//! The part of a turn that is about controllers: what they say, what they are told, and the
//! effects they ask for.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use keepd_compat::{Client, FRONT};
use keepd_engine::proxy::{
    CallFailure, ConnectionId, ControlEnd, DescriptorId, Effect, Input, Performed, Ticket,
};
use keepd_model::protocol::{Message, PLAIN_LINE_BYTES_MAX, Reply, Request};
use keepd_model::{Errno, LogLevel, ServiceName};
use keepd_os::daemon::{self, Standard};
use keepd_os::epoll::Interest;
use keepd_os::{clock, signals};
use keepd_wire::{Line, RequestError, decode_request, encode_message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::connections::{Direction, Ends, Language, Settled, Written};
use crate::listener::{Accepted, Listener};
use crate::log::Destination;
use crate::memory;
use crate::run::{Ending, Heard, QUIET, Shell};
use crate::token::Token;

/// Commands of one connection in one turn, so that a client that floods does not starve the others:
/// about as many as one read brings, and well below a millisecond.
const LINES_PER_TURN: usize = 256;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// How often a connection is emptied and filled again in one turn.
const DRAINS_PER_TURN: usize = 8;
/// How long the end of the proxy waits for slow readers of the extended language.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Returns which ways a control connection is used, from the outside.
pub(crate) fn direction(control: ControlEnd) -> Direction {
    match (control.commands, control.events) {
        (true, true) => Direction::Both,
        (true, false) => Direction::CommandsOnly,
        (false, _) => Direction::EventsOnly,
    }
}

impl Shell {
    /// Runs what connections sent, and lets new ones in.
    pub(crate) fn hear_connections(&mut self, heard: &Heard) {
        for (id, ready) in &heard.outputs {
            if let Some(connection) = self.connections.get_mut(*id) {
                connection.on_output_ready(*ready);
            }
        }
        for (id, ready) in &heard.inputs {
            if let Some(connection) = self.connections.get_mut(*id) {
                connection.on_ready(*ready);
            }
        }
        self.accept(heard.has_connections);
        let mut last = None;
        while let Some(id) = self.connections.after(last) {
            self.run_lines(id);
            last = Some(id);
        }
    }

    fn accept(&mut self, has_connections: bool) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        if listener.resume(self.now.monotonic) {
            let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::READ);
        }
        if !has_connections {
            return;
        }
        if !memory::admits(self.connections.count()) {
            // They wait where they are.
            listener.pause(self.now.monotonic);
            let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::default());
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &mut self.listener else {
                return;
            };
            if !self.connections.has_place() {
                self.let_wait();
                return;
            }
            match listener.accept(self.now.monotonic) {
                Accepted::Connection(socket) => self.welcome(socket),
                Accepted::Refused(why) => self.log.say(LogLevel::Warning, why),
                Accepted::Nobody => return,
            }
            if let Some(listener) = &mut self.listener
                && listener.paused_until().is_some()
            {
                let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::default());
                return;
            }
        }
    }

    fn welcome(&mut self, socket: OwnedFd) {
        match self.connections.add(&self.epoll, Ends::Socket(socket, Direction::Both)) {
            Ok(connection) => self.greet(connection, Client::Both),
            Err(error) => {
                self.say(LogLevel::Warning, format_args!("cannot keep connection: {error}"));
            }
        }
    }

    /// Lets nobody in before a connection ends.
    fn let_wait(&mut self) {
        if let Some(listener) = &mut self.listener
            && listener.set_full(true)
        {
            let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::default());
            self.log.say(LogLevel::Warning, "every connection is in use, new ones wait");
        }
    }

    /// A connection ended: somebody who waits can be let in.
    fn end_wait(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.refill();
            if listener.set_full(false) {
                let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::READ);
            }
        }
    }

    /// Tells the machine whether anything may grow, if that has changed.
    fn look_at_memory(&mut self) {
        let is_low = memory::is_low();
        if is_low != self.memory.is_low {
            self.memory.is_low = is_low;
            self.tell(Input::MemoryLow { on: is_low });
        }
    }

    /// A service has a control connection from its start on: what it hears first is its own `up`,
    /// or a signal that is pending.
    pub(crate) fn add_controller(
        &mut self,
        name: &ServiceName,
        socket: OwnedFd,
        direction: Direction,
    ) {
        let client = match direction {
            Direction::Both => Client::Both,
            Direction::CommandsOnly => Client::CommandsOnly,
            Direction::EventsOnly => Client::EventsOnly,
        };
        match self.connections.add(&self.epoll, Ends::Socket(socket, direction)) {
            Ok(id) => {
                let now = self.now.monotonic;
                self.front.connected_service(now, &self.machine, id, client, name);
            }
            Err(error) => {
                self.say(LogLevel::Error, format_args!("cannot keep connection: {error}"));
            }
        }
    }

    /// Tells the front end of a new connection. Every one begins as a plain one.
    pub(crate) fn greet(&mut self, connection: ConnectionId, client: Client) {
        self.front.connected(self.now.monotonic, &self.machine, connection, client);
        self.perform_all();
    }

    /// Runs commands of one connection: those that are there, up to a number, while their answers
    /// fit.
    fn run_lines(&mut self, id: ConnectionId) {
        for _ in 0..LINES_PER_TURN {
            // Nothing runs after `terminate`.
            if self.ending.is_some() {
                return;
            }
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            let language = connection.language();
            if language == Language::Plain && !self.front.is_ready(id) {
                let is_full = connection.is_input_full();
                self.front.set_input_full(id, is_full);
                return;
            }
            if connection.is_file() {
                connection.read();
            }
            let refused = connection.take_refused_descriptors();
            let read_error = connection.take_read_error();
            let line = connection.next_line();
            if refused > 0 {
                self.say(
                    LogLevel::Error,
                    format_args!("too many descriptors wait for fd.take: {refused} closed"),
                );
            }
            if let Some(error) = read_error {
                self.say(LogLevel::Error, format_args!("cannot read commands: {error}"));
            }
            match line {
                Some(line) => self.run_line(id, language, &line),
                None => {
                    self.run_rest(id, language);
                    return;
                }
            }
        }
    }

    fn run_line(&mut self, id: ConnectionId, language: Language, line: &Line) {
        self.look_at_memory();
        self.look_at_journal(line);
        match language {
            Language::Plain => {
                self.front.handle_line(self.now.monotonic, &self.machine, id, line);
                self.perform_all();
            }
            Language::Extended => {
                let listeners = self.connections.count();
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                let is_long = matches!(line, Line::TooLong { .. });
                let is_starved = is_long && connection.take_starved();
                let Some(news) = read_line(id, line, is_starved, listeners) else {
                    return;
                };
                // Who has no output gets no answer; waiting for one would keep the connection open
                // for ever.
                if let Some(connection) = self.connections.get_mut(id)
                    && is_answered(&news)
                    && connection.has_output()
                {
                    connection.expect_answer();
                }
                self.tell(news);
            }
        }
    }

    /// The end of a stream of commands, perhaps without a last line feed. A configuration runs that
    /// line; from everybody else it was cut off, and what it would have said is not known.
    fn run_rest(&mut self, id: ConnectionId, language: Language) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Some(rest) = connection.take_rest() else {
            return;
        };
        let is_complete = connection.is_configuration();
        match language {
            Language::Plain => {
                self.look_at_memory();
                self.make_room_in_journal(rest.len());
                self.front.handle_end(self.now.monotonic, &self.machine, id, &rest);
                self.perform_all();
            }
            Language::Extended if is_complete => {
                self.run_line(id, language, &Line::Complete(rest));
            }
            Language::Extended => {}
        }
    }

    /// Reports whether lines could be run without any news of the epoll set.
    pub(crate) fn has_lines_to_run(&mut self) -> bool {
        let mut last = None;
        while let Some(id) = self.connections.after(last) {
            last = Some(id);
            if let Some(connection) = self.connections.get_mut(id)
                && connection.has_work()
                && (connection.language() == Language::Extended || self.front.is_ready(id))
            {
                return true;
            }
        }
        false
    }

    /// Writes a message to an extended connection.
    pub(crate) fn send(&mut self, id: ConnectionId, message: &Message) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match message {
            Message::Reply(_, reply) => {
                connection.note_answer();
                if let (Reply::Fail(fail), false) = (reply, connection.has_output()) {
                    self.log.say(LogLevel::Error, &fail.text);
                }
            }
            Message::Error(text) => self.log.say(LogLevel::Error, text),
            Message::ProtoAccepted { .. } | Message::Event(_) | Message::Text(_) => {}
        }
        if connection.send(|line| encode_message(message, line)) {
            let full = Input::Full { connection: id };
            self.machine.handle_input(self.now.monotonic, full);
        }
    }

    /// Does what the front end asks for.
    pub(crate) fn perform_for_front(&mut self, output: keepd_compat::Output) {
        match output {
            keepd_compat::Output::Ask(request) => {
                let request = Input::Request { connection: FRONT, request };
                self.machine.handle_input(self.now.monotonic, request);
            }
            keepd_compat::Output::Upgrade { connection: id } => {
                let waiting = self.front.output(id).to_vec();
                self.front.disconnected(id);
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.upgrade(&waiting);
                    let output = connection.has_output();
                    let connected = Input::Connected { connection: id, output };
                    self.machine.handle_input(self.now.monotonic, connected);
                }
            }
            keepd_compat::Output::Close { connection } => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.close();
                }
            }
            keepd_compat::Output::Log { level, text } => self.say(level, text),
        }
    }

    /// Does something that may fail, and says at once how it went.
    pub(crate) fn perform_effect(&mut self, ticket: Ticket, effect: &Effect) {
        let outcome = match effect {
            Effect::Signal { pid, group, signal } => {
                let sent = self.foreign.signal_number(*pid, signal.0, *group);
                call("kill", sent.unwrap_or_else(|| signals::send_number(*pid, signal.0, *group)))
            }
            Effect::Take { descriptor, connection } => {
                let connection = match *connection {
                    FRONT => self.front.asking(),
                    connection => Some(connection),
                };
                let connection =
                    connection.and_then(|connection| self.connections.get_mut(connection));
                let received = connection.map(|connection| &mut connection.received);
                self.descriptors.take(*descriptor, received)
            }
            Effect::Chdir { path } => {
                let path = Path::new(OsStr::from_bytes(path));
                call("chdir", rustix::process::chdir(path).map_err(errno))
            }
            Effect::Listen { path } => self.listen(Path::new(OsStr::from_bytes(path))),
            Effect::Open { .. } | Effect::Pipe { .. } | Effect::Socket { .. } => {
                self.descriptors.make(effect)
            }
        };
        // The answer belongs before everything else that the machine hears.
        let answer = Input::Performed { ticket, outcome };
        self.machine.handle_input(self.now.monotonic, answer);
        self.hold_handles(effect);
    }

    /// Lets the warden have the descriptors of handles that were made.
    fn hold_handles(&mut self, effect: &Effect) {
        if self.link.is_none() {
            return;
        }
        let made = match effect {
            Effect::Open { descriptor, .. }
            | Effect::Socket { descriptor, .. }
            | Effect::Take { descriptor, .. } => [Some(*descriptor), None],
            Effect::Pipe { read, write, .. } => [Some(*read), Some(*write)],
            Effect::Signal { .. } | Effect::Chdir { .. } | Effect::Listen { .. } => [None, None],
        };
        let holder = self.holder();
        for descriptor in made.into_iter().flatten() {
            if let Some(report) = self.machine.handle_of(descriptor) {
                self.descriptors.hold(&holder, descriptor, report);
            }
        }
    }

    /// Replaces the control socket; the old one goes first, as it may have the same path.
    fn listen(&mut self, path: &Path) -> Result<Performed, CallFailure> {
        self.stop_listening();
        let failed = |errno| CallFailure { call: "listen", errno: Some(errno) };
        let listener = Listener::new(path, self.admission).map_err(failed)?;
        let listener = listener.hold(&self.holder());
        self.epoll.add(&listener, Token::Listener.into(), Interest::READ).map_err(failed)?;
        self.listener = Some(listener);
        Ok(Performed::Done)
    }

    pub(crate) fn stop_listening(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = self.epoll.remove(&listener);
            listener.unlink();
        }
    }

    /// Turns the proxy's own log to a descriptor, by a copy that outlives its handle.
    pub(crate) fn log_to(&mut self, descriptor: Option<DescriptorId>) {
        let copy = descriptor
            .and_then(|id| self.descriptors.get(id))
            .and_then(|descriptor| rustix::io::fcntl_dupfd_cloexec(descriptor, 3).ok());
        let destination = copy.map_or(Destination::Nowhere, Destination::Held);
        self.log.set_destination(Some(&self.epoll), destination);
    }

    /// Carries out the time limits of connections that take nothing.
    pub(crate) fn check_time_limits(&mut self) {
        let due = self.front.poll_timeout();
        if due.is_some_and(|due| due <= self.now.monotonic) {
            self.front.handle_timeout(self.now.monotonic);
            self.perform_all();
        }
    }

    /// Ends a turn for the connections: writes, takes leave, and says what to wait for.
    pub(crate) fn settle_connections(&mut self) {
        let mut last = None;
        while let Some(id) = self.connections.after(last) {
            self.settle(id);
            last = Some(id);
        }
        // What one connection did may have given another one something to write.
        let mut last = None;
        while let Some(id) = self.connections.after(last) {
            last = Some(id);
            if let Some(connection) = self.connections.get_mut(id) {
                let (may_read, waits) = match connection.language() {
                    Language::Plain => (self.front.is_ready(id), !self.front.output(id).is_empty()),
                    Language::Extended => (true, false),
                };
                connection.sync_interest(&self.epoll, id, may_read, waits);
            }
        }
    }

    fn settle(&mut self, id: ConnectionId) {
        for _ in 0..DRAINS_PER_TURN {
            self.flush_journal();
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            let settled = match connection.language() {
                Language::Plain => {
                    self.write_plain(id);
                    let is_ready = self.front.is_ready(id);
                    let waits = !self.front.output(id).is_empty();
                    match self.connections.get_mut(id) {
                        Some(connection) => connection.settle_plain(waits, is_ready),
                        None => return,
                    }
                }
                Language::Extended => connection.settle_extended(),
            };
            match settled {
                Settled::Drained => self.tell(Input::Drained { connection: id }),
                Settled::Over => self.disconnect(id),
                Settled::Open => return,
            }
        }
    }

    /// Writes what waits for a plain connection, as far as it goes.
    pub(crate) fn write_plain(&mut self, id: ConnectionId) {
        self.flush_journal();
        loop {
            let output = self.front.output(id);
            let Some(connection) = self.connections.get_mut(id) else {
                return;
            };
            if output.is_empty() {
                return;
            }
            match connection.write(output) {
                Written::Bytes(count) => {
                    self.front.written(self.now.monotonic, &self.machine, id, count);
                    if count == 0 {
                        return;
                    }
                }
                Written::Lost => {
                    self.front.output_lost(id);
                    return;
                }
            }
        }
    }

    /// Forgets a connection. With that of standard input and output the proxy ends.
    fn disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&self.epoll, id) else {
            return;
        };
        if !connection.received.is_empty() {
            let count = connection.received.len();
            self.say(
                LogLevel::Warning,
                format_args!("a connection ended with {count} descriptors that nobody took"),
            );
        }
        if connection.is_interactive() {
            self.leave_standard_streams();
            if self.exit.is_guarded {
                self.say(LogLevel::Info, "the interactive session ended (guarded: going on)");
            } else {
                self.ending.get_or_insert(Ending::Asked(0));
            }
        }
        let language = connection.language();
        if connection.is_configuration()
            && let Some(ledger) = &mut self.ledger
        {
            ledger.note_configured();
        }
        drop(connection);
        self.rest_due = Some(self.now.monotonic.saturating_add(QUIET));
        self.end_wait();
        match language {
            Language::Plain => {
                self.front.disconnected(id);
                self.perform_all();
            }
            Language::Extended => self.tell(Input::Disconnected { connection: id }),
        }
    }

    /// Lets go of standard input and output after the interactive session: who is at the other end
    /// sees that it is over, and the last program finds the null device there.
    fn leave_standard_streams(&mut self) {
        for which in [Standard::Input, Standard::Output] {
            if let Err(error) = daemon::replace_by_null(which) {
                let text = format_args!("cannot let go of a standard descriptor: {error}");
                self.say(LogLevel::Error, text);
            }
        }
    }

    /// Writes what waits in every connection: for plain ones as far as it goes at once, as the
    /// original; for extended ones until a deadline at most.
    pub(crate) fn flush_connections(&mut self) {
        let deadline = clock::monotonic_now().saturating_add(FLUSH_TIME_MAX);
        self.flush_journal();
        let mut last = None;
        while let Some(id) = self.connections.after(last) {
            last = Some(id);
            loop {
                self.write_plain(id);
                let Some(connection) = self.connections.get_mut(id) else {
                    break;
                };
                connection.flush();
                let left = deadline.saturating_since(clock::monotonic_now());
                let Some(descriptor) = connection.output_descriptor() else {
                    break;
                };
                if left.is_zero() || !connection.has_waiting_output() {
                    break;
                }
                let mut polled = [PollFd::new(&descriptor, PollFlags::OUT)];
                let timeout = Timespec {
                    tv_sec: left.as_secs().cast_signed(),
                    tv_nsec: i64::from(left.subsec_nanos()),
                };
                let _ = poll(&mut polled, Some(&timeout));
            }
        }
    }
}

fn call(call: &'static str, outcome: Result<(), Errno>) -> Result<Performed, CallFailure> {
    match outcome {
        Ok(()) => Ok(Performed::Done),
        Err(errno) => Err(CallFailure { call, errno: Some(errno) }),
    }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

/// Returns the news that a line of an extended connection is; nothing for a blank one or a comment.
/// It `is_starved` if it was thrown away for want of memory, not because it was too long.
fn read_line(
    connection: ConnectionId,
    line: &Line,
    is_starved: bool,
    listeners: usize,
) -> Option<Input> {
    let refusal = match line {
        Line::TooLong { start } if is_starved => RequestError::out_of_memory(start),
        Line::TooLong { start } => RequestError::too_long(start),
        Line::Complete(bytes) if !fits(bytes, listeners) => RequestError::out_of_memory(bytes),
        Line::Complete(bytes) => match decode_request(bytes) {
            Ok(request) => {
                return request.map(|request| Input::Request { connection, request });
            }
            Err(refusal) => refusal,
        },
    };
    Some(Input::Refused { connection, answer: refusal.into_message() })
}

/// Reports whether there is memory for a command of this length, and for telling so many listeners
/// of it; for short ones there always is.
fn fits(line: &[u8], listeners: usize) -> bool {
    let bytes = memory::bytes_to_read(line) + listeners * line.len();
    line.len() <= PLAIN_LINE_BYTES_MAX || memory::has_room(bytes)
}

/// Reports whether the news will be answered by a line with the number of the command.
fn is_answered(news: &Input) -> bool {
    matches!(
        news,
        Input::Request { request: Request::Numbered(..), .. }
            | Input::Refused { answer: Message::Reply(..), .. }
    )
}
