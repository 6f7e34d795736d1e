//! A real fault or a panic of the warden: the same process goes on as a new warden, with the same
//! estate and the same proxy.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use keepd_model::{Errno, Instant};
use keepd_os::clock;
use keepd_os::exec::{Program, own_program};
use keepd_os::fatal::{self, Rescue};
use keepd_os::process::{self, DescriptorLimit};

use super::holdings::Holdings;
use super::setup::Setup;
use crate::exit::{self, fatal_text};

/// The number of the channel to the proxy that lives.
const CHANNEL: &str = "KEEPD_WARDEN_CHANNEL";
/// Why this process is here; set by whatever ended its predecessor.
const FAULT: &str = "KEEPD_WARDEN_FAULT";
/// So many faults within [`FAULTS_TIME`] are the end of this process.
const FAULTS_MAX: usize = 3;
const FAULTS_TIME: Duration = Duration::from_secs(10);

/// What a warden that had a fault left in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What it was.
    pub(super) what: String,
    /// The channel to the proxy, by its number.
    pub(super) channel: Option<RawFd>,
}

impl Fault {
    /// Reads the environment of this process. `None`: it began otherwise.
    pub(super) fn take() -> Option<Self> {
        let what = std::env::var_os(FAULT)?.to_string_lossy().into_owned();
        let channel = std::env::var(CHANNEL).ok().and_then(|number| number.parse().ok());
        Some(Self { what, channel })
    }
}

/// Prepares what this process becomes after a fault, so that nothing has to be prepared any more.
///
/// # Errors
///
/// It cannot be prepared; then a fault is the end of this process.
pub(super) fn prepare(
    setup: &Setup,
    holdings: &Holdings,
    channel: Option<RawFd>,
    descriptor_limit: Option<DescriptorLimit>,
) -> Result<(), Errno> {
    fatal::set_rescue(None);
    if are_too_many(holdings.estate().faults.iter(), clock::monotonic_now()) {
        let rescue = setup.rescue.as_deref().filter(|_| process::id().get() == 1);
        return match rescue {
            // Nobody takes the place of process 1.
            Some(arguments) => {
                let environment = exit::environment_of_rescue();
                set(None, arguments, &environment, exit::REASON, descriptor_limit)
            }
            // The proxy does of others.
            None => Ok(()),
        };
    }
    let mut environment = environment();
    if let Some(channel) = channel {
        environment.push(format!("{CHANNEL}={channel}").into_bytes());
    }
    let arguments = successor_arguments(&setup.successor, holdings.memory().as_raw_fd());
    set(Some(own_program()?), &arguments, &environment, FAULT, descriptor_limit)
}

/// Reports whether one more is not answered by going on.
fn are_too_many<'a>(faults: impl Iterator<Item = &'a Instant>, now: Instant) -> bool {
    let recent = faults.filter(|at| now.saturating_since(**at) < FAULTS_TIME).count();
    // The one that is to come counts.
    recent + 1 >= FAULTS_MAX
}

fn set(
    file: Option<BorrowedFd<'static>>,
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
    variable: &str,
    descriptor_limit: Option<DescriptorLimit>,
) -> Result<(), Errno> {
    let environment: Vec<Cow<'_, [u8]>> =
        environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
    let program = Program { file, arguments, environment: &environment, descriptor_limit };
    fatal::set_rescue(Some(Rescue::new(&program, variable, fatal_text)?));
    Ok(())
}

/// Returns program and arguments of a warden that goes on with this estate.
fn successor_arguments(successor: &[Vec<u8>], estate: RawFd) -> Vec<Vec<u8>> {
    let name = std::env::args_os().next().unwrap_or_else(|| OsString::from("keepd"));
    let mut arguments = vec![name.into_vec()];
    arguments.extend_from_slice(successor);
    arguments.extend([b"--estate".to_vec(), estate.to_string().into_bytes()]);
    arguments
}

/// Returns the environment of this process as others get it: without what is ours.
pub(super) fn environment() -> Vec<Vec<u8>> {
    let others = std::env::vars_os().filter(|(key, _)| key != CHANNEL && key != FAULT);
    others.map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_fault_within_ten_seconds_is_the_end() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        assert!(!are_too_many([].iter(), at(5)));
        assert!(!are_too_many([at(1)].iter(), at(5)));
        assert!(are_too_many([at(1), at(2)].iter(), at(5)));
        assert!(!are_too_many([at(1), at(2)].iter(), at(11)));
    }
}
