//! One instance at a time.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorCode, Result};
use crate::pidfile::PidFile;

/// A lock that one process has at a time, by means of a file that names it.
///
/// ```
/// use keepd::lock::InstanceLock;
///
/// # fn main() -> keepd::Result<()> {
/// let path = std::env::temp_dir().join(format!("keepd-doc-{}.lock", std::process::id()));
/// let mut lock = InstanceLock::new(&path);
/// lock.lock()?;
/// assert!(lock.is_locked());
/// assert!(InstanceLock::new(&path).lock().is_err());
/// lock.unlock()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InstanceLock {
    path: PathBuf,
    held: Option<PidFile>,
}

impl InstanceLock {
    /// Returns a lock that is not taken yet.
    pub fn new<P: AsRef<Path>>(path: P) -> Self {
        Self { path: path.as_ref().to_owned(), held: None }
    }

    /// Takes the lock. Taking it twice is the same as once.
    ///
    /// # Errors
    ///
    /// An input or output error if the file cannot be opened; a runtime error with
    /// [`ErrorCode::LockFailed`] and the process id of the holder if another one has it. The file
    /// of that one is not touched.
    pub fn lock(&mut self) -> Result<()> {
        if self.held.is_some() {
            return Ok(());
        }
        match PidFile::acquire(&self.path) {
            Ok(held) => {
                self.held = Some(held);
                Ok(())
            }
            Err(Error::Runtime { code: ErrorCode::AlreadyRunning, message, source }) => {
                Err(Error::Runtime { code: ErrorCode::LockFailed, message, source })
            }
            Err(error) => Err(error),
        }
    }

    /// Lets go of the lock and removes the file. It is let go of when this is dropped, too.
    ///
    /// # Errors
    ///
    /// An input or output error if the file cannot be removed.
    pub fn unlock(&mut self) -> Result<()> {
        self.held.take().map_or(Ok(()), PidFile::release)
    }

    /// Returns whether this value has the lock.
    pub const fn is_locked(&self) -> bool {
        self.held.is_some()
    }
}
