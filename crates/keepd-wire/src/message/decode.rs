//! Reading a message.

use keepd_model::protocol::{
    EXEC_OUTPUT_BYTES_MAX, Event, Fail, FailKind, Message, NOTIFY_BYTES_MAX, Reply, RequestId,
    RunEnd, RunReport, RunState, Stream,
};
use keepd_model::{Errno, Exit, HandleReport, Instant, SpawnFailure, SpawnStep};

use crate::attribute;
use crate::field::{Fields, Problem, decimal_u32, missing, pid, quoted, signal};
use crate::{setter, words};

/// The largest error number; the kernel has none beyond 4095.
const ERRNO_MAX: u32 = i32::MAX as u32;

/// Reads a message. The name decides first, so whatever a later version writes behind a name of its
/// own is skipped without being looked at.
pub(super) fn decode(line: &[u8]) -> Result<Option<Message>, Problem> {
    let name = line.split(|byte| *byte == b'\t').next().unwrap_or_default();
    let read: fn(Fields<'_>) -> Result<Message, Problem> = match name {
        b"proto" => proto_accepted,
        b"echo" => |fields| Ok(Message::Text(fields.rest().join(&b'\t'))),
        b"error" => plain_error,
        b"ok" => ok,
        b"fail" => fail,
        b"signal" => signal_event,
        b"dump.end" => dump_end,
        b"service.run" => run,
        b"service.invocation" => invocation,
        b"service.notify" => notify,
        b"service.output" => output,
        b"service.output_blocked" => output_blocked,
        b"service.args" => |mut fields| {
            let (name, arguments) = (fields.name()?, setter::read_arguments(fields)?);
            Ok(Message::Event(Event::Args(name, arguments)))
        },
        b"service.tags" => |mut fields| {
            let (name, tags) = (fields.name()?, fields.rest());
            Ok(Message::Event(Event::Tags(name, tags)))
        },
        b"service.set" => |mut fields| {
            let (name, attributes) = (fields.name()?, attribute::decode_attributes(fields)?);
            Ok(Message::Event(Event::Set(name, attributes.into())))
        },
        b"service.env" => |mut fields| {
            let (name, environment) = (fields.name()?, attribute::decode_environment(fields)?);
            Ok(Message::Event(Event::Env(name, environment)))
        },
        b"service.log" => |mut fields| {
            let (name, log) = (fields.name()?, attribute::decode_log_target(fields)?);
            Ok(Message::Event(Event::Log(name, log)))
        },
        b"service.auto_up" => auto_up,
        b"service.fds" => |mut fields| {
            let name = fields.name()?;
            let slots = setter::read_slots(fields)?;
            Ok(Message::Event(Event::Fds(name, slots)))
        },
        b"fd.state" => handle_state,
        b"log.filter" => |mut fields| {
            let level = words::log_level(&fields.required("level")?)?;
            event(fields, Event::LogFilter(level))
        },
        b"service.note" => |mut fields| {
            let (name, (key, value)) = (fields.name()?, setter::read_note(&mut fields)?);
            event(fields, Event::Note(name, key, value))
        },
        b"service.lease" => |mut fields| {
            let (name, generation) = (fields.name()?, fields.generation()?);
            let lease = setter::read_lease(fields)?;
            Ok(Message::Event(Event::Lease(name, generation, lease)))
        },
        b"service.ended" => ended,
        b"service.deleted" => |mut fields| {
            let name = fields.name()?;
            event(fields, Event::Deleted(name))
        },
        _ => return Ok(None),
    };
    let mut fields = Fields::split(line)?;
    fields.required("name")?;
    read(fields).map(Some)
}

/// Returns the event if no field is left.
fn event(fields: Fields<'_>, event: Event) -> Result<Message, Problem> {
    fields.end().map(|()| Message::Event(event))
}

fn proto_accepted(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let protocol = fields.required("protocol")?;
    if &*protocol != b"keepd" {
        return Err(Problem::new(format!("there is no such protocol: {}", quoted(&protocol))));
    }
    let version = decimal_u32(&fields.required("version")?, "version", u32::MAX)?;
    let features = fields.rest();
    let features =
        features.iter().map(|feature| String::from_utf8_lossy(feature).into_owned()).collect();
    Ok(Message::ProtoAccepted { version, features })
}

fn plain_error(fields: Fields<'_>) -> Result<Message, Problem> {
    let text = fields.rest().join(&b'\t');
    Ok(Message::Error(String::from_utf8_lossy(&text).into_owned()))
}

fn request_id(fields: &mut Fields<'_>) -> Result<RequestId, Problem> {
    fields.number("number", u64::MAX).map(RequestId)
}

fn ok(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let id = request_id(&mut fields)?;
    let Some(how) = fields.next() else {
        return Ok(Message::Reply(id, Reply::Ok));
    };
    let exit = read_exit(&how, &fields.required("value")?)?;
    let output = fields.required("output")?.into_owned();
    if output.len() > EXEC_OUTPUT_BYTES_MAX {
        return Err(Problem::new(format!("output has at most {EXEC_OUTPUT_BYTES_MAX} bytes")));
    }
    fields.end()?;
    Ok(Message::Reply(id, Reply::Exec { exit, output }))
}

/// Reads `ID⇥KIND⇥STEP⇥ERRNO⇥TEXT`. A kind that only a later version has counts as `system`: a
/// command must not stay without its answer because its failure has a new name.
fn fail(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let id = request_id(&mut fields)?;
    let kind = fields.required("kind")?;
    let kind = FailKind::ALL
        .into_iter()
        .find(|known| known.word().as_bytes() == &*kind)
        .unwrap_or(FailKind::System);
    let step = fields.required("step")?;
    let errno = fields.required("error number")?;
    let spawn = match (&*step, &*errno) {
        (b"-", b"-") => None,
        (step, errno) => Some(spawn_failure(step, errno)?),
    };
    let text = fields.required("text")?;
    let text = String::from_utf8_lossy(&text).into_owned();
    fields.end()?;
    Ok(Message::Reply(id, Reply::Fail(Fail { kind, spawn, text })))
}

fn spawn_failure(step: &[u8], errno: &[u8]) -> Result<SpawnFailure, Problem> {
    let step = SpawnStep::ALL
        .into_iter()
        .find(|known| known.word().as_bytes() == step)
        .ok_or_else(|| Problem::new(format!("there is no step {}", quoted(step))))?;
    let errno = read_errno(errno)?;
    Ok(SpawnFailure { step, errno })
}

fn read_errno(field: &[u8]) -> Result<Errno, Problem> {
    let number = decimal_u32(field, "error number", ERRNO_MAX)?;
    Ok(Errno(i32::try_from(number).expect("the number is at most ERRNO_MAX")))
}

fn read_exit(how: &[u8], value: &[u8]) -> Result<Exit, Problem> {
    match how {
        b"exit" => {
            let code = decimal_u32(value, "exit code", u32::from(u8::MAX))?;
            let code = u8::try_from(code).expect("the number is at most 255");
            Ok(Exit::Code(code))
        }
        b"signal" | b"core" => Ok(Exit::Signal { signal: signal(value)?, core: how == b"core" }),
        b"unknown" if value == b"-" => Ok(Exit::Unknown),
        other => Err(Problem::new(format!("nothing ends as {} {}", quoted(other), quoted(value)))),
    }
}

fn run(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let generation = fields.generation()?;
    let state = fields.required("state")?;
    let state = RunState::ALL
        .into_iter()
        .find(|known| known.word().as_bytes() == &*state)
        .ok_or_else(|| Problem::new(format!("there is no state {}", quoted(&state))))?;
    let at = Instant::from_nanos(fields.number("time", u64::MAX)?);
    let pid = match &*fields.required("process id")? {
        b"-" => None,
        field => Some(pid(field)?),
    };
    let (how, value) = (fields.required("end")?, fields.required("value")?);
    let ended = match (&*how, &*value) {
        (b"-", b"-") => None,
        (how, value) => Some(read_end(how, value)?),
    };
    let report =
        RunReport { name, generation, state, at, pid, ended, started: None, ended_at: None };
    event(fields, Event::Run(report))
}

/// Reads `HOW⇥VALUE` of a generation.
fn read_end(how: &[u8], value: &[u8]) -> Result<RunEnd, Problem> {
    match (how, value) {
        (b"failed", value) => step_and_errno(value).map(RunEnd::Failed),
        (b"cancelled", b"-") => Ok(RunEnd::Cancelled),
        (how, value) => read_exit(how, value).map(RunEnd::Exit),
    }
}

fn ended(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let generation = fields.generation()?;
    let nanos = fields.number("time", u64::MAX)?;
    let at = (nanos != 0).then(|| Instant::from_nanos(nanos));
    let (how, value) = (fields.required("end")?, fields.required("value")?);
    let end = read_end(&how, &value)?;
    event(fields, Event::Ended { name, generation, at, end })
}

/// Reads `STEP:ERRNO`.
fn step_and_errno(value: &[u8]) -> Result<SpawnFailure, Problem> {
    let colon = value
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(|| Problem::new(format!("a step is missing in {}", quoted(value))))?;
    spawn_failure(&value[..colon], &value[colon + 1..])
}

fn invocation(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let generation = fields.generation()?;
    let digits = fields.required("invocation id")?;
    let id = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or_else(|| Problem::new("an invocation id has 32 hexadecimal digits"))?;
    event(fields, Event::Invocation { name, generation, id })
}

fn notify(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let generation = fields.generation()?;
    let pid = fields.pid()?;
    let text = fields.required("text")?.into_owned();
    if text.len() > NOTIFY_BYTES_MAX {
        return Err(Problem::new(format!("a notification has at most {NOTIFY_BYTES_MAX} bytes")));
    }
    event(fields, Event::Notify { name, generation, pid, text })
}

fn output(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let stream = match &*fields.required("stream")? {
        b"out" => Stream::Out,
        b"err" => Stream::Err,
        other => {
            return Err(Problem::new(format!("there is no stream {}", quoted(other))));
        }
    };
    let offset = fields.number("offset", u64::MAX)?;
    event(fields, Event::Output { name, stream, offset })
}

fn output_blocked(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let errno = read_errno(&fields.required("error number")?)?;
    let errno = (errno != Errno(0)).then_some(errno);
    event(fields, Event::OutputBlocked { name, errno })
}

/// Reads `SECONDS⇥TRIGGER…` or `-`.
fn auto_up(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = fields.name()?;
    let Some(seconds) = words::interval(&fields.required("interval")?)? else {
        return event(fields, Event::AutoUp(name, 0, Vec::new()));
    };
    let triggers = words::triggers(fields.rest())?.words;
    if triggers.is_empty() {
        return Err(missing("trigger"));
    }
    Ok(Message::Event(Event::AutoUp(name, seconds, triggers)))
}

fn handle_state(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let name = words::handle_name(&fields.required("handle name")?)?;
    let kind = fields.required("type")?;
    if &*kind == b"deleted" {
        return event(fields, Event::HandleDeleted(name));
    }
    let kind = words::handle_kind(&kind, &fields.required("flags")?)?;
    let description = fields.required("description")?.into_owned();
    event(fields, Event::Handle(HandleReport { name, kind, description }))
}

fn signal_event(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let signal = fields.signal()?;
    let at = Instant::from_nanos(fields.number("time", u64::MAX)?);
    let count = fields.number("count", u64::MAX)?;
    event(fields, Event::Signal { signal, at, count })
}

fn dump_end(mut fields: Fields<'_>) -> Result<Message, Problem> {
    let sequence = fields.number("number of the dump", u64::MAX)?;
    event(fields, Event::DumpEnd { sequence })
}
