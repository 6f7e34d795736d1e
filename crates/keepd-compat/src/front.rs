//! The front end as a machine: lines of plain connections in, commands for the core and bytes for
//! the connections out.

use std::collections::{BTreeMap, VecDeque};

use keepd_engine::proxy::{ConnectionId, Proxy};
use keepd_model::protocol::{Message, Request};
use keepd_model::{Instant, LogLevel};
use keepd_wire::Line;

/// The connection that the front end is to the core. The shell numbers its own from 1.
pub const FRONT: ConnectionId = ConnectionId(0);

/// A fixed number of things, and how many bytes of variable data each may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How many.
    pub count: usize,
    /// The bytes of each.
    pub bytes: usize,
}

/// What the front end is made with. Without a pool, tables grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--service-pool`.
    pub services: Option<Pool>,
    /// `--fd-pool`.
    pub handles: Option<Pool>,
}

/// What kind of connection a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `-i`: greeted with `info` lines.
    Interactive,
    /// A socket client, or a service with both directions.
    Both,
    /// A stream of commands without a way back: a configuration file, a service with `control.cmd`
    /// alone.
    CommandsOnly,
    /// A service with `control.event` alone.
    EventsOnly,
}

/// What the shell is asked to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give this to the core as a request of [`FRONT`], and everything that comes of it back to
    /// [`Front::handle_message`], before anything else of any connection.
    Ask(Request),
    /// From here on this connection is the core's: tell it `Connected`. The rest of what was read
    /// from it is in the extended language.
    Upgrade {
        /// Which.
        connection: ConnectionId,
    },
    /// Read no more from this connection, write its buffer, then close it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// A message for the proxy's own log.
    Log {
        /// How bad it is.
        level: LogLevel,
        /// One line.
        text: String,
    },
}

/// The front end.
#[derive(Debug, Default)]
pub struct Front {
    limits: Limits,
    clients: BTreeMap<ConnectionId, Vec<u8>>,
    outputs: VecDeque<Output>,
}

impl Front {
    /// Returns a front end without connections. The shell must have told the core that [`FRONT`]
    /// is connected.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A plain connection was made: it hears the pending signals.
    pub fn connected(&mut self, now: Instant, core: &Proxy, id: ConnectionId, client: Client) {
        let _ = (now, core, client, self.limits);
        self.clients.insert(id, Vec::new());
    }

    /// A connection ended, or is the core's from here on.
    pub fn disconnected(&mut self, id: ConnectionId) {
        self.clients.remove(&id);
    }

    /// Reports whether a connection is one of the front end's.
    pub fn has(&self, id: ConnectionId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Reports whether the next line of a connection may be given: its last command is done, and
    /// not too much of its output waits.
    pub fn is_ready(&self, id: ConnectionId) -> bool {
        self.has(id)
    }

    /// A connection sent a line. Given one by one, only while [`Front::is_ready`].
    pub fn handle_line(&mut self, now: Instant, core: &Proxy, id: ConnectionId, line: &Line) {
        let _ = (now, core, id, line);
    }

    /// The stream of commands of a connection ended; `rest` is what came after its last line feed
    /// (a configuration file runs it, every other connection drops it; both are logged).
    pub fn handle_end(&mut self, now: Instant, core: &Proxy, id: ConnectionId, rest: &[u8]) {
        let _ = (now, core, id, rest);
    }

    /// The core told [`FRONT`] something.
    pub fn handle_message(&mut self, now: Instant, core: &Proxy, message: &Message) {
        let _ = (now, core, message);
    }

    /// Returns the connection whose command the core is carrying out.
    pub fn asking(&self) -> Option<ConnectionId> {
        None
    }

    /// Returns the bytes that wait for a connection. More may come with each call of
    /// [`Front::written`], while a dump goes on.
    pub fn output(&self, id: ConnectionId) -> &[u8] {
        self.clients.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The shell wrote the first `count` bytes of a connection's output; 0: nobody took any.
    pub fn written(&mut self, now: Instant, core: &Proxy, id: ConnectionId, count: usize) {
        let _ = (now, core, id, count);
    }

    /// Nobody is there to hear any longer: its commands are still run.
    pub fn output_lost(&mut self, id: ConnectionId) {
        let _ = id;
    }

    /// Says whether more commands of a connection are waiting than its input buffer takes.
    pub fn set_input_full(&mut self, id: ConnectionId, is_full: bool) {
        let _ = (id, is_full);
    }

    /// Returns when [`Front::handle_timeout`] must be called at the latest, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Carries out the time limits that are over.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns the next thing to do; to be called until there is none after each of the above.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
