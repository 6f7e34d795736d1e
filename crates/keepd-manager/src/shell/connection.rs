//! The connection to the proxy as the loop sees it: being made, or open.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{Command, Message, RequestId};

use tokio::time::Instant;

use crate::link::Link;
use crate::second_warden::{self, Fate};
use crate::shell::Home;

/// How long the proxy may be away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until somebody looks whether its warden is, too.
    away: Duration,
    /// When nobody will start it again.
    lost: Duration,
}

impl Patience {
    /// What is promised.
    pub(crate) const PROMISED: Self =
        Self { away: Duration::from_secs(1), lost: Duration::from_secs(5) };
}

/// So much later another second warden is started, if the one before has not come.
const RESCUE_INTERVAL: Duration = Duration::from_secs(5);

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
    /// It cannot be made: the instance is no more.
    Failed(io::Error),
}

impl Connection {
    /// Begins to connect.
    pub(super) fn begin(home: &Arc<Home>) -> Self {
        let home = Arc::clone(home);
        Self::Connecting(Box::pin(async move { connect(&home).await }))
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

/// Connects to the proxy. As long as somebody keeps it alive, there is no limit; if nobody does,
/// but the ledger says that somebody should, a second warden is started.
async fn connect(home: &Home) -> io::Result<Link> {
    let began = Instant::now();
    let mut rescued = None;
    loop {
        let error = match Link::connect(&home.instance.proxy_socket(), home.patience.away).await {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        match second_warden::fate(&home.instance) {
            Fate::Alive => {}
            Fate::Lost if rescued.is_none_or(|at: Instant| at.elapsed() >= RESCUE_INTERVAL) => {
                rescued = Some(Instant::now());
                rescue(home).await;
            }
            Fate::Lost => {}
            Fate::Gone if began.elapsed() >= home.patience.lost => return Err(error),
            Fate::Gone => {}
        }
    }
}

async fn rescue(home: &Home) {
    tracing::error!("warden and proxy were lost: starting a second warden");
    let arguments = home.arguments.clone();
    let started = tokio::task::spawn_blocking(move || second_warden::start(&arguments)).await;
    match started {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("{error}"),
        Err(error) => tracing::error!("cannot start a second warden: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instance;
    use keepd_os::file;
    use keepd_testkit::Scratch;
    use tokio::net::UnixListener;

    fn home(scratch: &Scratch) -> Home {
        let instance = Arc::new(Instance {
            name: "test-1".into(),
            run_dir: scratch.path().to_owned(),
            state_dir: scratch.path().to_owned(),
            log_dir: scratch.path().to_owned(),
            config_dir: scratch.path().to_owned(),
        });
        let moment = Duration::from_millis(5);
        Home { instance, arguments: Vec::new(), patience: Patience { away: moment, lost: moment } }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limit = Duration::from_secs(10);
            tokio::time::timeout(limit, future).await.expect("it comes to an end")
        })
    }

    #[test]
    fn a_proxy_that_somebody_keeps_alive_is_waited_for() {
        // (behaviour 11.19)
        let scratch = Scratch::new();
        let home = home(&scratch);
        let lock = std::fs::File::create(home.instance.lock_file()).unwrap();
        assert_eq!(file::lock_exclusive(&lock), Ok(true));
        block_on(async {
            let connecting = connect(&home);
            let mut connecting = std::pin::pin!(connecting);
            // Many times as long as anybody waits for one that nobody keeps alive.
            let waited = tokio::time::timeout(home.patience.lost * 20, &mut connecting).await;
            assert!(waited.is_err());
            let _listener = UnixListener::bind(home.instance.proxy_socket()).unwrap();
            assert!(connecting.await.is_ok());
        });
    }

    #[test]
    fn a_proxy_that_nobody_keeps_alive_is_given_up() {
        // (behaviour 11.19)
        let scratch = Scratch::new();
        let home = home(&scratch);
        let error = block_on(connect(&home)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
