//! The HTTP API of an instance, spoken by hand over its socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::{Deadline, LONG};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A client of one socket. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The value of `content-type`.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// Why there is no answer: the manager is away, or what came is no HTTP.
#[derive(Debug)]
pub struct ApiError(String);

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ApiError {}

impl From<io::Error> for ApiError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Api {
    /// Returns a client of this socket, which need not be there yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// There is nobody at the socket, or no answer within [`LONG`].
    pub fn get(&self, path: &str) -> Result<Response, ApiError> {
        self.request("GET", path, None)
    }

    /// Sends `POST path` with a JSON body.
    ///
    /// # Errors
    /// There is nobody at the socket, or no answer within [`LONG`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Response, ApiError> {
        self.request("POST", path, Some(body))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, ApiError> {
        let mut connection = self.connect(method, path, body)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut connection).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        parse_response(&bytes)
    }

    fn connect(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<UnixStream, ApiError> {
        let mut connection = UnixStream::connect(&self.socket)?;
        connection.set_read_timeout(Some(LONG))?;
        connection.set_write_timeout(Some(LONG))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let content = if body.is_empty() {
            String::new()
        } else {
            let length = body.len();
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: keepd\r\nConnection: close\r\n{content}\r\n"
        );
        connection.write_all((head + &body).as_bytes())?;
        Ok(connection)
    }

    /// Opens the stream of events from now on.
    ///
    /// # Errors
    /// There is nobody at the socket, or the request is refused.
    pub fn events(&self) -> Result<EventStream, ApiError> {
        let connection = self.connect("GET", "/v1/events", None)?;
        let mut stream =
            EventStream { connection, raw: Vec::new(), text: Vec::new(), ended: false };
        let deadline = Deadline::after(LONG);
        let end = loop {
            if let Some(end) = find(&stream.raw, b"\r\n\r\n") {
                break end;
            }
            if !stream.read(deadline) {
                return Err(ApiError("the event stream has no head".to_owned()));
            }
        };
        let head = String::from_utf8_lossy(&stream.raw[..end]).into_owned();
        stream.raw.drain(..end + 4);
        if !head.starts_with("HTTP/1.1 200") {
            return Err(ApiError(format!("the event stream is refused: {head}")));
        }
        if !is_chunked(&head) {
            return Err(ApiError(format!("the event stream is not chunked: {head}")));
        }
        Ok(stream)
    }
}

/// Server-sent events, one after the other.
#[derive(Debug)]
pub struct EventStream {
    connection: UnixStream,
    /// Bytes as they come, in chunks.
    raw: Vec<u8>,
    /// The content of complete chunks.
    text: Vec<u8>,
    ended: bool,
}

impl EventStream {
    /// Waits for the next event and returns its data; `None` at the deadline and at the end of the
    /// stream.
    pub fn next(&mut self, deadline: Deadline) -> Option<Value> {
        loop {
            while let Some(content) = take_chunk(&mut self.raw) {
                self.text.extend_from_slice(&content);
            }
            while let Some(end) = find(&self.text, b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event).into_owned();
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                // Comments keep a connection alive and are no events.
                if let Some(value) = data.and_then(|data| serde_json::from_str(data).ok()) {
                    return Some(value);
                }
            }
            if self.ended || !self.read(deadline) {
                return None;
            }
        }
    }

    /// Reports whether the other side has closed the stream.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what there is, or waits for it. Returns `false` at the end and at the deadline.
    fn read(&mut self, deadline: Deadline) -> bool {
        let Some(remaining) = deadline.remaining() else {
            return false;
        };
        let wait = remaining.max(Duration::from_millis(1));
        if self.connection.set_read_timeout(Some(wait)).is_err() {
            self.ended = true;
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        match self.connection.read(&mut buffer) {
            Ok(count) if count > 0 => {
                self.raw.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                false
            }
            Ok(_) | Err(_) => {
                self.ended = true;
                false
            }
        }
    }
}

impl Response {
    /// Reads the body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.body))
    }

    /// Checks the status, and goes on with the rest.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

fn parse_response(bytes: &[u8]) -> Result<Response, ApiError> {
    let broken = || ApiError(format!("no HTTP: {:?}", String::from_utf8_lossy(bytes)));
    let end = find(bytes, b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(broken)?;
    let mut raw = bytes[end + 4..].to_vec();
    let body = if is_chunked(&head) {
        let mut body = Vec::new();
        while let Some(content) = take_chunk(&mut raw) {
            body.extend_from_slice(&content);
        }
        body
    } else {
        raw
    };
    Ok(Response {
        status,
        content_type: header(&head, "content-type").unwrap_or_default(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn is_chunked(head: &str) -> bool {
    header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Takes one complete chunk of `Transfer-Encoding: chunked` from the front; `None` if there is
/// none, or if it is the empty last one.
fn take_chunk(raw: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = find(raw, b"\r\n")?;
    let size = std::str::from_utf8(&raw[..line]).ok()?;
    let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
    let begin = line + 2;
    if size == 0 || raw.len() < begin + size + 2 {
        return None;
    }
    let content = raw[begin..begin + size].to_vec();
    raw.drain(..begin + size + 2);
    Some(content)
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_whole_and_in_chunks() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\n{}";
        let response = parse_response(whole).unwrap();
        assert_eq!((response.status, response.body.as_str()), (202, "{}"));
        assert_eq!(response.content_type, "a/b");
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            3\r\n{\"a\r\n5;x\r\n\":1}\n\r\n0\r\n\r\n";
        assert_eq!(parse_response(chunked).unwrap().body, "{\"a\":1}\n");
        assert!(parse_response(b"hello").is_err());
    }

    #[test]
    fn an_incomplete_chunk_is_left_alone() {
        let mut raw = b"4\r\nab".to_vec();
        assert_eq!(take_chunk(&mut raw), None);
        raw.extend_from_slice(b"cd\r\n");
        assert_eq!(take_chunk(&mut raw), Some(b"abcd".to_vec()));
        assert!(raw.is_empty());
    }
}
