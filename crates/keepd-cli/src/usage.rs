//! What clap says about a wrong command line, in our words.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};

use crate::error::{CliError, ErrorKind};
use crate::later;

/// Returns the error for a command line that clap refuses.
pub(crate) fn error_of(refused: &clap::Error) -> CliError {
    match refused.kind() {
        ClapKind::InvalidSubcommand => unknown_verb(refused),
        ClapKind::UnknownArgument => unknown_option(refused),
        ClapKind::InvalidValue | ClapKind::ValueValidation | ClapKind::InvalidUtf8 => {
            bad_value(refused)
        }
        ClapKind::MissingRequiredArgument => missing_argument(refused),
        ClapKind::MissingSubcommand | ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            CliError::new(ErrorKind::Usage, "cannot tell what to do: no verb is given")
                .with_hint("keepd --help lists the verbs")
        }
        ClapKind::ArgumentConflict => conflict(refused),
        _ => CliError::new(ErrorKind::Usage, first_line(refused)).with_hint("see keepd --help"),
    }
}

fn unknown_verb(refused: &clap::Error) -> CliError {
    let word = context(refused, ContextKind::InvalidSubcommand).unwrap_or_default();
    let message = format!("cannot run \"{word}\"");
    if later::VERBS.contains(&word.as_str()) {
        return unsupported(&message);
    }
    // Clap's guesses are in the order of likeness, the best one last.
    let guesses = context(refused, ContextKind::SuggestedSubcommand);
    let hint = match guesses.as_deref().and_then(|guesses| guesses.split(", ").last()) {
        Some(nearest) => format!("the nearest verb is \"{nearest}\""),
        None => "keepd --help lists the verbs".to_owned(),
    };
    CliError::new(ErrorKind::Usage, format!("{message}: there is no such verb")).with_hint(hint)
}

fn unknown_option(refused: &clap::Error) -> CliError {
    let option = context(refused, ContextKind::InvalidArg).unwrap_or_default();
    let name = option.split(['=', ' ']).next().unwrap_or(&option);
    if !name.starts_with('-') {
        return CliError::new(
            ErrorKind::Usage,
            format!("cannot use \"{option}\": nothing more is expected here"),
        );
    }
    if later::OPTIONS.contains(&name) {
        return unsupported(&format!("cannot use option \"{name}\""));
    }
    let hint = match context(refused, ContextKind::SuggestedArg) {
        Some(nearest) => format!("the nearest option is \"{nearest}\""),
        None => "--help after the verb lists its options".to_owned(),
    };
    CliError::new(
        ErrorKind::Usage,
        format!("cannot use option \"{name}\": there is no such option"),
    )
    .with_hint(hint)
}

fn unsupported(message: &str) -> CliError {
    CliError::new(ErrorKind::Unsupported, format!("{message}: it is not supported by this version"))
}

fn bad_value(refused: &clap::Error) -> CliError {
    let argument = context(refused, ContextKind::InvalidArg).unwrap_or_default();
    let value = context(refused, ContextKind::InvalidValue).unwrap_or_default();
    let name =
        argument.split(' ').next().unwrap_or(&argument).trim_matches(['<', '>', '.', '[', ']']);
    let mut message = match value.as_str() {
        "" => format!("cannot use {name} without a value"),
        value => format!("cannot use \"{value}\" for {name}"),
    };
    if let Some(source) = std::error::Error::source(refused) {
        message.push_str(&format!(": {source}"));
    }
    let error = CliError::new(ErrorKind::Usage, message);
    match context(refused, ContextKind::ValidValue) {
        Some(words) => error.with_hint(format!("it takes one of: {words}")),
        None => error,
    }
}

fn missing_argument(refused: &clap::Error) -> CliError {
    let missing = context(refused, ContextKind::InvalidArg).unwrap_or_default();
    CliError::new(ErrorKind::Usage, format!("cannot go on without {missing}"))
        .with_hint("--help after the verb says what it takes")
}

fn conflict(refused: &clap::Error) -> CliError {
    let one = context(refused, ContextKind::InvalidArg).unwrap_or_default();
    let other = context(refused, ContextKind::PriorArg).unwrap_or_default();
    CliError::new(ErrorKind::Usage, format!("cannot use {one} together with {other}"))
}

/// Returns a piece of what clap knows about the mistake; several words are joined.
fn context(refused: &clap::Error, kind: ContextKind) -> Option<String> {
    match refused.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().map(|_| texts.join(", ")),
        _ => None,
    }
}

fn first_line(refused: &clap::Error) -> String {
    let text = refused.to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("cannot read the command line: {}", line.trim_start_matches("error: "))
}

/// Reports whether a command line that cannot be read asks for JSON.
pub(crate) fn asks_for_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let joined = words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"));
    joined || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::CommandLine;

    fn message(words: &[&str]) -> String {
        let refused = CommandLine::try_parse_from(["keepd"].iter().chain(words)).unwrap_err();
        error_of(&refused).to_string()
    }

    #[test]
    fn mistakes_are_said_in_our_words() {
        for (words, expected) in [
            (
                &["scale", "web", "3"][..],
                "cannot run \"scale\": it is not supported by this version",
            ),
            (&["strat", "web"], "cannot run \"strat\": there is no such verb"),
            (
                &["restart", "--one-by-one", "web"],
                "cannot use option \"--one-by-one\": it is not supported by this version",
            ),
            (
                &["status", "--usage"],
                "cannot use option \"--usage\": it is not supported by this version",
            ),
            (
                &["status", "--colour=never"],
                "cannot use option \"--colour\": there is no such option",
            ),
            (&["status", "-o", "xml"], "cannot use \"xml\" for --output"),
            (
                &["start", "web", "-t", "10"],
                "cannot use \"10\" for --timeout: a bare number has no unit: write \"10s\"; \
                 supervisord means seconds by it and pm2 milliseconds",
            ),
            (&["start"], "cannot go on without <SELECTOR>..."),
            (&["status", "-o"], "cannot use --output without a value"),
            (&["why", "a", "b"], "cannot use \"b\": nothing more is expected here"),
            (&[], "cannot tell what to do: no verb is given"),
        ] {
            assert_eq!(message(words), expected, "{words:?}");
        }
    }

    #[test]
    fn json_is_recognised_in_a_broken_line() {
        let asks = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            asks_for_json(&words)
        };
        assert!(asks("keepd -o json strat") && asks("keepd strat --output=json"));
        assert!(asks("keepd -ojson strat"));
        assert!(!asks("keepd strat json") && !asks("keepd -o table strat"));
    }
}
