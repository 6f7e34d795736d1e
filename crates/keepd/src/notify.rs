//! Telling whoever started this process how it is: sd_notify(3), the notification descriptor of s6,
//! or nobody.
//!
//! Written out instead of taken from a crate, because the address comes from an [`Environment`]
//! that a test can make, and no variable of a process with threads is changed.

use std::ffi::OsStr;
use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::{Environment, Error, Result};

/// So many bytes of a text are told: a datagram that is too long would not be told at all.
const TEXT_BYTES_MAX: usize = 1024;

/// So many descriptors go with one message.
const STORED_MAX: usize = 16;

/// A name in the store of the supervisor may be so long; sd_pid_notify_with_fds(3).
const NAME_BYTES_MAX: usize = 255;

/// Whoever is told. Nothing here blocks, and what cannot be told is a line of the log: the daemon
/// works the same without it.
///
/// A [`Daemon`](crate::Daemon) has one of its own and tells everything in its time; this is for
/// programs without one.
///
/// ```
/// use keepd::{Environment, Notifier};
///
/// # fn main() -> keepd::Result<()> {
/// let mut notifier = Notifier::new(&Environment::detect())?;
/// notifier.ready("listening on port 8080");
/// notifier.status("serving 3 clients");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
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
            connected.ok().map(Arc::new)
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

    /// Returns one that tells the same supervisor, but not on the descriptor: for other threads.
    #[cfg(feature = "tokio")]
    pub(crate) fn another(&self) -> Self {
        Self { socket: self.socket.clone(), descriptor: None }
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

    /// Says that we are not, and asks to be treated so: `WATCHDOG=trigger`.
    pub fn stuck(&self, status: &str) {
        self.send(&format!("WATCHDOG=trigger\nSTATUS={}", one_line(status)));
    }

    /// Says why we end; with the number of the system's error where there is one.
    pub fn failed(&self, error: &Error) {
        let status = error.exit_code();
        let text = one_line(&error.to_string());
        let number = error_number(error).map_or_else(String::new, |n| format!("\nERRNO={n}"));
        self.send(&format!("STATUS={text}\nEXIT_STATUS={status}{number}"));
    }

    /// Gives copies of descriptors to the supervisor, which passes them to the next start of this
    /// service under this name (`FDSTORE=1`): a socket that is kept so refuses no connection
    /// meanwhile. Returns whether there is a supervisor to give them to.
    ///
    /// The next start finds them by [`sockets::take`](crate::sockets::take). The supervisor must
    /// allow it: `FileDescriptorStoreMax=` of systemd.service(5).
    ///
    /// # Errors
    ///
    /// Fails (Config) for a name that the protocol cannot have, and (Io) where the message cannot
    /// be sent.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// use keepd::Notifier;
    ///
    /// # fn main() -> keepd::Result<()> {
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// // Alone, there is nobody to keep it.
    /// assert!(!Notifier::alone().store("web", &[listener.as_fd()])?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn store(&self, name: &str, descriptors: &[BorrowedFd<'_>]) -> Result<bool> {
        check_name(name)?;
        if descriptors.len() > STORED_MAX {
            let count = descriptors.len();
            let text = format!("cannot store {count} descriptors at once: more than {STORED_MAX}");
            return Err(Error::config(text));
        }
        let Some(socket) = &self.socket else { return Ok(false) };
        let message = format!("FDSTORE=1\nFDNAME={name}");
        send_with_descriptors(socket, message.as_bytes(), descriptors).map_err(|error| {
            let error = io::Error::from(error);
            let text = format!("cannot store descriptors as \"{name}\": {error}");
            Error::io_with_source(text, error)
        })?;
        Ok(true)
    }

    /// Takes what was [stored](Self::store) under this name out of the store.
    ///
    /// # Errors
    ///
    /// Fails (Config) for a name that the protocol cannot have.
    pub fn forget(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        Ok(())
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = self.socket.as_deref() else {
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
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace(['\n', '\r'], " ")
}

/// Returns the number that the system gave to what caused an error.
fn error_number(error: &Error) -> Option<i32> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if number.is_some() {
            return number;
        }
        cause = error.source();
    }
    None
}

fn check_name(name: &str) -> Result<()> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b':' || byte == b' ';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
        let text = format!(
            "cannot store descriptors as {name:?}: a name has 1 to {NAME_BYTES_MAX} ASCII \
             characters without \":\" and control characters"
        );
        return Err(Error::config(text));
    }
    Ok(())
}

fn send_with_descriptors(
    (socket, address): &(UnixDatagram, SocketAddr),
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let address = rustix_address(address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STORED_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        // The caller has counted them.
        return Err(rustix::io::Errno::MSGSIZE);
    }
    let pieces = [IoSlice::new(message)];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg_addr(socket, &address, &pieces, &mut control, flags)
    })
    .map(drop)
}

fn rustix_address(address: &SocketAddr) -> rustix::io::Result<rustix::net::SocketAddrUnix> {
    use rustix::net::SocketAddrUnix;

    if let Some(path) = address.as_pathname() {
        return SocketAddrUnix::new(path);
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        return SocketAddrUnix::new_abstract_name(name);
    }
    Err(rustix::io::Errno::INVAL)
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
        let missing = io::Error::from_raw_os_error(2);
        notifier.failed(&Error::io_with_source("gone", missing).with_exit_code(7));
        assert!(received(&listener).ends_with("\nEXIT_STATUS=7\nERRNO=2"));
        notifier.stuck("blocked");
        assert_eq!(received(&listener), "WATCHDOG=trigger\nSTATUS=blocked");
        notifier.status(&"é".repeat(TEXT_BYTES_MAX));
        assert_eq!(received(&listener).len(), "STATUS=".len() + TEXT_BYTES_MAX);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_descriptor_travels_to_the_store_under_its_name() {
        use std::os::fd::AsFd;

        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

        let name = format!("keepd-store-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).unwrap();
        let supervisor = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::new(&environment(OsStr::new(&format!("@{name}")))).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(notifier.store("web", &[listener.as_fd()]).unwrap());

        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [io::IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let count =
            rustix::net::recvmsg(&supervisor, &mut pieces, &mut control, flags).unwrap().bytes;
        assert_eq!(&bytes[..count], b"FDSTORE=1\nFDNAME=web");
        let kept: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let [kept] = <[OwnedFd; 1]>::try_from(kept).unwrap();
        let kept = std::net::TcpListener::from(kept);
        assert_eq!(kept.local_addr().unwrap(), listener.local_addr().unwrap());

        notifier.forget("web").unwrap();
        assert_eq!(received(&supervisor), "FDSTOREREMOVE=1\nFDNAME=web");
        for wrong in ["", "a:b", "a\nREADY=1", "ü", &"x".repeat(256)] {
            let error = notifier.store(wrong, &[]).unwrap_err();
            assert!(error.is_config_error(), "{error}");
        }
        let many = vec![listener.as_fd(); STORED_MAX + 1];
        assert!(notifier.store("web", &many).is_err());
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
