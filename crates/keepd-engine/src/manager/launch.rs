//! From a wish to `service.start`: preparation, definition, command.

use std::sync::Arc;

use keepd_model::protocol::{Attributes, Command};
use keepd_model::{Instant, ServiceName};

use super::cause::Cause;
use super::interface::{Launch, Output, Preparation, PrepareFailure, Ticket};
use super::readiness::Questions;
use super::record::{RECORD_KEY, Record};
use super::service::{Phase, attributes, fingerprint, with_stop};
use super::{Manager, Purpose, Sent};

impl Manager {
    /// Asks the shell what a start needs; everything fresh is read now.
    pub(super) fn prepare_start(&mut self, now: Instant, name: &ServiceName, cause: Cause) {
        let Some(spec) = self.services.get(name).map(|service| Arc::clone(&service.spec)) else {
            return;
        };
        // What it waited for is not why it is started.
        if let Some(service) = self.services.get_mut(name) {
            service.start_cause = match &cause {
                Cause::DependenciesMet => service.want_cause.clone(),
                cause => cause.clone(),
            };
        }
        let ticket = self.ticket(Purpose::Start(name.clone()));
        self.transition(now, name, Phase::Preparing { ticket }, cause);
        let preparation = Preparation::Start;
        self.outputs.push_back(Output::Prepare { ticket, spec, preparation });
    }

    /// Asks the shell whether a restart would work.
    pub(super) fn prepare_check(&mut self, purpose: Purpose, name: &ServiceName) {
        let Some(spec) = self.services.get(name).map(|service| Arc::clone(&service.spec)) else {
            return;
        };
        let ticket = self.ticket(purpose);
        let preparation = Preparation::Check;
        self.outputs.push_back(Output::Prepare { ticket, spec, preparation });
    }

    pub(super) fn on_prepared(
        &mut self,
        now: Instant,
        ticket: Ticket,
        outcome: Result<Box<Launch>, PrepareFailure>,
    ) {
        let Some(purpose) = self.tickets.remove(&ticket) else {
            return;
        };
        if !self.is_synchronised() {
            return; // A dump is coming in: what follows from it asks again.
        }
        match (purpose, outcome) {
            (Purpose::Start(name), outcome) => {
                let current = self
                    .services
                    .get(&name)
                    .is_some_and(|service| service.phase == Phase::Preparing { ticket });
                // Otherwise the wish changed meanwhile: settle went on without this answer.
                match outcome {
                    Ok(launch) if current => self.start_prepared(now, &name, *launch),
                    Err(failure) if current => self.on_cannot_start(now, &name, failure),
                    Ok(_) | Err(_) => {}
                }
            }
            (Purpose::CheckRestart(name, change), Ok(_)) => {
                self.restart_checked(now, &name, change);
            }
            (Purpose::CheckRestart(name, change), Err(failure)) => {
                self.restart_refused(now, &name, change, &failure);
            }
            (Purpose::Reload(name, generation, change), outcome) => {
                self.run_reload(now, &name, generation, change, outcome);
            }
            (Purpose::Questions(name, generation), outcome) => {
                let questions = match outcome {
                    Ok(launch) => Questions::Known(launch.questions),
                    Err(failure) => Questions::Unknown(failure.text),
                };
                self.resume_questions(now, &name, generation, questions);
            }
        }
    }

    /// Everything is known that the start needs. Finding it out took time: what the service depends
    /// on may have gone meanwhile.
    fn start_prepared(&mut self, now: Instant, name: &ServiceName, launch: Launch) {
        let unmet = self.services.get(name).and_then(|service| {
            let is_again = matches!(service.cause, Cause::RestartPolicy | Cause::Cancelled);
            let looks = !is_again || service.reacts() || self.abilities.safe_mode.is_some();
            if looks { self.first_unmet(service) } else { None }
        });
        match unmet {
            Some(unmet) => self.wait_for(now, name, unmet),
            None => self.command_start(now, name, launch),
        }
    }

    /// Sends what differs from what the proxy holds, writes the record, and commands the start.
    fn command_start(&mut self, now: Instant, name: &ServiceName, launch: Launch) {
        let Some(spec) = self.services.get(name).map(|service| Arc::clone(&service.spec)) else {
            return;
        };
        let Launch {
            arguments,
            environment,
            directory,
            uid,
            gid,
            groups,
            log,
            questions,
            reload: _,
        } = launch;
        let mut attributes = Arc::new(attributes(&spec, directory, uid, gid, groups));
        self.share(&mut attributes);
        let tags: Vec<Vec<u8>> = spec.tags.iter().map(|tag| tag.clone().into_bytes()).collect();
        let mut commands = Vec::new();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let known = &mut service.known;
        if known.note_arguments(&arguments) {
            commands.push(Command::ServiceArgs { name: name.clone(), arguments });
        }
        if known.attributes.as_ref() != Some(&attributes) {
            known.attributes = Some(Arc::clone(&attributes));
            commands.push(Command::ServiceSet { name: name.clone(), attributes });
        }
        if known.note_environment(&environment) {
            commands.push(Command::ServiceEnv { name: name.clone(), environment });
        }
        if known.note_log(&log) {
            commands.push(Command::ServiceLog { name: name.clone(), log });
        }
        if !(known.tags.is_none() && tags.is_empty()) && known.note_tags(&tags) {
            commands.push(Command::ServiceTags { name: name.clone(), tags });
        }
        let is_changed = !commands.is_empty();
        for command in commands {
            self.send_for(command, Sent::Run);
        }
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if is_changed {
            service.leasing.forget();
        }
        service.needs_new_start = false;
        let launched = service.launched;
        let expected = service.generation;
        let generation = expected.next();
        service.generation = generation;
        service.ready_after = None;
        service.status_text = None;
        service.launched = Some(fingerprint(&spec));
        service.held.clear();
        let cause = service.cause.clone();
        let deadline = spec.ready.timeout.map(|timeout| now.saturating_add(timeout));
        let questions = Some(questions);
        let phase = Phase::Commanded { generation, pid: None, questions, deadline };
        self.transition(now, name, phase, cause);
        self.note_held(name);
        // The record goes first: were we lost in between, a successor finds a record of a
        // generation that the proxy does not know, and begins again.
        self.write_record(name);
        let start =
            Command::ServiceStart { name: name.clone(), expected: Some(expected), at: None };
        self.send_for(start, Sent::Start { name: name.clone(), generation, launched });
    }

    /// Replaces attributes by those that were seen last, if they are the same: one folder and one
    /// user are those of many services.
    pub(super) fn share(&mut self, attributes: &mut Arc<Attributes>) {
        if self.attributes_seen == *attributes {
            attributes.clone_from(&self.attributes_seen);
        } else {
            self.attributes_seen.clone_from(attributes);
        }
    }

    /// Sends attributes that take effect at once, if the proxy holds others.
    pub(super) fn refresh_attributes(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let (phase, cause) = (service.phase.clone(), service.cause.clone());
        let Some(held) = &mut service.known.attributes else {
            return;
        };
        let attributes = Arc::new(with_stop(Attributes::clone(held), &service.spec));
        if *held != attributes {
            *held = Arc::clone(&attributes);
            // Other attributes end the lease, and a start that it made pending.
            if let Phase::Leased { until: Some(until), .. } = phase {
                self.transition(now, name, Phase::Backoff { until }, cause);
            }
            let command = Command::ServiceSet { name: name.clone(), attributes };
            let id = self.send_for(command, Sent::Unlease { name: name.clone() });
            if let Some(service) = self.services.get_mut(name) {
                service.leasing.end_by(id);
            }
        }
    }

    /// Writes the record of every service that was touched in this turn.
    pub(super) fn write_records(&mut self) {
        let names: Vec<ServiceName> = self.touched.iter().cloned().collect();
        for name in names {
            self.write_record(&name);
        }
    }

    fn write_record(&mut self, name: &ServiceName) {
        self.write_history(name);
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let value = Record::of(service).encode();
        if !service.known.note_record(&value) {
            return;
        }
        let key = RECORD_KEY.to_owned();
        self.send(Command::ServiceNote { name: name.clone(), key, value });
    }
}
