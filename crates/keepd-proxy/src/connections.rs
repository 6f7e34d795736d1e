//! Controllers: the listening socket, standard input and output, the configuration file.
//!
//! A connection has a bounded buffer for each direction. When its output is full it is not read any
//! more, so a client that sends without reading stops only itself. Nothing here knows what a line
//! means.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keepd_engine::proxy::ConnectionId;
use keepd_model::{Errno, Instant};
use keepd_os::epoll::{Epoll, Interest, Ready};
use keepd_wire::{Line, LineReader, Mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

use crate::token::Token;

/// The most bytes read from a connection in one turn.
const READ_BYTES: usize = 64 * 1024;
/// Output that waits in a plain and in an extended connection before it counts as full.
const PLAIN_OUTPUT_BYTES_MAX: usize = 64 * 1024;
const EXTENDED_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Operation not permitted: what epoll_ctl(2) says for regular files.
const EPERM: Errno = Errno(1);

/// The descriptors of a connection.
pub(crate) enum Ends {
    /// A socket: both directions.
    Socket(OwnedFd),
    /// Standard input and output.
    Standard(OwnedFd, OwnedFd),
    /// A stream of commands without a way back.
    InputOnly(OwnedFd),
}

/// How far the input of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputState {
    /// More can come.
    Open,
    /// The other side sends no more; whole lines are still there.
    Ended,
}

/// One controller.
pub(crate) struct Connection {
    ends: Ends,
    reader: LineReader,
    mode: Mode,
    input: InputState,
    /// Lines may be in the reader; nothing is read before they were asked for.
    has_lines: bool,
    /// A regular file is always ready, and no epoll set takes it.
    is_file: bool,
    output: Vec<u8>,
    /// The machine was told that nothing more fits.
    full: bool,
    /// Numbered commands that were not answered yet.
    unanswered: u64,
    /// To be closed once the output is written.
    closing: bool,
    /// The other side is gone.
    gone: bool,
    /// What the epoll set waits for: on the input, on the output.
    interest: (Interest, Interest),
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

/// Every controller.
#[derive(Default)]
pub(crate) struct Connections {
    entries: BTreeMap<ConnectionId, Connection>,
    last: u64,
}

impl Connections {
    /// Adds a connection; it begins as a plain one.
    pub(crate) fn add(&mut self, epoll: &Epoll, ends: Ends) -> Result<ConnectionId, Errno> {
        self.last += 1;
        let id = ConnectionId(self.last);
        let mut connection = Connection {
            ends,
            reader: LineReader::new(Mode::Plain.line_bytes_max()),
            mode: Mode::Plain,
            input: InputState::Open,
            has_lines: false,
            is_file: false,
            output: Vec::new(),
            full: false,
            unanswered: 0,
            closing: false,
            gone: false,
            interest: (Interest::READ, Interest::default()),
        };
        let (input, output) = connection.ends.descriptors();
        match epoll.add(input, Token::Connection(id.0).into(), Interest::READ) {
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

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of every connection.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.entries.keys().copied().collect()
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

    /// Reports whether some connection has lines that can be run now.
    pub(crate) fn has_work(&self) -> bool {
        self.entries.values().any(|connection| {
            connection.is_readable() && (connection.has_lines || connection.is_file)
        })
    }

    /// Writes what waits in every connection, as far as it goes, until `deadline` at most.
    pub(crate) fn flush_all(&mut self, deadline: Instant) {
        for connection in self.entries.values_mut() {
            connection.flush_until(deadline);
        }
    }
}

impl Connection {
    /// Notes what the epoll set says of the side that is read, and reads what is there.
    pub(crate) fn on_ready(&mut self, ready: Ready) {
        if ready.hangup || ready.error {
            match self.ends {
                // What was sent before the hang-up is read and run first; but nobody will read any
                // answer, so there is nothing else to wait for.
                Ends::Socket(_) => {
                    let is_read = self.input == InputState::Ended && !self.has_lines;
                    self.gone |= self.full || self.closing || is_read;
                }
                // Only the end of the input; reading will find it.
                Ends::Standard(..) | Ends::InputOnly(_) => {}
            }
        }
        if ready.readable || ready.hangup {
            self.read();
        }
    }

    /// Notes what the epoll set says of the side that is only written.
    pub(crate) fn on_output_ready(&mut self, ready: Ready) {
        self.gone |= ready.hangup || ready.error;
    }

    /// Reads once, if its lines are used up.
    pub(crate) fn read(&mut self) {
        if self.has_lines || !self.is_readable() || self.input == InputState::Ended {
            return;
        }
        let mut buffer = [0; READ_BYTES];
        let (input, _) = self.ends.descriptors();
        match rustix::io::read(input, &mut buffer) {
            Ok(0) => self.end_input(),
            Ok(count) => {
                self.reader.push(&buffer[..count]);
                self.has_lines = true;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.end_input(),
        }
    }

    /// The last line of a file may lack its line feed; from every other connection it is cut off
    /// and dropped.
    fn end_input(&mut self) {
        self.input = InputState::Ended;
        self.has_lines = match self.ends {
            Ends::InputOnly(_) => self.reader.buffered_bytes() > 0,
            Ends::Socket(_) | Ends::Standard(..) => false,
        };
    }

    /// Reports whether commands of it may be run.
    pub(crate) fn is_readable(&self) -> bool {
        !self.full && !self.closing && !self.gone
    }

    /// Reports whether it is read without being asked: regular files are not in the epoll set.
    pub(crate) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Returns the next line, and the language it is in.
    pub(crate) fn next_line(&mut self) -> Option<(Line, Mode)> {
        if !self.has_lines || !self.is_readable() {
            return None;
        }
        let mut line = self.reader.next_line();
        if line.is_none() {
            self.has_lines = false;
            if let (InputState::Ended, Ends::InputOnly(_)) = (self.input, &self.ends) {
                line = self.reader.finish();
            }
        }
        line.map(|line| (line, self.mode))
    }

    /// Returns the language of its lines.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Reports whether it can be answered.
    pub(crate) fn has_output(&self) -> bool {
        match self.ends {
            Ends::Socket(_) | Ends::Standard(..) => true,
            Ends::InputOnly(_) => false,
        }
    }

    /// Reports whether this is standard input and output, whose end is the end of the proxy.
    pub(crate) fn is_interactive(&self) -> bool {
        match self.ends {
            Ends::Standard(..) => true,
            Ends::Socket(_) | Ends::InputOnly(_) => false,
        }
    }

    /// Speaks the extended language from the next line on.
    pub(crate) fn upgrade(&mut self) {
        self.mode = Mode::Extended;
        self.reader.set_limit(Mode::Extended.line_bytes_max());
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

    /// Adds a line by `write`. Returns `true` if the output has become full by it.
    pub(crate) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.gone || !self.has_output() {
            return false;
        }
        write(&mut self.output);
        let became_full = !self.full && self.output.len() >= self.output_bytes_max();
        self.full |= became_full;
        became_full
    }

    fn output_bytes_max(&self) -> usize {
        match self.mode {
            Mode::Plain => PLAIN_OUTPUT_BYTES_MAX,
            Mode::Extended => EXTENDED_OUTPUT_BYTES_MAX,
        }
    }

    /// Ends a turn: writes, and says what became of the connection.
    pub(crate) fn settle(&mut self) -> Settled {
        self.flush();
        let is_written = self.output.is_empty();
        if self.gone || (self.closing && is_written) {
            return Settled::Over;
        }
        if self.full && is_written {
            self.full = false;
            return Settled::Drained;
        }
        let is_answered = is_written && self.unanswered == 0;
        match self.input {
            InputState::Ended if !self.has_lines && is_answered => Settled::Over,
            InputState::Ended | InputState::Open => Settled::Open,
        }
    }

    /// Tells the epoll set what to wait for.
    pub(crate) fn sync_interest(&mut self, epoll: &Epoll, id: ConnectionId) {
        let can_read = self.is_readable() && !self.has_lines && self.input == InputState::Open;
        let mut wanted = (Interest::default(), Interest::default());
        wanted.0.readable = can_read;
        match self.ends {
            Ends::Socket(_) => wanted.0.writable = !self.output.is_empty(),
            Ends::Standard(..) => wanted.1.writable = !self.output.is_empty(),
            Ends::InputOnly(_) => {}
        }
        let (input, output) = self.ends.descriptors();
        let token = Token::Connection(id.0).into();
        // Regular files are not in the set, so what is done for them fails, and may.
        if wanted.0 != self.interest.0 {
            let _ = match self.ends {
                Ends::Socket(_) => epoll.modify(input, token, wanted.0),
                // A pipe that ended would be reported again and again, whatever is waited for.
                Ends::Standard(..) | Ends::InputOnly(_) if can_read => {
                    epoll.add(input, token, wanted.0)
                }
                Ends::Standard(..) | Ends::InputOnly(_) => epoll.remove(input),
            };
        }
        if let Some(output) = output
            && wanted.1 != self.interest.1
        {
            let _ = epoll.modify(output, Token::ConnectionOutput(id.0).into(), wanted.1);
        }
        self.interest = wanted;
    }

    /// Writes what waits, as far as it goes without blocking. A failure means that nobody is there
    /// to hear.
    fn flush(&mut self) {
        let mut written = 0;
        while written < self.output.len() {
            let Some(output) = self.ends.output() else {
                break;
            };
            match write(&self.ends, output, &self.output[written..]) {
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
        if self.output.is_empty() && self.output.capacity() > PLAIN_OUTPUT_BYTES_MAX {
            self.output = Vec::new();
        }
    }

    fn flush_until(&mut self, deadline: Instant) {
        loop {
            self.flush();
            let left = deadline.saturating_since(keepd_os::clock::monotonic_now());
            if self.output.is_empty() || self.gone || left.is_zero() {
                return;
            }
            let Some(output) = self.ends.output() else {
                return;
            };
            let mut descriptors = [PollFd::new(&output, PollFlags::OUT)];
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let _ = poll(&mut descriptors, Some(&timeout));
        }
    }
}

/// A socket whose other side is gone must not cost a SIGPIPE; the pipe of standard output has no
/// such flag, and the proxy ignores the signal for it.
fn write(ends: &Ends, output: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    match ends {
        Ends::Socket(_) => {
            rustix::net::send(output, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        }
        Ends::Standard(..) | Ends::InputOnly(_) => rustix::io::write(output, bytes),
    }
}

impl Ends {
    /// Returns the input, and the output where it is another descriptor.
    fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        match self {
            Self::Socket(socket) => (socket.as_fd(), None),
            Self::Standard(input, output) => (input.as_fd(), Some(output.as_fd())),
            Self::InputOnly(input) => (input.as_fd(), None),
        }
    }

    fn output(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => Some(socket.as_fd()),
            Self::Standard(_, output) => Some(output.as_fd()),
            Self::InputOnly(_) => None,
        }
    }
}
