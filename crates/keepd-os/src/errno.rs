//! One shape for errors: the kernel's number, whichever library carried it.

use keepd_model::Errno;

/// Returns the number of a rustix error.
pub(crate) fn from_rustix(error: rustix::io::Errno) -> Errno {
    Errno(error.raw_os_error())
}

/// Returns the number of a standard library error; EIO where it has none.
pub(crate) fn from_io(error: &std::io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Returns what errno(3) says about the last failed call of this thread.
pub(crate) fn last() -> Errno {
    from_io(&std::io::Error::last_os_error())
}
