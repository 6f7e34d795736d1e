//! Fields of a line: splitting, escapes, numbers, names; and the writer of lines.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use keepd_model::{Generation, Pid, ServiceName, Signal};

/// The most fields of one line, so that a line of tabs does not cost many times its length.
pub const FIELDS_MAX: usize = 65_536;
/// The most bytes of a foreign text that an error quotes.
const QUOTED_BYTES_MAX: usize = 64;

/// What is wrong with a line, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub(crate) String);

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// Makes one of a sentence without a full stop.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The fields of one line, from the left.
pub(crate) struct Fields<'line> {
    fields: std::vec::IntoIter<Cow<'line, [u8]>>,
}

impl<'line> Fields<'line> {
    /// Splits a line at its tabs and resolves the escapes.
    pub(crate) fn split(line: &'line [u8]) -> Result<Self, Problem> {
        let mut fields = Vec::new();
        for raw in line.split(|byte| *byte == b'\t') {
            if fields.len() == FIELDS_MAX {
                return Err(Problem::new(format!("a line has at most {FIELDS_MAX} fields")));
            }
            fields.push(unescape(raw)?);
        }
        Ok(Self { fields: fields.into_iter() })
    }

    /// Returns the next field, if there is one.
    pub(crate) fn next(&mut self) -> Option<Cow<'line, [u8]>> {
        self.fields.next()
    }

    /// Returns the next field; `what` names it in the error.
    pub(crate) fn required(&mut self, what: &str) -> Result<Cow<'line, [u8]>, Problem> {
        self.next().ok_or_else(|| missing(what))
    }

    /// Returns the next field as a number of at most `max`.
    pub(crate) fn number(&mut self, what: &str, max: u64) -> Result<u64, Problem> {
        decimal(&self.required(what)?, what, max)
    }

    /// Returns the next field as the name of a service, instances and keepd's own included.
    pub(crate) fn name(&mut self) -> Result<ServiceName, Problem> {
        let field = self.required("service name")?;
        std::str::from_utf8(&field)
            .ok()
            .and_then(|text| ServiceName::new_internal(text).ok())
            .ok_or_else(|| Problem::new(format!("not a valid service name: {}", quoted(&field))))
    }

    /// Returns the next field as a generation.
    pub(crate) fn generation(&mut self) -> Result<Generation, Problem> {
        self.number("generation", u64::MAX).map(Generation::new)
    }

    /// Returns the next field as a signal.
    pub(crate) fn signal(&mut self) -> Result<Signal, Problem> {
        signal(&self.required("signal")?)
    }

    /// Returns the next field as a process id.
    pub(crate) fn pid(&mut self) -> Result<Pid, Problem> {
        pid(&self.required("process id")?)
    }

    /// Returns all fields that are left.
    pub(crate) fn rest(self) -> Vec<Vec<u8>> {
        self.fields.map(Cow::into_owned).collect()
    }

    /// Refuses fields that nobody asked for.
    pub(crate) fn end(mut self) -> Result<(), Problem> {
        match self.next() {
            None => Ok(()),
            Some(field) => Err(superfluous(&field)),
        }
    }
}

/// Splits a line of the extended language, without its line feed, at its tabs, and resolves the
/// escapes. The first field is its name.
///
/// # Errors
///
/// Says which escape there is not, and refuses more than [`FIELDS_MAX`] fields.
pub fn split(line: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Problem> {
    Ok(Fields::split(line)?.fields.collect())
}

/// Appends a line of the extended language: fields of any bytes with their escapes, tabs between
/// them, and the line feed.
pub fn join<Field: AsRef<[u8]>>(fields: impl IntoIterator<Item = Field>, out: &mut Vec<u8>) {
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        escape(field.as_ref(), out);
    }
    out.push(b'\n');
}

/// Returns the problem of a field that is not there; `what` names it without an article.
pub fn missing(what: &str) -> Problem {
    Problem::new(format!("the {what} is missing"))
}

/// Returns the problem of a field that nobody asked for.
pub fn superfluous(field: &[u8]) -> Problem {
    Problem::new(format!("superfluous argument: {}", quoted(field)))
}

/// Resolves the escapes of one field.
///
/// A raw carriage return is refused: it is always written `\r`. So no line is ever longer when it
/// is written again, and a terminal that sends CR LF hears why it is not understood.
fn unescape(raw: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    if raw.contains(&b'\r') {
        return Err(Problem::new(
            "a carriage return must be written \"\\r\" (lines end in a line feed alone)",
        ));
    }
    if !raw.contains(&b'\\') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut plain = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        plain.push(match bytes.next() {
            Some(b'\\') => b'\\',
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(other) => {
                return Err(Problem::new(format!(
                    "there is no such escape: {}",
                    quoted(&[b'\\', other])
                )));
            }
            None => return Err(Problem::new("a field ends inside an escape")),
        });
    }
    Ok(Cow::Owned(plain))
}

/// Appends a field with its escapes.
pub(crate) fn escape(field: &[u8], out: &mut Vec<u8>) {
    for byte in field {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(*other),
        }
    }
}

/// Reads a decimal number of digits alone.
///
/// # Errors
///
/// Refuses everything else, and what is more than `max`.
pub fn decimal(field: &[u8], what: &str, max: u64) -> Result<u64, Problem> {
    let mut number: u64 = 0;
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return Err(no_integer(field, what));
    }
    for byte in field {
        let digit = u64::from(byte - b'0');
        number = number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit))
            .filter(|number| *number <= max)
            .ok_or_else(|| Problem::new(format!("the {what} is more than {max}")))?;
    }
    Ok(number)
}

/// Returns the problem of a field that holds no number.
pub(crate) fn no_integer(field: &[u8], what: &str) -> Problem {
    Problem::new(format!("integer expected as {what}, not {}", quoted(field)))
}

/// Reads a decimal number that fits 32 bits.
pub(crate) fn decimal_u32(field: &[u8], what: &str, max: u32) -> Result<u32, Problem> {
    let number = decimal(field, what, u64::from(max))?;
    Ok(u32::try_from(number).expect("the number is at most max"))
}

/// Reads a signal: `TERM`, `SIGTERM` or a number from 1 to 64.
///
/// # Errors
///
/// Refuses everything else: 0 is no signal, and names are upper case.
pub fn signal(field: &[u8]) -> Result<Signal, Problem> {
    std::str::from_utf8(field)
        .ok()
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| Signal::parse(text).ok())
        .ok_or_else(|| Problem::new(format!("invalid signal: {}", quoted(field))))
}

/// Reads a process id.
pub(crate) fn pid(field: &[u8]) -> Result<Pid, Problem> {
    let number = decimal_u32(field, "process id", i32::MAX as u32)?;
    Pid::new(number).ok_or_else(|| Problem::new("0 is no process id"))
}

/// Refuses the byte that no argument, variable or path can hold (execve(2) ends them there).
///
/// # Errors
///
/// Returns that `what`, a name without an article, holds one.
pub fn without_zero(field: &[u8], what: &str) -> Result<(), Problem> {
    if field.contains(&0) {
        return Err(Problem::new(format!("the {what} must not hold a zero byte")));
    }
    Ok(())
}

/// Returns the start of a foreign text in double quotes, harmless in a log or on a terminal.
pub fn quoted(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let dots = if start.len() < bytes.len() { "..." } else { "" };
    let text: String = String::from_utf8_lossy(start)
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    format!("\"{text}{dots}\"")
}

/// Writes one line: a name, then fields, then the line feed.
pub(crate) struct LineWriter<'out> {
    out: &'out mut Vec<u8>,
}

impl<'out> LineWriter<'out> {
    /// Begins a line with its name, which needs no escapes.
    pub(crate) fn new(name: &str, out: &'out mut Vec<u8>) -> Self {
        out.extend_from_slice(name.as_bytes());
        Self { out }
    }

    /// Adds a field of any bytes.
    pub(crate) fn field(self, field: &[u8]) -> Self {
        self.out.push(b'\t');
        escape(field, self.out);
        self
    }

    /// Adds a field that begins with a word of ours: `KEY=`, `+`.
    pub(crate) fn prefixed(self, prefix: &str, field: &[u8]) -> Self {
        self.out.push(b'\t');
        self.out.extend_from_slice(prefix.as_bytes());
        escape(field, self.out);
        self
    }

    /// Adds a field that needs no escapes: a word, number or name.
    pub(crate) fn word(self, word: impl fmt::Display) -> Self {
        self.out.push(b'\t');
        self.out.extend_from_slice(word.to_string().as_bytes());
        self
    }

    /// Adds a word, or `-` where there is none.
    pub(crate) fn word_or_unset(self, word: Option<impl fmt::Display>) -> Self {
        match word {
            Some(word) => self.word(word),
            None => self.word("-"),
        }
    }

    /// Adds a word where there is one.
    pub(crate) fn optional_word(self, word: Option<impl fmt::Display>) -> Self {
        match word {
            Some(word) => self.word(word),
            None => self,
        }
    }

    /// Adds every field of a list.
    pub(crate) fn list(mut self, list: &[Vec<u8>]) -> Self {
        for field in list {
            self = self.field(field);
        }
        self
    }

    /// Ends the line.
    pub(crate) fn end(self) {
        self.out.push(b'\n');
    }
}

/// Returns a time as whole milliseconds, rounded up: a short time must not become none, as 0 often
/// has a meaning of its own.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Returns the name of a signal as lines hold it: `SIGTERM`, or the number where there is no name.
pub(crate) fn signal_word(signal: Signal) -> String {
    match signal.name() {
        Some(name) => format!("SIG{name}"),
        None => signal.get().to_string(),
    }
}
