//! Lines as plain connections write them.

use keepd_compat::{Client, Refusal, decode_line};
use keepd_model::protocol::{Command, Scope, SignalNumber};
use keepd_model::{Instant, LogLevel, ServiceName, Signal};

use crate::driver::{BOSS, Driver, FILE, OTHER, tabs};

const NOW: Instant = Instant::from_nanos(1_182_900_000_000);

fn name(text: &str) -> ServiceName {
    ServiceName::new_internal(text).unwrap()
}

fn decode(line: &str) -> Result<Option<Command>, Refusal> {
    decode_line(NOW, &tabs(line))
}

fn command(line: &str) -> Command {
    match decode(line) {
        Ok(Some(command)) => command,
        other => panic!("{line} was read as {other:?}"),
    }
}

#[test]
fn blank_lines_and_comments_say_nothing() {
    for line in ["", " ", " ⇥ \r", "#", "#echo⇥x"] {
        assert_eq!(decode(line), Ok(None), "{line:?}");
    }
    assert_eq!(decode(" #"), Err(Refusal::UnknownCommand));
    assert_eq!(decode("⇥echo"), Err(Refusal::UnknownCommand));
}

#[test]
fn there_are_no_escapes() {
    let args = |arguments: &[&str]| Command::ServiceArgs {
        name: name("x"),
        arguments: arguments.iter().map(|word| word.as_bytes().to_vec()).collect(),
    };
    assert_eq!(command("service.args⇥x"), args(&[]));
    assert_eq!(command("service.args⇥x⇥"), args(&[]));
    assert_eq!(command("service.args⇥x⇥a⇥⇥b⇥"), args(&["a", "", "b", ""]));
    assert_eq!(command("service.args⇥x⇥\\n\\\r"), args(&["\\n\\\r"]));
}

#[test]
fn superfluous_fields_are_ignored() {
    assert_eq!(command("statedump⇥x"), Command::StateDump);
    assert_eq!(command("exit⇥x"), Command::Exit);
    assert_eq!(command("socket.delete⇥x"), Command::SocketDelete);
    let cancel = Command::ServiceCancel { name: name("x") };
    assert_eq!(command("service.start⇥x⇥-⇥y"), cancel);
}

#[test]
fn numbers_and_signals_have_their_forms() {
    let terminate = |code, guard| Command::Terminate { code, guard };
    assert_eq!(command("terminate⇥258"), terminate(2, None));
    assert_eq!(command("terminate⇥-1⇥-5"), terminate(255, Some(-5)));
    assert_eq!(command("terminate⇥0⇥what"), terminate(0, None));
    let signal = |number, scope| Command::ServiceSignal {
        name: name("x"),
        expected: None,
        signal: SignalNumber(number),
        scope,
    };
    assert_eq!(command("service.signal⇥x⇥SIGTERM"), signal(15, Scope::Main));
    assert_eq!(command("service.signal⇥x⇥TERM⇥group"), signal(15, Scope::ProcessGroup));
    assert_eq!(command("service.signal⇥x⇥0"), signal(0, Scope::Main));
    assert_eq!(command("service.signal⇥x⇥65535"), signal(65_535, Scope::Main));
    let clear = Command::SignalClear { signal: Signal::USR1, count: i64::MAX as u64 };
    assert_eq!(command("signal.clear⇥10⇥9223372036854775807"), clear);
}

#[test]
fn a_start_in_the_past_is_a_start_now() {
    let start = |at| Command::ServiceStart { name: name("x"), expected: None, at };
    assert_eq!(command("service.start⇥x"), start(None));
    assert_eq!(command("service.start⇥x⇥1182"), start(None));
    assert_eq!(command("service.start⇥x⇥-98817"), start(None));
    let later = Instant::from_nanos(1_183_000_000_000);
    assert_eq!(command("service.start⇥x⇥1183"), start(Some(later)));
}

#[test]
fn a_refused_value_may_make_its_service() {
    let makes = |line: &str| match decode_line(NOW, &tabs(line)) {
        Err(Refusal::Invalid { makes, .. }) => makes.map(|name| name.to_string()),
        other => panic!("{line} was read as {other:?}"),
    };
    assert_eq!(makes("service.fds⇥x⇥a/b"), Some("x".to_owned()));
    assert_eq!(makes("service.args⇥x⇥\0"), Some("x".to_owned()));
    assert_eq!(makes("service.auto_up⇥x⇥0"), None);
    assert_eq!(makes("service.auto_up⇥x⇥1⇥often"), None);
}

#[test]
fn any_bytes_are_read() {
    // Every byte at every place of every command: nothing may panic, whatever is said of it.
    let lines = [
        "echo⇥x",
        "proto⇥keepd⇥1",
        "conn.event_timeout⇥1⇥2",
        "log.filter⇥+",
        "log.dest⇥fd⇥x",
        "signal.clear⇥1⇥1",
        "socket.create⇥-⇥/x",
        "terminate⇥1⇥1",
        "terminate.guard⇥+⇥1",
        "terminate.exec_args⇥x",
        "service.args⇥x⇥y",
        "service.fds⇥x⇥y⇥-",
        "service.tags⇥x⇥y",
        "service.auto_up⇥x⇥1⇥always",
        "service.start⇥x⇥1",
        "service.signal⇥x⇥1⇥group",
        "service.delete⇥x",
        "fd.open⇥x⇥read⇥/y",
        "fd.pipe⇥x⇥y⇥unix",
        "fd.socket⇥x⇥tcp⇥*:1",
        "fd.take⇥x",
        "fd.delete⇥x",
        "chdir⇥/",
        "exit",
        "statedump",
        "socket.delete",
    ];
    for line in lines {
        let line = tabs(line);
        assert!(decode_line(NOW, &line).is_ok(), "{line:?}");
        for place in 0..line.len() {
            for byte in 0..=u8::MAX {
                let mut changed = line.clone();
                changed[place] = byte;
                let _ = decode_line(Instant::ZERO, &changed);
            }
            let _ = decode_line(NOW, &line[..place]);
        }
    }
}

#[test]
fn echo_returns_its_bytes() {
    let mut driver = Driver::new();
    assert_eq!(driver.say(BOSS, "echo\necho⇥"), "");
    assert_eq!(driver.say(BOSS, "echo⇥foo\\t⇥bar\r"), "foo\\t⇥bar\r\n");
    assert_eq!(driver.say(BOSS, "echo⇥⇥\necho⇥ "), "⇥\n \n");
    driver.send_bytes(BOSS, b"echo\t\xff\x80\x01\n");
    assert_eq!(driver.front.output(BOSS), b"\xff\x80\x01\n");
}

#[test]
fn a_last_line_without_its_end_is_run_in_a_file_only() {
    let mut driver = Driver::new();
    driver.connect(FILE, Client::Configuration);
    driver.connect(OTHER, Client::Both);
    driver.end(FILE, "service.tags⇥made⇥x");
    driver.end(OTHER, "service.tags⇥lost⇥x");
    assert_eq!(driver.services(), ["made"]);
    assert_eq!(driver.heard(BOSS), "service.tags⇥made⇥x\n");
    assert!(driver.closed.contains(&FILE) && driver.closed.contains(&OTHER));
    assert_eq!(driver.logged(LogLevel::Warning).len(), 2);
}
