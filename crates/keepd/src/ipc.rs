//! Sockets between processes of one machine.

/// Unix sockets.
pub mod unix {
    use std::fs::{File, TryLockError};
    use std::io;
    use std::os::unix::fs::FileTypeExt;
    use std::path::Path;
    use std::time::Duration;

    use tokio::net::{UnixListener, UnixStream};

    /// How long a start of somebody else in the same folder may take.
    const LOCK_MAX: Duration = Duration::from_secs(5);

    /// How long it takes until the folder is asked again.
    const LOCK_STEP: Duration = Duration::from_millis(2);

    /// Listens on a path. A socket that nobody listens on is removed first; it was left behind.
    ///
    /// Two programs that do this at once do not remove each other's: the folder is locked meanwhile
    /// (flock(2)).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] if somebody listens there, or if the path is no socket, and
    /// whatever the system says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use keepd::ipc::unix;
    ///
    /// let path = std::env::temp_dir().join(format!("keepd-doc-{}.sock", std::process::id()));
    /// let listener = unix::bind(&path).await?;
    /// let client = unix::connect(&path).await?;
    /// listener.accept().await?;
    /// assert!(unix::bind(&path).await.is_err());
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        let path = path.as_ref();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")))?;
        // Held until the socket listens: what is between looking and binding belongs to us.
        tokio::time::timeout(LOCK_MAX, lock(&folder)).await.map_err(|_| {
            let text = format!("cannot listen on {path:?}: its folder is locked by somebody");
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
        remove_stale(path).await?;
        UnixListener::bind(path)
    }

    /// Connects to a path.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub async fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect(path).await
    }

    async fn lock(folder: &File) -> io::Result<()> {
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_STEP).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Removes a socket that refuses connections.
    async fn remove_stale(path: &Path) -> io::Result<()> {
        let in_use = |why: &str| {
            let text = format!("cannot listen on {path:?}: {why}");
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        };
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return in_use("something else than a socket is there");
            }
            Ok(_) => {}
        }
        match UnixStream::connect(path).await {
            // WouldBlock: its queue is full, so somebody listens.
            Ok(_) => in_use("somebody listens there"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                in_use("somebody listens there")
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
