//! The loop: one thread, one epoll set, news in a fixed order.
//!
//! A turn waits, reads the clock once, and tells the machine what happened: spawn reports, deaths,
//! empty groups, notifications and output, signals, what is due, and at last the lines of
//! connections; so a command never overtakes the death before it. After each piece of news
//! everything that the machine asks for is done. Nothing here decides anything about a service.

use std::time::Duration;

use keepd_compat::{FRONT, Front};
use keepd_engine::proxy::{ConnectionId, Input, JobId, Output, Owner, Proxy, ServiceSpawn};
use keepd_model::{
    Errno, Exit as ProcessExit, Instant, LogLevel, Pid, ServiceName, Signal, SpawnFailure,
    SpawnStep,
};
use keepd_os::epoll::{Epoll, Ready};
use keepd_os::fatal::FatalSignals;
use keepd_os::signals::{self, SignalReader};
use keepd_os::{clock, code, heap, reap};

use crate::adopt::Adoption;
use crate::children::{Children, Started, Surroundings};
use crate::connections::Connections;
use crate::descriptors::Descriptors;
use crate::exit::{self, Ended, Exit};
use crate::foreign::Foreign;
use crate::groups::Groups;
use crate::ledger::{Intent, Ledger, Refusal};
use crate::link::Link;
use crate::listener::{Admission, Listener};
use crate::log::Log;
use crate::memory::Memory;
use crate::notify::NotifySockets;
use crate::pump::{Moment, News, Pump};
use crate::ready::ReadyPipes;
use crate::token::Token;

/// Children reaped in one turn, so that a storm of deaths leaves time for commands, and that the
/// news of them fits into the buffer of a client which reads.
const DEATHS_PER_TURN: usize = 64;
/// How long nothing happens before room is given back.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// Resource temporarily unavailable: no connection is free for a service that wants one.
const NO_PLACE: Errno = Errno::EAGAIN;
/// No such process: it ended before the signal came, and its death will be told.
const ESRCH: Errno = Errno(3);

/// Everything that the loop works with.
pub(crate) struct Shell {
    pub(crate) epoll: Epoll,
    pub(crate) signals: SignalReader,
    pub(crate) fatal: FatalSignals,
    pub(crate) machine: Proxy,
    /// daemonproxy's language, before the machine.
    pub(crate) front: Front,
    /// What the handles of the machine refer to.
    pub(crate) descriptors: Descriptors,
    /// What the end depends on.
    pub(crate) exit: Exit,
    /// When this turn began.
    pub(crate) now: Moment,
    pub(crate) log: Log,
    pub(crate) memory: Memory,
    pub(crate) connections: Connections,
    pub(crate) listener: Option<Listener>,
    /// Whom a control socket lets in.
    pub(crate) admission: Admission,
    pub(crate) pump: Pump,
    pub(crate) groups: Groups,
    pub(crate) notify: NotifySockets,
    pub(crate) ready: ReadyPipes,
    pub(crate) children: Children,
    /// What a successor has to know; `None`: there will be none.
    pub(crate) ledger: Option<Ledger>,
    /// The warden, if there is one.
    pub(crate) link: Option<Link>,
    /// What a predecessor started and still runs.
    pub(crate) foreign: Foreign,
    /// What a predecessor left and is looked at again.
    pub(crate) adoption: Adoption,
    /// The machine was told that the journal has no room.
    pub(crate) is_journal_full: bool,
    /// Why the journal could not be written last, until it can be.
    pub(crate) journal_error: Option<Errno>,
    /// A storm of deaths goes on in the next turn.
    pub(crate) has_ended_children: bool,
    /// Somebody wants to hear of output.
    pub(crate) watches_output: bool,
    /// When room that is not needed any more is given back, if nothing happens before.
    pub(crate) rest_due: Option<Instant>,
    /// How it ends, once it does.
    pub(crate) ending: Option<Ending>,
    /// What the machine asks for waits: it has yet to hear of what it asked for before.
    pub(crate) is_work_held: bool,
}

/// How the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it was told to, with this code.
    Asked(u8),
    /// By a fatal condition, about which all was said.
    Fatal(u8),
}

/// What the epoll set had to say, sorted by the order of a turn.
#[derive(Default)]
pub(crate) struct Heard {
    reports: Vec<Pid>,
    groups: Vec<u64>,
    notify: Vec<u64>,
    ready: Vec<u64>,
    streams: Vec<u64>,
    jobs: Vec<JobId>,
    has_signals: bool,
    has_fatal_signals: bool,
    takes_log: bool,
    foreign: Vec<Pid>,
    has_lost_warden: bool,
    pub(crate) has_connections: bool,
    pub(crate) inputs: Vec<(ConnectionId, Ready)>,
    pub(crate) outputs: Vec<(ConnectionId, Ready)>,
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
                Some(Token::Log) => heard.takes_log = true,
                Some(Token::Fatal) => heard.has_fatal_signals = true,
                Some(Token::Foreign(pid)) => {
                    heard.foreign.extend(u32::try_from(pid).ok().and_then(Pid::new));
                }
                // It never says anything.
                Some(Token::Warden) => heard.has_lost_warden |= one.hangup || one.error,
                None => {}
            }
        }
        heard
    }
}

impl Shell {
    /// Turns until the end. From here on the proxy must not die: what fails is said and tried
    /// again.
    pub(crate) fn run(mut self) -> u8 {
        let mut ready = Vec::new();
        self.greet_warden();
        loop {
            self.turn(&ready);
            if let Some(ending) = self.ending {
                return self.end(ending);
            }
            self.rest(ready.is_empty());
            let timeout = self.timeout();
            if let Err(error) = self.epoll.wait(timeout, &mut ready) {
                self.say(LogLevel::Error, format_args!("cannot wait for news: {error}"));
            }
        }
    }

    fn turn(&mut self, ready: &[Ready]) {
        self.now = Moment::now();
        let heard = Heard::sort(ready);
        if heard.takes_log {
            self.log.on_ready(&self.epoll, self.now.monotonic);
        }
        self.log.flush(Some(&self.epoll), self.now.monotonic);
        if heard.has_fatal_signals {
            self.take_fatal_signals();
        }
        for pid in &heard.reports {
            if let Some(news) = self.children.report(&self.epoll, *pid) {
                self.tell(news);
            }
        }
        let signals = self.take_signals(heard.has_signals);
        self.reap();
        self.hear_foreign(&heard.foreign);
        self.look_at_unsure();
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
        self.check_time_limits();
        self.hear_connections(&heard);
        self.groups.remove_unremoved();
        self.settle_connections();
        self.compact_journal();
        self.log.flush(Some(&self.epoll), self.now.monotonic);
        // Last, because after a lost warden nothing comes behind it.
        self.hear_warden(heard.has_lost_warden);
    }

    /// Gives back what was needed on the way here, once it is quiet for a moment: what a start and
    /// a client asked for takes more room than what stays of it, and most of the program is not
    /// needed while services only run.
    fn rest(&mut self, is_quiet: bool) {
        let now = self.now.monotonic;
        match self.rest_due {
            Some(_) if !is_quiet => self.rest_due = Some(now.saturating_add(QUIET)),
            Some(due) if due <= now => {
                self.rest_due = None;
                heap::give_back();
                // It stays where it is if the user wants it locked there.
                let _ = code::give_back_code();
            }
            Some(_) | None => {}
        }
    }

    /// Returns how long to sleep: exactly until something is due, or until news.
    fn timeout(&mut self) -> Option<Duration> {
        if self.has_ended_children || self.groups.has_empty() || self.has_lines_to_run() {
            return Some(Duration::ZERO);
        }
        let due = [
            self.machine.poll_timeout(),
            self.front.poll_timeout(),
            self.groups.poll_timeout(),
            self.pump.poll_timeout(),
            self.listener.as_ref().and_then(Listener::paused_until),
            self.log.poll_timeout(),
            self.foreign.poll_timeout(),
            self.adoption.poll_timeout(),
            self.rest_due,
        ];
        let due = due.into_iter().flatten().min()?;
        Some(due.saturating_since(clock::monotonic_now()))
    }

    /// Tells the machine and does everything that it asks for.
    pub(crate) fn tell(&mut self, news: Input) {
        self.machine.handle_input(self.now.monotonic, news);
        self.perform_all();
    }

    /// Does everything that the machine, and the front end before it, ask for.
    pub(crate) fn perform_all(&mut self) {
        while !self.is_work_held {
            if let Some(output) = self.machine.poll_output() {
                self.perform(output);
            } else if let Some(output) = self.front_output() {
                self.perform_for_front(output);
            } else {
                return;
            }
            while let Some(id) = self.front.take_crowded() {
                self.write_plain(id);
            }
        }
    }

    /// Returns what the front end asks for, once it is connected to the machine.
    fn front_output(&mut self) -> Option<keepd_compat::Output> {
        if self.adoption.is_under_way {
            return None;
        }
        self.front.poll_output()
    }

    /// Says something in the proxy's own log.
    pub(crate) fn say(&mut self, level: LogLevel, text: impl std::fmt::Display) {
        self.log.say(level, text);
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { connection: FRONT, message } => {
                self.front.handle_message(self.now.monotonic, &self.machine, &message);
            }
            Output::Send { connection, message } => self.send(connection, &message),
            Output::Close { connection } => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.close();
                }
            }
            Output::Spawn(spawn) => self.spawn_service(&spawn),
            Output::SpawnJob(spawn) => {
                let owner = Owner::Job(spawn.job);
                let outcome =
                    self.spawn(None, |children, around| children.spawn_job(around, &spawn));
                self.check_number(outcome.as_ref());
                self.tell_spawned(owner, outcome);
            }
            Output::SignalMain { owner: _, pid, signal } => {
                let sent = self.foreign.signal(pid, signal);
                self.check_signal(signal, sent.unwrap_or_else(|| signals::send(pid, signal)));
            }
            Output::Perform { ticket, effect } => self.perform_effect(ticket, &effect),
            Output::CloseDescriptor { descriptor } => {
                if let Err(error) = self.descriptors.close(descriptor) {
                    let text = format_args!("cannot let go of a standard descriptor: {error}");
                    self.say(LogLevel::Error, text);
                }
            }
            Output::StopListening => self.stop_listening(),
            Output::LogTo { descriptor } => self.log_to(descriptor),
            Output::LogFilter { level } => self.log.set_filter(level),
            Output::Log { level, text } => self.say(level, text),
            Output::SignalGroup { owner, signal } => {
                let sent = self.groups.signal(&owner, signal, self.now.monotonic);
                self.check_signal(signal, sent);
            }
            Output::WatchGroup { owner } => {
                let watched = self.groups.watch(&self.epoll, &owner, self.now.monotonic);
                if let Err(error) = watched {
                    self.say(LogLevel::Error, format_args!("cannot watch a cgroup: {error}"));
                }
            }
            Output::LeaveGroup { owner } => {
                if let Err(error) = self.groups.leave(&self.epoll, &owner) {
                    self.say(LogLevel::Error, format_args!("cannot watch a cgroup: {error}"));
                }
            }
            Output::Forget { name } => {
                self.pump.drain(&self.epoll, self.now, &name);
                self.pump.forget(&self.epoll, &name);
                self.notify.forget(&self.epoll, &name);
                self.ready.close(&self.epoll, &name);
                if let Some(ledger) = &mut self.ledger {
                    ledger.forget(&name);
                }
            }
            Output::WatchOutput { on } => self.watches_output = on,
            Output::Terminate { code } => self.ending = Some(Ending::Asked(code)),
            Output::ExitExec { arguments } => {
                self.exit.arguments = arguments;
                self.exit.prepare_rescue(&mut self.log);
            }
            Output::Guarded { on } => self.exit.is_guarded = on,
            Output::Record { fact } => self.record(&fact),
            Output::Acknowledge { name, generation } => {
                // Who acknowledges an end wrote it down before, and that is not in the file yet.
                self.flush_journal();
                if let Some(ledger) = &self.ledger {
                    ledger.acknowledge(&name, generation);
                }
            }
        }
    }

    /// Starts a generation: it is written down first, so that a successor knows of it whatever
    /// becomes of us.
    fn spawn_service(&mut self, spawn: &ServiceSpawn) {
        let owner = Owner::Service(spawn.name.clone(), spawn.generation);
        let intent = match self.intend(&spawn.name, spawn.generation) {
            Ok(intent) => intent,
            Err(Refusal { failure, why }) => {
                self.say(LogLevel::Error, why);
                self.tell_spawned(owner, Err(failure));
                return;
            }
        };
        let controls = spawn.descriptors.as_ref().is_some_and(|list| list.control.is_some());
        let has_place = !controls || self.connections.has_place();
        let outcome = self.spawn(intent.as_ref(), |children, around| match has_place {
            true => children.spawn_service(around, spawn),
            false => Err(SpawnFailure { step: SpawnStep::Prepare, errno: NO_PLACE }),
        });
        self.check_number(outcome.as_ref());
        self.note_spawned(intent.as_ref(), outcome.as_ref());
        self.tell_spawned(owner, outcome);
    }

    fn spawn(
        &mut self,
        intent: Option<&Intent>,
        how: impl FnOnce(&mut Children, &mut Surroundings<'_>) -> Result<Started, SpawnFailure>,
    ) -> Result<Started, SpawnFailure> {
        let record = intent.zip(self.ledger.as_ref());
        how(
            &mut self.children,
            &mut Surroundings {
                epoll: &self.epoll,
                now: self.now,
                pump: &mut self.pump,
                groups: &mut self.groups,
                notify: &mut self.notify,
                ready: &mut self.ready,
                descriptors: &self.descriptors,
                record: record.map(|(intent, ledger)| ledger.child_record(intent)),
            },
        )
    }

    /// Makes sure that the number of a child is of nobody else in the machine and the ledger.
    fn check_number(&mut self, outcome: Result<&Started, &SpawnFailure>) {
        if let Ok(started) = outcome {
            self.end_before_child(started.pid);
        }
    }

    fn tell_spawned(&mut self, owner: Owner, outcome: Result<Started, SpawnFailure>) {
        let outcome = outcome.map(|Started { pid, control }| {
            // Only services have a control connection.
            if let (Some((socket, direction)), Owner::Service(name, _)) = (control, &owner) {
                self.add_controller(name, socket, direction);
            }
            pid
        });
        // The answer belongs before everything else that the machine hears; what it makes the
        // machine ask for waits behind what was asked for already.
        let answer = Input::Spawned { owner, outcome };
        self.machine.handle_input(self.now.monotonic, answer);
    }

    fn check_signal(&mut self, signal: Signal, sent: Result<(), Errno>) {
        match sent {
            Ok(()) | Err(ESRCH) => {}
            Err(error) => {
                self.say(LogLevel::Error, format_args!("cannot send signal {signal}: {error}"));
            }
        }
    }

    /// Fatal signals that somebody sent; what the kernel sends for a fault never comes here.
    fn take_fatal_signals(&mut self) {
        while let Some(signal) = self.fatal.take_pending() {
            let text = exit::fatal_text(signal);
            let machine = Some(&self.machine);
            let outcome = self.exit.fatal(&mut self.log, exit::FATAL_SIGNAL, &text, machine);
            if let Err(Ended(code)) = outcome {
                self.ending.get_or_insert(Ending::Fatal(code));
            }
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
            let is_consumed = match self.record_end(pid, exit) {
                Some(is_consumed) => is_consumed,
                None => {
                    self.tell_end(pid, exit);
                    self.consume(pid)
                }
            };
            if !is_consumed {
                return;
            }
        }
        self.has_ended_children = true;
    }

    /// Tells the end of a process, and before it what its service has written and said.
    pub(crate) fn tell_end(&mut self, pid: Pid, exit: ProcessExit) {
        if let Some(name) = self.machine.run_ends_with(pid).cloned() {
            self.tell_last_words(&name);
        }
        self.tell(Input::Reaped { pid, exit });
    }

    /// Lets a zombie go. Returns whether it is gone.
    pub(crate) fn consume(&mut self, pid: Pid) -> bool {
        let consumed = reap::consume(pid);
        if let Err(error) = consumed {
            self.say(LogLevel::Error, format_args!("cannot reap process {pid}: {error}"));
        }
        consumed.is_ok()
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
    pub(crate) fn tell_last_words(&mut self, name: &ServiceName) {
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
                if let Input::ReadyFd { name, .. } = &news {
                    self.tell_executed(name);
                }
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

    /// Who speaks has been executed: that is told first, also where the pipe that says so was read
    /// only in part, because a turn reads it once.
    fn tell_executed(&mut self, name: &ServiceName) {
        if let Some(news) = self.children.open_report(&self.epoll, name) {
            self.tell(news);
        }
    }

    fn tell_notifications(&mut self, name: &ServiceName) {
        let datagrams = self.notify.receive(name);
        self.tell_executed(name);
        for (pid, text) in datagrams {
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

    /// Writes what can be written in bounded time, and leaves. Services go on.
    fn end(mut self, ending: Ending) -> u8 {
        let is_for_good = self.take_leave(ending);
        self.pump.drain_all(&self.epoll, Moment::now());
        self.flush_connections();
        if let Some(listener) = self.listener.as_ref().filter(|_| is_for_good) {
            listener.unlink();
        }
        self.memory.tell_usage(&mut self.log);
        match ending {
            Ending::Asked(code) => self.exit.end(&mut self.log, code, &self.machine).0,
            Ending::Fatal(code) => code,
        }
    }
}
