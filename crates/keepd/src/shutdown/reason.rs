//! Why a shutdown was asked for.

use std::fmt;

/// Why a shutdown was asked for. The first reason stays.
///
/// ```
/// use keepd::shutdown::ShutdownReason;
///
/// assert_eq!(ShutdownReason::Signal(15).to_string(), "Signal(15)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// A signal with this number.
    Signal(i32),
    /// The program asked.
    Requested,
    /// Something failed that everything depends on.
    Error,
    /// Memory, processors or descriptors ran out.
    ResourceExhausted,
    /// Somebody does not want to wait: the graceful time is over at once.
    Forced,
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => write!(formatter, "Signal({number})"),
            Self::Requested => formatter.write_str("Requested"),
            Self::Error => formatter.write_str("Error"),
            Self::ResourceExhausted => formatter.write_str("ResourceExhausted"),
            Self::Forced => formatter.write_str("Forced"),
        }
    }
}
