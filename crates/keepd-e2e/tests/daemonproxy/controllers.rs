//! Controllers: who hears what, when they come and go, and services that are controllers.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::daemonproxy::{Conversation, Daemonproxy, Setup};
use keepd_testkit::{LONG, Running, cpu_ticks, wait_until};

use crate::place::Place;
use crate::services::{
    define, deleted, expect_down, expect_up, never_run, read, start, wait_for_dumped,
};

/// Changes go to every controller, whoever caused them, and in the same order.
#[test]
fn changes_are_broadcast() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    let mut two = proxy.client("ctl");
    two.sync();
    one.send("service.tags\tx\ta");
    one.send("service.args\tx\ttrue");
    one.send("service.fds\tx\tnull");
    one.send("service.auto_up\tx\t-");
    one.send("fd.open\th\tread\t/dev/null");
    one.send("fd.pipe\tr\tw");
    one.send("fd.delete\th");
    one.send("service.start\tx");
    let mut heard = Vec::new();
    for controller in [&mut one, &mut two] {
        let mut lines = Vec::new();
        controller.expect_line("the end of x", |line| {
            lines.push(line.to_owned());
            line.starts_with("service.state\tx\tdown\t").then_some(())
        });
        heard.push(lines);
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!(
        heard[0][..7],
        [
            "service.tags\tx\ta",
            "service.args\tx\ttrue",
            "service.fds\tx\tnull",
            "service.auto_up\tx\t-",
            "fd.state\th\tfile\tread\t/dev/null",
            "fd.state\tr\tpipe\tfrom\tw",
            "fd.state\tw\tpipe\tto\tr",
        ]
    );
    assert!(heard[0].contains(&"fd.state\th\tdeleted".to_owned()), "{heard:?}");
    one.send("service.delete\tx");
    one.expect(&deleted("x"));
    two.expect(&deleted("x"));
}

/// Replies of a command go to its sender alone.
#[test]
fn replies_go_to_the_sender() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    let mut two = proxy.client("ctl");
    two.sync();
    for command in ["echo\thello", "log.filter", "statedump", "log.dest\tfd\tlater"] {
        assert!(!one.ask(command).is_empty(), "{command}");
    }
    assert_eq!(two.sync(), Vec::<String>::new());
}

/// Only `-i` greets: the first line for a socket client is its own.
#[test]
fn a_socket_client_is_not_greeted() {
    let (_proxy, mut client) = Daemonproxy::with_socket();
    client.send("echo\tfirst");
    client.expect_next("first");
}

/// K10: a further controller is never refused with an error line; it is served now, or as soon as
/// another one has left.
#[test]
fn a_third_controller_is_never_refused() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    let mut two = proxy.client("ctl");
    one.sync();
    two.sync();
    let mut three = proxy.client("ctl");
    three.send("echo\tthree");
    drop(one);
    three.expect_next("three");
    assert_eq!(two.sync(), Vec::<String>::new());
}

/// With every place taken, one more waits until one of them is free, and the log says so.
#[test]
fn one_too_many_waits() {
    const PLACES: usize = 256;
    let (mut proxy, first) = Daemonproxy::with_socket();
    let mut clients = vec![first];
    clients.extend((1..PLACES).map(|_| proxy.client("ctl")));
    clients.iter_mut().for_each(|client| drop(client.sync()));
    let mut waiting = proxy.client("ctl");
    waiting.send("echo\tat last");
    proxy.expect_log(&["warning: ", "wait"]);
    assert!(!waiting.is_heard_within(Duration::ZERO));
    clients.pop();
    waiting.expect_next("at last");
}

/// A proxy whose output nobody reads goes on with its commands, and waits for them without work.
#[test]
fn an_output_without_a_reader_is_no_busy_loop() {
    let place = Place::new();
    let (running, mut commands, events) =
        Running::start_conversation(&mut place.daemonproxy(&["-i", "-S", "sock"]));
    drop(events);
    let stream = wait_until("the socket", LONG, || UnixStream::connect(place.path("sock")).ok());
    let mut client = Conversation::over_socket(stream, running.stderr().clone());
    client.sync();
    let before = cpu_ticks(running.pid());
    commands.write_all(b"service.args\tx\tsleep\t0.5\nservice.start\tx\n").unwrap();
    assert_eq!(expect_down(&mut client, "x"), "exit 0");
    let ticks = cpu_ticks(running.pid()) - before;
    assert!(ticks < 20, "{ticks} ticks in half a second");
}

/// The end of a client is not the end of the proxy, nor of what the client made.
#[test]
fn what_a_client_made_stays() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    define(&mut client, "x", "exec sleep 1000");
    let pid = start(&mut client, "x");
    drop(client);
    let mut client = proxy.client("ctl");
    let dump = client.ask("statedump");
    let state = format!("service.state\tx\tup\t{{num}}\t{pid}\t-\t-\t{{num}}\t-");
    assert!(dump.contains(&"service.args\tx\tsh\t-c\texec sleep 1000".to_owned()), "{dump:?}");
    client.send("statedump");
    client.expect(&state);
}

/// `exit` closes this connection, after everything before it was answered; what follows it in the
/// same portion is not read.
#[test]
fn exit_closes_the_connection() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    client.send_bytes(b"echo\ta\necho\tb\nexit\necho\tc\nservice.tags\tx\ta\n");
    assert_eq!(client.expect_end(), ["a", "b"]);
    assert_eq!(other.sync(), Vec::<String>::new());
}

/// `exit` ends a configuration file too: later lines are not read.
#[test]
fn exit_ends_a_configuration_file() {
    let config = "service.tags\tx\tread\nexit\nservice.tags\ty\tnot-read\n";
    let setup = Setup::new().file("config", config).options(["-c", "config", "-S", "ctl"]);
    let mut proxy = setup.start();
    let mut client = proxy.client("ctl");
    wait_for_dumped(&mut client, "service.tags\tx\tread");
    client.answers("service.tags\tz\ta", "service.tags\tz\ta");
    let dump = client.ask("statedump");
    assert!(!dump.iter().any(|line| line.contains("not-read")), "{dump:?}");
}

/// A17: each descriptor is closed once, so no client's leaving hits another's connection.
#[test]
fn clients_that_leave_do_not_hurt_those_that_stay() {
    let (mut proxy, mut stays) = Daemonproxy::with_socket();
    stays.sync();
    for round in 0..20 {
        let mut client = proxy.client("ctl");
        client.sync();
        match round % 3 {
            0 => client.send("exit"),
            1 => client.close_input(),
            _ => drop(client),
        }
        stays.answers("fd.open\th\tread\t/dev/null", "fd.state\th\tfile\tread\t/dev/null");
    }
}

/// A16: a client that ends its side at once still hears every reply.
#[test]
fn a_client_that_half_closes_gets_its_replies() {
    let (_proxy, mut client) = Daemonproxy::with_socket();
    let text = "x".repeat(200);
    for number in 0..100 {
        client.send(format!("echo\t{number}\t{text}"));
    }
    client.close_input();
    let lines = client.expect_end();
    assert_eq!(lines.len(), 100);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("{number}\t{text}"));
    }
}

/// A write error drops the output; commands are still read.
#[test]
fn a_client_that_cannot_hear_can_still_command() {
    let (mut proxy, mut deaf) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    deaf.sync();
    other.sync();
    deaf.stop_listening();
    deaf.send("echo\tinto the void");
    deaf.send("service.tags\tx\tone");
    other.expect_next("service.tags\tx\tone");
    deaf.send("service.tags\tx\ttwo");
    other.expect_next("service.tags\tx\ttwo");
}

/// K5: the end of the input, and `exit`, end a proxy with `-i`; what was asked before is answered.
#[test]
fn the_end_of_an_interactive_controller_ends_the_proxy() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.send("echo\tlast words");
    controller.close_input();
    assert_eq!(controller.expect_end(), ["last words"]);
    assert_eq!(proxy.wait_exit(), 0);

    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.send_bytes(b"echo\tlast words\nexit\necho\tmore\n");
    assert_eq!(controller.expect_end(), ["last words"]);
    assert_eq!(proxy.wait_exit(), 0);
}

/// K7: a new controller hears all pending signals first, without asking.
#[test]
fn pending_signals_greet_a_new_controller() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    one.sync();
    proxy.signal(Signal::USR1);
    one.expect_next("signal\tSIGUSR1\t{num}\t1");
    proxy.signal(Signal::HUP);
    one.expect_next("signal\tSIGHUP\t{num}\t1");
    let mut two = proxy.client("ctl");
    let mut heard = two.sync();
    heard.sort();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("signal\tSIGHUP\t"), "{heard:?}");
    assert!(heard[1].starts_with("signal\tSIGUSR1\t"), "{heard:?}");
    one.is_silent("signal.clear\tSIGUSR1\t1");
    one.is_silent("signal.clear\tSIGHUP\t1");
    drop(two);
    assert_eq!(proxy.client("ctl").sync(), Vec::<String>::new());
}

/// A service with `control.socket` commands and hears: first its own `up`, never its own `start`.
#[test]
fn a_service_can_be_a_controller() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let script = "printf 'service.tags\\tmade\\tby-boss\\necho\\tdone\\n' >&0; \
        while IFS= read -r line; do printf '%s\\n' \"$line\"; \
        [ \"$line\" = done ] && exit 0; done >heard";
    define(&mut controller, "boss", script);
    for handles in ["control.socket", "control.event\tcontrol.cmd"] {
        // The script writes to its first descriptor; with two names both are the same end.
        controller.ask(format!("service.fds\tboss\t{handles}"));
        let pid = start(&mut controller, "boss");
        controller.expect("service.tags\tmade\tby-boss");
        assert_eq!(expect_down(&mut controller, "boss"), "exit 0");
        let heard = read(&proxy, "heard");
        let lines: Vec<&str> = heard.lines().collect();
        let up = format!("\t{pid}\t-\t-\t0\t-");
        assert!(lines[0].starts_with("service.state\tboss\tup\t"), "{heard}");
        assert!(lines[0].ends_with(&up), "{heard}");
        assert!(lines.contains(&"service.tags\tmade\tby-boss"), "{heard}");
        assert!(!heard.contains("\tstart\t"), "{heard}");
    }
}

/// K7: a service that is a controller hears pending signals before its own `up`.
#[test]
fn a_controlling_service_hears_pending_signals_first() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    proxy.signal(Signal::USR2);
    controller.expect("signal\tSIGUSR2\t{num}\t1");
    define(
        &mut controller,
        "boss",
        "read -r a; read -r b; printf '%s\\n%s\\n' \"$a\" \"$b\" >heard",
    );
    controller.ask("service.fds\tboss\tcontrol.socket");
    start(&mut controller, "boss");
    expect_down(&mut controller, "boss");
    let heard = read(&proxy, "heard");
    assert!(heard.starts_with("signal\tSIGUSR2\t"), "{heard}");
    assert!(heard.contains("\nservice.state\tboss\tup\t"), "{heard}");
}

/// All control names of a list are the same end of one socket, and each start gets a new one.
#[test]
fn control_names_are_one_end_of_one_socket() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    // A subshell takes the redirection, so that the descriptors of the shell are as they were.
    let script = "(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 >>ends); true";
    define(&mut controller, "boss", script);
    controller.ask("service.fds\tboss\tcontrol.event\tcontrol.cmd\tcontrol.socket");
    for _ in 0..2 {
        start(&mut controller, "boss");
        assert_eq!(expect_down(&mut controller, "boss"), "exit 0");
    }
    let ends = read(&proxy, "ends");
    let ends: Vec<&str> = ends.lines().collect();
    assert_eq!(ends.len(), 6, "{ends:?}");
    assert!(ends[0].starts_with("socket:"), "{ends:?}");
    assert!(ends[..3].iter().all(|end| *end == ends[0]), "{ends:?}");
    assert!(ends[3..].iter().all(|end| *end == ends[3]), "{ends:?}");
}

/// A service with `control.cmd` alone can command, and has nothing to read but the end.
#[test]
fn a_service_with_commands_only_hears_nothing() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "boss", "printf 'service.tags\\tx\\tmade\\n'; cat <&1; exit 7");
    controller.ask("service.fds\tboss\tnull\tcontrol.cmd");
    start(&mut controller, "boss");
    let mut made = false;
    let end = controller.expect_line("the end of boss", |line| {
        made |= line == "service.tags\tx\tmade";
        line.starts_with("service.state\tboss\tdown\t").then(|| line.to_owned())
    });
    assert!(end.contains("\texit\t7\t"), "{end}");
    // The end of a process may be heard before its last words.
    if !made {
        controller.expect("service.tags\tx\tmade");
    }
}

/// A4: a service with `control.event` alone hears all that happens, as long as it listens.
#[test]
fn a_service_with_events_only_keeps_hearing() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let script = "while read -r line; do case $line in *late*) exit 5;; esac; done; exit 6";
    define(&mut controller, "ear", script);
    controller.ask("service.fds\tear\tcontrol.event");
    start(&mut controller, "ear");
    for number in 0..10 {
        controller.answers(&format!("service.tags\tx\t{number}"), "service.tags\tx\t{num}");
    }
    controller.send("service.tags\tx\tlate");
    assert_eq!(expect_down(&mut controller, "ear"), "exit 5");
}

/// A service with `control.event` alone cannot command: that direction is shut down.
#[test]
fn a_service_with_events_only_cannot_command() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "ear", "printf 'service.tags\\tx\\tno\\n' >&0; exit 1");
    controller.ask("service.fds\tear\tcontrol.event");
    start(&mut controller, "ear");
    assert_eq!(expect_down(&mut controller, "ear"), "signal SIGPIPE");
    let dump = controller.ask("statedump");
    assert!(!dump.contains(&never_run("x")), "{dump:?}");
}

/// `exit` of a controlling service closes its connection; the service itself goes on.
#[test]
fn a_service_may_leave_its_connection() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "boss", "printf 'exit\\n' >&0; cat >/dev/null; exit 4");
    controller.ask("service.fds\tboss\tcontrol.socket");
    start(&mut controller, "boss");
    assert_eq!(expect_down(&mut controller, "boss"), "exit 4");
}

/// A5: a service that needs a controller gets one, now or later, also beside `-i` and a
/// configuration file; the proxy survives it.
#[test]
fn a_service_gets_its_controller_beside_others() {
    let config = "service.args\tboss\tsh\t-c\tprintf 'service.tags\\tx\\tmade\\n' >&0; cat >all\n\
        service.fds\tboss\tcontrol.socket\n\
        service.start\tboss\n";
    let setup = Setup::new().file("config", config).options(["-c", "config"]);
    let (mut proxy, mut controller) = Daemonproxy::interactive_with(setup);
    wait_for_dumped(&mut controller, "service.tags\tx\tmade");
    assert!(proxy.is_running());
}

/// Several services can be controllers at a time.
#[test]
fn several_services_are_controllers_at_a_time() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    for name in ["a", "b", "c", "d"] {
        let script = format!("printf 'service.tags\\tby-{name}\\tx\\n' >&0; cat >/dev/null");
        controller.send(format!("service.args\t{name}\tsh\t-c\t{script}"));
        controller.send(format!("service.fds\t{name}\tcontrol.socket"));
        controller.send(format!("service.start\t{name}"));
    }
    for name in ["a", "b", "c", "d"] {
        wait_for_dumped(&mut controller, &format!("service.tags\tby-{name}\tx"));
    }
    assert!(proxy.is_running());
}

/// A configuration file that is a FIFO is read until its writer closes it.
#[test]
fn a_configuration_may_come_through_a_fifo() {
    let setup = Setup::new();
    let made = std::process::Command::new("mkfifo").arg(setup.path("config")).status().unwrap();
    assert!(made.success());
    let path = setup.path("config");
    let writer = std::thread::spawn(move || {
        std::fs::write(path, "service.args\tx\tsleep\t1000\nservice.start\tx\n").unwrap();
    });
    let mut proxy = setup.options(["-S", "ctl", "-c", "config"]).start();
    let mut client = proxy.client("ctl");
    wait_for_dumped(&mut client, "service.args\tx\tsleep\t1000");
    client.send("statedump");
    expect_up(&mut client, "x");
    writer.join().unwrap();
}
