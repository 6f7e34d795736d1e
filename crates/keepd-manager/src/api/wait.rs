//! `GET /v1/wait`: until services are in a state.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use keepd_engine::manager::{Awaited, Manager, ServiceStatus};
use keepd_model::{Health, ServiceName, State as ServiceState};
use tokio::time::{Instant, sleep, timeout_at};

use super::Api;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{WaitObject, WaitedObject};

/// Between two looks: a thousand services that start have thousands of news, and each look is at
/// all that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The word for a health that is no state.
const HEALTHY: &str = "healthy";

/// Handles `GET /v1/wait?select=…&state=ready&timeout=30s`: answers when every service is in the
/// state, when one cannot get there by itself, or when the time is over.
pub(super) async fn wait(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<WaitObject>, Failure> {
    let parameters = Parameters::parse(query.as_deref(), &["select", "state", "timeout"])?;
    let selectors = parameters.selectors()?;
    if selectors.is_empty() {
        return Err(Failure::usage("cannot wait for nothing: \"select\" is missing")
            .with_hint("name services, or \"all\""));
    }
    let goal = awaited(parameters.last("state").unwrap_or("ready"))?;
    let deadline = Instant::now() + parameters.wait_limit()?;
    api.synchronised().await?;
    let names = api.caller.look(move |machine, _| machine.select(&selectors)).await?;
    let names = names.map_err(|selector| Failure::no_match(&selector))?;
    let mut pulse = api.caller.pulse();
    loop {
        // What happens after this line is a change of the pulse, so nothing is missed.
        pulse.mark_unchanged();
        let looked = names.clone();
        let services = api.caller.look(move |machine, _| look(machine, &looked, goal)).await?;
        let reached = services.iter().all(|service| service.reached);
        if reached || services.iter().any(|service| service.hopeless.is_some()) {
            return Ok(Json(WaitObject { reached, timed_out: false, services }));
        }
        let news = async {
            // An error means that the manager is ending; the next look says so.
            let _ = pulse.changed().await;
            sleep(LOOK_INTERVAL).await;
        };
        if timeout_at(deadline, news).await.is_err() {
            return Ok(Json(WaitObject { reached, timed_out: true, services }));
        }
    }
}

/// Reads where services shall get to.
fn awaited(word: &str) -> Result<Awaited, Failure> {
    if word == HEALTHY {
        return Ok(Awaited::Healthy);
    }
    match ServiceState::from_word(word) {
        Some(ServiceState::Ready) => Ok(Awaited::There),
        Some(state) => Ok(Awaited::In(state)),
        None => {
            let words = ServiceState::ALL.iter().map(|state| state.word());
            let words: Vec<&str> = words.chain([HEALTHY]).collect();
            Err(Failure::usage(format!("cannot wait for state \"{word}\": it is unknown"))
                .with_hint(&format!("known: {}", words.join(", "))))
        }
    }
}

fn is_reached(awaited: Awaited, status: &ServiceStatus) -> bool {
    match awaited {
        Awaited::There => status.is_there(),
        Awaited::Healthy => status.health == Health::Healthy,
        Awaited::In(state) => status.state == state,
    }
}

fn look(machine: &Manager, names: &[ServiceName], awaited: Awaited) -> Vec<WaitedObject> {
    let look = |name: &ServiceName| {
        let status = machine.status(name);
        let reached = status.as_ref().is_some_and(|status| is_reached(awaited, status));
        let state = status.map_or(ServiceState::Stopped, |status| status.state);
        WaitedObject {
            name: name.to_string(),
            state: state.to_string(),
            reached,
            hopeless: if reached { None } else { machine.waits_in_vain_for(name, awaited) },
        }
    };
    names.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::status;

    #[test]
    fn every_state_is_a_goal_and_nothing_else() {
        for state in ServiceState::ALL {
            assert!(awaited(state.word()).is_ok(), "{state}");
        }
        assert_eq!(awaited("healthy"), Ok(Awaited::Healthy));
        let failure = awaited("up").unwrap_err();
        assert_eq!(failure.problem().detail, "cannot wait for state \"up\": it is unknown");
    }

    #[test]
    fn who_is_there_is_ready() {
        let mut status = status();
        assert!(!is_reached(Awaited::There, &status));
        assert!(is_reached(Awaited::In(ServiceState::Backoff), &status));
        status.state = ServiceState::Ready;
        assert!(is_reached(Awaited::There, &status));
        assert!(!is_reached(Awaited::In(ServiceState::Done), &status));
    }
}
