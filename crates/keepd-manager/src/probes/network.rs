//! Questions over a connection: can one connect, does it answer.

use std::fmt;
use std::io;

use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use keepd_plan::PatternError;
use tokio::net::{TcpStream, UnixStream};

use crate::logs::Unread;

/// The port of a URL that names none.
pub(super) const HTTP_PORT: u16 = 80;

/// The most of an answer's head that is read: what hyper needs at least.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What stood against it, in few words for people.
#[derive(Debug)]
pub(super) enum ProbeError {
    Connect(io::Error),
    Path(io::Error),
    Log(Unread),
    Pattern(PatternError),
    Unfit(&'static str),
    Url(&'static str),
    Taken(String),
    Http(hyper::Error),
    Status(StatusCode),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => write!(formatter, "connection refused"),
                io::ErrorKind::ConnectionReset => write!(formatter, "connection reset"),
                io::ErrorKind::TimedOut => write!(formatter, "timed out"),
                _ => formatter.write_str(&reason(error)),
            },
            Self::Path(error) => formatter.write_str(&reason(error)),
            Self::Log(unread) => {
                let path = unread.path.display();
                write!(formatter, "cannot read \"{path}\": {}", reason(&unread.error))
            }
            Self::Pattern(error) => {
                write!(formatter, "cannot use the regular expression: {error}")
            }
            Self::Taken(sentence) => formatter.write_str(sentence),
            Self::Unfit(problem) | Self::Url(problem) => write!(formatter, "{problem}"),
            Self::Http(error) if error.is_incomplete_message() => {
                write!(formatter, "connection closed without an answer")
            }
            Self::Http(error) if error.is_parse() => write!(formatter, "answer is no HTTP"),
            Self::Http(error) => write!(formatter, "{error}"),
            Self::Status(status) => write!(formatter, "status {}", status.as_u16()),
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => keepd_model::Errno(number).to_string(),
        None => error.to_string(),
    }
}

/// Connects to `host:port`.
pub(super) async fn tcp(address: &str) -> Result<(), ProbeError> {
    let stream = TcpStream::connect(address).await.map_err(ProbeError::Connect)?;
    drop(stream);
    Ok(())
}

/// Connects to the unix socket at a path; `@name` is an abstract one (unix(7)).
pub(super) async fn socket(path: &str) -> Result<(), ProbeError> {
    let address = match path.strip_prefix('@') {
        Some(name) => format!("\0{name}"),
        None => path.to_owned(),
    };
    let stream = UnixStream::connect(address).await.map_err(ProbeError::Connect)?;
    drop(stream);
    Ok(())
}

/// Gets a URL.
pub(super) async fn http(url: &str) -> Result<(), ProbeError> {
    let uri: Uri = url.parse().map_err(|_| ProbeError::Url("the URL cannot be read"))?;
    if uri.scheme_str() != Some("http") {
        return Err(ProbeError::Url("the URL does not begin with \"http://\""));
    }
    let authority = uri.authority().ok_or(ProbeError::Url("the URL names no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(HTTP_PORT);
    let stream = TcpStream::connect((host, port)).await.map_err(ProbeError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProbeError::Http)?;
    let request = request(&uri, authority.as_str())?;
    // The connection works only while it is polled. Once the head is there it is dropped, and with
    // it the rest of the answer, which nobody wants.
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        Err(error) = connection => Err(error),
    };
    let status = answer.map_err(ProbeError::Http)?.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(ProbeError::Status(status))
    }
}

fn request(uri: &Uri, authority: &str) -> Result<Request<String>, ProbeError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // A user and password before the host are no part of the header.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, HeaderValue::from_static("keepd"))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(String::new())
        .map_err(|_| ProbeError::Url("the URL cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    /// Answers one connection with these bytes; returns what was asked.
    async fn serve(listener: TcpListener, answer: &'static [u8]) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    fn said(answer: Result<(), ProbeError>) -> Result<(), String> {
        answer.map_err(|error| error.to_string())
    }

    async fn http_with(answer: &'static [u8]) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        let (answer, asked) = tokio::join!(http(&url), serve(listener, answer));
        (said(answer), asked)
    }

    #[test]
    fn a_connection_is_enough_for_a_port() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            assert_eq!(said(tcp(&address).await), Ok(()));
            drop(listener);
            let refused = Err("connection refused".to_owned());
            assert_eq!(said(tcp(&address).await), refused);
        });
    }

    #[test]
    fn statuses_from_200_to_399_are_good() {
        block_on(async {
            let (outcome, asked) = http_with(b"HTTP/1.1 302 Found\r\n\r\n").await;
            assert_eq!(outcome, Ok(()));
            assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
            let (outcome, _) = http_with(b"HTTP/1.0 200 OK\r\n\r\nbody").await;
            assert_eq!(outcome, Ok(()));
            let (outcome, _) = http_with(b"HTTP/1.1 503 Busy\r\n\r\n").await;
            assert_eq!(outcome, Err("status 503".to_owned()));
        });
    }

    #[test]
    fn what_is_no_answer_is_said() {
        block_on(async {
            let (outcome, _) = http_with(b"").await;
            assert_eq!(outcome, Err("connection closed without an answer".to_owned()));
            let (outcome, _) = http_with(b"220 mail.example.org ESMTP\r\n").await;
            assert_eq!(outcome, Err("answer is no HTTP".to_owned()));
            for url in ["ftp://x/", "x", "http://", "http://a b/"] {
                assert!(http(url).await.is_err(), "{url}");
            }
        });
    }
}
