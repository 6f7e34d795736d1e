//! Error replies: their form, who hears them, where they are logged. What each command refuses is
//! in the module of that command.

use keepd_testkit::daemonproxy::{Daemonproxy, Setup};

use crate::services::wait_for_dumped;

/// Every command that takes the name of a service first.
const SERVICE_COMMANDS: [&str; 7] = [
    "service.args",
    "service.fds",
    "service.tags",
    "service.auto_up",
    "service.start",
    "service.signal",
    "service.delete",
];

/// An unknown command is quoted by its name, in full, and nothing else of the line.
#[test]
fn an_unknown_command_is_named_in_full() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let name = "service.frobnicate-with-a-very-long-name-indeed";
    controller.answers(&format!("{name}\ta\tb"), &format!("error\t{{any}}: {name}"));
    proxy.expect_log(&["error: ", &format!("unknown command {name}")]);
}

/// Other errors quote the line up to 30 bytes, with dots if it has 30 or more.
#[test]
fn other_errors_quote_the_beginning_of_the_line() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for length in 1..=31 {
        let line = format!("service.start\t{}", "n".repeat(length));
        // The fixture compares the quotation.
        controller.refuses(&line, &[]);
    }
}

/// The quotation has tabs as they were, and bytes, not characters.
#[test]
fn a_quotation_is_of_bytes() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.open\ta\tb\tc\td", &[]);
    let line = [&b"service.start\tx"[..], "é".repeat(10).as_bytes()].concat();
    controller.send(&line);
    let reply = controller.next_line_bytes().unwrap();
    let end = [&b", for command \""[..], &line[..30], b"...\""].concat();
    assert!(reply.starts_with(b"error\t"), "{}", String::from_utf8_lossy(&reply));
    assert!(reply.ends_with(&end), "{}", String::from_utf8_lossy(&reply));
}

/// Errors go to the sender alone.
#[test]
fn an_error_is_never_broadcast() {
    let (mut proxy, mut sender) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    sender.refuses("service.start\tnobody", &[]);
    sender.answers("nonsense", "error\t{any}: nonsense");
    assert_eq!(other.sync(), Vec::<String>::new());
}

/// A failed command is logged with up to 90 bytes of it, at the level `error`.
#[test]
fn an_error_is_logged_with_the_command() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let command = format!("service.start\tnobody\t{}", "x".repeat(60));
    controller.refuses(&command, &[]);
    proxy.expect_log(&["error: ", "service.start", &"x".repeat(60)]);
}

/// What is wrong in a configuration file stands in the log, and the rest of it is done.
#[test]
fn errors_of_a_file_are_only_in_the_log() {
    let setup = Setup::new().file("config", "bogus\nservice.start\tx\nservice.tags\tx\ta\n");
    let mut proxy = setup.options(["-c", "config", "-S", "ctl"]).start();
    proxy.expect_log(&["error: ", "unknown command bogus"]);
    proxy.expect_log(&["error: ", "service.start"]);
    let mut client = proxy.client("ctl");
    wait_for_dumped(&mut client, "service.tags\tx\ta");
}

/// Every `service.*` command needs a name, and a valid one.
#[test]
fn services_need_valid_names() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for command in SERVICE_COMMANDS {
        controller.refuses(command, &[]);
        controller.refuses(&format!("{command}\t"), &[]);
        controller.refuses(&format!("{command}\tno/name\t1"), &[]);
    }
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("service.")), "{dump:?}");
}

/// `service.start`, `service.signal`, `service.delete` need a service that is there.
#[test]
fn three_commands_need_a_service_that_is_there() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for command in ["service.start\tx", "service.signal\tx\tTERM", "service.delete\tx"] {
        controller.refuses(command, &[]);
    }
}

/// Every `fd.*` command needs names, and valid ones.
#[test]
fn handles_need_valid_names() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for command in ["fd.open", "fd.pipe", "fd.socket", "fd.delete", "fd.pipe\ta"] {
        controller.refuses(command, &[]);
        controller.refuses(&format!("{command}\t"), &[]);
        controller.refuses(&format!("{command}\tno/name\tread\t/dev/null"), &[]);
    }
    controller.refuses("log.dest\tfd", &[]);
    controller.refuses("log.dest\tfd\tno/name", &[]);
    controller.refuses("service.fds\tx\tnull\tno/name", &[]);
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains("no/name")), "{dump:?}");
}
