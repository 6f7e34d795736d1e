//! What a connection hears: events, answers, and the forms they have in both modes.

mod extended;
mod plain;

use std::fmt;

use keepd_model::Instant;
use keepd_model::protocol::Message;

use crate::Mode;

/// Words of version 1 for the answer to `proto`: what this proxy can do, so that a client need not
/// guess from a version. Never reused.
pub const FEATURES: [&str; 10] = [
    "attributes",
    "env",
    "exec",
    "kill_main",
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

/// Appends a message as a line of a connection, line feed included, or nothing if connections of
/// this mode do not hear it.
///
/// On an extended connection what `echo` returns is `echo⇥TEXT`, as every line there begins with
/// its name. Plain connections hear daemonproxy's lines and nothing else; a value with a tab or
/// line feed cannot be said to them, so such a line is left out. `now` is needed for their
/// whole-second times since a start or an end
/// ([`RunReport::started`](keepd_model::protocol::RunReport::started) and `ended_at` say when that
/// was).
///
/// The original knows one state from clone to reap. So `forked` is its `up`, and `up`, `stopping`,
/// `emptying` and `stuck` are no news to a plain connection; in a dump to one, a service with a
/// process must therefore be reported as
/// [`RunState::Forked`](keepd_model::protocol::RunState::Forked).
pub fn encode_message(message: &Message, mode: Mode, now: Instant, out: &mut Vec<u8>) {
    match mode {
        Mode::Plain => plain::encode(message, now, out),
        Mode::Extended => extended::encode(message, out),
    }
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
    extended::decode(line).map_err(|problem| MessageError {
        name: String::from_utf8_lossy(name).into_owned(),
        problem: problem.0,
    })
}
