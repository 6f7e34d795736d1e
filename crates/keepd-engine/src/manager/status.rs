//! What services look like from outside.

use keepd_model::{Health, ServiceName};

use super::Manager;
use super::interface::ServiceStatus;
use super::order::Unmet;
use super::service::{Phase, Service};

impl Manager {
    /// Returns the services in the order of their names.
    pub fn statuses(&self) -> Vec<ServiceStatus> {
        self.services.values().map(|service| self.status_of(service)).collect()
    }

    /// Returns why the proxy starts nothing, if that is so.
    pub fn safe_mode(&self) -> Option<&str> {
        self.abilities.safe_mode.as_deref()
    }

    /// Returns one service.
    pub fn status(&self, name: &ServiceName) -> Option<ServiceStatus> {
        self.services.get(name).map(|service| self.status_of(service))
    }

    fn status_of(&self, service: &Service) -> ServiceStatus {
        ServiceStatus {
            spec: std::sync::Arc::clone(&service.spec),
            wanted: service.wanted(),
            state: service.state(),
            cause: service.cause.clone(),
            start_cause: service.start_cause.clone(),
            since: service.since,
            health: Health::None,
            pid: service.pid(),
            generation: service.generation,
            invocation: service.invocation,
            started: service.started(),
            ready_after: service.ready_after,
            restarts: service.restarts,
            restart_times: service.restart_times.iter().copied().collect(),
            hopeless: self.hopeless(service),
            next_start: match service.phase {
                Phase::Backoff { until } | Phase::Leased { until: Some(until), .. } => Some(until),
                _ => None,
            },
            last_end: service.last_end.as_deref().cloned(),
            waits_for: self.waits_for(service),
            status_text: service.status_text.clone(),
            config_changed: service.is_outdated(),
            output_blocked: service.output_blocked,
        }
    }

    fn describe_unmet(&self, unmet: &Unmet) -> String {
        let state = |on| match self.services.get(on) {
            Some(other) => format!(" (it is {})", other.state()),
            None => String::new(),
        };
        match unmet {
            Unmet::Edge(on, until) => format!("{on} to be {until}{}", state(on)),
            Unmet::SafeMode(why) => format!("keepd to start anything again: {why}"),
            Unmet::Order(on) => format!("{on}, which starts before it{}", state(on)),
        }
    }

    /// Describes what stands between a service and where it should be, one clause each.
    fn waits_for(&self, service: &Service) -> Vec<String> {
        match &service.phase {
            Phase::Waiting => {
                self.unmet(service).map(|unmet| self.describe_unmet(&unmet)).collect()
            }
            Phase::Starting(starting) => starting.readiness.missing(),
            Phase::Resting(_)
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => Vec::new(),
        }
    }
}
