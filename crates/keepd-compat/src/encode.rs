//! daemonproxy's lines, made from the core's events and from what can be looked at. Fields are
//! never added to them: clients match to the end of the line.
//!
//! Every function appends one line, line feed included, or nothing: names that the old grammar does
//! not have, values with a tab or line feed, and lines beyond [`LINE_BYTES_MAX`] cannot be said.

use std::time::Duration;

use keepd_engine::proxy::ServiceDetails;
use keepd_model::protocol::{Event, RunEnd, RunReport, RunState};
use keepd_model::{Exit, HandleName, HandleReport, Instant, Pid, ServiceName, Signal, SpawnStep};
use keepd_wire::words;

use crate::decode::NAME_BYTES_MAX;

/// The longest line, line feed included. No command of a plain connection leads to a longer one;
/// what extended connections set may, and must not cost every client its buffer.
pub(crate) const LINE_BYTES_MAX: usize = 4096;
/// What the original's child exits with when it cannot execute its program.
const EXEC_FAILURE_CODE: u8 = 3;
/// What a descriptor list is before it was ever set.
const FDS_UNSET: [&[u8]; 3] = [b"null"; 3];
/// The end of a description that was cut.
const CUT: &[u8] = b"...";

/// One line that is being written.
struct LineWriter<'out> {
    out: &'out mut Vec<u8>,
    start: usize,
    /// No field held what would end it too early.
    is_sayable: bool,
}

impl<'out> LineWriter<'out> {
    fn new(event: &str, out: &'out mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(event.as_bytes());
        Self { out, start, is_sayable: true }
    }

    /// Adds a field that cannot hold a tab or line feed: a word, or a name.
    fn word(self, word: &str) -> Self {
        self.out.push(b'\t');
        self.out.extend_from_slice(word.as_bytes());
        self
    }

    fn number(self, number: u64) -> Self {
        self.out.push(b'\t');
        push_decimal(number, self.out);
        self
    }

    fn unset(self) -> Self {
        self.word("-")
    }

    fn number_or_unset(self, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.number(number),
            None => self.unset(),
        }
    }

    /// Always with `SIG`; the original has `SIG-?` where there is no name.
    fn signal(self, signal: Signal) -> Self {
        let line = self.word("SIG");
        line.out.extend_from_slice(signal.name().unwrap_or("-?").as_bytes());
        line
    }

    /// Adds a field of any bytes, as they are.
    fn field(mut self, field: &[u8]) -> Self {
        self.is_sayable &= !field.iter().any(|byte| matches!(byte, b'\t' | b'\n'));
        self.out.push(b'\t');
        self.out.extend_from_slice(field);
        self
    }

    /// Adds a list; an empty one is an empty field.
    fn list<'field>(mut self, list: impl IntoIterator<Item = &'field [u8]>) -> Self {
        let before = self.out.len();
        for field in list {
            self = self.field(field);
        }
        if self.out.len() == before {
            self.out.push(b'\t');
        }
        self
    }

    /// Ends the line, or takes it back.
    fn end(self) {
        self.out.push(b'\n');
        if !self.is_sayable || self.out.len() - self.start > LINE_BYTES_MAX {
            self.out.truncate(self.start);
        }
    }
}

fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(rest % 10).expect("a remainder of 10 is a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// Whole seconds, cut off.
const fn seconds(at: Instant) -> u64 {
    at.saturating_since(Instant::ZERO).as_secs()
}

/// Reports whether the old grammar has this name, and it is not one of keepd's own.
fn is_shown(name: &ServiceName) -> bool {
    name.instance().is_none() && !name.is_internal() && name.as_str().len() <= NAME_BYTES_MAX
}

fn is_handle_shown(name: &HandleName) -> bool {
    name.as_str().len() <= NAME_BYTES_MAX
}

/// Appends the line of an event, if it is one of the original's. A description of a handle is cut
/// to `description_bytes_max`.
pub(crate) fn write_event(
    now: Instant,
    event: &Event,
    description_bytes_max: Option<usize>,
    out: &mut Vec<u8>,
) {
    match event {
        Event::Run(report) => write_change(now, report, out),
        Event::Args(name, arguments) => {
            write_list("service.args", name, arguments.iter().map(Vec::as_slice), out);
        }
        Event::Tags(name, tags) => {
            write_list("service.tags", name, tags.iter().map(Vec::as_slice), out);
        }
        Event::Fds(name, slots) => {
            let slot_words = slots.iter().map(|slot| words::fd_slot_word(slot).as_bytes());
            write_fds(name, Some(slot_words), out);
        }
        Event::AutoUp(name, interval, triggers) => {
            write_auto_up(name, *interval, triggers.iter().map(Vec::as_slice), out);
        }
        Event::Deleted(name) => State::unset(name, "deleted").write(out),
        Event::Handle(report) => write_handle(report, description_bytes_max, out),
        Event::HandleDeleted(name) if is_handle_shown(name) => {
            LineWriter::new("fd.state", out).word(name.as_str()).word("deleted").end();
        }
        Event::LogFilter(level) => LineWriter::new("log.filter", out).word(level.word()).end(),
        Event::Signal { signal, at, count } => write_signal(*signal, *at, *count, out),
        // Names outside the old grammar, and everything that only keepd has.
        Event::HandleDeleted(_)
        | Event::Invocation { .. }
        | Event::Notify { .. }
        | Event::Output { .. }
        | Event::OutputBlocked { .. }
        | Event::Set(..)
        | Event::Env(..)
        | Event::Log(..)
        | Event::Note(..)
        | Event::Lease(..)
        | Event::Ended { .. }
        | Event::DumpEnd { .. } => {}
    }
}

/// Appends `signal⇥SIGNAME⇥TS⇥COUNT`.
pub(crate) fn write_signal(signal: Signal, at: Instant, count: u64, out: &mut Vec<u8>) {
    LineWriter::new("signal", out).signal(signal).number(seconds(at)).number(count).end();
}

/// Appends the lines that a dump has for a service.
pub(crate) fn write_service(now: Instant, service: &ServiceDetails<'_>, out: &mut Vec<u8>) {
    let name = service.name();
    write_state(now, &service.report(), out);
    write_list("service.tags", name, service.tags(), out);
    write_list("service.args", name, service.arguments(), out);
    write_fds(name, service.fds(), out);
    let (interval, triggers) = service.auto_up();
    write_auto_up(name, interval, triggers, out);
}

fn write_list<'field>(
    event: &str,
    name: &ServiceName,
    list: impl IntoIterator<Item = &'field [u8]>,
    out: &mut Vec<u8>,
) {
    if is_shown(name) {
        LineWriter::new(event, out).word(name.as_str()).list(list).end();
    }
}

/// Appends a descriptor list by its words; `None` if it was never set.
fn write_fds<'word>(
    name: &ServiceName,
    slots: Option<impl Iterator<Item = &'word [u8]>>,
    out: &mut Vec<u8>,
) {
    let Some(mut slots) = slots else {
        return write_list("service.fds", name, FDS_UNSET, out);
    };
    let start = out.len();
    let mut is_sayable = true;
    let shown = slots.by_ref().inspect(|word| is_sayable &= word.len() <= NAME_BYTES_MAX);
    write_list("service.fds", name, shown, out);
    if !is_sayable {
        out.truncate(start);
    }
}

/// Appends `service.auto_up⇥NAME⇥SECS⇥TRIGGER…`, or `service.auto_up⇥NAME⇥-` without triggers.
fn write_auto_up<'word>(
    name: &ServiceName,
    interval: u32,
    triggers: impl Iterator<Item = &'word [u8]>,
    out: &mut Vec<u8>,
) {
    let mut triggers = triggers.peekable();
    if !is_shown(name) {
        return;
    }
    let line = LineWriter::new("service.auto_up", out).word(name.as_str());
    if triggers.peek().is_none() {
        line.unset().end();
    } else {
        line.number(interval.into()).list(triggers).end();
    }
}

/// Appends `fd.state⇥NAME⇥TYPE⇥FLAGS⇥DESCRIPTION`.
pub(crate) fn write_handle(
    report: &HandleReport,
    description_bytes_max: Option<usize>,
    out: &mut Vec<u8>,
) {
    if !is_handle_shown(&report.name) {
        return;
    }
    let line = LineWriter::new("fd.state", out)
        .word(report.name.as_str())
        .word(words::handle_type(&report.kind))
        .word(&words::handle_flags(&report.kind));
    match description_bytes_max {
        Some(most) if report.description.len() > most => {
            let line = line.field(&report.description[..most.saturating_sub(CUT.len())]);
            line.out.extend_from_slice(CUT);
            line.end();
        }
        Some(_) | None => line.field(&report.description).end(),
    }
}

/// Appends what a step in the life of a service is to a plain client. The original knows one state
/// from clone to reap: it was `up` when it was cloned, and stays so until it is down.
fn write_change(now: Instant, report: &RunReport, out: &mut Vec<u8>) {
    match report.state {
        RunState::Pending | RunState::Forked | RunState::Down => write_state(now, report, out),
        RunState::Up | RunState::Stopping | RunState::Emptying | RunState::Stuck => {}
    }
}

/// Appends the state of a service as a dump tells it: with any process it is `up`.
fn write_state(now: Instant, report: &RunReport, out: &mut Vec<u8>) {
    match report.state {
        RunState::Pending => {
            State { at: Some(report.at), ..State::unset(&report.name, "start") }.write(out);
        }
        RunState::Forked
        | RunState::Up
        | RunState::Stopping
        | RunState::Emptying
        | RunState::Stuck => up(now, report).write(out),
        RunState::Down => down(now, report).write(out),
    }
}

fn up(now: Instant, report: &RunReport) -> State<'_> {
    let started = report.started.unwrap_or(report.at);
    State {
        at: Some(started),
        pid: report.pid.map(|pid| pid.get()),
        uptime: Some(now.saturating_since(started)),
        ..State::unset(&report.name, "up")
    }
}

fn down(now: Instant, report: &RunReport) -> State<'_> {
    let unset = State::unset(&report.name, "down");
    let Some(ended) = report.ended.filter(|ended| had_process(*ended, report.pid)) else {
        return unset;
    };
    let ended_at = report.ended_at.unwrap_or(report.at);
    // Who knows an end from the ledger only knows nothing of its process and its time.
    let started = report.pid.and(report.started);
    let reason = match ended {
        RunEnd::Exit(Exit::Signal { signal, core: _ }) => Reason::Signal(signal),
        RunEnd::Exit(exit @ (Exit::Code(_) | Exit::Unknown)) => Reason::Exit(exit.shell_status()),
        RunEnd::Failed(_) => Reason::Exit(EXEC_FAILURE_CODE),
        // It never had a process.
        RunEnd::Cancelled => return unset,
    };
    State {
        at: Some(ended_at),
        pid: report.pid.map(|pid| pid.get()),
        reason: Some(reason),
        uptime: started.map(|started| ended_at.saturating_since(started)),
        downtime: Some(now.saturating_since(ended_at)),
        ..unset
    }
}

/// Reports whether there was a process. Of an end that a predecessor saw nobody knows its number,
/// and only a failure of the start itself says that there was none: then there was no `up`.
fn had_process(ended: RunEnd, pid: Option<Pid>) -> bool {
    match ended {
        RunEnd::Exit(_) => true,
        RunEnd::Failed(failure) => match failure.step {
            SpawnStep::Prepare | SpawnStep::Cgroup | SpawnStep::Clone => pid.is_some(),
            SpawnStep::Signals
            | SpawnStep::Descriptors
            | SpawnStep::Session
            | SpawnStep::Umask
            | SpawnStep::Groups
            | SpawnStep::Gid
            | SpawnStep::Uid
            | SpawnStep::Directory
            | SpawnStep::Standard
            | SpawnStep::Exec
            | SpawnStep::Limits => true,
        },
        RunEnd::Cancelled => false,
    }
}

/// How a process ended, as `REASON⇥VALUE`.
#[derive(Clone, Copy)]
enum Reason {
    Exit(u8),
    Signal(Signal),
}

/// The fields of `service.state⇥NAME⇥STATE⇥TS⇥PID⇥REASON⇥VALUE⇥UPTIME⇥DOWNTIME`.
struct State<'report> {
    name: &'report ServiceName,
    state: &'static str,
    at: Option<Instant>,
    pid: Option<u32>,
    reason: Option<Reason>,
    uptime: Option<Duration>,
    downtime: Option<Duration>,
}

impl<'report> State<'report> {
    const fn unset(name: &'report ServiceName, state: &'static str) -> Self {
        Self { name, state, at: None, pid: None, reason: None, uptime: None, downtime: None }
    }

    fn write(self, out: &mut Vec<u8>) {
        if !is_shown(self.name) {
            return;
        }
        let line = LineWriter::new("service.state", out)
            .word(self.name.as_str())
            .word(self.state)
            .number_or_unset(self.at.map(seconds))
            .number_or_unset(self.pid.map(u64::from));
        let line = match self.reason {
            Some(Reason::Exit(code)) => line.word("exit").number(code.into()),
            Some(Reason::Signal(signal)) => line.word("signal").signal(signal),
            None => line.unset().unset(),
        };
        line.number_or_unset(self.uptime.map(|time| time.as_secs()))
            .number_or_unset(self.downtime.map(|time| time.as_secs()))
            .end();
    }
}

#[cfg(test)]
mod tests {
    use keepd_model::{Errno, Generation, LogLevel, SpawnFailure};

    use super::*;

    fn at_ms(milliseconds: u64) -> Instant {
        Instant::ZERO.saturating_add(Duration::from_millis(milliseconds))
    }

    /// What plain clients hear at 1190.2 s.
    fn heard(event: &Event) -> String {
        let mut out = Vec::new();
        write_event(at_ms(1_190_200), event, None, &mut out);
        String::from_utf8(out).unwrap().replace('\t', "⇥")
    }

    fn name() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn report(state: RunState, ended: Option<RunEnd>) -> RunReport {
        RunReport {
            name: name(),
            generation: Generation::new(3),
            state,
            at: at_ms(1_188_900),
            pid: Pid::new(16_787),
            ended,
            started: Some(at_ms(1_182_500)),
            ended_at: ended.map(|_| at_ms(1_188_700)),
        }
    }

    #[test]
    fn states_have_the_forms_of_the_original() {
        let code = |code| Some(RunEnd::Exit(Exit::Code(code)));
        let killed = Some(RunEnd::Exit(Exit::Signal { signal: Signal::TERM, core: true }));
        let failure = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
        let cases = [
            (RunState::Pending, None, "start⇥1188⇥-⇥-⇥-⇥-⇥-"),
            (RunState::Pending, code(7), "start⇥1188⇥-⇥-⇥-⇥-⇥-"),
            (RunState::Forked, None, "up⇥1182⇥16787⇥-⇥-⇥7⇥-"),
            (RunState::Down, None, "down⇥-⇥-⇥-⇥-⇥-⇥-"),
            (RunState::Down, code(7), "down⇥1188⇥16787⇥exit⇥7⇥6⇥1"),
            (RunState::Down, killed, "down⇥1188⇥16787⇥signal⇥SIGTERM⇥6⇥1"),
            (RunState::Down, Some(RunEnd::Failed(failure)), "down⇥1188⇥16787⇥exit⇥3⇥6⇥1"),
            (RunState::Down, Some(RunEnd::Exit(Exit::Unknown)), "down⇥1188⇥16787⇥exit⇥255⇥6⇥1"),
        ];
        for (state, ended, expected) in cases {
            let event = Event::Run(report(state, ended));
            assert_eq!(heard(&event), format!("service.state⇥web⇥{expected}\n"));
        }
        for silent in [RunState::Up, RunState::Stopping, RunState::Emptying, RunState::Stuck] {
            assert_eq!(heard(&Event::Run(report(silent, None))), "", "{silent:?}");
            let mut dumped = Vec::new();
            write_state(at_ms(1_190_200), &report(silent, None), &mut dumped);
            assert_eq!(dumped, b"service.state\tweb\tup\t1182\t16787\t-\t-\t7\t-\n");
        }
    }

    #[test]
    fn an_end_that_a_predecessor_saw_has_no_process_id() {
        let failure = |step| RunEnd::Failed(SpawnFailure { step, errno: Errno::ENOENT });
        let cases = [
            (RunEnd::Exit(Exit::Code(7)), "down⇥1188⇥-⇥exit⇥7⇥-⇥1"),
            (RunEnd::Exit(Exit::Unknown), "down⇥1188⇥-⇥exit⇥255⇥-⇥1"),
            (failure(SpawnStep::Exec), "down⇥1188⇥-⇥exit⇥3⇥-⇥1"),
            (failure(SpawnStep::Cgroup), "down⇥-⇥-⇥-⇥-⇥-⇥-"),
            (RunEnd::Cancelled, "down⇥-⇥-⇥-⇥-⇥-⇥-"),
        ];
        for (ended, expected) in cases {
            let adopted = report(RunState::Down, Some(ended));
            let event = Event::Run(RunReport { pid: None, ..adopted });
            assert_eq!(heard(&event), format!("service.state⇥web⇥{expected}\n"));
        }
    }

    #[test]
    fn a_failed_clone_was_never_up() {
        let failure = SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN };
        let failed = report(RunState::Down, Some(RunEnd::Failed(failure)));
        let event = Event::Run(RunReport { pid: None, ..failed });
        assert_eq!(heard(&event), "service.state⇥web⇥down⇥-⇥-⇥-⇥-⇥-⇥-\n");
    }

    #[test]
    fn numbers_are_whole() {
        for number in [0, 9, 10, 1_182, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_line_that_cannot_be_said_leaves_no_trace() {
        let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let mut out = b"before\n".to_vec();
        for list in [words(&["a", "b\tc"]), words(&["\n"]), words(&[&"x".repeat(LINE_BYTES_MAX)])] {
            write_event(at_ms(0), &Event::Args(name(), list), None, &mut out);
        }
        let long = HandleName::new(&"h".repeat(32)).unwrap();
        write_event(at_ms(0), &Event::HandleDeleted(long), None, &mut out);
        assert_eq!(out, b"before\n");
    }

    #[test]
    fn only_the_original_has_words_for_it() {
        assert_eq!(heard(&Event::LogFilter(LogLevel::Debug)), "log.filter⇥debug\n");
        assert_eq!(heard(&Event::AutoUp(name(), 5, Vec::new())), "service.auto_up⇥web⇥-\n");
        let silent = [
            Event::Note(name(), "key".to_owned(), Vec::new()),
            Event::OutputBlocked { name: name(), errno: None },
            Event::DumpEnd { sequence: 1 },
            Event::Deleted(ServiceName::new("web@blue").unwrap()),
            Event::Deleted(ServiceName::new_internal("keepd.manager").unwrap()),
        ];
        for event in silent {
            assert_eq!(heard(&event), "", "{event:?}");
        }
    }
}
