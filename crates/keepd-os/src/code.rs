//! The file that this process was started from, as it lies in memory.
#![expect(unsafe_code, reason = "the linker says where the program lies, and rustix cannot know")]

use std::ffi::c_void;

use keepd_model::Errno;

use crate::errno;

// SAFETY: the linker defines both symbols in every program; only their addresses are used. See
// end(3).
unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// `madvise(code, MADV_DONTNEED)`: gives the pages with our code back to the kernel, which maps
/// them again from the file where we go on.
///
/// For a program that from now on needs a small part of what it needed to come here. Nothing is
/// lost: nobody writes to these pages. See madvise(2).
pub fn give_back_code() -> Result<(), Errno> {
    let page = rustix::param::page_size();
    let (start, end) = (&raw const __executable_start, &raw const etext);
    // The last page may hold something else behind the code.
    let start = start.wrapping_add(page - 1);
    let start = start.wrapping_sub(start.addr() % page);
    let end = end.wrapping_sub(end.addr() % page);
    let length = end.addr().saturating_sub(start.addr());
    // SAFETY: the range is ours and read-only, from a file, so the kernel finds every page again.
    let result =
        unsafe { libc::madvise(start.cast_mut().cast::<c_void>(), length, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(errno::last()) }
}
