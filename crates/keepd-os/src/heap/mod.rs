//! Memory: how much the C library keeps, and a global allocator for programs that must not run out
//! of it.
//!
//! A program that declares [`Heap`] as its global allocator gets its memory from the system, as
//! always, until it chooses one of two ways:
//!
//! - [`seal`]: from then on all new memory comes from one region that was taken before, and nothing
//!   is asked of the system any more;
//! - [`keep_reserve`]: what the system refuses comes from a small region kept for that, so that
//!   work under way is finished. [`is_low`] says that it has come to this.
//!
//! Neither makes memory endless: with nothing left, the standard library ends the process. So ask
//! [`has_room`] before work is accepted that needs memory for long.

mod allocator;
mod glibc;
mod region;

use std::alloc::{GlobalAlloc, Layout, System};

use keepd_model::Errno;

use allocator::Allocator;
pub use glibc::{give_back, give_back_large, share_one};

static GLOBAL: Allocator<System> = Allocator::new(System);

/// The allocator of a program: `#[global_allocator] static HEAP: Heap = Heap;`.
///
/// All values of this type are one allocator. Threads may share it; memory of a region costs them
/// a lock.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

#[expect(unsafe_code, reason = "the interface of allocators is unsafe")]
// SAFETY: `Allocator` keeps the promises of a global allocator.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { GLOBAL.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { GLOBAL.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { GLOBAL.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { GLOBAL.realloc(block, layout, bytes) }
    }
}

/// `mmap(bytes)`, touched: takes a region, from which all new memory comes from now on.
///
/// Blocks from before stay where they are until they grow. Works once; fails with EBUSY if there is
/// a region already, with EINVAL for less than a page, and with ENOMEM if the system does not give
/// that much. See mmap(2).
pub fn seal(bytes: usize) -> Result<(), Errno> {
    GLOBAL.seal(bytes)
}

/// `mmap(bytes)`, touched: takes a region, from which memory comes when the system refuses it.
///
/// While what was taken from it is not given back, and the system has memory again, the region
/// grows by the same amount, up to eight times its size; the addresses for that are reserved at
/// once. Works once, and fails as [`seal`].
pub fn keep_reserve(bytes: usize) -> Result<(), Errno> {
    GLOBAL.keep_reserve(bytes)
}

/// Reports whether all new memory comes from a region.
pub fn is_sealed() -> bool {
    GLOBAL.is_sealed()
}

/// Reports whether one block of this size can be had now, and the system has not refused memory
/// (see [`is_low`]).
///
/// Something in many small pieces needs more than their sum: each of them costs up to 48 bytes of
/// its own in a region.
pub fn has_room(bytes: usize) -> bool {
    GLOBAL.has_room(bytes)
}

/// Reports whether the system has refused memory and has none yet: asks it again.
///
/// Once it has, and the reserve holds at least half of what it should again, the answer is `false`.
/// Always so after [`seal`].
pub fn is_low() -> bool {
    GLOBAL.is_low()
}

/// Returns how often the system's allocator was asked for memory since the program began.
pub fn system_calls() -> u64 {
    GLOBAL.system_calls()
}

/// How much of a region was needed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionUsage {
    /// The bytes of the region; 0 without one.
    pub bytes: usize,
    /// How many of them were in use at most at the same time, administration included. What lies
    /// unused between blocks is not counted.
    pub used_bytes_max: usize,
}

/// Returns how much of the region was needed so far.
pub fn region_usage() -> RegionUsage {
    let (bytes, used_bytes_max) = GLOBAL.region_usage();
    RegionUsage { bytes, used_bytes_max }
}

/// Returns how many bytes of the region are free, in pieces of any size and with what their
/// administration will take; 0 without a region.
pub fn region_free_bytes() -> usize {
    GLOBAL.region_free_bytes()
}
