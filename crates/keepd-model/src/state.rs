//! The words people see for what a service is doing, wants and why.

use std::fmt;

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the word that people, events, JSON and metrics use.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the value with this word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.word())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What a service is doing.
    State {
        /// Wanted down, no process.
        Stopped = "stopped",
        /// Wanted up; a dependency, condition or slot is missing.
        Waiting = "waiting",
        /// Wanted up; the next run has a time.
        Scheduled = "scheduled",
        /// A process exists (or is being made), not ready.
        Starting = "starting",
        /// Ready.
        Ready = "ready",
        /// Asked to end, not empty yet.
        Stopping = "stopping",
        /// Ended; the next start has a time.
        Backoff = "backoff",
        /// Ended with success and stays so.
        Done = "done",
        /// Ended and will not be started again without a command or a changed file.
        Failed = "failed",
        /// Did not end after KILL.
        Stuck = "stuck",
        /// Lost by a double fault; see `keepd why`.
        Unknown = "unknown",
    }
}

words! {
    /// What is wanted of a service.
    Wanted {
        /// It shall run (a oneshot: shall have run).
        Up = "up",
        /// It shall not run.
        Down = "down",
    }
}

words! {
    /// Whether a service that is ready still answers its checks.
    Health {
        /// There is no check.
        None = "-",
        /// A check exists and has not answered yet.
        Pending = "pending",
        /// It answers.
        Healthy = "healthy",
        /// It failed often enough in a row.
        Unhealthy = "unhealthy",
    }
}

words! {
    /// Why a service is in its state. A closed list.
    Reason {
        /// Somebody asked for it.
        Operator = "operator",
        /// The configuration says so, or was refused.
        Config = "config",
        /// Another service made it so.
        Dependency = "dependency",
        /// Its schedule.
        Schedule = "schedule",
        /// The main process exited.
        Exit = "exit",
        /// A signal ended the main process.
        Signal = "signal",
        /// The out-of-memory killer.
        Oom = "oom",
        /// It did not become ready in time.
        ReadyTimeout = "ready-timeout",
        /// Its health check failed.
        Health = "health",
        /// It did not feed its watchdog.
        Watchdog = "watchdog",
        /// It ran longer than allowed.
        MaxRuntime = "max-runtime",
        /// It could not be executed at all.
        ExecError = "exec-error",
        /// A hook failed.
        Hook = "hook",
        /// It was restarted too often.
        Limit = "limit",
        /// Everything is being shut down.
        Shutdown = "shutdown",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_word(state.word()), Some(*state));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.word()), Some(*reason));
        }
        assert_eq!(Health::from_word("-"), Some(Health::None));
        assert_eq!(Wanted::from_word("UP"), None);
    }
}
