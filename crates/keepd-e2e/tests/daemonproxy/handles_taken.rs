//! `fd.take`: descriptors that a client sends.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use keepd_testkit::daemonproxy::{Conversation, Daemonproxy};

use crate::services::{read, run};

/// Opens a new file for writing in the folder of the proxy.
fn new_file(proxy: &Daemonproxy, name: &str) -> File {
    File::create(proxy.path(name)).unwrap()
}

/// Lets a service write a text to a handle.
#[track_caller]
fn write_to(controller: &mut Conversation, handle: &str, text: &str) {
    controller.ask(format!("service.args\twriter\tprintf\t%s\t{text}"));
    controller.ask(format!("service.fds\twriter\tnull\t{handle}"));
    assert_eq!(run(controller, "writer"), "exit 0");
}

/// A descriptor that came with the message gets a name, and is described by inspection.
#[test]
fn a_sent_descriptor_gets_a_name() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    let file = new_file(&proxy, "f");
    client.send_with_descriptors("fd.take\tgot", &[file.as_fd()]);
    client.expect_next("fd.state\tgot\tfile\twrite\tunknown");
    drop(file);
    write_to(&mut client, "got", "through");
    assert_eq!(read(&proxy, "f"), "through");
}

/// A socket is described with domain and type.
#[test]
fn a_sent_socket_is_shown_as_one() {
    let (_proxy, mut client) = Daemonproxy::with_socket();
    let (one, _two) = UnixStream::pair().unwrap();
    client.send_with_descriptors("fd.take\tgot", &[one.as_fd()]);
    client.expect_next("fd.state\tgot\tsocket\tunix,stream\tunknown");
}

/// The oldest one is taken, also long after it came.
#[test]
fn the_oldest_descriptor_is_taken() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    let (one, two) = (new_file(&proxy, "one"), new_file(&proxy, "two"));
    client.send_with_descriptors("echo\tfirst", &[one.as_fd()]);
    client.expect_next("first");
    client.send_with_descriptors("echo\tsecond", &[two.as_fd()]);
    client.expect_next("second");
    client.answers("fd.take\ta", "fd.state\ta\tfile\twrite\tunknown");
    client.answers("fd.take\tb", "fd.state\tb\tfile\twrite\tunknown");
    write_to(&mut client, "a", "1");
    write_to(&mut client, "b", "2");
    assert_eq!(read(&proxy, "one") + &read(&proxy, "two"), "12");
}

/// Without a descriptor there is nothing to take, and what another connection sent is not.
#[test]
fn nothing_can_be_taken_that_was_not_sent() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    client.refuses("fd.take\tgot", &[": no descriptor came with the message"]);
    let mut other = proxy.client("ctl");
    let file = new_file(&proxy, "f");
    other.send_with_descriptors("echo\tsent", &[file.as_fd()]);
    other.expect_next("sent");
    client.refuses("fd.take\tgot", &[": no descriptor came with the message"]);
    other.answers("fd.take\tgot", "fd.state\tgot\tfile\twrite\tunknown");
    client.expect("fd.state\tgot\tfile\twrite\tunknown");
}

/// The names of `fd.take` are those of handles.
#[test]
fn taking_needs_a_valid_name() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    let file = new_file(&proxy, "f");
    client.send_with_descriptors("echo\tsent", &[file.as_fd()]);
    client.expect_next("sent");
    for name in ["", "\t", "\tno/name", "\tnull", "\tcontrol.cmd"] {
        client.refuses(&format!("fd.take{name}"), &[]);
    }
    client.answers("fd.take\tgot", "fd.state\tgot\tfile\twrite\tunknown");
}

/// At most two wait; further ones are closed, with an error in the log.
#[test]
fn at_most_two_descriptors_wait() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    for name in ["one", "two", "three"] {
        let file = new_file(&proxy, name);
        client.send_with_descriptors(&format!("echo\t{name}"), &[file.as_fd()]);
        client.expect_next(name);
    }
    proxy.expect_log(&["error: "]);
    client.answers("fd.take\ta", "fd.state\ta\tfile\twrite\tunknown");
    client.answers("fd.take\tb", "fd.state\tb\tfile\twrite\tunknown");
    client.refuses("fd.take\tc", &[]);
}

/// What nobody took is closed at the end of the connection, with a warning in the log.
#[test]
fn descriptors_that_nobody_took_are_closed() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    let (mut reader, writer) = std::io::pipe().unwrap();
    client.send_with_descriptors("echo\tsent", &[writer.as_fd()]);
    client.expect_next("sent");
    drop(writer);
    drop(client);
    proxy.expect_log(&["warning: "]);
    // The end of the pipe comes only when the proxy has closed its copy too.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut rest).unwrap();
    assert!(rest.is_empty());
}

/// A controller that is no socket cannot have sent any.
#[test]
fn only_sockets_carry_descriptors() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.take\tgot", &[]);
}
