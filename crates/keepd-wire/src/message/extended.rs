//! The extended forms, in both directions.

use keepd_model::protocol::{
    EXEC_OUTPUT_BYTES_MAX, Event, Fail, FailKind, Message, NOTIFY_BYTES_MAX, Reply, RequestId,
    RunEnd, RunReport, RunState, Stream,
};
use keepd_model::{Errno, Exit, HandleReport, Instant, SpawnFailure, SpawnStep};

use crate::attribute;
use crate::field::{
    Escapes, Fields, LineWriter, Problem, decimal_u32, pid, quoted, signal, signal_word,
};
use crate::{setter, words};

/// The largest error number; the kernel has none beyond 4095.
const ERRNO_MAX: u32 = i32::MAX as u32;

/// Appends a message.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::ProtoAccepted { version, features } => {
            write_proto_accepted(*version, features, out);
        }
        Message::Event(event) => encode_event(event, out),
        Message::Reply(id, reply) => encode_reply(*id, reply, out),
        Message::Text(text) => setter::write_echo(text, out),
        Message::Error(text) => LineWriter::new("error", out).field(text.as_bytes()).end(),
    }
}

/// Appends `proto⇥keepd⇥VERSION⇥FEATURE…`, which is the same in both modes.
pub(super) fn write_proto_accepted(version: u32, features: &[String], out: &mut Vec<u8>) {
    let mut line = LineWriter::new("proto", out).word("keepd").word(version);
    for feature in features {
        line = line.field(feature.as_bytes());
    }
    line.end();
}

fn encode_event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Run(report) => encode_run(report, out),
        Event::Invocation { name, generation, id } => LineWriter::new("service.invocation", out)
            .word(name)
            .word(generation)
            .word(format_args!("{id:032x}"))
            .end(),
        Event::Notify { name, generation, pid, text } => LineWriter::new("service.notify", out)
            .word(name)
            .word(generation)
            .word(pid)
            .field(text)
            .end(),
        Event::Output { name, stream, offset } => {
            LineWriter::new("service.output", out)
                .word(name)
                .word(stream.word())
                .word(offset)
                .end();
        }
        Event::OutputBlocked { name, errno } => LineWriter::new("service.output_blocked", out)
            .word(name)
            .word(errno.map_or(0, |errno| errno.0))
            .end(),
        Event::Args(name, arguments) => setter::write_args(name, arguments, out),
        Event::Tags(name, tags) => setter::write_tags(name, tags, out),
        Event::Set(name, attributes) => setter::write_set(name, attributes, out),
        Event::Env(name, environment) => setter::write_env(name, environment, out),
        Event::Log(name, log) => setter::write_log(name, log, out),
        Event::AutoUp(name, seconds, triggers) => {
            let seconds = (!triggers.is_empty()).then_some(*seconds);
            setter::write_auto_up(name, seconds, triggers, out);
        }
        Event::Fds(name, slots) => setter::write_fds(name, slots, out),
        Event::Handle(report) => words::write_report(report, out),
        Event::HandleDeleted(name) => {
            LineWriter::new("fd.state", out).word(name).word("deleted").end();
        }
        Event::LogFilter(level) => LineWriter::new("log.filter", out).word(level).end(),
        Event::Note(name, key, value) => setter::write_note(name, key, value, out),
        Event::Deleted(name) => LineWriter::new("service.deleted", out).word(name).end(),
        Event::Signal { signal, at, count } => LineWriter::new("signal", out)
            .word(signal_word(*signal))
            .word(at.as_nanos())
            .word(count)
            .end(),
        Event::DumpEnd { sequence } => LineWriter::new("dump.end", out).word(sequence).end(),
    }
}

fn encode_run(report: &RunReport, out: &mut Vec<u8>) {
    let line = LineWriter::new("service.run", out)
        .word(&report.name)
        .word(report.generation)
        .word(report.state.word())
        .word(report.at.as_nanos())
        .word_or_unset(report.pid);
    match report.ended {
        None => line.word("-").word("-"),
        Some(RunEnd::Exit(exit)) => write_exit(exit, line),
        Some(RunEnd::Failed(SpawnFailure { step, errno })) => {
            line.word("failed").word(format_args!("{}:{}", step.word(), errno.0))
        }
    }
    .end();
}

/// Adds `HOW⇥VALUE`.
fn write_exit(exit: Exit, line: LineWriter<'_>) -> LineWriter<'_> {
    match exit {
        Exit::Code(code) => line.word("exit").word(code),
        Exit::Signal { signal, core } => {
            line.word(if core { "core" } else { "signal" }).word(signal_word(signal))
        }
        Exit::Unknown => line.word("unknown").word("-"),
    }
}

fn encode_reply(RequestId(id): RequestId, reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => LineWriter::new("ok", out).word(id).end(),
        Reply::Exec { exit, output } => {
            write_exit(*exit, LineWriter::new("ok", out).word(id)).field(output).end();
        }
        Reply::Fail(Fail { kind, spawn, text }) => LineWriter::new("fail", out)
            .word(id)
            .word(kind.word())
            .word_or_unset(spawn.map(|spawn| spawn.step.word()))
            .word_or_unset(spawn.map(|spawn| spawn.errno.0))
            .field(text.as_bytes())
            .end(),
    }
}

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
            Ok(Message::Event(Event::Set(name, attributes)))
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
        b"service.deleted" => |mut fields| {
            let name = fields.name()?;
            event(fields, Event::Deleted(name))
        },
        _ => return Ok(None),
    };
    let mut fields = Fields::split(line, Escapes::Backslash)?;
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
        (b"failed", value) => Some(RunEnd::Failed(step_and_errno(value)?)),
        (how, value) => Some(RunEnd::Exit(read_exit(how, value)?)),
    };
    let report =
        RunReport { name, generation, state, at, pid, ended, started: None, ended_at: None };
    event(fields, Event::Run(report))
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
    let interval = fields.required("interval")?;
    if &*interval == b"-" {
        return event(fields, Event::AutoUp(name, 0, Vec::new()));
    }
    let seconds = decimal_u32(&interval, "interval", u32::MAX)?;
    let triggers = fields.rest();
    if triggers.is_empty() {
        return Err(Problem::new("the trigger is missing"));
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
