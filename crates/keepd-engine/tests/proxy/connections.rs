//! Behaviour 5, first half: who hears what.

use keepd_engine::proxy::Input;
use keepd_model::protocol::{Attributes, Command, Message, Request, RequestId};

use crate::driver::*;

#[test]
fn a_connection_becomes_an_extended_one_once() {
    // (behaviour 5.1)
    let mut driver = Driver::new();
    driver.connect(PLAIN);
    let proto = |version| Command::Proto { version };
    assert_eq!(
        driver.say(PLAIN, proto(2)),
        ["2> error cannot switch the protocol: version 2 is unknown, 1 is known"]
    );
    assert_eq!(
        driver.give(Input::Request {
            connection: PLAIN,
            request: Request::Numbered(RequestId(1), Command::StateDump),
        }),
        ["2> error unknown command on a plain connection"]
    );
    assert_eq!(driver.say(PLAIN, proto(1)), ["2> proto 1 notify", "upgrade 2"]);
    assert_eq!(
        driver.say(PLAIN, proto(1)),
        ["2> error cannot switch the protocol: the connection is an extended one"]
    );
    assert_eq!(driver.ask_as(PLAIN, proto(1)), ["2> fail 1 malformed"]);
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
        "1> keepd.manager args /bin/true",
        "1> keepd.manager tags ",
        "1> keepd.manager set",
        "1> keepd.manager env",
        "1> keepd.manager log",
        "1> keepd.manager auto_up None",
        "1> keepd.manager 0 down",
        "1> web args /bin/true",
        "1> web tags ",
        "1> web set",
        "1> web env",
        "1> web log",
        "1> web auto_up None",
        "1> web note k=v",
        "1> web 1 invocation",
        "1> web 1 up pid 100",
    ];
    let lines = driver.ask(Command::StateDump);
    assert_eq!(lines[0], "1> ok 6");
    assert_eq!(lines[1..17], dump);
    assert_eq!(lines[17..], ["1> dump.end 1"]);
    assert_eq!(driver.ask(Command::StateDump).last().unwrap(), "1> dump.end 2");
}

#[test]
fn a_plain_dump_has_the_old_order_and_hides_what_is_ours() {
    // (behaviour 5.4, 5.7)
    let mut driver = Driver::with_service_up(Attributes::default());
    driver.ask(arguments("keepd.manager"));
    driver.connect(PLAIN);
    assert_eq!(
        driver.say(PLAIN, Command::StateDump),
        [
            // The old language says "up" at the clone; the wire writes it for this state alone.
            "2> web 1 forked pid 100",
            "2> web tags ",
            "2> web args /bin/true",
            "2> web auto_up None"
        ]
    );
    let lines = driver.ask(start("keepd.manager", 0));
    assert!(!lines.iter().any(|line| line.starts_with("2>")), "{lines:?}");
    let lines = driver.ask(set("web", Attributes::default()));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn echo_returns_its_text() {
    // (behaviour 5.2, 5.3)
    let mut driver = Driver::with_boss();
    driver.connect(PLAIN);
    let echo = |text: &[u8]| Command::Echo { text: text.to_vec() };
    assert_eq!(driver.ask(echo(b"a")), ["1> text a", "1> ok 1"]);
    assert_eq!(driver.say(PLAIN, echo(b"b")), ["2> text b"]);
    assert_eq!(driver.say(PLAIN, echo(b"")), [""; 0]);
}

#[test]
fn what_needs_the_extension_is_refused_on_a_plain_connection() {
    let mut driver = Driver::with_boss();
    driver.connect(PLAIN);
    driver.ask(arguments("web"));
    for command in [
        Command::WatchLogs { on: true },
        Command::ServiceExec { name: name("web"), deadline: ms(1), arguments: vec![b"x".to_vec()] },
    ] {
        assert_eq!(driver.say(PLAIN, command), ["2> error unknown command on a plain connection"]);
    }
}

#[test]
fn refused_lines_are_answered_in_their_place() {
    let mut driver = Driver::with_boss();
    assert_eq!(
        driver.give(Input::Refused {
            connection: BOSS,
            answer: Message::PlainError("no".to_owned()),
        }),
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
    driver.give(Input::Connected { connection: PLAIN, output: false });
    assert_eq!(driver.say(PLAIN, arguments("web")), [""; 0]);
    assert_eq!(driver.say(PLAIN, Command::StateDump), [""; 0]);
    // What is refused is handed to the shell all the same: a mistake in a file must be logged.
    let lines = driver.say(PLAIN, start("nobody", 0));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("2> error"), "{lines:?}");
    assert_eq!(driver.say(PLAIN, auto_up("web", Some(1), true)), ["spawn web.1"]);
}
