//! The connection to the proxy as the loop sees it: being made, or open.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;

use keepd_model::protocol::{Command, Message, RequestId};

use crate::link::Link;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

/// The connection.
pub(super) enum Connection {
    /// It is being made.
    Connecting(Connecting),
    /// It stands, or its loss was not told yet.
    Open(Box<Link>),
}

/// What is new of the connection.
pub(super) enum News {
    /// It stands.
    Connected,
    /// The proxy said something.
    Message(Message),
    /// It is lost.
    Lost(io::Error),
    /// It cannot be made within its limit.
    Failed(io::Error),
}

impl Connection {
    /// Begins to connect.
    pub(super) fn begin(path: &Path) -> Self {
        let path = path.to_owned();
        Self::Connecting(Box::pin(async move { Link::connect(&path).await }))
    }

    /// Waits for news. Nothing is lost if this is cancelled. After [`News::Failed`] it must not be
    /// called.
    pub(super) async fn next(&mut self) -> News {
        match self {
            Self::Connecting(connecting) => match connecting.await {
                Ok(link) => {
                    *self = Self::Open(Box::new(link));
                    News::Connected
                }
                Err(error) => News::Failed(error),
            },
            Self::Open(link) => match link.next().await {
                Ok(message) => News::Message(message),
                Err(error) => News::Lost(error),
            },
        }
    }

    /// Returns a message that was read already.
    pub(super) fn next_ready(&mut self) -> Option<Message> {
        match self {
            Self::Connecting(_) => None,
            Self::Open(link) => link.next_ready(),
        }
    }

    /// Puts a command behind those that wait. Without a connection it is dropped: the machine
    /// learns of the loss and begins anew.
    pub(super) fn push(&mut self, id: RequestId, command: Command) {
        match self {
            Self::Connecting(_) => tracing::debug!("dropped command {} without a connection", id.0),
            Self::Open(link) => link.push(id, command),
        }
    }

    /// Reports whether so much waits that it should be sent before more is made.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Connecting(_) => false,
            Self::Open(link) => link.is_full(),
        }
    }

    /// Writes every waiting command; reports whether the proxy has them all. A loss is told by
    /// [`Connection::next`].
    pub(super) async fn flush(&mut self) -> bool {
        match self {
            Self::Connecting(_) => false,
            Self::Open(link) => link.flush().await.is_ok(),
        }
    }
}
