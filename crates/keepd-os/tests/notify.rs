//! Readiness datagrams: who sent them, what is too long, what came along.

mod support;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use keepd_model::{Errno, Exit};
use keepd_os::notify::{NotifySocket, Received};
use keepd_os::process;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::{Folder, Start, end_of, is_root};

fn sender(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    socket
}

#[test]
fn the_kernel_vouches_for_the_sender() {
    let folder = Folder::new("notify-sender");
    let socket = NotifySocket::bind(&folder.join("web"), process::effective_uid()).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(socket.receive(&mut buffer), Ok(Received::Nothing));
    sender(socket.path()).send(b"READY=1").unwrap();
    let expected = Received::Datagram { length: 7, sender: process::id() };
    assert_eq!(socket.receive(&mut buffer), Ok(expected));
    assert_eq!(&buffer[..7], b"READY=1");
    assert_eq!(socket.receive(&mut buffer), Ok(Received::Nothing));
}

#[test]
fn what_does_not_fit_is_dropped_whole() {
    let folder = Folder::new("notify-long");
    let socket = NotifySocket::bind(&folder.join("web"), process::effective_uid()).unwrap();
    let sender = sender(socket.path());
    sender.send(&[b'x'; 65]).unwrap();
    sender.send(b"").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(socket.receive(&mut buffer), Ok(Received::Dropped));
    let empty = Received::Datagram { length: 0, sender: process::id() };
    assert_eq!(socket.receive(&mut buffer), Ok(empty));
}

#[test]
fn descriptors_that_come_along_are_closed() {
    let folder = Folder::new("notify-rights");
    let socket = NotifySocket::bind(&folder.join("web"), process::effective_uid()).unwrap();
    for count in [1, 3, 200] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let descriptors = vec![write.as_fd(); count];
        let mut space = vec![MaybeUninit::uninit(); 2048];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sender = sender(socket.path());
        let text = [IoSlice::new(b"FDSTORE=1")];
        sendmsg(&sender, &text, &mut control, SendFlags::empty()).unwrap();
        drop(write);
        let mut buffer = [0; 64];
        let received = socket.receive(&mut buffer).unwrap();
        assert!(matches!(received, Received::Datagram { length: 9, .. }), "{received:?}");
        // With no copy of the write end left anywhere, the pipe has ended.
        assert_eq!(rustix::io::read(&read, &mut [0; 1]), Ok(0));
    }
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let folder = Folder::new("notify-stale");
    let path = folder.join("web");
    let uid = process::effective_uid();
    let old = NotifySocket::bind(&path, uid).unwrap();
    let new = NotifySocket::bind(&path, uid).unwrap();
    sender(&path).send(b"x").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(old.receive(&mut buffer), Ok(Received::Nothing));
    assert!(matches!(new.receive(&mut buffer), Ok(Received::Datagram { .. })));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    new.unlink().unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(NotifySocket::bind(&path, uid).unwrap_err(), Errno(17));
    let long = folder.join(&"x".repeat(108));
    assert_eq!(NotifySocket::bind(&long, uid).unwrap_err(), Errno(36));
}

#[test]
fn only_the_owner_may_send() {
    if !is_root("only_the_owner_may_send") {
        return;
    }
    let folder = Folder::new("notify-owner");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let socket = NotifySocket::bind(&folder.join("web"), 65_534).unwrap();
    assert_eq!(std::fs::metadata(socket.path()).unwrap().uid(), 65_534);
    let script = format!(
        "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '{}')",
        socket.path().display()
    );
    let mut start = Start::new(&["python3", "-c", &script]);
    let mut buffer = [0; 64];
    for (uid, may) in [(65_534, true), (65_533, false)] {
        start.uid = Some(uid);
        let child = start.start();
        let pid = child.pid();
        match (end_of(pid), may) {
            (Exit::Code(127), _) => {
                eprintln!("SKIPPED: only_the_owner_may_send: no python3");
                return;
            }
            (exit, may) => assert_eq!(exit == Exit::Code(0), may),
        }
        let received = socket.receive(&mut buffer).unwrap();
        let expected = Received::Datagram { length: 7, sender: pid };
        assert_eq!(received, if may { expected } else { Received::Nothing });
    }
}
