//! Connections of clients: a bounded number, and who is at the other end of each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use keepd_engine::manager::Who;
use keepd_model::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many clients are served at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// Descriptors kept back for clients, for when everything else has used them up.
const RESERVE: usize = 16;

/// After a failed accept, which means that descriptors or memory are short.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts a bounded number of clients.
pub(crate) struct Limited {
    listener: UnixListener,
    permits: Arc<Semaphore>,
    /// Copies of the listener that nobody uses.
    reserve: Vec<OwnedFd>,
}

impl Limited {
    pub(crate) fn new(listener: UnixListener) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut limited = Self { listener, permits, reserve: Vec::new() };
        limited.refill();
        limited
    }

    /// Fills the reserve up again, as far as there are descriptors.
    fn refill(&mut self) {
        while self.reserve.len() < RESERVE
            && let Ok(copy) = self.listener.as_fd().try_clone_to_owned()
        {
            self.reserve.push(copy);
        }
    }
}

impl Listener for Limited {
    type Io = Client;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Client, SocketAddr) {
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        self.refill();
        let mut is_said = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    return (Client { stream, _permit: permit }, address);
                }
                Err(error) if is_shortage(&error) && self.reserve.pop().is_some() => {}
                Err(error) => {
                    if !is_said {
                        tracing::error!("cannot accept a client: {error}");
                        is_said = true;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Reports whether there are too many open files, in this process or in the system.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// A connection that counts as long as it is open.
pub(crate) struct Client {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// User id; `None` where the kernel does not say, and then nothing is allowed.
    pub(crate) uid: Option<u32>,
    /// Process id; 0 where it is not known.
    pub(crate) pid: u32,
}

impl Peer {
    /// Returns who asks, for the record.
    pub(crate) fn who(self) -> Who {
        Who { uid: self.uid.unwrap_or(u32::MAX), pid: self.pid }
    }

    /// Reports whether root or the user of keepd asks.
    pub(crate) fn is_allowed(self, own_uid: u32) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == own_uid)
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        let credentials = stream.io().stream.peer_cred().ok();
        Self {
            uid: credentials.as_ref().map(tokio::net::unix::UCred::uid),
            pid: credentials
                .and_then(|credentials| u32::try_from(credentials.pid()?).ok())
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_are_allowed() {
        let peer = |uid| Peer { uid, pid: 1 };
        assert!(peer(Some(0)).is_allowed(7));
        assert!(peer(Some(7)).is_allowed(7));
        assert!(!peer(Some(8)).is_allowed(7));
        assert!(!peer(None).is_allowed(0));
    }
}
