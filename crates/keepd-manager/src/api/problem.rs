//! Errors as `application/problem+json` (RFC 9457).

use std::fmt;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keepd_engine::manager::Refusal;
use keepd_plan::Diagnostic;

use super::types::{DiagnosticObject, Problem, ProblemCode};
use crate::calls::{ActError, Gone};
use crate::config::LoadError;

impl ProblemCode {
    /// Returns the HTTP status of this kind.
    fn status(self) -> StatusCode {
        match self {
            Self::NoSuchService | Self::NoSuchChange | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::CannotReload | Self::NotRunning | Self::ShuttingDown | Self::PlanChanged => {
                StatusCode::CONFLICT
            }
            Self::NotSynchronised => StatusCode::SERVICE_UNAVAILABLE,
            Self::Config => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request is not answered as wished. Boxed, because it travels in every result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(Box<Problem>);

impl Failure {
    /// Returns a problem of this kind.
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self::with_status(code, code.status(), detail)
    }

    /// Returns a problem of this kind with an HTTP status that says more.
    pub(crate) fn with_status(
        code: ProblemCode,
        status: StatusCode,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            hint: None,
            service: None,
            diagnostics: Vec::new(),
        }))
    }

    /// Returns the object on the wire.
    #[cfg(test)]
    pub(crate) fn problem(&self) -> &Problem {
        &self.0
    }

    /// Adds what to do.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.0.hint = Some(hint.to_owned());
        self
    }

    /// Adds which service it is about.
    pub(crate) fn with_service(mut self, name: &str) -> Self {
        self.0.service = Some(name.to_owned());
        self
    }

    /// Returns the problem of a selector that means no service.
    pub(crate) fn no_match(selector: &str) -> Self {
        let code = ProblemCode::NoSuchService;
        Self::new(code, format!("cannot find service \"{selector}\"")).with_service(selector)
    }

    /// Returns the problem of a service without a process; `verb` is what was asked for.
    pub(crate) fn not_running(verb: &str, name: &str) -> Self {
        let text = format!("cannot {verb} service \"{name}\": it is not running");
        Self::new(ProblemCode::NotRunning, text).with_service(name)
    }

    /// Returns the problem of a request that cannot be read.
    pub(crate) fn usage(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::Usage, detail)
    }

    /// Returns the problem of a manager that does not know yet what runs.
    pub(crate) fn not_synchronised() -> Self {
        let code = ProblemCode::NotSynchronised;
        Self::new(code, "cannot answer: the manager has not heard from the proxy what runs")
            .with_hint("try again in a moment")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body =
            serde_json::to_vec(&self.0).expect("an object of texts can be written to memory");
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let text = "cannot answer: the manager is ending";
        Self::with_status(ProblemCode::ShuttingDown, status, text)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchService(name) => Self::no_match(name.as_str()),
            Refusal::Quarantined(name, why) => {
                let text = format!(
                    "cannot start service \"{name}\": its table in the file cannot be used: {why}"
                );
                // The request is good and the service is there; only its state is against it.
                Self::with_status(ProblemCode::Config, StatusCode::CONFLICT, text)
                    .with_service(name.as_str())
                    .with_hint("keepd check shows every error; correct the file, then keepd apply")
            }
            Refusal::CannotReload(name) => {
                let text = format!(
                    "cannot reload service \"{name}\": it has neither reload_signal nor \
                     reload_command"
                );
                Self::new(ProblemCode::CannotReload, text)
                    .with_service(name.as_str())
                    .with_hint("set reload_signal or reload_command, or use restart")
            }
            Refusal::NotRunning(name) => Self::not_running("reach", name.as_str()),
            Refusal::ShuttingDown => {
                Self::new(ProblemCode::ShuttingDown, "cannot do it: everything is being stopped")
            }
            Refusal::NotSynchronised => Self::not_synchronised(),
        }
    }
}

impl From<ActError> for Failure {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NoMatch(selector) => Self::no_match(&selector),
            ActError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let mut failure = Self::new(ProblemCode::Config, error.to_string());
        failure.0.diagnostics = match error {
            LoadError::Read(_) => Vec::new(),
            LoadError::Invalid(diagnostics) => diagnostics.into_iter().map(Into::into).collect(),
        };
        failure
    }
}

impl From<Diagnostic> for DiagnosticObject {
    fn from(diagnostic: Diagnostic) -> Self {
        let Diagnostic { origin, message, hint } = diagnostic;
        Self {
            file: origin.as_ref().map(|origin| origin.file.to_string()),
            line: origin.as_ref().map(|origin| origin.line),
            column: origin.as_ref().map(|origin| origin.column),
            message,
            hint,
        }
    }
}

impl fmt::Display for DiagnosticObject {
    /// Writes `FILE:LINE:COL: MESSAGE`, and the hint on a line of its own.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(file), Some(line), Some(column)) = (&self.file, self.line, self.column) {
            write!(formatter, "{file}:{line}:{column}: ")?;
        }
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::ServiceName;

    #[test]
    fn a_problem_is_json_of_its_kind() {
        let name = ServiceName::new("web").unwrap();
        let failure = Failure::from(Refusal::CannotReload(name));
        assert_eq!(
            serde_json::to_string(failure.problem()).unwrap(),
            "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,\
             \"code\":\"cannot-reload\",\
             \"detail\":\"cannot reload service \\\"web\\\": \
             it has neither reload_signal nor reload_command\",\
             \"hint\":\"set reload_signal or reload_command, or use restart\",\"service\":\"web\"}"
        );
        let response = failure.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_quarantined_service_says_why() {
        let name = ServiceName::new("web").unwrap();
        let why = "keepd.toml:3:1: cannot use key \"comand\"".to_owned();
        let failure = Failure::from(Refusal::Quarantined(name, why));
        let problem = failure.problem();
        assert_eq!((problem.status, problem.code), (409, ProblemCode::Config));
        assert_eq!(
            problem.detail,
            "cannot start service \"web\": its table in the file cannot be used: \
             keepd.toml:3:1: cannot use key \"comand\""
        );
        assert!(problem.hint.as_deref().is_some_and(|hint| hint.starts_with("keepd check ")));
    }

    #[test]
    fn codes_on_the_wire_are_their_words() {
        let codes = [
            ProblemCode::NoSuchService,
            ProblemCode::NoSuchChange,
            ProblemCode::NoSuchPath,
            ProblemCode::CannotReload,
            ProblemCode::NotRunning,
            ProblemCode::ShuttingDown,
            ProblemCode::NotSynchronised,
            ProblemCode::PlanChanged,
            ProblemCode::Config,
            ProblemCode::Usage,
            ProblemCode::NotAllowed,
            ProblemCode::Internal,
        ];
        for code in codes {
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
        }
    }
}
