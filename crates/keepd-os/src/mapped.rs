//! Reading a file through a mapping.

#![expect(unsafe_code, reason = "a mapping is raw memory")]

use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use keepd_model::Errno;

use crate::{errno, file};

/// `mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0)`, a copy, `munmap`: returns the bytes of a
/// file.
///
/// If the file becomes shorter meanwhile, the kernel ends this process with SIGBUS: this is for
/// files that are replaced by renaming, never for those that are written in place. The bytes are
/// copied, so what is returned does not change with the file. See mmap(2).
pub fn read(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    let bytes = file::length(&fd)?;
    let Ok(length) = usize::try_from(bytes) else { return Err(Errno(libc::EFBIG)) };
    if length == 0 {
        // mmap(2) refuses an empty mapping.
        return Ok(Vec::new());
    }
    let mut copy = vec![0u8; length];
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: with a null hint and without MAP_FIXED the kernel picks pages that nobody uses, so no
    // memory of this process changes; the descriptor is open as long as `fd` is borrowed.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, raw, 0) };
    if start == libc::MAP_FAILED {
        return Err(errno::last());
    }
    // SAFETY: the mapping is readable for `length` bytes and stays until the call below; `copy` has
    // the same length and is other memory. Another process may write the file meanwhile: no
    // reference to the mapping is ever made, so the compiler assumes nothing about its bytes.
    unsafe { ptr::copy_nonoverlapping(start.cast::<u8>(), copy.as_mut_ptr(), length) };
    // SAFETY: exactly this mapping was made above, and nothing points into it any more.
    unsafe { libc::munmap(start, length) };
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_what_is_read() {
        let path = std::env::current_exe().unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert!(read(&file).unwrap() == std::fs::read(&path).unwrap());
    }

    #[test]
    fn an_empty_file_is_empty_and_a_pipe_cannot_be_mapped() {
        assert_eq!(read(std::fs::File::open("/proc/self/status").unwrap()), Ok(Vec::new()));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(read(&reader), Ok(Vec::new()));
        let folder = std::fs::File::open("/usr").unwrap();
        assert!(read(&folder).is_err());
    }
}
