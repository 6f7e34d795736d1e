//! What follows from what is: one decision a service, taken from its want, its phase and its
//! neighbours.

use std::collections::BTreeSet;
use std::time::Duration;

use keepd_model::protocol::Command;
use keepd_model::{Instant, OnStop, ServiceName, Signal, Until};

use super::cause::Cause;
use super::order::Unmet;
use super::service::{EndWhy, Manner, Phase, Rest, Service, Want};
use super::{Manager, Purpose, Sent};

/// What must be done about a service.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing.
    Nothing,
    /// Begin to wait for what is missing.
    Wait(Unmet),
    /// Find out what its start needs.
    Prepare,
    /// It is a group, and every member is there.
    Gather,
    /// Its table cannot be used: it is not started.
    Refuse(String),
    /// Give up a start that has no process yet.
    Rest,
    /// Take back a start that the proxy would make.
    Cancel,
    /// End its run.
    Stop(Manner),
    /// End its run harder than it was asked before.
    Press,
    /// End its run: what it depends on left the state it needs.
    Follow { on: ServiceName, until: Until, again: bool },
    /// Forget it.
    Forget,
}

impl Manager {
    /// Decides and acts until nothing follows any more.
    pub(super) fn settle(&mut self, now: Instant) {
        // Ends come last: whoever else is going to be ended for the same reason is known by then,
        // so that dependents go first.
        let mut ends = BTreeSet::new();
        while let Some((name, is_last)) = self
            .queue
            .pop_first()
            .map(|name| (name, false))
            .or_else(|| ends.pop_first().map(|name| (name, true)))
        {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            match self.decide(service) {
                Decision::Stop(_) if !is_last => {
                    ends.insert(name);
                    continue;
                }
                Decision::Nothing => self.note_held(&name),
                Decision::Wait(unmet) => self.wait_for(now, &name, unmet),
                Decision::Prepare => {
                    let cause = match service.phase {
                        Phase::Waiting => Cause::DependenciesMet,
                        _ => service.want_cause.clone(),
                    };
                    self.prepare_start(now, &name, cause);
                }
                Decision::Gather => self.transition(now, &name, Phase::Gathered, Cause::Gathered),
                Decision::Refuse(why) => {
                    let phase = Phase::Resting(Rest::Failed);
                    self.transition(now, &name, phase, Cause::Quarantined(why));
                }
                Decision::Rest => {
                    self.shortage.forget(&name);
                    let cause = service.want_cause.clone();
                    self.transition(now, &name, Phase::Resting(Rest::Stopped), cause);
                }
                Decision::Stop(manner) => {
                    let cause = service.want_cause.clone();
                    self.command_stop(now, &name, EndWhy::Unwanted, manner, cause);
                }
                Decision::Cancel => self.cancel_leased(&name),
                Decision::Press => self.press(&name),
                Decision::Follow { on, until, again } => self.follow(now, &name, on, until, again),
                Decision::Forget => self.forget(&name),
            }
            if self.refresh_hope(&name) {
                self.touched.insert(name.clone());
                self.queue_who_waits(&name);
            }
        }
    }

    fn decide(&self, service: &Service) -> Decision {
        match (&service.phase, service.want) {
            (Phase::Resting(_), Want::Down(_)) if service.removed => Decision::Forget,
            (Phase::Resting(_), Want::Down(_)) => Decision::Nothing,
            (Phase::Resting(_) | Phase::Waiting | Phase::Gathered, Want::Up)
                if service.is_group() =>
            {
                match (self.first_unmet(service), &service.phase) {
                    (Some(unmet), _) => Decision::Wait(unmet),
                    (None, Phase::Gathered) => Decision::Nothing,
                    (None, _) => Decision::Gather,
                }
            }
            (Phase::Resting(Rest::Done | Rest::Failed), Want::Up) => Decision::Nothing,
            (Phase::Resting(Rest::Stopped) | Phase::Waiting, Want::Up) => {
                match (&service.spec.quarantine, self.first_unmet(service)) {
                    (Some(why), _) => Decision::Refuse(why.clone()),
                    (None, Some(unmet)) => Decision::Wait(unmet),
                    (None, None) => Decision::Prepare,
                }
            }
            // It was a group until its table changed.
            (Phase::Gathered, Want::Up | Want::Down(_))
            | (Phase::Waiting | Phase::Preparing { .. } | Phase::Backoff { .. }, Want::Down(_)) => {
                Decision::Rest
            }
            (Phase::Leased { cancelled: false, .. }, Want::Down(_)) => Decision::Cancel,
            (Phase::Leased { cancelled: true, .. }, Want::Down(_)) => Decision::Nothing,
            (Phase::Preparing { .. } | Phase::Backoff { .. } | Phase::Leased { .. }, Want::Up) => {
                Decision::Nothing
            }
            (
                Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_),
                Want::Down(manner),
            ) => {
                if self.dependents_are_down(service.name(), manner) {
                    Decision::Stop(manner)
                } else {
                    Decision::Nothing
                }
            }
            (Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_), Want::Up) => {
                self.decide_to_follow(service)
            }
            (Phase::Ending(ending), Want::Down(Manner::Kill))
                if ending.pressed != Some(Manner::Kill) =>
            {
                Decision::Press
            }
            (Phase::Ending(_) | Phase::Stuck(_), Want::Up | Want::Down(_)) => Decision::Nothing,
        }
    }

    /// A service that runs follows what it depends on out of its state, if its edge says so. What
    /// never was there is not lost.
    fn decide_to_follow(&self, service: &Service) -> Decision {
        for on in &service.held {
            let Some(edge) = service.spec.depends_on.get(on) else {
                continue;
            };
            if self.services.get(on).is_some_and(|other| other.satisfies(edge.until)) {
                continue;
            }
            let (on, until) = (on.clone(), edge.until);
            match edge.on_stop {
                OnStop::Ignore => {}
                OnStop::Restart => return Decision::Follow { on, until, again: true },
                OnStop::Stop => return Decision::Follow { on, until, again: false },
            }
        }
        Decision::Nothing
    }

    fn follow(
        &mut self,
        now: Instant,
        name: &ServiceName,
        on: ServiceName,
        until: Until,
        again: bool,
    ) {
        let cause = Cause::DependencyLost { on, until };
        if again {
            self.command_stop(now, name, EndWhy::Dependency, Manner::Polite, cause);
        } else {
            self.want_down(name, &cause, Manner::Polite);
        }
    }

    /// Remembers which of its edges with a reaction hold: they can be lost from now on.
    pub(super) fn note_held(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name).filter(|service| service.reacts()) else {
            return;
        };
        if !service.has_process() {
            return;
        }
        let new: Vec<ServiceName> = service
            .spec
            .depends_on
            .iter()
            .filter(|(on, edge)| {
                edge.on_stop != OnStop::Ignore
                    && !service.held.contains(*on)
                    && self.services.get(*on).is_some_and(|other| other.satisfies(edge.until))
            })
            .map(|(on, _)| on.clone())
            .collect();
        if let Some(service) = self.services.get_mut(name).filter(|_| !new.is_empty()) {
            service.held.extend(new);
            self.touched.insert(name.clone());
        }
    }

    pub(super) fn wait_for(&mut self, now: Instant, name: &ServiceName, unmet: Unmet) {
        let cause = match unmet {
            Unmet::Edge(on, until) => Cause::Dependency { on, until },
            Unmet::Order(on) => Cause::Order { on },
            Unmet::SafeMode(why) => Cause::SafeMode(why),
        };
        let Some(service) = self.services.get(name) else {
            return;
        };
        if service.phase != Phase::Waiting || service.cause != cause {
            self.transition(now, name, Phase::Waiting, cause);
        }
    }

    /// Asks the proxy to end a run.
    pub(super) fn command_stop(
        &mut self,
        now: Instant,
        name: &ServiceName,
        why: EndWhy,
        manner: Manner,
        cause: Cause,
    ) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let Some(mut ending) = service.phase.begin_ending(why) else {
            return;
        };
        ending.pressed = Some(manner);
        self.transition(now, name, Phase::Ending(ending), cause);
        self.send_stop(name, manner);
    }

    /// Sends a harder wish for a run that is on its way down.
    fn press(&mut self, name: &ServiceName) {
        if let Some(service) = self.services.get_mut(name)
            && let Phase::Ending(ending) = &mut service.phase
        {
            ending.pressed = Some(Manner::Kill);
            self.send_stop(name, Manner::Kill);
        }
    }

    fn send_stop(&mut self, name: &ServiceName, manner: Manner) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let other = match manner {
            Manner::Polite => None,
            Manner::Kill => Some((Signal::KILL, Duration::ZERO)),
        };
        let expected = service.generation;
        let command = Command::ServiceStop { name: name.clone(), expected, other };
        let id = self.send_for(command, Sent::Unlease { name: name.clone() });
        if let Some(service) = self.services.get_mut(name) {
            service.leasing.end_by(id);
        }
    }

    /// Ends a run so that it is started again; without a run it is simply started.
    pub(super) fn begin_restart(&mut self, now: Instant, name: &ServiceName, cause: Cause) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        // A changed file restarts what an operator started; the operator's word stays the reason
        // why it is wanted.
        if service.want != Want::Up || matches!(cause, Cause::Operator { .. }) {
            service.want_cause = cause.clone();
        }
        service.want = Want::Up;
        service.forget_ends();
        match &service.phase {
            Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_) => {
                self.command_stop(now, name, EndWhy::Restart, Manner::Polite, cause);
            }
            Phase::Resting(_)
            | Phase::Backoff { .. }
            | Phase::Waiting
            | Phase::Gathered
            | Phase::Preparing { .. } => {
                self.transition(now, name, Phase::Resting(Rest::Stopped), cause);
            }
            Phase::Leased { .. } => self.cancel_leased(name),
            // It is on its way down and wanted up: it is started when it is down.
            Phase::Ending(ending) | Phase::Stuck(ending) => {
                let mut ending = ending.clone();
                ending.why = EndWhy::Restart;
                service.phase = match &service.phase {
                    Phase::Stuck(_) => Phase::Stuck(ending),
                    _ => Phase::Ending(ending),
                };
                self.touch(name);
            }
        }
    }

    /// Looks first whether a restart would work; the old process is asked to stop only then.
    pub(super) fn check_restart(&mut self, name: &ServiceName, change: keepd_model::ChangeId) {
        self.prepare_check(Purpose::CheckRestart(name.clone(), change), name);
    }

    fn forget(&mut self, name: &ServiceName) {
        self.shortage.forget(name);
        if let Some(service) = self.services.remove(name)
            && let Some(timer) = service.timer
        {
            self.timers.remove(&(timer, name.clone()));
        }
        self.touched.insert(name.clone());
        self.send(Command::ServiceDelete { name: name.clone() });
    }

    /// Somebody else deleted a service at the proxy: its definition must be sent again.
    pub(super) fn on_deleted(&mut self, name: &ServiceName) {
        if let Some(service) = self.services.get_mut(name) {
            service.known = super::service::Definition::default();
            service.generation = keepd_model::Generation::NONE;
            service.acknowledged = keepd_model::Generation::NONE;
            service.leasing.forget();
            self.touched.insert(name.clone());
        }
    }
}
