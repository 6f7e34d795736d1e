//! Plain connections read and hear exactly daemonproxy's lines.

use std::time::Duration;

use keepd_model::protocol::{
    Command, Environment, Event, LogTarget, Message, Reply, Request, RequestId, RunEnd, RunReport,
    RunState, Scope,
};
use keepd_model::{
    Errno, Exit, Generation, Instant, Pid, ServiceName, Signal, SpawnFailure, SpawnStep,
};
use keepd_wire::{Mode, decode_request, encode_message};

use crate::refusals::tabs;

fn command(line: &str) -> Command {
    match decode_request(&tabs(line), Mode::Plain) {
        Ok(Some(Request::Plain(command))) => command,
        other => panic!("{line} was read as {other:?}"),
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::new_internal(text).unwrap()
}

fn at_ms(milliseconds: u64) -> Instant {
    Instant::ZERO.saturating_add(Duration::from_millis(milliseconds))
}

/// What a plain connection hears at 1190.2 s.
fn heard(message: &Message) -> String {
    let mut out = Vec::new();
    encode_message(message, Mode::Plain, at_ms(1_190_200), &mut out);
    String::from_utf8(out).unwrap().replace('\t', "⇥")
}

fn report(state: RunState, ended: Option<RunEnd>) -> RunReport {
    RunReport {
        name: name("web"),
        generation: Generation::new(3),
        state,
        at: at_ms(1_188_900),
        pid: Pid::new(16_787),
        ended,
        started: Some(at_ms(1_182_500)),
        ended_at: ended.map(|_| at_ms(1_188_700)),
    }
}

fn run(state: RunState, ended: Option<RunEnd>) -> String {
    heard(&Message::Event(Event::Run(report(state, ended))))
}

#[test]
fn plain_commands_are_read_without_escapes() {
    let bytes = |words: &[&str]| -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    };
    let args =
        |arguments: &[&str]| Command::ServiceArgs { name: name("x"), arguments: bytes(arguments) };
    assert_eq!(command("service.args⇥x"), args(&[]));
    assert_eq!(command("service.args⇥x⇥"), args(&[]));
    assert_eq!(command("service.args⇥x⇥a⇥⇥b⇥"), args(&["a", "", "b", ""]));
    assert_eq!(command("service.args⇥x⇥\\n\\"), args(&["\\n\\"]));
    let text = b"foo\\t\tbar\r".to_vec();
    assert_eq!(command("echo⇥foo\\t⇥bar\r"), Command::Echo { text });
    assert_eq!(command("echo"), Command::Echo { text: Vec::new() });
    assert_eq!(command("statedump⇥ignored"), Command::StateDump);
    assert_eq!(command("terminate⇥258"), Command::Terminate { code: 2 });
    assert_eq!(command("terminate⇥-1"), Command::Terminate { code: 255 });
    assert_eq!(command("proto⇥keepd⇥1"), Command::Proto { version: 1 });
    assert_eq!(
        command("service.auto_up⇥x⇥-⇥always"),
        Command::ServiceAutoUp { name: name("x"), seconds: None, always: true }
    );
    assert_eq!(
        command("service.signal⇥x⇥SIGTERM⇥group"),
        Command::ServiceSignal {
            name: name("x"),
            expected: None,
            signal: Signal::TERM,
            scope: Scope::ProcessGroup
        }
    );
    let longest = "a".repeat(31);
    assert_eq!(
        command(&format!("service.delete⇥{longest}")),
        Command::ServiceDelete { name: name(&longest) }
    );
}

#[test]
fn states_have_the_forms_of_the_original() {
    let code = |code| Some(RunEnd::Exit(Exit::Code(code)));
    let killed = Some(RunEnd::Exit(Exit::Signal { signal: Signal::TERM, core: true }));
    let failed = Some(RunEnd::Failed(SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT }));
    let cases = [
        (RunState::Pending, None, "start⇥1188⇥-⇥-⇥-⇥-⇥-"),
        (RunState::Pending, code(7), "start⇥1188⇥-⇥-⇥-⇥-⇥-"),
        (RunState::Forked, None, "up⇥1182⇥16787⇥-⇥-⇥7⇥-"),
        (RunState::Down, None, "down⇥-⇥-⇥-⇥-⇥-⇥-"),
        (RunState::Down, code(7), "down⇥1188⇥16787⇥exit⇥7⇥6⇥1"),
        (RunState::Down, killed, "down⇥1188⇥16787⇥signal⇥SIGTERM⇥6⇥1"),
        (RunState::Down, failed, "down⇥1188⇥16787⇥exit⇥3⇥6⇥1"),
        (RunState::Down, Some(RunEnd::Exit(Exit::Unknown)), "down⇥1188⇥16787⇥exit⇥255⇥6⇥1"),
    ];
    for (state, ended, expected) in cases {
        assert_eq!(run(state, ended), format!("service.state⇥web⇥{expected}\n"));
    }
    for silent in [RunState::Up, RunState::Stopping, RunState::Emptying, RunState::Stuck] {
        assert_eq!(run(silent, None), "", "{silent:?}");
    }
}

#[test]
fn a_failed_clone_was_never_up() {
    let failure = SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN };
    let report = RunReport { pid: None, ..report(RunState::Down, Some(RunEnd::Failed(failure))) };
    let expected = "service.state⇥web⇥down⇥-⇥-⇥-⇥-⇥-⇥-\n";
    assert_eq!(heard(&Message::Event(Event::Run(report))), expected);
}

#[test]
fn other_events_have_the_forms_of_the_original() {
    let args = |words: &[&str]| {
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        Event::Args(name("web"), words.collect())
    };
    let cases = [
        (args(&[]), "service.args⇥web⇥\n"),
        (args(&["httpd", "", "\\x\r"]), "service.args⇥web⇥httpd⇥⇥\\x\r\n"),
        (args(&["a\tb"]), ""),
        (args(&["a\nservice.args⇥web⇥forged"]), ""),
        (Event::Tags(name("web"), vec![b"owner=alice".to_vec()]), "service.tags⇥web⇥owner=alice\n"),
        (Event::AutoUp(name("web"), Some(5)), "service.auto_up⇥web⇥5⇥always\n"),
        (Event::AutoUp(name("web"), None), "service.auto_up⇥web⇥-\n"),
        (Event::Deleted(name("web")), "service.state⇥web⇥deleted⇥-⇥-⇥-⇥-⇥-⇥-\n"),
        (
            Event::Signal { signal: Signal::TERM, at: at_ms(1_187_999), count: 1 },
            "signal⇥SIGTERM⇥1187⇥1\n",
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(heard(&Message::Event(event)), expected);
    }
}

#[test]
fn other_lines_have_the_forms_of_the_original() {
    let text = |text: &[u8]| heard(&Message::Text(text.to_vec()));
    assert_eq!(text(b"--sync--\t17"), "--sync--⇥17\n");
    assert_eq!(text(b""), "");
    assert_eq!(heard(&Message::Overflow), "overflow\n");
    let error = Message::PlainError("no such service, for command \"service.start\ta\"".to_owned());
    assert_eq!(heard(&error), "error⇥no such service, for command \"service.start⇥a\"\n");
    let accepted = Message::ProtoAccepted { version: 1, features: vec!["exec".to_owned()] };
    assert_eq!(heard(&accepted), "proto⇥keepd⇥1⇥exec\n");
}

#[test]
fn plain_connections_hear_nothing_of_the_extension() {
    let instance = || name("web@blue");
    let silent = [
        Event::Run(RunReport { name: instance(), ..report(RunState::Forked, None) }),
        Event::Args(instance(), Vec::new()),
        Event::Tags(instance(), Vec::new()),
        Event::AutoUp(instance(), None),
        Event::Deleted(instance()),
        Event::Env(name("web"), Environment::default()),
        Event::Log(name("web"), LogTarget::Null),
        Event::Note(name("web"), "k".to_owned(), b"v".to_vec()),
        Event::OutputBlocked { name: name("web"), errno: None },
        Event::DumpEnd { sequence: 1 },
    ];
    for event in silent {
        assert_eq!(heard(&Message::Event(event.clone())), "", "{event:?}");
    }
    assert_eq!(heard(&Message::Reply(RequestId(1), Reply::Ok)), "");
}
