//! `statedump`: everything, in one order.

use keepd_model::Signal;
use keepd_testkit::daemonproxy::{Conversation, Daemonproxy};

use crate::services::{define, expect_down, expect_start, expect_up, never_run, run, start};

/// Returns a dump without the descriptors that the test itself was given by whoever started it.
#[track_caller]
fn dump(controller: &mut Conversation) -> Vec<String> {
    let mut lines = controller.ask("statedump");
    lines.retain(|line| !line.starts_with("fd.state\tfd_"));
    lines
}

/// The built-in handles come first, by name.
#[test]
fn a_new_proxy_has_its_built_in_handles() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.send("statedump");
    controller.expect_next("fd.state\tcontrol.cmd\tspecial\twrite\t{any}");
    controller.expect_next("fd.state\tcontrol.event\tspecial\tread\t{any}");
    controller.expect_next("fd.state\tcontrol.socket\tspecial\tread,write\t{any}");
    controller.expect("fd.state\tnull\tspecial\tread,write\t/dev/null");
    controller.expect_next("fd.state\tstderr\t{any}\t{any}\tunknown");
    controller.expect_next("fd.state\tstdin\t{any}\t{any}\tunknown");
    controller.expect_next("fd.state\tstdout\t{any}\t{any}\tunknown");
    assert_eq!(controller.sync(), Vec::<String>::new());
}

/// K1: handles by name, services by name with five lines each, then signals by time.
#[test]
fn a_dump_has_one_order() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    for name in ["zz", "B", "a", "_", "0"] {
        controller.ask(format!("fd.open\t{name}\tread\t/dev/null"));
        controller.ask(format!("service.tags\t{name}\tt"));
    }
    proxy.signal(Signal::USR2);
    controller.expect("signal\tSIGUSR2\t{num}\t1");
    proxy.signal(Signal::HUP);
    controller.expect("signal\tSIGHUP\t{num}\t1");
    let lines = dump(&mut controller);
    let field = |line: &String, number| line.split('\t').nth(number).unwrap().to_owned();
    let (handles, rest) = lines.split_at(12);
    let names: Vec<String> = handles.iter().map(|line| field(line, 1)).collect();
    let expected = [
        "0",
        "B",
        "_",
        "a",
        "control.cmd",
        "control.event",
        "control.socket",
        "null",
        "stderr",
        "stdin",
        "stdout",
        "zz",
    ];
    assert!(handles.iter().all(|line| line.starts_with("fd.state\t")), "{lines:?}");
    assert_eq!(names, expected);
    let (services, signals) = rest.split_at(25);
    for (name, lines) in ["0", "B", "_", "a", "zz"].iter().zip(services.chunks(5)) {
        let expected = [
            never_run(name),
            format!("service.tags\t{name}\tt"),
            format!("service.args\t{name}\t"),
            format!("service.fds\t{name}\tnull\tnull\tnull"),
            format!("service.auto_up\t{name}\t-"),
        ];
        assert_eq!(lines, expected);
    }
    assert_eq!(signals.len(), 2, "{signals:?}");
    assert!(signals[0].starts_with("signal\tSIGUSR2\t"), "{signals:?}");
    assert!(signals[1].starts_with("signal\tSIGHUP\t"), "{signals:?}");
}

/// A dump shows what was set, in the form of the events.
#[test]
fn a_dump_repeats_the_events() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let set = [
        "service.tags\tx\ta=1\t\tb",
        "service.args\tx\tprogram\t\targument",
        "service.fds\tx\tnull\t-\tstderr",
        "service.auto_up\tx\t7\tSIGUSR1\tHUP",
    ];
    for line in set {
        controller.answers(line, line);
    }
    let lines = dump(&mut controller);
    let found: Vec<&String> = lines.iter().filter(|line| line.starts_with("service.")).collect();
    assert_eq!(found[0], &never_run("x"));
    assert_eq!(found[1..], set);
    for (command, line) in [
        ("service.tags\tx", "service.tags\tx\t"),
        ("service.args\tx", "service.args\tx\t"),
        ("service.fds\tx", "service.fds\tx\t"),
        ("service.auto_up\tx\t9", "service.auto_up\tx\t-"),
    ] {
        controller.answers(command, line);
        assert!(dump(&mut controller).contains(&line.to_owned()));
    }
}

/// The states of a service in a dump.
#[test]
fn a_dump_shows_each_state() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "waits", "true");
    define(&mut controller, "runs", "exec sleep 1000");
    define(&mut controller, "exits", "exit 3");
    define(&mut controller, "dies", "kill -9 $$");
    controller.ask("service.start\twaits\t4000000000");
    let pid = start(&mut controller, "runs");
    assert_eq!(run(&mut controller, "exits"), "exit 3");
    assert_eq!(run(&mut controller, "dies"), "signal SIGKILL");
    controller.send("statedump");
    controller.expect("service.state\tdies\tdown\t{num}\t{pid}\tsignal\tSIGKILL\t{num}\t{num}");
    controller.expect("service.state\texits\tdown\t{num}\t{pid}\texit\t3\t{num}\t{num}");
    controller.expect(&format!("service.state\truns\tup\t{{num}}\t{pid}\t-\t-\t{{num}}\t-"));
    controller.expect("service.state\twaits\tstart\t4000000000\t-\t-\t-\t-\t-");
}

/// K3: times are whole seconds, and durations are cut off from the exact difference.
#[test]
fn a_dump_counts_whole_seconds() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "sleep 1.1");
    define(&mut controller, "clock", "sleep 1.1");
    controller.send("service.start\tx");
    let (up, _) = expect_up(&mut controller, "x");
    expect_down(&mut controller, "x");
    run(&mut controller, "clock");
    controller.send("statedump");
    let state = controller.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{num}\t{num}");
    let (down, ran, since) = (state.number(0), state.number(2), state.number(3));
    assert!(ran >= 1 && (ran..=ran + 1).contains(&(down - up)), "from {up} to {down}, ran {ran}");
    assert!(since >= 1, "down since {since}");
}

/// A dump is whole before the next command of its connection runs.
#[test]
fn a_dump_is_complete_before_the_next_command() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for number in 0..200 {
        controller.send(format!("service.tags\ts{number:03}\t{}", "t".repeat(100)));
    }
    controller.sync();
    controller.send_bytes(b"statedump\nservice.delete\ts199\necho\tend\n");
    let mut states = 0;
    controller.expect_line("the last line of the last service", |line| {
        states += u32::from(line.starts_with("service.state\t"));
        (line == "service.auto_up\ts199\t-").then_some(())
    });
    assert_eq!(states, 200);
    controller.expect_next("service.state\ts199\tdeleted\t-\t-\t-\t-\t-\t-");
    controller.expect_next("end");
}

/// Times of `start` lines are not forgotten by a dump.
#[test]
fn a_pending_restart_is_dumped_as_a_start() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "true");
    controller.send("service.auto_up\tx\t1000\talways");
    expect_down(&mut controller, "x");
    let due = expect_start(&mut controller, "x");
    let line = format!("service.state\tx\tstart\t{due}\t-\t-\t-\t-\t-");
    assert!(dump(&mut controller).contains(&line));
}
