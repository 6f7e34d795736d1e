//! Sockets and pairs of them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use keepd_model::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, socketpair, sockopt,
};

use super::open::make_parents;
use super::{CallError, failed};

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// AF_UNIX, unix(7).
    Unix,
    /// AF_INET, ip(7).
    Inet,
    /// AF_INET6, ipv6(7).
    Inet6,
}

impl Domain {
    const ALL: [Self; 3] = [Self::Unix, Self::Inet, Self::Inet6];

    fn family(self) -> AddressFamily {
        match self {
            Self::Unix => AddressFamily::UNIX,
            Self::Inet => AddressFamily::INET,
            Self::Inet6 => AddressFamily::INET6,
        }
    }

    pub(super) fn of(family: AddressFamily) -> Option<Self> {
        Self::ALL.into_iter().find(|domain| domain.family() == family)
    }
}

/// Kind of communication, socket(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_SEQPACKET.
    SequencedPacket,
}

impl SocketKind {
    const ALL: [Self; 3] = [Self::Stream, Self::Datagram, Self::SequencedPacket];

    fn kind(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
            Self::SequencedPacket => SocketType::SEQPACKET,
        }
    }

    pub(super) fn of(kind: SocketType) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.kind() == kind)
    }
}

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A path of at most 107 bytes, for [`Domain::Unix`].
    Unix(PathBuf),
    /// An address and a port (0: one that is free), for [`Domain::Inet`] and [`Domain::Inet6`].
    Inet(SocketAddr),
}

/// Everything that [`socket`] needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketRequest {
    /// Address family.
    pub domain: Domain,
    /// Kind of communication.
    pub kind: SocketKind,
    /// Address to bind to.
    pub bind: Option<Address>,
    /// Connections that may wait, for a socket that listens.
    pub listen: Option<u32>,
    /// Calls on the descriptor do not wait: O_NONBLOCK.
    pub nonblock: bool,
    /// Makes the folders above a path that do not exist, with mode 0700.
    pub make_parents: bool,
}

/// `socket(domain, kind | SOCK_CLOEXEC)`, then `setsockopt(SO_REUSEADDR)`, `bind` and `listen` as
/// asked for: returns a socket.
///
/// A path that exists is not replaced (EADDRINUSE); a longer one fails with ENAMETOOLONG, an
/// address of another family with EAFNOSUPPORT. See socket(2), bind(2), listen(2), socket(7).
pub fn socket(request: &SocketRequest) -> Result<OwnedFd, CallError> {
    let SocketRequest { domain, kind, bind: address, listen: waiting_max, .. } = request;
    let flags = socket_flags(request.nonblock);
    let socket =
        socket_with(domain.family(), kind.kind(), flags, None).map_err(failed("socket"))?;
    if let Some(address) = address {
        match address {
            Address::Unix(path) if *domain == Domain::Unix => {
                bind_path(&socket, path, request.make_parents)?;
            }
            Address::Inet(address) if *domain == domain_of(address) => {
                sockopt::set_socket_reuseaddr(&socket, true).map_err(failed("setsockopt"))?;
                bind(&socket, address).map_err(failed("bind"))?;
            }
            Address::Unix(_) | Address::Inet(_) => {
                return Err(CallError { call: "bind", errno: Errno(libc::EAFNOSUPPORT) });
            }
        }
    }
    if let Some(waiting_max) = waiting_max {
        let waiting_max = i32::try_from(*waiting_max).unwrap_or(i32::MAX);
        listen(&socket, waiting_max).map_err(failed("listen"))?;
    }
    Ok(socket)
}

fn domain_of(address: &SocketAddr) -> Domain {
    match address {
        SocketAddr::V4(_) => Domain::Inet,
        SocketAddr::V6(_) => Domain::Inet6,
    }
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
    kind: SocketKind,
    nonblock: bool,
) -> Result<(OwnedFd, OwnedFd), CallError> {
    socketpair(domain.family(), kind.kind(), socket_flags(nonblock), None)
        .map_err(failed("socketpair"))
}

fn socket_flags(nonblock: bool) -> SocketFlags {
    let mut flags = SocketFlags::CLOEXEC;
    flags.set(SocketFlags::NONBLOCK, nonblock);
    flags
}
