//! The extended grammar: every command with its generation, escapes in every field, nothing
//! ignored.

use std::time::Duration;

use keepd_model::protocol::{Command, Scope};
use keepd_model::{Generation, ServiceName, Signal};

use super::{Refusal, auto_up, unknown};
use crate::attribute;
use crate::field::{
    Escapes, Fields, LineWriter, Problem, decimal, milliseconds, quoted, signal, signal_word,
};
use crate::setter;

/// Reads what stands after `@ID⇥`.
pub(super) fn decode(command: &[u8]) -> Result<Command, Refusal> {
    let mut fields = Fields::split(command, Escapes::Backslash)?;
    let command_name = fields.required("command")?;
    let command = match &*command_name {
        b"echo" => Command::Echo { text: fields.rest().join(&b'\t') },
        b"statedump" => alone(fields, Command::StateDump)?,
        b"conn.log" => watch_logs(fields)?,
        b"exit" => alone(fields, Command::Exit)?,
        b"terminate" => terminate(fields)?,
        b"signal.clear" => signal_clear(fields)?,
        b"service.args" => service_args(fields)?,
        b"service.tags" => Command::ServiceTags { name: fields.name()?, tags: fields.rest() },
        b"service.set" => Command::ServiceSet {
            name: fields.name()?,
            attributes: attribute::decode_attributes(fields)?,
        },
        b"service.env" => Command::ServiceEnv {
            name: fields.name()?,
            environment: attribute::decode_environment(fields)?,
        },
        b"service.log" => {
            Command::ServiceLog { name: fields.name()?, log: attribute::decode_log_target(fields)? }
        }
        b"service.auto_up" => auto_up(fields.name()?, fields)?,
        b"service.start" => service_start(fields)?,
        b"service.stop" => service_stop(fields)?,
        b"service.signal" => service_signal(fields)?,
        b"service.exec" => service_exec(fields)?,
        b"service.note" => service_note(fields)?,
        b"service.delete" => {
            let name = fields.name()?;
            alone(fields, Command::ServiceDelete { name })?
        }
        b"proto" => return Err(Problem::new("the command \"proto\" has no number").into()),
        other => return Err(unknown(other, false)),
    };
    Ok(command)
}

/// Returns the command if no field is left.
fn alone(fields: Fields<'_>, command: Command) -> Result<Command, Problem> {
    fields.end().map(|()| command)
}

fn watch_logs(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let on = match &*fields.required("word \"on\" or \"off\"")? {
        b"on" => true,
        b"off" => false,
        other => {
            return Err(Problem::new(format!(
                "\"on\" or \"off\" is expected, not {}",
                quoted(other)
            )));
        }
    };
    alone(fields, Command::WatchLogs { on })
}

fn terminate(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let code = fields.number("exit code", u64::from(u8::MAX))?;
    let code = u8::try_from(code).expect("the number is at most 255");
    alone(fields, Command::Terminate { code })
}

fn signal_clear(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let signal = fields.signal()?;
    let count = fields.number("count", u64::MAX)?;
    alone(fields, Command::SignalClear { signal, count })
}

fn service_args(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let arguments = setter::read_arguments(fields)?;
    Ok(Command::ServiceArgs { name, arguments })
}

/// Reads `[⇥GEN]`.
fn service_start(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = match fields.next() {
        Some(field) => Some(expected_generation(&field)?),
        None => None,
    };
    alone(fields, Command::ServiceStart { name, expected })
}

fn expected_generation(field: &[u8]) -> Result<Generation, Problem> {
    decimal(field, "generation", u64::MAX).map(Generation::new)
}

/// Reads `GEN[⇥SIGNAL⇥TIMEOUT_MS]`.
fn service_stop(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = fields.generation()?;
    let other = match fields.next() {
        Some(field) => {
            let signal = signal(&field)?;
            let timeout_ms = fields.number("timeout", u64::MAX)?;
            Some((signal, Duration::from_millis(timeout_ms)))
        }
        None => None,
    };
    alone(fields, Command::ServiceStop { name, expected, other })
}

/// Reads `GEN|-⇥SIGNAL⇥main|all`; `-` means whatever generation runs.
fn service_signal(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = match &*fields.required("generation")? {
        b"-" => None,
        field => Some(expected_generation(field)?),
    };
    let signal = fields.signal()?;
    let scope = match &*fields.required("scope")? {
        b"main" => Scope::Main,
        b"all" => Scope::All,
        other => {
            return Err(Problem::new(format!(
                "\"main\" or \"all\" is expected, not {}",
                quoted(other)
            )));
        }
    };
    alone(fields, Command::ServiceSignal { name, expected, signal, scope })
}

/// Reads `DEADLINE_MS⇥ARG…`.
fn service_exec(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let deadline_ms = fields.number("deadline", u64::MAX)?;
    if deadline_ms == 0 {
        return Err(Problem::new("the deadline is less than 1"));
    }
    let arguments = setter::read_arguments(fields)?;
    if arguments.is_empty() {
        return Err(Problem::new("the program is missing"));
    }
    Ok(Command::ServiceExec { name, deadline: Duration::from_millis(deadline_ms), arguments })
}

fn service_note(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let (key, value) = setter::read_note(&mut fields)?;
    alone(fields, Command::ServiceNote { name, key, value })
}

/// Appends a command without its number. Without a number, a signal is written in the plain form.
pub(super) fn encode(command: &Command, numbered: bool, out: &mut Vec<u8>) {
    match command {
        Command::Proto { version } => {
            LineWriter::new("proto", out).word("keepd").word(version).end();
        }
        Command::Echo { text } => setter::write_echo(text, out),
        Command::StateDump => LineWriter::new("statedump", out).end(),
        Command::WatchLogs { on } => {
            LineWriter::new("conn.log", out).word(if *on { "on" } else { "off" }).end();
        }
        Command::Exit => LineWriter::new("exit", out).end(),
        Command::Terminate { code } => LineWriter::new("terminate", out).word(code).end(),
        Command::SignalClear { signal, count } => {
            LineWriter::new("signal.clear", out).word(signal_word(*signal)).word(count).end();
        }
        Command::ServiceArgs { name, arguments } => setter::write_args(name, arguments, out),
        Command::ServiceTags { name, tags } => setter::write_tags(name, tags, out),
        Command::ServiceSet { name, attributes } => setter::write_set(name, attributes, out),
        Command::ServiceEnv { name, environment } => setter::write_env(name, environment, out),
        Command::ServiceLog { name, log } => setter::write_log(name, log, out),
        Command::ServiceAutoUp { name, seconds, always } => {
            setter::write_auto_up(name, *seconds, *always, out);
        }
        Command::ServiceNote { name, key, value } => setter::write_note(name, key, value, out),
        Command::ServiceStart { name, expected } => {
            let line = LineWriter::new("service.start", out).word(name);
            line.optional_word(*expected).end();
        }
        Command::ServiceStop { name, expected, other } => {
            let line = LineWriter::new("service.stop", out).word(name).word(expected);
            line.optional_word(other.map(|(signal, _)| signal_word(signal)))
                .optional_word(other.map(|(_, timeout)| milliseconds(timeout)))
                .end();
        }
        Command::ServiceSignal { name, expected, signal, scope } => {
            encode_signal(name, *expected, *signal, *scope, numbered, out);
        }
        Command::ServiceExec { name, deadline, arguments } => LineWriter::new("service.exec", out)
            .word(name)
            .word(milliseconds(*deadline))
            .list(arguments)
            .end(),
        Command::ServiceDelete { name } => LineWriter::new("service.delete", out).word(name).end(),
    }
}

fn encode_signal(
    name: &ServiceName,
    expected: Option<Generation>,
    signal: Signal,
    scope: Scope,
    numbered: bool,
    out: &mut Vec<u8>,
) {
    let mut line = LineWriter::new("service.signal", out).word(name);
    if numbered || expected.is_some() {
        line = line.word_or_unset(expected);
    }
    line = line.word(signal_word(signal));
    match scope {
        // The plain form has no word for it.
        Scope::Main if !numbered && expected.is_none() => line.end(),
        Scope::Main => line.word("main").end(),
        Scope::All => line.word("all").end(),
        Scope::ProcessGroup => line.word("group").end(),
    }
}
