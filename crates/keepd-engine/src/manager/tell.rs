//! What a running service is told: a signal, or to read its files again.

use std::sync::Arc;

use keepd_model::protocol::{Command, Scope};
use keepd_model::{ChangeId, Generation, Instant, Reload, ServiceName, Signal};

use super::changes::Wish;
use super::interface::{
    Goal, Launch, Output, Preparation, PrepareFailure, Refusal, Target, Verb, Who,
};
use super::service::Phase;
use super::{Manager, Purpose, Sent};

impl Manager {
    /// Asks services to read their files again. Of a group those are asked that can.
    pub(super) fn reload(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        names: &[ServiceName],
    ) -> Result<ChangeId, Refusal> {
        let mut asked = Vec::new();
        let mut refusal = None;
        for name in self.members(names) {
            match (self.way_to_reload(&name), names.contains(&name)) {
                (Ok((generation, reload)), _) => asked.push((name, generation, reload)),
                (Err(why), true) => return Err(why),
                (Err(why), false) => refusal = refusal.or(Some(why)),
            }
        }
        if let (true, Some(refusal)) = (asked.is_empty(), refusal) {
            return Err(refusal);
        }
        let goals = asked.iter().map(|(name, ..)| goal(name, Target::Reloaded)).collect();
        let change = self.open_change(now, Wish { verb: Verb::Reload, who, token, goals });
        for (name, generation, reload) in asked {
            self.listen_for_reload(now, &name, change);
            match reload {
                Reload::Signal(signal) => {
                    let (expected, scope) = (Some(generation), Scope::Main);
                    let sent = Sent::Told { name: name.clone(), change };
                    let command =
                        Command::ServiceSignal { name, expected, signal: signal.into(), scope };
                    self.send_for(command, sent);
                }
                Reload::Command(_) => {
                    self.prepare_reload(&name, generation, change);
                }
            }
        }
        Ok(change)
    }

    /// Has the reload command filled in for the process that runs now.
    fn prepare_reload(&mut self, name: &ServiceName, generation: Generation, change: ChangeId) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let (spec, pid) = (Arc::clone(&service.spec), service.pid());
        let ticket = self.ticket(Purpose::Reload(name.clone(), generation, change));
        let preparation = pid.map_or(Preparation::Check, Preparation::Reload);
        self.outputs.push_back(Output::Prepare { ticket, spec, preparation });
    }

    fn way_to_reload(&self, name: &ServiceName) -> Result<(Generation, Reload), Refusal> {
        let Some(service) = self.services.get(name) else {
            return Err(Refusal::NoSuchService(name.clone()));
        };
        match (&service.spec.reload, &service.phase) {
            (None, _) => Err(Refusal::CannotReload(name.clone())),
            (Some(reload), Phase::Starting(_) | Phase::Running(_)) => {
                Ok((service.generation, reload.clone()))
            }
            (Some(_), _) => Err(Refusal::NotRunning(name.clone())),
        }
    }

    /// The reload command is filled in: runs it, if that generation still does.
    pub(super) fn run_reload(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        change: ChangeId,
        outcome: Result<Box<Launch>, PrepareFailure>,
    ) {
        let deadline = match self.way_to_reload(name) {
            Ok((present, _)) if present == generation => {
                self.services.get(name).map(|service| service.reload_timeout())
            }
            Ok(_) | Err(_) => None,
        };
        let deadline = deadline.ok_or_else(|| "it ended meanwhile".to_owned());
        let command = outcome.map_err(|failure| failure.text).and_then(|launch| {
            launch.reload.ok_or_else(|| "it has no reload_command any more".to_owned())
        });
        match (deadline, command) {
            (Ok(deadline), Ok(arguments)) => {
                let sent = Sent::Told { name: name.clone(), change };
                let name = name.clone();
                self.send_for(Command::ServiceExec { name, deadline, arguments }, sent);
            }
            (Err(why), _) | (_, Err(why)) => self.settle_goal(now, name, change, Some(&why)),
        }
    }

    /// Sends a signal. Of a group it goes to those who run.
    pub(super) fn signal(
        &mut self,
        now: Instant,
        who: Option<Who>,
        token: Option<String>,
        names: &[ServiceName],
        (signal, scope): (Signal, Scope),
    ) -> Result<ChangeId, Refusal> {
        let mut told = Vec::new();
        let mut resting = None;
        for name in self.members(names) {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            match (service.pid(), names.contains(&name)) {
                (Some(_), _) => told.push((name, service.generation)),
                (None, true) => return Err(Refusal::NotRunning(name)),
                (None, false) => resting = resting.or(Some(name)),
            }
        }
        if let (true, Some(name)) = (told.is_empty(), resting) {
            return Err(Refusal::NotRunning(name));
        }
        let goals = told.iter().map(|(name, _)| goal(name, Target::Signalled)).collect();
        let change = self.open_change(now, Wish { verb: Verb::Signal, who, token, goals });
        for (name, generation) in told {
            let sent = Sent::Told { name: name.clone(), change };
            let expected = Some(generation);
            self.send_for(
                Command::ServiceSignal { name, expected, signal: signal.into(), scope },
                sent,
            );
        }
        Ok(change)
    }
}

fn goal(name: &ServiceName, target: Target) -> Goal {
    Goal { name: name.clone(), target, along: false, outcome: None }
}
