//! `terminate` and its companions.

use keepd_testkit::daemonproxy::{Daemonproxy, PATIENCE};
use keepd_testkit::wait_until;

use crate::services::{define, start};

/// `terminate` ends the proxy with its code.
#[test]
fn terminate_ends_with_its_code() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.send("echo\tbefore");
    controller.send("terminate\t7");
    assert_eq!(controller.expect_end(), ["before"]);
    assert_eq!(proxy.wait_exit(), 7);
}

/// The code is taken modulo 256.
#[test]
fn the_code_is_one_byte() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.send("terminate\t259");
    assert_eq!(proxy.wait_exit(), 3);
}

/// A19: nothing after `terminate` runs.
#[test]
fn nothing_runs_after_terminate() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    client.send_bytes(b"terminate\t0\nservice.tags\tx\ta\nservice.tags\ty\tb\n");
    assert_eq!(client.expect_end(), Vec::<String>::new());
    assert_eq!(other.expect_end(), Vec::<String>::new());
    assert_eq!(proxy.wait_exit(), 0);
}

/// Services are neither signalled nor waited for; the log has a warning for each.
#[test]
fn terminate_leaves_services_running() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    define(&mut controller, "x", "exec sleep 1000");
    let pid = start(&mut controller, "x");
    controller.send("terminate\t0");
    assert_eq!(proxy.wait_exit(), 0);
    proxy.expect_log(&["warning: ", &pid.to_string()]);
    // It may have become that program only now.
    wait_until("the service, still there", PATIENCE, || {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        (name == "sleep\n").then_some(())
    });
}

/// Without a code, and with something else than an integer, nothing happens.
#[test]
fn terminate_needs_a_code() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("terminate", &[]);
    controller.refuses("terminate\tnow", &[]);
    assert!(proxy.is_running());
}

/// Under a guard, `terminate` needs the guard code, the right one, and a program for exit-exec.
#[test]
fn a_guard_refuses_terminate_step_by_step() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("terminate.guard\t+\t123");
    controller.refuses("terminate\t0", &["guard code"]);
    controller.refuses("terminate\t0\t124", &["incorrect"]);
    controller.refuses("terminate\t0\t123", &["exec"]);
    controller.is_silent("terminate.guard\t-\t123");
    controller.send("terminate\t4");
    assert_eq!(proxy.wait_exit(), 4);
}

/// With the code and a program, a guarded proxy becomes that program, which learns the code.
#[test]
fn a_guarded_proxy_becomes_its_last_program() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("terminate.guard\t+\t123");
    controller.is_silent("terminate.exec_args\tsh\t-c\texit $((DAEMONPROXY_EXITCODE + 40))");
    controller.send("terminate\t2\t123");
    assert_eq!(proxy.wait_exit(), 42);
}

/// `terminate.guard` refuses what makes no sense.
#[test]
fn a_guard_is_set_once_and_cleared_by_its_code() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for arguments in ["", "\t5", "\t*\t5", "\t+", "\t+\t0", "\t+\tx", "\t-\t5"] {
        controller.refuses(&format!("terminate.guard{arguments}"), &[]);
    }
    controller.is_silent("terminate.guard\t+\t-9223372036854775808");
    controller.refuses("terminate.guard\t+\t6", &[]);
    controller.refuses("terminate.guard\t-\t6", &[]);
    controller.is_silent("terminate.guard\t-\t-9223372036854775808");
    controller.refuses("terminate.guard\t-\t5", &[]);
}

/// `terminate.exec_args` takes at most 255 bytes.
#[test]
fn the_last_program_is_named_in_255_bytes() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("terminate.exec_args\tsh\t-c\texit 9");
    controller.refuses(&format!("terminate.exec_args\tsh\t-c\t{}", "x".repeat(255)), &[]);
    controller.send("terminate\t0");
    assert_eq!(proxy.wait_exit(), 9);
}
