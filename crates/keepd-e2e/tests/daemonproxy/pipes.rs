//! `fd.pipe`: pipes and pairs of sockets.

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy};

use crate::services::{define, expect_down, start};

/// Makes a pair and compares its two events.
#[track_caller]
fn pair(controller: &mut Conversation, flags: &str, read_end: &str, write_end: &str) {
    let lines = controller.ask(format!("fd.pipe\tr\tw{flags}"));
    let expected =
        [format!("fd.state\tr\tpipe\t{read_end}\tw"), format!("fd.state\tw\tpipe\t{write_end}\tr")];
    assert_eq!(lines, expected, "flags {flags:?}");
}

/// Returns the line of a handle in a dump.
#[track_caller]
fn dumped(controller: &mut Conversation, handle: &str) -> String {
    let dump = controller.ask("statedump");
    let begin = format!("fd.state\t{handle}\t");
    dump.into_iter().find(|line| line.starts_with(&begin)).expect("the handle is dumped")
}

/// Without flags it is a pipe, and both ends are announced, the reading one first.
#[test]
fn both_ends_of_a_pipe_are_announced() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    pair(&mut controller, "", "from", "to");
    pair(&mut controller, "\t", "from", "to");
    pair(&mut controller, "\t-", "from", "to");
    pair(&mut controller, "\tnonblock", "nonblock,from", "nonblock,to");
}

/// With a word for a socket it is a pair of sockets, which both lead to each other.
#[test]
fn socket_words_make_a_pair_of_sockets() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for (flags, shown) in [
        ("unix", "unix,stream,to"),
        ("stream", "unix,stream,to"),
        ("dgram", "unix,dgram,to"),
        ("unix,dgram", "unix,dgram,to"),
        ("dgram,unix", "unix,dgram,to"),
        ("seqpacket", "unix,seqpacket,to"),
        ("nonblock,unix", "unix,stream,nonblock,to"),
    ] {
        pair(&mut controller, &format!("\t{flags}"), shown, shown);
    }
}

/// Pairs of other domains fail in the kernel, and the reply says in which call.
#[test]
fn the_kernel_refuses_pairs_of_other_domains() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for flags in ["inet", "inet6", "tcp", "udp"] {
        controller.refuses(&format!("fd.pipe\tr\tw\t{flags}"), &["socketpair"]);
    }
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("fd.state\tr\t")), "{dump:?}");
}

/// A22: the two ends need two names, both given.
#[test]
fn a_pipe_needs_two_names() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.pipe\tq\tq", &[]);
    controller.refuses("fd.pipe\tq", &[]);
    controller.refuses("fd.pipe\tq\t", &[]);
    let dump = controller.ask("statedump");
    assert!(!dump.iter().any(|line| line.starts_with("fd.state\tq\t")), "{dump:?}");
}

/// The peer of an end is `?` once it was deleted, without an event of its own.
#[test]
fn the_peer_of_a_deleted_end_is_unknown() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    pair(&mut controller, "", "from", "to");
    controller.answers("fd.delete\tr", "fd.state\tr\tdeleted");
    assert_eq!(dumped(&mut controller, "w"), "fd.state\tw\tpipe\tto\t?");
    // Another handle of the old name is not the peer.
    controller.ask("fd.open\tr\tread\t/dev/null");
    assert_eq!(dumped(&mut controller, "w"), "fd.state\tw\tpipe\tto\t?");
}

/// K9: the peer of an end is `?` once it was replaced.
#[test]
fn the_peer_of_a_replaced_end_is_unknown() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    pair(&mut controller, "", "from", "to");
    controller.answers("fd.open\tw\twrite\t/dev/null", "fd.state\tw\tfile\twrite\t/dev/null");
    assert_eq!(dumped(&mut controller, "r"), "fd.state\tr\tpipe\tfrom\t?");
    pair(&mut controller, "", "from", "to");
    assert_eq!(dumped(&mut controller, "r"), "fd.state\tr\tpipe\tfrom\tw");
    // One end is shared with another pipe.
    controller.ask("fd.pipe\tr\tother");
    assert_eq!(dumped(&mut controller, "w"), "fd.state\tw\tpipe\tto\t?");
    assert_eq!(dumped(&mut controller, "r"), "fd.state\tr\tpipe\tfrom\tother");
}

/// Data goes from the one end to the other, and waits there while no service reads.
#[test]
fn a_pipe_leads_from_one_service_to_another() {
    for flags in ["", "\tunix", "\tseqpacket"] {
        let (_proxy, mut controller) = Daemonproxy::interactive();
        controller.ask(format!("fd.pipe\tr\tw{flags}"));
        controller.ask("service.args\twriter\techo\tword");
        controller.ask("service.fds\twriter\tnull\tw");
        start(&mut controller, "writer");
        assert_eq!(expect_down(&mut controller, "writer"), "exit 0");
        define(&mut controller, "reader", "head -n 1 | grep -q ^word$ && exit 5");
        controller.ask("service.fds\treader\tr");
        start(&mut controller, "reader");
        assert_eq!(expect_down(&mut controller, "reader"), "exit 5");
    }
}

/// A reader sees the end once the proxy and all services have closed the other end.
#[test]
fn a_deleted_writing_end_ends_the_pipe() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.ask("fd.pipe\tr\tw");
    define(&mut controller, "reader", "cat; exit 6");
    controller.ask("service.fds\treader\tr\tnull");
    start(&mut controller, "reader");
    controller.ask("fd.delete\tw");
    assert_eq!(expect_down(&mut controller, "reader"), "exit 6");
}
