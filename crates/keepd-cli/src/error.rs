//! Every error of the command line: what kind it is, which exit code it has, and how it is printed.
//!
//! Messages begin with "cannot" and are clauses: this file writes `keepd: ` before them, the chain
//! of sources behind them and the hint below them, or makes one JSON object of all that.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use keepd_manager::api::types::{DiagnosticObject, Problem, ProblemCode};
use keepd_manager::instance::InstanceError;
use keepd_model::ExitCode;
use keepd_plan::Diagnostic;
use serde::Serialize;

/// Whose fault it is, and of which sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// What was typed cannot be used.
    Usage,
    /// The configuration cannot be used.
    Config,
    /// What would be done is not what the preview said any more.
    PlanChanged,
    /// It is documented, but this version does not have it.
    Unsupported,
    /// The caller has not the right to do it.
    NotAllowed,
    /// A selector means nothing.
    NoSuchService,
    /// The service is not running.
    NotRunning,
    /// The service has no way to reload.
    CannotReload,
    /// Everything is being stopped.
    ShuttingDown,
    /// There is no keepd to talk to.
    NoManager,
    /// `--timeout` is over.
    Timeout,
    /// A signal came while waiting.
    Interrupted,
    /// Nobody reads the output any more. No message.
    BrokenPipe,
    /// The fault is the system's or keepd's.
    System,
}

impl ErrorKind {
    /// Returns the word in JSON; those that the manager has are the same there.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Usage => ProblemCode::Usage.word(),
            Self::Config => ProblemCode::Config.word(),
            Self::PlanChanged => ProblemCode::PlanChanged.word(),
            Self::Unsupported => "unsupported",
            Self::NotAllowed => ProblemCode::NotAllowed.word(),
            Self::NoSuchService => ProblemCode::NoSuchService.word(),
            Self::NotRunning => ProblemCode::NotRunning.word(),
            Self::CannotReload => ProblemCode::CannotReload.word(),
            Self::ShuttingDown => ProblemCode::ShuttingDown.word(),
            Self::NoManager => "no-manager",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::BrokenPipe => "broken-pipe",
            Self::System => ProblemCode::Internal.word(),
        }
    }

    /// Returns the exit code.
    pub(crate) const fn exit_code(self) -> ExitCode {
        match self {
            Self::Usage
            | Self::Config
            | Self::PlanChanged
            | Self::Unsupported
            | Self::NotAllowed
            | Self::CannotReload => ExitCode::Caller,
            Self::NoSuchService => ExitCode::NoSuchService,
            Self::NotRunning => ExitCode::NotRunning,
            Self::ShuttingDown | Self::NoManager | Self::System => ExitCode::System,
            Self::Timeout => ExitCode::Timeout,
            Self::Interrupted => ExitCode::Interrupted,
            // Whoever closed the pipe has seen enough.
            Self::BrokenPipe => ExitCode::Done,
        }
    }

    const fn of_problem(code: ProblemCode) -> Self {
        match code {
            ProblemCode::NoSuchService => Self::NoSuchService,
            ProblemCode::CannotReload => Self::CannotReload,
            ProblemCode::NotRunning => Self::NotRunning,
            ProblemCode::ShuttingDown => Self::ShuttingDown,
            ProblemCode::Config => Self::Config,
            ProblemCode::PlanChanged => Self::PlanChanged,
            ProblemCode::Usage => Self::Usage,
            ProblemCode::NotAllowed => Self::NotAllowed,
            ProblemCode::NoSuchChange
            | ProblemCode::NoSuchPath
            | ProblemCode::NotSynchronised
            | ProblemCode::Internal => Self::System,
        }
    }
}

/// An error of the command line.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: ErrorKind,
    /// In a box, so that results without an error stay small.
    words: Box<Words>,
}

/// What an error says.
#[derive(Debug, Default)]
struct Words {
    message: String,
    hint: Option<String>,
    service: Option<String>,
    diagnostics: Vec<DiagnosticObject>,
    /// Why, from the outermost cause to the first.
    chain: Vec<String>,
}

impl CliError {
    /// Returns an error; the message is a clause that begins with "cannot".
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let words = Words { message: message.into(), ..Words::default() };
        Self { kind, words: Box::new(words) }
    }

    /// Returns an error whose message ends before the reason, which is this error and its sources.
    pub(crate) fn because(kind: ErrorKind, message: impl Into<String>, reason: impl Error) -> Self {
        let mut error = Self::new(kind, message);
        let chain = &mut error.words.chain;
        chain.push(without_number(&reason.to_string()));
        let mut next = reason.source();
        while let Some(cause) = next {
            chain.push(without_number(&cause.to_string()));
            next = cause.source();
        }
        error
    }

    /// Returns an error with the words of another one that begin with "cannot", and its sources.
    pub(crate) fn of(kind: ErrorKind, error: &impl Error) -> Self {
        match error.source() {
            Some(source) => Self::because(kind, error.to_string(), source),
            None => Self::new(kind, error.to_string()),
        }
    }

    /// Returns the error of a failed write to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(ErrorKind::BrokenPipe, "cannot write output")
        } else {
            Self::because(ErrorKind::System, "cannot write output", error)
        }
    }

    /// Returns the error for a configuration with these errors in it; they are printed before it.
    pub(crate) fn configuration(message: impl Into<String>, diagnostics: &[Diagnostic]) -> Self {
        let mut error = Self::new(ErrorKind::Config, message);
        error.words.diagnostics = diagnostics.iter().map(diagnostic_object).collect();
        error
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.words.hint = Some(hint.into());
        self
    }

    /// Adds the service it is about.
    #[must_use]
    pub(crate) fn with_service(mut self, service: impl Into<String>) -> Self {
        self.words.service = Some(service.into());
        self
    }

    /// Returns whose fault it is.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Prints the error to standard error.
    pub(crate) fn print(&self, json: bool) {
        if self.kind == ErrorKind::BrokenPipe {
            return;
        }
        let text = if json { self.to_json() } else { self.to_text() };
        // There is no place left to say that standard error cannot be written.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Returns the lines for people.
    fn to_text(&self) -> String {
        let mut text = String::new();
        for diagnostic in &self.words.diagnostics {
            text.push_str(&diagnostic_text(diagnostic, ""));
            text.push('\n');
        }
        text.push_str(&format!("keepd: {self}"));
        if let Some(hint) = &self.words.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }

    /// Returns the object for programs, on one line.
    fn to_json(&self) -> String {
        let object = ErrorDocument {
            error: ErrorObject {
                kind: self.kind.word(),
                message: self.to_string(),
                hint: self.words.hint.as_deref(),
                service: self.words.service.as_deref(),
                diagnostics: &self.words.diagnostics,
            },
        };
        serde_json::to_string(&object).expect("strings and lists of them become JSON")
    }
}

/// Writes the message and the chain of its sources, without the hint.
impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words.message)?;
        for cause in &self.words.chain {
            write!(formatter, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for CliError {}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        let mut error = Self::new(ErrorKind::of_problem(problem.code), problem.detail);
        error.words.hint = problem.hint;
        error.words.service = problem.service;
        error.words.diagnostics = problem.diagnostics;
        error
    }
}

impl From<InstanceError> for CliError {
    fn from(reason: InstanceError) -> Self {
        let mut error = Self::of(ErrorKind::System, &reason);
        error.words.hint = reason.hint().map(str::to_owned);
        error
    }
}

#[derive(Serialize)]
struct ErrorDocument<'e> {
    error: ErrorObject<'e>,
}

#[derive(Serialize)]
struct ErrorObject<'e> {
    kind: &'static str,
    message: String,
    hint: Option<&'e str>,
    service: Option<&'e str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diagnostics: &'e [DiagnosticObject],
}

/// Returns a diagnostic as the object that JSON has for it.
pub(crate) fn diagnostic_object(diagnostic: &Diagnostic) -> DiagnosticObject {
    let origin = diagnostic.origin.as_ref();
    DiagnosticObject {
        file: origin.map(|origin| origin.file.to_string()),
        line: origin.map(|origin| origin.line),
        column: origin.map(|origin| origin.column),
        message: diagnostic.message.clone(),
        hint: diagnostic.hint.clone(),
    }
}

/// Returns `FILE:LINE:COL: LABELMESSAGE`, and the hint on an indented line.
pub(crate) fn diagnostic_text(diagnostic: &DiagnosticObject, label: &str) -> String {
    let mut text = String::new();
    if let Some(file) = &diagnostic.file {
        text.push_str(file);
        for number in [diagnostic.line, diagnostic.column].into_iter().flatten() {
            text.push_str(&format!(":{number}"));
        }
        text.push_str(": ");
    }
    text.push_str(label);
    text.push_str(&diagnostic.message);
    if let Some(hint) = &diagnostic.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

/// Returns the words of a system error in the usual form: lower case, without `(os error 2)`.
fn without_number(text: &str) -> String {
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => {
            let mut letters = words.chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            first.into_iter().chain(letters).collect()
        }
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> CliError {
        CliError::because(
            ErrorKind::System,
            "cannot read \"keepd.toml\"",
            io::Error::from_raw_os_error(2),
        )
    }

    #[test]
    fn text_is_message_chain_and_hint() {
        assert_eq!(
            error().to_text(),
            "keepd: cannot read \"keepd.toml\": no such file or directory"
        );
        assert_eq!(
            error().with_hint("use -c FILE").to_text(),
            "keepd: cannot read \"keepd.toml\": no such file or directory\nhint: use -c FILE"
        );
    }

    #[test]
    fn json_is_one_object_with_null_for_absent() {
        assert_eq!(
            error().to_json(),
            "{\"error\":{\"kind\":\"internal\",\"message\":\"cannot read \\\"keepd.toml\\\": no \
             such file or directory\",\"hint\":null,\"service\":null}}"
        );
        let error = CliError::new(ErrorKind::NotRunning, "cannot reload service \"web\"")
            .with_service("web")
            .with_hint("start it");
        assert_eq!(
            error.to_json(),
            "{\"error\":{\"kind\":\"not-running\",\"message\":\"cannot reload service \
             \\\"web\\\"\",\"hint\":\"start it\",\"service\":\"web\"}}"
        );
    }

    #[test]
    fn diagnostics_come_before_the_message() {
        let diagnostic = Diagnostic {
            origin: None,
            message: "cannot order services: a -> b -> a".into(),
            hint: Some("break the cycle".into()),
        };
        let error = CliError::configuration("cannot apply", &[diagnostic]);
        assert_eq!(
            error.to_text(),
            "cannot order services: a -> b -> a\n  hint: break the cycle\nkeepd: cannot apply"
        );
        assert!(error.to_json().contains(r#""diagnostics":[{"file":null,"#));
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let code = |kind: ErrorKind| kind.exit_code().get();
        assert_eq!(code(ErrorKind::Usage), 100);
        assert_eq!(code(ErrorKind::NoSuchService), 4);
        assert_eq!(code(ErrorKind::NotRunning), 3);
        assert_eq!(code(ErrorKind::NoManager), 111);
        assert_eq!(code(ErrorKind::Timeout), 124);
        assert_eq!(code(ErrorKind::Interrupted), 130);
    }
}
