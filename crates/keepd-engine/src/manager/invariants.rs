//! What must hold after every input, checked by tests and the simulation.

use super::Manager;
use super::service::{Manner, Phase, Rest, Service, Want};

impl Manager {
    /// Checks the machine against its invariants; the error names the number and the service.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (name, service) in &self.services {
            let broken = |number: u32, text: &str| Err(format!("M{number}: {name}: {text}"));
            if *name != service.spec.name {
                return broken(1, "it is filed under another name");
            }
            if service.timer != service.next_time() {
                return broken(2, "its timer is not the one its phase asks for");
            }
            if service.timer.is_some_and(|at| !self.timers.contains(&(at, name.clone()))) {
                return broken(3, "its timer is not set");
            }
            if let Phase::Preparing { ticket } = service.phase
                && self.is_synchronised()
                && !self.tickets.contains_key(&ticket)
            {
                return broken(4, "it waits for a preparation that nobody makes");
            }
            if self.shutdown.is_some() && service.want == Want::Up {
                return broken(5, "it is wanted up during a shutdown");
            }
            if !service.removed && !self.plan.services.contains_key(name) && self.booted {
                return broken(6, "it is not in the plan and not on its way out");
            }
            if self.is_synchronised() && self.queue.is_empty() && undecided(service) {
                return broken(7, "it is not wanted, and nothing is done about it");
            }
        }
        if self.timers.len() != self.services.values().filter(|s| s.timer.is_some()).count() {
            return Err("M8: there are timers of nobody".to_owned());
        }
        Ok(())
    }
}

/// Reports whether a service is in a phase that its want should have ended at once.
fn undecided(service: &Service) -> bool {
    match (&service.phase, service.want) {
        (
            Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Gathered
            | Phase::Leased { cancelled: false, .. }
            | Phase::Backoff { .. },
            Want::Down(_),
        ) => true,
        (Phase::Resting(Rest::Stopped), Want::Up) => true,
        (
            Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_),
            Want::Down(Manner::Kill),
        ) => true,
        (
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Leased { .. }
            | Phase::Backoff { .. },
            Want::Up | Want::Down(_),
        ) => false,
    }
}
