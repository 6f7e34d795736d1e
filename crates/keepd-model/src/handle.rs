//! Named open descriptors of the proxy: what `fd.*` makes and `service.fds` hands out.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name of a handle in bytes.
pub const HANDLE_NAME_BYTES_MAX: usize = 63;

/// The name of a handle: `[A-Za-z0-9._-]{1,63}`, but not `-`, which stands for "closed" in a list.
/// Cheap to clone; ordered by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleName(Arc<str>);

/// A text is no name of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleNameError;

impl fmt::Display for HandleNameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "a handle name has 1 to {HANDLE_NAME_BYTES_MAX} letters, digits, \".\", \"_\" and \
             \"-\", and is not \"-\""
        )
    }
}

impl std::error::Error for HandleNameError {}

impl HandleName {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// Returns what a name looks like.
    pub fn new(text: &str) -> Result<Self, HandleNameError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_sized = (1..=HANDLE_NAME_BYTES_MAX).contains(&text.len());
        if is_sized && text != "-" && text.bytes().all(fits) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(HandleNameError)
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HandleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl fmt::Debug for HandleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

impl Borrow<str> for HandleName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How a file is opened (`fd.open`), or what an inherited descriptor allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenFlags {
    /// `read`. Neither this nor `write`: reading.
    pub read: bool,
    /// `write`.
    pub write: bool,
    /// `append`: every write goes to the end.
    pub append: bool,
    /// `create`: made if missing, mode 0600.
    pub create: bool,
    /// `trunc`: emptied.
    pub trunc: bool,
    /// `nonblock`.
    pub nonblock: bool,
    /// `mkdir`: missing parent folders are made, mode 0700.
    pub mkdir: bool,
}

/// The address family of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Domain {
    /// `unix`, unix(7).
    #[default]
    Unix,
    /// `inet`, ip(7).
    Inet,
    /// `inet6`, ipv6(7).
    Inet6,
}

impl Domain {
    /// Returns the word: `unix`, `inet`, `inet6`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
        }
    }
}

/// The type of a socket, socket(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// `stream`.
    #[default]
    Stream,
    /// `dgram`.
    Datagram,
    /// `seqpacket`.
    SequencedPacket,
}

impl SocketType {
    /// Returns the word: `stream`, `dgram`, `seqpacket`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Datagram => "dgram",
            Self::SequencedPacket => "seqpacket",
        }
    }
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A path of at most 107 bytes, unix(7).
    Unix(Vec<u8>),
    /// An IPv4 address and port; `*` is `0.0.0.0`, no port is 0.
    Inet([u8; 4], u16),
    /// An IPv6 address and port.
    Inet6([u8; 16], u16),
}

/// The pair of descriptors that `fd.pipe` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PipeSpec {
    /// `None`: pipe(2). Else socketpair(2) of this kind.
    pub socket: Option<(Domain, SocketType)>,
    /// `nonblock`, for both ends.
    pub nonblock: bool,
}

/// The socket that `fd.socket` makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketSpec {
    /// The address family.
    pub domain: Domain,
    /// The type.
    pub kind: SocketType,
    /// Bound to this address, with address reuse.
    pub bind: Option<Address>,
    /// The address as it was given, for reports; empty without one.
    pub address_text: Vec<u8>,
    /// `listen=N`: the length of the backlog, 1 to 65,535.
    pub listen: Option<u32>,
    /// `nonblock`.
    pub nonblock: bool,
    /// `mkdir`: missing parent folders are made, mode 0700. Unix only.
    pub mkdir: bool,
}

/// One place of a descriptor list (`service.fds`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FdSlot {
    /// `-`: closed in the child.
    Closed,
    /// An empty word: skipped, later ones move down.
    Skipped,
    /// A handle, looked up by name at each start.
    Handle(HandleName),
}

/// Which end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PipeEnd {
    /// `from`: to be read.
    From,
    /// `to`: to be written; both ends of a socket pair.
    To,
}

/// What a handle is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HandleKind {
    /// `file`: opened by path, or inherited and no socket.
    File(OpenFlags),
    /// `special`: the null device and the virtual control handles.
    Special(OpenFlags),
    /// `pipe`: one end of what `fd.pipe` made.
    Pipe {
        /// Which.
        end: PipeEnd,
        /// How both were made.
        spec: PipeSpec,
    },
    /// `socket`.
    Socket {
        /// The address family.
        domain: Domain,
        /// The type.
        kind: SocketType,
        /// It was bound.
        bind: bool,
        /// The length of its backlog.
        listen: Option<u32>,
        /// Parent folders were made.
        mkdir: bool,
        /// Non-blocking.
        nonblock: bool,
    },
}

/// A handle, as events and dumps tell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HandleReport {
    /// Its name.
    pub name: HandleName,
    /// What it is.
    pub kind: HandleKind,
    /// The path or address as given, the name of the other end of a pipe (`?` once that is gone),
    /// or `unknown`.
    pub description: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_the_documented_one() {
        for good in ["a", "-x", "web.listen", "fd_9", "A-", &"a".repeat(63)] {
            assert!(HandleName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "a b", "a/b", "a@b", "\u{e4}", &"a".repeat(64)] {
            assert!(HandleName::new(bad).is_err(), "{bad}");
        }
    }
}
