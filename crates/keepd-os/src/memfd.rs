//! Files without a name, which live as long as somebody has them open.

use std::os::fd::{AsFd, OwnedFd};

use keepd_model::Errno;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{errno, file};

/// `memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL)`: makes an empty file. The name is shown in
/// /proc and means nothing. See memfd_create(2).
pub fn create(name: &str) -> Result<OwnedFd, Errno> {
    let made = match memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(rustix::io::Errno::INVAL) => memfd_create(name, MemfdFlags::CLOEXEC),
        result => result,
    };
    made.map_err(errno::from_rustix)
}

/// `pwrite(fd, bytes, end)`: appends all of it, or nothing.
///
/// For one writer at a time. What was written in part is cut off again; if that fails as well
/// (it takes no memory), a reader finds a piece of it at the end. See pwrite(2).
pub fn append(memory: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let end = file::length(&memory)?;
    let result = write_all(&memory, bytes, end);
    if result.is_err() {
        let _ = file::truncate(&memory, end);
    }
    result
}

fn write_all(memory: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match file::write_at(&memory, bytes, offset)? {
            0 => return Err(Errno(libc::ENOSPC)),
            count => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// `ftruncate(fd, 0)`, then [`append`]: replaces everything.
pub fn replace(memory: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    file::truncate(&memory, 0)?;
    append(memory, bytes)
}

/// `pread(fd, …)` from the start to the end, wherever other users of the descriptor are.
///
/// Fails with EFBIG for more than `bytes_max`. See pread(2).
pub fn read_all(memory: impl AsFd, bytes_max: usize) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(file::length(&memory)?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(Errno(libc::EFBIG));
    }
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file::read_at(&memory, &mut bytes[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
