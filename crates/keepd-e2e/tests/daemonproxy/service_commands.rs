//! The commands of services: what they answer and what they refuse.

use keepd_testkit::daemonproxy::Daemonproxy;
use keepd_testkit::monotonic_seconds;

use crate::services::{
    define, deleted, expect_down, expect_start, expect_up, never_run, run, start,
};

/// K2: setters answer with the new value.
#[test]
fn setters_answer_with_the_new_value() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for line in [
        "service.args\tx\ttrue",
        "service.args\tx\tprogram\twith\t\targuments",
        "service.fds\tx\tnull",
        "service.fds\tx\tnull\t-\tstderr\tnull",
        "service.tags\tx\ta",
        "service.tags\tx\ta=b\tc d",
        "service.auto_up\tx\t1\tSIGUSR1",
        "service.auto_up\tx\t2147483647\tSIGTERM\tSIGHUP",
    ] {
        controller.answers(line, line);
    }
}

/// A handle that does not exist is warned of by name, to the sender only; the list is set.
#[test]
fn unknown_handles_of_a_list_are_warned_of() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    let mut lines = client.ask("service.fds\tx\tnull\tlater.one\tstderr\tlater.two");
    lines.sort();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "service.fds\tx\tnull\tlater.one\tstderr\tlater.two");
    for (line, name) in lines[1..].iter().zip(["later.one", "later.two"]) {
        assert!(line.starts_with("warning: ") && line.contains(name), "{lines:?}");
    }
    other.expect_next("service.fds\tx\tnull\tlater.one\tstderr\tlater.two");
    assert_eq!(other.sync(), Vec::<String>::new());
}

/// A22: `-` in a list is no unknown handle.
#[test]
fn a_closed_position_is_not_warned_of() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("service.fds\tx\t-\tnull\t-", "service.fds\tx\t-\tnull\t-");
}

/// `service.auto_up` without triggers is off, whatever the seconds; they are remembered.
#[test]
fn the_seconds_of_auto_up_are_remembered() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("service.auto_up\tx\t9\tSIGUSR1", "service.auto_up\tx\t9\tSIGUSR1");
    controller.answers("service.auto_up\tx\t-", "service.auto_up\tx\t-");
    controller.answers("service.auto_up\tx\t-\tSIGUSR2", "service.auto_up\tx\t9\tSIGUSR2");
    controller.answers("service.auto_up\tx\t8", "service.auto_up\tx\t-");
    controller.answers("service.auto_up\tx\t-\tSIGUSR2", "service.auto_up\tx\t8\tSIGUSR2");
}

/// A9: where no seconds were ever given, they are 1.
#[test]
fn the_seconds_of_auto_up_are_at_least_one() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.answers("service.auto_up\tx\t-\tSIGUSR1", "service.auto_up\tx\t1\tSIGUSR1");
}

/// The seconds are from 1 to 2^31-1.
#[test]
fn the_seconds_of_auto_up_have_a_range() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for seconds in ["0", "-1", "2147483648", "x", "1x", ""] {
        controller.refuses(&format!("service.auto_up\tx\t{seconds}\tSIGUSR1"), &[]);
    }
    controller.refuses("service.auto_up\tx", &[]);
}

/// Triggers are `always` and any signal by name.
#[test]
fn triggers_are_always_and_signals() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for triggers in ["SIGKILL", "USR1", "SIGSEGV\tSIGWINCH", "HUP\tINT\tTERM"] {
        let line = format!("service.auto_up\tx\t5\t{triggers}");
        controller.answers(&line, &line);
    }
    for trigger in ["sometimes", "Always", "usr1", "SIGNONE"] {
        controller.refuses(&format!("service.auto_up\tx\t5\t{trigger}"), &[]);
        controller.refuses(&format!("service.auto_up\tx\t5\tSIGUSR1\t{trigger}"), &[]);
    }
}

/// A25: an invalid trigger changes nothing.
#[test]
fn an_invalid_trigger_changes_nothing() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("service.auto_up\tx\t9\tSIGUSR1");
    controller.refuses("service.auto_up\tx\t5\tSIGUSR2\tsometimes", &[]);
    let dump = controller.ask("statedump");
    assert!(dump.contains(&"service.auto_up\tx\t9\tSIGUSR1".to_owned()), "{dump:?}");
    controller.answers("service.auto_up\tx\t-\tHUP", "service.auto_up\tx\t9\tHUP");
}

/// `service.start`: the service is due now, comes up, and ends.
#[test]
fn a_service_starts_at_once() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    let before = monotonic_seconds();
    controller.send("service.start\tx");
    let due = expect_start(&mut controller, "x");
    let (up, pid) = expect_up(&mut controller, "x");
    let down = controller
        .expect(&format!("service.state\tx\tdown\t{{num}}\t{pid}\texit\t0\t{{num}}\t{{num}}"));
    let after = monotonic_seconds();
    let times = [before, due, up, down.number(0), after];
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(down.number(2), 0, "down time");
}

/// `service.start⇥NAME⇥TS`: the service starts when the clock gets there.
#[test]
fn a_service_starts_at_its_time() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    let due = monotonic_seconds() + 2;
    controller.answers(
        &format!("service.start\tx\t{due}"),
        &format!("service.state\tx\tstart\t{due}\t-\t-\t-\t-\t-"),
    );
    let (up, _) = expect_up(&mut controller, "x");
    assert!(up >= due, "up at {up}, due at {due}");
}

/// A pending start can be scheduled again, also for now.
#[test]
fn a_pending_start_can_be_moved() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    for due in [3_000_000_000_u64, 2_000_000_000, 4_000_000_000] {
        controller.answers(
            &format!("service.start\tx\t{due}"),
            &format!("service.state\tx\tstart\t{due}\t-\t-\t-\t-\t-"),
        );
    }
    assert_eq!(run(&mut controller, "x"), "exit 0");
}

/// `service.start⇥NAME⇥-` cancels a pending start, and nothing else.
#[test]
fn a_pending_start_can_be_cancelled() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.refuses("service.start\tx\t-", &[]);
    controller.ask("service.start\tx\t4000000000");
    controller.answers("service.start\tx\t-", &never_run("x"));
    controller.refuses("service.start\tx\t-", &[]);
    start(&mut controller, "x");
    controller.refuses("service.start\tx\t-", &[]);
}

/// A cancelled start leaves no record of the run before.
#[test]
fn a_cancelled_start_is_like_never_run() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 3");
    run(&mut controller, "x");
    controller.ask("service.start\tx\t4000000000");
    controller.answers("service.start\tx\t-", &never_run("x"));
    let dump = controller.ask("statedump");
    assert!(dump.contains(&never_run("x")), "{dump:?}");
}

/// A6: a time up to 100,000 s back means now; an older one is refused.
#[test]
fn a_recent_past_means_now() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    let now = i64::try_from(monotonic_seconds()).unwrap();
    controller.refuses(&format!("service.start\tx\t{}", now - 100_100), &[]);
    let past = now.saturating_sub(5).max(0);
    controller.send(format!("service.start\tx\t{past}"));
    expect_start(&mut controller, "x");
    expect_up(&mut controller, "x");
}

/// `service.start` says what is wrong with a time, and needs arguments.
#[test]
fn a_start_needs_arguments_and_a_valid_time() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("service.tags\tx\ta");
    controller.refuses("service.start\tx", &[]);
    controller.ask("service.args\tx\ttrue");
    for time in ["soon", "1x", "99999999999999999999"] {
        controller.refuses(&format!("service.start\tx\t{time}"), &[]);
    }
    controller.ask("service.args\tx");
    controller.refuses("service.start\tx", &[]);
}

/// A service that is up cannot be started, also not later.
#[test]
fn a_running_service_cannot_be_started() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    start(&mut controller, "x");
    controller.refuses("service.start\tx", &[]);
    controller.refuses("service.start\tx\t4000000000", &[]);
}

/// Once a client has read `down`, `service.start` is accepted.
#[test]
fn a_service_that_is_heard_down_can_be_started() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exit 0");
    for _ in 0..30 {
        controller.send("service.start\tx");
        controller.expect_next("service.state\tx\tstart\t{num}\t-\t-\t-\t-\t-");
        controller.expect_next("service.state\tx\tup\t{num}\t{pid}\t-\t-\t0\t-");
        controller.expect_next("service.state\tx\tdown\t{num}\t{pid}\texit\t0\t{num}\t0");
    }
}

/// New arguments are for the next start.
#[test]
fn new_arguments_are_for_the_next_start() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "sleep 1000; exit 1");
    start(&mut controller, "x");
    define(&mut controller, "x", "exit 2");
    controller.send("service.signal\tx\tSIGTERM");
    assert_eq!(expect_down(&mut controller, "x"), "signal SIGTERM");
    assert_eq!(run(&mut controller, "x"), "exit 2");
}

/// `service.signal` is silent; signal 0 only looks.
#[test]
fn signals_are_sent_in_silence() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    start(&mut controller, "x");
    controller.is_silent("service.signal\tx\t0");
    controller.is_silent("service.signal\tx\tSIGCONT");
    controller.send("service.signal\tx\tSIGTERM");
    assert_eq!(expect_down(&mut controller, "x"), "signal SIGTERM");
}

/// `service.signal` needs a signal that exists, an option it knows, and a service that runs.
#[test]
fn a_signal_needs_a_running_service() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    controller.refuses("service.signal\tx\tSIGTERM", &[]);
    controller.refuses("service.signal\tx\t0", &[]);
    start(&mut controller, "x");
    controller.refuses("service.signal\tx", &[]);
    controller.refuses("service.signal\tx\t", &[]);
    controller.refuses("service.signal\tx\tSIGTERM\tthoroughly", &[]);
    // A11: an unknown name is an error, not signal 0.
    controller.refuses("service.signal\tx\tFOO", &["invalid signal"]);
    let dump = controller.ask("statedump");
    assert!(dump.iter().any(|line| line.starts_with("service.state\tx\tup\t")), "{dump:?}");
}

/// K13: `group` fails for a service that is no group leader, with name, group and error.
#[test]
fn a_group_must_have_been_made_by_the_service() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "follower", "exec sleep 1000");
    let pid = start(&mut controller, "follower").to_string();
    controller.refuses(
        "service.signal\tfollower\tSIGTERM\tgroup",
        &["follower", &pid, "No such process"],
    );
    controller.refuses("service.signal\tfollower\t999", &["follower", &pid, "Invalid argument"]);
}

/// `group` reaches every process of a service that leads a group.
#[test]
fn a_group_leader_is_signalled_with_its_group() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let script = "printf 'service.tags\\tready\\tx\\n' >&0; sleep 1000 & wait";
    controller.ask(format!("service.args\tleader\tsetsid\tsh\t-c\t{script}"));
    controller.ask("service.fds\tleader\tcontrol.cmd");
    controller.send("service.start\tleader");
    controller.expect("service.tags\tready\tx");
    controller.send("service.signal\tleader\tSIGKILL\tgroup");
    assert_eq!(expect_down(&mut controller, "leader"), "signal SIGKILL");
}

/// `service.delete` forgets a service that never ran, one that is pending, and (A7) one that ran.
#[test]
fn a_service_that_is_not_up_can_be_deleted() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "never", "true");
    define(&mut controller, "pending", "true");
    define(&mut controller, "ran", "exit 3");
    controller.ask("service.start\tpending\t4000000000");
    run(&mut controller, "ran");
    for name in ["never", "pending", "ran"] {
        controller.answers(&format!("service.delete\t{name}"), &deleted(name));
        controller.refuses(&format!("service.delete\t{name}"), &[]);
        controller.refuses(&format!("service.start\t{name}"), &[]);
    }
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("service.")), "{dump:?}");
}

/// A service that is up cannot be deleted.
#[test]
fn a_running_service_cannot_be_deleted() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    start(&mut controller, "x");
    controller.refuses("service.delete\tx", &[]);
    controller.send("service.signal\tx\tSIGKILL");
    expect_down(&mut controller, "x");
    controller.answers("service.delete\tx", &deleted("x"));
}

/// A new service of an old name has nothing of it.
#[test]
fn a_deleted_service_leaves_nothing_behind() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "true");
    controller.ask("service.fds\tx\tnull");
    controller.ask("service.auto_up\tx\t5\tSIGUSR1");
    controller.ask("service.delete\tx");
    controller.ask("service.tags\tx\tnew");
    let dump = controller.ask("statedump");
    let lines: Vec<&String> = dump.iter().filter(|line| line.starts_with("service.")).collect();
    assert_eq!(*lines[0], never_run("x"));
    assert_eq!(
        lines[1..],
        [
            "service.tags\tx\tnew",
            "service.args\tx\t",
            "service.fds\tx\tnull\tnull\tnull",
            "service.auto_up\tx\t-",
        ]
    );
}
