//! `GET /v1/config`, `POST /v1/config/diff`, `POST /v1/config/apply`.

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use keepd_engine::manager::{Action, Step};

use super::Api;
use super::body::{Body, check_token, parse_or_default};
use super::listener::Peer;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{
    ApplyAccepted, ApplyRequest, ConfigObject, DiffObject, DiffRequest, ProblemCode, SourceObject,
    StepObject,
};
use crate::accepted::AcceptedSource;
use crate::apply::{Application, ApplyError, apply};
use crate::calls::Gone;
use crate::config::OnErrors;
use crate::proposal::{Proposal, propose};

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

/// Handles `POST /v1/config/diff`: what an apply of the files as they are now would do, or of other
/// texts.
pub(super) async fn diff(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Json<DiffObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let DiffRequest { sources } = parse_or_default(body)?;
    let texts = sources.map(|sources| sources.into_iter().map(Into::into).collect());
    api.synchronised().await?;
    let in_force = api.configuration.lock().await.clone();
    let Proposal { candidate, plan_id } = propose(&in_force, texts, OnErrors::Refuse).await?;
    let plan = candidate.plan;
    let steps = api.caller.look(move |machine, _| machine.preview(&plan)).await?;
    let warnings = candidate.warnings.into_iter().map(Into::into).collect();
    Ok(Json(DiffObject { plan: plan_id, steps: step_objects(steps, true), warnings }))
}

impl From<SourceObject> for AcceptedSource {
    fn from(source: SourceObject) -> Self {
        let SourceObject { file, directory, text } = source;
        Self { file, path: None, directory, text }
    }
}

/// Handles `POST /v1/config/apply`.
pub(super) async fn put_in_force(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<(StatusCode, Json<ApplyAccepted>), Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let ApplyRequest { restart, keep_going, plan, token } = parse_or_default(body)?;
    check_token(token.as_deref())?;
    api.synchronised().await?;
    let on_errors = if keep_going { OnErrors::KeepGoing } else { OnErrors::Refuse };
    let application = Application { token, restart, on_errors, plan_id: plan };
    // On a task of its own: who hangs up meanwhile would leave half of it done, and a successor
    // would take what was written down for what is in force.
    let work = async move { apply(&api.configuration, &api.caller, peer.who(), application).await };
    let applied = tokio::spawn(work).await.map_err(|_| Gone)??;
    let object = ApplyAccepted {
        change: applied.change.to_string(),
        steps: applied.steps,
        warnings: applied.warnings,
        errors: applied.errors,
        notes: applied.notes,
    };
    Ok((StatusCode::ACCEPTED, Json(object)))
}

/// Returns what is done, in the order of names. Without restarts a service that would be restarted
/// is only marked.
pub(crate) fn step_objects(mut steps: Vec<Step>, restart: bool) -> Vec<StepObject> {
    steps.sort_by(|one, other| one.name.cmp(&other.name));
    let object = |step: Step| StepObject {
        name: step.name.to_string(),
        action: action_word(step.action, restart).to_owned(),
        keys: step.keys,
    };
    steps.into_iter().map(object).collect()
}

fn action_word(action: Action, restart: bool) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Add => "add",
        Action::Quarantine => "quarantine",
        Action::Remove => "remove",
        Action::Restart if restart => "restart",
        Action::Restart => "marked",
        Action::Live => "live",
        Action::NextStart => "next-start",
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Load(error) => error.into(),
            ApplyError::Write(error) => Self::new(ProblemCode::Internal, error.chain()),
            ApplyError::PlanChanged(plan_id) => {
                let detail = format!(
                    "cannot apply that plan: the files or what is in force changed, and the plan \
                     is \"{plan_id}\" now"
                );
                Self::new(ProblemCode::PlanChanged, detail)
                    .with_hint("look at the difference again")
            }
            ApplyError::Refused(refusal) => refusal.into(),
            ApplyError::Gone => Gone.into(),
        }
    }
}
