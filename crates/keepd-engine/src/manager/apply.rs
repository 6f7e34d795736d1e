//! Making reality match another plan: only what changed is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use keepd_model::{Apply, ChangeId, Instant, Plan, ServiceName, ServiceSpec};

use super::Manager;
use super::cause::Cause;
use super::changes::Wish;
use super::interface::{Action, Goal, Step, Target, Verb, Who};
use super::service::{Manner, Phase, Rest, Service, Want, fingerprint};

impl Manager {
    /// Returns the plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns what an apply of this plan would do, by name. Services that stay as they are are
    /// left out.
    pub fn preview(&self, new: &Plan) -> Vec<Step> {
        let mut steps = Vec::new();
        let names: BTreeSet<&ServiceName> =
            self.plan.services.keys().chain(new.services.keys()).collect();
        for name in names {
            let (action, keys) = match (self.plan.services.get(name), new.services.get(name)) {
                (None, Some(spec)) if spec.quarantine.is_some() => (Action::Quarantine, Vec::new()),
                (None, Some(spec)) if spec.enabled => (Action::Start, Vec::new()),
                (None, Some(_)) => (Action::Add, Vec::new()),
                (Some(_), None) => (Action::Remove, Vec::new()),
                (None, None) => continue,
                (Some(old), Some(spec)) => {
                    let differences = old.differences(spec);
                    let Some(action) = self.action_for(spec, &differences) else {
                        continue;
                    };
                    // What was quarantined has nothing that its new keys could be compared with.
                    let keys = match old.quarantine {
                        Some(_) => Vec::new(),
                        None => differences.into_iter().map(|difference| difference.key).collect(),
                    };
                    (action, keys)
                }
            };
            steps.push(Step { name: name.clone(), action, keys });
        }
        steps
    }

    fn action_for(
        &self,
        new: &ServiceSpec,
        differences: &[keepd_model::Difference],
    ) -> Option<Action> {
        let any = |apply| differences.iter().any(|difference| difference.apply == apply);
        let service = self.services.get(&new.name)?;
        // A stopped service has nothing to restart: the new values hold from its next start on.
        let runs_or_ran = service.want == Want::Up;
        Some(match () {
            () if differences.is_empty() => return None,
            // Its new table cannot be used: what runs goes on with the old one.
            () if new.quarantine.is_some() => Action::NextStart,
            () if matches!(service.cause, Cause::Quarantined(_)) && runs_or_ran => {
                if new.enabled {
                    Action::Start
                } else {
                    Action::NextStart
                }
            }
            () if any(Apply::Restart) && runs_or_ran => Action::Restart,
            () if any(Apply::Restart) || any(Apply::NextStart) => Action::NextStart,
            () => Action::Live,
        })
    }

    pub(super) fn apply(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        new: Plan,
        restart: bool,
    ) -> ChangeId {
        let change = self.next_change();
        let steps = self.preview(&new);
        let old = std::mem::replace(&mut self.plan, new);
        let mut goals = Vec::new();
        let specs: Vec<_> = self.plan.services.values().cloned().collect();
        for spec in specs {
            match self.services.get_mut(&spec.name) {
                Some(service) => {
                    service.removed = false;
                    service.spec = Arc::clone(&spec);
                    self.set_timer(&spec.name);
                }
                None => {
                    let name = spec.name.clone();
                    self.services.insert(name, Box::new(Service::new(Arc::clone(&spec), now)));
                }
            }
        }
        self.index_order();
        for step in steps {
            let cause = Cause::Applied { change, keys: step.keys.clone() };
            let phase = self.services.get(&step.name).map(|s| s.phase.clone());
            if let Some(goal) = self.apply_step(now, &step, &old, &cause, change, restart) {
                goals.push(goal);
            }
            self.prepare_anew(now, &step.name, phase.as_ref());
        }
        self.start_what_is_needed(now, &mut goals, change);
        // An edge that is gone frees its other end, which is no neighbour of anything that moves.
        self.queue.extend(self.services.keys().cloned());
        self.open_change(now, Wish { verb: Verb::Apply, who, token, goals })
    }

    /// A start that is being prepared is prepared again: what is found out belongs to the old
    /// values.
    fn prepare_anew(&mut self, now: Instant, name: &ServiceName, before: Option<&Phase>) {
        if let Some(service) = self.services.get(name)
            && let Phase::Preparing { .. } = service.phase
            && before == Some(&service.phase)
        {
            let cause = service.cause.clone();
            self.prepare_start(now, name, cause);
        }
    }

    fn apply_step(
        &mut self,
        now: Instant,
        step: &Step,
        old: &Plan,
        cause: &Cause,
        change: ChangeId,
        restart: bool,
    ) -> Option<Goal> {
        let name = &step.name;
        let goal = |target| Some(Goal { name: name.clone(), target, along: false, outcome: None });
        match step.action {
            Action::Start => {
                // What was quarantined comes anew: nobody stopped it.
                if let Some(service) = self.services.get_mut(name)
                    && matches!(service.cause, Cause::Quarantined(_))
                {
                    service.phase = Phase::Resting(Rest::Stopped);
                }
                self.want_up(now, name, cause);
                goal(Target::Up)
            }
            Action::Add => {
                self.touch(name);
                None
            }
            // It fails at once, as the asker knows; that is no goal that could be missed.
            Action::Quarantine => {
                if self.plan.services.get(name).is_some_and(|spec| spec.enabled) {
                    self.want_up(now, name, cause);
                }
                self.touch(name);
                None
            }
            Action::Remove => {
                if let Some(service) = self.services.get_mut(name) {
                    service.removed = true;
                }
                self.want_down(name, cause, Manner::Polite);
                goal(Target::Gone)
            }
            Action::Restart => {
                self.refresh_attributes(now, name);
                // Who is not enabled any more is stopped, not restarted.
                let followed = self.follow_enabled(now, name, old, cause);
                followed.or_else(|| self.apply_restart(now, name, cause, change, restart))
            }
            Action::Live | Action::NextStart => {
                if let (Action::NextStart, Some(service)) =
                    (step.action, self.services.get_mut(name))
                {
                    service.needs_new_start = true;
                }
                self.refresh_attributes(now, name);
                self.follow_enabled(now, name, old, cause)
            }
        }
    }

    fn apply_restart(
        &mut self,
        now: Instant,
        name: &ServiceName,
        cause: &Cause,
        change: ChangeId,
        restart: bool,
    ) -> Option<Goal> {
        let service = self.services.get_mut(name)?;
        let name = name.clone();
        if !restart {
            service.kept = Some(fingerprint(&service.spec));
            self.touch(&name);
            return None;
        }
        // A group has no runs that could be told apart.
        let target = match service.is_group() {
            true => Target::Up,
            false => Target::UpAfter(service.generation),
        };
        match service.phase {
            // What becomes a group has nothing to be looked at first.
            Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_)
                if service.spec.command.is_some() =>
            {
                self.check_restart(&name, change);
            }
            // Nobody runs: it begins again with the new values, a oneshot that was done too.
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Backoff { .. }
            | Phase::Leased { .. }
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_) => self.begin_restart(now, &name, cause.clone()),
        }
        Some(Goal { name, target, along: false, outcome: None })
    }

    /// A service that only the configuration wanted follows `enabled`; an operator's word stands.
    fn follow_enabled(
        &mut self,
        now: Instant,
        name: &ServiceName,
        old: &Plan,
        cause: &Cause,
    ) -> Option<Goal> {
        let service = self.services.get(name)?;
        let before = old.services.get(name)?.enabled;
        let by_operator = matches!(service.want_cause, Cause::Operator { .. });
        let name = name.clone();
        match (before, service.spec.enabled) {
            (false, true) if !by_operator && service.want != Want::Up => {
                self.want_up(now, &name, cause);
                Some(Goal { name, target: Target::Up, along: false, outcome: None })
            }
            (true, false) if !by_operator && service.want == Want::Up => {
                self.want_down(&name, cause, Manner::Polite);
                Some(Goal { name, target: Target::Down, along: false, outcome: None })
            }
            (false | true, false | true) => {
                self.touch(&name);
                None
            }
        }
    }

    /// What is wanted up needs what it depends on, also by edges that are new.
    fn start_what_is_needed(&mut self, now: Instant, goals: &mut Vec<Goal>, change: ChangeId) {
        let up: Vec<ServiceName> = self
            .services
            .values()
            .filter(|service| service.want == Want::Up && !service.removed)
            .filter(|service| {
                matches!(service.phase, Phase::Resting(Rest::Stopped) | Phase::Waiting)
            })
            .map(|service| service.name().clone())
            .collect();
        for name in self.with_dependencies(&up) {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            let stopped_by_operator = matches!(service.want_cause, Cause::Operator { .. });
            if service.want != Want::Up && !stopped_by_operator {
                let cause = Cause::Applied { change, keys: Vec::new() };
                self.want_up(now, &name, &cause);
                goals.push(Goal { name, target: Target::Up, along: true, outcome: None });
            }
        }
    }
}
