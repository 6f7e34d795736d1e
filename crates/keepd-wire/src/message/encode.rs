//! Writing a message.

use keepd_model::protocol::{Event, Fail, Message, Reply, RequestId, RunEnd, RunReport};
use keepd_model::{Exit, HandleReport, SpawnFailure};

use crate::field::{LineWriter, signal_word};
use crate::{setter, words};

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

/// Appends `proto⇥keepd⇥VERSION⇥FEATURE…`.
fn write_proto_accepted(version: u32, features: &[String], out: &mut Vec<u8>) {
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
        Event::Handle(HandleReport { name, kind, description }) => LineWriter::new("fd.state", out)
            .word(name)
            .word(words::handle_type(kind))
            .word(words::handle_flags(kind))
            .field(description)
            .end(),
        Event::HandleDeleted(name) => {
            LineWriter::new("fd.state", out).word(name).word("deleted").end();
        }
        Event::LogFilter(level) => LineWriter::new("log.filter", out).word(level).end(),
        Event::Note(name, key, value) => setter::write_note(name, key, value, out),
        Event::Lease(name, generation, lease) => {
            setter::write_lease(name, *generation, lease, out);
        }
        Event::Ended { name, generation, at, end } => {
            let line = LineWriter::new("service.ended", out)
                .word(name)
                .word(generation)
                .word(at.map_or(0, keepd_model::Instant::as_nanos));
            write_end(*end, line).end();
        }
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
        Some(end) => write_end(end, line),
    }
    .end();
}

/// Adds `HOW⇥VALUE` of a generation.
fn write_end(end: RunEnd, line: LineWriter<'_>) -> LineWriter<'_> {
    match end {
        RunEnd::Exit(exit) => write_exit(exit, line),
        RunEnd::Failed(SpawnFailure { step, errno }) => {
            line.word("failed").word(format_args!("{}:{}", step.word(), errno.0))
        }
        RunEnd::Cancelled => line.word("cancelled").word("-"),
    }
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
