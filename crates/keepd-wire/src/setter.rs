//! Lines that say what a service is: sent as commands, heard as events, the same in both
//! directions.

use std::time::Duration;

use keepd_model::protocol::{
    Attributes, Environment, LEASE_DELAYS_MAX, Lease, LeaseAfter, LogTarget, NOTE_BYTES_MAX,
};
use keepd_model::{ExpectedEnd, FdSlot, Generation, ServiceName};

use crate::field::{
    Fields, LineWriter, Problem, decimal, decimal_u32, escape, milliseconds, quoted, signal,
    without_zero,
};
use crate::{attribute, words};

/// The longest key of a note.
pub const NOTE_KEY_BYTES_MAX: usize = 255;

/// Reads an argument vector: as many arguments as fields, none if there is no field.
pub(crate) fn read_arguments(fields: Fields<'_>) -> Result<Vec<Vec<u8>>, Problem> {
    let arguments = fields.rest();
    for argument in &arguments {
        without_zero(argument, "argument")?;
    }
    Ok(arguments)
}

/// Reads `KEY⇥VALUE` of a note.
pub(crate) fn read_note(fields: &mut Fields<'_>) -> Result<(String, Vec<u8>), Problem> {
    let key = fields.required("key of the note")?.into_owned();
    let key = String::from_utf8(key).map_err(|error| {
        Problem::new(format!("a key is UTF-8, not {}", quoted(error.as_bytes())))
    })?;
    if key.is_empty() || key.len() > NOTE_KEY_BYTES_MAX {
        return Err(Problem::new(format!("a key has 1 to {NOTE_KEY_BYTES_MAX} bytes")));
    }
    let value = fields.required("value of the note")?.into_owned();
    if value.len() > NOTE_BYTES_MAX {
        return Err(Problem::new(format!("a note has at most {NOTE_BYTES_MAX} bytes")));
    }
    Ok((key, value))
}

/// Appends `echo⇥TEXT`. Tabs stay as they are: the text is everything after the first one.
pub(crate) fn write_echo(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"echo");
    for part in text.split(|byte| *byte == b'\t') {
        out.push(b'\t');
        escape(part, out);
    }
    out.push(b'\n');
}

/// Appends `service.args⇥NAME⇥ARG…`.
pub(crate) fn write_args(name: &ServiceName, arguments: &[Vec<u8>], out: &mut Vec<u8>) {
    LineWriter::new("service.args", out).word(name).list(arguments).end();
}

/// Appends `service.tags⇥NAME⇥TAG…`.
pub(crate) fn write_tags(name: &ServiceName, tags: &[Vec<u8>], out: &mut Vec<u8>) {
    LineWriter::new("service.tags", out).word(name).list(tags).end();
}

/// Appends `service.set⇥NAME⇥KEY=VALUE…`.
pub(crate) fn write_set(name: &ServiceName, attributes: &Attributes, out: &mut Vec<u8>) {
    let line = LineWriter::new("service.set", out).word(name);
    attribute::encode_attributes(attributes, line).end();
}

/// Appends `service.env⇥NAME[⇥=]⇥+K=V…⇥-K…`.
pub(crate) fn write_env(name: &ServiceName, environment: &Environment, out: &mut Vec<u8>) {
    let line = LineWriter::new("service.env", out).word(name);
    attribute::encode_environment(environment, line).end();
}

/// Appends `service.log⇥NAME⇥KEY=VALUE…`.
pub(crate) fn write_log(name: &ServiceName, log: &LogTarget, out: &mut Vec<u8>) {
    let line = LineWriter::new("service.log", out).word(name);
    attribute::encode_log_target(log, line).end();
}

/// Appends `service.auto_up⇥NAME⇥SECONDS|-[⇥TRIGGER…]`.
pub(crate) fn write_auto_up(
    name: &ServiceName,
    seconds: Option<u32>,
    triggers: &[Vec<u8>],
    out: &mut Vec<u8>,
) {
    LineWriter::new("service.auto_up", out).word(name).word_or_unset(seconds).list(triggers).end();
}

/// Reads a descriptor list: as many places as fields.
pub(crate) fn read_slots(fields: Fields<'_>) -> Result<Vec<FdSlot>, Problem> {
    fields.rest().iter().map(|field| words::fd_slot(field)).collect()
}

/// Appends `service.fds⇥NAME[⇥HANDLE…]`.
pub(crate) fn write_fds(name: &ServiceName, slots: &[FdSlot], out: &mut Vec<u8>) {
    let mut line = LineWriter::new("service.fds", out).word(name);
    for slot in slots {
        line = line.word(words::fd_slot_word(slot));
    }
    line.end();
}

/// Appends `service.note⇥NAME⇥KEY⇥VALUE`.
pub(crate) fn write_note(name: &ServiceName, key: &str, value: &[u8], out: &mut Vec<u8>) {
    LineWriter::new("service.note", out).word(name).field(key.as_bytes()).field(value).end();
}

/// The most entries in a list of successes: every exit code and every signal.
const SUCCESSES_MAX: usize = 256 + 64;

/// Reads `any|failure⇥OKLIST⇥DELAY_MS…` of a lease.
pub(crate) fn read_lease(mut fields: Fields<'_>) -> Result<Lease, Problem> {
    let after = match &*fields.required("kind of ends")? {
        b"any" => LeaseAfter::Any,
        b"failure" => LeaseAfter::Failure,
        other => {
            let text = format!("a lease is for any or failure, not {}", quoted(other));
            return Err(Problem::new(text));
        }
    };
    let successes = match &*fields.required("list of successes")? {
        b"-" => Vec::new(),
        list => list.split(|byte| *byte == b',').map(read_success).collect::<Result<_, _>>()?,
    };
    if successes.len() > SUCCESSES_MAX {
        return Err(Problem::new(format!("a lease has at most {SUCCESSES_MAX} successes")));
    }
    let delays = fields.rest();
    if delays.len() > LEASE_DELAYS_MAX {
        return Err(Problem::new(format!("a lease has at most {LEASE_DELAYS_MAX} delays")));
    }
    let delays = delays
        .iter()
        .map(|delay| decimal(delay, "delay", u64::MAX).map(Duration::from_millis))
        .collect::<Result<_, _>>()?;
    Ok(Lease { after, successes, delays })
}

/// Reads an exit code or the name of a signal (`SIGTERM`, `TERM`, or `SIG34` where there is none).
fn read_success(word: &[u8]) -> Result<ExpectedEnd, Problem> {
    if word.first().is_some_and(u8::is_ascii_digit) {
        let code = decimal_u32(word, "exit code", u32::from(u8::MAX))?;
        let code = u8::try_from(code).expect("the number is at most 255");
        return Ok(ExpectedEnd::Code(code));
    }
    let number = word.strip_prefix(b"SIG").filter(|rest| rest.iter().all(u8::is_ascii_digit));
    signal(number.unwrap_or(word)).map(ExpectedEnd::Signal)
}

/// Appends `service.lease⇥NAME⇥GEN⇥any|failure⇥OKLIST⇥DELAY_MS…`.
pub(crate) fn write_lease(
    name: &ServiceName,
    generation: Generation,
    lease: &Lease,
    out: &mut Vec<u8>,
) {
    let after = match lease.after {
        LeaseAfter::Any => "any",
        LeaseAfter::Failure => "failure",
    };
    let success = |success: &ExpectedEnd| match success {
        ExpectedEnd::Code(code) => code.to_string(),
        // A bare number is an exit code, also for signals without a name.
        ExpectedEnd::Signal(signal) => match signal.name() {
            Some(name) => format!("SIG{name}"),
            None => format!("SIG{}", signal.get()),
        },
    };
    let successes: Vec<String> = lease.successes.iter().map(success).collect();
    let successes = (!successes.is_empty()).then(|| successes.join(","));
    let mut line = LineWriter::new("service.lease", out)
        .word(name)
        .word(generation)
        .word(after)
        .word_or_unset(successes);
    for delay in &lease.delays {
        line = line.word(milliseconds(*delay));
    }
    line.end();
}
