//! One plain connection: what waits to be written to it, and what becomes of news while nobody
//! takes any.

use std::time::Duration;

use keepd_model::{Instant, ServiceName};

use crate::dump::Dump;
use crate::front::Client;

/// The output of a connection, lines of its own answers aside: news that does not fit is lost. It
/// is taken when the connection is made: news for many clients who do not read must not need the
/// more memory the more there are.
pub(crate) const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// No command of a connection is run while more than this waits to be written to it, and a dump
/// goes on until so much waits: the other half of the buffer is for news. The original stops at
/// 1,024 bytes; nobody can see where, as the kernel keeps many times that of what was written, and
/// each write wakes the client.
pub(crate) const ANSWERS_BYTES_MAX: usize = BUFFER_BYTES_MAX / 2;
/// From here on a connection is crowded: it is written to before there is more news.
const CROWDED_BYTES: usize = BUFFER_BYTES_MAX / 2;
/// What a piece of a dump has at most, without what only extended connections can set.
const PIECE_BYTES: usize = 6 * 1024;
/// The line that tells a client that it lost some.
const OVERFLOW: &[u8] = b"overflow\n";

/// How long a connection may be stalled, `conn.event_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// After this time the queue of its commands goes on without answers.
    pub(crate) reset: Duration,
    /// After this time it is closed.
    pub(crate) close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { reset: Duration::from_secs(15), close: Duration::from_secs(30) }
    }
}

/// Nobody takes what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stall {
    /// The first write that failed.
    since: Instant,
    /// The first time limit was over and was dealt with.
    is_reset: bool,
}

/// A time limit that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The first one.
    Reset,
    /// The second one: nothing waits any more, and nothing more is heard.
    Close,
}

/// A plain connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Whether it may be told anything: it has an output, and nothing ended that.
    hears: bool,
    /// Whether its commands are run: it neither said `exit` or `proto` nor was closed.
    is_open: bool,
    kind: Client,
    /// It belongs to this service, which is not up yet: until then there is no news for it.
    awaits: Option<ServiceName>,
    buffer: Vec<u8>,
    /// So much of the buffer is written.
    sent: usize,
    /// Everything for it is dropped until all that waits is written.
    is_overflowed: bool,
    /// What is left to be told of a `statedump`.
    dump: Option<Dump>,
    timeouts: Timeouts,
    stall: Option<Stall>,
    is_input_full: bool,
}

impl Connection {
    pub(crate) fn new(kind: Client) -> Self {
        let hears = match kind {
            Client::Interactive | Client::Both | Client::EventsOnly => true,
            Client::Configuration | Client::CommandsOnly => false,
        };
        Self {
            hears,
            is_open: true,
            kind,
            awaits: None,
            buffer: Vec::with_capacity(if hears { BUFFER_BYTES_MAX } else { 0 }),
            sent: 0,
            is_overflowed: false,
            dump: None,
            timeouts: Timeouts::default(),
            stall: None,
            is_input_full: false,
        }
    }

    pub(crate) const fn kind(&self) -> Client {
        self.kind
    }

    /// Reports whether it may send commands.
    pub(crate) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns what waits to be written.
    pub(crate) fn output(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }

    /// Reports whether its next command may be run. What is overflowed hears no answers, so it
    /// cannot be flooded with them either.
    pub(crate) fn is_ready(&self) -> bool {
        let has_room = self.output().len() <= ANSWERS_BYTES_MAX && self.dump.is_none();
        self.is_open && (has_room || self.is_overflowed)
    }

    /// Lets it hear no news before its service is up.
    pub(crate) fn wait_for(&mut self, name: &ServiceName) {
        self.awaits = Some(name.clone());
    }

    pub(crate) fn end_waiting(&mut self, name: &ServiceName) {
        self.awaits.take_if(|awaited| awaited == name);
    }

    pub(crate) const fn is_awaiting(&self) -> bool {
        self.awaits.is_some()
    }

    /// Adds an answer, which is never dropped: there was room when its command was run.
    pub(crate) fn reply(&mut self, line: &[u8]) {
        if self.hears && !self.is_overflowed {
            self.compact(line.len());
            self.buffer.extend_from_slice(line);
        }
    }

    /// Adds news; what does not fit is lost, and so is all that comes before the buffer is empty.
    /// Returns `true` if so much waits now that some should be written before there is more news.
    pub(crate) fn tell(&mut self, line: &[u8]) -> bool {
        if self.output().len() + line.len() > BUFFER_BYTES_MAX {
            self.overflow();
        }
        self.reply(line);
        self.hears && !self.is_overflowed && self.output().len() >= CROWDED_BYTES
    }

    /// Takes out what is written, before the buffer would grow for something new.
    fn compact(&mut self, bytes: usize) {
        if self.buffer.len() + bytes > self.buffer.capacity() {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// From here on everything is dropped until all that waits is written. A dump that goes on is
    /// lost like the rest.
    fn overflow(&mut self) {
        if self.hears {
            self.is_overflowed = true;
            self.dump = None;
            self.end_overflow();
        }
    }

    fn end_overflow(&mut self) {
        if self.is_overflowed && self.output().is_empty() {
            self.is_overflowed = false;
            self.buffer.extend_from_slice(OVERFLOW);
        }
    }

    /// The shell wrote so many bytes.
    pub(crate) fn written(&mut self, now: Instant, count: usize) {
        if self.output().is_empty() {
            return;
        }
        if count == 0 {
            self.stall.get_or_insert(Stall { since: now, is_reset: false });
            return;
        }
        self.stall = None;
        self.sent = (self.sent + count).min(self.buffer.len());
        if self.output().is_empty() {
            self.empty();
        }
        self.end_overflow();
    }

    fn empty(&mut self) {
        self.sent = 0;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_MAX);
    }

    /// Nobody hears it any longer.
    pub(crate) fn lose_output(&mut self) {
        self.hears = false;
        self.is_overflowed = false;
        self.dump = None;
        self.stall = None;
        self.empty();
    }

    /// No more commands, no more lines; what waits is still written.
    pub(crate) fn leave(&mut self) {
        self.is_open = false;
        self.hears = false;
        self.dump = None;
    }

    /// Begins a dump. Nobody can hear that of a connection without output.
    pub(crate) fn begin_dump(&mut self) {
        if self.hears && !self.is_overflowed {
            self.dump = Some(Dump::default());
        }
    }

    /// Returns the dump that can go on, and where its lines belong.
    pub(crate) fn dump_mut(&mut self) -> Option<(&mut Dump, &mut Vec<u8>)> {
        if self.output().len() >= ANSWERS_BYTES_MAX {
            return None;
        }
        self.compact(PIECE_BYTES);
        self.dump.as_mut().map(|dump| (dump, &mut self.buffer))
    }

    pub(crate) fn end_dump(&mut self) {
        self.dump = None;
    }

    pub(crate) const fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Notes whether its queue of commands is full, which after the first time limit is one too
    /// many.
    pub(crate) fn set_input_full(&mut self, is_full: bool) {
        self.is_input_full = is_full;
        if is_full && self.stall.is_some_and(|stall| stall.is_reset) {
            self.overflow();
        }
    }

    /// Returns when the next time limit is over.
    pub(crate) fn due(&self) -> Option<Instant> {
        let stall = self.stall?;
        let limit = if stall.is_reset { self.timeouts.close } else { self.timeouts.reset };
        Some(stall.since.saturating_add(limit))
    }

    /// Carries out the time limit that is over, if one is.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Overdue> {
        if self.due()? > now {
            return None;
        }
        let stall = self.stall.as_mut()?;
        if stall.is_reset {
            self.leave();
            self.lose_output();
            return Some(Overdue::Close);
        }
        stall.is_reset = true;
        if self.is_input_full {
            self.overflow();
        }
        Some(Overdue::Reset)
    }
}
