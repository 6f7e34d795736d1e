//! Flow control: clients that do not read, broadcast storms, time limits.

use std::time::Duration;

use keepd_model::Signal;
use keepd_testkit::daemonproxy::{Conversation, Daemonproxy, PATIENCE};
use keepd_testkit::kill;

/// More than kernel buffers and the proxy's own hold.
const FLOOD_BYTES: usize = 4 * 1024 * 1024;

/// How long nothing may be taken until a proxy counts as one that takes no more.
const STALL: Duration = Duration::from_millis(300);

/// Echoes with numbers, each on a line of the same length.
fn echoes() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0.. {
        if bytes.len() >= FLOOD_BYTES {
            break;
        }
        bytes.extend_from_slice(format!("echo\t{number:06}\t{}\n", "x".repeat(87)).as_bytes());
    }
    bytes
}

/// The length of a line of [`echoes`], and of a reply to it.
const ECHO_BYTES: usize = 100;
const REPLY_BYTES: usize = ECHO_BYTES - "echo\t".len();

/// Makes more broadcasts than a controller that does not read can be given.
#[track_caller]
fn storm(controller: &mut Conversation) {
    for number in 0..FLOOD_BYTES / 1000 {
        let line = format!("service.tags\tstorm\t{number:06}\t{}", "x".repeat(973));
        controller.send(&line);
        assert_eq!(controller.next_line(), line);
    }
}

/// A client that sends without reading is not served further, and loses nothing.
#[test]
fn own_replies_are_held_back_and_never_lost() {
    let (_proxy, mut client) = Daemonproxy::with_socket();
    let bytes = echoes();
    let mut taken = client.offer(&bytes, STALL);
    assert!(taken < bytes.len(), "the proxy takes everything of a client that does not read");
    let mut heard = 0;
    let whole = bytes.len() / ECHO_BYTES / 4;
    while heard < whole {
        if heard + 100 > taken / ECHO_BYTES {
            taken += client.offer(&bytes[taken..], Duration::ZERO);
        }
        let line = client.next_line();
        assert_eq!(line.len() + 1, REPLY_BYTES);
        assert!(line.starts_with(&format!("{heard:06}\t")), "line {heard} is {line:?}");
        heard += 1;
    }
}

/// A16: a client that ends its side before it reads anything still gets every reply.
#[test]
fn replies_outlive_the_end_of_the_input() {
    let (_proxy, mut client) = Daemonproxy::with_socket();
    let taken = client.offer(&echoes(), STALL);
    client.close_input();
    let lines = client.expect_end();
    assert_eq!(lines.len(), taken / ECHO_BYTES, "of whole commands");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{number:06}\t")), "line {number} is {line:?}");
    }
}

/// While one client is not served, others are.
#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    let taken = client.offer(&echoes(), STALL);
    assert!(taken < FLOOD_BYTES);
    other.answers("service.tags\tx\ta", "service.tags\tx\ta");
}

/// Broadcasts that do not fit are dropped at once; the client then hears whole lines up to a gap,
/// `overflow` in its place, and everything after it.
#[test]
fn a_broadcast_storm_overflows_who_does_not_read() {
    let (mut proxy, mut reader) = Daemonproxy::with_socket();
    let mut sleeper = proxy.client("ctl");
    sleeper.sync();
    storm(&mut reader);
    let mut expected = 0;
    loop {
        let line = sleeper.next_line();
        if line == "overflow" {
            break;
        }
        assert!(line.starts_with(&format!("service.tags\tstorm\t{expected:06}\t")), "{line:?}");
        assert!(line.ends_with(&format!("\t{}", "x".repeat(973))), "{line:?}");
        expected += 1;
    }
    assert!(expected < FLOOD_BYTES / 1000);
    // The reply, and with it the normal service, comes after the gap.
    sleeper.sync();
    reader.ask("service.tags\tafter\tx");
    sleeper.expect_next("service.tags\tafter\tx");
    assert_eq!(reader.sync(), Vec::<String>::new());
    // What was lost is not repeated; a dump has the latest.
    let last = format!("service.tags\tstorm\t{:06}\t{}", FLOOD_BYTES / 1000 - 1, "x".repeat(973));
    assert!(sleeper.ask("statedump").contains(&last));
}

/// A storm of news in one turn does not overflow a client that reads: before a line is given up, it
/// is tried to write what waits.
#[test]
fn a_storm_in_one_turn_overflows_nobody_who_reads() {
    const SERVICES: usize = 400;
    let (proxy, mut client) = Daemonproxy::with_socket();
    let mut pids = Vec::new();
    for number in 0..SERVICES {
        let name = format!("storm.with.a.long.name.{number:03}");
        client.ask(format!("service.args\t{name}\tsleep\t1000"));
        client.send(format!("service.start\t{name}"));
        let state = format!("service.state\t{name}\tup\t{{num}}\t{{pid}}\t-\t-\t{{num}}\t-");
        pids.push(client.expect(&state).pid(1));
    }
    client.sync();
    // All deaths are there when the next turn begins.
    proxy.signal(Signal::STOP);
    for pid in &pids {
        kill(*pid);
    }
    proxy.signal(Signal::CONT);
    for _ in pids {
        client.expect_next("service.state\t{any}\tdown\t{rest}");
    }
    assert_eq!(client.sync(), Vec::<String>::new());
}

/// `conn.event_timeout⇥0⇥N`: the queued commands of a client that does not read go on at once, with
/// their output discarded, and `overflow` says so.
#[test]
fn a_reset_time_of_zero_goes_on_at_once() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    client.is_silent("conn.event_timeout\t0\t1000");
    let mut bytes = echoes();
    bytes.extend_from_slice(b"service.tags\tx\tthrough\n");
    client.send_bytes(&bytes);
    other.expect("service.tags\tx\tthrough");
    client.expect("overflow");
    client.sync();
}

/// After the first time, a client whose commands pile up is reset: they go on, with their output
/// discarded.
#[test]
fn commands_go_on_after_the_reset_time() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    client.is_silent("conn.event_timeout\t1\t1000");
    let bytes = echoes();
    let taken = client.offer(&bytes, STALL);
    assert!(taken < bytes.len(), "it is not reset before its time");
    client.send_bytes(&bytes[taken..]);
    client.send("service.tags\tx\tthrough");
    other.expect("service.tags\tx\tthrough");
    proxy.expect_log(&["warning: "]);
    client.expect("overflow");
    client.sync();
}

/// After the second time, a client that takes nothing is cut off, with an error in the log.
#[test]
fn a_client_is_cut_off_after_the_close_time() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    let mut other = proxy.client("ctl");
    other.sync();
    client.is_silent("conn.event_timeout\t1\t2");
    let bytes = echoes();
    let mut taken = 0;
    while taken < bytes.len() * 4 {
        let now = client.offer(&bytes, PATIENCE);
        taken += now;
        if now < bytes.len() {
            break;
        }
        // Reset before: its commands go on, so there is always more to send until the end.
    }
    proxy.expect_log(&["error: "]);
    client.expect_end();
    assert_eq!(other.ask("echo\tstill here"), ["still here"]);
}

/// With `-i`, the second time ends the proxy, with status 0.
#[test]
fn the_close_time_ends_an_interactive_proxy() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("conn.event_timeout\t0\t1");
    controller.offer(&echoes(), STALL);
    assert_eq!(proxy.wait_exit(), 0);
}

/// The times are of one connection only.
#[test]
fn time_limits_are_of_one_connection() {
    let (mut proxy, mut hasty) = Daemonproxy::with_socket();
    let mut patient = proxy.client("ctl");
    hasty.is_silent("conn.event_timeout\t0\t1");
    let bytes = echoes();
    let taken = patient.offer(&bytes, Duration::from_millis(1500));
    assert!(taken < bytes.len(), "it has the time limits of another connection");
    let mut heard = 0;
    while heard < 100 {
        assert!(patient.next_line().starts_with(&format!("{heard:06}\t")));
        heard += 1;
    }
    hasty.sync();
}

/// `conn.event_timeout`: two numbers from 0 to 2^31-1, the first not greater than the second.
#[test]
fn time_limits_have_a_range() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("conn.event_timeout\t0\t0");
    controller.is_silent("conn.event_timeout\t15\t15");
    controller.is_silent("conn.event_timeout\t2147483647\t2147483647");
    for times in ["", "5", "x\t5", "5\tx", "-1\t5", "5\t-1", "6\t5", "5\t2147483648"] {
        controller.refuses(&format!("conn.event_timeout\t{times}"), &[]);
    }
    controller.refuses("conn.event_timeout", &[]);
}
