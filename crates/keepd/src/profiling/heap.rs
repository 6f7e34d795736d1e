//! Where the memory goes.

#[cfg(feature = "heap-profiling")]
pub use with_dhat::HeapProfiler;

/// Says that this build has no profiler of the heap.
///
/// # Errors
///
/// Always a platform error, [`ErrorCode::PlatformFeatureNotAvailable`].
///
/// [`ErrorCode::PlatformFeatureNotAvailable`]: crate::ErrorCode::PlatformFeatureNotAvailable
///
/// ```
/// let error = keepd::profiling::heap::start().unwrap_err();
/// assert_eq!(error.code(), keepd::ErrorCode::PlatformFeatureNotAvailable);
/// ```
#[cfg(not(feature = "heap-profiling"))]
pub fn start() -> crate::Result<()> {
    let code = crate::ErrorCode::PlatformFeatureNotAvailable;
    let text = "cannot profile the heap: it needs the feature \"heap-profiling\" of keepd";
    Err(crate::Error::platform_with_code(code, text, std::env::consts::OS))
}

#[cfg(feature = "heap-profiling")]
mod with_dhat {
    use std::fmt;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::error::{Error, ErrorCode, Result};

    /// dhat has one profiler a process, and panics at a second one.
    static IS_RUNNING: AtomicBool = AtomicBool::new(false);

    /// Where the profile goes if nothing is said; dhat's own name for it.
    const FILE: &str = "dhat-heap.json";

    /// Follows every allocation until it is stopped or dropped, and then writes a file for dhat's
    /// viewer. The program must install the allocator that counts:
    /// [`heap_profiling_allocator!`](crate::heap_profiling_allocator).
    pub struct HeapProfiler {
        /// None only while it is dropped.
        profiler: Option<dhat::Profiler>,
    }

    impl fmt::Debug for HeapProfiler {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("HeapProfiler").finish_non_exhaustive()
        }
    }

    impl HeapProfiler {
        /// Starts to follow allocations. The file is `dhat-heap.json` if none is given.
        ///
        /// # Errors
        ///
        /// An invalid state if a heap profiler runs already, and a platform error if the program
        /// does not use the allocator that counts.
        #[expect(clippy::needless_pass_by_value, reason = "the signature is proc-daemon's")]
        pub fn start<P: AsRef<Path>>(path: Option<P>) -> Result<Self> {
            if IS_RUNNING.swap(true, Ordering::AcqRel) {
                let text = "cannot profile the heap: another heap profiler runs";
                return Err(Error::invalid_state(text));
            }
            let path = path.as_ref().map_or(Path::new(FILE), AsRef::as_ref);
            let profiler = Some(dhat::Profiler::builder().file_name(path).build());
            let started = Self { profiler };
            if counts() {
                return Ok(started);
            }
            let code = ErrorCode::PlatformFeatureNotAvailable;
            let text = "cannot profile the heap: the program does not count allocations; it needs \
                        the line keepd::heap_profiling_allocator!();";
            Err(Error::platform_with_code(code, text, std::env::consts::OS))
        }

        /// Stops, and writes the file.
        pub fn stop(self) {
            drop(self);
        }
    }

    impl Drop for HeapProfiler {
        fn drop(&mut self) {
            self.profiler = None;
            IS_RUNNING.store(false, Ordering::Release);
        }
    }

    /// Reports whether an allocation is counted.
    fn counts() -> bool {
        let before = dhat::HeapStats::get().total_blocks;
        drop(std::hint::black_box(Box::new(0u8)));
        dhat::HeapStats::get().total_blocks > before
    }
}
