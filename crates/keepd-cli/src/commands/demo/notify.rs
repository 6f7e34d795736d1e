//! Telling the supervisor how it goes: sd_notify(3), which is one datagram.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Where news for the supervisor go.
pub(super) struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// Connects to the supervisor; `None` if there is none that wants to know.
    pub(super) fn connect() -> io::Result<Option<Self>> {
        let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let address = match path.as_bytes() {
            // systemd writes names without a file with an `@`.
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Some(Self { socket }))
    }

    /// Sends `READY=1`, `STATUS=…` and the like.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        self.socket.send(text.as_bytes()).map(drop)
    }
}
