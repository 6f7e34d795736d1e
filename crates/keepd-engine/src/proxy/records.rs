//! What a successor has to know: written down when it is accepted, applied again from what was
//! written down, and said all at once when what was written down has become too long.
//!
//! These are facts about wishes and names, never about processes: those are in the ledger.

use std::sync::Arc;

use keepd_model::protocol::{
    Attributes, Command, Environment, Event, Fail, FailKind, FilterChange,
};
use keepd_model::protocol::{LogTarget, READY_FD_TEXT, Triggers};
use keepd_model::{Generation, Instant, LogLevel, ServiceName, Wanted};

use super::commands::fail;
use super::definition::Definition;
use super::leases::Granted;
use super::process::{self, joined_path};
use super::service::{Note, Notification, Service, readiness};
use super::tickets::{Purpose, Undertaking};
use super::{Effect, Fact, Output, Proxy};

/// How a command is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// It is not, or only something short that whoever carries it out says.
    Nothing,
    /// As it is; it is short, or makes the next journal shorter.
    Short,
    /// As it is; it may be long.
    Long,
    /// By whoever carries it out; it may be long.
    LongLater,
}

/// Returns how a command is written down.
fn writing(command: &Command) -> Writing {
    match command {
        Command::Proto { .. }
        | Command::Echo { .. }
        | Command::StateDump
        | Command::WatchLogs { .. }
        | Command::WatchStarts { .. }
        | Command::EventTimeout { .. }
        | Command::Exit
        | Command::Terminate { .. }
        | Command::LogFilter { change: FilterChange::Show }
        | Command::SocketCreate { .. }
        | Command::SocketDelete
        | Command::HandleOpen { .. }
        | Command::HandlePipe { .. }
        | Command::HandleSocket { .. }
        | Command::HandleTake { .. }
        | Command::HandleDelete { .. }
        | Command::SignalClear { .. }
        | Command::ServiceStart { .. }
        | Command::ServiceCancel { .. }
        | Command::ServiceSignal { .. }
        | Command::ServiceExec { .. }
        | Command::ServiceAck { .. } => Writing::Nothing,
        Command::ServiceLease { lease, .. } if lease.delays.is_empty() => Writing::Nothing,
        Command::ServiceNote { value, .. } if value.is_empty() => Writing::Short,
        Command::TerminateGuard { .. }
        | Command::LogFilter { .. }
        | Command::LogDestination { .. }
        | Command::ServiceStop { .. }
        | Command::ServiceDelete { .. } => Writing::Short,
        Command::TerminateExec { .. }
        | Command::ServiceArgs { .. }
        | Command::ServiceTags { .. }
        | Command::ServiceSet { .. }
        | Command::ServiceEnv { .. }
        | Command::ServiceLog { .. }
        | Command::ServiceFds { .. }
        | Command::ServiceAutoUp { .. }
        | Command::ServiceNote { .. } => Writing::Long,
        Command::Chdir { .. } | Command::ServiceLease { .. } => Writing::LongLater,
    }
}

impl From<Command> for Fact {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

impl Proxy {
    /// Refuses a command that would be a long record while the journal has no room.
    pub(super) fn check_journal(&self, command: &Command) -> Result<(), Fail> {
        if !self.is_journal_full {
            return Ok(());
        }
        match writing(command) {
            Writing::Nothing | Writing::Short => Ok(()),
            Writing::Long | Writing::LongLater => {
                let text = "cannot write the command down: the journal of the run folder has no \
                            room left";
                Err(fail(FailKind::Limit, text.to_owned()))
            }
        }
    }

    /// Returns what is written down of a command as it is, once it is accepted.
    pub(super) fn fact_of(&self, command: &Command) -> Option<Fact> {
        if !self.settings.records {
            return None;
        }
        match writing(command) {
            Writing::Nothing | Writing::LongLater => None,
            Writing::Short | Writing::Long => Some(Fact::Command(command.clone())),
        }
    }

    /// Writes down what a successor has to know, if there is going to be one.
    pub(super) fn record(&mut self, fact: impl FnOnce() -> Fact) {
        if self.settings.records {
            self.outputs.push_back(Output::Record { fact: fact() });
        }
    }

    /// A predecessor wrote this down. What refuses commands does not refuse facts: they were
    /// accepted.
    pub(super) fn replay(&mut self, now: Instant, fact: Fact) {
        match fact {
            Fact::Command(command) => self.replay_command(now, command),
            Fact::Event(Event::Invocation { name, generation, id }) => {
                let service = self.replayed(now, &name);
                service.take_generation(generation);
                service.invocation = id;
            }
            Fact::Event(Event::Notify { name, generation, pid, text }) => {
                let service = self.replayed(now, &name);
                if service.generation == generation {
                    service.ready_fd_said |= text == READY_FD_TEXT.as_bytes();
                    service.notifications.push_back(Notification { pid, text });
                }
            }
            // Nothing else that is told is a fact.
            Fact::Event(_) => {}
        }
    }

    fn replay_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::ServiceArgs { name, arguments } => {
                self.replay_definition(now, &name, &Definition::Arguments(arguments));
            }
            Command::ServiceTags { name, tags } => {
                self.replay_definition(now, &name, &Definition::Tags(tags));
            }
            Command::ServiceSet { name, attributes } => {
                let attributes = self.share(attributes);
                self.replay_definition(now, &name, &Definition::Attributes(attributes));
            }
            Command::ServiceEnv { name, environment } => {
                self.replay_definition(now, &name, &Definition::Environment(environment));
            }
            Command::ServiceLog { name, log } => {
                self.replay_definition(now, &name, &Definition::Log(log));
            }
            Command::ServiceFds { name, slots } => {
                self.replay_definition(now, &name, &Definition::Descriptors(slots));
            }
            Command::ServiceAutoUp { name, seconds, triggers } => {
                self.replayed(now, &name).set_auto_up(seconds, triggers);
            }
            Command::ServiceNote { name, key, value } => {
                // It was within the limits when it was accepted.
                _ = self.replayed(now, &name).keep_note(&key, value, usize::MAX);
            }
            Command::ServiceLease { name, expected, lease } => {
                let granted =
                    (!lease.delays.is_empty()).then_some(Granted { base: expected, lease });
                self.replayed(now, &name).lease = granted.map(Box::new);
            }
            Command::ServiceStart { name, .. } => self.replayed(now, &name).wanted = Wanted::Up,
            Command::ServiceStop { name, .. } => {
                let service = self.replayed(now, &name);
                service.wanted = Wanted::Down;
                service.lease = None;
            }
            Command::ServiceDelete { name } => self.forget(&name),
            other => self.replay_process(other),
        }
    }

    /// Applies what the proxy's own process was told, and tells the shell.
    fn replay_process(&mut self, command: Command) {
        match command {
            Command::TerminateGuard { set, code } => {
                self.guard = (set && code != 0).then_some(code);
                self.outputs.push_back(Output::Guarded { on: self.guard.is_some() });
            }
            Command::TerminateExec { arguments } => {
                self.exit_exec.clone_from(&arguments);
                self.outputs.push_back(Output::ExitExec { arguments });
            }
            Command::Chdir { path } => {
                let purpose = Purpose::Chdir { path: path.clone() };
                self.perform(Effect::Chdir { path }, Undertaking { asker: None, purpose });
            }
            Command::LogFilter { change } => _ = self.set_log_filter(change),
            Command::LogDestination { handle } => {
                self.log_handle = Some(handle.clone());
                self.follow_log_handle(&handle);
            }
            // A later version may write down more; what it is cannot be known here.
            other => {
                let text = format!("a fact that is none was skipped: {other:?}");
                self.log(LogLevel::Warning, text);
            }
        }
    }

    fn replay_definition(&mut self, now: Instant, name: &ServiceName, definition: &Definition) {
        let service = self.replayed(now, name);
        definition.apply(service);
        if definition.ends_lease() {
            service.lease = None;
        }
    }

    /// Returns a service that a fact is about. There were never more than are allowed.
    fn replayed(&mut self, now: Instant, name: &ServiceName) -> &mut Service {
        let new = || Box::new(Service::new(now));
        self.services.entry(name.clone()).or_insert_with(new)
    }

    /// Returns facts from which a machine with the same settings is rebuilt, as far as facts say
    /// anything: what was written down so far may be replaced by them. One service after another.
    pub fn snapshot(&self) -> impl Iterator<Item = Fact> + '_ {
        let of_process = self.process_facts().into_iter().map(Fact::Command);
        of_process.chain(self.services.iter().flat_map(|(name, service)| service.facts(name)))
    }

    /// Returns what the proxy's own process was told since its start.
    fn process_facts(&self) -> Vec<Command> {
        let mut facts = Vec::new();
        let initial = self.settings.guard.filter(|code| *code != 0);
        if self.guard != initial {
            let (set, code) = (self.guard.is_some(), self.guard.or(initial).unwrap_or_default());
            facts.push(Command::TerminateGuard { set, code });
        }
        if self.exit_exec != self.settings.exit_exec {
            facts.push(Command::TerminateExec { arguments: self.exit_exec.clone() });
        }
        facts.extend(self.directory.clone().map(|path| Command::Chdir { path }));
        if self.log_filter != self.settings.log_filter {
            facts.push(Command::LogFilter { change: FilterChange::To(self.log_filter) });
        }
        let initial = (!self.settings.is_log_closed).then(process::initial_log_handle);
        let handle = self.log_handle.clone().filter(|handle| initial.as_ref() != Some(handle));
        facts.extend(handle.map(|handle| Command::LogDestination { handle }));
        facts
    }

    /// Notes where a `chdir` led.
    pub(super) fn note_directory(&mut self, path: Vec<u8>) {
        if !self.settings.records {
            return;
        }
        self.directory = Some(match self.directory.take() {
            Some(before) => joined_path(before, &path),
            None => path,
        });
    }
}

impl Service {
    /// Returns facts from which this service is rebuilt. Those that end a lease go before it.
    fn facts(&self, name: &ServiceName) -> Vec<Fact> {
        let mut facts = self.definitions(name);
        if self.generation != Generation::NONE {
            facts.push(Fact::Event(Event::Invocation {
                name: name.clone(),
                generation: self.generation,
                id: self.invocation,
            }));
        }
        let mut known = Vec::new();
        facts.extend(self.notifications.iter().filter_map(|kept| {
            let said = readiness(&kept.text).filter(|said| !known.contains(said))?;
            known.push(said);
            let text = said.to_vec();
            let (name, generation, pid) = (name.clone(), self.generation, kept.pid);
            Some(Fact::Event(Event::Notify { name, generation, pid, text }))
        }));
        let is_up = self.generation != Generation::NONE || self.auto_up.has_triggers();
        let name = || name.clone();
        match (self.wanted, is_up) {
            (Wanted::Up, true) | (Wanted::Down, false) => {}
            (Wanted::Up, false) => {
                let start = Command::ServiceStart { name: name(), expected: None, at: None };
                facts.push(start.into());
            }
            (Wanted::Down, true) => {
                let stop =
                    Command::ServiceStop { name: name(), expected: self.generation, other: None };
                facts.push(stop.into());
            }
        }
        facts.extend(self.lease.as_deref().map(|granted| {
            let Granted { base, lease } = granted.clone();
            Fact::Command(Command::ServiceLease { name: name(), expected: base, lease })
        }));
        facts
    }

    /// Returns the commands that define this service, without those that say what a new one is.
    fn definitions(&self, name: &ServiceName) -> Vec<Fact> {
        let name = || name.clone();
        let mut facts =
            vec![Command::ServiceArgs { name: name(), arguments: self.arguments.unpack() }];
        if !self.tags.is_empty() {
            facts.push(Command::ServiceTags { name: name(), tags: self.tags.unpack() });
        }
        if *self.attributes != Attributes::default() {
            let attributes = Arc::clone(&self.attributes);
            facts.push(Command::ServiceSet { name: name(), attributes });
        }
        let environment = self.environment.unpack();
        if environment != Environment::default() {
            facts.push(Command::ServiceEnv { name: name(), environment });
        }
        if self.log != LogTarget::default() {
            facts.push(Command::ServiceLog { name: name(), log: self.log.clone() });
        }
        if let Some(slots) = &self.fds {
            facts.push(Command::ServiceFds { name: name(), slots: slots.unpack() });
        }
        let auto_up = &self.auto_up;
        if auto_up.seconds != 1 || !auto_up.words.is_empty() || auto_up.has_triggers() {
            let triggers = Triggers {
                words: auto_up.words.unpack(),
                always: auto_up.always,
                signals: auto_up.signals.to_vec(),
            };
            let seconds = Some(auto_up.seconds);
            facts.push(Command::ServiceAutoUp { name: name(), seconds, triggers });
        }
        facts.extend(self.notes.iter().map(|Note { key, value }| Command::ServiceNote {
            name: name(),
            key: key.to_string(),
            value: value.to_vec(),
        }));
        facts.into_iter().map(Fact::Command).collect()
    }
}
