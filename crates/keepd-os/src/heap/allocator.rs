//! Who serves a request for memory: the system or the region.
#![expect(unsafe_code, reason = "the interface of allocators is unsafe")]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use keepd_model::Errno;

use super::region::Region;

/// Everything from the system.
const PLAIN: u8 = 0;
/// Everything from the system, or from the region if the system refuses.
const RESERVE: u8 = 1;
/// Everything from the region.
const SEALED: u8 = 2;
/// A region is being opened.
const OPENING: u8 = 3;

/// How often the reserve has room to grow, the first time included.
const RESERVE_PARTS: usize = 8;
/// The least that the system must have again before memory is not low any more.
const PROBE_BYTES: usize = 16 * 1024;

/// The two sources of memory. `S` is the system.
pub(super) struct Allocator<S> {
    system: S,
    region: Region,
    mode: AtomicU8,
    /// The size of the reserve when it is whole.
    reserve_bytes: AtomicUsize,
    system_calls: AtomicU64,
    low: AtomicBool,
    /// The largest request that was refused since memory is low.
    refused_bytes: AtomicUsize,
}

impl<S: GlobalAlloc> Allocator<S> {
    pub(super) const fn new(system: S) -> Self {
        Self {
            system,
            region: Region::new(),
            mode: AtomicU8::new(PLAIN),
            reserve_bytes: AtomicUsize::new(0),
            system_calls: AtomicU64::new(0),
            low: AtomicBool::new(false),
            refused_bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn seal(&self, bytes: usize) -> Result<(), Errno> {
        self.open(bytes, 1, SEALED)
    }

    pub(super) fn keep_reserve(&self, bytes: usize) -> Result<(), Errno> {
        self.open(bytes, RESERVE_PARTS, RESERVE)?;
        self.reserve_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Opens the region for a mode. Other threads go on as before until it is open.
    fn open(&self, bytes: usize, parts: usize, mode: u8) -> Result<(), Errno> {
        self.mode
            .compare_exchange(PLAIN, OPENING, Ordering::Relaxed, Ordering::Relaxed)
            .map_err(|_| Errno(libc::EBUSY))?;
        let opened = self.region.open(bytes, parts);
        let next = if opened.is_ok() { mode } else { PLAIN };
        self.mode.store(next, Ordering::Release);
        opened
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.mode.load(Ordering::Acquire) == SEALED
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        if self.is_sealed() {
            return self.region.has_block(bytes);
        }
        if self.is_low() {
            return false;
        }
        let has = self.probe(bytes);
        if !has {
            self.note_refusal(bytes);
        }
        has
    }

    pub(super) fn is_low(&self) -> bool {
        if !self.low.load(Ordering::Relaxed) || self.is_sealed() {
            return false;
        }
        let reserve = self.reserve_bytes.load(Ordering::Relaxed);
        // What is larger than the reserve would not have been served from it either.
        let refused = self.refused_bytes.load(Ordering::Relaxed).min(reserve);
        let is_low = !self.probe(refused.max(PROBE_BYTES)) || self.refill(reserve).is_err();
        if !is_low {
            self.refused_bytes.store(0, Ordering::Relaxed);
            self.low.store(false, Ordering::Relaxed);
        }
        is_low
    }

    /// Makes the reserve larger if less than half of it is there. Once it cannot grow any more, it
    /// stays as it is: memory that is in use for long must not refuse work for ever.
    fn refill(&self, reserve: usize) -> Result<(), Errno> {
        if self.region.free_bytes() < reserve / 2 {
            self.region.grow(reserve)?;
        }
        Ok(())
    }

    pub(super) fn system_calls(&self) -> u64 {
        self.system_calls.load(Ordering::Relaxed)
    }

    pub(super) fn region_usage(&self) -> (usize, usize) {
        self.region.usage()
    }

    pub(super) fn region_free_bytes(&self) -> usize {
        self.region.free_bytes()
    }

    /// Asks the system for a block and gives it back.
    fn probe(&self, bytes: usize) -> bool {
        let Ok(layout) = Layout::array::<u8>(bytes.max(1)) else {
            return false;
        };
        self.count();
        // SAFETY: the layout has a size of one byte at least, and the block is given back with it.
        unsafe {
            let block = self.system.alloc(layout);
            if block.is_null() {
                return false;
            }
            // A compiler may else find that nobody needs the block, and not ask for it.
            block.write_volatile(0);
            self.system.dealloc(block, layout);
        }
        true
    }

    fn count(&self) {
        self.system_calls.fetch_add(1, Ordering::Relaxed);
    }

    fn note_refusal(&self, bytes: usize) {
        self.refused_bytes.fetch_max(bytes, Ordering::Relaxed);
        self.low.store(true, Ordering::Relaxed);
    }

    /// Serves from the reserve what the system refused; null without one.
    #[cold]
    fn take_reserve(&self, layout: Layout) -> *mut u8 {
        self.note_refusal(layout.size());
        if self.mode.load(Ordering::Acquire) == RESERVE {
            self.region.allocate(layout)
        } else {
            ptr::null_mut()
        }
    }

    /// Moves a block of the system to the region.
    ///
    /// # Safety
    ///
    /// `block` is from the system, with this layout; `moved` is a block of `bytes` bytes.
    unsafe fn leave_system(&self, block: *mut u8, layout: Layout, moved: *mut u8, bytes: usize) {
        // SAFETY: both are as long as what is copied, and of two allocators.
        unsafe {
            ptr::copy_nonoverlapping(block, moved, layout.size().min(bytes));
            self.system.dealloc(block, layout);
        }
    }

    /// Changes the size of a block of the system.
    ///
    /// # Safety
    ///
    /// As for [`GlobalAlloc::realloc`], for a block that is not of the region.
    unsafe fn resize_system(&self, block: *mut u8, layout: Layout, new: Layout) -> *mut u8 {
        if self.is_sealed() {
            let moved = self.region.allocate(new);
            if !moved.is_null() {
                // SAFETY: `block` is the system's, and `moved` is new.
                unsafe { self.leave_system(block, layout, moved, new.size()) };
                return moved;
            }
            // Something that becomes smaller can always stay.
            if new.size() > layout.size() {
                return ptr::null_mut();
            }
        }
        self.count();
        // SAFETY: the caller's promise is passed on.
        let resized = unsafe { self.system.realloc(block, layout, new.size()) };
        if !resized.is_null() {
            return resized;
        }
        let moved = self.take_reserve(new);
        if !moved.is_null() {
            // SAFETY: realloc that fails leaves `block` as it was, and `moved` is new.
            unsafe { self.leave_system(block, layout, moved, new.size()) };
        }
        moved
    }

    /// Changes the size of a block of the region.
    ///
    /// # Safety
    ///
    /// As for [`GlobalAlloc::realloc`], for a block of the region.
    unsafe fn resize_region(&self, block: *mut u8, layout: Layout, new: Layout) -> *mut u8 {
        // A reserve is not for what can be had elsewhere.
        if !self.is_sealed() && new.size() > layout.size() {
            self.count();
            // SAFETY: sizes are as the caller promises; the blocks are of two allocators.
            unsafe {
                let moved = self.system.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size());
                    self.region.deallocate(block, layout);
                    return moved;
                }
            }
            self.note_refusal(new.size());
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { self.region.reallocate(block, layout, new) }
    }
}

// SAFETY: a block is valid until it is given back to the source it came from, which its address
// tells; both sources honour size and alignment. Nothing here unwinds or allocates by itself.
unsafe impl<S: GlobalAlloc> GlobalAlloc for Allocator<S> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.is_sealed() {
            return self.region.allocate(layout);
        }
        self.count();
        // SAFETY: the caller's promise is passed on.
        let block = unsafe { self.system.alloc(layout) };
        if block.is_null() { self.take_reserve(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let from_region = if self.is_sealed() {
            self.region.allocate(layout)
        } else {
            self.count();
            // SAFETY: the caller's promise is passed on.
            let block = unsafe { self.system.alloc_zeroed(layout) };
            if !block.is_null() {
                return block;
            }
            self.take_reserve(layout)
        };
        if !from_region.is_null() {
            // SAFETY: the block is new and of this size.
            unsafe { from_region.write_bytes(0, layout.size()) };
        }
        from_region
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is from where its address says, with this layout.
        unsafe {
            if self.region.contains(block) {
                self.region.deallocate(block, layout);
            } else {
                self.system.dealloc(block, layout);
            }
        }
    }

    // SAFETY: what a caller must hold to is said by the trait, as for the functions above.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, is not too large.
        let new = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: the block is from where its address says, with this layout.
        unsafe {
            if self.region.contains(block) {
                self.resize_region(block, layout, new)
            } else {
                self.resize_system(block, layout, new)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::slice;

    use super::*;

    const REGION_BYTES: usize = 1024 * 1024;
    const RESERVE_BYTES: usize = 64 * 1024;

    /// The system, which refuses everything from some size on.
    struct Moody {
        refused_from: AtomicUsize,
    }

    // SAFETY: everything is passed on to the system's allocator or refused.
    unsafe impl GlobalAlloc for Moody {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if layout.size() >= self.refused_from.load(Ordering::Relaxed) {
                return ptr::null_mut();
            }
            // SAFETY: the caller's promise is passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise is passed on.
            unsafe { System.dealloc(block, layout) }
        }
    }

    type Tested = Allocator<Moody>;

    fn new() -> Tested {
        Allocator::new(Moody { refused_from: AtomicUsize::new(usize::MAX) })
    }

    fn refuse(allocator: &Tested, from: usize) {
        allocator.system.refused_from.store(from, Ordering::Relaxed);
    }

    fn sealed() -> Tested {
        let allocator = new();
        allocator.seal(REGION_BYTES).unwrap();
        allocator
    }

    /// A block that is filled with one byte, and looked at whenever it is touched.
    struct Block<'a> {
        allocator: &'a Tested,
        at: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl<'a> Block<'a> {
        fn new(allocator: &'a Tested, bytes: usize, align: usize, byte: u8) -> Option<Self> {
            let layout = Layout::from_size_align(bytes, align).unwrap();
            // SAFETY: the layout has a size.
            let at = unsafe { allocator.alloc(layout) };
            assert_eq!(at.addr() % align, 0);
            if at.is_null() {
                return None;
            }
            let mut block = Self { allocator, at, layout, byte };
            block.bytes().fill(byte);
            Some(block)
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the block is valid, of this size, and only reached through this value.
            unsafe { slice::from_raw_parts_mut(self.at, self.layout.size()) }
        }

        fn check(&mut self) {
            let byte = self.byte;
            assert!(self.bytes().iter().all(|found| *found == byte));
        }

        /// Returns whether there was room; if not, the block is as before.
        fn resize(&mut self, bytes: usize) -> bool {
            self.check();
            // SAFETY: the block is valid with this layout, and `bytes` is small and not zero.
            let moved = unsafe { self.allocator.realloc(self.at, self.layout, bytes) };
            if moved.is_null() {
                self.check();
                return false;
            }
            let kept = self.layout.size().min(bytes);
            self.at = moved;
            self.layout = Layout::from_size_align(bytes, self.layout.align()).unwrap();
            let byte = self.byte;
            assert!(self.bytes()[..kept].iter().all(|found| *found == byte));
            self.bytes().fill(byte);
            true
        }

        fn is_of_the_region(&self) -> bool {
            self.allocator.region.contains(self.at)
        }
    }

    impl Drop for Block<'_> {
        fn drop(&mut self) {
            self.check();
            // SAFETY: the block is valid with this layout and not used any more.
            unsafe { self.allocator.dealloc(self.at, self.layout) };
        }
    }

    #[test]
    fn without_a_region_the_system_is_asked_and_counted() {
        let allocator = new();
        let mut block = Block::new(&allocator, 100, 8, 1).unwrap();
        assert_eq!(allocator.system_calls(), 1);
        assert!(block.resize(1_000));
        assert_eq!(allocator.system_calls(), 2);
        drop(block);
        assert_eq!((allocator.system_calls(), allocator.region_free_bytes()), (2, 0));
        assert!(allocator.has_room(1_000) && !allocator.is_low() && !allocator.is_sealed());
    }

    #[test]
    fn after_sealing_nothing_is_asked_of_the_system() {
        let allocator = new();
        let mut grown = Block::new(&allocator, 100, 8, 1).unwrap();
        let mut shrunk = Block::new(&allocator, 100, 8, 2).unwrap();
        let kept = Block::new(&allocator, 100, 8, 3).unwrap();
        allocator.seal(REGION_BYTES).unwrap();
        let calls = allocator.system_calls();
        refuse(&allocator, 0);
        let block = Block::new(&allocator, 100, 8, 4).unwrap();
        assert!(block.is_of_the_region() && !kept.is_of_the_region());
        assert!(grown.resize(200) && shrunk.resize(50));
        assert!(grown.is_of_the_region() && shrunk.is_of_the_region());
        assert!(grown.resize(20_000) && grown.resize(10));
        assert_eq!(allocator.system_calls(), calls);
        assert!(allocator.is_sealed() && !allocator.is_low());
    }

    #[test]
    fn a_region_is_opened_once_and_has_a_sensible_size() {
        let allocator = new();
        assert_eq!(allocator.seal(100), Err(Errno::EINVAL));
        assert_eq!(allocator.seal(usize::MAX / 4), Err(Errno(libc::ENOMEM)));
        assert_eq!(allocator.keep_reserve(usize::MAX - 1), Err(Errno(libc::ENOMEM)));
        assert_eq!(allocator.seal(REGION_BYTES), Ok(()));
        assert_eq!(allocator.seal(REGION_BYTES), Err(Errno(libc::EBUSY)));
        assert_eq!(allocator.keep_reserve(REGION_BYTES), Err(Errno(libc::EBUSY)));
        assert_eq!(allocator.region_free_bytes(), REGION_BYTES);
    }

    #[test]
    fn a_region_can_be_filled_and_emptied_any_number_of_times() {
        let allocator = sealed();
        for round in 0..3 {
            assert!(allocator.has_room(REGION_BYTES * 9 / 10));
            let mut blocks = Vec::new();
            while let Some(block) = Block::new(&allocator, 1_000, 8, round) {
                blocks.push(block);
            }
            // 16 bytes of administration, rounded up to 32.
            assert!(blocks.len() > REGION_BYTES / 1_060, "{}", blocks.len());
            assert!(!allocator.has_room(1_000) && allocator.has_room(0));
            assert!(!blocks[0].resize(100_000));
            assert!(blocks[1].resize(10));
            drop(blocks);
            assert_eq!(allocator.region_free_bytes(), REGION_BYTES);
        }
        assert!(!allocator.has_room(usize::MAX) && !allocator.has_room(REGION_BYTES));
    }

    #[test]
    fn zeroed_memory_is_zero_wherever_it_comes_from() {
        for allocator in [new(), sealed()] {
            for _ in 0..10 {
                drop(Block::new(&allocator, 5_000, 8, 255));
                let layout = Layout::from_size_align(5_000, 8).unwrap();
                // SAFETY: the layout has a size.
                let at = unsafe { allocator.alloc_zeroed(layout) };
                drop(Block { allocator: &allocator, at, layout, byte: 0 });
            }
        }
    }

    #[test]
    fn blocks_are_aligned_as_asked_for() {
        let allocator = sealed();
        let mut blocks = Vec::new();
        for power in 0..=12 {
            for bytes in [1, 31, 33, 500] {
                blocks.push(Block::new(&allocator, bytes, 1 << power, power).unwrap());
            }
        }
        for block in &mut blocks {
            let bytes = block.layout.size() * 3;
            assert!(block.resize(bytes));
            assert_eq!(block.at.addr() % block.layout.align(), 0);
        }
        drop(blocks);
        assert_eq!(allocator.region_free_bytes(), REGION_BYTES);
    }

    /// Numbers that look random and are the same each time (Steele and Vigna, xorshift64).
    fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
        let mut state = seed;
        move |end| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % end as u64) as usize
        }
    }

    /// Takes, changes and gives back blocks of all sizes, up to a share of the region.
    fn churn(allocator: &Tested, seed: u64, share: usize, rounds: usize) {
        const ADMINISTRATION_BYTES: usize = 64;
        let mut next = numbers(seed);
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut total = 0;
        for round in 0..rounds {
            let power = 1 + next(12);
            let bytes = 1 + next(1 << power);
            if total + bytes + ADMINISTRATION_BYTES < share && next(3) > 0 {
                let block = Block::new(allocator, bytes, 1 << next(5), round as u8);
                blocks.push(block.expect("a third of the region is free"));
                total += bytes + ADMINISTRATION_BYTES;
            } else if !blocks.is_empty() {
                let mut block = blocks.swap_remove(next(blocks.len()));
                total -= block.layout.size();
                let bytes = 1 + next(2 * block.layout.size());
                if total + bytes < share && next(2) > 0 {
                    assert!(block.resize(bytes));
                    total += bytes;
                    blocks.push(block);
                } else {
                    total -= ADMINISTRATION_BYTES;
                }
            }
        }
    }

    #[test]
    fn long_use_does_not_break_a_region_into_pieces() {
        let allocator = sealed();
        churn(&allocator, 42, REGION_BYTES * 2 / 3, 60_000);
        assert_eq!(allocator.region_free_bytes(), REGION_BYTES);
        assert!(allocator.has_room(REGION_BYTES * 9 / 10));
        assert_eq!(allocator.system_calls(), 0);
    }

    #[test]
    fn threads_share_a_region() {
        let allocator = sealed();
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let allocator = &allocator;
                scope.spawn(move || churn(allocator, seed, REGION_BYTES / 6, 10_000));
            }
        });
        assert_eq!(allocator.region_free_bytes(), REGION_BYTES);
        assert!(allocator.has_room(REGION_BYTES * 9 / 10));
    }

    fn with_reserve() -> Tested {
        let allocator = new();
        allocator.keep_reserve(RESERVE_BYTES).unwrap();
        allocator
    }

    #[test]
    fn what_the_system_refuses_comes_from_the_reserve() {
        let allocator = with_reserve();
        let mut before = Block::new(&allocator, 100, 8, 1).unwrap();
        assert!(!before.is_of_the_region() && allocator.has_room(1_000));
        refuse(&allocator, 0);
        let mut during = Block::new(&allocator, 100, 8, 2).unwrap();
        assert!(before.resize(300) && during.resize(300));
        assert!(before.is_of_the_region() && during.is_of_the_region());
        assert!(allocator.is_low() && !allocator.has_room(1));
        // More than the reserve has is refused, and is no reason to wait for that much.
        assert!(Block::new(&allocator, RESERVE_BYTES * 2, 8, 3).is_none());
        refuse(&allocator, RESERVE_BYTES);
        assert!(allocator.is_low());
        refuse(&allocator, RESERVE_BYTES + 1);
        assert!(!allocator.is_low() && allocator.has_room(1_000));
        // What grows leaves the reserve, what does not may stay.
        assert!(before.resize(400) && during.resize(200));
        assert!(!before.is_of_the_region() && during.is_of_the_region());
        drop((before, during));
        assert_eq!(allocator.region_free_bytes(), RESERVE_BYTES);
    }

    #[test]
    fn asking_for_room_finds_out_that_there_is_none() {
        let allocator = with_reserve();
        refuse(&allocator, 10_000);
        assert!(allocator.has_room(9_999) && !allocator.is_low());
        assert!(!allocator.has_room(10_000));
        // Until there is a good piece, not only for what was asked.
        assert!(allocator.is_low() && !allocator.has_room(1));
        refuse(&allocator, usize::MAX);
        assert!(allocator.has_room(10_000));
    }

    #[test]
    fn a_used_reserve_is_replaced_as_long_as_it_can_be() {
        let allocator = with_reserve();
        let mut held = Vec::new();
        for part in 1..=RESERVE_PARTS {
            refuse(&allocator, 0);
            while let Some(block) = Block::new(&allocator, 1_000, 8, 1) {
                held.push(block);
            }
            assert!(allocator.is_low() && allocator.region_free_bytes() < RESERVE_BYTES / 2);
            refuse(&allocator, usize::MAX);
            assert!(!allocator.is_low());
            let has_grown = allocator.region_free_bytes() >= RESERVE_BYTES;
            assert_eq!(has_grown, part < RESERVE_PARTS);
        }
        drop(held);
        assert_eq!(allocator.region_free_bytes(), RESERVE_PARTS * RESERVE_BYTES);
    }

    #[test]
    fn without_a_reserve_a_refusal_is_known_too() {
        let allocator = new();
        refuse(&allocator, 100);
        assert!(Block::new(&allocator, 100, 8, 1).is_none());
        assert!(allocator.is_low() && !allocator.has_room(1));
        refuse(&allocator, usize::MAX);
        assert!(!allocator.is_low());
    }
}
