//! Handing things from thread to thread.

/// Channels with many senders.
///
/// With the feature `lockfree-coordination` they are those of crossbeam, whose receivers can be
/// cloned too; without it, those of the standard library.
///
/// ```
/// use keepd::coord::chan;
///
/// let (sender, receiver) = chan::unbounded::<String>();
/// assert_eq!(chan::try_recv(&receiver), Err(chan::TryRecvError::Empty));
/// sender.send("hello".to_owned()).ok();
/// assert_eq!(chan::try_recv(&receiver), Ok("hello".to_owned()));
/// drop(sender);
/// assert_eq!(chan::try_recv(&receiver), Err(chan::TryRecvError::Disconnected));
/// ```
pub mod chan {
    use std::fmt;

    #[cfg(feature = "lockfree-coordination")]
    pub use crossbeam_channel::{Receiver, Sender};
    #[cfg(not(feature = "lockfree-coordination"))]
    pub use std::sync::mpsc::{Receiver, Sender};

    /// Returns both ends of a channel that takes as much as is sent: the sender never waits, so the
    /// receiver must keep up.
    pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        #[cfg(feature = "lockfree-coordination")]
        return crossbeam_channel::unbounded();
        #[cfg(not(feature = "lockfree-coordination"))]
        std::sync::mpsc::channel()
    }

    /// Takes what is there, without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`] says why nothing was taken.
    pub fn try_recv<T>(receiver: &Receiver<T>) -> Result<T, TryRecvError> {
        receiver.try_recv().map_err(TryRecvError::from)
    }

    /// Why nothing was received.
    ///
    /// ```
    /// use keepd::coord::chan;
    ///
    /// let (sender, receiver) = chan::unbounded::<u8>();
    /// assert_eq!(chan::try_recv(&receiver), Err(chan::TryRecvError::Empty));
    /// # drop(sender);
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TryRecvError {
        /// Nothing is there now.
        Empty,
        /// Nothing is there, and no sender is left.
        Disconnected,
    }

    impl fmt::Display for TryRecvError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self {
                Self::Empty => "the channel is empty",
                Self::Disconnected => "the channel is empty and has no sender left",
            })
        }
    }

    impl std::error::Error for TryRecvError {}

    #[cfg(feature = "lockfree-coordination")]
    impl From<crossbeam_channel::TryRecvError> for TryRecvError {
        fn from(error: crossbeam_channel::TryRecvError) -> Self {
            match error {
                crossbeam_channel::TryRecvError::Empty => Self::Empty,
                crossbeam_channel::TryRecvError::Disconnected => Self::Disconnected,
            }
        }
    }

    impl From<std::sync::mpsc::TryRecvError> for TryRecvError {
        fn from(error: std::sync::mpsc::TryRecvError) -> Self {
            match error {
                std::sync::mpsc::TryRecvError::Empty => Self::Empty,
                std::sync::mpsc::TryRecvError::Disconnected => Self::Disconnected,
            }
        }
    }
}
