//! The socket for new connections, and the descriptors that are kept back so that it can always be
//! answered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepd_model::{Errno, Instant};
use keepd_os::{process, socket};
use rustix::io::fcntl_dupfd_cloexec;

use crate::estate::Label;
use crate::holder::{Held, Holder};

/// Only the own user and root may connect, until somebody changes the mode of the file: what
/// daemonproxy's umask leaves.
const SOCKET_MODE: u32 = 0o700;
/// Descriptors kept back for connections, for when services have used up all others.
const RESERVE: usize = 16;
/// Too many open files, in this process and in the system.
const EMFILE: Errno = Errno(24);
const ENFILE: Errno = Errno(23);
/// How long nothing is accepted when not even the reserve helps.
const PAUSE: Duration = Duration::from_secs(1);

/// A listening socket.
pub(crate) struct Listener {
    socket: Held,
    /// The file, wherever the proxy goes meanwhile.
    path: PathBuf,
    /// The device and inode of the file: another one of that name is not ours.
    file: Option<(u64, u64)>,
    admission: Admission,
    reserve: Vec<OwnedFd>,
    resume_at: Option<Instant>,
    /// Nobody is let in before somebody leaves.
    is_full: bool,
}

/// Who may control us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Whoever the mode of the socket file lets in, as with daemonproxy.
    ByFile,
    /// Of those, the own user and root.
    ByUser,
}

/// What an attempt to accept brought.
pub(crate) enum Accepted {
    /// A connection of somebody who may control us.
    Connection(OwnedFd),
    /// Somebody else, who is sent away; or nobody can be let in for now.
    Refused(String),
    /// Nobody is waiting (any more).
    Nobody,
}

impl Listener {
    /// Listens at a path; a socket file that nobody serves any more is replaced.
    pub(crate) fn new(path: &Path, admission: Admission) -> Result<Self, Errno> {
        let mut listener = Self {
            socket: Held::alone(socket::listen_unix(path, SOCKET_MODE)?),
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            file: file_at(path),
            admission,
            reserve: Vec::new(),
            resume_at: None,
            is_full: false,
        };
        listener.refill();
        Ok(listener)
    }

    /// Goes on with the socket that a predecessor listened on, at the path that its label says.
    /// Whoever connected meanwhile waits in it.
    pub(crate) fn adopt(path: &Path, socket: Held, admission: Admission) -> Self {
        let mut listener = Self {
            socket,
            path: path.to_owned(),
            // The file may be another's by now; then it is not removed at the end.
            file: file_at(path),
            admission,
            reserve: Vec::new(),
            resume_at: None,
            is_full: false,
        };
        listener.refill();
        listener
    }

    /// Lets the warden have the socket. For before it is in an epoll set, because its number
    /// changes.
    pub(crate) fn hold(mut self, holder: &Holder) -> Self {
        let label = Label::Listener { path: self.path.as_os_str().as_bytes().to_vec() };
        self.socket = self.socket.held_by(holder, label);
        self
    }

    /// Accepts one connection.
    pub(crate) fn accept(&mut self, now: Instant) -> Accepted {
        let mut result = socket::accept(&self.socket);
        // One at a time: what is free is taken by whoever comes first, and starts come often.
        if let Err(EMFILE | ENFILE) = result
            && self.reserve.pop().is_some()
        {
            result = socket::accept(&self.socket);
        }
        let connection = match result {
            Ok(Some(connection)) => connection,
            Ok(None) => return Accepted::Nobody,
            Err(error) => {
                self.pause(now);
                return Accepted::Refused(format!("cannot accept connection: {error}"));
            }
        };
        match self.admission {
            Admission::ByFile => return Accepted::Connection(connection),
            Admission::ByUser => {}
        }
        match socket::peer_credentials(&connection) {
            Ok(peer) if peer.uid == 0 || peer.uid == process::effective_uid() => {
                Accepted::Connection(connection)
            }
            Ok(peer) => Accepted::Refused(format!("connection of user {} refused", peer.uid)),
            Err(error) => Accepted::Refused(format!("cannot ask who connects: {error}")),
        }
    }

    /// Fills the reserve up again, as far as there are descriptors.
    pub(crate) fn refill(&mut self) {
        while self.reserve.len() < RESERVE {
            match fcntl_dupfd_cloexec(&self.socket, 3) {
                Ok(spare) => self.reserve.push(spare),
                Err(_) => return,
            }
        }
    }

    /// Lets nobody in for a while.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.resume_at = Some(now.saturating_add(PAUSE));
    }

    /// Notes whether there are as many connections as there can be. Returns `true` if that is new:
    /// then the epoll set is to be told, and whoever connects waits.
    pub(crate) fn set_full(&mut self, is_full: bool) -> bool {
        let was_full = std::mem::replace(&mut self.is_full, is_full);
        was_full != is_full
    }

    /// Returns until when nothing is to be accepted.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Reports whether a pause is over now.
    pub(crate) fn resume(&mut self, now: Instant) -> bool {
        let is_over = self.resume_at.is_some_and(|resume_at| resume_at <= now);
        if is_over {
            self.resume_at = None;
        }
        is_over
    }

    /// Removes the socket file, if it is still ours.
    pub(crate) fn unlink(&self) {
        if self.file.is_some() && file_at(&self.path) == self.file {
            // Who has removed it before has done what was wanted.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the device and inode of what a path names, a symbolic link itself.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let status = std::fs::symlink_metadata(path).ok()?;
    Some((status.dev(), status.ino()))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use keepd_os::channel::Channel;
    use keepd_os::clock;
    use keepd_testkit::Scratch;

    use super::*;
    use crate::estate::Estate;

    #[test]
    fn who_connected_while_nobody_was_there_is_let_in_by_the_successor() {
        let scratch = Scratch::new();
        let path = scratch.path().join("socket");
        let (ours, _theirs) = Channel::pair().unwrap();
        let holder = Holder::new(ours, Estate::default());
        let first = Listener::new(&path, Admission::ByUser).unwrap().hold(&holder);
        let labels = holder.with_estate(|estate| estate.held.values().cloned().collect::<Vec<_>>());
        let expected = Label::Listener { path: path.as_os_str().as_bytes().to_vec() };
        assert_eq!(labels, Some(vec![expected]));
        let copy = first.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        let _connection = UnixStream::connect(&path).unwrap();
        let mut second = Listener::adopt(&path, Held::alone(copy), Admission::ByUser);
        let now = clock::monotonic_now();
        assert!(matches!(second.accept(now), Accepted::Connection(_)));
        assert!(matches!(second.accept(now), Accepted::Nobody));
        second.unlink();
        assert!(!path.exists());
    }
}
