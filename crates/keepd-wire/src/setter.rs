//! Lines that say what a service is: sent as commands, heard as events, the same in both
//! directions.

use keepd_model::protocol::{Attributes, Environment, LogTarget, NOTE_BYTES_MAX};
use keepd_model::{FdSlot, ServiceName};

use crate::field::{Fields, LineWriter, Problem, escape, quoted, without_zero};
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
