//! What an extended connection hears: events and answers.

mod decode;
mod encode;

use std::fmt;

use keepd_model::protocol::Message;

/// Words of version 1 for the answer to `proto`: what this proxy can do, so that a client need not
/// guess from a version. Never reused. The proxy adds `safe` while it starts nothing.
pub const FEATURES: [&str; 13] = [
    "ack",
    "attributes",
    "env",
    "exec",
    "fd",
    "kill_main",
    "lease",
    "log",
    "mainpid",
    "note",
    "notify",
    "ready_fd",
    "stop",
];

/// A line from the proxy with a known name that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    name: String,
    problem: String,
}

impl fmt::Display for MessageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, problem } = self;
        write!(formatter, "cannot read message \"{name}\": {problem}")
    }
}

impl std::error::Error for MessageError {}

/// Appends a message as a line of an extended connection, line feed included.
///
/// What `echo` returns is `echo⇥TEXT`, as every line there begins with its name.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    encode::encode(message, out);
}

/// Reads one line of an extended connection, without its line feed.
///
/// Returns `None` for a name that this version does not know: later versions have more, and a
/// reader skips them. A client drops every line before the answer to `proto`; those still have the
/// plain form.
///
/// # Errors
///
/// Returns the name of a known message and what is wrong with it.
pub fn decode_message(line: &[u8]) -> Result<Option<Message>, MessageError> {
    let name = line.split(|byte| *byte == b'\t').next().unwrap_or_default();
    decode::decode(line).map_err(|problem| MessageError {
        name: String::from_utf8_lossy(name).into_owned(),
        problem: problem.0,
    })
}
