//! What a descriptor in the epoll set is, as the 64 bits that the kernel keeps for it.

/// Whose news it is. The numbers within a kind are never reused, so late news of something closed
/// finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The socket for new connections.
    Listener,
    /// Signals to the proxy.
    Signals,
    /// The side of a connection that is read (and written, where there is one descriptor).
    Connection(u64),
    /// The side of a connection that is only written.
    ConnectionOutput(u64),
    /// The error pipe of the child with this process id, which is unreaped while the pipe is in the
    /// set.
    Report(u64),
    /// `cgroup.events` of a group.
    Group(u64),
    /// A log pipe.
    Stream(u64),
    /// A notify socket.
    Notify(u64),
    /// The output pipe of a job.
    JobOutput(u64),
    /// The pipe of a `ready_fd`.
    Ready(u64),
    /// The destination of the proxy's own log, while it takes nothing.
    Log,
    /// A signal that is a fatal condition was sent to the proxy.
    Fatal,
    /// The pidfd of a process with this id that a predecessor started.
    Foreign(u64),
    /// The connection to the warden.
    Warden,
}

/// The kind is in the highest byte.
const KIND_SHIFT: u32 = 56;
const NUMBER_MASK: u64 = (1 << KIND_SHIFT) - 1;

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        let (kind, number) = match token {
            Token::Listener => (1, 0),
            Token::Signals => (2, 0),
            Token::Connection(number) => (3, number),
            Token::ConnectionOutput(number) => (4, number),
            Token::Report(number) => (5, number),
            Token::Group(number) => (6, number),
            Token::Stream(number) => (7, number),
            Token::Notify(number) => (8, number),
            Token::JobOutput(number) => (9, number),
            Token::Ready(number) => (10, number),
            Token::Log => (11, 0),
            Token::Fatal => (12, 0),
            Token::Foreign(number) => (13, number),
            Token::Warden => (14, 0),
        };
        kind << KIND_SHIFT | (number & NUMBER_MASK)
    }
}

impl Token {
    /// Returns the token with these bits, if there is one.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let number = bits & NUMBER_MASK;
        Some(match bits >> KIND_SHIFT {
            1 => Self::Listener,
            2 => Self::Signals,
            3 => Self::Connection(number),
            4 => Self::ConnectionOutput(number),
            5 => Self::Report(number),
            6 => Self::Group(number),
            7 => Self::Stream(number),
            8 => Self::Notify(number),
            9 => Self::JobOutput(number),
            10 => Self::Ready(number),
            11 => Self::Log,
            12 => Self::Fatal,
            13 => Self::Foreign(number),
            14 => Self::Warden,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_number() {
        let number = 0x12_3456_789a;
        for token in [
            Token::Listener,
            Token::Signals,
            Token::Connection(number),
            Token::ConnectionOutput(number),
            Token::Report(number),
            Token::Group(number),
            Token::Stream(number),
            Token::Notify(number),
            Token::JobOutput(number),
            Token::Ready(number),
            Token::Log,
            Token::Fatal,
            Token::Foreign(number),
            Token::Warden,
        ] {
            assert_eq!(Token::from_bits(token.into()), Some(token));
        }
        assert_eq!(Token::from_bits(0), None);
    }
}
