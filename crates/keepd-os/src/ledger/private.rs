//! Files in the run folder that nobody else may read or write.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use keepd_model::Errno;
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::retry_on_intr;

use crate::{errno, file, process};

const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What may be in the place of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing: EEXIST otherwise.
    Free,
    /// An older one, which is replaced.
    Any,
}

/// `open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC)`, `fstat`: opens a file that is ours alone.
///
/// Fails with ELOOP for a symbolic link, ESPIPE for what is no regular file, EPERM for one that
/// belongs to another user, that others may touch, or that has a second name. See open(2).
pub(super) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(errno::from_rustix)?;
    let stat = rustix::fs::fstat(&opened).map_err(errno::from_rustix)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno(libc::ESPIPE));
    }
    let is_private = Mode::from_raw_mode(stat.st_mode).intersection(Mode::RWXG | Mode::RWXO);
    if stat.st_uid != process::effective_uid() || !is_private.is_empty() || stat.st_nlink != 1 {
        return Err(Errno(libc::EPERM));
    }
    Ok(opened)
}

/// `open(path.new, O_EXCL, 0600)`, whatever `fill` does, `rename(path.new, path)`: makes a file
/// that is there whole or not at all.
///
/// After an error what was in the place is still there. One left by somebody who was lost is
/// removed. See rename(2).
pub(super) fn create(
    path: &Path,
    place: Place,
    fill: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let beside = beside(path);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(&beside, flags, MODE);
    let made = match open() {
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlink(&beside).map_err(errno::from_rustix)?;
            open()
        }
        other => other,
    };
    let made = made.map_err(errno::from_rustix)?;
    let flags = match place {
        Place::Free => RenameFlags::NOREPLACE,
        Place::Any => RenameFlags::empty(),
    };
    let result = fill(&made).and_then(|()| {
        let renamed = rustix::fs::renameat_with(CWD, &beside, CWD, path, flags);
        renamed.map_err(errno::from_rustix)
    });
    if let Err(error) = result {
        // It takes space, and means nothing.
        let _ = rustix::fs::unlinkat(CWD, &beside, AtFlags::empty());
        return Err(error);
    }
    Ok(made)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or(OsStr::new("")));
    name.push(".new");
    path.with_file_name(name)
}

/// `fallocate(fd, 0, from, to - from)`: makes the file longer by zeros that have their space, so
/// that no later write into a mapping finds the disk full.
///
/// Where the file system has no such call, zeros are written. After an error the length may be any;
/// the caller cuts it. See fallocate(2).
pub(super) fn allocate(file: impl AsFd, from: u64, to: u64) -> Result<(), Errno> {
    let length = to.saturating_sub(from);
    let empty = FallocateFlags::empty();
    match retry_on_intr(|| rustix::fs::fallocate(&file, empty, from, length)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(file, from, to),
        Err(error) => Err(errno::from_rustix(error)),
    }
}

fn write_zeros(file: impl AsFd, from: u64, to: u64) -> Result<(), Errno> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut position = from;
    while position < to {
        let count = usize::try_from(to - position).unwrap_or(usize::MAX).min(ZEROS.len());
        position += file::write_at(&file, &ZEROS[..count], position)? as u64;
    }
    Ok(())
}

/// `pwrite` until everything is written.
pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = file::write_at(&file, bytes, offset)?;
        if count == 0 {
            return Err(Errno(libc::ENOSPC));
        }
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_where_nothing_can_be_allocated() {
        let file = OwnedFd::from(tempfile());
        write_zeros(&file, 10, 10_000).unwrap();
        assert_eq!(file::length(&file), Ok(10_000));
    }

    fn tempfile() -> std::fs::File {
        let path = std::env::temp_dir().join(format!("keepd-zeros-{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }
}
