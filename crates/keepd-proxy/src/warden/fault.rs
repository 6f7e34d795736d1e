//! A real fault or a panic of the warden: the same process goes on as a new warden, with the same
//! estate and the same proxy.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use keepd_model::{Errno, Instant};
use keepd_os::exec::{Program, own_program};
use keepd_os::fatal::{self, Rescue};
use keepd_os::process::DescriptorLimit;

use crate::exit::fatal_text;

/// The channel to the proxy that lives, and when there were faults.
const STATE: &str = "KEEPD_WARDEN_STATE";
/// Why this process is here; set by whatever ended its predecessor.
const FAULT: &str = "KEEPD_WARDEN_FAULT";
/// So many faults within [`FAULTS_TIME`] are the end of this process.
const FAULTS_MAX: usize = 3;
const FAULTS_TIME: Duration = Duration::from_secs(10);

/// What a warden that had a fault left in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// When there were some, oldest first.
    times: Vec<Instant>,
    /// The channel to the proxy, by its number.
    pub(super) channel: Option<RawFd>,
    /// What the last one was. `None`: this process began otherwise.
    pub(super) last: Option<String>,
}

impl Faults {
    /// Reads the environment of this process.
    pub(super) fn take(now: Instant) -> Self {
        let text = |key| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned());
        Self::parse(now, text(STATE).unwrap_or_default().as_str(), text(FAULT))
    }

    fn parse(now: Instant, state: &str, last: Option<String>) -> Self {
        let Some(last) = last else {
            return Self::default();
        };
        let mut words = state.split(' ');
        let channel = words.next().and_then(|word| word.parse().ok());
        let times = words.filter_map(|word| word.parse().ok()).map(Instant::from_nanos);
        let recent = |at: &Instant| now.saturating_since(*at) < FAULTS_TIME;
        let times = times.filter(recent).take(FAULTS_MAX).chain([now]).collect();
        Self { times, channel, last: Some(last) }
    }

    /// Reports whether one more is not answered by going on.
    fn are_too_many(&self) -> bool {
        // The one that is to come counts.
        self.times.len() + 1 >= FAULTS_MAX
    }

    /// Returns what stands in the environment of a successor.
    fn state(&self, channel: Option<RawFd>) -> String {
        let channel = channel.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let times = self.times.iter().map(|at| at.as_nanos().to_string());
        [channel].into_iter().chain(times).collect::<Vec<_>>().join(" ")
    }

    /// Prepares what this process becomes, so that nothing has to be prepared any more.
    ///
    /// # Errors
    ///
    /// It cannot be prepared; then a fault is the end of this process.
    pub(super) fn prepare(
        &self,
        successor: &[Vec<u8>],
        estate: RawFd,
        channel: Option<RawFd>,
        descriptor_limit: Option<DescriptorLimit>,
    ) -> Result<(), Errno> {
        if self.are_too_many() {
            fatal::set_rescue(None);
            return Ok(());
        }
        let mut environment = environment();
        environment.push([STATE.as_bytes(), b"=", self.state(channel).as_bytes()].concat());
        let environment: Vec<Cow<'_, [u8]>> =
            environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
        let arguments = successor_arguments(successor, estate);
        let program = Program {
            file: Some(own_program()?),
            arguments: &arguments,
            environment: &environment,
            descriptor_limit,
        };
        fatal::set_rescue(Some(Rescue::new(&program, FAULT, fatal_text)?));
        Ok(())
    }
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
    let others = std::env::vars_os().filter(|(key, _)| key != STATE && key != FAULT);
    others.map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn faults_are_counted_from_one_process_to_the_next() {
        let none = Faults::parse(at(1), "7 1 2 3", None);
        assert_eq!(none, Faults::default());
        assert!(!none.are_too_many());
        let first = Faults::parse(at(100), "- ", Some("caught".to_owned()));
        assert_eq!(first.channel, None);
        assert!(!first.are_too_many());
        let second = Faults::parse(at(105), &first.state(Some(9)), Some("again".to_owned()));
        assert_eq!((second.channel, second.times.as_slice()), (Some(9), &[at(100), at(105)][..]));
        assert!(second.are_too_many());
        let later = Faults::parse(at(120), &second.state(None), Some("later".to_owned()));
        assert_eq!(later.times, [at(120)]);
        assert!(!later.are_too_many());
    }
}
