//! What is written is read back as the same, and every kind of command and message is among it.

use std::collections::BTreeSet;

use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Event, Message, Reply, Request, RequestId,
};
use keepd_model::{FdSlot, ServiceName};
use keepd_wire::{decode_message, decode_request, encode_message, encode_request};

use crate::generator::{COMMANDS, Generator, MESSAGES};
use crate::refusals::tabs;

/// How often each kind is made.
const ROUNDS: u64 = 200;

fn request_line(request: &Request) -> Vec<u8> {
    let mut line = Vec::new();
    encode_request(request, &mut line);
    single_line(line)
}

fn message_line(message: &Message) -> Vec<u8> {
    let mut line = Vec::new();
    encode_message(message, &mut line);
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
        Command::WatchStarts { .. } => "conn.start",
        Command::EventTimeout { .. } => "conn.event_timeout",
        Command::Exit => "exit",
        Command::Terminate { .. } => "terminate",
        Command::TerminateGuard { .. } => "terminate.guard",
        Command::TerminateExec { .. } => "terminate.exec_args",
        Command::Chdir { .. } => "chdir",
        Command::LogFilter { .. } => "log.filter",
        Command::LogDestination { .. } => "log.dest",
        Command::SocketCreate { .. } => "socket.create",
        Command::SocketDelete => "socket.delete",
        Command::HandleOpen { .. } => "fd.open",
        Command::HandlePipe { .. } => "fd.pipe",
        Command::HandleSocket { .. } => "fd.socket",
        Command::HandleTake { .. } => "fd.take",
        Command::HandleDelete { .. } => "fd.delete",
        Command::SignalClear { .. } => "signal.clear",
        Command::ServiceArgs { .. } => "service.args",
        Command::ServiceTags { .. } => "service.tags",
        Command::ServiceSet { .. } => "service.set",
        Command::ServiceEnv { .. } => "service.env",
        Command::ServiceLog { .. } => "service.log",
        Command::ServiceFds { .. } => "service.fds",
        Command::ServiceAutoUp { .. } => "service.auto_up",
        Command::ServiceStart { .. } => "service.start",
        Command::ServiceCancel { .. } => "service.cancel",
        Command::ServiceStop { .. } => "service.stop",
        Command::ServiceSignal { .. } => "service.signal",
        Command::ServiceExec { .. } => "service.exec",
        Command::ServiceNote { .. } => "service.note",
        Command::ServiceDelete { .. } => "service.delete",
        Command::ServiceAck { .. } => "service.ack",
        Command::ServiceLease { .. } => "service.lease",
    }
}

/// The same for messages.
fn message_kind(message: &Message) -> &'static str {
    match message {
        Message::ProtoAccepted { .. } => "proto",
        Message::Text(_) => "echo",
        Message::Error(_) => "error",
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
            Event::Fds(..) => "service.fds",
            Event::Handle(_) => "fd.state",
            Event::HandleDeleted(_) => "fd.state deleted",
            Event::LogFilter(_) => "log.filter",
            Event::Note(..) => "service.note",
            Event::Deleted(_) => "service.deleted",
            Event::Lease(..) => "service.lease",
            Event::Ended { .. } => "service.ended",
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
        let (Request::Numbered(_, command) | Request::Unnumbered(command)) = &request;
        kinds.insert(command_kind(command));
        let line = request_line(&request);
        assert_eq!(decode_request(&line), Ok(Some(request)));
    }
    assert_eq!(kinds.len() as u64, COMMANDS, "all but proto and conn.event_timeout: {kinds:?}");
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
    assert_eq!(kinds.len() as u64, MESSAGES - 1, "service.run is made twice: {kinds:?}");
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
    let decoded = decode_request(&request_line(&request));
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
            let decoded = decode_request(&request_line(&request));
            assert_eq!(decoded, Ok(Some(request)));
        }
    }
}

#[test]
fn a_line_is_written_again_in_its_one_form() {
    let cases = [
        ("fd.open⇥a⇥⇥/p", "fd.open⇥a⇥read⇥/p"),
        ("fd.open⇥a⇥-⇥/p", "fd.open⇥a⇥read⇥/p"),
        ("fd.open⇥a⇥mkdir,,create,append,write⇥p", "fd.open⇥a⇥write,append,create,mkdir⇥p"),
        ("fd.open⇥a⇥nonblock,write,trunc,read⇥p", "fd.open⇥a⇥read,write,trunc,nonblock⇥p"),
        ("fd.pipe⇥r⇥w", "fd.pipe⇥r⇥w"),
        ("fd.pipe⇥r⇥w⇥", "fd.pipe⇥r⇥w"),
        ("fd.pipe⇥r⇥w⇥-", "fd.pipe⇥r⇥w"),
        ("fd.pipe⇥r⇥w⇥nonblock", "fd.pipe⇥r⇥w⇥nonblock"),
        ("fd.pipe⇥r⇥w⇥nonblock,dgram", "fd.pipe⇥r⇥w⇥unix,dgram,nonblock"),
        ("fd.pipe⇥r⇥w⇥udp", "fd.pipe⇥r⇥w⇥inet,dgram"),
        ("fd.socket⇥s⇥", "fd.socket⇥s⇥unix,stream"),
        ("fd.socket⇥s⇥-⇥", "fd.socket⇥s⇥unix,stream"),
        ("fd.socket⇥s⇥mkdir⇥/s", "fd.socket⇥s⇥unix,stream,bind,mkdir⇥/s"),
        ("fd.socket⇥s⇥tcp,listen⇥*:80", "fd.socket⇥s⇥inet,stream,bind,listen=32⇥*:80"),
        ("fd.socket⇥s⇥udp,bind⇥*", "fd.socket⇥s⇥inet,dgram,bind⇥*"),
        ("fd.socket⇥s⇥inet6,tcp,inet6⇥[::1]:080", "fd.socket⇥s⇥inet6,stream,bind⇥[::1]:080"),
        ("log.filter⇥", "log.filter"),
        ("socket.create⇥⇥/s", "socket.create⇥-⇥/s"),
        ("service.start⇥a⇥-", "service.start⇥a"),
        ("service.start⇥a⇥-⇥7", "service.start⇥a⇥-⇥7"),
        ("service.signal⇥a⇥-⇥15⇥group", "service.signal⇥a⇥-⇥SIGTERM⇥group"),
        ("service.signal⇥a⇥-⇥0⇥main", "service.signal⇥a⇥-⇥0⇥main"),
        ("service.auto_up⇥a⇥05⇥TERM⇥15⇥always", "service.auto_up⇥a⇥5⇥TERM⇥15⇥always"),
        ("service.lease⇥a⇥3⇥any⇥-", "service.lease⇥a⇥3⇥any⇥-"),
        (
            "service.lease⇥a⇥3⇥failure⇥0,34,TERM,SIG34⇥05",
            "service.lease⇥a⇥3⇥failure⇥0,34,SIGTERM,SIG34⇥5",
        ),
        ("service.fds⇥a", "service.fds⇥a"),
        ("service.fds⇥a⇥-⇥⇥null⇥", "service.fds⇥a⇥-⇥⇥null⇥"),
    ];
    for (line, expected) in cases {
        let request = decode_request(&tabs(line)).unwrap().unwrap();
        assert_eq!(request_line(&request), tabs(expected), "{line}");
        assert_eq!(decode_request(&tabs(expected)), Ok(Some(request)), "{line}");
    }
}

#[test]
fn no_place_and_one_empty_place_are_not_the_same() {
    let slots = |line: &str| match decode_request(&tabs(line)) {
        Ok(Some(Request::Unnumbered(Command::ServiceFds { slots, .. }))) => slots,
        other => panic!("{line} was read as {other:?}"),
    };
    assert_eq!(slots("service.fds⇥web"), []);
    assert_eq!(slots("service.fds⇥web⇥"), [FdSlot::Skipped]);
    assert_eq!(slots("service.fds⇥web⇥-⇥"), [FdSlot::Closed, FdSlot::Skipped]);
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
        let request = decode_request(&line).unwrap();
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
