//! What a warden is given when it begins, and why it cannot go on.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use keepd_model::{Errno, Signal};
use keepd_os::spawn::Session;

use crate::estate::Label;

/// Everything about an instance that its warden has to know.
#[derive(Debug)]
pub struct Setup {
    /// The file that a proxy is executed from, whatever the first of `proxy` says; `None`: the one
    /// that that names.
    pub file: Option<BorrowedFd<'static>>,
    /// Program and arguments of a proxy.
    pub proxy: Vec<Vec<u8>>,
    /// The arguments of a warden in our place, without the program.
    pub successor: Vec<Vec<u8>>,
    /// Session and process group of the proxy.
    pub session: Session,
    /// What the proxy reads; `None`: what we would.
    pub input: Option<OwnedFd>,
    /// The folder of ledger and journal.
    pub run_dir: PathBuf,
    /// Whose ledger it is.
    pub instance: String,
    /// Signals that reach the proxy beside those that always do.
    pub more_signals: Vec<Signal>,
    /// Signals that the proxy ignores from its start.
    pub ignored: Vec<Signal>,
    /// What becomes of the signals on their way.
    pub keys: Keys,
    /// What process 1 becomes if no proxy lives.
    pub rescue: Option<Vec<Vec<u8>>>,
}

/// What a key of the terminal reaches.
#[derive(Clone, Copy)]
pub enum Keys {
    /// Only us, and what the function says is passed on.
    Ours(fn(Signal) -> Signal),
    /// The proxy too, which is in our process group; so it is not told again.
    Everybody,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ours(_) => "Ours",
            Self::Everybody => "Everybody",
        })
    }
}

/// What there was before.
#[derive(Debug)]
pub enum Origin {
    /// Nothing: the first proxy is started. The lock of the instance is held as long as warden or
    /// proxy lives.
    Fresh {
        /// The lock.
        lock: OwnedFd,
        /// Descriptors that become handles of the first proxy, with what they are.
        handles: Vec<(Label, OwnedFd)>,
    },
    /// Warden and proxy were lost; the ledger says what runs.
    Survivors {
        /// The lock.
        lock: OwnedFd,
    },
    /// A warden was lost, and this is the process that goes on in its place.
    Successor {
        /// The estate that it found.
        estate: OwnedFd,
    },
}

/// What the warden could not do. It ends; a proxy that lives takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WardenError {
    /// After "cannot".
    pub what: &'static str,
    /// Why.
    pub errno: Errno,
}

impl fmt::Display for WardenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}: {}", self.what, self.errno)
    }
}

impl std::error::Error for WardenError {}

/// Says what could not be done.
pub(super) fn failed(what: &'static str) -> impl FnOnce(Errno) -> WardenError {
    move |errno| WardenError { what, errno }
}
