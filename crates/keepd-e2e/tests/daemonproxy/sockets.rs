//! `fd.socket`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;

use keepd_testkit::daemonproxy::Daemonproxy;
use keepd_testkit::free_port;

/// The flags are shown in one order, with what was implied.
#[test]
fn socket_flags_are_shown_in_a_fixed_order() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for (given, shown) in [
        ("", "unix,stream"),
        ("unix", "unix,stream"),
        ("dgram", "unix,dgram"),
        ("seqpacket,unix", "unix,seqpacket"),
        ("inet", "inet,stream"),
        ("tcp", "inet,stream"),
        ("udp", "inet,dgram"),
        ("nonblock,dgram", "unix,dgram,nonblock"),
    ] {
        for end in ["", "\t"] {
            controller.answers(
                &format!("fd.socket\ts\t{given}{end}"),
                &format!("fd.state\ts\tsocket\t{shown}\t"),
            );
        }
    }
}

/// An address alone implies `bind`, and `listen` implies it too, with a length of 32.
#[test]
fn an_address_implies_bind() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for (number, (given, shown)) in [
        ("", "unix,stream,bind"),
        ("bind", "unix,stream,bind"),
        ("listen", "unix,stream,bind,listen=32"),
        ("listen=7,unix", "unix,stream,bind,listen=7"),
        ("listen=65535,bind", "unix,stream,bind,listen=65535"),
        ("dgram", "unix,dgram,bind"),
    ]
    .into_iter()
    .enumerate()
    {
        controller.answers(
            &format!("fd.socket\ts\t{given}\tsocket.{number}"),
            &format!("fd.state\ts\tsocket\t{shown}\tsocket.{number}"),
        );
    }
    controller.answers(
        "fd.socket\ts\tnonblock,mkdir,listen=3,bind,stream,unix\ta/b/s",
        "fd.state\ts\tsocket\tunix,stream,bind,listen=3,mkdir,nonblock\ta/b/s",
    );
}

/// A listening socket takes connections at once: they wait until a service accepts them.
#[test]
fn a_listening_socket_takes_connections() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let port = free_port();
    controller.answers(
        &format!("fd.socket\tl\ttcp,listen=11\t127.0.0.1:{port}"),
        &format!("fd.state\tl\tsocket\tinet,stream,bind,listen=11\t127.0.0.1:{port}"),
    );
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    waiting.write_all(b"hello").unwrap();
    controller.answers(
        "fd.socket\tu\tunix,listen\tweb",
        "fd.state\tu\tsocket\tunix,stream,bind,listen=32\tweb",
    );
    assert!(fs::symlink_metadata(proxy.path("web")).unwrap().file_type().is_socket());
    UnixStream::connect(proxy.path("web")).unwrap();
    // Closing the handle closes the listener: the one that waits is cut off.
    controller.answers("fd.delete\tl", "fd.state\tl\tdeleted");
    assert!(!matches!(waiting.read(&mut [0; 8]), Ok(count) if count > 0));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// `*` is every address of the machine, and a port of 0 or none is one that the kernel chooses.
#[test]
fn an_inet_address_may_leave_things_open() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let port = free_port();
    controller.answers(
        &format!("fd.socket\tl\ttcp,listen\t*:{port}"),
        &format!("fd.state\tl\tsocket\tinet,stream,bind,listen=32\t*:{port}"),
    );
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    for address in ["*", "127.0.0.1", "127.0.0.1:0", "*:0"] {
        controller.answers(
            &format!("fd.socket\ts\ttcp\t{address}"),
            &format!("fd.state\ts\tsocket\tinet,stream,bind\t{address}"),
        );
    }
}

/// A datagram socket that is bound receives.
#[test]
fn a_datagram_socket_is_bound() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let port = UdpSocket::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    controller.answers(
        &format!("fd.socket\tu\tudp\t127.0.0.1:{port}"),
        &format!("fd.state\tu\tsocket\tinet,dgram,bind\t127.0.0.1:{port}"),
    );
    let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    sender.connect(("127.0.0.1", port)).unwrap();
    sender.send(b"x").unwrap();
    sender.send(b"y").expect("nobody refuses the first");
}

/// What cannot be an address is refused. A26: a port above 65535 too.
#[test]
fn an_address_must_be_valid() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for address in
        ["localhost:80", "1.2.3:80", "1.2.3.4.5:80", "*:http", "*:65536", "*:-1", "*:", ":80", "x"]
    {
        controller.refuses(&format!("fd.socket\ts\ttcp,bind\t{address}"), &[]);
    }
    controller.refuses("fd.socket\ts\tinet6,stream\t::1", &[]);
    controller.refuses(&format!("fd.socket\ts\tunix\t{}", "x".repeat(108)), &[]);
    let longest = "x".repeat(107);
    controller.answers(
        &format!("fd.socket\ts\tunix\t{longest}"),
        &format!("fd.state\ts\tsocket\tunix,stream,bind\t{longest}"),
    );
}

/// `bind` and `listen` need an address.
#[test]
fn bind_and_listen_need_an_address() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for flags in ["bind", "listen", "tcp,bind", "unix,listen=5"] {
        controller.refuses(&format!("fd.socket\ts\t{flags}"), &[]);
        controller.refuses(&format!("fd.socket\ts\t{flags}\t"), &[]);
    }
}

/// The length of `listen` is from 1 to 65535.
#[test]
fn the_length_of_listen_has_a_range() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for length in ["0", "65536", "-1", "x", "", "+5", "5x"] {
        controller.refuses(&format!("fd.socket\ts\tunix,listen={length}\tpath"), &[]);
    }
}

/// `fd.socket` wants a name, flags, and at most one address.
#[test]
fn socket_wants_a_name_and_flags() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.socket\ts", &[]);
    controller.refuses("fd.socket\ts\tunix\tpath\tmore", &[]);
}

/// K16: a busy port cannot be bound, and the reply says so; nor can a path that is there.
#[test]
fn a_busy_address_is_refused() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    let busy = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = busy.local_addr().unwrap().port();
    let words = ["bind", "Address already in use"];
    controller.refuses(&format!("fd.socket\tl\ttcp,listen\t127.0.0.1:{port}"), &words);
    fs::write(proxy.path("there"), "").unwrap();
    controller.refuses("fd.socket\tl\tunix,listen\tthere", &words);
    assert!(proxy.path("there").is_file());
    controller.refuses("fd.socket\tl\tunix,listen\tno/where", &["bind"]);
}

/// K16: a port that was freed can be bound again at once, also after connections.
#[test]
fn a_freed_port_can_be_bound_again() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let port = free_port();
    let command = format!("fd.socket\tl\ttcp,listen\t127.0.0.1:{port}");
    let event = format!("fd.state\tl\tsocket\tinet,stream,bind,listen=32\t127.0.0.1:{port}");
    for _ in 0..3 {
        controller.answers(&command, &event);
        let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        controller.answers("fd.delete\tl", "fd.state\tl\tdeleted");
        drop(connection);
    }
}

/// The new socket is made before the old one of its name is closed, so the same address is busy;
/// the old one goes on.
#[test]
fn a_socket_cannot_replace_itself() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    let port = free_port();
    let command = format!("fd.socket\tl\ttcp,listen\t127.0.0.1:{port}");
    controller.ask(&command);
    controller.refuses(&command, &["bind"]);
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

/// The other calls are named too.
#[test]
fn a_failed_call_is_named() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    controller.refuses("fd.socket\tl\tudp,listen\t127.0.0.1:0", &["listen"]);
    controller.refuses("fd.socket\tl\tinet,seqpacket", &["socket"]);
}
