//! Commands: what a connection may send, in the plain and in the extended form.

mod extended;
mod plain;

use std::fmt;

use keepd_model::ServiceName;
use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Fail, FailKind, Message, PLAIN_LINE_BYTES_MAX, Reply,
    Request, RequestId,
};

use crate::field::{Fields, Problem, decimal, decimal_u32, quoted, signal};

/// How many bytes of a command an error on a plain connection quotes.
const QUOTED_COMMAND_BYTES: usize = 30;

/// The longest interval of `service.auto_up`, in seconds.
const INTERVAL_SECONDS_MAX: u32 = i32::MAX as u32;

/// Commands of daemonproxy that this version refuses by name.
const UNSUPPORTED: [&str; 14] = [
    "chdir",
    "conn.event_timeout",
    "fd.delete",
    "fd.open",
    "fd.pipe",
    "fd.socket",
    "fd.take",
    "log.dest",
    "log.filter",
    "service.fds",
    "socket.create",
    "socket.delete",
    "terminate.exec_args",
    "terminate.guard",
];

/// Commands that an extended connection has only with a number.
const NUMBERED_ONLY: [&str; 7] = [
    "conn.log",
    "service.env",
    "service.exec",
    "service.log",
    "service.note",
    "service.set",
    "service.stop",
];

/// Which language a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// daemonproxy's: no escapes, no numbers, no answers but errors.
    Plain,
    /// keepd's, after `proto`: escapes, `@ID`, an answer to every command.
    Extended,
}

impl Mode {
    /// Returns the longest line of a connection in this mode, line feed excluded.
    pub const fn line_bytes_max(self) -> usize {
        match self {
            Self::Plain => PLAIN_LINE_BYTES_MAX,
            Self::Extended => EXTENDED_LINE_BYTES_MAX,
        }
    }
}

/// A line that is no command, with everything that its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The number of the command, if the line had one that can be read.
    pub id: Option<RequestId>,
    /// The kind, for programs.
    pub kind: FailKind,
    /// One sentence for people, without the line.
    pub text: String,
    /// The same as a plain connection hears it: everything after `error⇥`, quoting the line.
    pub plain_text: String,
}

impl RequestError {
    /// Makes the error for a line beyond the limit of its mode, from the first bytes of the line.
    pub fn too_long(start: &[u8], mode: Mode) -> Self {
        let text = format!("line too long, it has more than {} bytes", mode.line_bytes_max());
        let id = match mode {
            Mode::Plain => None,
            Mode::Extended => number_of(start),
        };
        Self { id, kind: FailKind::Malformed, plain_text: text.clone(), text }
    }

    /// Returns the answer: a `fail` for a numbered command, an `error` for any other line.
    pub fn into_message(self) -> Message {
        match self.id {
            Some(id) => Message::Reply(
                id,
                Reply::Fail(Fail { kind: self.kind, spawn: None, text: self.text }),
            ),
            None => Message::PlainError(self.plain_text),
        }
    }

    fn refused(id: Option<RequestId>, refusal: Refusal, line: &[u8]) -> Self {
        let (kind, text, plain_text) = match refusal {
            Refusal::Malformed(Problem(text)) => {
                let plain_text = plain_error_text(&text, line);
                (FailKind::Malformed, text, plain_text)
            }
            Refusal::Unsupported(name) => {
                let text = format!("command \"{name}\" is not supported by this version");
                let plain_text = plain_error_text(&text, line);
                (FailKind::UnknownCommand, text, plain_text)
            }
            Refusal::NumberNeeded(name) => {
                let text =
                    format!("command \"{name}\" needs a number: \"@ID\", a tab, the command");
                let plain_text = plain_error_text(&text, line);
                (FailKind::Malformed, text, plain_text)
            }
            Refusal::UnknownCommand(name) => {
                let name = String::from_utf8_lossy(&name[..name.len().min(PLAIN_LINE_BYTES_MAX)]);
                let text = format!("unknown command: {name}");
                (FailKind::UnknownCommand, text.clone(), text)
            }
        };
        Self { id, kind, text, plain_text }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for RequestError {}

/// Why a line is no command of a grammar.
enum Refusal {
    /// The command is known, its fields are wrong.
    Malformed(Problem),
    /// daemonproxy has the command, this version does not.
    Unsupported(&'static str),
    /// An extended command without a number.
    NumberNeeded(&'static str),
    /// Nobody has the command.
    UnknownCommand(Vec<u8>),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Malformed(problem)
    }
}

/// Returns what a plain connection hears of a failed command after `error⇥`: the message and the
/// first bytes of the line.
pub fn plain_error_text(message: &str, line: &[u8]) -> String {
    let start = String::from_utf8_lossy(&line[..line.len().min(QUOTED_COMMAND_BYTES)]);
    let dots = if line.len() >= QUOTED_COMMAND_BYTES { "..." } else { "" };
    format!("{message}, for command \"{start}{dots}\"")
}

/// Reads one line of a connection, without its line feed.
///
/// Returns `None` for a comment or a blank line. On an extended connection a line without a number
/// is read as a plain command, but with escapes and the longer names, so that people can type
/// `statedump`.
///
/// # Errors
///
/// Returns what is wrong with the line, and the number to answer if it had one.
pub fn decode_request(line: &[u8], mode: Mode) -> Result<Option<Request>, RequestError> {
    let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    if blank || line.starts_with(b"#") {
        return Ok(None);
    }
    if mode == Mode::Extended && line.starts_with(b"@") {
        return numbered(line).map(Some);
    }
    plain::decode(line, mode)
        .map(|command| Some(Request::Plain(command)))
        .map_err(|refusal| RequestError::refused(None, refusal, line))
}

/// Reads `@ID⇥NAME…`.
fn numbered(line: &[u8]) -> Result<Request, RequestError> {
    let Some(id) = number_of(line) else {
        let problem = Problem::new("an integer is expected after \"@\"");
        return Err(RequestError::refused(None, problem.into(), line));
    };
    let Some(tab) = line.iter().position(|byte| *byte == b'\t') else {
        let problem = Problem::new("the command is missing");
        return Err(RequestError::refused(Some(id), problem.into(), line));
    };
    extended::decode(&line[tab + 1..])
        .map(|command| Request::Extended(id, command))
        .map_err(|refusal| RequestError::refused(Some(id), refusal, line))
}

/// Reads the number of `@ID` at the start of a line.
fn number_of(line: &[u8]) -> Option<RequestId> {
    let rest = line.strip_prefix(b"@")?;
    let digits = rest.split(|byte| *byte == b'\t').next()?;
    decimal(digits, "number", u64::MAX).ok().map(RequestId)
}

/// Appends a request as a line of an extended connection, line feed included.
///
/// A [`Request::Plain`] is written without a number. What the plain grammar cannot say (a
/// generation, an extended command) is then refused by the reader; it is never read as something
/// else.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Plain(command) => extended::encode(command, false, out),
        Request::Extended(id, command) => {
            out.extend_from_slice(format!("@{}\t", id.0).as_bytes());
            extended::encode(command, true, out);
        }
    }
}

/// Says why a line without a number, or the command of a numbered one, is not known.
fn unknown(command_name: &[u8], may_need_number: bool) -> Refusal {
    let one_of = |names: &[&'static str]| {
        let mut names = names.iter().copied();
        names.find(|name| name.as_bytes() == command_name)
    };
    if let Some(name) = one_of(&UNSUPPORTED) {
        return Refusal::Unsupported(name);
    }
    match one_of(&NUMBERED_ONLY) {
        Some(name) if may_need_number => Refusal::NumberNeeded(name),
        Some(_) | None => Refusal::UnknownCommand(command_name.to_vec()),
    }
}

/// Reads `proto⇥keepd⇥VERSION` after its name.
fn proto(fields: &mut Fields<'_>) -> Result<Command, Problem> {
    let protocol = fields.required("protocol")?;
    if &*protocol != b"keepd" {
        return Err(Problem::new(format!("there is no such protocol: {}", quoted(&protocol))));
    }
    let version = decimal_u32(&fields.required("version")?, "version", u32::MAX)?;
    if version == 0 {
        return Err(Problem::new("version 0 does not exist"));
    }
    Ok(Command::Proto { version })
}

/// Reads `SECONDS|-[⇥always]`, the same in both grammars.
fn auto_up(name: ServiceName, mut fields: Fields<'_>) -> Result<Command, Problem> {
    let interval = fields.required("interval")?;
    let seconds = if &*interval == b"-" {
        None
    } else {
        match decimal_u32(&interval, "interval", INTERVAL_SECONDS_MAX)? {
            0 => return Err(Problem::new("the interval is less than 1")),
            seconds => Some(seconds),
        }
    };
    let mut always = false;
    while let Some(trigger) = fields.next() {
        match &*trigger {
            b"always" => always = true,
            other if signal(other).is_ok() => {
                return Err(Problem::new(format!(
                    "the trigger {} is not supported by this version",
                    quoted(other)
                )));
            }
            other => {
                return Err(Problem::new(format!("unknown trigger {}", quoted(other))));
            }
        }
    }
    Ok(Command::ServiceAutoUp { name, seconds, always })
}
