//! Telling whoever started this process how it is: sd_notify(3), the notification descriptor of s6,
//! or nobody.
//!
//! Written out instead of taken from a crate, because the address comes from an [`Environment`]
//! that a test can make, and no variable of a process with threads is changed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::{Environment, Error, Result};

/// Whoever is told. Nothing here blocks, and what cannot be told is a line of the log: the daemon
/// works the same without it.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    descriptor: Option<OwnedFd>,
}

impl Notifier {
    /// Returns one that tells nobody.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Prepares to tell whom the environment names.
    ///
    /// # Errors
    ///
    /// Fails where the notification descriptor is not open, or not a pipe or socket.
    pub fn new(environment: &Environment) -> Result<Self> {
        let socket = environment.notify_socket.as_deref().and_then(|name| {
            let connected = connect(name);
            if let Err(error) = &connected {
                tracing::warn!(%error, "Cannot tell NOTIFY_SOCKET={name:?} anything.");
            }
            connected.ok()
        });
        let descriptor = environment.notification_fd.map(open_descriptor).transpose()?;
        Ok(Self { socket, descriptor })
    }

    /// Reports whether anybody speaks the protocol of sd_notify(3) with us.
    pub const fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Says that we are ready: `READY=1`, or one line on the descriptor, which is closed then.
    pub fn ready(&mut self, status: &str) {
        self.send(&format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), one_line(status)));
        if let Some(descriptor) = self.descriptor.take()
            && let Err(error) = rustix::io::write(&descriptor, b"\n")
        {
            tracing::warn!(%error, "Cannot write to the notification descriptor.");
        }
    }

    /// Says in words how we are.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", one_line(text)));
    }

    /// Says that the configuration is read again; [`ready`](Self::ready) ends that.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// Says that the shutdown has begun, and how long it may take.
    pub fn stopping(&self, at_most: Duration) {
        let usec = at_most.as_micros();
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={usec}\nSTATUS=stopping"));
    }

    /// Says that we are alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Says why we end.
    pub fn failed(&self, error: &Error) {
        let status = error.exit_code();
        let text = one_line(&error.to_string());
        self.send(&format!("STATUS={text}\nEXIT_STATUS={status}"));
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else {
            tracing::debug!(message, "Nobody is told.");
            return;
        };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "Cannot tell the supervisor how we are.");
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => abstract_address(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor @NAME")),
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "abstract names exist on Linux only"))
}

#[cfg(feature = "process")]
fn open_descriptor(number: i32) -> Result<OwnedFd> {
    use rustix::fs::FileType;

    let refused =
        |why: String| Error::io(format!("cannot use notification descriptor {number}: {why}"));
    let descriptor = keepd_os::handle::adopt(number).map_err(|error| refused(error.to_string()))?;
    let stat = rustix::fs::fstat(&descriptor).map_err(|error| refused(error.to_string()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => Ok(descriptor),
        other => Err(refused(format!("it is not a pipe but {other:?}"))),
    }
}

#[cfg(not(feature = "process"))]
fn open_descriptor(number: i32) -> Result<OwnedFd> {
    Err(Error::platform_with_code(
        crate::ErrorCode::PlatformFeatureNotAvailable,
        format!("cannot use notification descriptor {number}: that needs the feature \"process\""),
        std::env::consts::OS,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &OsStr) -> Environment {
        let find = |wanted: &str| (wanted == "NOTIFY_SOCKET").then(|| name.to_owned());
        Environment::from_variables(find, 1)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn messages_arrive_at_an_abstract_name() {
        let name = format!("keepd-notify-{}", std::process::id());
        let listener =
            UnixDatagram::bind_addr(&abstract_address(name.as_bytes()).unwrap()).unwrap();
        let mut notifier = Notifier::new(&environment(OsStr::new(&format!("@{name}")))).unwrap();
        assert!(notifier.has_socket());
        notifier.ready("two\nlines");
        let expected = format!("READY=1\nMAINPID={}\nSTATUS=two lines", std::process::id());
        assert_eq!(received(&listener), expected);
        notifier.reloading();
        assert!(received(&listener).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notifier.stopping(Duration::from_secs(5));
        assert!(received(&listener).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000\n"));
        notifier.alive();
        assert_eq!(received(&listener), "WATCHDOG=1");
        notifier.failed(&Error::config("no"));
        assert!(received(&listener).ends_with("EXIT_STATUS=100"));
    }

    #[test]
    fn a_name_that_is_no_address_is_no_error() {
        let mut notifier = Notifier::new(&environment(OsStr::new("relative"))).unwrap();
        assert!(!notifier.has_socket());
        notifier.ready("nobody hears it");
    }

    #[cfg(feature = "process")]
    #[test]
    fn a_descriptor_gets_one_line_and_is_closed() {
        use std::io::Read;
        use std::os::fd::IntoRawFd;

        let (mut reader, writer) = io::pipe().unwrap();
        let number = OwnedFd::from(writer).into_raw_fd();
        let environment = Environment { notification_fd: Some(number), ..Environment::default() };
        let mut notifier = Notifier::new(&environment).unwrap();
        notifier.ready("");
        notifier.ready("again");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n");
        let error = Notifier::new(&environment).unwrap_err().to_string();
        assert!(error.contains("cannot use notification descriptor"), "{error}");
    }
}
