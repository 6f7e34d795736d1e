//! Reading a command: escapes in every field, nothing ignored.

use std::borrow::Cow;
use std::time::Duration;

use keepd_model::protocol::{Command, Scope};
use keepd_model::{Generation, HandleName, Instant, ServiceName};

use super::Refusal;
use crate::field::{Fields, Problem, decimal, missing, quoted, signal};
use crate::{attribute, setter, words};

/// Reads the fields behind the name of a command.
type Read = fn(Fields<'_>) -> Result<Command, Problem>;

/// Reads what stands after `@ID⇥`, or a line without a number.
pub(super) fn decode(line: &[u8]) -> Result<Command, Refusal> {
    let mut fields = Fields::split(line)?;
    let name = fields.required("command")?;
    let read: Read = match &*name {
        b"proto" => |_| Err(Problem::new("the connection is an extended one")),
        b"echo" => |fields| Ok(Command::Echo { text: fields.rest().join(&b'\t') }),
        b"statedump" => |fields| alone(fields, Command::StateDump),
        b"conn.log" => |fields| on_or_off(fields).map(|on| Command::WatchLogs { on }),
        b"conn.start" => |fields| on_or_off(fields).map(|on| Command::WatchStarts { on }),
        b"exit" => |fields| alone(fields, Command::Exit),
        b"terminate" => terminate,
        b"terminate.guard" => terminate_guard,
        b"terminate.exec_args" => terminate_exec,
        b"chdir" => chdir,
        b"log.filter" => log_filter,
        b"log.dest" => log_destination,
        b"socket.create" => socket_create,
        b"socket.delete" => |fields| alone(fields, Command::SocketDelete),
        b"signal.clear" => signal_clear,
        b"fd.open" => handle_open,
        b"fd.pipe" => handle_pipe,
        b"fd.socket" => handle_socket,
        b"fd.take" => |fields| handle(fields).map(|name| Command::HandleTake { name }),
        b"fd.delete" => |fields| handle(fields).map(|name| Command::HandleDelete { name }),
        b"service.args" => service_args,
        b"service.tags" => service_tags,
        b"service.set" => service_set,
        b"service.env" => service_env,
        b"service.log" => service_log,
        b"service.fds" => service_fds,
        b"service.auto_up" => service_auto_up,
        b"service.note" => service_note,
        b"service.start" => service_start,
        b"service.cancel" => |fields| service(fields).map(|name| Command::ServiceCancel { name }),
        b"service.stop" => service_stop,
        b"service.signal" => service_signal,
        b"service.exec" => service_exec,
        b"service.delete" => |fields| service(fields).map(|name| Command::ServiceDelete { name }),
        b"service.ack" => service_ack,
        b"service.lease" => service_lease,
        other => return Err(Refusal::UnknownCommand(other.to_vec())),
    };
    Ok(read(fields)?)
}

/// Returns the command if no field is left.
fn alone(fields: Fields<'_>, command: Command) -> Result<Command, Problem> {
    fields.end().map(|()| command)
}

/// Reads the name of a service and nothing else.
fn service(mut fields: Fields<'_>) -> Result<ServiceName, Problem> {
    let name = fields.name()?;
    fields.end().map(|()| name)
}

/// Reads the name of a handle and nothing else.
fn handle(mut fields: Fields<'_>) -> Result<HandleName, Problem> {
    let name = handle_name(&mut fields)?;
    fields.end().map(|()| name)
}

fn handle_name(fields: &mut Fields<'_>) -> Result<HandleName, Problem> {
    words::handle_name(&fields.required("handle name")?)
}

fn flags<'line>(fields: &mut Fields<'line>) -> Result<Cow<'line, [u8]>, Problem> {
    fields.next().ok_or_else(|| Problem::new("the flags are missing"))
}

fn on_or_off(mut fields: Fields<'_>) -> Result<bool, Problem> {
    let on = match &*fields.required("word \"on\" or \"off\"")? {
        b"on" => true,
        b"off" => false,
        other => {
            let other = quoted(other);
            return Err(Problem::new(format!("\"on\" or \"off\" is expected, not {other}")));
        }
    };
    fields.end().map(|()| on)
}

/// Reads `CODE[⇥GUARD]`.
fn terminate(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let code = fields.number("exit code", u64::from(u8::MAX))?;
    let code = u8::try_from(code).expect("the number is at most 255");
    let guard = fields.next().map(|field| words::integer(&field, "guard code")).transpose()?;
    alone(fields, Command::Terminate { code, guard })
}

/// Reads `+|-⇥CODE`.
fn terminate_guard(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let set = words::guard_sign(&fields.required("sign \"+\" or \"-\"")?)?;
    let code = words::integer(&fields.required("guard code")?, "guard code")?;
    alone(fields, Command::TerminateGuard { set, code })
}

/// Reads `[ARG…]`.
fn terminate_exec(fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::TerminateExec { arguments: setter::read_arguments(fields)? })
}

/// Reads `PATH`.
fn chdir(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let path = words::path(&fields.required("path")?)?;
    alone(fields, Command::Chdir { path })
}

/// Reads `[+|-|LEVEL]`.
fn log_filter(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let change = words::filter_change(fields.next().as_deref())?;
    alone(fields, Command::LogFilter { change })
}

/// Reads `fd⇥HANDLE`.
fn log_destination(mut fields: Fields<'_>) -> Result<Command, Problem> {
    words::log_type(&fields.required("type of the destination")?)?;
    let handle = handle(fields)?;
    Ok(Command::LogDestination { handle })
}

/// Reads `-⇥PATH`.
fn socket_create(mut fields: Fields<'_>) -> Result<Command, Problem> {
    words::socket_options(&fields.required("list of options")?)?;
    let path = words::socket_path(&fields.required("path")?)?;
    alone(fields, Command::SocketCreate { path })
}

/// Reads `SIGNAL⇥COUNT`.
fn signal_clear(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let signal = fields.signal()?;
    let count = fields.number("count", u64::MAX)?;
    alone(fields, Command::SignalClear { signal, count })
}

/// Reads `NAME⇥FLAGS⇥PATH`.
fn handle_open(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = handle_name(&mut fields)?;
    let flags = words::open_flags(&flags(&mut fields)?)?;
    let path = words::path(&fields.required("path")?)?;
    alone(fields, Command::HandleOpen { name, flags, path })
}

/// Reads `READ⇥WRITE[⇥FLAGS]`. Two ends cannot have one name.
fn handle_pipe(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let (read, write) = (handle_name(&mut fields)?, handle_name(&mut fields)?);
    words::different_ends(&read, &write)?;
    let spec = words::pipe_spec(&fields.next().unwrap_or_default())?;
    alone(fields, Command::HandlePipe { read, write, spec })
}

/// Reads `NAME⇥FLAGS[⇥ADDRESS]`.
fn handle_socket(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = handle_name(&mut fields)?;
    let flags = flags(&mut fields)?;
    let spec = words::socket_spec(&flags, fields.next().as_deref())?;
    alone(fields, Command::HandleSocket { name, spec })
}

fn service_args(mut fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::ServiceArgs { name: fields.name()?, arguments: setter::read_arguments(fields)? })
}

fn service_tags(mut fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::ServiceTags { name: fields.name()?, tags: fields.rest() })
}

fn service_set(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    Ok(Command::ServiceSet { name, attributes: attribute::decode_attributes(fields)?.into() })
}

fn service_env(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    Ok(Command::ServiceEnv { name, environment: attribute::decode_environment(fields)? })
}

fn service_log(mut fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::ServiceLog { name: fields.name()?, log: attribute::decode_log_target(fields)? })
}

/// Reads `NAME[⇥HANDLE…]`; without a field behind the name the list is empty.
fn service_fds(mut fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::ServiceFds { name: fields.name()?, slots: setter::read_slots(fields)? })
}

/// Reads `NAME⇥SECONDS|-[⇥TRIGGER…]`.
fn service_auto_up(mut fields: Fields<'_>) -> Result<Command, Problem> {
    Ok(Command::ServiceAutoUp {
        name: fields.name()?,
        seconds: words::interval(&fields.required("interval")?)?,
        triggers: words::triggers(fields.rest())?,
    })
}

/// Reads `NAME⇥KEY⇥VALUE`.
fn service_note(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let (key, value) = setter::read_note(&mut fields)?;
    alone(fields, Command::ServiceNote { name, key, value })
}

/// Reads `NAME[⇥GEN|-[⇥AT_NS]]`.
fn service_start(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = fields.next().map_or(Ok(None), |field| generation_or_any(&field))?;
    let at = fields.next().map(|field| decimal(&field, "time", u64::MAX)).transpose()?;
    let at = at.map(Instant::from_nanos);
    alone(fields, Command::ServiceStart { name, expected, at })
}

/// Reads a generation, or `-` for whatever it is.
fn generation_or_any(field: &[u8]) -> Result<Option<Generation>, Problem> {
    match field {
        b"-" => Ok(None),
        field => decimal(field, "generation", u64::MAX).map(|number| Some(Generation::new(number))),
    }
}

/// Reads `NAME⇥GEN[⇥SIGNAL⇥TIMEOUT_MS]`.
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

fn service_ack(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let generation = fields.generation()?;
    alone(fields, Command::ServiceAck { name, generation })
}

/// Reads `NAME⇥GEN⇥any|failure⇥OKLIST⇥DELAY_MS…`.
fn service_lease(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = fields.generation()?;
    let lease = setter::read_lease(fields)?;
    Ok(Command::ServiceLease { name, expected, lease })
}

/// Reads `NAME⇥GEN|-⇥SIGNAL⇥main|all|group`; `-` means whatever generation runs.
fn service_signal(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let expected = generation_or_any(&fields.required("generation")?)?;
    let signal = words::signal_number(&fields.required("signal")?)?;
    let scope = match &*fields.required("scope")? {
        b"main" => Scope::Main,
        b"all" => Scope::All,
        b"group" => Scope::ProcessGroup,
        other => {
            let other = quoted(other);
            let expected = "\"main\", \"all\" or \"group\" is expected";
            return Err(Problem::new(format!("{expected}, not {other}")));
        }
    };
    alone(fields, Command::ServiceSignal { name, expected, signal, scope })
}

/// Reads `NAME⇥DEADLINE_MS⇥ARG…`.
fn service_exec(mut fields: Fields<'_>) -> Result<Command, Problem> {
    let name = fields.name()?;
    let deadline_ms = fields.number("deadline", u64::MAX)?;
    if deadline_ms == 0 {
        return Err(Problem::new("the deadline is less than 1"));
    }
    let arguments = setter::read_arguments(fields)?;
    if arguments.is_empty() {
        return Err(missing("program"));
    }
    Ok(Command::ServiceExec { name, deadline: Duration::from_millis(deadline_ms), arguments })
}
