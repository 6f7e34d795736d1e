//! Commands: what an extended connection may send.

mod decode;
mod encode;

use std::fmt;

use keepd_model::protocol::{
    EXTENDED_LINE_BYTES_MAX, Fail, FailKind, Message, PLAIN_LINE_BYTES_MAX, Reply, Request,
    RequestId,
};

use crate::field::{Problem, decimal, missing};

/// A line that is no command, with everything that its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The number of the command, if the line had one that can be read.
    pub id: Option<RequestId>,
    /// The kind, for programs.
    pub kind: FailKind,
    /// One sentence for people, without the line.
    pub text: String,
}

impl RequestError {
    /// Makes the error for a line beyond the limit, from the first bytes of the line.
    pub fn too_long(start: &[u8]) -> Self {
        let text = format!("line too long, it has more than {EXTENDED_LINE_BYTES_MAX} bytes");
        Self { id: number_of(start), kind: FailKind::Malformed, text }
    }

    /// Returns the error for a line that cannot be read for want of memory, by its first bytes.
    pub fn out_of_memory(start: &[u8]) -> Self {
        let text = "cannot allocate a line of this length: out of memory".to_owned();
        Self { id: number_of(start), kind: FailKind::Limit, text }
    }

    /// Returns the answer: a `fail` for a numbered command, an `error` for any other line.
    pub fn into_message(self) -> Message {
        match self.id {
            Some(id) => Message::Reply(
                id,
                Reply::Fail(Fail { kind: self.kind, spawn: None, text: self.text }),
            ),
            None => Message::Error(self.text),
        }
    }

    fn refused(id: Option<RequestId>, refusal: Refusal) -> Self {
        let (kind, text) = match refusal {
            Refusal::Malformed(Problem(text)) => (FailKind::Malformed, text),
            Refusal::UnknownCommand(name) => {
                let name = String::from_utf8_lossy(&name[..name.len().min(PLAIN_LINE_BYTES_MAX)]);
                (FailKind::UnknownCommand, format!("unknown command: {name}"))
            }
        };
        Self { id, kind, text }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for RequestError {}

/// Why a line is no command.
enum Refusal {
    /// The command is known, its fields are wrong.
    Malformed(Problem),
    /// Nobody has the command.
    UnknownCommand(Vec<u8>),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Malformed(problem)
    }
}

/// Reads one line of an extended connection, without its line feed.
///
/// Returns `None` for a comment or a blank line. A number is optional, so that people can type
/// `statedump`.
///
/// # Errors
///
/// Returns what is wrong with the line, and the number to answer if it had one.
pub fn decode_request(line: &[u8]) -> Result<Option<Request>, RequestError> {
    let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    if blank || line.starts_with(b"#") {
        return Ok(None);
    }
    if line.starts_with(b"@") {
        return numbered(line).map(Some);
    }
    decode::decode(line)
        .map(|command| Some(Request::Unnumbered(command)))
        .map_err(|refusal| RequestError::refused(None, refusal))
}

/// Reads `@ID⇥NAME…`.
fn numbered(line: &[u8]) -> Result<Request, RequestError> {
    let Some(id) = number_of(line) else {
        let problem = Problem::new("integer expected after \"@\"");
        return Err(RequestError::refused(None, problem.into()));
    };
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
        let problem = missing("command");
        return Err(RequestError::refused(Some(id), problem.into()));
    };
    decode::decode(&line[tab + 1..])
        .map(|command| Request::Numbered(id, command))
        .map_err(|refusal| RequestError::refused(Some(id), refusal))
}

/// Reads the number of `@ID` at the start of a line.
fn number_of(line: &[u8]) -> Option<RequestId> {
    let rest = line.strip_prefix(b"@")?;
    let digits = rest.split(|byte| *byte == b'\t').next()?;
    decimal(digits, "number", u64::MAX).ok().map(RequestId)
}

/// Appends a request as a line of an extended connection, line feed included.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Unnumbered(command) => encode::encode(command, out),
        Request::Numbered(id, command) => {
            out.extend_from_slice(format!("@{}\t", id.0).as_bytes());
            encode::encode(command, out);
        }
    }
}
