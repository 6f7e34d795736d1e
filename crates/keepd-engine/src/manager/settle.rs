//! What follows from what is: one decision a service, taken from its want, its phase and its
//! neighbours.

use keepd_model::protocol::Command;
use keepd_model::{Instant, ServiceName, Signal, Until};
use std::time::Duration;

use super::cause::Cause;
use super::service::{EndWhy, Manner, Phase, Rest, Service, Want};
use super::{Manager, Purpose, Sent};

/// What must be done about a service.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing.
    Nothing,
    /// Begin to wait for what it needs.
    Wait(ServiceName, Until),
    /// Find out what its start needs.
    Prepare,
    /// Give up a start that has no process yet.
    Rest,
    /// End its run.
    Stop(Manner),
    /// End its run harder than it was asked before.
    Press,
    /// Forget it.
    Forget,
}

impl Manager {
    /// Decides and acts until nothing follows any more.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(name) = self.queue.pop_first() {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            match self.decide(service) {
                Decision::Nothing => {}
                Decision::Wait(on, until) => {
                    let cause = Cause::Dependency { on, until };
                    if service.phase != Phase::Waiting || service.cause != cause {
                        self.transition(now, &name, Phase::Waiting, cause);
                    }
                }
                Decision::Prepare => {
                    let cause = match service.phase {
                        Phase::Waiting => Cause::DependenciesMet,
                        _ => service.want_cause.clone(),
                    };
                    self.prepare_start(now, &name, cause);
                }
                Decision::Rest => {
                    let cause = service.want_cause.clone();
                    self.transition(now, &name, Phase::Resting(Rest::Stopped), cause);
                }
                Decision::Stop(manner) => {
                    let cause = service.want_cause.clone();
                    self.command_stop(now, &name, EndWhy::Unwanted, manner, cause);
                }
                Decision::Press => self.press(&name),
                Decision::Forget => self.forget(&name),
            }
        }
    }

    fn decide(&self, service: &Service) -> Decision {
        match (&service.phase, service.want) {
            (Phase::Resting(_), Want::Down(_)) if service.removed => Decision::Forget,
            (Phase::Resting(_), Want::Down(_)) => Decision::Nothing,
            (Phase::Resting(Rest::Done | Rest::Failed), Want::Up) => Decision::Nothing,
            (Phase::Resting(Rest::Stopped) | Phase::Waiting, Want::Up) => {
                match self.first_unmet(service) {
                    Some((on, until)) => Decision::Wait(on, until),
                    None => Decision::Prepare,
                }
            }
            (Phase::Waiting | Phase::Preparing { .. } | Phase::Backoff { .. }, Want::Down(_)) => {
                Decision::Rest
            }
            (Phase::Preparing { .. } | Phase::Backoff { .. }, Want::Up) => Decision::Nothing,
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
                Decision::Nothing
            }
            (Phase::Ending(ending), Want::Down(Manner::Kill))
                if ending.pressed != Some(Manner::Kill) =>
            {
                Decision::Press
            }
            (Phase::Ending(_) | Phase::Stuck(_), Want::Up | Want::Down(_)) => Decision::Nothing,
        }
    }

    /// Returns the first edge that does not hold yet.
    fn first_unmet(&self, service: &Service) -> Option<(ServiceName, Until)> {
        service.spec.depends_on.iter().find_map(|(on, edge)| {
            let holds = self.services.get(on).is_some_and(|other| other.satisfies(edge.until));
            (!holds).then(|| (on.clone(), edge.until))
        })
    }

    /// Reports whether nobody that is also going down still needs it. Who is killed does not wait.
    fn dependents_are_down(&self, name: &ServiceName, manner: Manner) -> bool {
        match manner {
            Manner::Kill => true,
            Manner::Polite => self.dependents.get(name).into_iter().flatten().all(|dependent| {
                self.services
                    .get(dependent)
                    .is_none_or(|other| !other.has_process() || other.want == Want::Up)
            }),
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
        self.send_for(Command::ServiceStop { name: name.clone(), expected, other }, Sent::Run);
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
        service.end_count = 0;
        match &service.phase {
            Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_) => {
                self.command_stop(now, name, EndWhy::Restart, Manner::Polite, cause);
            }
            Phase::Resting(_)
            | Phase::Backoff { .. }
            | Phase::Waiting
            | Phase::Preparing { .. } => {
                self.transition(now, name, Phase::Resting(Rest::Stopped), cause);
            }
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
            self.touched.insert(name.clone());
        }
    }

    /// Derives who depends on whom from the plan.
    pub(super) fn index_dependents(&mut self) {
        self.dependents.clear();
        // Services that are going keep their edges until they are down.
        let going = self
            .services
            .values()
            .filter(|service| !self.plan.services.contains_key(service.name()))
            .map(|service| (service.name(), &service.spec));
        for (name, spec) in self.plan.services.iter().chain(going) {
            for on in spec.depends_on.keys() {
                self.dependents.entry(on.clone()).or_default().insert(name.clone());
            }
        }
    }
}
