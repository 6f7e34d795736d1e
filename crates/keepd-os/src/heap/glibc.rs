//! How much memory the C library's allocator keeps.
//!
//! These functions do nothing with a C library other than glibc.
#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the allocator is reached only through the C library")
)]

/// `mallopt(M_ARENA_MAX, 1)`: lets all threads share one heap.
///
/// By default up to eight times as many heaps are made as there are processors, each with pages of
/// its own that are never given back, and a program whose threads rarely allocate at the same time
/// gains nothing by them. To be called before there is a second thread. See mallopt(3).
pub fn share_one() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers. It is not called while another thread allocates, by the
    // contract of this function, and would only be late otherwise.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// `mallopt(M_MMAP_THRESHOLD)`: gives every piece of memory of 64 KiB or more pages of its own,
/// which go back to the kernel when it is freed.
///
/// By default the allocator learns from the first large piece that is freed, and keeps later ones
/// of that size: a program that needs a large buffer once in a while keeps its room for ever. See
/// mallopt(3).
pub fn give_back_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}

/// `malloc_trim(0)`: gives pages that hold nothing back to the kernel.
///
/// It looks through the whole heap: about a millisecond for ten mebibytes. See malloc_trim(3).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
