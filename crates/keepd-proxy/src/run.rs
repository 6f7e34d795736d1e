//! The loop: one thread, one epoll set, news in a fixed order.
//!
//! A turn waits, reads the clock once, and tells the machine what happened: spawn reports, deaths,
//! empty groups, notifications and output, signals, what is due, and at last the lines of
//! connections; so a command never overtakes the death before it. After each piece of news
//! everything that the machine asks for is done. Nothing here decides anything about a service.

use std::time::Duration;

use keepd_engine::proxy::{ConnectionId, Input, JobId, Output, Owner, Proxy};
use keepd_model::protocol::{Message, Reply, Request};
use keepd_model::{Errno, Pid, ServiceName, Signal, SpawnFailure};
use keepd_os::epoll::{Epoll, Interest, Ready};
use keepd_os::signals::{self, SignalReader};
use keepd_os::{clock, reap};
use keepd_wire::{Line, Mode, RequestError, decode_request, encode_message};

use crate::children::{Children, Surroundings};
use crate::connections::{Connections, Ends, Settled};
use crate::groups::Groups;
use crate::listener::{Accepted, Listener};
use crate::log::{Level, Log};
use crate::notify::NotifySockets;
use crate::options::Options;
use crate::pump::{Moment, News, Pump};
use crate::ready::ReadyPipes;
use crate::token::Token;

/// Commands of one connection in one turn, so that a client that floods does not starve the others.
const LINES_PER_TURN: usize = 64;
/// Children reaped in one turn, so that a storm of deaths leaves time for commands.
const DEATHS_PER_TURN: usize = 1024;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// How often a connection is emptied and filled again in one turn.
const DRAINS_PER_TURN: usize = 8;
/// How long the end of the proxy waits for slow readers.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
/// The exit code of daemonproxy where it cannot start.
const START_FAILED: u8 = 3;
/// No such process: it ended before the signal came, and its death will be told.
const ESRCH: Errno = Errno(3);

/// Runs the proxy until it is told to end; returns its exit code. Services are not touched by that
/// end.
pub fn run(options: &Options) -> u8 {
    match Shell::start(options, Log::default()) {
        Ok(shell) => shell.run(),
        Err((error, mut log)) => {
            log.say(Level::Fatal, error);
            log.flush(clock::monotonic_now());
            START_FAILED
        }
    }
}

/// Everything that the loop works with.
pub(crate) struct Shell {
    pub(crate) epoll: Epoll,
    pub(crate) signals: SignalReader,
    pub(crate) machine: Proxy,
    /// When this turn began.
    pub(crate) now: Moment,
    pub(crate) log: Log,
    pub(crate) connections: Connections,
    pub(crate) listener: Option<Listener>,
    pub(crate) pump: Pump,
    pub(crate) groups: Groups,
    pub(crate) notify: NotifySockets,
    pub(crate) ready: ReadyPipes,
    pub(crate) children: Children,
    /// A storm of deaths goes on in the next turn.
    pub(crate) has_ended_children: bool,
    /// Somebody wants to hear of output.
    pub(crate) watches_output: bool,
    /// The exit code, once the end was asked for.
    pub(crate) ending: Option<u8>,
}

/// What the epoll set had to say, sorted by the order of a turn.
#[derive(Default)]
struct Heard {
    reports: Vec<Pid>,
    groups: Vec<u64>,
    notify: Vec<u64>,
    ready: Vec<u64>,
    streams: Vec<u64>,
    jobs: Vec<JobId>,
    has_signals: bool,
    has_connections: bool,
    inputs: Vec<(ConnectionId, Ready)>,
    outputs: Vec<(ConnectionId, Ready)>,
}

impl Heard {
    fn sort(ready: &[Ready]) -> Self {
        let mut heard = Self::default();
        for one in ready {
            match Token::from_bits(one.token) {
                Some(Token::Listener) => heard.has_connections = true,
                Some(Token::Signals) => heard.has_signals = true,
                Some(Token::Connection(id)) => heard.inputs.push((ConnectionId(id), *one)),
                Some(Token::ConnectionOutput(id)) => heard.outputs.push((ConnectionId(id), *one)),
                Some(Token::Report(pid)) => {
                    heard.reports.extend(u32::try_from(pid).ok().and_then(Pid::new));
                }
                Some(Token::Group(token)) => heard.groups.push(token),
                Some(Token::Stream(token)) => heard.streams.push(token),
                Some(Token::Notify(token)) => heard.notify.push(token),
                Some(Token::Ready(token)) => heard.ready.push(token),
                Some(Token::JobOutput(job)) => heard.jobs.push(JobId(job)),
                None => {}
            }
        }
        heard
    }
}

impl Shell {
    /// Turns until the end. From here on the proxy must not die: what fails is said and tried
    /// again.
    fn run(mut self) -> u8 {
        let mut ready = Vec::new();
        loop {
            self.turn(&ready);
            if let Some(code) = self.ending {
                return self.end(code);
            }
            let timeout = self.timeout();
            if let Err(error) = self.epoll.wait(timeout, &mut ready) {
                self.log.say(Level::Error, format_args!("cannot wait for news: {error}"));
            }
        }
    }

    fn turn(&mut self, ready: &[Ready]) {
        self.now = Moment::now();
        let heard = Heard::sort(ready);
        for pid in &heard.reports {
            if let Some(news) = self.children.report(&self.epoll, *pid) {
                self.tell(news);
            }
        }
        let signals = self.take_signals(heard.has_signals);
        self.reap();
        for token in &heard.groups {
            self.groups.on_ready(&self.epoll, *token);
        }
        self.groups.look(self.now.monotonic);
        self.tell_empty_groups();
        self.tell_output(&heard);
        for (signal, count) in signals {
            self.tell(Input::Signal { signal, count });
        }
        let due = self.machine.poll_timeout();
        if due.is_some_and(|due| due <= self.now.monotonic) {
            self.machine.handle_timeout(self.now.monotonic);
            self.perform_all();
        }
        self.hear_connections(&heard);
        self.groups.remove_unremoved();
        self.settle_connections();
        self.log.flush(self.now.monotonic);
    }

    /// Returns how long to sleep: exactly until something is due, or until news.
    fn timeout(&self) -> Option<Duration> {
        if self.has_ended_children || self.groups.has_empty() || self.connections.has_work() {
            return Some(Duration::ZERO);
        }
        let due = [
            self.machine.poll_timeout(),
            self.groups.poll_timeout(),
            self.pump.poll_timeout(),
            self.listener.as_ref().and_then(Listener::paused_until),
            self.log.poll_timeout(),
        ];
        let due = due.into_iter().flatten().min()?;
        Some(due.saturating_since(clock::monotonic_now()))
    }

    /// Tells the machine and does everything that it asks for.
    pub(crate) fn tell(&mut self, news: Input) {
        self.machine.handle_input(self.now.monotonic, news);
        self.perform_all();
    }

    fn perform_all(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { connection, message } => self.send(connection, &message),
            Output::Upgrade { connection } => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.upgrade();
                }
            }
            Output::Close { connection } => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.close();
                }
            }
            Output::Spawn(spawn) => {
                let owner = Owner::Service(spawn.name.clone(), spawn.generation);
                self.spawn(owner, |children, around| children.spawn_service(around, &spawn));
            }
            Output::SpawnJob(spawn) => {
                let owner = Owner::Job(spawn.job);
                self.spawn(owner, |children, around| children.spawn_job(around, &spawn));
            }
            Output::SignalMain { owner: _, pid, signal } => {
                self.check_signal(signal, signals::send(pid, signal));
            }
            Output::SignalProcessGroup { pid, signal } => {
                self.check_signal(signal, signals::send_group(pid, signal));
            }
            Output::SignalGroup { owner, signal } => {
                let sent = self.groups.signal(&owner, signal, self.now.monotonic);
                self.check_signal(signal, sent);
            }
            Output::WatchGroup { owner } => {
                let watched = self.groups.watch(&self.epoll, &owner, self.now.monotonic);
                if let Err(error) = watched {
                    self.log.say(Level::Error, format_args!("cannot watch a cgroup: {error}"));
                }
            }
            Output::LeaveGroup { owner } => {
                if let Err(error) = self.groups.leave(&self.epoll, &owner) {
                    self.log.say(Level::Error, format_args!("cannot watch a cgroup: {error}"));
                }
            }
            Output::Forget { name } => {
                self.pump.drain(&self.epoll, self.now, &name);
                self.pump.forget(&self.epoll, &name);
                self.notify.forget(&self.epoll, &name);
                self.ready.close(&self.epoll, &name);
            }
            Output::WatchOutput { on } => self.watches_output = on,
            Output::Terminate { code } => self.ending = Some(code),
        }
    }

    fn spawn(
        &mut self,
        owner: Owner,
        how: impl FnOnce(&mut Children, &mut Surroundings<'_>) -> Result<Pid, SpawnFailure>,
    ) {
        let outcome = how(
            &mut self.children,
            &mut Surroundings {
                epoll: &self.epoll,
                now: self.now,
                pump: &mut self.pump,
                groups: &mut self.groups,
                notify: &mut self.notify,
                ready: &mut self.ready,
            },
        );
        // The answer belongs before everything else that the machine hears; what it makes the
        // machine ask for waits behind what was asked for already.
        let answer = Input::Spawned { owner, outcome };
        self.machine.handle_input(self.now.monotonic, answer);
    }

    fn check_signal(&mut self, signal: Signal, sent: Result<(), Errno>) {
        match sent {
            Ok(()) | Err(ESRCH) => {}
            Err(error) => {
                self.log.say(Level::Error, format_args!("cannot send signal {signal}: {error}"));
            }
        }
    }

    fn send(&mut self, id: ConnectionId, message: &Message) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match message {
            Message::Reply(_, reply) => {
                connection.note_answer();
                if let (Reply::Fail(fail), false) = (reply, connection.has_output()) {
                    self.log.say(Level::Error, &fail.text);
                }
            }
            Message::PlainError(text) => self.log.say(Level::Error, text),
            Message::ProtoAccepted { .. }
            | Message::Event(_)
            | Message::Text(_)
            | Message::Overflow => {}
        }
        let (mode, now) = (connection.mode(), self.now.monotonic);
        let became_full = connection.send(|line| encode_message(message, mode, now, line));
        if became_full {
            let full = Input::Full { connection: id };
            self.machine.handle_input(now, full);
        }
    }

    /// Reads the signals; CHLD is no news, but means that children may have ended.
    fn take_signals(&mut self, has_signals: bool) -> Vec<(Signal, u64)> {
        if !has_signals {
            return Vec::new();
        }
        let mut signals = self.signals.read().unwrap_or_default();
        let heard = signals.len();
        signals.retain(|(signal, _)| *signal != Signal::CHLD);
        self.has_ended_children |= signals.len() != heard;
        signals.into_iter().map(|(signal, count)| (signal, count.into())).collect()
    }

    /// Records every end before the only copy of its status is gone.
    fn reap(&mut self) {
        if !std::mem::take(&mut self.has_ended_children) {
            return;
        }
        for _ in 0..DEATHS_PER_TURN {
            let Ok(Some((pid, exit))) = reap::peek() else {
                return;
            };
            if let Some(news) = self.children.last_report(&self.epoll, pid) {
                self.tell(news);
            }
            self.children.forget(&self.epoll, pid);
            if let Some(name) = self.machine.run_ends_with(pid).cloned() {
                self.tell_last_words(&name);
            }
            self.tell(Input::Reaped { pid, exit });
            if let Err(error) = reap::consume(pid) {
                self.log.say(Level::Error, format_args!("cannot reap process {pid}: {error}"));
                return;
            }
        }
        self.has_ended_children = true;
    }

    /// Everything that a group has written and said is told before its end.
    fn tell_empty_groups(&mut self) {
        while let Some(owner) = self.groups.take_empty(&self.epoll) {
            match &owner {
                Owner::Service(name, _) => self.tell_last_words(name),
                Owner::Job(job) => self.tell_job_output(*job, true),
            }
            self.tell(Input::GroupEmpty { owner });
        }
    }

    /// Tells what a service has written and said before the end of its run.
    fn tell_last_words(&mut self, name: &ServiceName) {
        self.pump.drain(&self.epoll, self.now, name);
        self.tell_written();
        self.tell_notifications(name);
        if let Some(news) = self.ready.take_last(&self.epoll, name) {
            self.tell(news);
        }
    }

    fn tell_output(&mut self, heard: &Heard) {
        for token in &heard.notify {
            if let Some(name) = self.notify.owner(*token) {
                self.tell_notifications(&name);
            }
        }
        for token in &heard.ready {
            if let Some(news) = self.ready.receive(&self.epoll, *token) {
                self.tell(news);
            }
        }
        for job in &heard.jobs {
            self.tell_job_output(*job, false);
        }
        for token in &heard.streams {
            self.pump.on_ready(&self.epoll, self.now, *token);
        }
        self.pump.retry(&self.epoll, self.now);
        self.tell_written();
    }

    fn tell_written(&mut self) {
        for news in self.pump.take_news() {
            match news {
                News::Output(name, stream, offset) if self.watches_output => {
                    self.tell(Input::Output { name, stream, offset });
                }
                News::Output(..) => {}
                News::Blocked(name, errno) => self.tell(Input::OutputBlocked { name, errno }),
            }
        }
    }

    fn tell_notifications(&mut self, name: &ServiceName) {
        for (pid, text) in self.notify.receive(name) {
            if self.groups.is_left_behind(name, pid) {
                // It would be taken for a word of the present generation.
                continue;
            }
            let name = name.clone();
            self.tell(Input::Notify { name, pid, text });
        }
    }

    fn tell_job_output(&mut self, job: JobId, to_end: bool) {
        for news in self.children.job_output(&self.epoll, job, to_end) {
            self.tell(news);
        }
    }

    fn hear_connections(&mut self, heard: &Heard) {
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
        for id in self.connections.ids() {
            self.run_lines(id);
        }
    }

    fn accept(&mut self, has_connections: bool) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        if listener.resume(self.now.monotonic) {
            let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::READ);
        }
        let mut accepted = Vec::new();
        for _ in 0..if has_connections { ACCEPTS_PER_TURN } else { 0 } {
            let count = self.connections.count() + accepted.len();
            match listener.accept(count, self.now.monotonic) {
                Accepted::Connection(socket) => accepted.push(socket),
                Accepted::Refused(why) => self.log.say(Level::Warning, why),
                Accepted::Nobody => break,
            }
            if listener.paused_until().is_some() {
                let _ = self.epoll.modify(&*listener, Token::Listener.into(), Interest::default());
                break;
            }
        }
        for socket in accepted {
            match self.connections.add(&self.epoll, Ends::Socket(socket)) {
                Ok(connection) => self.tell(Input::Connected { connection, output: true }),
                Err(error) => {
                    self.log.say(Level::Warning, format_args!("cannot keep connection: {error}"));
                }
            }
        }
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
            if connection.is_file() {
                connection.read();
            }
            let Some((line, mode)) = connection.next_line() else {
                return;
            };
            let Some(news) = read_line(id, &line, mode) else {
                continue;
            };
            // Who has no output gets no answer; waiting for one would keep the connection open for
            // ever.
            if is_answered(&news) && connection.has_output() {
                connection.expect_answer();
            }
            self.tell(news);
        }
    }

    /// Ends a turn for the connections: writes, takes leave, and says what to wait for.
    fn settle_connections(&mut self) {
        for id in self.connections.ids() {
            for _ in 0..DRAINS_PER_TURN {
                let settled = self.connections.get_mut(id).map(|connection| connection.settle());
                match settled {
                    Some(Settled::Drained) => self.tell(Input::Drained { connection: id }),
                    Some(Settled::Over) => self.disconnect(id),
                    Some(Settled::Open) | None => break,
                }
            }
        }
        // What one connection did may have given another one something to write.
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.sync_interest(&self.epoll, id);
            }
        }
    }

    /// Forgets a connection. With that of standard input and output the proxy ends.
    fn disconnect(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&self.epoll, id) else {
            return;
        };
        if connection.is_interactive() {
            self.ending.get_or_insert(0);
        }
        drop(connection);
        if let Some(listener) = &mut self.listener {
            listener.refill();
        }
        self.tell(Input::Disconnected { connection: id });
    }

    /// Writes what can be written in bounded time, and leaves. Services go on.
    fn end(mut self, code: u8) -> u8 {
        self.pump.drain_all(&self.epoll, Moment::now());
        let deadline = clock::monotonic_now().saturating_add(FLUSH_TIME_MAX);
        self.connections.flush_all(deadline);
        if let Some(listener) = &self.listener {
            listener.unlink();
        }
        for service in self.machine.services() {
            // keepd's own processes end with the instance; nobody has to look after them.
            if let Some(pid) = service.pid.filter(|_| !service.name.is_internal()) {
                let name = service.name;
                self.log.say(Level::Warning, format_args!("service \"{name}\" goes on as {pid}"));
            }
        }
        self.log.flush(clock::monotonic_now());
        code
    }
}

/// Returns the news that a line is; nothing for a blank one or a comment.
fn read_line(connection: ConnectionId, line: &Line, mode: Mode) -> Option<Input> {
    let refusal = match line {
        Line::TooLong { start } => RequestError::too_long(start, mode),
        Line::Complete(bytes) => match decode_request(bytes, mode) {
            Ok(request) => {
                return request.map(|request| Input::Request { connection, request });
            }
            Err(refusal) => refusal,
        },
    };
    Some(Input::Refused { connection, answer: refusal.into_message() })
}

/// Reports whether the news will be answered by a line with the number of the command.
fn is_answered(news: &Input) -> bool {
    matches!(
        news,
        Input::Request { request: Request::Numbered(..), .. }
            | Input::Refused { answer: Message::Reply(..), .. }
    )
}
