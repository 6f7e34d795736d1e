//! A file that names the process that runs, and is locked as long as it does.
//!
//! *Locked* means that it runs; that the file exists means nothing. So a file that a killed process
//! left behind, whatever it contains, is simply taken over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorCode, Result, io_code};

/// How often a file that is replaced at the moment of locking is opened again.
const TRIES_MAX: usize = 100;

/// A locked pid file: one line with the process id. It is removed when it is dropped.
///
/// The lock is flock(2)'s. It belongs to the open file, which is closed in programs that this
/// process executes, so a child never keeps a dead daemon running.
///
/// ```
/// use keepd::ErrorCode;
/// use keepd::pidfile::PidFile;
///
/// # fn main() -> keepd::Result<()> {
/// let path = std::env::temp_dir().join(format!("keepd-doc-{}.pid", std::process::id()));
/// let running = PidFile::acquire(&path)?;
/// assert_eq!(PidFile::holder(&path)?, Some(std::process::id()));
///
/// let error = PidFile::acquire(&path).unwrap_err();
/// assert_eq!(error.code(), ErrorCode::AlreadyRunning);
///
/// drop(running);
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Locks the file, which is made if there is none (mode 0644), and writes the id of this
    /// process into it. The file of another process that runs is not touched.
    ///
    /// # Errors
    ///
    /// An input or output error if the file cannot be opened or written; a runtime error with
    /// [`ErrorCode::AlreadyRunning`] and the id of the holder if it is locked.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        for _ in 0..TRIES_MAX {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(already_running(path, file)),
                Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
            }
            // The holder removes the file before it lets go: what was locked may have no name.
            if is_at(&file, path)? {
                let mut locked = Self { path: path.to_owned(), file };
                locked.write_pid()?;
                return Ok(locked);
            }
        }
        let text = format!("cannot lock {path:?}: it was replaced {TRIES_MAX} times meanwhile");
        Err(Error::runtime_with_code(ErrorCode::LockFailed, text))
    }

    /// Returns the id of the process that holds the file, or none if nobody does.
    ///
    /// For a moment, this takes a shared lock; an [`PidFile::acquire`] that comes just then fails
    /// and says that something runs.
    ///
    /// # Errors
    ///
    /// An input or output error if the file exists and cannot be read; a runtime error with
    /// [`ErrorCode::LockFailed`] if it is locked by somebody who wrote no id into it.
    pub fn holder(path: impl AsRef<Path>) -> Result<Option<u32>> {
        let path = path.as_ref();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => match pid_in(file) {
                Some(pid) => Ok(Some(pid)),
                None => {
                    let text = format!("{path:?} is locked, but names no process");
                    Err(Error::runtime_with_code(ErrorCode::LockFailed, text))
                }
            },
            Err(TryLockError::Error(error)) => Err(failed("lock", path, error)),
        }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file and lets go of it, as dropping does, but says what went wrong.
    ///
    /// # Errors
    ///
    /// An input or output error if the file cannot be removed.
    pub fn release(self) -> Result<()> {
        self.remove()
    }

    fn write_pid(&mut self) -> Result<()> {
        let line = format!("{}\n", std::process::id());
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| self.file.write_all(line.as_bytes()));
        written.map_err(|error| failed("write", &self.path, error))
    }

    /// Empties and removes the file while it is still locked, so that nobody else's is removed.
    fn remove(&self) -> Result<()> {
        if !is_at(&self.file, &self.path)? {
            return Ok(());
        }
        let removed = self.file.set_len(0).and_then(|()| std::fs::remove_file(&self.path));
        removed.map_err(|error| failed("remove", &self.path, error))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{error}");
        }
    }
}

fn open(path: &Path) -> Result<File> {
    // Not truncated: until it is locked, it belongs to somebody else.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    options.open(path).map_err(|error| failed("open", path, error))
}

/// Reports whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let opened = file.metadata().map_err(|error| failed("look at", path, error))?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path, error)),
    }
}

/// Returns the process id in a file: its first line. Somebody else's file may hold anything.
pub(crate) fn pid_in(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    text.lines().next()?.trim().parse().ok()
}

#[cold]
fn already_running(path: &Path, file: File) -> Error {
    let holder = pid_in(file).map_or_else(String::new, |pid| format!(" by process {pid}"));
    let text = format!("cannot start: {path:?} is locked{holder}");
    Error::runtime_with_code(ErrorCode::AlreadyRunning, text)
}

#[cold]
fn failed(verb: &str, path: &Path, error: std::io::Error) -> Error {
    let (code, message) = (io_code(&error), format!("cannot {verb} {path:?}: {error}"));
    Error::Io { code, message, source: Some(Box::new(error)) }
}
