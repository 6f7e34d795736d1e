//! Whether a service gets where it should be by itself, and why not.
//!
//! Whoever waits for a service is told at once when waiting is no use. The answer hangs on what it
//! depends on, so it is derived where something moved and handed on to those that wait, one step at
//! a time; nobody walks the whole graph.

use keepd_model::{ServiceName, State};

use super::Manager;
use super::cause::Cause;
use super::explain;
use super::interface::Awaited;
use super::service::{Phase, Rest, Service, Want};

/// How many services that wait for each other one sentence names; of a longer chain it names the
/// last one, too. Each member of the chain has a sentence like that.
const LINKS_MAX: usize = 8;

impl Manager {
    /// Returns why a service that is wanted up does not get there by itself soon, if that is so.
    pub(super) fn hopeless(&self, service: &Service) -> Option<String> {
        self.without_hope(service).then(|| self.hopeless_because(service, 0))
    }

    /// Returns why a service that has not got where somebody waits for it does not get there by
    /// itself, if that is so.
    pub fn waits_in_vain_for(&self, name: &ServiceName, awaited: Awaited) -> Option<String> {
        let Some(service) = self.services.get(name) else {
            return Some("it is not in the configuration any more".to_owned());
        };
        let leads_up = match awaited {
            // There are no health checks yet.
            Awaited::Healthy => return Some("it has no health check".to_owned()),
            Awaited::There | Awaited::In(State::Done) => true,
            Awaited::In(_) => false,
        };
        if leads_up && let Some(why) = self.hopeless(service) {
            return Some(why);
        }
        match service.phase {
            Phase::Resting(_) => Some(format!("it is {}", service.state())),
            Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => None,
        }
    }

    /// Looks again whether a service is hopeless; reports whether that changed.
    pub(super) fn refresh_hope(&mut self, name: &ServiceName) -> bool {
        let Some(service) = self.services.get(name) else {
            return false;
        };
        let is_hopeless = self.without_hope(service);
        if service.is_hopeless == is_hopeless {
            return false;
        }
        if let Some(service) = self.services.get_mut(name) {
            service.is_hopeless = is_hopeless;
        }
        true
    }

    /// Reports whether a service cannot get there by itself, by what is known of those it needs.
    fn without_hope(&self, service: &Service) -> bool {
        match &service.phase {
            Phase::Resting(Rest::Failed) | Phase::Stuck(_) => true,
            Phase::Backoff { .. } | Phase::Leased { until: Some(_), .. } => service.end_count > 1,
            Phase::Resting(Rest::Stopped) => service.want != Want::Up,
            Phase::Waiting => {
                matches!(service.cause, Cause::SafeMode(_))
                    || self.missing_without_hope(service).is_some()
            }
            Phase::Resting(Rest::Done)
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Leased { until: None, .. }
            | Phase::Ending(_) => false,
        }
    }

    /// Returns a service that a waiting one needs and that does not get there.
    fn missing_without_hope(&self, service: &Service) -> Option<&Service> {
        service.spec.depends_on.iter().filter(|(_, edge)| edge.required).find_map(|(on, edge)| {
            let other = self.services.get(on)?;
            // A daemon that ended with success is done, and does not get ready by itself.
            let rests = other.is_hopeless || other.phase == Phase::Resting(Rest::Done);
            (rests && !other.satisfies(edge.until)).then_some(&**other)
        })
    }

    fn hopeless_because(&self, service: &Service, depth: usize) -> String {
        match &service.phase {
            Phase::Resting(Rest::Failed)
            | Phase::Backoff { .. }
            | Phase::Leased { until: Some(_), .. } => explain::cause_clause(&service.cause),
            Phase::Stuck(_) if service.cause == Cause::Unsure => {
                explain::cause_clause(&service.cause)
            }
            Phase::Stuck(_) => "something of it is left long after KILL".to_owned(),
            Phase::Waiting => match self.missing_without_hope(service) {
                Some(other) => self.waits_in_vain(service, other, depth),
                None if matches!(service.cause, Cause::SafeMode(_)) => {
                    explain::cause_clause(&service.cause)
                }
                None => "it waits".to_owned(),
            },
            Phase::Resting(Rest::Stopped | Rest::Done)
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Leased { until: None, .. }
            | Phase::Ending(_) => format!("it is {}", service.state()),
        }
    }

    fn waits_in_vain(&self, service: &Service, other: &Service, depth: usize) -> String {
        let on = other.name();
        let until = service.spec.depends_on.get(on).map(|edge| edge.until);
        match (until, &other.phase) {
            (Some(until), Phase::Resting(Rest::Done)) => {
                format!("it waits for \"{on}\" to be {until}, which is done")
            }
            _ if depth < LINKS_MAX => {
                let why = self.hopeless_because(other, depth + 1);
                format!("it waits for \"{on}\", of which: {why}")
            }
            _ => {
                let last = self.last_in_vain(other);
                let why = match last.phase {
                    Phase::Waiting => "it waits".to_owned(),
                    _ => self.hopeless_because(last, depth),
                };
                match last.name() == on {
                    true => format!("it waits for \"{on}\", of which: {why}"),
                    false => {
                        let last = last.name();
                        format!("it waits for \"{on}\" and so on up to \"{last}\", of which: {why}")
                    }
                }
            }
        }
    }

    /// Returns the service at which a chain of those that wait in vain begins.
    fn last_in_vain<'m>(&'m self, service: &'m Service) -> &'m Service {
        let mut last = service;
        // A plan has no cycles; the bound keeps a broken one from hanging us.
        for _ in 0..self.services.len() {
            match (&last.phase, self.missing_without_hope(last)) {
                (Phase::Waiting, Some(next)) => last = next,
                _ => break,
            }
        }
        last
    }
}
