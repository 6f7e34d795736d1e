//! A sampling profiler of the whole process.

use std::fmt;
use std::path::Path;

use pprof::protos::Message;

use crate::error::{Error, ErrorCode, Result, io_code};

/// How often a thread that runs is looked at, in samples a second.
const SAMPLES_PER_SECOND: i32 = 100;

/// Samples every thread that runs, 100 times a second, until it is stopped.
///
/// The file is for `go tool pprof`. Build the program with `-C force-frame-pointers=yes`, or the
/// stacks are short: looking for callers without frame pointers is not safe in a signal handler.
///
/// ```
/// use keepd::profiling::CpuProfiler;
///
/// # fn main() -> keepd::Result<()> {
/// let path = std::env::temp_dir().join(format!("keepd-doc-{}.pb", std::process::id()));
/// let profiler = CpuProfiler::start()?;
/// let sum: u64 = (0..1_000_000u64).sum();
/// profiler.stop_to_file(&path)?;
/// assert!(sum > 0 && path.exists());
/// # std::fs::remove_file(&path)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a profiler that is dropped at once has seen nothing"]
pub struct CpuProfiler {
    guard: pprof::ProfilerGuard<'static>,
}

impl fmt::Debug for CpuProfiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuProfiler").finish_non_exhaustive()
    }
}

impl CpuProfiler {
    /// Starts to sample.
    ///
    /// # Errors
    ///
    /// A platform error if the timer or the signal handler (SIGPROF) cannot be set up, and if
    /// another profiler of the process runs.
    pub fn start() -> Result<Self> {
        // The loader's code and the C library have no frame pointers.
        let builder = pprof::ProfilerGuardBuilder::default()
            .frequency(SAMPLES_PER_SECOND)
            .blocklist(&["libc", "libgcc", "pthread", "vdso"]);
        match builder.build() {
            Ok(guard) => Ok(Self { guard }),
            Err(error) => Err(failed("start", &error)),
        }
    }

    /// Stops, and writes what was seen.
    ///
    /// # Errors
    ///
    /// A platform error if the samples cannot be put together, and an input or output error if the
    /// file cannot be written.
    pub fn stop_to_file<P: AsRef<Path>>(self, path: P) -> Result<()> {
        let path = path.as_ref();
        let report = self.guard.report().build().map_err(|error| failed("read", &error))?;
        let profile = report.pprof().map_err(|error| failed("encode", &error))?;
        std::fs::write(path, profile.encode_to_vec()).map_err(|error| {
            let message = format!("cannot write the profile {path:?}: {error}");
            Error::Io { code: io_code(&error), message, source: Some(Box::new(error)) }
        })
    }
}

fn failed(verb: &str, error: &pprof::Error) -> Error {
    let code = ErrorCode::PlatformFeatureNotAvailable;
    let text = format!("cannot {verb} the profile: {error}");
    Error::platform_with_code(code, text, std::env::consts::OS)
}
