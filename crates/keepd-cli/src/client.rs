//! The client of the manager's HTTP API, over its Unix socket.
//!
//! Each request has a connection of its own. While the manager is being replaced there is nobody at
//! the socket for a moment, and an answer may be lost: requests are sent again for [`RECONNECT`]
//! then. That is safe, because those that change something carry a word by which the manager
//! recognises them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use keepd_manager::Instance;
use keepd_manager::api::types::{Problem, ProblemCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{CliError, ErrorKind};
use crate::place::Place;

/// How long a manager may be away while its proxy is there.
pub(crate) const RECONNECT: Duration = Duration::from_secs(5);

/// From one attempt to the next meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may take that does not wait for anything.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Talks to one manager.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    proxy_socket: PathBuf,
    shown: String,
    start: &'static str,
    /// What to say where nobody is at the socket.
    absence: String,
}

/// An answer that goes on and on.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What comes.
    pub(crate) body: Incoming,
    /// The process that listens: another manager has another one.
    pub(crate) manager: Option<i32>,
}

/// Why there is no answer.
enum Failure {
    /// Nobody is at the socket.
    Absent(io::Error),
    /// The connection ended before the answer did.
    Lost(String),
    /// The manager says why not.
    Refused(Problem),
    /// It makes no sense to try again.
    Fatal(CliError),
}

impl Client {
    /// Returns a client of the manager of this instance. Nothing is connected yet.
    pub(crate) fn new(place: &Place) -> Self {
        // Files that nobody named here may have put a standing instance elsewhere: what was looked
        // at is all that is known.
        let absence = match place.instance.as_ref().and_then(Instance::standing) {
            Some(_) => format!("nothing listens at \"{}\"", place.socket.display()),
            None => "nothing runs there".to_owned(),
        };
        Self {
            absence,
            socket: place.socket.clone(),
            proxy_socket: place.socket.with_file_name("proxy.sock"),
            shown: place.shown.clone(),
            start: place.start,
        }
    }

    /// Gets an object.
    ///
    /// # Errors
    /// There is no manager, or it says why not.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.request(Method::GET, path, Bytes::new(), ANSWER_LIMIT).await
    }

    /// Gets an object that the manager may wait for as long as this.
    ///
    /// # Errors
    /// There is no manager, or it says why not.
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, CliError> {
        self.request(Method::GET, path, Bytes::new(), wait + ANSWER_LIMIT).await
    }

    /// Sends an object and gets one. The object must carry a word by which it is recognised when it
    /// comes twice, if it changes anything.
    ///
    /// # Errors
    /// There is no manager, or it says why not.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            CliError::because(ErrorKind::System, "cannot write the request as JSON", &error)
        })?;
        self.request(Method::POST, path, body.into(), ANSWER_LIMIT).await
    }

    /// Opens a stream. `path` says what to ask for, once it is known which process answers.
    ///
    /// # Errors
    /// There is no manager, or it says why not.
    pub(crate) async fn open(
        &self,
        path: impl Fn(Option<i32>) -> String,
    ) -> Result<Opened, CliError> {
        let mut failing = None;
        loop {
            let began = Instant::now();
            let opening = timeout(ANSWER_LIMIT, self.open_once(&path)).await;
            match opening.map_err(|_| self.no_answer(ANSWER_LIMIT))? {
                Ok(opened) => return Ok(opened),
                Err(failure) => self.endure(&mut failing, began, failure).await?,
            }
        }
    }

    async fn open_once(&self, path: impl Fn(Option<i32>) -> String) -> Result<Opened, Failure> {
        let stream = self.connect().await?;
        let manager = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let answer = self.send(stream, Method::GET, &path(manager), Bytes::new()).await?;
        if answer.status().is_success() {
            return Ok(Opened { body: answer.into_body(), manager });
        }
        let bytes = collect(answer).await?;
        Err(Failure::Refused(self.read(&bytes).map_err(Failure::Fatal)?))
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, CliError> {
        let mut failing = None;
        loop {
            let began = Instant::now();
            let exchange = timeout(limit, self.exchange(method.clone(), path, body.clone())).await;
            let failure = match exchange.map_err(|_| self.no_answer(limit))? {
                Ok((status, bytes)) if status.is_success() => return self.read(&bytes),
                Ok((_, bytes)) => Failure::Refused(self.read(&bytes)?),
                Err(failure) => failure,
            };
            self.endure(&mut failing, began, failure).await?;
        }
    }

    /// Pauses before the next attempt, or says why there shall be none. `failing` is since when
    /// there was no answer.
    async fn endure(
        &self,
        failing: &mut Option<Instant>,
        began: Instant,
        failure: Failure,
    ) -> Result<(), CliError> {
        // Who has answered for so long was not away: it is being replaced only now.
        if began.elapsed() > RECONNECT {
            *failing = None;
        }
        let late = failing.get_or_insert_with(Instant::now).elapsed() >= RECONNECT;
        match failure {
            Failure::Fatal(error) => return Err(error),
            // A manager that has just begun knows within a moment what runs.
            Failure::Refused(problem) if late || problem.code != ProblemCode::NotSynchronised => {
                return Err(problem.into());
            }
            Failure::Absent(error) if !self.is_replaced().await => {
                return Err(self.absent(&error));
            }
            Failure::Absent(_) if late => return Err(self.without_manager()),
            Failure::Lost(reason) if late => return Err(self.lost(&reason)),
            Failure::Refused(_) | Failure::Absent(_) | Failure::Lost(_) => {}
        }
        sleep(PAUSE).await;
        Ok(())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = self.connect().await?;
        let answer = self.send(stream, method, path, body).await?;
        Ok((answer.status(), collect(answer).await?))
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            // Reset: it ended before it took the connection. Would block: too many wait for it.
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::WouldBlock => Failure::Absent(error),
            io::ErrorKind::PermissionDenied => Failure::Fatal(self.not_allowed(&error)),
            _ => Failure::Fatal(self.absent(&error)),
        })
    }

    async fn send(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&error))?;
        // It ends with the sender; what goes wrong on it is heard by whoever waits for the answer.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "keepd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| {
                let message = format!("cannot ask keepd for \"{path}\"");
                Failure::Fatal(CliError::because(ErrorKind::System, message, &error))
            })?;
        sender.send_request(request).await.map_err(|error| lost(&error))
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("cannot understand the answer of keepd {}", self.shown);
            CliError::because(ErrorKind::System, message, &error)
                .with_hint("is it another version? compare keepd --version with GET /v1/version")
        })
    }

    /// Reports whether the proxy is there, so that a manager that is not will be in a moment.
    pub(crate) async fn is_replaced(&self) -> bool {
        UnixStream::connect(&self.proxy_socket).await.is_ok()
    }

    fn absent(&self, error: &io::Error) -> CliError {
        let message = format!("cannot reach keepd {}", self.shown);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                CliError::new(ErrorKind::NoManager, format!("{message}: {}", self.absence))
                    .with_hint(self.start)
            }
            _ => CliError::because(ErrorKind::NoManager, message, error),
        }
    }

    /// The proxy and the services are there; who would answer is not, and did not come back.
    fn without_manager(&self) -> CliError {
        let message = format!(
            "cannot reach keepd {}: its services run, but its manager does not start",
            self.shown
        );
        CliError::new(ErrorKind::NoManager, message).with_hint(
            "its own messages say why (after \"up -d\" they are in \".keepd/keepd.log\"); to kill \
             everything: keepd down --leftovers",
        )
    }

    fn not_allowed(&self, error: &io::Error) -> CliError {
        let message = format!("cannot reach keepd {}", self.shown);
        CliError::because(ErrorKind::NotAllowed, message, error)
            .with_hint("only root and the user who started it may talk to it")
    }

    fn lost(&self, reason: &str) -> CliError {
        let message = format!("cannot get an answer from keepd {}: {reason}", self.shown);
        CliError::new(ErrorKind::NoManager, message)
    }

    fn no_answer(&self, limit: Duration) -> CliError {
        let message = format!(
            "cannot get an answer from keepd {} within {}",
            self.shown,
            keepd_plan::format_duration(limit)
        );
        CliError::new(ErrorKind::System, message)
    }
}

fn lost(error: &hyper::Error) -> Failure {
    Failure::Lost(error.to_string())
}

async fn collect(answer: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| Failure::Lost(error.to_string()))?.to_bytes())
}

/// Runs a verb's conversation with the manager on this thread.
///
/// # Errors
/// That of the conversation; or the system has no descriptors left.
pub(crate) fn block_on<T>(
    conversation: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            CliError::because(ErrorKind::System, "cannot wait for input and output", &error)
        })?;
    runtime.block_on(conversation)
}

/// Returns a word nobody else chooses, for one request that changes something.
///
/// # Errors
/// The kernel has no random numbers.
pub(crate) fn token() -> Result<String, CliError> {
    let seed = keepd_os::random::seed().map_err(|errno| {
        CliError::new(ErrorKind::System, format!("cannot get random numbers: {errno}"))
    })?;
    Ok(format!("{seed:032x}"))
}

/// Returns a text in the form it has in a URL (RFC 3986): everything but letters, digits and `-._~`
/// as `%XX`.
pub(crate) fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Returns `PATH?select=a&select=b`.
pub(crate) fn with_selectors(path: &str, selectors: &[String]) -> String {
    let mut url = path.to_owned();
    for (number, selector) in selectors.iter().enumerate() {
        url.push_str(if number == 0 { "?select=" } else { "&select=" });
        url.push_str(&url_encoded(selector));
    }
    url
}
