//! daemonproxy's lines, made from the same events. Fields are never added to them: clients match to
//! the end of the line.

use std::time::Duration;

use keepd_model::protocol::{Event, Message, Reply, RunEnd, RunReport, RunState};
use keepd_model::{Exit, Instant, ServiceName, Signal};

use super::extended;
use crate::field::LineWriter;
use crate::setter;

/// What the original's child exits with when it cannot execute its program.
const EXEC_FAILURE_CODE: u8 = 3;

/// Appends the plain form of a message, or nothing if it has none.
pub(super) fn encode(message: &Message, now: Instant, out: &mut Vec<u8>) {
    match message {
        Message::ProtoAccepted { version, features } => {
            extended::write_proto_accepted(*version, features, out);
        }
        Message::Event(event) => encode_event(event, now, out),
        Message::Text(text) if text.is_empty() => {}
        Message::Text(text) => {
            // The text came from a line, so it has no line feed; one would forge a second line.
            out.extend(text.iter().copied().filter(|byte| *byte != b'\n'));
            out.push(b'\n');
        }
        Message::PlainError(text) => {
            let text = text.replace('\n', " ");
            LineWriter::new("error", out).raw(text.as_bytes()).end();
        }
        Message::Overflow => LineWriter::new("overflow", out).end(),
        // Plain connections have no numbers, so nobody waits for these.
        Message::Reply(_, Reply::Ok | Reply::Exec { .. } | Reply::Fail(_)) => {}
    }
}

fn encode_event(event: &Event, now: Instant, out: &mut Vec<u8>) {
    match event {
        Event::Run(report) if is_shown(&report.name) => encode_run(report, now, out),
        Event::Args(name, arguments) if is_shown(name) => {
            write_list("service.args", name, arguments, out);
        }
        Event::Tags(name, tags) if is_shown(name) => write_list("service.tags", name, tags, out),
        Event::AutoUp(name, seconds) if is_shown(name) => {
            setter::write_auto_up(name, *seconds, seconds.is_some(), out);
        }
        Event::Deleted(name) if is_shown(name) => {
            State::unset(name, "deleted").write(out);
        }
        Event::Signal { signal, at, count } => LineWriter::new("signal", out)
            .word(signal_name(*signal))
            .word(seconds(*at))
            .word(count)
            .end(),
        // Names outside the old grammar, and everything that only keepd has.
        Event::Run(_)
        | Event::Args(..)
        | Event::Tags(..)
        | Event::AutoUp(..)
        | Event::Deleted(_)
        | Event::Invocation { .. }
        | Event::Notify { .. }
        | Event::Output { .. }
        | Event::OutputBlocked { .. }
        | Event::Set(..)
        | Event::Env(..)
        | Event::Log(..)
        | Event::Note(..)
        | Event::DumpEnd { .. } => {}
    }
}

/// Reports whether the name is one of the old grammar (31 bytes, no `@`).
fn is_shown(name: &ServiceName) -> bool {
    name.instance().is_none()
}

/// Appends a list. One that holds a tab or line feed cannot be said without escapes: it is left
/// out, as a client that reads it back would take it for something else.
fn write_list(event_name: &str, name: &ServiceName, list: &[Vec<u8>], out: &mut Vec<u8>) {
    let inexpressible = |field: &Vec<u8>| field.iter().any(|byte| matches!(byte, b'\t' | b'\n'));
    if list.iter().any(inexpressible) {
        return;
    }
    let mut line = LineWriter::new(event_name, out).word(name);
    if list.is_empty() {
        line = line.raw(b"");
    }
    for field in list {
        line = line.raw(field);
    }
    line.end();
}

fn encode_run(report: &RunReport, now: Instant, out: &mut Vec<u8>) {
    match report.state {
        RunState::Pending => {
            State { at: Some(report.at), ..State::unset(&report.name, "start") }.write(out);
        }
        RunState::Forked => up(report, now).write(out),
        // The original knows one state from clone to reap: `up` was said at the clone.
        RunState::Up | RunState::Stopping | RunState::Emptying | RunState::Stuck => {}
        RunState::Down => down(report, now).write(out),
    }
}

fn up(report: &RunReport, now: Instant) -> State<'_> {
    let started = report.started.unwrap_or(report.at);
    State {
        at: Some(started),
        pid: report.pid.map(|pid| pid.get()),
        uptime: Some(now.saturating_since(started)),
        ..State::unset(&report.name, "up")
    }
}

fn down(report: &RunReport, now: Instant) -> State<'_> {
    let unset = State::unset(&report.name, "down");
    // Without a process there was no `up`: the clone itself failed.
    let (Some(ended), Some(pid)) = (report.ended, report.pid) else {
        return unset;
    };
    let ended_at = report.ended_at.unwrap_or(report.at);
    let (reason, value) = match ended {
        RunEnd::Exit(Exit::Signal { signal, core: _ }) => ("signal", signal_name(signal)),
        RunEnd::Exit(exit @ (Exit::Code(_) | Exit::Unknown)) => {
            ("exit", exit.shell_status().to_string())
        }
        RunEnd::Failed(_) => ("exit", EXEC_FAILURE_CODE.to_string()),
    };
    State {
        at: Some(ended_at),
        pid: Some(pid.get()),
        reason: Some((reason, value)),
        uptime: report.started.map(|started| ended_at.saturating_since(started)),
        downtime: Some(now.saturating_since(ended_at)),
        ..unset
    }
}

/// The fields of `service.state⇥NAME⇥STATE⇥TS⇥PID⇥REASON⇥VALUE⇥UPTIME⇥DOWNTIME`.
struct State<'report> {
    name: &'report ServiceName,
    state: &'static str,
    at: Option<Instant>,
    pid: Option<u32>,
    reason: Option<(&'static str, String)>,
    uptime: Option<Duration>,
    downtime: Option<Duration>,
}

impl<'report> State<'report> {
    const fn unset(name: &'report ServiceName, state: &'static str) -> Self {
        Self { name, state, at: None, pid: None, reason: None, uptime: None, downtime: None }
    }

    fn write(self, out: &mut Vec<u8>) {
        let (reason, value) = self.reason.unzip();
        LineWriter::new("service.state", out)
            .word(self.name)
            .word(self.state)
            .word_or_unset(self.at.map(seconds))
            .word_or_unset(self.pid)
            .word_or_unset(reason)
            .word_or_unset(value)
            .word_or_unset(self.uptime.map(|time| time.as_secs()))
            .word_or_unset(self.downtime.map(|time| time.as_secs()))
            .end();
    }
}

/// Whole seconds, cut off.
fn seconds(at: Instant) -> u64 {
    at.saturating_since(Instant::ZERO).as_secs()
}

/// Always with `SIG`; the original writes `SIG-?` where there is no name.
fn signal_name(signal: Signal) -> String {
    match signal.name() {
        Some(name) => format!("SIG{name}"),
        None => "SIG-?".to_owned(),
    }
}
