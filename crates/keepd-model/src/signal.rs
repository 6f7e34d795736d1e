//! Signals by number and by name, as on Linux for x86-64 and AArch64 (signal(7)).

use std::fmt;

/// A signal number, 1 to 64. 0 is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// The text is no signal: neither a known name nor a number from 1 to 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalError;

impl fmt::Display for SignalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "a signal is a name such as \"TERM\" or \"SIGTERM\", or a number from 1 to 64"
        )
    }
}

impl std::error::Error for SignalError {}

/// Names without `SIG`, at the index of the signal's number.
const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(1);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(2);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(3);
    /// The end that cannot be refused.
    pub const KILL: Self = Self(9);
    /// First signal for free use.
    pub const USR1: Self = Self(10);
    /// A pipe without a reader was written to.
    pub const PIPE: Self = Self(13);
    /// Second signal for free use.
    pub const USR2: Self = Self(12);
    /// The polite end.
    pub const TERM: Self = Self(15);
    /// A child ended or stopped.
    pub const CHLD: Self = Self(17);
    /// Continue if stopped.
    pub const CONT: Self = Self(18);
    /// The stop that cannot be refused.
    pub const STOP: Self = Self(19);
    /// Stop from the keyboard.
    pub const TSTP: Self = Self(20);
    /// A read from the terminal in the background.
    pub const TTIN: Self = Self(21);
    /// A write to the terminal in the background.
    pub const TTOU: Self = Self(22);

    /// Returns the signal with this number, 1 to 64.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number)) } else { None }
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Parses `TERM`, `SIGTERM` or a decimal number.
    pub fn parse(text: &str) -> Result<Self, SignalError> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some(number) = NAMES.iter().position(|known| !known.is_empty() && *known == name) {
            return u8::try_from(number).ok().and_then(Self::new).ok_or(SignalError);
        }
        text.parse::<u8>().ok().and_then(Self::new).ok_or(SignalError)
    }

    /// Returns the name without `SIG`, where there is one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(usize::from(self.0)).copied()
    }

    /// Returns the names that [`Signal::parse`] knows, without `SIG`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(|name| !name.is_empty())
    }
}

/// Writes `TERM`, or the number where there is no name.
impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.pad(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_itself() {
        for name in Signal::names() {
            let signal = Signal::parse(name).unwrap();
            assert_eq!(signal.name(), Some(name));
            assert_eq!(Signal::parse(&format!("SIG{name}")), Ok(signal));
            assert_eq!(Signal::parse(&signal.get().to_string()), Ok(signal));
        }
        assert_eq!(Signal::parse("TERM"), Ok(Signal::TERM));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for bad in ["", "0", "65", "term", "SIG", "SIGFOO", "-9", "9 "] {
            assert_eq!(Signal::parse(bad), Err(SignalError), "{bad:?}");
        }
    }
}
