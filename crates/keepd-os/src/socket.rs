//! Stream sockets with a path, and who is at the other end.
#![expect(
    unsafe_code,
    reason = "rustix's credentials cannot hold pid 0, which other PID namespaces have here"
)]

use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use keepd_model::{Errno, Pid};
use rustix::fs::{CWD, FileType, Mode};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use crate::errno;

/// The longest path of a socket, its NUL excluded. See unix(7).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Connections that wait for being accepted.
const BACKLOG: i32 = 128;

/// Who is at the other end of a connection, as it was when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process; `None` if it lives outside of our PID namespace. It may have ended since.
    pub pid: Option<Pid>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// `socket(AF_UNIX, SOCK_STREAM)`, `bind`, `listen`: returns a listening socket, non-blocking, with
/// this mode.
///
/// A socket file that nobody listens on any more is replaced. Fails with ENAMETOOLONG for a path of
/// more than 107 bytes, with EADDRINUSE if somebody listens, and with EEXIST if the file is no
/// socket. See unix(7).
pub fn listen_unix(path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    let address = address(path)?;
    match file_type(path)? {
        None => {}
        Some(FileType::Socket) => {
            if is_served(&address)? {
                return Err(Errno(libc::EADDRINUSE));
            }
            unlink(path)?;
        }
        Some(_) => return Err(Errno(libc::EEXIST)),
    }
    let socket = new_socket(SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    bind_with_mode(&socket, path, &address, mode)?;
    listen(&socket, BACKLOG).map_err(errno::from_rustix)?;
    Ok(socket)
}

/// `accept4(fd, SOCK_CLOEXEC | SOCK_NONBLOCK)`: returns a waiting connection, `None` if there is
/// none (any more). See accept(2).
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>, Errno> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(connection) => Ok(Some(connection)),
        Err(
            rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED,
        ) => Ok(None),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

/// `socket(AF_UNIX, SOCK_STREAM)`, `connect`: returns a connection, in blocking mode.
///
/// Blocks while the listener's queue is full. Fails with ENOENT if there is no socket and with
/// ECONNREFUSED if nobody listens. See unix(7).
pub fn connect_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let address = address(path)?;
    let socket = new_socket(SocketType::STREAM, SocketFlags::CLOEXEC)?;
    rustix::io::retry_on_intr(|| connect(&socket, &address)).map_err(errno::from_rustix)?;
    Ok(socket)
}

/// `getsockopt(SO_PEERCRED)`: returns who made the connection, or who listened. See unix(7).
pub fn peer_credentials(connection: impl AsFd) -> Result<PeerCredentials, Errno> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` is valid for writing `bytes` bytes, and any bytes are a valid ucred.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(errno::last());
    }
    Ok(PeerCredentials {
        pid: u32::try_from(found.pid).ok().and_then(Pid::new),
        uid: found.uid,
        gid: found.gid,
    })
}

/// Checks the length of a path and makes it an address.
pub(crate) fn address(path: &Path) -> Result<SocketAddrUnix, Errno> {
    match path.as_os_str().len() {
        0 => return Err(Errno::EINVAL),
        length if length > SOCKET_PATH_BYTES_MAX => return Err(Errno(libc::ENAMETOOLONG)),
        _ => {}
    }
    SocketAddrUnix::new(path.as_os_str().as_bytes()).map_err(errno::from_rustix)
}

pub(crate) fn new_socket(kind: SocketType, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, kind, flags, None).map_err(errno::from_rustix)
}

/// Binds a socket whose file never has more rights than `mode`, not even for a moment: Linux takes
/// the mode of the file from the socket, less the umask. What the umask took is given back.
pub(crate) fn bind_with_mode(
    socket: &OwnedFd,
    path: &Path,
    address: &SocketAddrUnix,
    mode: u32,
) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::fchmod(socket, mode).map_err(errno::from_rustix)?;
    bind(socket, address).map_err(errno::from_rustix)?;
    rustix::fs::chmod(path, mode).map_err(errno::from_rustix)
}

/// Returns what kind of file is there, without following a symbolic link.
pub(crate) fn file_type(path: &Path) -> Result<Option<FileType>, Errno> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

pub(crate) fn unlink(path: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

/// Reports whether somebody listens: only a refused connection proves that nobody does.
fn is_served(address: &SocketAddrUnix) -> Result<bool, Errno> {
    let probe = new_socket(SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    match connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        Ok(()) | Err(_) => Ok(true),
    }
}
