//! `GET /v1/services/{name}/launch`: what a start would be given now.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use keepd_engine::manager::{Launch, Preparation, Refusal};
use keepd_model::{Kind, ServiceName};

use super::Api;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{LaunchObject, ProblemCode};
use crate::prepare::Variables;

/// Handles `GET /v1/services/{name}/launch`. It starts and changes nothing.
pub(super) async fn launch(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<LaunchObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let name = ServiceName::new(&text).map_err(|_| Failure::no_match(&text))?;
    api.synchronised().await?;
    let found = api.caller.look(move |machine, _| machine.status(&name)).await?;
    let spec = found.ok_or_else(|| Failure::no_match(&text))?.spec;
    if let Some(why) = &spec.quarantine {
        return Err(Refusal::Quarantined(spec.name.clone(), why.clone()).into());
    }
    match spec.kind {
        Kind::Daemon | Kind::Oneshot => {}
        Kind::Group => {
            let detail = format!("cannot show a start of \"{text}\": a group has no process");
            return Err(Failure::usage(detail).with_service(&text));
        }
    }
    match api.pool.prepare(spec, Preparation::Check).await {
        Ok(launch) => {
            let environment = api.pool.environment(&launch.environment);
            Ok(Json(launch_object(text, *launch, environment)))
        }
        Err(failure) => {
            let detail = format!("cannot start service \"{text}\": {}", failure.text);
            Err(Failure::new(ProblemCode::Config, detail).with_service(&text))
        }
    }
}

fn launch_object(name: String, launch: Launch, environment: Variables) -> LaunchObject {
    let Launch { arguments, directory, uid, gid, groups, .. } = launch;
    let environment: BTreeMap<String, String> =
        environment.into_iter().map(|(name, value)| (text(name), text(value))).collect();
    LaunchObject {
        name,
        arguments: arguments.into_iter().map(text).collect(),
        environment,
        directory: text(directory),
        uid,
        gid,
        groups,
    }
}

/// JSON has no bytes that are not UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
