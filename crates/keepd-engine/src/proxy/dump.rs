//! `statedump`: everything the proxy knows, piece by piece: one handle or one service a piece.

use std::sync::Arc;

use keepd_model::protocol::{Event, Message};
use keepd_model::{HandleName, ServiceName};

use super::service::{Note, Service};
use super::{ConnectionId, Proxy};

/// How far a dump is. What is made or changes meanwhile is told either here or as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dump {
    /// Behind this handle, or at the first one.
    Handles(Option<HandleName>),
    /// Behind this service, or at the first one.
    Services(Option<ServiceName>),
}

impl Proxy {
    /// Begins a dump. Nobody can hear that of a connection without output.
    pub(super) fn begin_dump(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.output
        {
            connection.dumps.push_back(Dump::Handles(None));
        }
    }

    /// Returns the next piece of the first dump of a connection: a handle, a service, or the end.
    pub(super) fn next_dump_messages(&mut self, id: ConnectionId) -> Vec<Message> {
        let dump = self.connections.get(&id).and_then(|connection| connection.dumps.front());
        let (events, next) = match dump {
            None => return Vec::new(),
            Some(Dump::Handles(after)) => match self.handle_after(after.as_ref()) {
                Some(report) => {
                    let name = report.name.clone();
                    (vec![Event::Handle(report)], Some(Dump::Handles(Some(name))))
                }
                None => (Vec::new(), Some(Dump::Services(None))),
            },
            Some(Dump::Services(after)) => match self.service_after(after.as_ref()) {
                Some(found) => {
                    let name = found.name().clone();
                    (found.service().dump_lines(&name), Some(Dump::Services(Some(name))))
                }
                None => (self.signal_events(), None),
            },
        };
        self.advance_dump(id, events, next)
    }

    /// Notes how far a dump is, and adds its last line where nothing is left.
    fn advance_dump(
        &mut self,
        id: ConnectionId,
        mut events: Vec<Event>,
        next: Option<Dump>,
    ) -> Vec<Message> {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.dumps.pop_front();
            match next {
                Some(next) => connection.dumps.push_front(next),
                None => {
                    connection.dumps_ended += 1;
                    events.push(Event::DumpEnd { sequence: connection.dumps_ended });
                }
            }
        }
        events.into_iter().map(Message::Event).collect()
    }

    /// Returns the pending signals, the one that came first (with its last arrival) at the front.
    pub(super) fn signal_events(&self) -> Vec<Event> {
        self.pending_signals()
            .into_iter()
            .map(|(signal, at, count)| Event::Signal { signal, at, count })
            .collect()
    }
}

impl Service {
    /// Returns the lines of a dump: definition first, then the run and what belongs to
    /// it.
    fn dump_lines(&self, name: &ServiceName) -> Vec<Event> {
        let mut lines = vec![
            Event::Args(name.clone(), self.arguments.unpack()),
            Event::Tags(name.clone(), self.tags.unpack()),
            Event::Set(name.clone(), Arc::clone(&self.attributes)),
            Event::Env(name.clone(), self.environment.unpack()),
            Event::Log(name.clone(), self.log.clone()),
            self.auto_up_event(name),
        ];
        lines.extend(self.fds.as_ref().map(|slots| Event::Fds(name.clone(), slots.unpack())));
        let note =
            |note: &Note| Event::Note(name.clone(), note.key.to_string(), note.value.to_vec());
        lines.extend(self.notes.iter().map(note));
        lines.extend(self.lease_line(name));
        // What a predecessor did not write down of a generation is not known.
        if self.generation != keepd_model::Generation::NONE && self.invocation != 0 {
            lines.push(Event::Invocation {
                name: name.clone(),
                generation: self.generation,
                id: self.invocation,
            });
        }
        lines.extend(self.ended_lines(name));
        lines.push(Event::Run(self.report(name)));
        lines.extend(self.notifications.iter().map(|notification| Event::Notify {
            name: name.clone(),
            generation: self.generation,
            pid: notification.pid,
            text: notification.text.clone(),
        }));
        if self.output_blocked.is_some() {
            lines.push(Event::OutputBlocked { name: name.clone(), errno: self.output_blocked });
        }
        lines
    }
}
