//! Descriptors made to order, looked at, inherited and received.

mod support;

use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use keepd_model::{Address, Domain, Errno, OpenFlags, SocketSpec, SocketType};
use keepd_os::handle::{
    Access, CallError, Inspection, Kind, inspect, open, pipe, receive, socket, socket_pair,
    standard, take_inherited,
};
use rustix::io::FdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::{Folder, is_alone, null};

const NONE: OpenFlags = OpenFlags {
    read: false,
    write: false,
    append: false,
    create: false,
    trunc: false,
    nonblock: false,
    mkdir: false,
};

fn failed(call: &'static str, errno: i32) -> CallError {
    CallError { call, errno: Errno(errno) }
}

fn is_close_on_exec(descriptor: impl AsFd) -> bool {
    rustix::io::fcntl_getfd(descriptor).unwrap() == FdFlags::CLOEXEC
}

#[test]
fn a_file_is_opened_as_asked_for() {
    let folder = Folder::new("handle-open");
    let path = folder.join("a/b/file");
    let missing = open(&path, OpenFlags { write: true, create: true, ..NONE });
    assert_eq!(missing.unwrap_err(), failed("open", libc::ENOENT));

    let all = OpenFlags { write: true, create: true, mkdir: true, ..NONE };
    let file = open(&path, all).unwrap();
    assert!(is_close_on_exec(&file));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path) & 0o777, 0o600);
    assert_eq!(mode(&folder.join("a")) & 0o777, 0o700);
    let expected =
        Inspection { access: Access::Write, append: false, nonblock: false, kind: Kind::File };
    assert_eq!(inspect(&file).unwrap(), expected);
    std::fs::File::from(file).write_all(b"one").unwrap();

    let flags = OpenFlags { read: true, write: true, append: true, nonblock: true, ..NONE };
    let file = open(&path, flags).unwrap();
    let expected =
        Inspection { access: Access::ReadWrite, append: true, nonblock: true, kind: Kind::File };
    assert_eq!(inspect(&file).unwrap(), expected);
    std::fs::File::from(file).write_all(b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"onetwo");

    let file = open(&path, OpenFlags { write: true, trunc: true, ..NONE }).unwrap();
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0);
    assert_eq!(inspect(open(&path, NONE).unwrap()).unwrap().access, Access::Read);
}

#[test]
fn parents_are_made_only_where_they_are_missing() {
    let folder = Folder::new("handle-parents");
    std::fs::write(folder.join("file"), "").unwrap();
    let flags = OpenFlags { write: true, create: true, mkdir: true, ..NONE };
    let blocked = open(&folder.join("file/below"), flags).unwrap_err();
    assert_eq!(blocked, failed("open", libc::ENOTDIR));
    let blocked = open(&folder.join("file/further/below"), flags).unwrap_err();
    assert_eq!(blocked, failed("mkdir", libc::ENOTDIR));
    let long = folder.join(&"a/".repeat(4_096));
    assert_eq!(open(&long, flags).unwrap_err(), failed("mkdir", libc::ENAMETOOLONG));
    // Nothing is above these.
    assert_eq!(open("".as_ref(), flags).unwrap_err(), failed("open", libc::ENOENT));
    assert_eq!(open("/".as_ref(), flags).unwrap_err(), failed("open", libc::EISDIR));
}

#[test]
fn a_fifo_is_never_waited_for() {
    let folder = Folder::new("handle-fifo");
    let path = folder.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let unread = open(&path, OpenFlags { write: true, ..NONE }).unwrap_err();
    assert_eq!(unread, failed("open", libc::ENXIO));
    let reader = open(&path, NONE).unwrap();
    let found = inspect(&reader).unwrap();
    assert_eq!((found.kind, found.nonblock), (Kind::Pipe, false));
    open(&path, OpenFlags { write: true, ..NONE }).unwrap();
}

#[test]
fn pipes_and_pairs_are_connected() {
    for nonblock in [false, true] {
        let (read, write) = pipe(nonblock).unwrap();
        let (from, to) = (inspect(&read).unwrap(), inspect(&write).unwrap());
        assert_eq!((from.access, from.nonblock, from.kind), (Access::Read, nonblock, Kind::Pipe));
        assert_eq!((to.access, to.nonblock, to.kind), (Access::Write, nonblock, Kind::Pipe));
        assert!(is_close_on_exec(&read) && is_close_on_exec(&write));

        for kind in [SocketType::Stream, SocketType::Datagram, SocketType::SequencedPacket] {
            let (one, other) = socket_pair(Domain::Unix, kind, nonblock).unwrap();
            rustix::io::write(&one, b"x").unwrap();
            let mut byte = [0];
            assert_eq!(rustix::io::read(&other, &mut byte), Ok(1));
            let found = inspect(&other).unwrap();
            let domain = Some(Domain::Unix);
            let kind = Kind::Socket { domain, kind: Some(kind), listening: false };
            assert_eq!(
                (found.access, found.nonblock, found.kind),
                (Access::ReadWrite, nonblock, kind)
            );
            assert!(is_close_on_exec(&one) && is_close_on_exec(&other));
        }
    }
    let refused = socket_pair(Domain::Inet, SocketType::Stream, false).unwrap_err();
    assert_eq!(refused, failed("socketpair", libc::EOPNOTSUPP));
}

fn unix(path: &Path) -> Address {
    Address::Unix(path.as_os_str().as_bytes().to_vec())
}

fn internet(address: SocketAddr) -> Address {
    match address {
        SocketAddr::V4(address) => Address::Inet(address.ip().octets(), address.port()),
        SocketAddr::V6(address) => Address::Inet6(address.ip().octets(), address.port()),
    }
}

fn request(domain: Domain, kind: SocketType) -> SocketSpec {
    SocketSpec {
        domain,
        kind,
        bind: None,
        address_text: Vec::new(),
        listen: None,
        nonblock: false,
        mkdir: false,
    }
}

#[test]
fn a_listening_socket_with_a_path() {
    let folder = Folder::new("handle-unix");
    let path = folder.join("deep/socket");
    let mut asked = request(Domain::Unix, SocketType::Stream);
    asked.bind = Some(unix(&path));
    asked.listen = Some(11);
    assert_eq!(socket(&asked).unwrap_err(), failed("bind", libc::ENOENT));
    asked.mkdir = true;
    let listener = socket(&asked).unwrap();
    let kind = Kind::Socket {
        domain: Some(Domain::Unix),
        kind: Some(SocketType::Stream),
        listening: true,
    };
    assert_eq!(inspect(&listener).unwrap().kind, kind);
    assert!(is_close_on_exec(&listener));
    UnixStream::connect(&path).unwrap();
    drop(listener);
    // What is left behind is somebody else's to remove.
    assert_eq!(socket(&asked).unwrap_err(), failed("bind", libc::EADDRINUSE));

    asked.bind = Some(Address::Unix(b"x".repeat(108)));
    assert_eq!(socket(&asked).unwrap_err(), failed("bind", libc::ENAMETOOLONG));
    asked.bind = Some(Address::Inet([127, 0, 0, 1], 0));
    assert_eq!(socket(&asked).unwrap_err(), failed("bind", libc::EAFNOSUPPORT));

    let mut datagrams = request(Domain::Unix, SocketType::Datagram);
    let path = folder.join("datagrams");
    datagrams.bind = Some(unix(&path));
    let receiver = UnixDatagram::from(socket(&datagrams).unwrap());
    UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
    assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 5);
    datagrams.bind = None;
    datagrams.listen = Some(1);
    assert_eq!(socket(&datagrams).unwrap_err(), failed("listen", libc::EOPNOTSUPP));
}

#[test]
fn listening_sockets_of_both_internet_protocols() {
    let loopback =
        [(Domain::Inet, Ipv4Addr::LOCALHOST.into()), (Domain::Inet6, Ipv6Addr::LOCALHOST.into())];
    for (domain, address) in loopback {
        let mut asked = request(domain, SocketType::Stream);
        asked.nonblock = true;
        asked.bind = Some(internet(SocketAddr::new(address, 0)));
        asked.listen = Some(1);
        let listener = match socket(&asked) {
            Err(error) if domain == Domain::Inet6 => {
                eprintln!("SKIPPED: listening on IPv6: {error}");
                continue;
            }
            other => std::net::TcpListener::from(other.unwrap()),
        };
        assert!(inspect(&listener).unwrap().nonblock);
        let bound = listener.local_addr().unwrap();
        let connection = TcpStream::connect(bound).unwrap();
        // A port in use is not shared, and a freed one is free at once.
        asked.bind = Some(internet(bound));
        assert_eq!(socket(&asked).unwrap_err(), failed("bind", libc::EADDRINUSE));
        support::await_readable(&listener);
        let (accepted, _) = listener.accept().unwrap();
        drop((accepted, listener));
        socket(&asked).unwrap();
        drop(connection);
    }
}

#[test]
fn what_descriptors_refer_to() {
    let kind = |descriptor: BorrowedFd<'_>| inspect(descriptor).unwrap().kind;
    assert_eq!(kind(null().as_fd()), Kind::Device);
    assert_eq!(kind(std::fs::File::open("/").unwrap().as_fd()), Kind::Directory);
    let set = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    assert_eq!(kind(set.as_fd()), Kind::Other);
    let signals = keepd_os::signals::SignalReader::new(&[]).unwrap();
    assert_eq!(kind(signals.as_fd()), Kind::Other);
    let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (domain, datagram) = (Some(Domain::Inet), Some(SocketType::Datagram));
    assert_eq!(kind(udp.as_fd()), Kind::Socket { domain, kind: datagram, listening: false });
}

fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn descriptors_come_with_the_bytes_they_were_sent_with() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut buffer = [0; 64];
    assert_eq!(receive(&here, &mut buffer, 2).unwrap_err(), Errno::EAGAIN);

    let (read, write) = pipe(false).unwrap();
    send(&there, b"first", &[read.as_fd()]);
    send(&there, b"second", &[write.as_fd(), read.as_fd(), write.as_fd(), write.as_fd()]);
    drop(write);
    let mut first = receive(&here, &mut buffer, 2).unwrap();
    assert_eq!((&buffer[..first.count], first.closed), (&b"first"[..], 0));
    let mut second = receive(&here, &mut buffer, 2).unwrap();
    assert_eq!((&buffer[..second.count], second.closed), (&b"second"[..], 2));
    assert_eq!((first.descriptors.len(), second.descriptors.len()), (1, 2));
    let (got_read, got_write) = (first.descriptors.remove(0), second.descriptors.remove(0));
    assert!(is_close_on_exec(&got_read) && is_close_on_exec(&got_write));
    // What was not kept is closed: the pipe ends with this one.
    rustix::io::write(&got_write, b"through").unwrap();
    drop(got_write);
    let mut text = String::new();
    std::fs::File::from(got_read).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");

    send(&there, b"x", &vec![read.as_fd(); 253]);
    let most = receive(&here, &mut buffer, 0).unwrap();
    assert_eq!((most.count, most.descriptors.len(), most.closed), (1, 0, 253));
    drop(there);
    assert_eq!(receive(&here, &mut buffer, 2).unwrap().count, 0);
}

#[test]
fn standard_descriptors_are_copied_above_themselves() {
    for (copy, original) in standard().unwrap().iter().zip([0, 1, 2]) {
        assert!(copy.as_raw_fd() > 2 && is_close_on_exec(copy));
        let link = |number: i32| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(link(copy.as_raw_fd()), link(original));
    }
}

#[test]
fn what_was_inherited_is_taken_once() {
    if !is_alone("what_was_inherited_is_taken_once") {
        return;
    }
    let (read, write) = rustix::pipe::pipe().unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&read, 500).unwrap();
    let numbers = [read, write, high].map(std::os::fd::IntoRawFd::into_raw_fd);
    let taken = take_inherited();
    assert!(taken.is_sorted_by_key(AsRawFd::as_raw_fd));
    assert!(taken.iter().all(is_close_on_exec));
    let found = |number: &i32| taken.iter().any(|taken| taken.as_raw_fd() == *number);
    assert!(numbers.iter().all(found));
    assert!(![0, 1, 2].iter().any(found));
    let again: Vec<OwnedFd> = take_inherited();
    assert!(again.is_empty());
}
