//! Which signals act.

#[cfg(any(test, feature = "tokio"))]
use super::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Whether a signal acts.
///
/// ```
/// use keepd::signal::SignalHandling;
///
/// assert_eq!(SignalHandling::from(true), SignalHandling::Enabled);
/// assert!(!bool::from(SignalHandling::default()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalHandling {
    /// A handler is installed for it.
    Enabled,
    /// It keeps what it was set to before.
    #[default]
    Disabled,
}

impl From<bool> for SignalHandling {
    fn from(enabled: bool) -> Self {
        if enabled { Self::Enabled } else { Self::Disabled }
    }
}

impl From<SignalHandling> for bool {
    fn from(handling: SignalHandling) -> Self {
        handling == SignalHandling::Enabled
    }
}

/// Which signals act. TERM, INT and QUIT ask for a shutdown, HUP for a reload; the others are told
/// to whoever wants to know.
///
/// ```
/// use keepd::signal::{SignalConfig, SignalHandling};
///
/// let config = SignalConfig::new().with_sighup().without_sigint();
/// assert_eq!(config.hangup, SignalHandling::Enabled);
/// assert_eq!(config.interrupt, SignalHandling::Disabled);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalConfig {
    /// SIGTERM.
    pub term: SignalHandling,
    /// SIGINT.
    pub interrupt: SignalHandling,
    /// SIGQUIT.
    pub quit: SignalHandling,
    /// SIGHUP.
    pub hangup: SignalHandling,
    /// SIGUSR1.
    pub user1: SignalHandling,
    /// SIGUSR2.
    pub user2: SignalHandling,
    /// Other signals: number, and a name for the log.
    pub custom_handlers: Vec<(i32, String)>,
}

impl Default for SignalConfig {
    /// TERM, INT and QUIT.
    fn default() -> Self {
        Self {
            term: SignalHandling::Enabled,
            interrupt: SignalHandling::Enabled,
            quit: SignalHandling::Enabled,
            hangup: SignalHandling::Disabled,
            user1: SignalHandling::Disabled,
            user2: SignalHandling::Disabled,
            custom_handlers: Vec::new(),
        }
    }
}

impl SignalConfig {
    /// Returns the default: TERM, INT and QUIT.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what a daemon uses unless it is told otherwise: all that have a meaning.
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn all() -> Self {
        Self::new().with_sighup().with_sigusr1().with_sigusr2()
    }

    /// Enables SIGHUP.
    #[must_use]
    pub const fn with_sighup(mut self) -> Self {
        self.hangup = SignalHandling::Enabled;
        self
    }

    /// Enables SIGUSR1.
    #[must_use]
    pub const fn with_sigusr1(mut self) -> Self {
        self.user1 = SignalHandling::Enabled;
        self
    }

    /// Enables SIGUSR2.
    #[must_use]
    pub const fn with_sigusr2(mut self) -> Self {
        self.user2 = SignalHandling::Enabled;
        self
    }

    /// Enables another signal, with a name for the log.
    #[must_use]
    pub fn with_custom_handler<S: Into<String>>(mut self, signal: i32, description: S) -> Self {
        self.custom_handlers.push((signal, description.into()));
        self
    }

    /// Disables SIGINT.
    #[must_use]
    pub const fn without_sigint(mut self) -> Self {
        self.interrupt = SignalHandling::Disabled;
        self
    }

    /// Disables SIGTERM.
    #[must_use]
    pub const fn without_sigterm(mut self) -> Self {
        self.term = SignalHandling::Disabled;
        self
    }

    /// Disables SIGQUIT.
    #[must_use]
    pub const fn without_sigquit(mut self) -> Self {
        self.quit = SignalHandling::Disabled;
        self
    }

    /// Returns what to call a signal in the log: the program's word for it, where it has one.
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn describe(&self, signal: i32) -> String {
        let is_named = |handler: &&(i32, String)| handler.0 == signal && !handler.1.is_empty();
        match (signal, self.custom_handlers.iter().find(is_named)) {
            (_, Some((_, name))) => name.clone(),
            (SIGUSR1, None) => "SIGUSR1".to_owned(),
            (SIGUSR2, None) => "SIGUSR2".to_owned(),
            (_, None) => signal_description(signal).to_owned(),
        }
    }

    /// Returns the numbers of the enabled signals, each once.
    #[cfg(any(test, feature = "tokio"))]
    pub(crate) fn enabled(&self) -> Vec<i32> {
        let named = [
            (SIGTERM, self.term),
            (SIGINT, self.interrupt),
            (SIGQUIT, self.quit),
            (SIGHUP, self.hangup),
            (SIGUSR1, self.user1),
            (SIGUSR2, self.user2),
        ];
        let named = named.into_iter().filter(|(_, handling)| (*handling).into());
        let custom = self.custom_handlers.iter().map(|(signal, _)| *signal);
        let mut numbers: Vec<i32> = named.map(|(signal, _)| signal).chain(custom).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// Returns the name of a signal, with a phrase.
///
/// ```
/// assert_eq!(keepd::signal::signal_description(15), "SIGTERM (termination request)");
/// assert_eq!(keepd::signal::signal_description(64), "Unknown signal");
/// ```
pub const fn signal_description(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP (hangup)",
        2 => "SIGINT (interrupt)",
        3 => "SIGQUIT (quit)",
        6 => "SIGABRT (abort)",
        9 => "SIGKILL (kill)",
        15 => "SIGTERM (termination request)",
        _ => "Unknown signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_names_its_signals() {
        let config = SignalConfig::new().with_custom_handler(28, "the window has changed");
        assert_eq!(config.describe(28), "the window has changed");
        assert_eq!(config.describe(SIGTERM), "SIGTERM (termination request)");
        assert_eq!(config.describe(SIGUSR2), "SIGUSR2");
        assert_eq!(config.describe(63), "Unknown signal");
    }

    #[test]
    fn every_enabled_signal_and_only_those() {
        assert_eq!(SignalConfig::default().enabled(), [SIGINT, SIGQUIT, SIGTERM]);
        let none = SignalConfig::new().without_sigint().without_sigquit().without_sigterm();
        assert!(none.enabled().is_empty());
        let config = none.with_sighup().with_custom_handler(SIGHUP, "twice");
        assert_eq!(config.enabled(), [SIGHUP]);
        assert_eq!(SignalConfig::all().enabled().len(), 6);
    }
}
