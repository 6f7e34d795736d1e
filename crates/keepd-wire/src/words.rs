//! Words and numbers that both languages have, extended and plain: descriptors and addresses,
//! triggers, signals by number, log levels, integers.
//!
//! Fields come in without escapes, however the line was written. The texts of problems hold the
//! words that daemonproxy's clients may look for, so the plain front end passes them on.

mod address;
mod descriptor;

use keepd_model::LogLevel;
use keepd_model::protocol::{FilterChange, SignalNumber, Triggers};

pub use crate::field::{
    Problem, decimal, join, missing, quoted, signal, split, superfluous, without_zero,
};
pub use descriptor::{
    different_ends, fd_slot, fd_slot_word, handle_flags, handle_kind, handle_name, handle_type,
    open_flags, pipe_spec, socket_spec,
};
pub(crate) use descriptor::{pipe_flags, socket_flags};

use crate::field::no_integer;

/// The longest path in bytes (the kernel's PATH_MAX without the zero byte).
pub const PATH_BYTES_MAX: usize = 4095;
/// The longest path of a unix socket in bytes, unix(7).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest interval of `service.auto_up` in seconds.
pub const INTERVAL_SECONDS_MAX: u32 = i32::MAX as u32;

/// Reads an integer as daemonproxy has them: digits, perhaps after a `-`, 64 bits with a sign.
///
/// # Errors
///
/// Refuses everything else, a `+` and blanks too.
pub fn integer(field: &[u8], what: &str) -> Result<i64, Problem> {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(no_integer(field, what));
    }
    let text = str::from_utf8(field).expect("a sign and digits are text");
    text.parse().map_err(|_| {
        let field = quoted(field);
        Problem::new(format!("integer expected as {what}, {field} does not fit 64 bits"))
    })
}

/// Reads the interval of `service.auto_up`: `-` keeps the stored one.
///
/// # Errors
///
/// Refuses what is no integer from 1 to [`INTERVAL_SECONDS_MAX`].
pub fn interval(field: &[u8]) -> Result<Option<u32>, Problem> {
    if field == b"-" {
        return Ok(None);
    }
    let seconds = u32::try_from(integer(field, "interval")?).ok();
    let seconds = seconds.filter(|seconds| (1..=INTERVAL_SECONDS_MAX).contains(seconds));
    let outside = || Problem::new(format!("interval outside 1..2^31-1: {}", quoted(field)));
    seconds.ok_or_else(outside).map(Some)
}

/// Reads the triggers of `service.auto_up`: `always` and signals.
///
/// # Errors
///
/// Refuses every other word. A number that the kernel has no signal for is none of them: it is kept
/// among the words and never comes, as with daemonproxy.
pub fn triggers(words: Vec<Vec<u8>>) -> Result<Triggers, Problem> {
    let mut triggers = Triggers::default();
    for word in &words {
        if word == b"always" {
            triggers.always = true;
            continue;
        }
        let Ok(number) = signal_number(word) else {
            return Err(Problem::new(format!(
                "unknown trigger {}, \"always\" or a signal is expected",
                quoted(word)
            )));
        };
        triggers.signals.extend(number.signal());
    }
    triggers.signals.sort_unstable();
    triggers.signals.dedup();
    triggers.words = words;
    Ok(triggers)
}

/// Reads a signal as kill(2) takes it: a name with or without `SIG`, or a number from 0 to 65,535.
///
/// # Errors
///
/// Refuses unknown names and greater numbers.
pub fn signal_number(field: &[u8]) -> Result<SignalNumber, Problem> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return signal(field).map(SignalNumber::from);
    }
    decimal(field, "signal", u64::from(u16::MAX))
        .ok()
        .and_then(|number| u16::try_from(number).ok())
        .map(SignalNumber)
        .ok_or_else(|| Problem::new(format!("invalid signal: {}", quoted(field))))
}

/// Reads the word of a log level.
///
/// # Errors
///
/// Refuses every other word.
pub fn log_level(field: &[u8]) -> Result<LogLevel, Problem> {
    LogLevel::ALL
        .into_iter()
        .find(|level| level.word().as_bytes() == field)
        .ok_or_else(|| Problem::new(format!("log level unknown: {}", quoted(field))))
}

/// Reads what `log.filter` shall do; nothing: show it.
///
/// # Errors
///
/// Refuses what is neither a sign nor a level.
pub fn filter_change(field: Option<&[u8]>) -> Result<FilterChange, Problem> {
    match field {
        None | Some(b"") => Ok(FilterChange::Show),
        Some(b"+") => Ok(FilterChange::Less),
        Some(b"-") => Ok(FilterChange::More),
        Some(word) => log_level(word).map(FilterChange::To),
    }
}

/// Refuses every type of a log destination but `fd` (`log.dest`).
///
/// # Errors
///
/// Names the type that is unknown.
pub fn log_type(field: &[u8]) -> Result<(), Problem> {
    match field {
        b"fd" => Ok(()),
        other => {
            let other = quoted(other);
            Err(Problem::new(format!("log type unknown: {other}, \"fd\" is expected")))
        }
    }
}

/// Refuses every option of a control socket (`socket.create`): there are none yet.
///
/// # Errors
///
/// Names what stands there instead of `-` or nothing.
pub fn socket_options(field: &[u8]) -> Result<(), Problem> {
    match field {
        b"" | b"-" => Ok(()),
        other => {
            let other = quoted(other);
            Err(Problem::new(format!("bad options {other}, \"-\" is expected")))
        }
    }
}

/// Reads whether `terminate.guard` sets the guard (`+`) or clears it (`-`).
///
/// # Errors
///
/// Refuses everything else.
pub fn guard_sign(field: &[u8]) -> Result<bool, Problem> {
    match field {
        b"+" => Ok(true),
        b"-" => Ok(false),
        other => Err(Problem::new(format!("\"+\" or \"-\" expected, not {}", quoted(other)))),
    }
}

/// Reads a path.
///
/// # Errors
///
/// Refuses an empty one, one with a zero byte, and one of more than [`PATH_BYTES_MAX`] bytes.
pub fn path(field: &[u8]) -> Result<Vec<u8>, Problem> {
    path_within(field, PATH_BYTES_MAX)
}

/// Reads the path of a unix socket.
///
/// # Errors
///
/// As [`path`], with a limit of [`SOCKET_PATH_BYTES_MAX`] bytes.
pub fn socket_path(field: &[u8]) -> Result<Vec<u8>, Problem> {
    path_within(field, SOCKET_PATH_BYTES_MAX)
}

fn path_within(field: &[u8], bytes_max: usize) -> Result<Vec<u8>, Problem> {
    if field.is_empty() {
        return Err(missing("path"));
    }
    without_zero(field, "path")?;
    if field.len() > bytes_max {
        return Err(Problem::new(format!("the path has more than {bytes_max} bytes")));
    }
    Ok(field.to_vec())
}
