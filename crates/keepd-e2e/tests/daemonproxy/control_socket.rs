//! `-S`, `socket.create` and `socket.delete`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use keepd_testkit::daemonproxy::Daemonproxy;

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// `socket.create` makes the socket, for its owner alone.
#[test]
fn a_control_socket_can_be_created() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    controller.is_silent("socket.create\t-\tctl");
    let mut client = proxy.client("ctl");
    client.answers("service.tags\tx\ta", "service.tags\tx\ta");
    controller.expect("service.tags\tx\ta");
    let mode = fs::symlink_metadata(proxy.path("ctl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// Another `socket.create` replaces the socket: the old path is gone, its clients stay.
#[test]
fn a_new_control_socket_replaces_the_old() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    client.is_silent("socket.create\t\tother");
    assert!(!proxy.path("ctl").exists());
    proxy.client("other").sync();
    client.sync();
    client.is_silent("socket.create\t-\tother");
    proxy.client("other").sync();
}

/// `socket.delete` closes and removes it; without one it is no error.
#[test]
fn a_control_socket_can_be_deleted() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    client.is_silent("socket.delete");
    assert!(!proxy.path("ctl").exists());
    client.is_silent("socket.delete");
    assert!(UnixStream::connect(proxy.path("ctl")).is_err());
}

/// A socket file that somebody left behind is replaced.
#[test]
fn a_leftover_socket_is_replaced() {
    let (mut proxy, mut controller) = Daemonproxy::interactive();
    drop(UnixListener::bind(proxy.path("ctl")).unwrap());
    assert!(is_socket(&proxy.path("ctl")));
    controller.is_silent("socket.create\t-\tctl");
    proxy.client("ctl").sync();
}

/// A21: any other file is left alone.
#[test]
fn another_file_is_never_removed() {
    let (proxy, mut controller) = Daemonproxy::interactive();
    fs::write(proxy.path("precious"), "data").unwrap();
    controller.refuses("socket.create\t-\tprecious", &[]);
    assert_eq!(fs::read_to_string(proxy.path("precious")).unwrap(), "data");
}

/// `socket.create` knows no options, and needs a path of at most 107 bytes that can be made.
#[test]
fn a_control_socket_needs_a_good_path() {
    let (_proxy, mut controller) = Daemonproxy::interactive();
    for arguments in ["", "\t-", "\t-\t", "\tmode=0600\tctl", "\t-\tno/where"] {
        controller.refuses(&format!("socket.create{arguments}"), &[]);
    }
    controller.refuses(&format!("socket.create\t-\t{}", "x".repeat(108)), &[]);
}

/// A20: the file is removed at the end.
#[test]
fn the_socket_file_goes_with_the_proxy() {
    let (mut proxy, mut client) = Daemonproxy::with_socket();
    assert!(is_socket(&proxy.path("ctl")));
    client.send("terminate\t0");
    assert_eq!(proxy.wait_exit(), 0);
    assert!(!proxy.path("ctl").exists());
}
