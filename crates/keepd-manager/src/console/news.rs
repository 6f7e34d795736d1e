//! Which steps of a service are news for people who look on: one answer for the first `keepd up`,
//! and for whoever looks on later.

use keepd_model::{Reason, State};

/// Reports whether a step to this state, for this reason, has a line of its own.
///
/// Steps on the way are left out: what is waited for is told otherwise.
pub fn is_worth_a_line(to: State, reason: Reason) -> bool {
    match to {
        State::Ready
        | State::Backoff
        | State::Done
        | State::Failed
        | State::Stopped
        | State::Stuck
        | State::Unknown => true,
        // Who is asked to stop is on its way; who ended by itself, or follows what it lost, is
        // news.
        State::Stopping => match reason {
            Reason::Exit | Reason::Signal | Reason::Oom | Reason::Unknown | Reason::Dependency => {
                true
            }
            Reason::Operator
            | Reason::Config
            | Reason::Schedule
            | Reason::ReadyTimeout
            | Reason::Health
            | Reason::Watchdog
            | Reason::MaxRuntime
            | Reason::ExecError
            | Reason::Hook
            | Reason::Limit
            | Reason::Shutdown => false,
        },
        State::Waiting | State::Scheduled | State::Starting => false,
    }
}

/// Reports whether a service has no process any more when it gets to this state after a run: its
/// output is complete.
pub fn is_end_of_run(to: State) -> bool {
    match to {
        State::Stopped | State::Done | State::Failed | State::Backoff => true,
        State::Waiting
        | State::Scheduled
        | State::Starting
        | State::Ready
        | State::Stopping
        | State::Stuck
        | State::Unknown => false,
    }
}
