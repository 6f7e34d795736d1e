//! How bad a message of the proxy's own log is.

use std::fmt;

/// The level of a log message, and the filter, which suppresses its own level and all below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// As a filter: nothing is suppressed. No message has it.
    None,
    /// For whoever looks for a fault of keepd.
    Trace,
    /// As a filter the default.
    #[default]
    Debug,
    /// Something happened.
    Info,
    /// Something goes on in a weaker way.
    Warning,
    /// Something did not work.
    Error,
    /// The proxy ends, or would without its guard.
    Fatal,
}

impl LogLevel {
    /// Every level, from the lowest.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Trace, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Fatal];

    /// Returns the word of the level.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Returns the next higher level: as a filter, less is shown.
    #[must_use]
    pub fn up(self) -> Self {
        Self::ALL[(self as usize + 1).min(Self::ALL.len() - 1)]
    }

    /// Returns the next lower level: as a filter, more is shown.
    #[must_use]
    pub fn down(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stop_at_both_ends() {
        assert_eq!(LogLevel::Debug.up(), LogLevel::Info);
        assert_eq!(LogLevel::Debug.down().down().down(), LogLevel::None);
        assert_eq!(LogLevel::Error.up().up(), LogLevel::Fatal);
    }
}
