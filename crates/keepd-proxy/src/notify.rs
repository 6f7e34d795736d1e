//! The notify sockets of services: `RUN_DIR/n/NAME`.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use keepd_model::protocol::NOTIFY_BYTES_MAX;
use keepd_model::{Errno, Pid, ServiceName};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::file::create_private_dir;
use keepd_os::notify::{NotifySocket, Received};

use crate::estate::Label;
use crate::holder::{Held, Holder};
use crate::token::Token;

/// The folder can be passed through by everybody, and listed by nobody else.
const FOLDER_MODE: u32 = 0o711;
/// Room for a datagram; a longer one is not forwarded.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Datagrams of one service in one turn.
const TURN_DATAGRAMS_MAX: usize = 64;

/// Every notify socket.
pub(crate) struct NotifySockets {
    folder: Option<PathBuf>,
    sockets: HashMap<ServiceName, (u64, NotifySocket<Held>)>,
    owners: HashMap<u64, ServiceName>,
    token_next: u64,
    holder: Holder,
}

/// One datagram: its sender, and its first bytes.
pub(crate) type Datagram = (Pid, Vec<u8>);

impl NotifySockets {
    /// Makes an empty table, whose sockets are held; without a run_dir no socket can be made.
    pub(crate) fn new(run_dir: Option<PathBuf>, holder: Holder) -> Self {
        // Services have folders of their own, so what they are told must be absolute.
        let absolute = |run_dir: PathBuf| std::path::absolute(&run_dir).unwrap_or(run_dir);
        Self {
            folder: run_dir.map(|run_dir| absolute(run_dir).join("n")),
            sockets: HashMap::new(),
            owners: HashMap::new(),
            token_next: 0,
            holder,
        }
    }

    /// Makes the socket of a service ready for a process of this user and returns its path. What
    /// somebody sent before is thrown away.
    pub(crate) fn prepare(
        &mut self,
        epoll: &Epoll,
        name: &ServiceName,
        uid: u32,
    ) -> Result<Vec<u8>, Errno> {
        if !self.sockets.contains_key(name) {
            let path = self.path(name)?;
            if let Some(folder) = path.parent() {
                create_private_dir(folder, FOLDER_MODE)?;
            }
            let socket = NotifySocket::bind(&path, uid)?;
            let label = Label::Notify { service: name.clone() };
            self.add(epoll, name, socket.map(|socket| self.holder.hold(label, socket)))?;
        }
        let (_, socket) = &self.sockets[name];
        socket.set_owner(uid)?;
        let mut buffer = [0; 1];
        while socket.receive(&mut buffer)? != Received::Nothing {}
        Ok(socket.path().as_os_str().as_bytes().to_vec())
    }

    /// Goes on with the socket that a predecessor made. What was sent meanwhile waits in it.
    pub(crate) fn adopt(
        &mut self,
        epoll: &Epoll,
        name: &ServiceName,
        socket: Held,
    ) -> Result<(), Errno> {
        self.add(epoll, name, NotifySocket::adopt(self.path(name)?, socket))
    }

    /// Reports whether a service has a socket.
    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.sockets.contains_key(name)
    }

    fn path(&self, name: &ServiceName) -> Result<PathBuf, Errno> {
        // A name that daemonproxy has and a folder cannot.
        if name.as_str().starts_with('.') {
            return Err(Errno::EINVAL);
        }
        let folder = self.folder.as_ref().ok_or(Errno::ENOENT)?;
        Ok(folder.join(name.as_str()))
    }

    fn add(
        &mut self,
        epoll: &Epoll,
        name: &ServiceName,
        socket: NotifySocket<Held>,
    ) -> Result<(), Errno> {
        self.token_next += 1;
        epoll.add(&socket, Token::Notify(self.token_next).into(), Interest::READ)?;
        self.owners.insert(self.token_next, name.clone());
        self.sockets.insert(name.clone(), (self.token_next, socket));
        Ok(())
    }

    /// Returns whose socket has this number in the epoll set.
    pub(crate) fn owner(&self, token: u64) -> Option<ServiceName> {
        self.owners.get(&token).cloned()
    }

    /// Takes the datagrams that wait for a service, up to a number.
    pub(crate) fn receive(&self, name: &ServiceName) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        let Some((_, socket)) = self.sockets.get(name) else {
            return datagrams;
        };
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        for _ in 0..TURN_DATAGRAMS_MAX {
            match socket.receive(&mut buffer) {
                Ok(Received::Datagram { length, sender }) => {
                    let text = &buffer[..length.min(NOTIFY_BYTES_MAX)];
                    datagrams.push((sender, text.to_vec()));
                }
                Ok(Received::Dropped) => {}
                // An error belongs to one datagram; the next turn tries the next one.
                Ok(Received::Nothing) | Err(_) => break,
            }
        }
        datagrams
    }

    /// Closes and removes the socket of a service.
    pub(crate) fn forget(&mut self, epoll: &Epoll, name: &ServiceName) {
        if let Some((token, socket)) = self.sockets.remove(name) {
            self.owners.remove(&token);
            let _ = epoll.remove(&socket);
            let _ = socket.unlink();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use keepd_os::process;
    use keepd_testkit::Scratch;

    use super::*;

    #[test]
    fn what_was_said_while_nobody_was_there_is_heard_by_the_successor() {
        let scratch = Scratch::new();
        let name = ServiceName::new("web").unwrap();
        let run_dir = || Some(scratch.path().to_owned());
        let epoll = Epoll::new().unwrap();
        let mut first = NotifySockets::new(run_dir(), Holder::none());
        let path = first.prepare(&epoll, &name, process::effective_uid()).unwrap();
        let copy = first.sockets[&name].1.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", OsStr::from_bytes(&path)).unwrap();
        let mut second = NotifySockets::new(run_dir(), Holder::none());
        let epoll = Epoll::new().unwrap();
        second.adopt(&epoll, &name, Held::alone(copy)).unwrap();
        assert_eq!(second.owner(1), Some(name.clone()));
        assert_eq!(second.receive(&name), [(process::id(), b"READY=1".to_vec())]);
        // The next start finds it there.
        assert_eq!(second.prepare(&epoll, &name, process::effective_uid()), Ok(path));
        second.forget(&epoll, &name);
        assert_eq!(std::fs::read_dir(scratch.path().join("n")).unwrap().count(), 0);
    }
}
