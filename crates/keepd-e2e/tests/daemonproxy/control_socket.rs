//! `-S`, `socket.create` and `socket.delete`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use keepd_testkit::daemonproxy::{Daemonproxy, Setup};
use keepd_testkit::skip;

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

/// `chdir` does not change which file is the socket's; another one of its name is left alone.
#[test]
fn only_the_own_socket_file_is_removed() {
    let (proxy, mut client) = Daemonproxy::with_socket();
    fs::create_dir(proxy.path("sub")).unwrap();
    fs::write(proxy.path("sub/ctl"), "data").unwrap();
    client.is_silent("chdir\tsub");
    client.is_silent("socket.create\t-\tother");
    assert_eq!(fs::read_to_string(proxy.path("sub/ctl")).unwrap(), "data");
    assert!(!proxy.path("ctl").exists());
    fs::remove_file(proxy.path("sub/other")).unwrap();
    fs::write(proxy.path("sub/other"), "more").unwrap();
    client.is_silent("socket.delete");
    assert_eq!(fs::read_to_string(proxy.path("sub/other")).unwrap(), "more");
}

/// The mode of the socket's file is all that is asked, whoever connects; an instance of keepd lets
/// only its own user in, and root.
#[test]
fn the_mode_of_the_file_decides_who_is_let_in() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("another user than the own one can be had by root only");
    }
    for (words, is_let_in) in
        [(&["-S", "ctl"][..], true), (&["-S", "ctl", "--instance", "x"], false)]
    {
        let mut proxy = Setup::new().options(words.iter().copied()).start();
        let mut own = proxy.client("ctl");
        own.sync();
        fs::set_permissions(proxy.folder(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(proxy.path("ctl"), Permissions::from_mode(0o777)).unwrap();
        let program = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
                       connect(S, sockaddr_un('ctl')) or die; \
                       syswrite(S, qq(echo\\tlet in\\n)); sysread(S, $answer, 100); print $answer";
        let mut stranger = Command::new("perl");
        stranger.args(["-e", program]).current_dir(proxy.folder()).uid(65534).gid(65534);
        let Ok(heard) = stranger.output() else {
            return skip("there is no perl");
        };
        let expected = if is_let_in { "let in\n" } else { "" };
        assert_eq!(String::from_utf8_lossy(&heard.stdout), expected, "{heard:?}");
        own.sync();
    }
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
