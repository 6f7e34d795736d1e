//! Waiting with deadlines. Nothing here sleeps for a time that somebody guessed.

use std::time::{Duration, Instant};

use keepd_os::clock;
use keepd_os::epoll::Epoll;

/// How long a test waits for what should take a moment: the machine may be busy, but it is not
/// lost.
pub const LONG: Duration = Duration::from_secs(30);

/// The first and the longest pause between two looks of [`wait_until`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// A point in time after which waiting is a failure.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline that is `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// Returns how long there still is, and `None` once it is over.
    pub fn remaining(self) -> Option<Duration> {
        let remaining = self.0.saturating_duration_since(Instant::now());
        (!remaining.is_zero()).then_some(remaining)
    }
}

/// Returns the whole seconds of CLOCK_MONOTONIC, cut off and not rounded.
pub fn monotonic_seconds() -> u64 {
    clock::monotonic_now().as_nanos() / 1_000_000_000
}

/// Looks again and again until `condition` has an answer, and returns it.
///
/// This is the one place that polls. It is for facts that no descriptor announces to a stranger (a
/// line in a file, a path that is gone, a process of somebody else's in `/proc`); for everything
/// else there are pidfds, pipes and the event stream of the API. Between two looks it waits in
/// epoll_wait(2) on an empty set, first for 1 ms, then longer, up to 20 ms.
///
/// # Panics
/// After `limit`, naming `what` it waited for.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(limit);
    let nothing = Epoll::new().expect("an epoll set can be made");
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        let Some(remaining) = deadline.remaining() else {
            panic!("waited {limit:?} in vain for {what}");
        };
        nothing
            .wait(Some(pause.min(remaining)), &mut Vec::new())
            .expect("an empty set can be waited for");
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_from_the_condition() {
        let mut looks = 0;
        let found = wait_until("three looks", LONG, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for godot")]
    fn a_wait_in_vain_names_what_was_waited_for() {
        wait_until("godot", Duration::from_millis(5), || None::<()>);
    }
}
