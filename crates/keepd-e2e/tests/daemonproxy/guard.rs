//! The exit guard: no end without the code.

use std::os::unix::net::UnixListener;

use keepd_testkit::{LONG, Running, wait_until};

use crate::exit::{FATAL, rescue, rescued};
use crate::place::{Place, Proxy, shows};

/// Starts daemonproxy with `-i`, a control socket, these words, and the guard 77.
fn guarded(place: &Place, words: &[&str]) -> Proxy {
    let words: Vec<&str> =
        ["--exit-guard", "77", "-S", "sock"].iter().chain(words).copied().collect();
    place.interactive(&words)
}

/// The end of `-i` is only logged; the rest goes on, and who had it sees that it is over.
#[test]
fn the_end_of_an_interactive_session_is_not_the_end() {
    let place = Place::new();
    for ends in ["input", "exit"] {
        let mut proxy = guarded(&place, &[]);
        let mut other = place.connect("sock", &proxy);
        other.sync();
        let before = proxy.log().len();
        match ends {
            "exit" => proxy.talk.send("exit"),
            _ => proxy.talk.close_input(),
        }
        wait_until("a line of the log", LONG, || (proxy.log().len() > before).then_some(()));
        other.sync();
        other.sync();
        proxy.talk.expect_end();
        assert!(proxy.running.is_running());
    }
}

/// Without exit-exec `terminate` is refused even with the right code (K5).
#[test]
fn terminate_under_guard_needs_exit_exec() {
    let place = Place::new();
    let mut proxy = guarded(&place, &[]);
    proxy.talk.refuses("terminate\t0", &["guard code"]);
    proxy.talk.refuses("terminate\t0\t76", &["incorrect"]);
    proxy.talk.refuses("terminate\t0\t77", &["exec"]);
    proxy.talk.sync();
}

/// With exit-exec and the right code `terminate` is obeyed, else refused.
#[test]
fn terminate_under_guard_needs_the_code() {
    let place = Place::new();
    let rescue = rescue(&place);
    let mut proxy = guarded(&place, &["-E", &rescue]);
    proxy.talk.refuses("terminate\t3", &["guard code"]);
    proxy.talk.refuses("terminate\t3\t7", &["incorrect"]);
    proxy.talk.send("terminate\t3\t77");
    assert_eq!(rescued(&place, proxy), (3, "terminated normally".to_owned()));
}

/// When the exec after a permitted `terminate` fails, it ends with the code although guarded.
#[test]
fn a_permitted_terminate_ends_it_also_when_the_exec_fails() {
    let place = Place::new();
    let mut proxy = guarded(&place, &["-E", "/nonexistent/program"]);
    proxy.talk.send("terminate\t6\t77");
    proxy.wait().expect_code(6);
}

/// The guard is dropped with its code and set again; `--exit-guard` does the same.
#[test]
fn the_guard_is_set_and_dropped_by_command() {
    let place = Place::new();
    let mut proxy = guarded(&place, &[]);
    proxy.talk.refuses("terminate.guard\t+\t5", &["guard"]);
    proxy.talk.refuses("terminate.guard\t-\t5", &["incorrect"]);
    proxy.talk.is_silent("terminate.guard\t-\t77");
    proxy.talk.refuses("terminate.guard\t-\t77", &["guard"]);
    proxy.talk.refuses("terminate.guard\t+\t0", &[]);
    proxy.talk.is_silent("terminate.guard\t+\t-9223372036854775808");
    proxy.talk.refuses("terminate\t0", &["guard code"]);
    proxy.talk.is_silent("terminate.guard\t-\t-9223372036854775808");
    proxy.talk.send("terminate\t9");
    proxy.wait().expect_code(9);
}

/// `--exit-guard`: decimal, 64 bits, the whole word; anything else is refused with 2.
#[test]
fn a_guard_is_a_whole_decimal_number() {
    let place = Place::new();
    for code in ["x", "1x", "0x10", "1.5", "1 ", "99999999999999999999"] {
        let ended = place.run(&["-i", "--exit-guard", code]).expect_code(2);
        assert!(shows(&ended.stderr, &["fatal: "]), "{code:?}: {}", ended.stderr);
    }
    let mut proxy = place.interactive(&["--exit-guard", "9223372036854775807"]);
    proxy.talk.refuses("terminate\t0\t9223372036854775806", &["incorrect"]);
    proxy.talk.is_silent("terminate.guard\t-\t9223372036854775807");
}

/// `--exit-guard`: 0 and the empty word are no guard.
#[test]
fn zero_and_nothing_are_no_guard() {
    let place = Place::new();
    for code in ["0", ""] {
        let mut proxy = place.interactive(&["--exit-guard", "5", "--exit-guard", code]);
        proxy.talk.send("terminate\t4");
        proxy.wait().expect_code(4);
    }
}

/// Fatal signals do not end it; the log says that it goes on.
#[test]
fn fatal_signals_under_guard_do_not_end_it() {
    let place = Place::new();
    let mut proxy = guarded(&place, &[]);
    for number in FATAL {
        proxy.signal(number);
        proxy.talk.sync();
    }
    proxy.log_line(&["fatal: ", "continu"]);
    let fatal = |proxy: &Proxy| proxy.log().lines().filter(|l| l.starts_with("fatal: ")).count();
    wait_until("a line for each", LONG, || {
        proxy.talk.sync();
        (fatal(&proxy) >= FATAL.len()).then_some(())
    });
    assert!(proxy.running.is_running());
}

/// Exit-exec after a fatal signal needs no code: the guard keeps it only when there is none.
#[test]
fn exit_exec_follows_fatal_signals_under_guard_too() {
    let place = Place::new();
    let rescue = rescue(&place);
    for number in FATAL {
        let proxy = guarded(&place, &["-E", &rescue]);
        proxy.signal(number);
        assert_eq!(rescued(&place, proxy).0, 4, "{number}");
    }
}

/// When that program cannot be executed, it goes on.
#[test]
fn a_failed_exec_after_a_fatal_signal_under_guard_is_not_the_end() {
    let place = Place::new();
    let mut proxy = guarded(&place, &["-E", "/nonexistent/program"]);
    proxy.signal(6);
    proxy.log_line(&["error: ", "/nonexistent/program"]);
    proxy.talk.sync();
    proxy.log_line(&["fatal: ", "continu"]);
    assert!(proxy.running.is_running());
}

/// TERM changes nothing either way.
#[test]
fn term_under_guard_is_counted() {
    let place = Place::new();
    let mut proxy = guarded(&place, &["-E", "false"]);
    proxy.signal(15);
    proxy.talk.expect("signal\tSIGTERM\t{num}\t1");
    proxy.talk.sync();
}

/// Errors of later options do not end the start: it goes on with what works.
#[test]
fn wrong_options_under_guard_do_not_end_it() {
    let place = Place::new();
    let words = ["--nonsense", "word", "-c", "missing", "--fd-pool", "x", "--help", "--version"];
    let mut proxy = place.socket(&[&["--exit-guard", "77"][..], &words].concat());
    proxy.talk.sync();
    for word in ["nonsense", "word", "missing"] {
        proxy.log_line(&["fatal: ", word]);
    }
    let ended = place.run(&[&words[..], &["--exit-guard", "77"]].concat());
    assert_eq!(ended.code(), 2);
}

/// A missing argument under a guard does not end it either (A28).
#[test]
fn a_missing_argument_under_guard_does_not_end_it() {
    let place = Place::new();
    for option in ["-c", "-E", "--exit-guard", "--fd-pool"] {
        let mut proxy = place.start_with_socket(&mut place.daemonproxy(&[
            "--exit-guard",
            "77",
            "-S",
            "sock",
            option,
        ]));
        proxy.talk.refuses("terminate\t0", &["guard code"]);
    }
}

/// Failures at the start do not end it.
#[test]
fn failures_at_the_start_under_guard_do_not_end_it() {
    let place = Place::new();
    let _listener = UnixListener::bind(place.path("a-socket")).unwrap();
    let words = ["--exit-guard", "77", "-S", "missing/sock", "-c", "a-socket"];
    let mut proxy = place.interactive(&words);
    proxy.log_line(&["fatal: ", "continu"]);
    proxy.talk.is_silent("socket.create\t-\tsock");
    place.connect("sock", &proxy).sync();
}

/// Nothing to do is no reason to end either.
#[test]
fn without_a_controller_a_guarded_one_goes_on() {
    let place = Place::new();
    let mut running = Running::start(&mut place.daemonproxy(&["--exit-guard", "77"]));
    let line = |line: &str| line.starts_with("fatal: ") && line.to_lowercase().contains("continu");
    running.stderr().wait_for_line("the attempt to continue", LONG, line);
    keepd_testkit::signal(running.pid(), keepd_model::Signal::TERM);
    keepd_testkit::signal(running.pid(), keepd_model::Signal::USR1);
    assert!(running.is_running());
}
