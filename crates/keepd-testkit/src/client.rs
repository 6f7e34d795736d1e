//! A client of the servers that tests run.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::LONG;

/// Sends a request to a port of 127.0.0.1, and returns everything that comes back up to the end of
/// the connection.
///
/// # Errors
/// Nobody listens there, the connection breaks, or [`LONG`] passes without a byte.
pub fn talk(port: u16, request: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(LONG))?;
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
