//! After the end of the command: TERM for what it left, and KILL when the grace is over.

use std::time::Duration;

use keepd_model::{Instant, Signal};
use keepd_os::{clock, sigwait, sweep};

use super::options::Options;
use super::say::say;
use super::watch::visit_children;

/// How long what got KILL may take to be gone. What a broken disk or a debugger holds may outlive
/// it, and we do not wait for it.
const KILLED_LIMIT: Duration = Duration::from_secs(2);
/// From one KILL to the next, for who was forked during the one before.
const KILL_AGAIN: Duration = Duration::from_millis(50);

/// Who comes to us when its parent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// We are process 1: everybody of the PID namespace.
    Namespace,
    /// We are a subreaper: every descendant.
    Descendants,
    /// Only the command itself.
    Command,
}

impl Family {
    /// Ends what is left and waits until it is gone, as long as it may take.
    pub(super) fn say_farewell(self, options: &Options) {
        let now = clock::monotonic_now();
        if self == Self::Command || self.wait_until(options, now, false) {
            return;
        }
        if !options.grace.is_zero() {
            // Who was stopped must go on to hear the first one.
            self.signal(&[Signal::TERM, Signal::CONT]);
            if self.wait_until(options, now.saturating_add(options.grace), true) {
                return;
            }
        }
        let limit = clock::monotonic_now().saturating_add(KILLED_LIMIT);
        while clock::monotonic_now() < limit {
            self.signal(&[Signal::KILL]);
            let next = clock::monotonic_now().saturating_add(KILL_AGAIN);
            if self.wait_until(options, next, false) {
                return;
            }
        }
        say("warning: some processes outlive KILL, and are left behind");
    }

    /// Reaps until nobody is left, and returns `true`; or until `deadline`. Signals that come
    /// meanwhile go to everybody if `hand_on`, and are nobody's otherwise.
    fn wait_until(self, options: &Options, deadline: Instant, hand_on: bool) -> bool {
        loop {
            let visit = visit_children(options, |_| None);
            if visit.childless {
                return true;
            }
            let left = deadline.saturating_since(clock::monotonic_now());
            if left.is_zero() && !visit.more {
                return false;
            }
            let timeout = if visit.more { Duration::ZERO } else { left };
            if let Ok(Some(arrival)) = sigwait::wait(Some(timeout))
                && hand_on
                && arrival.signal != Signal::CHLD
                && let Some(signal) = options.rewritten(arrival.signal)
            {
                self.signal(&[signal]);
            }
        }
    }

    fn signal(self, signals: &[Signal]) {
        match self {
            Self::Namespace => {
                for signal in signals {
                    // It fails if nobody is there any more, or nobody whom we may signal.
                    let _ = sigwait::send_everybody(*signal);
                }
            }
            Self::Descendants => {
                if let Err(error) = sweep::signal_descendants(signals) {
                    say(format_args!("warning: cannot find what the command left: {error}"));
                }
            }
            Self::Command => {}
        }
    }
}
