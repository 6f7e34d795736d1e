//! `statedump`: everything the proxy knows, piece by piece, one service a piece.

use std::ops::Bound::{Excluded, Unbounded};

use keepd_model::ServiceName;
use keepd_model::protocol::{Event, Message};

use super::service::{Note, Service};
use super::{ConnectionId, Proxy};

/// How far a dump is. Services that are made or change meanwhile are told either here or as events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dump {
    /// The last service that was dumped.
    after: Option<ServiceName>,
}

impl Proxy {
    /// Begins a dump. Nobody can hear that of a connection without output.
    pub(super) fn begin_dump(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.output
        {
            connection.dumps.push_back(Dump::default());
        }
    }

    /// Returns the next piece of the first dump of a connection: a service, or the end.
    pub(super) fn next_dump_messages(&mut self, id: ConnectionId) -> Vec<Message> {
        let signals = self.signal_events();
        let Some(connection) = self.connections.get_mut(&id) else {
            return Vec::new();
        };
        let Some(dump) = connection.dumps.front_mut() else {
            return Vec::new();
        };
        let next = match &dump.after {
            Some(after) => {
                self.services.range::<ServiceName, _>((Excluded(after), Unbounded)).next()
            }
            None => self.services.first_key_value(),
        };
        let events = match next {
            Some((name, service)) => {
                dump.after = Some(name.clone());
                service.dump_lines(name)
            }
            None => {
                connection.dumps.pop_front();
                connection.dumps_ended += 1;
                let mut events = signals;
                events.push(Event::DumpEnd { sequence: connection.dumps_ended });
                events
            }
        };
        events.into_iter().map(Message::Event).collect()
    }

    /// Returns the pending signals, the one that came first (with its last arrival) at the front.
    pub(super) fn signal_events(&self) -> Vec<Event> {
        let mut pending: Vec<_> = self.signals.iter().collect();
        pending.sort_by_key(|(_, pending)| pending.at);
        pending
            .into_iter()
            .map(|(signal, pending)| Event::Signal {
                signal: *signal,
                at: pending.at,
                count: pending.count,
            })
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
            Event::Set(name.clone(), self.attributes.clone()),
            Event::Env(name.clone(), self.environment.unpack()),
            Event::Log(name.clone(), self.log.clone()),
            self.auto_up_event(name),
        ];
        let note =
            |note: &Note| Event::Note(name.clone(), note.key.to_string(), note.value.to_vec());
        lines.extend(self.notes.iter().map(note));
        if self.generation != keepd_model::Generation::NONE {
            lines.push(Event::Invocation {
                name: name.clone(),
                generation: self.generation,
                id: self.invocation,
            });
        }
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
