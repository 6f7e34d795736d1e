//! The routes, and the server that answers them.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::body::BODY_BYTES_MAX;
use super::history::History;
use super::listener::{Limited, Peer};
use super::problem::Failure;
use super::types::ProblemCode;
use super::{actions, changes, config, events, health, launch, logs, runs, services, wait};
use crate::calls::Caller;
use crate::config::Configuration;
use crate::log_places::LogPlaces;
use crate::prepare::Pool;

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct Api {
    /// Asks the task that owns the machine.
    pub(crate) caller: Caller,
    /// The configuration in force.
    pub(crate) configuration: Arc<Configuration>,
    /// Finds out what a start would be given.
    pub(crate) pool: Pool,
    /// What happened.
    pub(crate) history: Arc<History>,
    /// The cgroup of the instance, where there is one.
    pub(crate) group: Option<Arc<PathBuf>>,
    /// Where output goes.
    pub(crate) logs: Arc<LogPlaces>,
    /// Says that the server ends.
    pub(crate) stop: watch::Receiver<bool>,
    /// The identity of the instance.
    pub(crate) instance: Arc<str>,
}

impl Api {
    /// Waits a little until the manager knows what runs, so that nothing wrong is said after a
    /// restart.
    pub(super) async fn synchronised(&self) -> Result<(), Failure> {
        if self.caller.synchronised().await { Ok(()) } else { Err(Failure::not_synchronised()) }
    }
}

/// Serves clients until `stop` says so, and then what was asked before.
pub(crate) async fn serve(listener: UnixListener, api: Api, mut stop: watch::Receiver<bool>) {
    let service = router(api).into_make_service_with_connect_info::<Peer>();
    let stopped = async move {
        // An error means that the loop has ended, which is a reason to stop, too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(Limited::new(listener), service).with_graceful_shutdown(stopped).await;
    if let Err(error) = served {
        tracing::error!("cannot serve clients: {error}");
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/services", get(services::list))
        .route("/v1/services/{name}", get(services::one))
        .route("/v1/services/{name}/why", get(services::why))
        .route("/v1/services/{name}/history", get(runs::history))
        .route("/v1/services/{name}/launch", get(launch::launch))
        .route("/v1/wait", get(wait::wait))
        .route("/v1/actions", post(actions::act))
        .route("/v1/changes", get(changes::list))
        .route("/v1/changes/{id}", get(changes::one))
        .route("/v1/changes/{id}/wait", get(changes::wait))
        .route("/v1/config", get(config::get))
        .route("/v1/config/diff", post(config::diff))
        .route("/v1/config/apply", post(config::put_in_force))
        .route("/v1/events", get(events::stream))
        .route("/v1/logs", get(logs::stream))
        .route("/v1/version", get(health::version))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/healthz", get(health::ready))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(only_allowed))
        .with_state(api)
}

/// Refuses everybody but root and the user of keepd. The mode of the socket says the same; this
/// holds even if somebody changes it.
async fn only_allowed(
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if !peer.is_allowed(keepd_os::process::effective_uid()) {
        let text = "cannot serve you: only root and the user of keepd may ask";
        return Failure::new(ProblemCode::NotAllowed, text).into_response();
    }
    request.extensions_mut().insert(peer);
    next.run(request).await
}

async fn no_such_path(uri: Uri) -> Failure {
    Failure::new(ProblemCode::NoSuchPath, format!("cannot find path \"{}\"", uri.path()))
}

async fn no_such_method(uri: Uri) -> Failure {
    let text = format!("cannot use this method on path \"{}\"", uri.path());
    Failure::with_status(ProblemCode::Usage, StatusCode::METHOD_NOT_ALLOWED, text)
}
