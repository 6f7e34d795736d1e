//! Behaviour 5, first half: who hears what.

use keepd_engine::proxy::Input;
use keepd_model::protocol::{Attributes, Command, Message};

use crate::driver::*;

#[test]
fn every_connection_is_greeted_once() {
    // (behaviour 5.1)
    let mut driver = Driver::with_boss();
    let proto = || Command::Proto { version: 1 };
    assert_eq!(driver.ask(proto()), ["1> fail 1 malformed"]);
    assert_eq!(driver.say(BOSS, proto()), ["1> error the connection is an extended one"]);
    let timeout = Command::EventTimeout { reset: ms(1), close: ms(1) };
    assert_eq!(driver.ask(timeout), ["1> fail 2 malformed"]);
}

#[test]
fn an_extended_dump_is_complete_and_numbered() {
    // (behaviour 5.6)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.ask(arguments("keepd.manager"));
    driver.ask(Command::ServiceNote {
        name: name("web"),
        key: "k".to_owned(),
        value: b"v".to_vec(),
    });
    let dump = [
        "1> handle control.cmd special write commands to the proxy",
        "1> handle control.event special read events of the proxy",
        "1> handle control.socket special read,write commands to the proxy and its events",
        "1> keepd.manager args /bin/true",
        "1> keepd.manager tags ",
        "1> keepd.manager set",
        "1> keepd.manager env",
        "1> keepd.manager log",
        "1> keepd.manager auto_up 1 ",
        "1> keepd.manager 0 down",
        "1> web args /bin/true",
        "1> web tags ",
        "1> web set",
        "1> web env",
        "1> web log",
        "1> web auto_up 1 ",
        "1> web note k=v",
        "1> web 1 invocation",
        "1> web 1 up pid 100",
    ];
    let lines = driver.ask(Command::StateDump);
    assert_eq!(lines[0], "1> ok 6");
    assert_eq!(lines[1..20], dump);
    assert_eq!(lines[20..], ["1> dump.end 1"]);
    assert_eq!(driver.ask(Command::StateDump).last().unwrap(), "1> dump.end 2");
}

#[test]
fn echo_returns_its_text() {
    // (behaviour 5.2, 5.3)
    let mut driver = Driver::with_boss();
    driver.connect(TYPIST);
    let echo = |text: &[u8]| Command::Echo { text: text.to_vec() };
    assert_eq!(driver.ask(echo(b"a")), ["1> text a", "1> ok 1"]);
    assert_eq!(driver.say(TYPIST, echo(b"b")), ["2> text b"]);
    assert_eq!(driver.say(TYPIST, echo(b"")), [""; 0]);
}

#[test]
fn a_job_needs_a_number_to_be_answered_by() {
    // (behaviour 5.2, 5.3)
    let mut driver = Driver::with_boss();
    driver.ask(arguments("web"));
    let exec =
        Command::ServiceExec { name: name("web"), deadline: ms(1), arguments: vec![b"x".to_vec()] };
    assert_eq!(driver.say(BOSS, exec), ["1> error the command needs a number"]);
}

#[test]
fn refused_lines_are_answered_in_their_place() {
    let mut driver = Driver::with_boss();
    assert_eq!(
        driver.give(Input::Refused { connection: BOSS, answer: Message::Error("no".to_owned()) }),
        ["1> error no"]
    );
}

#[test]
fn exit_is_answered_and_nothing_follows() {
    // (behaviour 5.17)
    let mut driver = Driver::with_boss();
    assert_eq!(driver.ask(Command::Exit), ["1> ok 1", "close 1"]);
    assert_eq!(driver.ask(arguments("web")), [""; 0]);
    assert_eq!(driver.give(Input::Disconnected { connection: BOSS }), [""; 0]);
}

#[test]
fn a_connection_without_output_commands_and_hears_nothing() {
    // (behaviour 5.5)
    let mut driver = Driver::new();
    driver.give(Input::Connected { connection: TYPIST, output: false });
    assert_eq!(driver.say(TYPIST, arguments("web")), [""; 0]);
    assert_eq!(driver.say(TYPIST, Command::StateDump), [""; 0]);
    // What is refused is handed to the shell all the same: a mistake in a file must be logged.
    let lines = driver.say(TYPIST, start("nobody", 0));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("2> error"), "{lines:?}");
    assert_eq!(driver.say(TYPIST, auto_up("web", Some(1), true)), ["spawn web.1"]);
}
