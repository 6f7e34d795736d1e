//! Signals to the proxy: counted, reported, cleared.

use keepd_model::Signal;
use keepd_testkit::daemonproxy::Daemonproxy;

/// K4: six signals are counted and reported, and do not end the proxy.
#[test]
fn six_signals_are_reported() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    for (signal, name) in [
        (Signal::INT, "SIGINT"),
        (Signal::HUP, "SIGHUP"),
        (Signal::TERM, "SIGTERM"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::QUIT, "SIGQUIT"),
    ] {
        proxy.signal(signal);
        controller.expect_next(&format!("signal\t{name}\t{{num}}\t1"));
        proxy.signal(signal);
        controller.expect_next(&format!("signal\t{name}\t{{num}}\t2"));
    }
    assert!(proxy.is_running());
}

/// CHLD, ALRM and PIPE are neither counted nor reported.
#[test]
fn three_signals_only_wake_the_proxy() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    for number in [17, 14, 13] {
        proxy.signal(Signal::new(number).unwrap());
    }
    proxy.signal(Signal::USR1);
    controller.expect_next("signal\tSIGUSR1\t{num}\t1");
    let dump = controller.ask("statedump");
    assert_eq!(dump.iter().filter(|line| line.starts_with("signal\t")).count(), 1, "{dump:?}");
}

/// A signal is reported once to each controller.
#[test]
fn a_signal_is_reported_to_each_controller_once() {
    let (mut proxy, mut one) = Daemonproxy::with_socket();
    let mut two = proxy.client("ctl");
    one.sync();
    two.sync();
    proxy.signal(Signal::TERM);
    one.expect_next("signal\tSIGTERM\t{num}\t1");
    two.expect_next("signal\tSIGTERM\t{num}\t1");
    assert_eq!(one.sync(), Vec::<String>::new());
    assert_eq!(two.sync(), Vec::<String>::new());
}

/// `signal.clear` subtracts from the count, not below 0, and sends nothing.
#[test]
fn clearing_subtracts_from_the_count() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    for count in 1..=3 {
        proxy.signal(Signal::USR1);
        controller.expect_next(&format!("signal\tSIGUSR1\t{{num}}\t{count}"));
    }
    let pending = |lines: Vec<String>| -> Vec<String> {
        let signals = lines.into_iter().filter(|line| line.starts_with("signal\t"));
        signals.map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect()
    };
    controller.is_silent("signal.clear\tSIGUSR1\t0");
    assert_eq!(pending(controller.ask("statedump")), ["3"]);
    controller.is_silent("signal.clear\tUSR1\t1");
    assert_eq!(pending(controller.ask("statedump")), ["2"]);
    controller.is_silent("signal.clear\t10\t100");
    assert_eq!(pending(controller.ask("statedump")), Vec::<String>::new());
    proxy.signal(Signal::USR1);
    controller.expect_next("signal\tSIGUSR1\t{num}\t1");
}

/// Clearing a signal that is not pending is no error.
#[test]
fn clearing_nothing_is_silent() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("signal.clear\tSIGUSR1\t1");
    controller.is_silent("signal.clear\tSIGKILL\t1");
}

/// `signal.clear` needs a signal and a count. A11: an unknown name, and A12: a negative count, are
/// errors.
#[test]
fn clearing_needs_a_signal_and_a_count() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    proxy.signal(Signal::USR1);
    controller.expect_next("signal\tSIGUSR1\t{num}\t1");
    for arguments in ["", "\t", "\tSIGUSR1", "\tSIGUSR1\t", "\tSIGUSR1\tall", "\tSIGUSR1\t-1"] {
        controller.refuses(&format!("signal.clear{arguments}"), &[]);
    }
    controller.refuses("signal.clear\tFOO\t1", &["invalid signal"]);
    controller.send("statedump");
    controller.expect("signal\tSIGUSR1\t{num}\t1");
}
