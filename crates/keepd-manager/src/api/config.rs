//! `GET /v1/config`, `POST /v1/config/diff`, `POST /v1/config/apply`.

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use keepd_engine::manager::{Action, Step};

use super::Api;
use super::body::{Body, parse_or_default};
use super::listener::Peer;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{
    ApplyAccepted, ApplyRequest, ConfigObject, DiffObject, ProblemCode, SourceObject, StepObject,
};
use crate::apply::{ApplyError, apply};
use crate::config::reread;

/// Handles `GET /v1/config`.
pub(super) async fn get(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<ConfigObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let accepted = api.configuration.lock().await;
    let sources = accepted.sources.iter().map(|source| SourceObject {
        file: source.file.clone(),
        directory: source.directory.clone(),
        text: source.text.clone(),
    });
    Ok(Json(ConfigObject { sources: sources.collect() }))
}

/// Handles `POST /v1/config/diff`: what an apply of the files as they are now would do.
pub(super) async fn diff(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<DiffObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    api.synchronised().await?;
    let accepted = api.configuration.lock().await.clone();
    let candidate = reread(&accepted).await?;
    let plan = candidate.plan;
    let steps = api.caller.look(move |machine, _| machine.preview(&plan)).await?;
    let warnings = candidate.warnings.into_iter().map(Into::into).collect();
    Ok(Json(DiffObject { plan: String::new(), steps: step_objects(steps), warnings }))
}

/// Handles `POST /v1/config/apply`.
pub(super) async fn put_in_force(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<(StatusCode, Json<ApplyAccepted>), Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let ApplyRequest { restart, keep_going, plan: _, token } = parse_or_default(body)?;
    if keep_going {
        return Err(Failure::usage("cannot use \"keep_going\": this version has no such thing")
            .with_hint("correct the files: an apply without errors changes everything at once"));
    }
    api.synchronised().await?;
    let applied = apply(&api.configuration, &api.caller, peer.who(), token, restart).await?;
    let object = ApplyAccepted {
        change: applied.change.to_string(),
        steps: step_objects(applied.steps),
        warnings: applied.warnings.into_iter().map(Into::into).collect(),
    };
    Ok((StatusCode::ACCEPTED, Json(object)))
}

fn step_objects(mut steps: Vec<Step>) -> Vec<StepObject> {
    steps.sort_by(|one, other| one.name.cmp(&other.name));
    let object = |step: Step| StepObject {
        name: step.name.to_string(),
        action: action_word(step.action).to_owned(),
        keys: step.keys,
    };
    steps.into_iter().map(object).collect()
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Add => "add",
        Action::Remove => "remove",
        Action::Restart => "restart",
        Action::Live => "live",
        Action::NextStart => "next-start",
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Load(error) => error.into(),
            ApplyError::Write(error) => Self::new(ProblemCode::Internal, error.chain()),
            ApplyError::Refused(refusal) => refusal.into(),
            ApplyError::Gone => crate::calls::Gone.into(),
        }
    }
}
