//! After the end of the command: TERM for what it left, and KILL when the grace is over.

use std::time::Duration;

use keepd_model::{Instant, Signal};
use keepd_os::sweep::{self, Found, Kin};
use keepd_os::{clock, sigwait};

use super::options::Options;
use super::say::say;
use super::watch::{next_arrival, visit_children};

/// How long what got KILL may take to be gone. What a broken disk or a debugger holds may outlive
/// it, and we do not wait for it.
const KILLED_LIMIT: Duration = Duration::from_secs(2);
/// From one KILL to the next, for who was forked during the one before.
const KILL_AGAIN: Duration = Duration::from_millis(50);

/// How long a new process may take to execute its program.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Who was stopped must go on to hear the first one.
const ASK: [Signal; 2] = [Signal::TERM, Signal::CONT];

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

/// What is done about those whom the command left.
pub(super) struct Farewell<'a> {
    family: Family,
    options: &'a Options,
    /// Children who were asked to end.
    asked: Found,
    /// Children who need not be asked again.
    asked_again: Found,
    /// When new ones are asked again.
    again_at: Option<Instant>,
}

/// What becomes of signals and of new orphans while we wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Signals are handed on, and who is orphaned is asked to end, too.
    Polite,
    /// Nobody listens any more.
    Final,
}

impl<'a> Farewell<'a> {
    pub(super) fn new(family: Family, options: &'a Options) -> Self {
        let (asked, asked_again) = (Found::default(), Found::default());
        Self { family, options, asked, asked_again, again_at: None }
    }

    /// Ends what is left and waits until it is gone, as long as it may take.
    pub(super) fn say(mut self) {
        let now = clock::monotonic_now();
        if self.family == Family::Command || self.wait_until(now, Manner::Final) {
            return;
        }
        if !self.options.grace.is_zero() {
            self.ask();
            if self.wait_until(now.saturating_add(self.options.grace), Manner::Polite) {
                return;
            }
        }
        let limit = clock::monotonic_now().saturating_add(KILLED_LIMIT);
        while clock::monotonic_now() < limit {
            self.signal(&[Signal::KILL]);
            let next = clock::monotonic_now().saturating_add(KILL_AGAIN);
            if self.wait_until(next, Manner::Final) {
                return;
            }
        }
        say("warning: some processes outlive KILL, and are left behind");
    }

    /// Reaps until nobody is left, and returns `true`; or until `deadline`.
    fn wait_until(&mut self, deadline: Instant, manner: Manner) -> bool {
        let mut orphaned = false;
        loop {
            let visit = visit_children(self.options, |_| None);
            if visit.childless {
                return true;
            }
            orphaned |= visit.reaped;
            if orphaned && !visit.more && manner == Manner::Polite {
                orphaned = false;
                self.ask_adopted();
            }
            let now = clock::monotonic_now();
            // Also if there is more to reap: who forks without end would hold us for ever.
            if deadline <= now {
                return false;
            }
            if self.again_at.is_some_and(|again_at| again_at <= now) {
                self.ask_adopted_again();
            }
            let next = self.again_at.map_or(deadline, |again_at| again_at.min(deadline));
            let timeout = if visit.more { Duration::ZERO } else { next.saturating_since(now) };
            if let Some(arrival) = next_arrival(Some(timeout))
                && manner == Manner::Polite
                && arrival.signal != Signal::CHLD
                && let Some(signal) = self.options.rewritten(arrival.signal)
            {
                self.signal(&[signal]);
            }
        }
    }

    /// Asks everybody to end.
    fn ask(&mut self) {
        // Who comes to us later is none of these.
        let _ = sweep::signal_family(Kin::Children, &[], &mut self.asked);
        self.asked_again = self.asked.clone();
        self.signal(&ASK);
    }

    /// Asks those who have come to us since. They may not have heard it before: they were forked
    /// at that very moment. What a living parent starts in order to end well is left in peace.
    fn ask_adopted(&mut self) {
        // Without /proc there is the KILL at the end of the grace.
        let _ = sweep::signal_family(Kin::Children, &ASK, &mut self.asked);
        self.again_at = Some(clock::monotonic_now().saturating_add(ASK_AGAIN));
    }

    /// Asks them once more: who was forked and has not executed its program yet handles a signal
    /// as its parent would, and the program never hears of it.
    fn ask_adopted_again(&mut self) {
        let _ = sweep::signal_family(Kin::Children, &ASK, &mut self.asked_again);
        self.again_at = None;
    }

    /// Signals everybody.
    fn signal(&self, signals: &[Signal]) {
        match self.family {
            Family::Namespace => {
                for signal in signals {
                    // It fails if nobody is there any more, or nobody whom we may signal.
                    let _ = sigwait::send_everybody(*signal);
                }
            }
            Family::Descendants => {
                let everybody = &mut Found::default();
                if let Err(error) = sweep::signal_family(Kin::Descendants, signals, everybody) {
                    say(format_args!("warning: cannot find what the command left: {error}"));
                }
            }
            Family::Command => {}
        }
    }
}
