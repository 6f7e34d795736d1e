//! A second controller: it connects, asks for a dump, perhaps does something of its own, reads, and
//! leaves.

use std::time::Duration;

use keepd_engine::proxy::ConnectionId;
use keepd_model::Instant;
use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Event, Message, Request, RequestId, VERSION,
};
use keepd_wire::{Line, LineReader, decode_message, encode_request};

use crate::proxy::Arrival;
use crate::world::{Due, Step, World, broken};

/// A dump that was asked for is complete within this time, if it is read.
const DUMP_WITHIN: Duration = Duration::from_secs(2);

/// What it read so far.
#[derive(Debug)]
pub(crate) struct Observer {
    reader: LineReader,
    greeted: bool,
    dumps: u64,
    /// From then on it reads as fast as it can.
    reads_from: Instant,
}

impl World {
    /// A second controller appears. Now and then it reads slowly.
    pub(crate) fn add_observer(&mut self) {
        self.faults.count("second controller");
        let connection = self.connect(true);
        let mut bytes = Vec::new();
        let proto = Command::Proto { version: VERSION };
        encode_request(&Request::Unnumbered(proto), &mut bytes);
        let dump = Request::Numbered(RequestId(1), Command::StateDump);
        encode_request(&dump, &mut bytes);
        for (id, command) in (2..).zip(self.visitor_commands()) {
            encode_request(&Request::Numbered(RequestId(id), command), &mut bytes);
        }
        let stall = self.random.millis(0, 2_000);
        let until = self.now.saturating_add(stall);
        self.observers.insert(
            connection,
            Observer {
                reader: LineReader::new(EXTENDED_LINE_BYTES_MAX),
                greeted: false,
                dumps: 0,
                reads_from: until,
            },
        );
        let delay = self.random.micros(0, 1_000);
        self.after(delay, Due::ToProxy(Arrival::Bytes(connection, bytes)));
        if let Some(connection) = self.proxy.connections.get_mut(&connection) {
            connection.stalled_until = until;
        }
        let stays = stall + self.random.millis(0, 5_000);
        self.after(stays, Due::ObserverLeaves(connection));
    }

    pub(crate) fn on_bytes_for_observer(&mut self, id: ConnectionId, bytes: &[u8]) -> Step {
        let Some(observer) = self.observers.get_mut(&id) else {
            return Ok(());
        };
        observer.reader.push(bytes);
        while let Some(line) = observer.reader.next_line() {
            let Line::Complete(line) = line else {
                return broken("S9", format!("{id:?}: a line is too long"));
            };
            if !observer.greeted && !line.starts_with(b"proto") {
                continue;
            }
            observer.greeted = true;
            match decode_message(&line) {
                Ok(Some(Message::Event(Event::DumpEnd { sequence }))) => observer.dumps = sequence,
                Ok(_) => {}
                Err(error) => return broken("S9", format!("{id:?}: {error}")),
            }
        }
        Ok(())
    }

    /// S9: who asked for a dump some time ago has got it.
    pub(crate) fn on_observer_leaves(&mut self, id: ConnectionId) -> Step {
        let Some(observer) = self.observers.remove(&id) else {
            return Ok(());
        };
        self.proxy.arrivals.push_back(Arrival::Ended(id));
        self.wake_proxy();
        let waited = self.now.saturating_since(observer.reads_from);
        if observer.dumps == 0 && waited >= DUMP_WITHIN {
            return broken("S9", format!("{id:?}: no dump came within {waited:?}"));
        }
        Ok(())
    }
}
