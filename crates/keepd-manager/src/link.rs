//! The connection to the proxy.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use keepd_model::protocol::{Command, EXTENDED_LINE_BYTES_MAX, Message, Request, RequestId};
use keepd_wire::{Line, LineReader};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two attempts to connect. Short, because control has to be back within 100 ms.
const CONNECT_INTERVAL: Duration = Duration::from_millis(5);

/// One attempt may take so long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A proxy that takes nothing for so long hangs: whoever asks the manager must not wait for it.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Commands are sent when this much is waiting, even within a turn.
const OUTGOING_BYTES_MAX: usize = 256 * 1024;

/// While commands are written no more than this many messages are read, so that a proxy that does
/// not read cannot fill our memory.
const INCOMING_MAX: usize = 64 * 1024;

const READ_BYTES: usize = 16 * 1024;

/// For so many messages room is kept when none is waiting: a dump brings many at once, and then
/// there is peace.
const INCOMING_KEPT: usize = 64;

/// For so much room is kept when nothing is to be sent.
const OUTGOING_BYTES_KEPT: usize = 4 * 1024;

/// An open connection to the proxy. Messages are read in order; commands are written in order.
pub(crate) struct Link {
    stream: UnixStream,
    lines: LineReader,
    incoming: VecDeque<Message>,
    outgoing: Vec<u8>,
    buffer: Vec<u8>,
    stall_limit: Duration,
    /// Why nothing more can be written: nobody knows which commands the proxy has.
    broken: Option<io::ErrorKind>,
}

impl Link {
    /// Connects to the proxy: at once, and then again and again until this time is over.
    pub(crate) async fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let end = Instant::now() + patience;
        loop {
            let deadline = Instant::now() + CONNECT_LIMIT;
            let error = match timeout_at(deadline, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => return Ok(Self::new(stream)),
                Ok(Err(error)) => error,
                Err(_) => io::ErrorKind::TimedOut.into(),
            };
            if Instant::now() >= end {
                return Err(error);
            }
            sleep(CONNECT_INTERVAL).await;
        }
    }

    /// Returns a link on a connection that stands.
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            lines: LineReader::new(EXTENDED_LINE_BYTES_MAX),
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            buffer: vec![0; READ_BYTES],
            stall_limit: STALL_LIMIT,
            broken: None,
        }
    }

    /// Returns the next message. Nothing is lost if this is cancelled.
    ///
    /// # Errors
    /// The connection is lost, the proxy closed it, or it did not take what was to be written.
    pub(crate) async fn next(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.incoming.pop_front() {
                return Ok(message);
            }
            if let Some(kind) = self.broken {
                return Err(kind.into());
            }
            self.stream.readable().await?;
            self.read_some()?;
        }
    }

    /// Returns a message that was read already.
    pub(crate) fn next_ready(&mut self) -> Option<Message> {
        let message = self.incoming.pop_front();
        if message.is_none() {
            self.incoming.shrink_to(INCOMING_KEPT);
        }
        message
    }

    /// Puts a command behind those that wait. `proto` has no number, because the connection is not
    /// yet one that knows numbers.
    pub(crate) fn push(&mut self, id: RequestId, command: Command) {
        let request = match command {
            Command::Proto { .. } => Request::Unnumbered(command),
            command => Request::Numbered(id, command),
        };
        keepd_wire::encode_request(&request, &mut self.outgoing);
    }

    /// Reports whether so much waits that it should be sent before more is made.
    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.len() >= OUTGOING_BYTES_MAX
    }

    /// Writes every waiting command to the proxy. Meanwhile it goes on reading, so that two sides
    /// that both want to write never wait for each other.
    ///
    /// # Errors
    /// The connection is lost, or the proxy takes nothing for [`STALL_LIMIT`]. From then on
    /// [`Link::next`] says so, too.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        let written = self.write_all().await;
        self.broken = written.as_ref().err().map(io::Error::kind);
        self.outgoing.clear();
        self.outgoing.shrink_to(OUTGOING_BYTES_KEPT);
        written
    }

    async fn write_all(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut deadline = Instant::now() + self.stall_limit;
        while written < self.outgoing.len() {
            let interest = if self.incoming.len() < INCOMING_MAX {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::WRITABLE
            };
            let ready = timeout_at(deadline, self.stream.ready(interest)).await??;
            if ready.is_readable() && self.incoming.len() < INCOMING_MAX {
                self.read_some()?;
            }
            if ready.is_writable() {
                match self.stream.try_write(&self.outgoing[written..]) {
                    Ok(count) => {
                        written += count;
                        deadline = Instant::now() + self.stall_limit;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reads what is there now.
    fn read_some(&mut self) -> io::Result<()> {
        match self.stream.try_read(&mut self.buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.lines.push(&self.buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(line) = self.lines.next_line() {
            match line {
                Line::Complete(line) => self.take_line(&line),
                Line::TooLong { .. } => tracing::error!("skipped an over-long line of the proxy"),
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) {
        match keepd_wire::decode_message(line) {
            Ok(Some(message)) => self.incoming.push_back(message),
            // A newer proxy may say more than this version knows.
            Ok(None) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::ServiceName;
    use keepd_model::protocol::Reply;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn commands_go_out_in_order_and_messages_come_in_whole() {
        runtime().block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut link = Link::new(ours);
            link.push(RequestId(1), Command::Proto { version: 1 });
            link.push(RequestId(2), Command::StateDump);
            link.flush().await.unwrap();
            let mut buffer = [0; 64];
            let count = theirs.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], b"proto\tkeepd\t1\n@2\tstatedump\n");
            theirs.write_all(b"proto\tkeepd\t1\tenv\nnew-word\tx\nok\t2\nok").await.unwrap();
            let features = vec!["env".to_owned()];
            assert_eq!(link.next().await.unwrap(), Message::ProtoAccepted { version: 1, features });
            assert_eq!(link.next().await.unwrap(), Message::Reply(RequestId(2), Reply::Ok));
            theirs.write_all(b"\t3\n").await.unwrap();
            assert_eq!(link.next().await.unwrap(), Message::Reply(RequestId(3), Reply::Ok));
            drop(theirs);
            let error = link.next().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn a_proxy_that_takes_nothing_is_lost() {
        // (behaviour 11.14)
        runtime().block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut link = Link::new(ours);
            link.stall_limit = Duration::from_millis(20);
            theirs.write_all(b"ok\t7\n").await.unwrap();
            let name = ServiceName::new("web").unwrap();
            while !link.is_full() {
                let value = vec![b'x'; 1_000];
                let command = Command::ServiceNote { name: name.clone(), key: "k".into(), value };
                link.push(RequestId(1), command);
            }
            let error = link.flush().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            // What it said before counts still.
            let expected = Message::Reply(RequestId(7), Reply::Ok);
            assert_eq!(link.next().await.unwrap(), expected);
            assert_eq!(link.next().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            // Half a command may be there: nothing can follow it.
            link.push(RequestId(2), Command::StateDump);
            assert_eq!(link.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn two_sides_that_write_do_not_wait_for_each_other() {
        runtime().block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut link = Link::new(ours);
            let name = ServiceName::new("web").unwrap();
            for number in 0..1_000 {
                let value = vec![b'x'; 1_000];
                let command = Command::ServiceNote { name: name.clone(), key: "k".into(), value };
                link.push(RequestId(number), command);
            }
            assert!(link.is_full());
            // The other side reads only after everything of its own is written.
            let other = tokio::spawn(async move {
                let replies: String = (0..50_000).map(|number| format!("ok\t{number}\n")).collect();
                theirs.write_all(replies.as_bytes()).await.unwrap();
                let mut read = 0;
                let mut buffer = vec![0; 65_536];
                while read < 1_000_000 {
                    read += theirs.read(&mut buffer).await.unwrap();
                }
                theirs
            });
            let flushed = tokio::time::timeout(Duration::from_secs(10), link.flush()).await;
            flushed.expect("both sides go on").unwrap();
            drop(other.await.unwrap());
            for number in 0..50_000 {
                let expected = Message::Reply(RequestId(number), Reply::Ok);
                assert_eq!(link.next().await.unwrap(), expected);
            }
        });
    }
}
