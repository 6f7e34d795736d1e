//! Writing a command, without its number.

use keepd_model::protocol::{Command, FilterChange, Scope, SignalNumber};
use keepd_model::{Generation, HandleKind, HandleName, Instant, PipeSpec, ServiceName, SocketSpec};

use crate::field::{LineWriter, milliseconds, signal_word};
use crate::{setter, words};

/// Appends a command as a line.
///
/// `proto` and `conn.event_timeout` are written too, although an extended connection refuses them:
/// a plain one reads them, and there they look the same.
pub(super) fn encode(command: &Command, out: &mut Vec<u8>) {
    match command {
        Command::Echo { text } => setter::write_echo(text, out),
        Command::ServiceArgs { name, arguments } => setter::write_args(name, arguments, out),
        Command::ServiceTags { name, tags } => setter::write_tags(name, tags, out),
        Command::ServiceSet { name, attributes } => setter::write_set(name, attributes, out),
        Command::ServiceEnv { name, environment } => setter::write_env(name, environment, out),
        Command::ServiceLog { name, log } => setter::write_log(name, log, out),
        Command::ServiceFds { name, slots } => setter::write_fds(name, slots, out),
        Command::ServiceAutoUp { name, seconds, triggers } => {
            setter::write_auto_up(name, *seconds, &triggers.words, out);
        }
        Command::ServiceNote { name, key, value } => setter::write_note(name, key, value, out),
        Command::Proto { version } => line("proto", out).word("keepd").word(version).end(),
        Command::StateDump => line("statedump", out).end(),
        Command::WatchLogs { on } => line("conn.log", out).word(on_or_off(*on)).end(),
        Command::WatchStarts { on } => line("conn.start", out).word(on_or_off(*on)).end(),
        Command::EventTimeout { reset, close } => {
            line("conn.event_timeout", out).word(reset.as_secs()).word(close.as_secs()).end();
        }
        Command::Exit => line("exit", out).end(),
        Command::Terminate { code, guard } => {
            line("terminate", out).word(code).optional_word(*guard).end();
        }
        Command::TerminateGuard { set, code } => {
            line("terminate.guard", out).word(if *set { "+" } else { "-" }).word(code).end();
        }
        Command::TerminateExec { arguments } => {
            line("terminate.exec_args", out).list(arguments).end();
        }
        Command::Chdir { path } => line("chdir", out).field(path).end(),
        Command::LogFilter { change } => {
            line("log.filter", out).optional_word(filter_word(*change)).end();
        }
        Command::LogDestination { handle } => line("log.dest", out).word("fd").word(handle).end(),
        Command::SocketCreate { path } => line("socket.create", out).word("-").field(path).end(),
        Command::SocketDelete => line("socket.delete", out).end(),
        Command::SignalClear { signal, count } => {
            line("signal.clear", out).word(signal_word(*signal)).word(count).end();
        }
        Command::HandleOpen { name, flags, path } => {
            let flags = words::handle_flags(&HandleKind::File(*flags));
            line("fd.open", out).word(name).word(flags).field(path).end();
        }
        Command::HandlePipe { read, write, spec } => handle_pipe(read, write, *spec, out),
        Command::HandleSocket { name, spec } => handle_socket(name, spec, out),
        Command::HandleTake { name } => line("fd.take", out).word(name).end(),
        Command::HandleDelete { name } => line("fd.delete", out).word(name).end(),
        Command::ServiceStart { name, expected, at } => {
            service_start(name, *expected, *at, out);
        }
        Command::ServiceCancel { name } => line("service.cancel", out).word(name).end(),
        Command::ServiceStop { name, expected, other } => {
            let line = line("service.stop", out).word(name).word(expected);
            match other {
                Some((signal, timeout)) => {
                    line.word(signal_word(*signal)).word(milliseconds(*timeout)).end();
                }
                None => line.end(),
            }
        }
        Command::ServiceSignal { name, expected, signal, scope } => {
            let line = line("service.signal", out).word(name).word_or_unset(*expected);
            line.word(number_word(*signal)).word(scope_word(*scope)).end();
        }
        Command::ServiceExec { name, deadline, arguments } => {
            let line = line("service.exec", out).word(name).word(milliseconds(*deadline));
            line.list(arguments).end();
        }
        Command::ServiceDelete { name } => line("service.delete", out).word(name).end(),
        Command::ServiceAck { name, generation } => {
            line("service.ack", out).word(name).word(generation).end();
        }
        Command::ServiceLease { name, expected, lease } => {
            setter::write_lease(name, *expected, lease, out);
        }
    }
}

fn line<'out>(name: &str, out: &'out mut Vec<u8>) -> LineWriter<'out> {
    LineWriter::new(name, out)
}

/// Appends `fd.pipe⇥READ⇥WRITE[⇥FLAGS]`.
fn handle_pipe(read: &HandleName, write: &HandleName, spec: PipeSpec, out: &mut Vec<u8>) {
    let flags = Some(words::pipe_flags(spec)).filter(|flags| !flags.is_empty());
    line("fd.pipe", out).word(read).word(write).optional_word(flags).end();
}

/// Appends `fd.socket⇥NAME⇥FLAGS[⇥ADDRESS]`.
fn handle_socket(name: &HandleName, spec: &SocketSpec, out: &mut Vec<u8>) {
    let line = line("fd.socket", out).word(name).word(words::socket_flags(spec));
    match spec.bind {
        Some(_) => line.field(&spec.address_text).end(),
        None => line.end(),
    }
}

/// Appends `service.start⇥NAME[⇥GEN|-[⇥AT_NS]]`: a time has its place only behind a generation.
fn service_start(
    name: &ServiceName,
    expected: Option<Generation>,
    at: Option<Instant>,
    out: &mut Vec<u8>,
) {
    let line = line("service.start", out).word(name);
    match at {
        Some(at) => line.word_or_unset(expected).word(at.as_nanos()).end(),
        None => line.optional_word(expected).end(),
    }
}

const fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

const fn filter_word(change: FilterChange) -> Option<&'static str> {
    match change {
        FilterChange::Show => None,
        FilterChange::Less => Some("+"),
        FilterChange::More => Some("-"),
        FilterChange::To(level) => Some(level.word()),
    }
}

const fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Main => "main",
        Scope::All => "all",
        Scope::ProcessGroup => "group",
    }
}

/// Returns a signal as kill(2) takes it: by name where it has one.
fn number_word(number: SignalNumber) -> String {
    number.signal().map_or_else(|| number.0.to_string(), signal_word)
}
