//! Who listens on a port. Nothing is started here: a child has the sockets of its parent until it
//! executes its program.

use std::net::{TcpListener, TcpStream};

use keepd_os::listeners::{holder, on_loopback};
use keepd_os::process;

#[test]
fn a_listener_is_found_with_its_process() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "127.3.0.1:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let inodes = on_loopback(port).unwrap();
        assert_eq!(inodes.len(), 1, "{address}");
        assert_eq!(holder(&inodes, usize::MAX), Some(process::id()));
        assert_eq!(holder(&inodes, 0), None);
        drop(listener);
        assert!(on_loopback(port).unwrap().is_empty());
    }
}

#[test]
fn a_connection_is_no_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(on_loopback(port).unwrap().len(), 1);
    let own = connection.local_addr().unwrap().port();
    assert!(on_loopback(own).unwrap().is_empty());
}
