//! `service.auto_up`: what starts services by itself.

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Daemonproxy;

use crate::services::{define, expect_down, expect_start, expect_up, start};

/// `always` starts a service when it is set; its `start` precedes the reply.
#[test]
fn always_starts_at_once() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.send("service.auto_up\tx\t5\talways");
    controller.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-");
    controller.expect("service.auto_up\tx\t5\talways");
}

/// A9, A8: a service that ends early is due SECS after its last start, announced once.
#[test]
fn a_restart_keeps_the_distance_between_starts() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "sleep 1.1; exit 2");
    controller.send("service.auto_up\tx\t2\talways");
    let (first, _) = expect_up(&mut controller, "x");
    let down = "service.state\tx\tdown\t{num}\t{pid}\texit\t2\t{num}\t0";
    let down = controller.expect(down).number(0);
    let due = controller.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-").number(0);
    // On a busy machine it may have run for longer than the two seconds.
    assert_eq!(due, down.max(first + 2), "up at {first}, down at {down}");
    let up = controller.expect_next("service.state\tx\tup\t{num}\t{pid}\t-\t-\t0\t-").number(0);
    assert!(up >= due, "up at {up}, due at {due}");
}

/// A service that ran for SECS or longer is started again at once.
#[test]
fn a_long_run_is_followed_by_the_next_at_once() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "sleep 1.2");
    controller.send("service.auto_up\tx\t1\talways");
    expect_up(&mut controller, "x");
    let down =
        controller.expect("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{num}\t0").number(0);
    let due = expect_start(&mut controller, "x");
    assert!(due <= down + 1, "down at {down}, due at {due}");
    let (up, _) = expect_up(&mut controller, "x");
    assert!(up <= down + 1, "down at {down}, up at {up}");
}

/// A9: `always` without any seconds waits one second between two starts.
#[test]
fn restarts_without_seconds_do_not_spin() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    controller.send("service.auto_up\tx\t-\talways");
    let (first, _) = expect_up(&mut controller, "x");
    let (second, _) = expect_up(&mut controller, "x");
    assert!(second > first, "up at {first} and {second}");
}

/// Arguments are not looked at by a trigger: without any, the program fails, and is tried again.
#[test]
fn a_trigger_does_not_look_at_arguments() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.send("service.auto_up\tx\t1\talways");
    assert_eq!(expect_down(&mut controller, "x"), "exit 3");
    assert_eq!(expect_down(&mut controller, "x"), "exit 3");
}

/// Clearing the triggers neither stops a service nor lets it be started again.
#[test]
fn without_triggers_a_service_stays_down() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.send("service.auto_up\tx\t1\talways");
    expect_up(&mut controller, "x");
    controller.sync();
    controller.answers("service.auto_up\tx\t-", "service.auto_up\tx\t-");
    controller.is_silent("service.signal\tx\t0");
    controller.send("service.signal\tx\tSIGTERM");
    assert_eq!(expect_down(&mut controller, "x"), "signal SIGTERM");
    let dump = controller.ask("statedump");
    assert!(dump.iter().any(|line| line.starts_with("service.state\tx\tdown\t")), "{dump:?}");
}

/// Clearing the triggers does not cancel a start that is pending.
#[test]
fn a_pending_start_outlives_its_trigger() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    controller.send("service.auto_up\tx\t2\talways");
    expect_down(&mut controller, "x");
    expect_start(&mut controller, "x");
    controller.send("service.auto_up\tx\t-");
    controller.expect("service.auto_up\tx\t-");
    expect_up(&mut controller, "x");
    expect_down(&mut controller, "x");
    assert_eq!(controller.sync(), Vec::<String>::new());
}

/// A signal starts the services that are triggered by it.
#[test]
fn a_signal_starts_its_services() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    define(&mut controller, "y", "exec sleep 1000");
    define(&mut controller, "z", "exec sleep 1000");
    controller.answers("service.auto_up\tx\t5\tSIGUSR1", "service.auto_up\tx\t5\tSIGUSR1");
    controller.answers("service.auto_up\ty\t5\tHUP\tUSR1", "service.auto_up\ty\t5\tHUP\tUSR1");
    controller.answers("service.auto_up\tz\t5\tSIGUSR2", "service.auto_up\tz\t5\tSIGUSR2");
    proxy.signal(Signal::USR1);
    let mut up = Vec::new();
    controller.expect_line("x and y", |line| {
        if let Some(rest) = line.strip_prefix("service.state\t") {
            let (name, rest) = rest.split_once('\t').unwrap();
            if rest.starts_with("up\t") {
                up.push(name.to_owned());
            }
        }
        (up.len() == 2).then_some(())
    });
    up.sort();
    assert_eq!(up, ["x", "y"]);
    let dump = controller.ask("statedump");
    assert!(dump.iter().any(|line| line.starts_with("service.state\tz\tdown\t-")), "{dump:?}");
}

/// A8: a trigger that is set while its signal is pending starts at once, announced once.
#[test]
fn a_pending_signal_starts_when_the_trigger_is_set() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    proxy.signal(Signal::USR1);
    controller.expect_next("signal\tSIGUSR1\t{num}\t1");
    controller.send("service.auto_up\tx\t5\tSIGUSR1");
    controller.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-");
    let mut lines = vec![controller.next_line(), controller.next_line()];
    lines.sort();
    assert_eq!(lines[0], "service.auto_up\tx\t5\tSIGUSR1");
    assert!(lines[1].starts_with("service.state\tx\tup\t"), "{lines:?}");
}

/// A handler that does not clear its signal is started again, SECS later.
#[test]
fn a_handler_that_clears_nothing_runs_again() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    controller.answers("service.auto_up\tx\t1\tSIGUSR1", "service.auto_up\tx\t1\tSIGUSR1");
    proxy.signal(Signal::USR1);
    let (first, _) = expect_up(&mut controller, "x");
    let (second, _) = expect_up(&mut controller, "x");
    assert!(second > first, "up at {first} and {second}");
}

/// A handler that clears its signal stays down after its end, until the next signal.
#[test]
fn a_handler_clears_its_signal() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let script = "printf 'signal.clear\\tSIGUSR1\\t1\\necho\\tcleared\\n' >&0; \
        while read -r line; do [ \"$line\" = cleared ] && exit 0; done";
    define(&mut controller, "x", script);
    controller.ask("service.fds\tx\tcontrol.socket");
    controller.answers("service.auto_up\tx\t1\tSIGUSR1", "service.auto_up\tx\t1\tSIGUSR1");
    for _ in 0..2 {
        proxy.signal(Signal::USR1);
        controller.expect("signal\tSIGUSR1\t{num}\t1");
        assert_eq!(expect_down(&mut controller, "x"), "exit 0");
        // A trigger that holds at the end is answered by a `start` at once, pending or not.
        assert_eq!(controller.sync(), Vec::<String>::new());
    }
}

/// A signal pulls a pending start forward, whatever the seconds.
#[test]
fn a_signal_pulls_a_pending_start_forward() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.ask("service.auto_up\tx\t1000\tSIGUSR1");
    controller.ask("service.start\tx\t4000000000");
    proxy.signal(Signal::USR1);
    expect_up(&mut controller, "x");
}

/// A new signal starts a service at once also when it ended a moment ago, whatever the seconds.
#[test]
fn a_new_signal_does_not_wait() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    controller.ask("service.auto_up\tx\t1000\tSIGUSR1");
    for _ in 0..3 {
        proxy.signal(Signal::USR1);
        expect_up(&mut controller, "x");
        expect_down(&mut controller, "x");
        controller.send("signal.clear\tSIGUSR1\t10");
        controller.sync();
    }
}

/// A signal that comes while its service is up does nothing then; it is looked at when it ends.
#[test]
fn a_signal_while_up_is_looked_at_in_the_end() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.answers("service.auto_up\tx\t1\tSIGUSR1", "service.auto_up\tx\t1\tSIGUSR1");
    let pid = start(&mut controller, "x");
    proxy.signal(Signal::USR1);
    controller.expect("signal\tSIGUSR1\t{num}\t1");
    controller.is_silent("service.signal\tx\t0");
    controller.send("service.signal\tx\tSIGKILL");
    assert_eq!(expect_down(&mut controller, "x"), "signal SIGKILL");
    let (_, next) = expect_up(&mut controller, "x");
    assert_ne!(next, pid);
}

/// New arguments of a service with `always` are taken at its next start.
#[test]
fn a_restart_takes_the_latest_arguments() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.send("service.auto_up\tx\t1\talways");
    expect_up(&mut controller, "x");
    controller.ask("service.args\tx\tsh\t-c\texit 9");
    controller.send("service.signal\tx\tSIGKILL");
    assert_eq!(expect_down(&mut controller, "x"), "signal SIGKILL");
    assert_eq!(expect_down(&mut controller, "x"), "exit 9");
}
