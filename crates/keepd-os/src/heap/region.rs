//! A piece of memory that is taken once and divided by TLSF: constant time for each call, and
//! little fragmentation however long it is used.
#![expect(unsafe_code, reason = "an allocator hands out raw memory, and mmap(2) gives it")]

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use keepd_model::Errno;
use rlsf::Tlsf;

use crate::errno;

/// Sizes up to 8 GiB, each doubling divided into 32 classes.
type Blocks = Tlsf<'static, u32, u32, 28, 32>;

/// What a block costs beyond its size, and what sizes are rounded up to.
const HEADER_BYTES: usize = rlsf::GRANULARITY / 2;
/// Tries for the lock before the processor is left to whoever has it.
const SPINS_MAX: u32 = 64;

/// Memory between two addresses. Part of it may be without use yet.
pub(super) struct Region {
    /// 0 before it is opened.
    start: AtomicUsize,
    /// Bytes of addresses, used or not.
    length: AtomicUsize,
    locked: AtomicBool,
    inner: UnsafeCell<Inner>,
}

struct Inner {
    blocks: Blocks,
    /// Bytes added to `blocks`.
    total: usize,
    /// Bytes handed out, administration included.
    used: usize,
    /// The most that ever was.
    used_max: usize,
}

// SAFETY: `inner` is only reached through `with`, which holds a lock, and the memory that it points
// to is reached through nothing else.
unsafe impl Sync for Region {}

impl Region {
    pub(super) const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            locked: AtomicBool::new(false),
            inner: UnsafeCell::new(Inner { blocks: Tlsf::new(), total: 0, used: 0, used_max: 0 }),
        }
    }

    /// Takes addresses for `parts` times `bytes`, rounded up to pages, and makes the first part
    /// usable. Must be called once at most; the region is never given back.
    pub(super) fn open(&self, bytes: usize, parts: usize) -> Result<(), Errno> {
        let page = rustix::param::page_size();
        if bytes < page {
            return Err(Errno::EINVAL);
        }
        let out_of_memory = Errno(libc::ENOMEM);
        let bytes = bytes.checked_next_multiple_of(page).ok_or(out_of_memory)?;
        let length = bytes.checked_mul(parts).ok_or(out_of_memory)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(errno::last());
        }
        let usable = make_usable(start.cast(), bytes);
        if usable.is_err() {
            // SAFETY: the mapping was made above and nobody knows it.
            unsafe { libc::munmap(start, length) };
            return usable;
        }
        self.start.store(start.expose_provenance(), Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        self.with(|inner| inner.add(start.cast(), bytes));
        Ok(())
    }

    /// Makes a further part usable, which was reserved by [`Region::open`]. `Ok(false)`: there is
    /// none.
    pub(super) fn grow(&self, bytes: usize) -> Result<bool, Errno> {
        let bytes = bytes.next_multiple_of(rustix::param::page_size());
        let start = self.start.load(Ordering::Relaxed);
        let length = self.length.load(Ordering::Relaxed);
        self.with(|inner| {
            if length - inner.total < bytes {
                return Ok(false);
            }
            let part = ptr::with_exposed_provenance_mut::<u8>(start + inner.total);
            make_usable(part, bytes)?;
            inner.add(part, bytes);
            Ok(true)
        })
    }

    /// Reports whether a block is from here.
    pub(super) fn contains(&self, block: *const u8) -> bool {
        // Whoever has a block from here got it after the region was opened.
        let start = self.start.load(Ordering::Relaxed);
        block.addr().wrapping_sub(start) < self.length.load(Ordering::Relaxed)
    }

    /// Returns a block, or null.
    pub(super) fn allocate(&self, layout: Layout) -> *mut u8 {
        self.with(|inner| inner.allocate(layout)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// # Safety
    ///
    /// The block is from [`Region::allocate`] or [`Region::reallocate`], with this layout.
    pub(super) unsafe fn deallocate(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise is passed on.
            self.with(|inner| unsafe { inner.deallocate(block, layout) });
        }
    }

    /// Returns the block with another size, at the same place or moved, or null.
    ///
    /// # Safety
    ///
    /// As for [`Region::deallocate`]; `new` has the alignment of `layout`.
    pub(super) unsafe fn reallocate(&self, block: *mut u8, layout: Layout, new: Layout) -> *mut u8 {
        let Some(block) = NonNull::new(block) else {
            return ptr::null_mut();
        };
        let moved = self.with(|inner| {
            // SAFETY: the block is from these blocks, by the caller's promise.
            let moved = unsafe { inner.blocks.reallocate(block, new) }?;
            inner.note_used(inner.used - cost(layout) + cost(new));
            Some(moved)
        });
        moved.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    /// Reports whether one block of this size can be had.
    pub(super) fn has_block(&self, bytes: usize) -> bool {
        let Ok(layout) = Layout::array::<u8>(bytes.max(1)) else {
            return false;
        };
        self.with(|inner| match inner.blocks.allocate(layout) {
            Some(block) => {
                // SAFETY: it was allocated a line above, with this layout.
                unsafe { inner.blocks.deallocate(block, layout.align()) };
                true
            }
            None => false,
        })
    }

    /// Returns how many bytes there are, and how many were in use at most.
    pub(super) fn usage(&self) -> (usize, usize) {
        self.with(|inner| (inner.total, inner.used_max))
    }

    pub(super) fn free_bytes(&self) -> usize {
        self.with(|inner| inner.total.saturating_sub(inner.used))
    }

    /// Calls a function with the lock held. It is held for well under a microsecond, but for the
    /// move of a large block.
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        let mut spins = 0;
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            spins += 1;
            if spins % SPINS_MAX == 0 {
                std::thread::yield_now();
            } else {
                spin_loop();
            }
        }
        // SAFETY: the lock makes this the only reference; the functions passed here do not call
        // this one, and signal handlers never allocate.
        let result = work(unsafe { &mut *self.inner.get() });
        self.locked.store(false, Ordering::Release);
        result
    }
}

impl Inner {
    /// Adds memory that was just made usable.
    fn add(&mut self, start: *mut u8, bytes: usize) {
        let part = NonNull::new(ptr::slice_from_raw_parts_mut(start, bytes));
        if let Some(part) = part {
            // SAFETY: the memory is mapped for ever, and nobody else has it.
            unsafe { self.blocks.insert_free_block_ptr(part) };
            self.total += bytes;
        }
    }

    fn note_used(&mut self, used: usize) {
        self.used = used;
        self.used_max = self.used_max.max(used);
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let block = self.blocks.allocate(layout)?;
        self.note_used(self.used + cost(layout));
        Some(block)
    }

    /// # Safety
    ///
    /// The block is from these blocks, with this layout.
    unsafe fn deallocate(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.blocks.deallocate(block, layout.align()) };
        self.used -= cost(layout);
    }
}

/// Returns what a block takes, administration included; for a large alignment at most so much.
fn cost(layout: Layout) -> usize {
    let padding = if layout.align() < rlsf::GRANULARITY { 0 } else { layout.align() };
    (layout.size() + HEADER_BYTES + padding).next_multiple_of(rlsf::GRANULARITY)
}

/// Allows reading and writing, and has every page given now, not when it is first used.
fn make_usable(start: *mut u8, bytes: usize) -> Result<(), Errno> {
    // SAFETY: the range is part of a mapping of ours that nobody uses yet.
    unsafe {
        if libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            return Err(errno::last());
        }
        for offset in (0..bytes).step_by(rustix::param::page_size()) {
            start.add(offset).write_volatile(0);
        }
    }
    Ok(())
}
