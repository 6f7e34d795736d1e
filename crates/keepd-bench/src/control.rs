//! What the measurements ask of the HTTP API of a project.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any answer takes that counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// The control socket of a project.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// Returns the client of this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for a signal to a service; reports whether that was accepted. It is not while nobody
    /// is in control.
    pub fn signal(&self, service: &str, signal: &str) -> bool {
        let body = format!(
            r#"{{"action":"signal","select":["{service}"],"options":{{"signal":"{signal}"}}}}"#
        );
        self.post("/v1/actions", &body).is_some_and(|answer| answer.starts_with("HTTP/1.1 2"))
    }

    fn post(&self, path: &str, body: &str) -> Option<String> {
        let mut connection = UnixStream::connect(&self.socket).ok()?;
        connection.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: keepd\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }
}
