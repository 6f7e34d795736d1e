//! What the loop of a daemon is asked to do, from other threads.

use tokio::sync::mpsc;

use crate::{Config, Result};

/// So many may wait; one more is dropped, because the same is waiting already.
const ACTIONS_MAX: usize = 64;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Read the configuration file again.
    Reload,
    /// The configuration file was read again.
    Reloaded(Box<Result<Config>>),
    /// A signal that asks for neither a shutdown nor a reload.
    Signal(i32),
    /// Write all states to the log.
    Dump,
    /// Open the log file again.
    Reopen,
}

/// Where actions are put.
#[derive(Clone, Debug)]
pub(super) struct Sender(mpsc::Sender<Action>);

pub(super) type Receiver = mpsc::Receiver<Action>;

pub(super) fn queue() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(ACTIONS_MAX);
    (Sender(sender), receiver)
}

impl Sender {
    /// Puts an action; never waits.
    pub(super) fn send(&self, action: Action) {
        if let Err(error) = self.0.try_send(action) {
            tracing::debug!(%error, "An action for the daemon was dropped.");
        }
    }
}
