//! Files that keepd writes: logs at explicit offsets, indexes by appending, private folders, locks.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use keepd_model::Errno;
use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::errno;

const LOG_MODE: u32 = 0o640;

/// `open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640)`: opens a log that is written with
/// [`write_at`].
///
/// Without O_APPEND, which would make the offset meaningless. A symbolic link is refused (ELOOP),
/// so that who may write to the folder cannot point us elsewhere; so is what is no regular file
/// (ESPIPE). See open(2).
pub fn open_log(path: &Path) -> Result<OwnedFd, Errno> {
    open_regular(path, OFlags::RDWR)
}

/// `open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640)`: opens a file for
/// [`append`].
///
/// The same refusals as [`open_log`]. See open(2).
pub fn open_append(path: &Path) -> Result<OwnedFd, Errno> {
    open_regular(path, OFlags::RDWR | OFlags::APPEND)
}

fn open_regular(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, Mode::from_raw_mode(LOG_MODE)).map_err(errno::from_rustix)?;
    let stat = rustix::fs::fstat(&file).map_err(errno::from_rustix)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno(libc::ESPIPE));
    }
    Ok(file)
}

/// `pwrite(fd, bytes, offset)`: writes at a place of the file and returns how much, which may be
/// less.
///
/// Blocks for as long as the file system does. See pwrite(2).
pub fn write_at(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    retry_on_intr(|| rustix::io::pwrite(&file, bytes, offset)).map_err(errno::from_rustix)
}

/// `pread(fd, bytes, offset)`: reads from a place of the file; 0 at its end. See pread(2).
pub fn read_at(file: impl AsFd, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    retry_on_intr(|| rustix::io::pread(&file, &mut *bytes, offset)).map_err(errno::from_rustix)
}

/// `write(fd, bytes)`: appends to a file from [`open_append`] and returns how much, which may be
/// less. See write(2).
pub fn append(file: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| rustix::io::write(&file, bytes)).map_err(errno::from_rustix)
}

/// `faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS)`: says why nothing can be made in a folder.
///
/// Unlike a look at its mode this knows of read-only file systems, and makes nothing. See
/// access(2).
pub fn check_writable_folder(path: &Path) -> Result<(), Errno> {
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(rustix::fs::CWD, path, needed, AtFlags::EACCESS)
        .map_err(errno::from_rustix)
}

/// `fstat(fd)`: returns the length in bytes. See fstat(2).
pub fn length(file: impl AsFd) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(file).map_err(errno::from_rustix)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// `ftruncate(fd, length)`: cuts the file off, or extends it by zeros. See ftruncate(2).
pub fn truncate(file: impl AsFd, length: u64) -> Result<(), Errno> {
    retry_on_intr(|| rustix::fs::ftruncate(&file, length)).map_err(errno::from_rustix)
}

/// `fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, length)`: takes bytes out of the beginning of a file
/// as one step, so that what is added meanwhile stays at its end.
///
/// Only whole blocks of the file system, and not all of them; EOPNOTSUPP where it cannot. See
/// fallocate(2).
pub fn collapse_front(file: impl AsFd, length: u64) -> Result<(), Errno> {
    let flags = rustix::fs::FallocateFlags::COLLAPSE_RANGE;
    retry_on_intr(|| rustix::fs::fallocate(&file, flags, 0, length)).map_err(errno::from_rustix)
}

/// `flock(fd, LOCK_EX | LOCK_NB)`: takes the lock, or returns `false` because somebody else has it.
///
/// It is held until every copy of the descriptor is closed, so it ends with its process. See
/// flock(2).
pub fn lock_exclusive(file: impl AsFd) -> Result<bool, Errno> {
    match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

/// `mkdir(path, mode)`: makes sure that a folder exists, is ours and has exactly this mode.
///
/// Fails with EPERM if it belongs to another user, and with ENOTDIR or ELOOP if it is a file or a
/// symbolic link. Parents are not made. See mkdir(2).
pub fn create_private_dir(path: &Path, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdir(path, mode) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(errno::from_rustix(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(errno::from_rustix)?;
    let stat = rustix::fs::fstat(&directory).map_err(errno::from_rustix)?;
    if stat.st_uid != crate::process::effective_uid() {
        return Err(Errno(libc::EPERM));
    }
    if Mode::from_raw_mode(stat.st_mode) != mode {
        rustix::fs::fchmod(&directory, mode).map_err(errno::from_rustix)?;
    }
    Ok(())
}
