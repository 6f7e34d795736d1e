//! What connections ask for: who asked, the answer, and the commands that only store something.
//!
//! Every command is refused as a whole before anything changed, or accepted, then carried out: the
//! answer goes out before the news that follows from it.

use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{
    Attributes, Command, Event, Fail, FailKind, Message, NOTE_BYTES_MAX, NOTES_MAX, Reply, Request,
    RequestId,
};
use keepd_model::{Generation, Instant, ServiceName};

use super::connections::Audience;
use super::definition::Definition;
use super::service::Service;
use super::{ConnectionId, Output, Proxy};

/// The most services: as many as the largest static pool has.
pub(super) const SERVICES_MAX: usize = 65_535;

/// Who asked, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Without a number: success is silent, a refusal is an `error` line.
    Unnumbered(ConnectionId),
    /// Answered exactly once.
    Numbered(ConnectionId, RequestId),
}

impl Asker {
    /// Returns the connection.
    pub(super) const fn connection(self) -> ConnectionId {
        match self {
            Self::Unnumbered(connection) | Self::Numbered(connection, _) => connection,
        }
    }

    /// Returns who hears that a setter was accepted: the sender of a number has its answer, one
    /// without takes the event for it.
    pub(super) const fn audience(self) -> Audience {
        match self {
            Self::Unnumbered(_) => Audience::Everyone,
            Self::Numbered(connection, _) => Audience::EveryoneBut(connection),
        }
    }
}

/// Returns a refusal that has nothing to do with a spawn.
pub(super) fn fail(kind: FailKind, text: String) -> Fail {
    Fail { kind, spawn: None, text }
}

/// Returns the refusal of a command that meant another generation.
pub(super) fn stale(
    verb: &str,
    name: &ServiceName,
    expected: Generation,
    present: Generation,
) -> Fail {
    fail(
        FailKind::Stale,
        format!(
            "cannot {verb} service \"{name}\": generation {expected} was expected, it is {present}"
        ),
    )
}

/// Returns the refusal of a command that is for other connections.
fn not_here(why: &str) -> Fail {
    fail(FailKind::Malformed, why.to_owned())
}

impl Proxy {
    /// A connection sent a command.
    pub(super) fn on_request(&mut self, now: Instant, connection: ConnectionId, request: Request) {
        if !self.connections.contains_key(&connection) {
            return;
        }
        let (asker, command) = match request {
            Request::Unnumbered(command) => (Asker::Unnumbered(connection), command),
            Request::Numbered(id, command) => (Asker::Numbered(connection, id), command),
        };
        let outcome = self.run_command(now, asker, command);
        if let Err(refusal) = outcome {
            self.refuse(asker, refusal);
        }
    }

    /// Tells an asker that its command is accepted.
    pub(super) fn accept(&mut self, asker: Asker) {
        match asker {
            Asker::Unnumbered(_) => {}
            Asker::Numbered(connection, id) => {
                self.send(connection, Message::Reply(id, Reply::Ok));
            }
        }
    }

    /// Tells an asker that its command is refused, and why.
    pub(super) fn refuse(&mut self, asker: Asker, refusal: Fail) {
        match asker {
            Asker::Unnumbered(connection) => {
                self.send(connection, Message::Error(refusal.text));
            }
            Asker::Numbered(connection, id) => {
                self.send(connection, Message::Reply(id, Reply::Fail(refusal)));
            }
        }
    }

    /// Runs a command. `Ok`: it was accepted and answered, or is answered later (`service.exec`,
    /// and what the shell has to try first). What is written down of it goes before everything that
    /// it leads to.
    fn run_command(&mut self, now: Instant, asker: Asker, command: Command) -> Result<(), Fail> {
        self.check_memory(&command)?;
        self.check_journal(&command)?;
        let fact = self.fact_of(&command);
        let before = self.outputs.len();
        self.carry_out(now, asker, command)?;
        if let Some(fact) = fact {
            self.outputs.insert(before, Output::Record { fact });
        }
        Ok(())
    }

    fn carry_out(&mut self, now: Instant, asker: Asker, command: Command) -> Result<(), Fail> {
        match command {
            Command::Proto { .. } => Err(not_here("the connection is an extended one")),
            Command::EventTimeout { .. } => {
                Err(not_here("a connection with the extension has no time limits"))
            }
            Command::Echo { text } => {
                if !text.is_empty() {
                    self.send(asker.connection(), Message::Text(text));
                }
                self.accept(asker);
                Ok(())
            }
            Command::StateDump => {
                self.accept(asker);
                self.begin_dump(asker.connection());
                Ok(())
            }
            Command::WatchLogs { on } => self.watch_logs(asker, on),
            Command::Exit => {
                self.accept(asker);
                self.close(now, asker.connection());
                Ok(())
            }
            Command::WatchStarts { on } => {
                if let Some(connection) = self.connections.get_mut(&asker.connection()) {
                    connection.watches_starts = on;
                }
                self.accept(asker);
                Ok(())
            }
            Command::Terminate { code, guard } => self.terminate(asker, code, guard),
            Command::TerminateGuard { set, code } => self.set_guard(asker, set, code),
            Command::TerminateExec { arguments } => self.set_exit_exec(asker, arguments),
            Command::Chdir { path } => self.change_directory(asker, path),
            Command::LogFilter { change } => {
                self.change_log_filter(asker, change);
                Ok(())
            }
            Command::LogDestination { handle } => self.set_log_handle(asker, &handle),
            Command::SocketCreate { path } => {
                self.create_socket(asker, path);
                Ok(())
            }
            Command::SocketDelete => {
                self.delete_socket(asker);
                Ok(())
            }
            Command::HandleOpen { name, flags, path } => self.open_handle(asker, name, flags, path),
            Command::HandlePipe { read, write, spec } => self.make_pipe(asker, read, write, spec),
            Command::HandleSocket { name, spec } => self.make_socket(asker, name, spec),
            Command::HandleTake { name } => self.take_descriptor(asker, asker.connection(), name),
            Command::HandleDelete { name } => self.delete_handle(asker, name),
            Command::SignalClear { signal, count } => {
                self.clear_signal(signal, count);
                self.accept(asker);
                Ok(())
            }
            Command::ServiceArgs { name, arguments } => {
                self.set(now, asker, name, Definition::Arguments(arguments))
            }
            Command::ServiceTags { name, tags } => {
                self.set(now, asker, name, Definition::Tags(tags))
            }
            Command::ServiceSet { name, attributes } => {
                let attributes = self.share(attributes);
                self.set(now, asker, name, Definition::Attributes(attributes))
            }
            Command::ServiceEnv { name, environment } => {
                self.set(now, asker, name, Definition::Environment(environment))
            }
            Command::ServiceLog { name, log } => self.set(now, asker, name, Definition::Log(log)),
            Command::ServiceFds { name, slots } => {
                self.set(now, asker, name, Definition::Descriptors(slots))
            }
            Command::ServiceAutoUp { name, seconds, triggers } => {
                self.set_auto_up(now, asker, &name, seconds, triggers)
            }
            Command::ServiceStart { name, expected, at } => {
                self.start_by_command(now, asker, &name, expected, at)
            }
            Command::ServiceCancel { name } => self.cancel(now, asker, &name),
            Command::ServiceStop { name, expected, other } => {
                self.stop(now, asker, &name, expected, other)
            }
            Command::ServiceSignal { name, expected, signal, scope } => {
                self.signal_by_command(asker, &name, expected, signal, scope)
            }
            Command::ServiceExec { name, deadline, arguments } => {
                self.exec_by_command(now, asker, &name, deadline, arguments)
            }
            Command::ServiceNote { name, key, value } => self.note(now, asker, &name, &key, value),
            Command::ServiceDelete { name } => self.delete(asker, &name),
            Command::ServiceAck { name, generation } => {
                self.acknowledge_by_command(now, asker, &name, generation)
            }
            Command::ServiceLease { name, expected, lease } => {
                self.grant_lease(now, asker, &name, expected, lease)
            }
        }
    }

    /// Returns a service, or the refusal of what `verb` wanted to do with it.
    pub(super) fn service_mut(
        &mut self,
        verb: &str,
        name: &ServiceName,
    ) -> Result<&mut Service, Fail> {
        self.services.get_mut(name).map(Box::as_mut).ok_or_else(|| {
            fail(
                FailKind::NoSuchService,
                format!("cannot {verb} service \"{name}\": no such service"),
            )
        })
    }

    /// Returns a service for a setter, which makes it if it is new.
    pub(super) fn service_or_new(
        &mut self,
        now: Instant,
        name: &ServiceName,
    ) -> Result<&mut Service, Fail> {
        let is_full = self.services.len() >= SERVICES_MAX;
        if is_full && !self.services.contains_key(name) {
            let text = format!("cannot allocate a new service: there are {SERVICES_MAX} already");
            return Err(fail(FailKind::Limit, text));
        }
        let new = || Box::new(Service::new(now));
        Ok(self.services.entry(name.clone()).or_insert_with(new))
    }

    /// Returns the same attributes as those that were set last, where they are equal: the services
    /// of a fleet have them in common.
    pub(super) fn share(&mut self, attributes: Arc<Attributes>) -> Arc<Attributes> {
        if self.attributes_set != attributes {
            self.attributes_set = attributes;
        }
        Arc::clone(&self.attributes_set)
    }

    /// Stores a value and tells it to everybody else.
    fn set(
        &mut self,
        now: Instant,
        asker: Asker,
        name: ServiceName,
        definition: Definition,
    ) -> Result<(), Fail> {
        let service = self.service_or_new(now, &name)?;
        definition.apply(service);
        let leased = service.lease.is_some() && definition.ends_lease();
        let leased = leased.then(|| name.clone());
        self.accept(asker);
        self.broadcast(&definition.into_event(name), asker.audience());
        if let Some(name) = leased {
            self.end_lease(now, &name);
        }
        Ok(())
    }

    /// `service.note`: kept for whoever dumps, told to nobody.
    fn note(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        key: &str,
        value: Vec<u8>,
    ) -> Result<(), Fail> {
        let limit = |what: String| {
            let text = format!("cannot keep note \"{key}\" of service \"{name}\": {what}");
            Err(fail(FailKind::Limit, text))
        };
        if value.len() > NOTE_BYTES_MAX {
            return limit(format!("it has more than {NOTE_BYTES_MAX} bytes"));
        }
        let service = self.service_or_new(now, name)?;
        if service.keep_note(key, value, NOTES_MAX).is_none() {
            return limit(format!("it has {NOTES_MAX} already"));
        }
        self.accept(asker);
        Ok(())
    }

    /// `service.delete`: only what has no process can be forgotten.
    fn delete(&mut self, asker: Asker, name: &ServiceName) -> Result<(), Fail> {
        let service = self.service_mut("delete", name)?;
        if !service.run().is_at_rest() {
            let text = format!("cannot delete service \"{name}\": it is still running");
            return Err(fail(FailKind::Running, text));
        }
        self.accept(asker);
        self.forget(name);
        self.broadcast(&Event::Deleted(name.clone()), Audience::Everyone);
        self.outputs.push_back(Output::Forget { name: name.clone() });
        Ok(())
    }

    /// `service.exec` needs somebody to answer.
    fn exec_by_command(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        deadline: Duration,
        arguments: Vec<Vec<u8>>,
    ) -> Result<(), Fail> {
        match asker {
            Asker::Unnumbered(_) => Err(not_here("the command needs a number")),
            Asker::Numbered(connection, id) => {
                self.exec(now, (connection, id), name, deadline, arguments)
            }
        }
    }

    /// `conn.log`. The shell measures output only while somebody watches.
    fn watch_logs(&mut self, asker: Asker, on: bool) -> Result<(), Fail> {
        let was_watched = self.is_output_watched();
        if let Some(connection) = self.connections.get_mut(&asker.connection()) {
            connection.watches_output = on;
        }
        self.accept(asker);
        self.tell_output_watched(was_watched);
        Ok(())
    }
}
