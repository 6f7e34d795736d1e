//! How a command ends: the exit status that keepd itself uses, with the reason.

use std::fmt;
use std::process::ExitCode;

/// The answer of a command that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done, or clean: exit status 0.
    Yes,
    /// A check failed: exit status 1.
    No,
    /// The status of a program that this command only calls.
    Status(u8),
}

impl Verdict {
    /// Returns [`Verdict::Yes`] if `good`.
    pub(crate) fn from_good(good: bool) -> Self {
        if good { Self::Yes } else { Self::No }
    }

    /// Returns the status for the shell.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Yes => ExitCode::SUCCESS,
            Self::No => ExitCode::from(1),
            Self::Status(status) => ExitCode::from(status),
        }
    }
}

/// Why a command could not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The call is wrong: exit status 100.
    Usage(String),
    /// A file or a program could not be used: exit status 111.
    System(String),
}

impl Failure {
    /// Returns the status for the shell.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(100),
            Self::System(_) => ExitCode::from(111),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::System(text) => write!(formatter, "xtask: {text}"),
        }
    }
}

/// Refuses any argument.
pub(crate) fn no_arguments(command: &str, arguments: &[String]) -> Result<(), Failure> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => Err(Failure::Usage(format!(
            "cannot take argument \"{argument}\": `cargo xtask {command}` has none"
        ))),
    }
}

/// Takes at most one word that is not an option.
pub(crate) fn optional_word<'a>(
    command: &str,
    arguments: &'a [String],
) -> Result<Option<&'a str>, Failure> {
    match arguments {
        [] => Ok(None),
        [word] if !word.starts_with('-') => Ok(Some(word)),
        [word] | [_, word, ..] => Err(Failure::Usage(format!(
            "cannot take argument \"{word}\": `cargo xtask {command}` has one optional word"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_word() {
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(optional_word("test", &[]), Ok(None));
        assert_eq!(optional_word("test", &words("web")), Ok(Some("web")));
        assert!(optional_word("test", &words("--web")).is_err());
        assert!(optional_word("test", &words("web db")).is_err());
    }
}
