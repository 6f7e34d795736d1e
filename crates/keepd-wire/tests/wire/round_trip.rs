//! What is written is read back as the same, and every kind of command and message is among it.

use std::collections::BTreeSet;

use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Event, Message, Reply, Request, RequestId, Scope,
};
use keepd_model::{Instant, ServiceName, Signal};
use keepd_wire::{Mode, decode_message, decode_request, encode_message, encode_request};

use crate::generator::{COMMANDS, Generator, MESSAGES};

/// How often each kind is made.
const ROUNDS: u64 = 200;

fn request_line(request: &Request) -> Vec<u8> {
    let mut line = Vec::new();
    encode_request(request, &mut line);
    single_line(line)
}

fn message_line(message: &Message) -> Vec<u8> {
    let mut line = Vec::new();
    encode_message(message, Mode::Extended, Instant::ZERO, &mut line);
    single_line(line)
}

/// Takes the line feed off, and sees to it that it is the only one.
fn single_line(mut line: Vec<u8>) -> Vec<u8> {
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'), "{:?}", String::from_utf8_lossy(&line));
    line
}

/// A name for each variant; a new one breaks the build here, so that it gets into the generator.
fn command_kind(command: &Command) -> &'static str {
    match command {
        Command::Proto { .. } => "proto",
        Command::Echo { .. } => "echo",
        Command::StateDump => "statedump",
        Command::WatchLogs { .. } => "conn.log",
        Command::Exit => "exit",
        Command::Terminate { .. } => "terminate",
        Command::SignalClear { .. } => "signal.clear",
        Command::ServiceArgs { .. } => "service.args",
        Command::ServiceTags { .. } => "service.tags",
        Command::ServiceSet { .. } => "service.set",
        Command::ServiceEnv { .. } => "service.env",
        Command::ServiceLog { .. } => "service.log",
        Command::ServiceAutoUp { .. } => "service.auto_up",
        Command::ServiceStart { .. } => "service.start",
        Command::ServiceStop { .. } => "service.stop",
        Command::ServiceSignal { .. } => "service.signal",
        Command::ServiceExec { .. } => "service.exec",
        Command::ServiceNote { .. } => "service.note",
        Command::ServiceDelete { .. } => "service.delete",
    }
}

/// The same for messages.
fn message_kind(message: &Message) -> &'static str {
    match message {
        Message::ProtoAccepted { .. } => "proto",
        Message::Text(_) => "echo",
        Message::PlainError(_) => "error",
        Message::Overflow => "overflow",
        Message::Reply(_, Reply::Ok) => "ok",
        Message::Reply(_, Reply::Exec { .. }) => "ok with output",
        Message::Reply(_, Reply::Fail(_)) => "fail",
        Message::Event(event) => match event {
            Event::Run(_) => "service.run",
            Event::Invocation { .. } => "service.invocation",
            Event::Notify { .. } => "service.notify",
            Event::Output { .. } => "service.output",
            Event::OutputBlocked { .. } => "service.output_blocked",
            Event::Args(..) => "service.args",
            Event::Tags(..) => "service.tags",
            Event::Set(..) => "service.set",
            Event::Env(..) => "service.env",
            Event::Log(..) => "service.log",
            Event::AutoUp(..) => "service.auto_up",
            Event::Note(..) => "service.note",
            Event::Deleted(_) => "service.deleted",
            Event::Signal { .. } => "signal",
            Event::DumpEnd { .. } => "dump.end",
        },
    }
}

#[test]
fn every_command_comes_back_as_it_was() {
    let mut generator = Generator::new(1);
    let mut kinds = BTreeSet::new();
    for round in 0..COMMANDS * ROUNDS {
        let request = generator.request(round);
        if let Request::Numbered(_, command) = &request {
            kinds.insert(command_kind(command));
        }
        let line = request_line(&request);
        assert_eq!(decode_request(&line, Mode::Extended), Ok(Some(request)));
    }
    assert_eq!(kinds.len() as u64, COMMANDS, "all but proto, which has no number: {kinds:?}");
}

#[test]
fn every_message_comes_back_as_it_was() {
    let mut generator = Generator::new(2);
    let mut kinds = BTreeSet::new();
    for round in 0..MESSAGES * ROUNDS {
        let message = generator.message(round);
        kinds.insert(message_kind(&message));
        let line = message_line(&message);
        assert_eq!(decode_message(&line), Ok(Some(message)));
    }
    assert_eq!(kinds.len(), 22, "{kinds:?}");
}

#[test]
fn every_byte_value_passes_in_a_field() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let name = ServiceName::new("web").unwrap();
    let request = Request::Numbered(
        RequestId(1),
        Command::ServiceTags {
            name: name.clone(),
            tags: vec![every_byte.clone(), Vec::new(), every_byte.clone()],
        },
    );
    let decoded = decode_request(&request_line(&request), Mode::Extended);
    assert_eq!(decoded, Ok(Some(request)));

    let message = Message::Event(Event::Note(name, "key".to_owned(), every_byte));
    assert_eq!(decode_message(&message_line(&message)), Ok(Some(message)));
}

#[test]
fn one_empty_argument_is_not_none() {
    let name = ServiceName::new("web").unwrap();
    for arguments in [Vec::new(), vec![Vec::new()], vec![Vec::new(), Vec::new()]] {
        let name = name.clone();
        let command = Command::ServiceArgs { name, arguments };
        for request in
            [Request::Numbered(RequestId(1), command.clone()), Request::Unnumbered(command.clone())]
        {
            let decoded = decode_request(&request_line(&request), Mode::Extended);
            assert_eq!(decoded, Ok(Some(request)));
        }
    }
}

#[test]
fn plain_commands_come_back_without_a_number() {
    let name = ServiceName::new_internal("keepd.manager").unwrap();
    let signal = |scope| Command::ServiceSignal {
        name: name.clone(),
        expected: None,
        signal: Signal::TERM,
        scope,
    };
    let commands = [
        Command::Proto { version: 1 },
        Command::Echo { text: b"a\tb\\".to_vec() },
        Command::StateDump,
        Command::Exit,
        Command::Terminate { code: 255 },
        Command::SignalClear { signal: Signal::HUP, count: 2 },
        Command::ServiceStart { name: name.clone(), expected: None },
        signal(Scope::Main),
        signal(Scope::ProcessGroup),
        Command::ServiceDelete { name: name.clone() },
    ];
    for command in commands {
        let request = Request::Unnumbered(command);
        let decoded = decode_request(&request_line(&request), Mode::Extended);
        assert_eq!(decoded, Ok(Some(request)));
    }
}

#[test]
fn without_a_number_a_command_is_itself_or_refused() {
    let mut generator = Generator::new(3);
    for round in 0..COMMANDS * ROUNDS {
        let request = Request::Unnumbered(generator.command(round));
        if let Ok(decoded) = decode_request(&request_line(&request), Mode::Extended) {
            assert_eq!(decoded, Some(request));
        }
    }
}

#[test]
fn what_comes_back_is_never_longer_than_the_line_that_set_it() {
    let name = "\tweb";
    let near_limit = EXTENDED_LINE_BYTES_MAX - 64;
    let bodies: [(&str, Vec<u8>); 4] = [
        ("service.args", b"\\n".repeat(near_limit / 2)),
        ("service.tags", b"a\t".repeat(60_000)),
        ("service.env", [b"+A=", &*vec![b'x'; near_limit]].concat()),
        ("service.set", [&b"groups="[..], &b"10,".repeat(65_000), b"1"].concat()),
    ];
    for (command, body) in bodies {
        let fields = [name.as_bytes(), b"\t", &body].concat();
        let line = [b"@1\t", command.as_bytes(), &fields].concat();
        assert!(line.len() <= EXTENDED_LINE_BYTES_MAX);
        let request = decode_request(&line, Mode::Extended).unwrap();
        let Some(Request::Numbered(_, command)) = request else {
            panic!("{command} is a numbered command");
        };
        let event = match command {
            Command::ServiceArgs { name, arguments } => Event::Args(name, arguments),
            Command::ServiceTags { name, tags } => Event::Tags(name, tags),
            Command::ServiceEnv { name, environment } => Event::Env(name, environment),
            Command::ServiceSet { name, attributes } => Event::Set(name, attributes),
            other => panic!("not a setter: {other:?}"),
        };
        let event_line = message_line(&Message::Event(event));
        assert!(event_line.len() <= EXTENDED_LINE_BYTES_MAX);
    }
}
