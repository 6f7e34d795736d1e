//! Messages between two processes that trust each other, each with at most one descriptor.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keepd_model::{Domain, Errno, SocketType};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};

use crate::errno;
use crate::handle::{self, CallError};

/// The longest message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What may wait in one direction, if the kernel permits it.
const WAITING_BYTES: usize = 1 << 20;

/// One end: `AF_UNIX`, `SOCK_SEQPACKET`, never blocking. A message is there whole or not at all.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Done,
    /// There is no room; try again when the channel is writable.
    Full,
}

/// What came.
#[derive(Debug)]
pub enum Received {
    /// Nothing, for now.
    Nothing,
    /// The other end is closed, and everything was received.
    Closed,
    /// A message.
    Message {
        /// Its length; it is at the start of the buffer.
        length: usize,
        /// What came with it, close-on-exec.
        descriptor: Option<OwnedFd>,
        /// Something of it was lost: it did not fit into the buffer, or there is no free number for
        /// its descriptor.
        is_cut: bool,
    },
}

impl Channel {
    /// `socketpair(AF_UNIX, SOCK_SEQPACKET)`: returns both ends, close-on-exec. See socketpair(2).
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (one, other) = handle::socket_pair(Domain::Unix, SocketType::SequencedPacket, true)
            .map_err(|CallError { errno, .. }| errno)?;
        for socket in [&one, &other] {
            // Less room means that more has to wait on our side. The first needs a right, the
            // second is bounded by a setting of the system.
            if sockopt::set_socket_send_buffer_size_force(socket, WAITING_BYTES).is_err() {
                let _ = sockopt::set_socket_send_buffer_size(socket, WAITING_BYTES);
            }
        }
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// `sendmsg(fd, MSG_DONTWAIT | MSG_NOSIGNAL)`: sends a message that is not empty, and a copy of
    /// a descriptor with it.
    ///
    /// Fails with EPIPE or ECONNRESET when the other end is closed, and with EMSGSIZE for more than
    /// [`MESSAGE_BYTES_MAX`]. See sendmsg(2), unix(7).
    pub fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<Sent, Errno> {
        match bytes.len() {
            // It would look like the end.
            0 => return Err(Errno::EINVAL),
            length if length > MESSAGE_BYTES_MAX => return Err(Errno(libc::EMSGSIZE)),
            _ => {}
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::EINVAL);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let pieces = [IoSlice::new(bytes)];
        match retry_on_intr(|| sendmsg(&self.socket, &pieces, &mut control, flags)) {
            Ok(_) => Ok(Sent::Done),
            // The last two: as much as may be is on its way, of this user or of the whole system.
            Err(
                rustix::io::Errno::AGAIN
                | rustix::io::Errno::TOOMANYREFS
                | rustix::io::Errno::NOBUFS,
            ) => Ok(Sent::Full),
            Err(error) => Err(errno::from_rustix(error)),
        }
    }

    /// `recvmsg(fd, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)`: takes one message. A buffer of
    /// [`MESSAGE_BYTES_MAX`] holds each. See recvmsg(2), unix(7).
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        // Room for one more than is ever sent, so that a foreign sender's is seen and closed.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = retry_on_intr(|| {
            let mut pieces = [IoSliceMut::new(&mut *buffer)];
            recvmsg(&self.socket, &mut pieces, &mut control, flags)
        });
        let message = match message {
            Ok(message) => message,
            Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
            // Something that we sent was never read: the other end is as closed as it can be.
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(errno::from_rustix(error)),
        };
        if message.bytes == 0 {
            return Ok(Received::Closed);
        }
        let mut is_cut = message.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC);
        let mut descriptor = None;
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = ancillary {
                for one in descriptors {
                    is_cut |= descriptor.is_some();
                    descriptor.get_or_insert(one);
                }
            }
        }
        Ok(Received::Message { length: message.bytes, descriptor, is_cut })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One end that whoever started this process left open.
impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}
