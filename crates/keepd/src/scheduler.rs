//! Hints for the scheduler of the kernel. They never fail: what cannot be done is logged at debug
//! level.

use crate::config::Config;

/// How much more important the process becomes: the step of nice(2) that proc-daemon takes.
#[cfg(all(feature = "scheduler-hints-unix", unix))]
const NICE_STEP: i32 = -5;

/// Makes the process more important, which needs rights (`CAP_SYS_NICE`). Acts with the feature
/// `scheduler-hints-unix` only.
///
/// ```
/// keepd::scheduler::apply_process_hints(&keepd::Config::default());
/// ```
pub fn apply_process_hints(config: &Config) {
    let name = config.name.as_str();
    #[cfg(all(feature = "scheduler-hints-unix", unix))]
    match raise() {
        Ok(nice) => tracing::debug!(name, nice, "the process has become more important"),
        Err(error) => {
            tracing::debug!(name, %error, "the process cannot become more important");
        }
    }
    #[cfg(not(all(feature = "scheduler-hints-unix", unix)))]
    tracing::debug!(name, "scheduler hints are off: the feature \"scheduler-hints-unix\" is");
}

/// Does nothing: which processors the process may use is the operator's choice (taskset, cpusets,
/// `keepd.toml`), and is never widened.
///
/// ```
/// keepd::scheduler::apply_runtime_hints();
/// ```
pub fn apply_runtime_hints() {
    tracing::debug!("the processors are those that the process was given");
}

/// Returns the niceness after the change; setpriority(2).
#[cfg(all(feature = "scheduler-hints-unix", unix))]
fn raise() -> Result<i32, rustix::io::Errno> {
    let nice = rustix::process::getpriority_process(None)? + NICE_STEP;
    rustix::process::setpriority_process(None, nice)?;
    rustix::process::getpriority_process(None)
}
