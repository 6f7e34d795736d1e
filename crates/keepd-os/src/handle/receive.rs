//! Bytes together with descriptors, from a stream socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use keepd_model::Errno;
use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::errno;

/// SCM_MAX_FD of the kernel: no message brings more.
const DESCRIPTORS_MAX: usize = 253;

/// What came.
#[derive(Debug)]
pub struct Received {
    /// Bytes, now at the start of the buffer; 0 at the end of the stream.
    pub count: usize,
    /// Descriptors that came with them, in the order sent, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// How many more there were at least, which are closed.
    pub closed: usize,
}

/// `recvmsg(fd, …, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)`: takes bytes, and at most `kept_max` of the
/// descriptors that came with them.
///
/// Fails with EAGAIN if nothing is there. Descriptors of two messages never come at once. See
/// recvmsg(2), unix(7).
pub fn receive(socket: impl AsFd, buffer: &mut [u8], kept_max: usize) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut *buffer)], &mut control, flags)
    });
    let message = message.map_err(errno::from_rustix)?;
    let mut received = Received { count: message.bytes, descriptors: Vec::new(), closed: 0 };
    for ancillary in control.drain() {
        let RecvAncillaryMessage::ScmRights(descriptors) = ancillary else {
            continue;
        };
        for descriptor in descriptors {
            if received.descriptors.len() < kept_max {
                received.descriptors.push(descriptor);
            } else {
                received.closed += 1;
            }
        }
    }
    // Without a free number the kernel closes the rest by itself, and does not say how many.
    if message.flags.contains(ReturnFlags::CTRUNC) {
        received.closed += 1;
    }
    Ok(received)
}
