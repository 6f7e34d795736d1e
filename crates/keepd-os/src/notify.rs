//! The socket on which a service says that it is ready (sd_notify(3)).
#![expect(
    unsafe_code,
    reason = "rustix's credentials cannot hold pid 0, which other PID namespaces have here"
)]

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr;

use keepd_model::{Errno, Pid};
use rustix::fs::{FileType, Uid};
use rustix::net::{SocketFlags, SocketType, sockopt};

use crate::{errno, socket};

/// Only the owner may send.
const MODE: u32 = 0o600;
/// Room for the credentials and a few descriptors, in units that keep it aligned. The kernel closes
/// what does not fit.
const CONTROL_WORDS: usize = 32;

/// A datagram socket with a path, owned by the user who may send to it.
#[derive(Debug)]
pub struct NotifySocket<Descriptor = OwnedFd> {
    path: PathBuf,
    descriptor: Descriptor,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing is waiting.
    Nothing,
    /// A datagram, now at the start of the buffer.
    Datagram {
        /// Its length in bytes.
        length: usize,
        /// Who sent it, as the kernel vouches.
        sender: Pid,
    },
    /// A datagram was thrown away: it did not fit, or its sender lives outside of our PID
    /// namespace.
    Dropped,
}

impl NotifySocket {
    /// `socket(AF_UNIX, SOCK_DGRAM)`, `bind`, `chown`: makes the socket file with mode 0600 for
    /// this user.
    ///
    /// An old socket at this place is replaced. Fails with ENAMETOOLONG for a path of more than 107
    /// bytes, with EEXIST if something else is there, and with EPERM for another user's id without
    /// the right to give files away. See unix(7).
    pub fn bind(path: &Path, owner: u32) -> Result<Self, Errno> {
        let address = socket::address(path)?;
        match socket::file_type(path)? {
            None => {}
            Some(FileType::Socket) => socket::unlink(path)?,
            Some(_) => return Err(Errno(libc::EEXIST)),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let descriptor = socket::new_socket(SocketType::DGRAM, flags)?;
        sockopt::set_socket_passcred(&descriptor, true).map_err(errno::from_rustix)?;
        socket::bind_with_mode(&descriptor, path, &address, MODE)?;
        let socket = Self { path: path.to_owned(), descriptor };
        socket.set_owner(owner)?;
        Ok(socket)
    }

    /// Lets the descriptor be kept by something else.
    pub fn map<Other: AsFd>(self, change: impl FnOnce(OwnedFd) -> Other) -> NotifySocket<Other> {
        NotifySocket { path: self.path, descriptor: change(self.descriptor) }
    }
}

impl<Descriptor: AsFd> NotifySocket<Descriptor> {
    /// Takes the socket that a predecessor bound to this path.
    pub fn adopt(path: PathBuf, descriptor: Descriptor) -> Self {
        Self { path, descriptor }
    }

    /// `chown(path, uid, -1)`: lets this user send, and (but for root) nobody else. See chown(2).
    pub fn set_owner(&self, uid: u32) -> Result<(), Errno> {
        rustix::fs::chown(&self.path, Some(Uid::from_raw(uid)), None).map_err(errno::from_rustix)
    }

    /// Returns where the socket is, for NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `recvmsg(fd, …, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)`: takes one datagram.
    ///
    /// Descriptors that came with it are closed. See recvmsg(2), unix(7).
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        let mut control = [0_u64; CONTROL_WORDS];
        let mut vector =
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeros is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header describes one buffer and one control buffer, both valid for writing
        // their length.
        let length = unsafe { libc::recvmsg(self.as_fd().as_raw_fd(), &raw mut header, flags) };
        let Ok(length) = usize::try_from(length) else {
            return match errno::last() {
                Errno::EAGAIN | Errno(libc::EINTR) => Ok(Received::Nothing),
                error => Err(error),
            };
        };
        // SAFETY: the kernel filled header and control buffer, which are unchanged since and still
        // alive.
        let sender = unsafe { take_control(&header) };
        let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
        Ok(match sender {
            Some(sender) if !truncated => Received::Datagram { length, sender },
            Some(_) | None => Received::Dropped,
        })
    }

    /// `unlink(path)`: removes the socket file. Not done on drop, where a successor may own the
    /// place already. See unlink(2).
    pub fn unlink(&self) -> Result<(), Errno> {
        socket::unlink(&self.path)
    }
}

impl<Descriptor: AsFd> AsFd for NotifySocket<Descriptor> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Returns the sender and closes every descriptor.
///
/// # Safety
///
/// `header` was filled by recvmsg(2), its control buffer is alive and aligned, and this is the
/// first look at it.
unsafe fn take_control(header: &libc::msghdr) -> Option<Pid> {
    let mut sender = None;
    // SAFETY: by the caller's promise the CMSG functions walk within the control buffer.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(message);
            // The member is 32 bits wide in some C libraries and 64 in others.
            let whole: usize = message.cmsg_len as _;
            let bytes = whole.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                    if bytes >= mem::size_of::<libc::ucred>() =>
                {
                    let found = ptr::read_unaligned(data.cast::<libc::ucred>());
                    sender = u32::try_from(found.pid).ok().and_then(Pid::new);
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for index in 0..bytes / mem::size_of::<RawFd>() {
                        let raw = ptr::read_unaligned(data.cast::<RawFd>().add(index));
                        drop(OwnedFd::from_raw_fd(raw));
                    }
                }
                (_, _) => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    sender
}
