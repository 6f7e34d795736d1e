//! `GET /v1/wait`: until services are in a state.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use keepd_engine::manager::{Manager, ServiceStatus};
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
    let goal = WaitGoal::parse(parameters.last("state").unwrap_or("ready"))?;
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

/// Where services shall get to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitGoal {
    /// Ready; a oneshot: done.
    There,
    /// Its checks answer.
    Healthy,
    /// In another state.
    In(ServiceState),
}

impl WaitGoal {
    fn parse(word: &str) -> Result<Self, Failure> {
        if word == HEALTHY {
            return Ok(Self::Healthy);
        }
        match ServiceState::from_word(word) {
            Some(ServiceState::Ready) => Ok(Self::There),
            Some(state) => Ok(Self::In(state)),
            None => {
                let words = ServiceState::ALL.iter().map(|state| state.word());
                let words: Vec<&str> = words.chain([HEALTHY]).collect();
                Err(Failure::usage(format!("cannot wait for state \"{word}\": it is unknown"))
                    .with_hint(&format!("known: {}", words.join(", "))))
            }
        }
    }

    fn is_reached(self, status: &ServiceStatus) -> bool {
        match self {
            Self::There => status.is_there(),
            Self::Healthy => status.health == Health::Healthy,
            Self::In(state) => status.state == state,
        }
    }

    /// Returns why a service does not get there by itself.
    fn hopeless(self, status: &ServiceStatus) -> Option<String> {
        if self == Self::Healthy && status.health == Health::None {
            return Some("it has no health check".to_owned());
        }
        let leads_up = match self {
            Self::There | Self::Healthy | Self::In(ServiceState::Done) => true,
            Self::In(_) => false,
        };
        match status.state {
            // What is wanted up may be on its way still.
            _ if leads_up && status.hopeless.is_some() => status.hopeless.clone(),
            ServiceState::Stopped | ServiceState::Done | ServiceState::Failed => {
                Some(format!("it is {}", status.state))
            }
            ServiceState::Waiting
            | ServiceState::Scheduled
            | ServiceState::Starting
            | ServiceState::Ready
            | ServiceState::Stopping
            | ServiceState::Backoff
            | ServiceState::Stuck
            | ServiceState::Unknown => None,
        }
    }
}

fn look(machine: &Manager, names: &[ServiceName], goal: WaitGoal) -> Vec<WaitedObject> {
    let look = |name: &ServiceName| match machine.status(name) {
        Some(status) => waited_object(&status, goal),
        None => WaitedObject {
            name: name.to_string(),
            state: ServiceState::Stopped.to_string(),
            reached: false,
            hopeless: Some("it is not in the configuration any more".to_owned()),
        },
    };
    names.iter().map(look).collect()
}

fn waited_object(status: &ServiceStatus, goal: WaitGoal) -> WaitedObject {
    let reached = goal.is_reached(status);
    WaitedObject {
        name: status.spec.name.to_string(),
        state: status.state.to_string(),
        reached,
        hopeless: if reached { None } else { goal.hopeless(status) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::status;

    fn judged(word: &str, status: &ServiceStatus) -> (bool, Option<String>) {
        let object = waited_object(status, WaitGoal::parse(word).unwrap());
        (object.reached, object.hopeless)
    }

    #[test]
    fn every_state_is_a_goal_and_nothing_else() {
        for state in ServiceState::ALL {
            assert!(WaitGoal::parse(state.word()).is_ok(), "{state}");
        }
        assert_eq!(WaitGoal::parse("healthy"), Ok(WaitGoal::Healthy));
        let failure = WaitGoal::parse("up").unwrap_err();
        assert_eq!(failure.problem().detail, "cannot wait for state \"up\": it is unknown");
    }

    #[test]
    fn who_is_there_is_ready() {
        let mut status = status();
        status.state = ServiceState::Ready;
        assert_eq!(judged("ready", &status), (true, None));
        assert_eq!(judged("stopped", &status), (false, None), "somebody may stop it");
        assert_eq!(judged("done", &status), (false, None));
    }

    #[test]
    fn who_does_not_get_there_is_hopeless() {
        let mut status = status();
        assert_eq!(judged("ready", &status), (false, None));
        status.hopeless = Some("its process ended".into());
        assert_eq!(judged("ready", &status), (false, Some("its process ended".into())));
        assert_eq!(judged("backoff", &status), (true, None));
        assert_eq!(judged("stopped", &status), (false, None));
        status.state = ServiceState::Failed;
        assert_eq!(judged("stopped", &status), (false, Some("it is failed".into())));
        assert_eq!(judged("failed", &status), (true, None));
        assert_eq!(judged("healthy", &status).1.as_deref(), Some("it has no health check"));
    }
}
