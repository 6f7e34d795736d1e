//! What people ask for: start, stop, restart, reload; boot asks the same way.

use std::collections::BTreeSet;

use keepd_model::{ChangeId, Instant, ServiceName};

use super::Manager;
use super::cause::Cause;
use super::changes::Wish;
use super::interface::{Ask, AskId, Goal, Outcome, PrepareFailure, Refusal, Target, Verb, Who};
use super::service::{Manner, Phase, Rest, Service, Want};

impl Manager {
    pub(super) fn on_ask(
        &mut self,
        now: Instant,
        ask: AskId,
        who: Who,
        token: Option<String>,
        request: Ask,
    ) {
        let known = token.as_deref().and_then(|token| self.changes.with_token(token));
        let answer = match known {
            Some(change) => Ok(change),
            None => self.carry_out(now, Some(who), token, request),
        };
        self.answer(ask, answer);
    }

    fn carry_out(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        request: Ask,
    ) -> Result<ChangeId, Refusal> {
        if !self.is_synchronised() {
            return Err(Refusal::NotSynchronised);
        }
        if self.shutdown.is_some() && !matches!(request, Ask::Shutdown { .. }) {
            return Err(Refusal::ShuttingDown);
        }
        match request {
            Ask::Start { names, alone } => {
                self.check_names_in_plan(&names)?;
                self.check_usable(&names)?;
                let goals = self.start(now, &names, alone, Verb::Start);
                Ok(self.open_change(now, Wish { verb: Verb::Start, who, token, goals }))
            }
            Ask::Up { names, enabled_only } => {
                self.check_names_in_plan(&names)?;
                let missing = self.missing(&names, enabled_only);
                self.check_usable(&missing)?;
                let goals = self.start(now, &missing, false, Verb::Start);
                Ok(self.open_change(now, Wish { verb: Verb::Start, who, token, goals }))
            }
            Ask::Stop { names, alone, kill } => {
                self.check_names(&names)?;
                let manner = if kill { Manner::Kill } else { Manner::Polite };
                let goals = self.stop(&names, alone, manner);
                Ok(self.open_change(now, Wish { verb: Verb::Stop, who, token, goals }))
            }
            Ask::Restart { names } => {
                self.check_names_in_plan(&names)?;
                self.check_usable(&names)?;
                Ok(self.restart(now, who, token, &names))
            }
            Ask::Reload { names } => {
                self.check_names_in_plan(&names)?;
                self.reload(now, who, token, &names)
            }
            Ask::Signal { names, signal, scope } => {
                self.check_names(&names)?;
                self.signal(now, who, token, &names, (signal, scope))
            }
            Ask::Apply { plan, restart } => Ok(self.apply(now, who, token, plan, restart)),
            Ask::Shutdown { now: at_once } => Ok(self.ask_shutdown(now, who, token, at_once)),
        }
    }

    fn check_names(&self, names: &[ServiceName]) -> Result<(), Refusal> {
        match names.iter().find(|name| !self.services.contains_key(*name)) {
            Some(name) => Err(Refusal::NoSuchService(name.clone())),
            None => Ok(()),
        }
    }

    /// What is gone from the configuration can be stopped harder, but neither started nor reloaded.
    fn check_names_in_plan(&self, names: &[ServiceName]) -> Result<(), Refusal> {
        match names.iter().find(|name| !self.plan.services.contains_key(*name)) {
            Some(name) => Err(Refusal::NoSuchService(name.clone())),
            None => Ok(()),
        }
    }

    /// What is quarantined is not started; what it was asked for says why.
    fn check_usable(&self, names: &[ServiceName]) -> Result<(), Refusal> {
        let why = |name: &ServiceName| self.plan.services.get(name)?.quarantine.clone();
        match names.iter().find_map(|name| Some((name.clone(), why(name)?))) {
            Some((name, why)) => Err(Refusal::Quarantined(name, why)),
            None => Ok(()),
        }
    }

    /// Opens the first change: everything that is enabled, with what it needs.
    pub(super) fn open_boot(&mut self, now: Instant) {
        let wanted = self.services.values().filter(|service| service.want == Want::Up);
        let goals = wanted
            .map(|service| Goal {
                name: service.name().clone(),
                target: Target::Up,
                along: false,
                outcome: None,
            })
            .collect();
        self.open_change(now, Wish { verb: Verb::Boot, who: None, token: None, goals });
    }

    /// Returns which services shall run of those that nobody knows yet.
    pub(super) fn wanted_at_boot(&self) -> BTreeSet<ServiceName> {
        if self.shutdown.is_some() {
            return BTreeSet::new();
        }
        let roots: Vec<ServiceName> = match &self.settings.only {
            Some(only) => only.clone(),
            None => self
                .plan
                .services
                .values()
                .filter(|spec| spec.enabled)
                .map(|spec| spec.name.clone())
                .collect(),
        };
        self.with_dependencies(&roots)
    }

    /// Returns those that should be there and are not. What is done is not done again.
    fn missing(&self, names: &[ServiceName], enabled_only: bool) -> Vec<ServiceName> {
        let is_missing = |service: &Service| match service.phase {
            Phase::Running(_) | Phase::Gathered => service.want != Want::Up,
            Phase::Resting(Rest::Done) => false,
            Phase::Resting(Rest::Stopped | Rest::Failed)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => true,
        };
        let is_meant = |service: &Service| {
            !enabled_only || (service.spec.enabled && service.spec.quarantine.is_none())
        };
        let services = names.iter().filter_map(|name| self.services.get(name));
        let missing = services.filter(|service| is_meant(service) && is_missing(service));
        missing.map(|service| service.name().clone()).collect()
    }

    /// Wants these up; returns the goals.
    fn start(&mut self, now: Instant, names: &[ServiceName], alone: bool, verb: Verb) -> Vec<Goal> {
        let all =
            if alone { names.iter().cloned().collect() } else { self.with_dependencies(names) };
        let cause = Cause::Operator { verb, change: self.next_change() };
        let mut goals = Vec::new();
        for name in all {
            let along = !names.contains(&name);
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            // What is needed and has done its work is not done again.
            if along && service.is_there() && service.want == Want::Up {
                continue;
            }
            self.want_up(now, &name, &cause);
            goals.push(Goal { name, target: Target::Up, along, outcome: None });
        }
        goals
    }

    /// Wants a service up and forgets why it was not, so that it is tried at once.
    pub(super) fn want_up(&mut self, now: Instant, name: &ServiceName, cause: &Cause) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.want = Want::Up;
        service.want_cause = cause.clone();
        match service.phase {
            Phase::Leased { until: Some(_), .. } => {
                service.forget_ends();
                self.cancel_leased(name);
            }
            Phase::Resting(Rest::Done | Rest::Failed) | Phase::Backoff { .. } => {
                service.forget_ends();
                self.transition(now, name, Phase::Resting(Rest::Stopped), cause.clone());
            }
            Phase::Resting(Rest::Stopped)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Leased { until: None, .. }
            | Phase::Ending(_)
            | Phase::Stuck(_) => self.touch(name),
        }
    }

    /// Wants these down, with everything that needs them; returns the goals.
    fn stop(&mut self, names: &[ServiceName], alone: bool, manner: Manner) -> Vec<Goal> {
        let named = self.with_members(names);
        let all = if alone { named.clone() } else { self.with_dependents(&named) };
        let cause = Cause::Operator { verb: Verb::Stop, change: self.next_change() };
        let mut goals = Vec::new();
        for name in all {
            let along = !named.contains(&name);
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let idle = !service.has_process() && matches!(service.phase, Phase::Resting(_));
            // A dependent that does not run has nothing to be stopped for.
            if along && idle {
                continue;
            }
            self.want_down(&name, &cause, manner);
            goals.push(Goal { name, target: Target::Down, along, outcome: None });
        }
        goals
    }

    pub(super) fn want_down(&mut self, name: &ServiceName, cause: &Cause, manner: Manner) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let harder = match service.want {
            Want::Up => manner,
            Want::Down(before) => before.max(manner),
        };
        service.want = Want::Down(harder);
        service.want_cause = cause.clone();
        if service.phase == Phase::Resting(Rest::Stopped) {
            service.cause = cause.clone();
        }
        self.touch(name);
    }

    fn restart(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        names: &[ServiceName],
    ) -> ChangeId {
        let change = self.next_change();
        let cause = Cause::Operator { verb: Verb::Restart, change };
        let mut goals = Vec::new();
        for name in self.members(names) {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let target = Target::UpAfter(service.generation);
            match (&service.phase, service.want) {
                (Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_), Want::Up) => {
                    self.check_restart(&name, change);
                }
                // Nothing runs that has to be kept, or it is about to be stopped anyway.
                (
                    Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_),
                    Want::Down(_),
                )
                | (
                    Phase::Resting(_)
                    | Phase::Waiting
                    | Phase::Preparing { .. }
                    | Phase::Backoff { .. }
                    | Phase::Leased { .. }
                    | Phase::Gathered
                    | Phase::Ending(_)
                    | Phase::Stuck(_),
                    Want::Up | Want::Down(_),
                ) => self.begin_restart(now, &name, cause.clone()),
            }
            goals.push(Goal { name, target, along: false, outcome: None });
        }
        self.open_change(now, Wish { verb: Verb::Restart, who, token, goals })
    }

    /// The restart would work: now the old process may be asked to stop.
    pub(super) fn restart_checked(&mut self, now: Instant, name: &ServiceName, change: ChangeId) {
        let cause = self.restart_cause(change);
        // Whoever was asked to stop, or was restarted, in the meantime is left alone.
        if self.is_before_restart(name, change) {
            self.begin_restart(now, name, cause);
        } else {
            self.restart_rested(now, name, change);
        }
    }

    /// Returns why a change restarts a service.
    pub(super) fn restart_cause(&self, change: ChangeId) -> Cause {
        match self.change(change).map(|change| change.verb) {
            Some(Verb::Apply) => Cause::Applied { change, keys: Vec::new() },
            Some(
                Verb::Boot
                | Verb::Start
                | Verb::Stop
                | Verb::Restart
                | Verb::Reload
                | Verb::Signal
                | Verb::Shutdown,
            )
            | None => Cause::Operator { verb: Verb::Restart, change },
        }
    }

    /// The restart would not work: what runs stays as it is.
    pub(super) fn restart_refused(
        &mut self,
        now: Instant,
        name: &ServiceName,
        change: ChangeId,
        failure: &PrepareFailure,
    ) {
        let text = format!("{}; it runs on as before", failure.text);
        self.settle_goal(now, name, change, Some(&text));
    }

    fn ask_shutdown(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        at_once: bool,
    ) -> ChangeId {
        let running =
            self.services.values().filter(|service| !matches!(service.phase, Phase::Resting(_)));
        let goals = running
            .map(|service| Goal {
                name: service.name().clone(),
                target: Target::Down,
                along: false,
                outcome: None,
            })
            .collect();
        let change = self.open_change(now, Wish { verb: Verb::Shutdown, who, token, goals });
        let cause = super::cause::ShutdownCause::Operator(change);
        self.begin_shutdown(now, cause, at_once);
        change
    }
}

impl Goal {
    /// Reports whether it was reached; `None` while it is open.
    pub fn is_reached(&self) -> Option<bool> {
        self.outcome.as_ref().map(|outcome| match outcome {
            Outcome::Reached(_) => true,
            Outcome::Missed(_) => false,
        })
    }
}
