//! The extended grammar: every command with its generation, escapes in every field, nothing
//! ignored.

use std::time::Duration;

use keepd_model::protocol::{Command, FilterChange, Scope, SignalNumber};
use keepd_model::{Generation, HandleKind, HandleName, Instant};

use super::Refusal;
use crate::attribute;
use crate::field::{
    Escapes, Fields, LineWriter, Problem, decimal, milliseconds, quoted, signal, signal_word,
};
use crate::{setter, words};

/// Reads what stands after `@ID⇥`.
pub(super) fn decode(command: &[u8]) -> Result<Command, Refusal> {
    let mut fields = Fields::split(command, Escapes::Backslash)?;
    let command_name = fields.required("command")?;
    let command = match &*command_name {
        b"echo" => Command::Echo { text: fields.rest().join(&b'\t') },
        b"statedump" => alone(fields, Command::StateDump)?,
        b"conn.log" => Command::WatchLogs { on: on_or_off(fields)? },
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
        b"service.fds" => {
            Command::ServiceFds { name: fields.name()?, slots: setter::read_slots(fields)? }
        }
        b"service.auto_up" => Command::ServiceAutoUp {
            name: fields.name()?,
            seconds: words::interval(&fields.required("interval")?)?,
            triggers: words::triggers(fields.rest())?,
        },
        b"service.cancel" => {
            let name = fields.name()?;
            alone(fields, Command::ServiceCancel { name })?
        }
        b"service.start" => service_start(fields)?,
        b"service.stop" => service_stop(fields)?,
        b"service.signal" => service_signal(fields)?,
        b"service.exec" => service_exec(fields)?,
        b"service.note" => service_note(fields)?,
        b"service.delete" => {
            let name = fields.name()?;
            alone(fields, Command::ServiceDelete { name })?
        }
        b"conn.start" => Command::WatchStarts { on: on_or_off(fields)? },
        b"terminate.guard" => terminate_guard(fields)?,
        b"terminate.exec_args" => {
            Command::TerminateExec { arguments: setter::read_arguments(fields)? }
        }
        b"chdir" => {
            let path = path(&mut fields)?;
            alone(fields, Command::Chdir { path })?
        }
        b"log.filter" => {
            let change = words::filter_change(fields.next().as_deref())?;
            alone(fields, Command::LogFilter { change })?
        }
        b"log.dest" => log_destination(fields)?,
        b"socket.create" => socket_create(fields)?,
        b"socket.delete" => alone(fields, Command::SocketDelete)?,
        b"fd.open" => {
            let name = handle_name(&mut fields)?;
            let flags = words::open_flags(&fields.required("list of flags")?)?;
            let path = path(&mut fields)?;
            alone(fields, Command::HandleOpen { name, flags, path })?
        }
        b"fd.pipe" => {
            let (read, write) = (handle_name(&mut fields)?, handle_name(&mut fields)?);
            let spec = words::pipe_spec(&fields.next().unwrap_or_default())?;
            alone(fields, Command::HandlePipe { read, write, spec })?
        }
        b"fd.socket" => {
            let name = handle_name(&mut fields)?;
            let flags = fields.required("list of flags")?;
            let spec = words::socket_spec(&flags, fields.next().as_deref())?;
            alone(fields, Command::HandleSocket { name, spec })?
        }
        b"fd.take" => {
            let name = handle_name(&mut fields)?;
            alone(fields, Command::HandleTake { name })?
        }
        b"fd.delete" => {
            let name = handle_name(&mut fields)?;
            alone(fields, Command::HandleDelete { name })?
        }
        b"proto" => return Err(Problem::new("the connection is an extended one").into()),
        other => return Err(Refusal::UnknownCommand(other.to_vec())),
    };
    Ok(command)
}

/// Returns the command if no field is left.
fn alone(fields: Fields<'_>, command: Command) -> Result<Command, Problem> {
    fields.end().map(|()| command)
}

fn on_or_off(mut fields: Fields<'_>) -> Result<bool, Problem> {
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
    fields.end().map(|()| on)
}

fn handle_name(fields: &mut Fields<'_>) -> Result<HandleName, Problem> {
    words::handle_name(&fields.required("handle name")?)
}

fn path(fields: &mut Fields<'_>) -> Result<Vec<u8>, Problem> {
    let path = fields.required("path")?;
    words::without_zero(&path, "path")?;
    if path.is_empty() {
        return Err(Problem::new("the path is missing"));
    }
    Ok(path.into_owned())
}

/// Reads `+|-⇥CODE`.
fn terminate_guard(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let set = match &*fields.required("sign \"+\" or \"-\"")? {
        b"+" => true,
        b"-" => false,
        other => {
            return Err(Problem::new(format!("\"+\" or \"-\" is expected, not {}", quoted(other))));
        }
    };
    let code = words::integer(&fields.required("guard code")?, "guard code")?;
    alone(fields, Command::TerminateGuard { set, code })
}

/// Reads `fd⇥HANDLE`.
fn log_destination(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let kind = fields.required("type of the destination")?;
    if &*kind != b"fd" {
        return Err(Problem::new(format!(
            "unknown log type {}, \"fd\" is expected",
            quoted(&kind)
        )));
    }
    let handle = handle_name(&mut fields)?;
    alone(fields, Command::LogDestination { handle })
}

/// Reads `-⇥PATH`.
fn socket_create(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let options = fields.required("list of options")?;
    if !matches!(&*options, b"" | b"-") {
        return Err(Problem::new(format!("bad options {}, \"-\" is expected", quoted(&options))));
    }
    let path = path(&mut fields)?;
    alone(fields, Command::SocketCreate { path })
}

fn terminate(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let code = fields.number("exit code", u64::from(u8::MAX))?;
    let code = u8::try_from(code).expect("the number is at most 255");
    let guard = match fields.next() {
        Some(field) => Some(words::integer(&field, "guard code")?),
        None => None,
    };
    alone(fields, Command::Terminate { code, guard })
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

/// Reads `[⇥GEN|-[⇥AT_NS]]`.
fn service_start(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = match fields.next() {
        Some(field) if &*field == b"-" => None,
        Some(field) => Some(expected_generation(&field)?),
        None => None,
    };
    let at = match fields.next() {
        Some(field) => Some(Instant::from_nanos(decimal(&field, "time", u64::MAX)?)),
        None => None,
    };
    alone(fields, Command::ServiceStart { name, expected, at })
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
    let signal = words::signal_number(&fields.required("signal")?)?;
    let scope = match &*fields.required("scope")? {
        b"main" => Scope::Main,
        b"all" => Scope::All,
        b"group" => Scope::ProcessGroup,
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

/// Appends a command without its number.
pub(super) fn encode(command: &Command, out: &mut Vec<u8>) {
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
        Command::Terminate { code, guard } => {
            LineWriter::new("terminate", out).word(code).optional_word(*guard).end();
        }
        Command::SignalClear { signal, count } => {
            LineWriter::new("signal.clear", out).word(signal_word(*signal)).word(count).end();
        }
        Command::ServiceArgs { name, arguments } => setter::write_args(name, arguments, out),
        Command::ServiceTags { name, tags } => setter::write_tags(name, tags, out),
        Command::ServiceSet { name, attributes } => setter::write_set(name, attributes, out),
        Command::ServiceEnv { name, environment } => setter::write_env(name, environment, out),
        Command::ServiceLog { name, log } => setter::write_log(name, log, out),
        Command::ServiceAutoUp { name, seconds, triggers } => {
            setter::write_auto_up(name, *seconds, &triggers.words, out);
        }
        Command::ServiceNote { name, key, value } => setter::write_note(name, key, value, out),
        Command::ServiceStart { name, expected, at } => {
            let mut line = LineWriter::new("service.start", out).word(name);
            if expected.is_some() || at.is_some() {
                line = line.word_or_unset(*expected);
            }
            line.optional_word(at.map(|at| at.as_nanos())).end();
        }
        Command::ServiceCancel { name } => LineWriter::new("service.cancel", out).word(name).end(),
        Command::ServiceFds { name, slots } => setter::write_fds(name, slots, out),
        Command::WatchStarts { on } => {
            LineWriter::new("conn.start", out).word(if *on { "on" } else { "off" }).end();
        }
        Command::EventTimeout { reset, close } => LineWriter::new("conn.event_timeout", out)
            .word(reset.as_secs())
            .word(close.as_secs())
            .end(),
        Command::TerminateGuard { set, code } => LineWriter::new("terminate.guard", out)
            .word(if *set { "+" } else { "-" })
            .word(code)
            .end(),
        Command::TerminateExec { arguments } => {
            LineWriter::new("terminate.exec_args", out).list(arguments).end();
        }
        Command::Chdir { path } => LineWriter::new("chdir", out).field(path).end(),
        Command::LogFilter { change } => {
            let word = match change {
                FilterChange::Show => None,
                FilterChange::Less => Some("+"),
                FilterChange::More => Some("-"),
                FilterChange::To(level) => Some(level.word()),
            };
            LineWriter::new("log.filter", out).optional_word(word).end();
        }
        Command::LogDestination { handle } => {
            LineWriter::new("log.dest", out).word("fd").word(handle).end();
        }
        Command::SocketCreate { path } => {
            LineWriter::new("socket.create", out).word("-").field(path).end();
        }
        Command::SocketDelete => LineWriter::new("socket.delete", out).end(),
        Command::HandleOpen { .. }
        | Command::HandlePipe { .. }
        | Command::HandleSocket { .. }
        | Command::HandleTake { .. }
        | Command::HandleDelete { .. } => encode_handle(command, out),
        Command::ServiceStop { name, expected, other } => {
            let line = LineWriter::new("service.stop", out).word(name).word(expected);
            line.optional_word(other.map(|(signal, _)| signal_word(signal)))
                .optional_word(other.map(|(_, timeout)| milliseconds(timeout)))
                .end();
        }
        Command::ServiceSignal { name, expected, signal, scope } => {
            LineWriter::new("service.signal", out)
                .word(name)
                .word_or_unset(*expected)
                .word(signal_number_word(*signal))
                .word(scope_word(*scope))
                .end();
        }
        Command::ServiceExec { name, deadline, arguments } => LineWriter::new("service.exec", out)
            .word(name)
            .word(milliseconds(*deadline))
            .list(arguments)
            .end(),
        Command::ServiceDelete { name } => LineWriter::new("service.delete", out).word(name).end(),
    }
}

fn encode_handle(command: &Command, out: &mut Vec<u8>) {
    match command {
        Command::HandleOpen { name, flags, path } => LineWriter::new("fd.open", out)
            .word(name)
            .word(words::handle_flags(&HandleKind::File(*flags)))
            .field(path)
            .end(),
        Command::HandlePipe { read, write, spec } => LineWriter::new("fd.pipe", out)
            .word(read)
            .word(write)
            .word(words::pipe_flags(*spec))
            .end(),
        Command::HandleSocket { name, spec } => {
            let line = LineWriter::new("fd.socket", out).word(name).word(words::socket_flags(spec));
            match spec.bind {
                Some(_) => line.field(&spec.address_text).end(),
                None => line.end(),
            }
        }
        Command::HandleTake { name } => LineWriter::new("fd.take", out).word(name).end(),
        Command::HandleDelete { name } => LineWriter::new("fd.delete", out).word(name).end(),
        _ => unreachable!("only commands of handles are written here"),
    }
}

const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Main => "main",
        Scope::All => "all",
        Scope::ProcessGroup => "group",
    }
}

fn signal_number_word(number: SignalNumber) -> String {
    number.signal().map_or_else(|| number.0.to_string(), signal_word)
}
