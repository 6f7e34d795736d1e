//! Sockets and pairs of them.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use keepd_model::{Address, Domain, Errno, SocketSpec, SocketType};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType as KernelType, bind, listen, socket_with, socketpair,
    sockopt,
};

use super::open::make_parents;
use super::{CallError, failed};

const DOMAINS: [Domain; 3] = [Domain::Unix, Domain::Inet, Domain::Inet6];
const TYPES: [SocketType; 3] =
    [SocketType::Stream, SocketType::Datagram, SocketType::SequencedPacket];

fn family(domain: Domain) -> AddressFamily {
    match domain {
        Domain::Unix => AddressFamily::UNIX,
        Domain::Inet => AddressFamily::INET,
        Domain::Inet6 => AddressFamily::INET6,
    }
}

fn kernel_type(kind: SocketType) -> KernelType {
    match kind {
        SocketType::Stream => KernelType::STREAM,
        SocketType::Datagram => KernelType::DGRAM,
        SocketType::SequencedPacket => KernelType::SEQPACKET,
    }
}

pub(super) fn domain_of_family(of: AddressFamily) -> Option<Domain> {
    DOMAINS.into_iter().find(|domain| family(*domain) == of)
}

pub(super) fn type_of(of: KernelType) -> Option<SocketType> {
    TYPES.into_iter().find(|kind| kernel_type(*kind) == of)
}

/// `socket(domain, kind | SOCK_CLOEXEC)`, then `setsockopt(SO_REUSEADDR)`, `bind` and `listen` as
/// asked for: returns a socket.
///
/// A path that exists is not replaced (EADDRINUSE); a longer one fails with ENAMETOOLONG, an
/// address of another family with EAFNOSUPPORT. See socket(2), bind(2), listen(2), socket(7).
pub fn socket(spec: &SocketSpec) -> Result<OwnedFd, CallError> {
    let flags = socket_flags(spec.nonblock);
    let socket = socket_with(family(spec.domain), kernel_type(spec.kind), flags, None)
        .map_err(failed("socket"))?;
    match (&spec.bind, spec.domain) {
        (None, _) => {}
        (Some(Address::Unix(path)), Domain::Unix) => {
            bind_path(&socket, Path::new(OsStr::from_bytes(path)), spec.mkdir)?;
        }
        (Some(Address::Inet(host, port)), Domain::Inet) => {
            bind_address(&socket, SocketAddr::from((*host, *port)))?;
        }
        (Some(Address::Inet6(host, port)), Domain::Inet6) => {
            bind_address(&socket, SocketAddr::from((*host, *port)))?;
        }
        (Some(Address::Unix(_) | Address::Inet(..) | Address::Inet6(..)), _) => {
            return Err(CallError { call: "bind", errno: Errno(libc::EAFNOSUPPORT) });
        }
    }
    if let Some(waiting_max) = spec.listen {
        let waiting_max = i32::try_from(waiting_max).unwrap_or(i32::MAX);
        listen(&socket, waiting_max).map_err(failed("listen"))?;
    }
    Ok(socket)
}

fn bind_address(socket: &OwnedFd, address: SocketAddr) -> Result<(), CallError> {
    sockopt::set_socket_reuseaddr(socket, true).map_err(failed("setsockopt"))?;
    bind(socket, &address).map_err(failed("bind"))
}

fn bind_path(socket: &OwnedFd, path: &Path, with_parents: bool) -> Result<(), CallError> {
    let address =
        crate::socket::address(path).map_err(|errno| CallError { call: "bind", errno })?;
    if with_parents {
        make_parents(path)?;
    }
    bind(socket, &address).map_err(failed("bind"))
}

/// `socketpair(domain, kind | SOCK_CLOEXEC)`: returns two sockets connected to each other.
///
/// The kernel has pairs of [`Domain::Unix`] only (else EOPNOTSUPP). See socketpair(2).
pub fn socket_pair(
    domain: Domain,
    kind: SocketType,
    nonblock: bool,
) -> Result<(OwnedFd, OwnedFd), CallError> {
    socketpair(family(domain), kernel_type(kind), socket_flags(nonblock), None)
        .map_err(failed("socketpair"))
}

fn socket_flags(nonblock: bool) -> SocketFlags {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblock);
    flags
}
