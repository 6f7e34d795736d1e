//! Who listens, what each may hear, and what becomes of news while a connection cannot take any.

use std::collections::VecDeque;

use keepd_model::Instant;
use keepd_model::protocol::{Event, Message, Reply, VERSION};

use super::backlog::Backlog;
use super::dump::Dump;
use super::{ConnectionId, Output, Proxy};

/// The longest reason that the greeting tells while nothing is started, in bytes.
const SAFE_BYTES_MAX: usize = 400;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Whether it can be written to.
    pub(super) output: bool,
    /// Whether its buffer in the shell is full.
    pub(super) full: bool,
    /// Dumps that are not written yet, in the order in which they were asked for.
    pub(super) dumps: VecDeque<Dump>,
    /// Whether it asked for `service.output`.
    pub(super) watches_output: bool,
    /// Whether it asked for every `service.run … start`.
    pub(super) watches_starts: bool,
    /// How many dumps it got.
    pub(super) dumps_ended: u64,
    /// What it could not be told yet.
    pub(super) backlog: Backlog,
}

/// To whom news goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Everyone,
    EveryoneBut(ConnectionId),
    /// Those who asked for every `service.run … start`.
    WatchersOfStarts,
}

impl Connection {
    fn new(output: bool) -> Self {
        Self {
            output,
            full: false,
            dumps: VecDeque::new(),
            watches_output: false,
            watches_starts: false,
            dumps_ended: 0,
            backlog: Backlog::default(),
        }
    }

    /// Reports whether this connection is told an event at all.
    fn hears(&self, event: &Event) -> bool {
        self.watches_output || !matches!(event, Event::Output { .. })
    }

    /// Reports whether it belongs to an audience.
    fn is_among(&self, id: ConnectionId, audience: Audience) -> bool {
        match audience {
            Audience::Everyone => true,
            Audience::EveryoneBut(other) => id != other,
            Audience::WatchersOfStarts => self.watches_starts,
        }
    }

    /// Returns the message if it can be sent now, and keeps it otherwise. What is kept goes first,
    /// so that order holds.
    fn offer(&mut self, message: Message) -> Option<Message> {
        if !self.output {
            // Nobody hears it there, but the shell logs what was refused.
            return is_refusal(&message).then_some(message);
        }
        if !self.full && self.backlog.is_empty() {
            return Some(message);
        }
        self.backlog.add(message);
        None
    }

    /// Reports whether there is something that it has still to be told.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlog.is_empty() || !self.dumps.is_empty()
    }

    /// Reports whether more was kept for it than can ever be useful.
    fn is_hopeless(&self) -> bool {
        self.backlog.is_over_limit()
    }
}

impl Proxy {
    /// A connection was made: it is greeted, and hears the pending signals without asking.
    pub(super) fn on_connected(&mut self, id: ConnectionId, output: bool) {
        self.connections.insert(id, Connection::new(output));
        let mut features = self.settings.features.clone();
        features.extend(self.settings.safe_mode.as_deref().map(safe_feature));
        self.send(id, Message::ProtoAccepted { version: VERSION, features });
        for event in self.signal_events() {
            self.send(id, Message::Event(event));
        }
    }

    /// A connection ended: its jobs have nobody left to answer.
    pub(super) fn on_disconnected(&mut self, now: Instant, id: ConnectionId) {
        let was_watched = self.is_output_watched();
        if self.connections.remove(&id).is_some() {
            self.abandon_jobs(now, id);
            self.tell_output_watched(was_watched);
        }
    }

    /// Closes a connection from our side. Nothing more is read from it.
    pub(super) fn close(&mut self, now: Instant, id: ConnectionId) {
        self.outputs.push_back(Output::Close { connection: id });
        self.on_disconnected(now, id);
    }

    /// The shell's buffer for a connection is full.
    pub(super) fn on_full(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.full = true;
        }
    }

    /// The shell's buffer is empty again. What was kept is sent by [`Proxy::resume_connections`].
    pub(super) fn on_drained(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.full = false;
        }
    }

    /// Sends a message to one connection, or keeps it.
    pub(super) fn send(&mut self, id: ConnectionId, message: Message) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let message = connection.offer(message);
            self.outputs.extend(message.map(|message| Output::Send { connection: id, message }));
        }
    }

    /// Tells news to everybody of an audience who may hear it.
    pub(super) fn broadcast(&mut self, event: &Event, audience: Audience) {
        for (id, connection) in &mut self.connections {
            if connection.is_among(*id, audience)
                && connection.hears(event)
                && let Some(message) = connection.offer(Message::Event(event.clone()))
            {
                self.outputs.push_back(Output::Send { connection: *id, message });
            }
        }
    }

    /// Closes connections that are so far behind that a new dump is cheaper than what was kept.
    pub(super) fn close_hopeless(&mut self, now: Instant) {
        while let Some(id) = self
            .connections
            .iter()
            .find_map(|(id, connection)| connection.is_hopeless().then_some(*id))
        {
            self.close(now, id);
        }
    }

    /// Produces the next piece of what was kept or is being dumped, for the first connection that
    /// can take it. Called only when nothing else is to be done, so the shell can say `Full`
    /// between two pieces, and no dump is ever whole in memory.
    pub(super) fn resume_connections(&mut self) {
        while self.outputs.is_empty()
            && let Some((id, connection)) = self
                .connections
                .iter_mut()
                .find(|(_, connection)| !connection.full && connection.is_behind())
        {
            let id = *id;
            let kept = connection.backlog.take_first();
            let messages = kept.unwrap_or_else(|| self.next_dump_messages(id));
            self.outputs.extend(
                messages.into_iter().map(|message| Output::Send { connection: id, message }),
            );
        }
    }

    /// Reports whether any connection asked for `service.output`.
    pub(super) fn is_output_watched(&self) -> bool {
        self.connections.values().any(|connection| connection.watches_output)
    }

    /// Tells the shell if that changed.
    pub(super) fn tell_output_watched(&mut self, was_watched: bool) {
        let on = self.is_output_watched();
        if on != was_watched {
            self.outputs.push_back(Output::WatchOutput { on });
        }
    }
}

fn is_refusal(message: &Message) -> bool {
    match message {
        Message::Reply(_, Reply::Fail(_)) | Message::Error(_) => true,
        Message::Reply(_, Reply::Ok | Reply::Exec { .. })
        | Message::ProtoAccepted { .. }
        | Message::Event(_)
        | Message::Text(_) => false,
    }
}

/// Returns the word of the greeting while nothing is started, which says why.
fn safe_feature(why: &str) -> String {
    let fits = |(at, character): &(usize, char)| at + character.len_utf8() <= SAFE_BYTES_MAX;
    let cut: String = why.char_indices().take_while(fits).map(|(_, character)| character).collect();
    format!("safe={cut}")
}
