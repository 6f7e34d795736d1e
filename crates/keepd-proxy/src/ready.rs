//! The pipes of `ready_fd`: a line feed on the descriptor means that the service is ready.
//!
//! A pipe belongs to one generation. It is closed after the line feed, when nobody can write any
//! more, and at the end of the run.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use keepd_engine::proxy::Input;
use keepd_model::{Errno, Generation, ServiceName};
use keepd_os::epoll::{Epoll, Interest};
use rustix::fs::Uid;

use crate::children::reading_pipe;
use crate::estate::Label;
use crate::holder::{Held, Holder};
use crate::token::Token;

/// Read at once. What comes before the line feed is thrown away, so more would not help anybody.
const READ_BYTES: usize = 512;
/// Reads of one pipe in one turn, so that nobody holds up the others.
const TURN_READS_MAX: usize = 8;

/// Every pipe on which nothing was said yet.
#[derive(Default)]
pub(crate) struct ReadyPipes {
    pipes: HashMap<u64, Pipe>,
    tokens: HashMap<ServiceName, u64>,
    token_last: u64,
    holder: Holder,
}

struct Pipe {
    name: ServiceName,
    generation: Generation,
    reader: Held,
}

impl ReadyPipes {
    /// Makes an empty table, whose pipes are held.
    pub(crate) fn new(holder: Holder) -> Self {
        Self { holder, ..Self::default() }
    }

    /// Makes the pipe of a generation that is about to start as this user; returns the side of the
    /// service. A pipe of an earlier generation is closed.
    pub(crate) fn prepare(
        &mut self,
        epoll: &Epoll,
        name: &ServiceName,
        generation: Generation,
        uid: u32,
    ) -> Result<OwnedFd, Errno> {
        self.close(epoll, name);
        let errno = |error: rustix::io::Errno| Errno(error.raw_os_error());
        let (reader, writer) = reading_pipe()?;
        // Otherwise a service with another user could not open `/dev/fd/N`.
        rustix::fs::fchown(&writer, Some(Uid::from_raw(uid)), None).map_err(errno)?;
        let label = Label::Ready { service: name.clone(), generation };
        let reader = self.holder.hold(label, reader);
        self.adopt(epoll, name, generation, reader)?;
        Ok(writer)
    }

    /// Goes on with our side of a pipe that a predecessor made. What was said meanwhile waits in
    /// it.
    pub(crate) fn adopt(
        &mut self,
        epoll: &Epoll,
        name: &ServiceName,
        generation: Generation,
        reader: Held,
    ) -> Result<(), Errno> {
        self.token_last += 1;
        epoll.add(&reader, Token::Ready(self.token_last).into(), Interest::READ)?;
        self.tokens.insert(name.clone(), self.token_last);
        let pipe = Pipe { name: name.clone(), generation, reader };
        self.pipes.insert(self.token_last, pipe);
        Ok(())
    }

    /// Reads the pipe with this number; returns the news if the line feed is there.
    pub(crate) fn receive(&mut self, epoll: &Epoll, token: u64) -> Option<Input> {
        let pipe = self.pipes.get(&token)?;
        let is_said = match read_to_line_feed(&pipe.reader) {
            Heard::LineFeed => true,
            Heard::End => false,
            Heard::Nothing => return None,
        };
        let Pipe { name, generation, .. } = self.remove(epoll, token)?;
        is_said.then_some(Input::ReadyFd { name, generation })
    }

    /// Reads the pipe of a service whose run is over for the last time, and closes it; returns the
    /// news if the line feed is there.
    pub(crate) fn take_last(&mut self, epoll: &Epoll, name: &ServiceName) -> Option<Input> {
        let token = *self.tokens.get(name)?;
        let news = self.receive(epoll, token);
        self.close(epoll, name);
        news
    }

    /// Closes the pipe of a service, if there is one.
    pub(crate) fn close(&mut self, epoll: &Epoll, name: &ServiceName) {
        if let Some(token) = self.tokens.get(name).copied() {
            self.remove(epoll, token);
        }
    }

    fn remove(&mut self, epoll: &Epoll, token: u64) -> Option<Pipe> {
        let pipe = self.pipes.remove(&token)?;
        self.tokens.remove(&pipe.name);
        let _ = epoll.remove(&pipe.reader);
        Some(pipe)
    }
}

enum Heard {
    LineFeed,
    /// Nobody can write any more, or it cannot be read.
    End,
    Nothing,
}

fn read_to_line_feed(reader: &Held) -> Heard {
    for _ in 0..TURN_READS_MAX {
        let mut buffer = [0; READ_BYTES];
        match rustix::io::read(reader, &mut buffer) {
            Ok(count) if buffer[..count].contains(&b'\n') => return Heard::LineFeed,
            Ok(0) => return Heard::End,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => break,
            Err(_) => return Heard::End,
        }
    }
    Heard::Nothing
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use keepd_os::process;

    use super::*;

    #[test]
    fn a_line_feed_that_nobody_read_is_read_by_the_successor() {
        let name = ServiceName::new("web").unwrap();
        let generation = Generation::new(3);
        let epoll = Epoll::new().unwrap();
        let mut first = ReadyPipes::new(Holder::none());
        let uid = process::effective_uid();
        let writer = first.prepare(&epoll, &name, generation, uid).unwrap();
        let copy = first.pipes[&1].reader.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        rustix::io::write(&writer, b"ready\n").unwrap();
        let mut second = ReadyPipes::new(Holder::none());
        let epoll = Epoll::new().unwrap();
        second.adopt(&epoll, &name, generation, Held::alone(copy)).unwrap();
        let news = second.receive(&epoll, 1);
        assert_eq!(news, Some(Input::ReadyFd { name, generation }));
        assert!(second.pipes.is_empty() && second.tokens.is_empty());
    }
}
