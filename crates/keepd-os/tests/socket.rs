//! Listening, connecting, and who is at the other end.

mod support;

use std::os::unix::fs::PermissionsExt;

use keepd_model::Errno;
use keepd_os::{process, socket};
use support::{Folder, await_readable};

#[test]
fn peers_are_known() {
    let folder = Folder::new("socket-peer");
    let listener = socket::listen_unix(&folder.join("s"), 0o600).unwrap();
    assert!(socket::accept(&listener).unwrap().is_none());
    let client = socket::connect_unix(&folder.join("s")).unwrap();
    await_readable(&listener);
    let server = socket::accept(&listener).unwrap().unwrap();
    for side in [&client, &server] {
        let peer = socket::peer_credentials(side).unwrap();
        assert_eq!(peer.pid, Some(process::id()));
        assert_eq!((peer.uid, peer.gid), (process::effective_uid(), process::effective_gid()));
    }
    assert_eq!(rustix::io::read(&server, &mut [0; 1]), Err(rustix::io::Errno::AGAIN));
    rustix::io::write(&client, b"x").unwrap();
    await_readable(&server);
    assert_eq!(rustix::io::read(&server, &mut [0; 1]), Ok(1));
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let folder = Folder::new("socket-stale");
    let path = folder.join("s");
    assert_eq!(socket::connect_unix(&path).unwrap_err(), Errno::ENOENT);
    let listener = socket::listen_unix(&path, 0o666).unwrap();
    assert_eq!(mode(&path), 0o666);
    assert_eq!(socket::listen_unix(&path, 0o600).unwrap_err(), Errno(98));
    drop(listener);
    assert_eq!(socket::connect_unix(&path).unwrap_err(), Errno(111));
    let _listener = socket::listen_unix(&path, 0o600).unwrap();
    assert_eq!(mode(&path), 0o600);

    std::fs::write(folder.join("file"), "precious").unwrap();
    std::os::unix::fs::symlink(&path, folder.join("link")).unwrap();
    for other in ["file", "link"] {
        assert_eq!(socket::listen_unix(&folder.join(other), 0o600).unwrap_err(), Errno(17));
    }
}

#[test]
fn the_longest_path_has_107_bytes() {
    let folder = Folder::new("socket-long");
    let room = socket::SOCKET_PATH_BYTES_MAX - folder.join("").as_os_str().len();
    let fits = folder.join(&"x".repeat(room));
    let too_long = folder.join(&"x".repeat(room + 1));
    assert!(socket::listen_unix(&fits, 0o600).is_ok());
    assert_eq!(socket::listen_unix(&too_long, 0o600).unwrap_err(), Errno(36));
    assert_eq!(socket::connect_unix(&too_long).unwrap_err(), Errno(36));
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
