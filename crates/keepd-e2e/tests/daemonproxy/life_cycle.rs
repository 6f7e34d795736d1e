//! The states of a service and the lines that announce them.

use keepd_testkit::daemonproxy::{Daemonproxy, Setup};

use crate::services::{define, expect_down, expect_start, expect_up, run, start};

/// The exit status is shown as it is.
#[test]
fn an_exit_status_is_shown() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for status in [0, 1, 2, 127, 128, 255] {
        define(&mut controller, "x", &format!("exit {status}"));
        assert_eq!(run(&mut controller, "x"), format!("exit {status}"));
    }
}

/// A signal that ended a service is shown by name; a core dump is not told apart.
#[test]
fn an_ending_signal_is_shown_by_name() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for name in ["KILL", "TERM", "HUP", "USR1", "ABRT", "SEGV", "PIPE", "ALRM", "XCPU"] {
        define(&mut controller, "x", &format!("ulimit -c 0; kill -{name} $$"));
        assert_eq!(run(&mut controller, "x"), format!("signal SIG{name}"));
    }
}

/// K6: a program that cannot be executed is `up`, then `down` with exit 3; the log has a line.
#[test]
fn a_failed_exec_is_exit_3() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("service.args\tx\tno-such-program\targument");
    controller.send("service.start\tx");
    controller.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-");
    controller.expect_next("service.state\tx\tup\t{num}\t{pid}\t-\t-\t0\t-");
    controller.expect_next("service.state\tx\tdown\t{num}\t{pid}\texit\t3\t{num}\t0");
    proxy.expect_log(&["no-such-program"]);
    controller.ask("service.args\tx\t/");
    assert_eq!(run(&mut controller, "x"), "exit 3");
}

/// A10: a listed handle that does not exist is exit 3 like a failed exec, with an error in the log.
#[test]
fn a_missing_handle_is_exit_3() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    controller.ask("service.fds\tx\tnull\tnowhere");
    assert_eq!(run(&mut controller, "x"), "exit 3");
    proxy.expect_log(&["error: ", "nowhere"]);
    // Names are resolved at each start.
    controller.ask("fd.open\tnowhere\tread\t/dev/null");
    assert_eq!(run(&mut controller, "x"), "exit 0");
    controller.ask("fd.delete\tnowhere");
    assert_eq!(run(&mut controller, "x"), "exit 3");
}

/// The record of an end is lost with the next start.
#[test]
fn the_next_start_clears_the_record() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 3");
    run(&mut controller, "x");
    let line = "service.state\tx\tstart\t4000000000\t-\t-\t-\t-\t-";
    controller.answers("service.start\tx\t4000000000", line);
    let dump = controller.ask("statedump");
    assert!(dump.contains(&line.to_owned()), "{dump:?}");
    assert!(!dump.iter().any(|line| line.contains("\texit\t3\t")), "{dump:?}");
}

/// One run is always `start`, `up`, `down`, however short it is and however many there are.
#[test]
fn runs_are_never_merged() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let names: Vec<String> = (0..30).map(|number| format!("s{number}")).collect();
    for name in &names {
        define(&mut controller, name, "exit 1");
    }
    for name in &names {
        controller.send(format!("service.start\t{name}"));
    }
    let mut heard: Vec<(String, String)> = Vec::new();
    controller.expect_line("30 ends", |line| {
        let fields: Vec<&str> = line.split('\t').collect();
        heard.push((fields[1].to_owned(), fields[2].to_owned()));
        let ends = heard.iter().filter(|(_, state)| state == "down").count();
        (ends == names.len()).then_some(())
    });
    for name in &names {
        let states: Vec<&String> =
            heard.iter().filter(|(found, _)| found == name).map(|(_, state)| state).collect();
        assert_eq!(states, ["start", "up", "down"], "{name}");
    }
}

/// A process that a service leaves behind does not keep it up.
#[test]
fn a_service_is_down_when_its_process_is() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "sleep 1000 & exit 4");
    assert_eq!(run(&mut controller, "x"), "exit 4");
    assert_eq!(run(&mut controller, "x"), "exit 4");
}

/// Stops by job control are not reported.
#[test]
fn a_stopped_process_is_still_up() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    start(&mut controller, "x");
    controller.is_silent("service.signal\tx\tSIGSTOP");
    controller.is_silent("service.signal\tx\tSIGCONT");
    controller.is_silent("service.signal\tx\t0");
}

/// Many services run side by side, each with its own process.
#[test]
fn services_run_side_by_side() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let mut pids = Vec::new();
    for number in 0..20 {
        let name = format!("s{number}");
        controller.ask(format!("service.args\t{name}\tsleep\t1000"));
        controller.send(format!("service.start\t{name}"));
        expect_start(&mut controller, &name);
        pids.push(expect_up(&mut controller, &name).1);
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 20);
    for number in (0..20).rev() {
        controller.send(format!("service.signal\ts{number}\t{}", number % 2 + 9));
        let end = if number % 2 == 0 { "signal SIGKILL" } else { "signal SIGUSR1" };
        assert_eq!(expect_down(&mut controller, &format!("s{number}")), end);
    }
}

/// A start for which there are no descriptors is tried again after 3 s, and announced with its new
/// time; the log has an error.
#[test]
fn a_start_that_cannot_be_made_is_tried_again() {
    let setup = Setup::new().through(["sh", "-c", "ulimit -n 300; exec \"$0\" \"$@\""]);
    let (proxy, mut controller) = Daemonproxy::interactive_with(setup);
    define(&mut controller, "boss", "cat; exit 1");
    controller.ask("service.fds\tboss\tcontrol.socket\tnull");
    let mut made = Vec::new();
    loop {
        let name = format!("h{}", made.len());
        let lines = controller.ask(format!("fd.open\t{name}\tread\t/dev/null"));
        if lines[0].starts_with("error\t") {
            assert!(lines[0].to_lowercase().contains("too many open files"), "{lines:?}");
            break;
        }
        made.push(name);
        assert!(made.len() < 300, "the limit on descriptors is not kept");
    }
    controller.send("service.start\tboss");
    let first = expect_start(&mut controller, "boss");
    let second = expect_start(&mut controller, "boss");
    assert!((first + 3..=first + 4).contains(&second), "due at {first}, then at {second}");
    proxy.expect_log(&["error: ", "boss"]);
    for name in made {
        controller.send(format!("fd.delete\t{name}"));
    }
    let (up, _) = expect_up(&mut controller, "boss");
    assert!(up >= second, "up at {up}, due at {second}");
}
