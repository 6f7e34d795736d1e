//! Controllers: the control socket's clients, standard input and output, the configuration file,
//! services that control us.
//!
//! What a connection says is read here and cut into lines, with a bounded buffer. What it is told
//! waits in a bounded buffer too: that of an extended connection is here, that of a plain one in
//! the front end. Nothing here knows what a line means.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keepd_engine::proxy::ConnectionId;
use keepd_model::Errno;
use keepd_model::protocol::{EXTENDED_LINE_BYTES_MAX, PLAIN_LINE_BYTES_MAX};
use keepd_os::epoll::{Epoll, Interest, Ready};
use keepd_os::handle;
use keepd_wire::{Line, LineReader};
use rustix::net::SendFlags;

use crate::memory;
use crate::token::Token;

/// The most bytes read from a connection in one turn. The buffer lies on the stack, where each page
/// that was ever used stays with the process.
const READ_BYTES: usize = 16 * 1024;
/// The same of a plain connection while memory is to be spared.
const PLAIN_READ_BYTES: usize = 8 * 1024;
/// Output that waits in an extended connection before it counts as full.
const EXTENDED_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// A buffer that grew beyond this is given back once it is empty.
const CAPACITY_KEPT_BYTES: usize = 64 * 1024;
/// Descriptors of a connection that wait for `fd.take`.
const RECEIVED_MAX: usize = 2;
/// The other side closed with unread bytes.
const ECONNRESET: Errno = Errno(104);
/// Operation not permitted: what epoll_ctl(2) says for regular files.
const EPERM: Errno = Errno(1);

/// The descriptors of a connection.
pub(crate) enum Ends {
    /// A client of the control socket, or a service that controls us.
    Socket(OwnedFd, Direction),
    /// Standard input and output.
    Standard(OwnedFd, OwnedFd),
    /// A stream of commands without a way back: the configuration.
    Stream(OwnedFd),
}

/// Which ways a socket is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Commands come, answers and events go.
    Both,
    /// It is told nothing.
    CommandsOnly,
    /// It says nothing.
    EventsOnly,
}

/// How far the input of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputState {
    /// More can come.
    Open,
    /// The other side sends no more; whole lines are still there.
    Ended,
    /// It was never meant to come.
    Never,
}

/// Whose language a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// daemonproxy's: lines go to the front end.
    Plain,
    /// With the extension: lines go to the core.
    Extended,
}

/// One controller.
pub(crate) struct Connection {
    ends: Ends,
    reader: LineReader,
    /// There was no memory for a long line, of which the rest may still come.
    is_starved: bool,
    language: Language,
    input: InputState,
    /// Lines may be in the reader; nothing is read before they were asked for.
    has_lines: bool,
    /// A regular file is always ready, and no epoll set takes it.
    is_file: bool,
    /// What waits for an extended connection.
    output: Vec<u8>,
    /// The machine was told that nothing more fits.
    full: bool,
    /// Numbered commands that were not answered yet.
    unanswered: u64,
    /// To be closed once the output is written.
    closing: bool,
    /// The other side is gone.
    gone: bool,
    /// The other side does not listen any more; its commands are still run.
    is_deaf: bool,
    /// What the epoll set waits for: on the input, and on the output while that is in the set.
    interest: (Interest, Option<Interest>),
    /// Descriptors that came with messages, the oldest first.
    pub(crate) received: VecDeque<OwnedFd>,
    /// How many more came than are kept, since it was asked.
    refused_descriptors: usize,
    /// Why nothing more could be read, until it was asked.
    read_error: Option<Errno>,
}

/// What became of a connection in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It goes on.
    Open,
    /// Its output is empty again.
    Drained,
    /// It is over.
    Over,
}

/// What a write brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// So many bytes are gone; 0: nobody takes any now.
    Bytes(usize),
    /// Nobody is there to hear.
    Lost,
}

/// Every controller.
pub(crate) struct Connections {
    entries: BTreeMap<ConnectionId, Connection>,
    last: u64,
    /// How many there can be at the same time.
    most: usize,
}

impl Connections {
    /// Makes the table for so many connections at the same time.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), last: 0, most }
    }

    /// Adds a connection; it begins as a plain one.
    pub(crate) fn add(&mut self, epoll: &Epoll, ends: Ends) -> Result<ConnectionId, Errno> {
        self.last += 1;
        let id = ConnectionId(self.last);
        let mut connection = Connection {
            ends,
            reader: LineReader::with_room(PLAIN_LINE_BYTES_MAX, PLAIN_READ_BYTES),
            is_starved: false,
            language: Language::Plain,
            input: InputState::Open,
            has_lines: false,
            is_file: false,
            output: Vec::new(),
            full: false,
            unanswered: 0,
            closing: false,
            gone: false,
            is_deaf: false,
            interest: (Interest::READ, Some(Interest::default())),
            received: VecDeque::new(),
            refused_descriptors: 0,
            read_error: None,
        };
        if let Ends::Socket(_, Direction::EventsOnly) = connection.ends {
            connection.input = InputState::Never;
            connection.interest.0 = Interest::default();
        }
        let (input, output) = connection.ends.descriptors();
        match epoll.add(input, Token::Connection(id.0).into(), connection.interest.0) {
            Ok(()) => {}
            Err(EPERM) => connection.is_file = true,
            Err(error) => return Err(error),
        }
        if let Some(output) = output {
            match epoll.add(output, Token::ConnectionOutput(id.0).into(), Interest::default()) {
                // A regular file can always be written.
                Ok(()) | Err(EPERM) => {}
                Err(error) => return Err(error),
            }
        }
        self.entries.insert(id, connection);
        Ok(id)
    }

    /// Reports whether there may be one more.
    pub(crate) fn has_place(&self) -> bool {
        self.entries.len() < self.most
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the first connection behind a number, or the first of all.
    pub(crate) fn after(&self, id: Option<ConnectionId>) -> Option<ConnectionId> {
        let first = id.map_or(0, |id| id.0 + 1);
        self.entries.range(ConnectionId(first)..).next().map(|(id, _)| *id)
    }

    /// Returns a connection that is still there.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.entries.get_mut(&id)
    }

    /// Takes a connection out; its descriptors are closed with the value.
    pub(crate) fn remove(&mut self, epoll: &Epoll, id: ConnectionId) -> Option<Connection> {
        let connection = self.entries.remove(&id)?;
        let (input, output) = connection.ends.descriptors();
        // Regular files are not in the set; everything else leaves it before a copy of ours could
        // stay behind in a child that has not executed yet.
        for descriptor in [Some(input), output].into_iter().flatten() {
            let _ = epoll.remove(descriptor);
        }
        Some(connection)
    }
}

impl Connection {
    /// Notes what the epoll set says of the side that is read, and reads what is there.
    pub(crate) fn on_ready(&mut self, ready: Ready) {
        if ready.hangup || ready.error {
            match self.ends {
                // What was sent before the hang-up is read and run first; but nobody will read any
                // answer, so there is nothing else to wait for.
                Ends::Socket(_, Direction::Both) => {
                    let is_read = self.input == InputState::Ended && !self.has_lines;
                    self.gone |= self.full || self.closing || is_read;
                }
                Ends::Socket(_, Direction::EventsOnly) => self.gone = true,
                // Only the end of the input; reading will find it.
                Ends::Socket(_, Direction::CommandsOnly) | Ends::Standard(..) | Ends::Stream(_) => {
                }
            }
        }
        if ready.readable || ready.hangup {
            self.read();
        }
    }

    /// Notes what the epoll set says of the side that is only written.
    pub(crate) fn on_output_ready(&mut self, ready: Ready) {
        if ready.hangup || ready.error {
            match self.language {
                Language::Plain => self.is_deaf = true,
                Language::Extended => self.gone = true,
            }
        }
    }

    /// Reads once, if its lines are used up.
    pub(crate) fn read(&mut self) {
        if self.has_lines || !self.is_readable() || self.input != InputState::Open {
            return;
        }
        let mut buffer = [0; READ_BYTES];
        let most = match self.language {
            Language::Plain if memory::is_scarce() => PLAIN_READ_BYTES,
            Language::Plain => READ_BYTES,
            Language::Extended => self.bound_line(),
        };
        let buffer = &mut buffer[..most];
        let count = match &self.ends {
            Ends::Socket(socket, _) => {
                let kept_max = RECEIVED_MAX - self.received.len();
                handle::receive(socket, buffer, kept_max).map(|received| {
                    self.received.extend(received.descriptors);
                    self.refused_descriptors += received.closed;
                    received.count
                })
            }
            Ends::Standard(input, _) | Ends::Stream(input) => {
                rustix::io::read(input, &mut *buffer).map_err(|error| Errno(error.raw_os_error()))
            }
        };
        match count {
            Ok(0) => self.end_input(),
            Ok(count) => {
                self.reader.push(&buffer[..count]);
                self.has_lines = true;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                self.read_error = Some(error);
                self.end_input();
            }
        }
    }

    /// Returns why reading failed, once.
    pub(crate) fn take_read_error(&mut self) -> Option<Errno> {
        // A client that goes away is no fault.
        self.read_error.take().filter(|error| *error != ECONNRESET)
    }

    /// Says how long a line of an extended connection may be, and returns how much is read. Without
    /// memory for more, a line that is longer than a plain one is thrown away and refused.
    fn bound_line(&mut self) -> usize {
        let waiting = self.reader.buffered_bytes();
        // A buffer that grows is there twice for a moment.
        let needed = 2 * (waiting + READ_BYTES);
        let has_room = !memory::is_low() && (waiting < READ_BYTES || memory::has_room(needed));
        if has_room {
            self.reader.set_limit(EXTENDED_LINE_BYTES_MAX);
            return READ_BYTES;
        }
        self.reader.set_limit(PLAIN_LINE_BYTES_MAX);
        self.is_starved = true;
        PLAIN_READ_BYTES
    }

    /// Reports whether long lines were thrown away for want of memory since it was asked last.
    pub(crate) fn take_starved(&mut self) -> bool {
        std::mem::take(&mut self.is_starved)
    }

    fn end_input(&mut self) {
        self.input = InputState::Ended;
        self.has_lines = self.reader.buffered_bytes() > 0;
    }

    /// Returns how many descriptors came that are not kept, and forgets it.
    pub(crate) fn take_refused_descriptors(&mut self) -> usize {
        std::mem::take(&mut self.refused_descriptors)
    }

    /// Reports whether commands of it may be run.
    fn is_readable(&self) -> bool {
        !self.full && !self.closing && !self.gone
    }

    /// Reports whether lines of it could be run without news of the epoll set: some are there, or
    /// it is a regular file.
    pub(crate) fn has_work(&self) -> bool {
        self.is_readable() && (self.has_lines || (self.is_file && self.input == InputState::Open))
    }

    /// Reports whether it is read without being asked: regular files are not in the epoll set.
    pub(crate) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Reports whether more bytes wait to be run than one line can have.
    pub(crate) fn is_input_full(&self) -> bool {
        self.reader.buffered_bytes() > PLAIN_LINE_BYTES_MAX
    }

    /// Returns the next line.
    pub(crate) fn next_line(&mut self) -> Option<Line> {
        if !self.has_lines || !self.is_readable() {
            return None;
        }
        let line = self.reader.next_line();
        self.has_lines = line.is_some();
        line
    }

    /// Returns what came behind the last line feed, once, when the input is over and all lines
    /// were asked for.
    pub(crate) fn take_rest(&mut self) -> Option<Vec<u8>> {
        if self.input != InputState::Ended || self.has_lines {
            return None;
        }
        match self.reader.finish()? {
            Line::Complete(rest) | Line::TooLong { start: rest } => Some(rest),
        }
    }

    /// Returns the language of its lines.
    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// Reports whether it can be answered.
    pub(crate) fn has_output(&self) -> bool {
        match self.ends {
            Ends::Socket(_, Direction::Both | Direction::EventsOnly) | Ends::Standard(..) => true,
            Ends::Socket(_, Direction::CommandsOnly) | Ends::Stream(_) => false,
        }
    }

    /// Reports whether this is standard input and output, whose end is the end of the proxy.
    pub(crate) fn is_interactive(&self) -> bool {
        match self.ends {
            Ends::Standard(..) => true,
            Ends::Socket(..) | Ends::Stream(_) => false,
        }
    }

    /// Reports whether this is a configuration, whose last line needs no line feed.
    pub(crate) fn is_configuration(&self) -> bool {
        match self.ends {
            Ends::Stream(_) => true,
            Ends::Socket(..) | Ends::Standard(..) => false,
        }
    }

    /// Speaks the extended language from the next line on; `waiting` is what the front end had not
    /// written yet.
    pub(crate) fn upgrade(&mut self, waiting: &[u8]) {
        self.language = Language::Extended;
        self.reader.set_limit(EXTENDED_LINE_BYTES_MAX);
        self.output.extend_from_slice(waiting);
    }

    /// Counts a numbered command that will be answered.
    pub(crate) fn expect_answer(&mut self) {
        self.unanswered += 1;
    }

    /// Counts an answer.
    pub(crate) fn note_answer(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Closes it once everything is written.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Adds a line for an extended connection by `write`. Returns `true` if the output has become
    /// full by it.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.gone || !self.has_output() {
            return false;
        }
        write(&mut self.output);
        let became_full = !self.full && !self.may_grow();
        self.full |= became_full;
        became_full
    }

    /// Reports whether more may wait to be written: without memory not much.
    fn may_grow(&self) -> bool {
        let waiting = self.output.len();
        if waiting < PLAIN_READ_BYTES {
            return true;
        }
        // What comes next may be longer than this; what is longer than a plain line is rare.
        let is_large = self.output.capacity() - waiting < READ_BYTES;
        let has_room = !is_large || memory::has_room(2 * (waiting + READ_BYTES));
        waiting < EXTENDED_OUTPUT_BYTES_MAX && !memory::is_low() && has_room
    }

    /// Writes bytes, as far as it goes without blocking.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Written {
        if self.is_deaf {
            return Written::Lost;
        }
        match write(&self.ends, bytes) {
            Ok(count) => Written::Bytes(count),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Written::Bytes(0),
            Err(_) => {
                self.is_deaf = true;
                Written::Lost
            }
        }
    }

    /// Ends a turn for an extended connection: writes, and says what became of it.
    pub(crate) fn settle_extended(&mut self) -> Settled {
        self.flush();
        let is_written = self.output.is_empty();
        if self.gone || (self.closing && is_written) {
            return Settled::Over;
        }
        if self.full && is_written {
            self.full = false;
            return Settled::Drained;
        }
        self.settled(is_written && self.unanswered == 0)
    }

    /// Ends a turn for a plain connection: `waits` says whether output of it is left, `is_ready`
    /// whether its last command is done.
    pub(crate) fn settle_plain(&mut self, waits: bool, is_ready: bool) -> Settled {
        let is_written = !waits || self.is_deaf;
        if self.gone || (self.closing && is_written) {
            return Settled::Over;
        }
        self.settled(is_written && is_ready)
    }

    fn settled(&self, is_answered: bool) -> Settled {
        match self.input {
            InputState::Ended if !self.has_lines && is_answered => Settled::Over,
            InputState::Never if self.is_deaf => Settled::Over,
            InputState::Ended | InputState::Open | InputState::Never => Settled::Open,
        }
    }

    /// Tells the epoll set what to wait for: `may_read` more, and room for what `waits`.
    pub(crate) fn sync_interest(
        &mut self,
        epoll: &Epoll,
        id: ConnectionId,
        may_read: bool,
        waits: bool,
    ) {
        let waits = (waits || !self.output.is_empty()) && !self.is_deaf;
        let can_read =
            may_read && self.is_readable() && !self.has_lines && self.input == InputState::Open;
        let mut wanted = (Interest { readable: can_read, ..Interest::default() }, None);
        match self.ends {
            Ends::Socket(..) => wanted.0.writable = waits,
            // A pipe that nobody reads any more would be reported again and again, whatever is
            // waited for.
            Ends::Standard(..) if self.is_deaf => {}
            Ends::Standard(..) => {
                wanted.1 = Some(Interest { writable: waits, ..Interest::default() });
            }
            Ends::Stream(_) => {}
        }
        let (input, output) = self.ends.descriptors();
        let token = Token::Connection(id.0).into();
        // Regular files are not in the set, so what is done for them fails, and may.
        if wanted.0 != self.interest.0 {
            let _ = match self.ends {
                Ends::Socket(..) => epoll.modify(input, token, wanted.0),
                // A pipe that ended would be reported again and again, whatever is waited for.
                Ends::Standard(..) | Ends::Stream(_) if can_read => {
                    epoll.add(input, token, wanted.0)
                }
                Ends::Standard(..) | Ends::Stream(_) => epoll.remove(input),
            };
        }
        if let Some(output) = output
            && wanted.1 != self.interest.1
        {
            let _ = match wanted.1 {
                Some(wanted) => epoll.modify(output, Token::ConnectionOutput(id.0).into(), wanted),
                None => epoll.remove(output),
            };
        }
        self.interest = wanted;
    }

    /// Writes what waits in an extended connection, as far as it goes without blocking. A failure
    /// means that nobody is there to hear.
    pub(crate) fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() && self.has_output() {
            match write(&self.ends, &self.output[written..]) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.output.drain(..written);
        if self.output.is_empty() && self.output.capacity() > CAPACITY_KEPT_BYTES {
            self.output = Vec::new();
        }
    }

    /// Reports whether something of an extended connection waits to be written.
    pub(crate) fn has_waiting_output(&self) -> bool {
        !self.output.is_empty() && !self.gone
    }

    /// Returns the descriptor that is written, for a wait until it takes more.
    pub(crate) fn output_descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.ends {
            Ends::Socket(socket, _) => Some(socket.as_fd()),
            Ends::Standard(_, output) => Some(output.as_fd()),
            Ends::Stream(_) => None,
        }
    }
}

/// A socket whose other side is gone must not cost a SIGPIPE; the pipe of standard output has no
/// such flag, and the proxy ignores the signal for it.
fn write(ends: &Ends, bytes: &[u8]) -> rustix::io::Result<usize> {
    match ends {
        Ends::Socket(socket, _) => {
            rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        }
        Ends::Standard(_, output) => rustix::io::write(output, bytes),
        Ends::Stream(_) => Err(rustix::io::Errno::PIPE),
    }
}

impl Ends {
    /// Returns the input, and the output where it is another descriptor.
    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        match self {
            Self::Socket(socket, _) => (socket.as_fd(), None),
            Self::Standard(input, output) => (input.as_fd(), Some(output.as_fd())),
            Self::Stream(input) => (input.as_fd(), None),
        }
    }
}
