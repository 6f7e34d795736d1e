//! Sockets that whoever started this process opened for it: LISTEN_FDS of sd_listen_fds(3).
//!
//! Each is given away once. They are close-on-exec from then on, and keep their numbers.

use std::fmt;
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::{Environment, Error, Notifier, Result};

/// The number of the first socket.
const FIRST: i32 = 3;

/// A socket that was passed to this process, by what it can do.
///
/// ```
/// use keepd::sockets::{self, Socket};
///
/// match sockets::take("web")? {
///     Some(Socket::Tcp(listener)) => println!("passed to us: {listener:?}"),
///     Some(other) => println!("{other} cannot be used"),
///     None => println!("started by hand"),
/// }
/// # Ok::<(), keepd::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Socket {
    /// Accepts TCP connections.
    Tcp(TcpListener),
    /// Receives UDP datagrams.
    Udp(UdpSocket),
    /// Accepts connections on a unix socket.
    Unix(UnixListener),
    /// Receives datagrams on a unix socket.
    UnixDatagram(UnixDatagram),
    /// Anything else.
    Other(OwnedFd),
}

impl fmt::Display for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp(_) => "a TCP listener",
            Self::Udp(_) => "a UDP socket",
            Self::Unix(_) => "a unix listener",
            Self::UnixDatagram(_) => "a unix datagram socket",
            Self::Other(_) => "not a socket that listens",
        })
    }
}

impl Socket {
    /// Sorts a descriptor by what it can do.
    fn sort(descriptor: OwnedFd) -> Self {
        let asked = descriptor.as_fd();
        let is_listening = socket_acceptconn(asked).unwrap_or(false);
        let (Ok(family), Ok(kind)) = (socket_domain(asked), socket_type(asked)) else {
            return Self::Other(descriptor);
        };
        let is_internet = family == AddressFamily::INET || family == AddressFamily::INET6;
        match (kind, is_listening) {
            (SocketType::STREAM, true) if is_internet => Self::Tcp(descriptor.into()),
            (SocketType::STREAM, true) if family == AddressFamily::UNIX => {
                Self::Unix(descriptor.into())
            }
            (SocketType::DGRAM, _) if is_internet => Self::Udp(descriptor.into()),
            (SocketType::DGRAM, _) if family == AddressFamily::UNIX => {
                Self::UnixDatagram(descriptor.into())
            }
            _ => Self::Other(descriptor),
        }
    }

    /// Returns the TCP listener that this has to be.
    ///
    /// # Errors
    ///
    /// Fails (Io) where it is something else.
    pub fn into_tcp(self) -> Result<TcpListener> {
        match self {
            Self::Tcp(listener) => Ok(listener),
            other => Err(Error::io(format!("the socket passed to this process is {other}"))),
        }
    }

    /// Returns the unix listener that this has to be.
    ///
    /// # Errors
    ///
    /// Fails (Io) where it is something else.
    pub fn into_unix(self) -> Result<UnixListener> {
        match self {
            Self::Unix(listener) => Ok(listener),
            other => Err(Error::io(format!("the socket passed to this process is {other}"))),
        }
    }
}

/// The numbers that nobody has taken, with their names.
fn passed() -> &'static Mutex<Vec<(String, i32)>> {
    static PASSED: OnceLock<Mutex<Vec<(String, i32)>>> = OnceLock::new();
    PASSED.get_or_init(|| {
        let names = Environment::detect().listen_names;
        Mutex::new(names.into_iter().zip(FIRST..).collect())
    })
}

/// Takes the first socket with this name that was passed to this process and that nobody took;
/// `None` where there is none.
///
/// # Errors
///
/// Fails (Io) where the descriptor is not open: whoever started this process did not keep to the
/// protocol.
///
/// ```
/// // Started by hand, there are none.
/// assert!(keepd::sockets::take("web")?.is_none());
/// # Ok::<(), keepd::Error>(())
/// ```
pub fn take(name: &str) -> Result<Option<Socket>> {
    let mut passed = passed().lock().unwrap_or_else(PoisonError::into_inner);
    let Some(position) = passed.iter().position(|(known, _)| known == name) else {
        return Ok(None);
    };
    let (_, number) = passed.remove(position);
    adopt(name, number).map(Some)
}

/// Takes all sockets that were passed to this process and that nobody took, with their names.
///
/// # Errors
///
/// Those of [`take`].
///
/// ```
/// for (name, socket) in keepd::sockets::take_all()? {
///     println!("{name}: {socket}");
/// }
/// # Ok::<(), keepd::Error>(())
/// ```
pub fn take_all() -> Result<Vec<(String, Socket)>> {
    let mut passed = passed().lock().unwrap_or_else(PoisonError::into_inner);
    let all = std::mem::take(&mut *passed);
    all.into_iter().map(|(name, number)| Ok((adopt(&name, number)?, name))).map(swap).collect()
}

/// Takes the TCP listener with this name, or where none was passed, binds this address: the same
/// program works under a supervisor and alone.
///
/// # Errors
///
/// Those of [`take`]; fails (Io) where something else was passed under this name, and where the
/// address cannot be bound.
///
/// ```
/// let listener = keepd::sockets::take_or_bind("web", "127.0.0.1:0")?;
/// assert!(listener.local_addr()?.port() > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn take_or_bind(name: &str, address: impl ToSocketAddrs + fmt::Debug) -> Result<TcpListener> {
    if let Some(socket) = take(name)? {
        return socket.into_tcp();
    }
    TcpListener::bind(&address)
        .map_err(|error| Error::io_with_source(format!("cannot bind {address:?}: {error}"), error))
}

/// Gives a copy of a socket to whoever started this process, if it keeps sockets over a restart:
/// the next start finds it by [`take`] or [`take_or_bind`] under the same name. Returns whether
/// there was somebody to give it to; alone, nothing happens.
///
/// # Errors
///
/// Those of [`Notifier::store`].
///
/// ```
/// use keepd::sockets;
///
/// # fn main() -> keepd::Result<()> {
/// let listener = sockets::take_or_bind("web", "127.0.0.1:0")?;
/// sockets::keep("web", &listener)?;
/// # Ok(())
/// # }
/// ```
pub fn keep(name: &str, socket: &impl AsFd) -> Result<bool> {
    let notify_socket = std::env::var_os("NOTIFY_SOCKET").filter(|value| !value.is_empty());
    let environment = Environment { notify_socket, ..Environment::default() };
    Notifier::new(&environment)?.store(name, &[socket.as_fd()])
}

fn swap(taken: Result<(Socket, String)>) -> Result<(String, Socket)> {
    taken.map(|(socket, name)| (name, socket))
}

fn adopt(name: &str, number: i32) -> Result<Socket> {
    let descriptor = keepd_os::handle::adopt(number).map_err(|error| {
        let message = format!("cannot take socket \"{name}\" (descriptor {number}): {error}");
        Error::io_with_source(message, error)
    })?;
    Ok(Socket::sort(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_sorted_by_what_it_can_do() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let connected = std::net::TcpStream::connect(address).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Socket::sort(tcp.into()), Socket::Tcp(_)));
        assert!(matches!(Socket::sort(connected.into()), Socket::Other(_)));
        assert!(matches!(Socket::sort(udp.into()), Socket::Udp(_)));
        assert!(matches!(Socket::sort(datagram.into()), Socket::UnixDatagram(_)));
        let other = Socket::sort(null.into());
        let error = other.into_tcp().unwrap_err().to_string();
        assert!(error.contains("not a socket that listens"), "{error}");
    }
}
