//! The notify sockets of services: `RUN_DIR/n/NAME`.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use keepd_model::protocol::NOTIFY_BYTES_MAX;
use keepd_model::{Errno, Pid, ServiceName};
use keepd_os::epoll::{Epoll, Interest};
use keepd_os::file::create_private_dir;
use keepd_os::notify::{NotifySocket, Received};

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
    sockets: HashMap<ServiceName, (u64, NotifySocket)>,
    owners: HashMap<u64, ServiceName>,
    token_next: u64,
}

/// One datagram: its sender, and its first bytes.
pub(crate) type Datagram = (Pid, Vec<u8>);

impl NotifySockets {
    /// Makes an empty table; without a run_dir no socket can be made.
    pub(crate) fn new(run_dir: Option<PathBuf>) -> Self {
        // Services have folders of their own, so what they are told must be absolute.
        let absolute = |run_dir: PathBuf| std::path::absolute(&run_dir).unwrap_or(run_dir);
        Self {
            folder: run_dir.map(|run_dir| absolute(run_dir).join("n")),
            sockets: HashMap::new(),
            owners: HashMap::new(),
            token_next: 0,
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
            // A name that daemonproxy has and a folder cannot.
            if name.as_str().starts_with('.') {
                return Err(Errno::EINVAL);
            }
            let folder = self.folder.as_ref().ok_or(Errno::ENOENT)?;
            create_private_dir(folder, FOLDER_MODE)?;
            let socket = NotifySocket::bind(&folder.join(name.as_str()), uid)?;
            self.token_next += 1;
            epoll.add(&socket, Token::Notify(self.token_next).into(), Interest::READ)?;
            self.owners.insert(self.token_next, name.clone());
            self.sockets.insert(name.clone(), (self.token_next, socket));
        }
        let (_, socket) = &self.sockets[name];
        socket.set_owner(uid)?;
        let mut buffer = [0; 1];
        while socket.receive(&mut buffer)? != Received::Nothing {}
        Ok(socket.path().as_os_str().as_bytes().to_vec())
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
