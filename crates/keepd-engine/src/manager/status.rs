//! What services look like from outside.

use keepd_model::{Health, ServiceName};

use super::Manager;
use super::interface::{PastRun, ServiceStatus};
use super::service::{Phase, Service};

impl Manager {
    /// Returns the services in the order of their names.
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        self.services.values().map(|service| self.status_of(service)).collect()
    }

    /// Returns one service.
    pub fn status(&self, name: &ServiceName) -> Option<ServiceStatus> {
        self.services.get(name).map(|service| self.status_of(service))
    }

    /// Returns the runs of a service that are over, oldest first.
    pub fn history(&self, name: &ServiceName) -> Option<impl Iterator<Item = &PastRun>> {
        self.services.get(name).map(|service| service.history.iter())
    }

    fn status_of(&self, service: &Service) -> ServiceStatus {
        ServiceStatus {
            spec: std::sync::Arc::clone(&service.spec),
            wanted: service.wanted(),
            state: service.state(),
            cause: service.cause.clone(),
            since: service.since,
            health: Health::None,
            pid: service.pid(),
            generation: service.generation,
            invocation: service.invocation,
            started: service.started(),
            ready_after: service.ready_after,
            restarts: service.restarts,
            restarts_in_window: None,
            hopeless: self.hopeless(service, 0),
            next_start: match service.phase {
                Phase::Backoff { until } => Some(until),
                _ => None,
            },
            last_end: service.last_end.clone(),
            waits_for: self.waits_for(service),
            status_text: service.status_text.clone(),
            config_changed: service.is_outdated(),
            output_blocked: service.output_blocked,
        }
    }

    /// Describes what stands between a service and where it should be, one clause each.
    fn waits_for(&self, service: &Service) -> Vec<String> {
        match &service.phase {
            Phase::Waiting => service
                .spec
                .depends_on
                .iter()
                .filter(|(on, edge)| {
                    self.services.get(*on).is_none_or(|other| !other.satisfies(edge.until))
                })
                .map(|(on, edge)| match self.services.get(on) {
                    Some(other) => format!("{on} to be {} (it is {})", edge.until, other.state()),
                    None => format!("{on} to be {}", edge.until),
                })
                .collect(),
            Phase::Starting(starting) => starting.readiness.missing(),
            Phase::Resting(_)
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Running(_)
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Backoff { .. } => Vec::new(),
        }
    }
}
