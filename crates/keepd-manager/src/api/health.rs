//! `GET /livez`, `/readyz`, `/healthz` and `/v1/version`.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use keepd_engine::manager::Manager;
use keepd_model::Wanted;

use super::Api;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{HealthObject, VersionObject};

type Answer = Result<(StatusCode, Json<HealthObject>), Failure>;

/// Handles `GET /livez`: the task that decides answers.
pub(super) async fn live(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer {
    Parameters::parse(query.as_deref(), &[])?;
    api.caller.look(|_, _| ()).await?;
    Ok(answer(Vec::new()))
}

/// Handles `GET /readyz` and `GET /healthz`: everything that is wanted up is there.
pub(super) async fn ready(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer {
    Parameters::parse(query.as_deref(), &[])?;
    Ok(answer(api.caller.look(|machine, _| failing(machine)).await?))
}

fn failing(machine: &Manager) -> Vec<String> {
    if !machine.is_synchronised() {
        return vec!["manager: has not heard from the proxy what runs".to_owned()];
    }
    if machine.is_shutting_down() {
        return vec!["manager: everything is being stopped".to_owned()];
    }
    let statuses = machine.statuses();
    let missing = statuses.iter().filter(|status| match status.wanted {
        Wanted::Up => !status.is_there(),
        Wanted::Down => false,
    });
    missing.map(|status| format!("{}: {}", status.spec.name, status.state)).collect()
}

fn answer(failing: Vec<String>) -> (StatusCode, Json<HealthObject>) {
    let (status, word) = if failing.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    (status, Json(HealthObject { status: word.to_owned(), failing }))
}

/// Handles `GET /v1/version`.
pub(super) async fn version(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<VersionObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    Ok(Json(VersionObject {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: api.instance.to_string(),
        pid: std::process::id(),
    }))
}
