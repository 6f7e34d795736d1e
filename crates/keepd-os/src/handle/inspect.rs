//! What a descriptor refers to, found by asking the kernel.

use std::os::fd::AsFd;

use keepd_model::{Domain, SocketType};
use rustix::fs::{FileType, OFlags};
use rustix::net::sockopt;

use super::socket::{domain_of_family, type_of};
use super::{CallError, failed};

/// What is known of a descriptor that somebody else made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it may be used for.
    pub access: Access,
    /// Each write goes to the end.
    pub append: bool,
    /// Calls on it do not wait.
    pub nonblock: bool,
    /// What it refers to.
    pub kind: Kind,
}

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A terminal, a disk, `/dev/null`.
    Device,
    /// A pipe or a FIFO.
    Pipe,
    /// A socket.
    Socket {
        /// Address family; `None` for one that is not made here.
        domain: Option<Domain>,
        /// Kind of communication; `None` for one that is not made here.
        kind: Option<SocketType>,
        /// It accepts connections.
        listening: bool,
    },
    /// Something without a place in a file system, such as an epoll set.
    Other,
}

/// `fcntl(F_GETFL)`, `fstat`, and `getsockopt` for a socket: returns what the descriptor refers to.
///
/// See fcntl(2), fstat(2), socket(7).
pub fn inspect(descriptor: impl AsFd) -> Result<Inspection, CallError> {
    let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(failed("fcntl"))?;
    let stat = rustix::fs::fstat(&descriptor).map_err(failed("fstat"))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::CharacterDevice | FileType::BlockDevice => Kind::Device,
        FileType::Fifo => Kind::Pipe,
        FileType::Socket => {
            let domain = sockopt::socket_domain(&descriptor).map_err(failed("getsockopt"))?;
            let kind = sockopt::socket_type(&descriptor).map_err(failed("getsockopt"))?;
            let listening =
                sockopt::socket_acceptconn(&descriptor).map_err(failed("getsockopt"))?;
            Kind::Socket { domain: domain_of_family(domain), kind: type_of(kind), listening }
        }
        FileType::Symlink | FileType::Unknown => Kind::Other,
    };
    let access = flags & OFlags::RWMODE;
    Ok(Inspection {
        access: if access == OFlags::RDWR {
            Access::ReadWrite
        } else if access == OFlags::WRONLY {
            Access::Write
        } else {
            Access::Read
        },
        append: flags.contains(OFlags::APPEND),
        nonblock: flags.contains(OFlags::NONBLOCK),
        kind,
    })
}
