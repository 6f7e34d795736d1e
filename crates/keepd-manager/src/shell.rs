//! The task that owns the machine: it alone feeds it, and does what it asks for in that order.

mod connection;
mod signals;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{
    Announcement, Ask, AskId, Happening, Input, Manager, Output, Preparation, Question, Refusal,
    Said, Ticket, Verb,
};
use keepd_model::protocol::{
    self, Command, Event, FailKind, LogTarget, Message, READY_FD_TEXT, RequestId,
};
use keepd_model::{
    ChangeId, ExitCode, Generation, Instant, ManagerSpec, Plan, ServiceName, ServiceSpec, State,
};
use keepd_os::clock::monotonic_now;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) use self::connection::Patience;
use self::connection::{Connection, News};
use crate::api::History;
use crate::calls::{ActError, Call, Caller, Pulse};
use crate::config::Configuration;
use crate::console::Console;
use crate::instance::Instance;
use crate::log_places::LogPlaces;
use crate::own_log::LevelHandle;
use crate::prepare::Pool;
use crate::probes::Prober;
use crate::time::WallClock;

/// How long the end waits for clients to read their last answers.
const SERVER_LIMIT: Duration = Duration::from_secs(1);

/// How long the end waits for whoever asked for it to come back for the result: it was told the
/// number of the change, and asks with another request.
const FAREWELL_LIMIT: Duration = Duration::from_millis(300);

/// After this many messages of the proxy in one go, others get their turn.
const BATCH_MAX: usize = 1_000;

/// How long nothing has happened when memory is given back.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Commands of the shell itself have numbers from here; the machine counts from 1.
const OWN_REQUESTS_FROM: u64 = 1 << 63;

/// Where the manager belongs to, for as long as it lives.
pub(crate) struct Home {
    pub(crate) instance: Arc<Instance>,
    /// How it was started.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) patience: Patience,
}

/// What the shell is connected to.
pub(crate) struct Wires {
    pub(crate) home: Arc<Home>,
    pub(crate) pool: Pool,
    pub(crate) logs: Arc<LogPlaces>,
    pub(crate) results: mpsc::Sender<Input>,
    pub(crate) pulse: watch::Sender<Pulse>,
    pub(crate) history: Arc<History>,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) caller: Caller,
    pub(crate) level: LogLevel,
    /// Tells the server to end.
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) server: JoinHandle<()>,
}

/// How much keepd says about itself.
pub(crate) struct LogLevel {
    pub(crate) handle: LevelHandle,
    /// An option or the environment said it, so that the configuration does not count.
    pub(crate) fixed: bool,
}

/// Where the answer to an ask goes.
enum Reply {
    Act(oneshot::Sender<Result<ChangeId, ActError>>),
    Apply {
        reply: oneshot::Sender<Result<ChangeId, Refusal>>,
        /// What the new plan says about keepd itself.
        keys: Box<ManagerSpec>,
    },
}

/// The machine and everything round it.
pub(crate) struct Shell {
    machine: Manager,
    console: Console,
    wires: Wires,
    connection: Connection,
    prober: Prober,
    replies: BTreeMap<AskId, Reply>,
    ask_next: u64,
    request_next: u64,
    announced: u64,
    /// When to give memory back, if nothing happens before.
    rest_due: Option<Instant>,
}

impl Shell {
    /// Returns a shell that begins to connect to the proxy.
    pub(crate) fn new(machine: Manager, console: Console, wires: Wires) -> Self {
        let connection = Connection::begin(&wires.home);
        let prober = Prober::new(Arc::clone(&wires.logs), wires.pool.strangers());
        Self {
            machine,
            console,
            wires,
            connection,
            prober,
            replies: BTreeMap::new(),
            ask_next: 0,
            request_next: OWN_REQUESTS_FROM,
            announced: 0,
            rest_due: None,
        }
    }

    /// Runs until everything is stopped, or the proxy is lost for good.
    pub(crate) async fn run(
        mut self,
        plan: Plan,
        mut calls: mpsc::Receiver<Call>,
        mut results: mpsc::Receiver<Input>,
    ) -> u8 {
        self.feed(Input::Boot { plan });
        loop {
            if let Some(code) = self.settle().await {
                return self.finish(code, &mut calls).await;
            }
            let timeout = self.machine.poll_timeout();
            let look = self.console.progress_due();
            tokio::select! {
                () = until(self.rest_due) => {
                    self.rest();
                    continue;
                }
                news = self.connection.next() => {
                    if let Some(code) = self.on_news(news) {
                        return code;
                    }
                }
                Some(call) = calls.recv() => self.on_call(call),
                Some(result) = results.recv() => self.feed(result),
                () = until(timeout) => {
                    self.machine.handle_timeout(monotonic_now());
                    self.console.note_change();
                }
                () = until(look) => self.console.show_progress(monotonic_now(), &self.machine),
            }
            self.rest_due = Some(monotonic_now().saturating_add(REST_AFTER));
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle_input(monotonic_now(), input);
        self.console.note_change();
    }

    /// Does everything the machine asks for, also about messages that are there already. Returns
    /// the exit code once everything is finished.
    async fn settle(&mut self) -> Option<u8> {
        for _ in 0..BATCH_MAX {
            while let Some(output) = self.machine.poll_output() {
                if let Some(code) = self.carry_out(output).await {
                    return Some(code);
                }
            }
            match self.connection.next_ready() {
                Some(message) => self.on_message(message),
                None => break,
            }
        }
        self.connection.flush().await;
        self.send_pulse();
        None
    }

    async fn carry_out(&mut self, output: Output) -> Option<u8> {
        match output {
            Output::Command { id, command } => {
                if let Command::ServiceLog { name, log } = &command {
                    self.note_log(name, log);
                }
                self.connection.push(id, command);
                if self.connection.is_full() {
                    self.connection.flush().await;
                }
            }
            Output::Prepare { ticket, spec, preparation } => {
                self.prepare(ticket, spec, preparation);
            }
            Output::Probe { name, generation, index, question, timeout } => {
                self.probe(name, generation, index, question, timeout);
            }
            Output::Answer { ask, answer } => self.answer(ask, answer),
            Output::Announce(news) => self.announce(news),
            Output::Finish { code } => return Some(code),
        }
        None
    }

    fn announce(&mut self, news: Announcement) {
        self.announced += 1;
        match &news.what {
            // Readiness is asked for only in this state.
            Happening::State { name, to, .. } if *to != State::Starting => self.prober.forget(name),
            Happening::State { .. }
            | Happening::ChangeOpened(_)
            | Happening::ChangeClosed(_)
            | Happening::OutputBlocked { .. }
            | Happening::Synchronised { .. }
            | Happening::ShutdownBegun(_) => {}
        }
        self.console.announce(&news);
        self.wires.history.add(news, WallClock::read());
    }

    fn prepare(&self, ticket: Ticket, spec: Arc<ServiceSpec>, preparation: Preparation) {
        let (pool, results) = (self.wires.pool.clone(), self.wires.results.clone());
        tokio::spawn(async move {
            let outcome = pool.prepare(spec, preparation).await;
            // The receiver is gone only when the manager ends.
            let _ = results.send(Input::Prepared { ticket, outcome }).await;
        });
    }

    fn note_log(&mut self, name: &ServiceName, log: &LogTarget) {
        self.console.note_log(name, log);
        self.wires.logs.note_log(name, log);
    }

    fn probe(
        &mut self,
        name: ServiceName,
        generation: Generation,
        index: usize,
        question: Question,
        timeout: Duration,
    ) {
        let results = self.wires.results.clone();
        let answer = self.prober.ask(&name, generation, index, question, timeout);
        tokio::spawn(async move {
            let outcome = answer.await;
            let _ = results.send(Input::Probed { name, generation, index, outcome }).await;
        });
    }

    fn answer(&mut self, ask: AskId, answer: Result<ChangeId, Refusal>) {
        // Who asked may have gone meanwhile; the change goes on.
        match self.replies.remove(&ask) {
            Some(Reply::Act(reply)) => drop(reply.send(answer.map_err(ActError::Refused))),
            Some(Reply::Apply { reply, keys }) => {
                if answer.is_ok() {
                    self.set_keys(&keys);
                }
                drop(reply.send(answer));
            }
            None => {}
        }
    }

    /// Lets changed keys of `[keepd]` take effect, as far as they are the shell's.
    fn set_keys(&mut self, keys: &ManagerSpec) {
        if !self.wires.level.fixed {
            self.wires.level.handle.set(&keys.log_level);
        }
        let (machine, logs) = (&self.machine, &self.wires.logs);
        self.console.set_keys(keys, || {
            let statuses = machine.statuses();
            statuses.iter().filter_map(|status| logs.log(&status.spec.name)).collect()
        });
    }

    /// Gives back what was needed on the way, once nothing has happened for a moment. What was
    /// read, asked and answered takes several times as much room as what stays of it.
    fn rest(&mut self) {
        keepd_os::heap::give_back();
        self.rest_due = None;
    }

    fn send_pulse(&self) {
        let pulse = Pulse { synchronised: self.machine.is_synchronised(), count: self.announced };
        self.wires.pulse.send_if_modified(|known| std::mem::replace(known, pulse) != pulse);
    }

    /// Takes news of the connection; returns the exit code if there will be none any more.
    fn on_news(&mut self, news: News) -> Option<u8> {
        match news {
            News::Connected => self.feed(Input::Connected),
            News::Message(message) => self.on_message(message),
            News::Lost(error) => {
                tracing::warn!("the connection to the proxy was lost: {error}");
                self.feed(Input::Disconnected);
                self.connection = Connection::begin(&self.wires.home);
            }
            News::Failed(error) => {
                tracing::error!("cannot connect to the proxy: {error}");
                return Some(ExitCode::System.get());
            }
        }
        None
    }

    fn on_message(&mut self, message: Message) {
        let message = match message {
            // Of no interest to the machine, and frequent.
            Message::Event(Event::Output { name, .. }) => {
                self.console.note_output(&name);
                self.prober.note_output(&name);
                self.wires.logs.note_output();
                return;
            }
            Message::Event(Event::Notify { name, generation, text, .. }) => {
                let parsed = keepd_wire::notify::parse_notify(&text);
                let said = Said {
                    ready: parsed.ready,
                    ready_fd: text == READY_FD_TEXT.as_bytes(),
                    reloading: parsed.reloading,
                    stamp: parsed.monotonic,
                    status: parsed.status,
                };
                self.feed(Input::Notified { name, generation, said });
                return;
            }
            Message::Event(Event::Log(name, log)) => {
                self.note_log(&name, &log);
                Message::Event(Event::Log(name, log))
            }
            Message::Event(Event::Signal { signal, at, count }) => {
                self.on_signal(signal, count);
                Message::Event(Event::Signal { signal, at, count })
            }
            Message::Reply(id, protocol::Reply::Fail(fail)) => {
                // Nobody waits for the answer to a note; that one is missing shows only after a
                // takeover.
                if fail.kind == FailKind::Limit {
                    tracing::warn!("the proxy refuses a command: {}", fail.text);
                }
                Message::Reply(id, protocol::Reply::Fail(fail))
            }
            Message::Event(_)
            | Message::ProtoAccepted { .. }
            | Message::Reply(..)
            | Message::Text(_)
            | Message::Error(_) => message,
        };
        self.feed(Input::Message(message));
    }

    fn on_call(&mut self, call: Call) {
        match call {
            Call::Look(view) => view(&self.machine, monotonic_now()),
            Call::Act { who, token, select, ask, reply } => match self.machine.select(&select) {
                Ok(names) => {
                    let ask_id = self.expect_answer(Reply::Act(reply));
                    self.feed(Input::Ask { ask: ask_id, who, token, request: ask(names) });
                }
                Err(selector) => drop(reply.send(Err(ActError::NoMatch(selector)))),
            },
            Call::Apply { who, token, plan, restart, reply } => {
                let keys = Box::new(plan.manager.clone());
                let ask = self.expect_answer(Reply::Apply { reply, keys });
                let request = Ask::Apply { plan: *plan, restart };
                self.feed(Input::Ask { ask, who, token, request });
            }
        }
    }

    fn expect_answer(&mut self, reply: Reply) -> AskId {
        self.ask_next += 1;
        let ask = AskId(self.ask_next);
        self.replies.insert(ask, reply);
        ask
    }

    fn send_own(&mut self, command: Command) {
        self.request_next += 1;
        self.connection.push(RequestId(self.request_next), command);
    }

    /// Reports whether a client asked for the end, and not a signal or a service.
    fn was_asked_to_end(&self) -> bool {
        let mut changes = self.machine.changes();
        changes.any(|change| change.verb == Verb::Shutdown && change.who.is_some())
    }

    /// Answers questions still; nothing is begun any more.
    fn on_last_call(&self, call: Call) {
        match call {
            Call::Look(view) => view(&self.machine, monotonic_now()),
            // Dropping the reply says that nobody answers any more.
            Call::Act { .. } | Call::Apply { .. } => {}
        }
    }

    /// Says goodbye to clients and to the console, then tells the proxy to end.
    async fn finish(mut self, code: u8, calls: &mut mpsc::Receiver<Call>) -> u8 {
        self.connection.flush().await;
        self.send_pulse();
        if self.was_asked_to_end() {
            let caller = self.wires.caller.clone();
            let farewell = tokio::time::timeout(FAREWELL_LIMIT, caller.farewell());
            let mut farewell = std::pin::pin!(farewell);
            loop {
                tokio::select! {
                    _ = &mut farewell => break,
                    Some(call) = calls.recv() => self.on_last_call(call),
                }
            }
        }
        self.wires.history.close();
        self.wires.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + SERVER_LIMIT;
        loop {
            tokio::select! {
                _ = &mut self.wires.server => break,
                Some(call) = calls.recv() => self.on_last_call(call),
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        self.console.finish(monotonic_now(), &self.machine).await;
        self.send_own(Command::Terminate { code, guard: None });
        self.connection.flush().await;
        // The proxy would start us again if it saw our end before it has read that it shall end,
        // too.
        let ended = async { while !matches!(self.connection.next().await, News::Lost(_)) {} };
        let _ = tokio::time::timeout(SERVER_LIMIT, ended).await;
        code
    }
}

/// Waits until a time; for ever, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep(at.saturating_since(monotonic_now())).await,
        None => std::future::pending().await,
    }
}
