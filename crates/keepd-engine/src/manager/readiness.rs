//! From a running program to `ready`.

use std::time::Duration;

use keepd_model::protocol::Command;
use keepd_model::{Generation, Instant, Kind, Pid, ServiceName, ServiceSpec};

use super::cause::Cause;
use super::interface::{Output, Question, Said};
use super::service::{
    Asked, EndWhy, Manner, Phase, Progress, Readiness, Refill, Running, Starting, Want,
};
use super::{Manager, PROBE_TIMEOUT, Purpose, Sent};

/// The readiness questions of a run that a predecessor started.
pub(super) enum Questions {
    /// Filled in anew.
    Known(Vec<Question>),
    /// They cannot be filled in any more; why.
    Unknown(String),
}

impl Manager {
    /// The program of a commanded generation runs. Without questions a predecessor commanded it.
    pub(super) fn begin_starting(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        pid: Pid,
        started: Instant,
        questions: Option<Vec<Question>>,
    ) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let ready = &service.spec.ready;
        let unknown = questions.is_none() && !ready.probes.is_empty();
        let readiness = Readiness {
            notify_missing: ready.notify && service.notified != generation,
            fd_missing: ready.fd.is_some() && service.notified_fd != generation,
            questions: (!unknown).then(|| asked(questions.unwrap_or_default(), started)),
            refill: None,
            settled: settled(&service.spec, started),
            deadline: ready.timeout.map(|timeout| started.saturating_add(timeout)),
        };
        let starting = Box::new(Starting { generation, pid, started, readiness });
        self.transition(now, name, Phase::Starting(starting), Cause::Executed);
        if unknown {
            self.prepare_check(Purpose::Questions(name.clone(), generation), name);
        }
        self.advance_readiness(now, name);
    }

    /// A program was found running that was not known to be ready.
    pub(super) fn resume_starting(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        pid: Pid,
        started: Instant,
    ) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let ready = &service.spec.ready;
        let unknown = !ready.probes.is_empty();
        // It may have become ready while nobody asked: give it time to say so.
        let grace = |timeout: Duration| now.saturating_add(timeout.min(PROBE_TIMEOUT * 2));
        let readiness = Readiness {
            notify_missing: ready.notify && service.notified != generation,
            fd_missing: ready.fd.is_some() && service.notified_fd != generation,
            questions: (!unknown).then(Vec::new),
            refill: None,
            settled: settled(&service.spec, started),
            deadline: ready
                .timeout
                .map(|timeout| started.saturating_add(timeout).max(grace(timeout))),
        };
        service.phase = Phase::Starting(Box::new(Starting { generation, pid, started, readiness }));
        if unknown {
            self.prepare_check(Purpose::Questions(name.clone(), generation), name);
        }
        self.advance_readiness(now, name);
    }

    pub(super) fn resume_questions(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        questions: Questions,
    ) {
        let Some(starting) = self.starting(name, generation) else {
            return;
        };
        match questions {
            Questions::Known(questions) => {
                starting.readiness.questions = Some(asked(questions, now));
            }
            // What is missing may come back; until then the reason says why it is not ready.
            Questions::Unknown(why) => {
                let at = now.saturating_add(PROBE_TIMEOUT);
                starting.readiness.refill = Some(Refill { at: Some(at), why });
            }
        }
        self.advance_readiness(now, name);
    }

    pub(super) fn on_notified(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        said: Said,
    ) {
        let Some(said) = self.keep_while_dumping(now, name, generation, said) else {
            return;
        };
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.note_said(generation, &said);
        if service.generation == generation && said.status.is_some() {
            service.status_text.clone_from(&said.status);
        }
        if let Some(starting) = self.starting(name, generation)
            && (said.ready || said.ready_fd)
        {
            starting.readiness.notify_missing &= !said.ready;
            starting.readiness.fd_missing &= !said.ready_fd;
            self.advance_readiness(now, name);
        }
        self.hear_of_reload(now, name, generation, &said);
    }

    pub(super) fn on_probed(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        index: usize,
        outcome: Result<(), String>,
    ) {
        let Some(interval) = self.services.get(name).map(|service| service.spec.ready.interval)
        else {
            return;
        };
        let Some(starting) = self.starting(name, generation) else {
            return;
        };
        let Some(asked) = starting.readiness.questions.as_mut().and_then(|q| q.get_mut(index))
        else {
            return;
        };
        if let Progress::Open { .. } = asked.progress {
            asked.progress = match outcome {
                Ok(()) => Progress::Passed,
                Err(last) => Progress::Due { at: now.saturating_add(interval), last: Some(last) },
            };
        }
        self.touched.insert(name.clone());
        self.advance_readiness(now, name);
    }

    pub(super) fn on_timer(&mut self, now: Instant, name: &ServiceName) {
        self.advance_reloads(now, name);
        let Some(service) = self.services.get(name) else {
            return;
        };
        match &service.phase {
            Phase::Backoff { until } if *until <= now => self.start_by_policy(now, name),
            Phase::Starting(_) => self.advance_readiness(now, name),
            Phase::Commanded { deadline: Some(deadline), .. } if *deadline <= now => {
                self.on_not_executed(now, name);
            }
            Phase::Leased { overdue, .. } if *overdue <= now => self.ask_after_lease(now, name),
            Phase::Running(_) => self.forget_old_ends(now, name),
            // The timer belonged to a phase that is over.
            Phase::Backoff { .. }
            | Phase::Leased { .. }
            | Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_) => {}
        }
    }

    /// The child hangs before its program: on a file system that does not answer, most likely.
    fn on_not_executed(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        match (service.want, &mut service.phase) {
            (Want::Up, _) => {
                let missing = "its program has not been executed".to_owned();
                self.on_ready_timeout(now, name, missing);
            }
            // It is about to be ended in order, as soon as nobody needs it.
            (Want::Down(_), Phase::Commanded { deadline, .. }) => *deadline = None,
            (Want::Down(_), _) => {}
        }
    }

    /// Its time is over: it is stopped, and then its restart policy is asked.
    fn on_ready_timeout(&mut self, now: Instant, name: &ServiceName, missing: String) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let after = service.spec.ready.timeout.unwrap_or_default();
        let cause = Cause::ReadyTimeout { after, missing: missing.clone() };
        let why = EndWhy::ReadyTimeout { missing };
        self.command_stop(now, name, why, Manner::Polite, cause);
    }

    /// Asks what is due, and moves on if everything is answered or the time is over.
    fn advance_readiness(&mut self, now: Instant, name: &ServiceName) {
        if !self.is_synchronised() {
            // A dump is coming in: what follows from it goes on from what was answered.
            self.set_timer(name);
            return;
        }
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let oneshot = service.spec.kind == Kind::Oneshot;
        let Phase::Starting(starting) = &mut service.phase else {
            return;
        };
        let generation = starting.generation;
        let readiness = &mut starting.readiness;
        let settled = readiness.settled.is_some_and(|settled| settled <= now);
        if settled && readiness.is_answered() {
            let ready_after = now.saturating_since(starting.started);
            let Starting { generation, pid, started, .. } = **starting;
            service.ready_after = Some(ready_after);
            let running = Running { generation, pid, started, ready: now };
            let ready = &service.spec.ready;
            let is_asked = ready.notify || ready.fd.is_some() || !ready.probes.is_empty();
            let cause = if is_asked { Cause::BecameReady } else { Cause::StayedUp };
            self.transition(now, name, Phase::Running(running), cause);
            return;
        }
        if let Want::Down(_) = service.want
            && let Some(deadline) = &mut readiness.deadline
            && *deadline <= now
        {
            // It is about to be ended in order, as soon as nobody needs it. Should it be wanted
            // again, it has its time once more.
            *deadline = now.saturating_add(service.spec.ready.timeout.unwrap_or(PROBE_TIMEOUT));
        }
        if readiness.deadline.is_some_and(|deadline| deadline <= now) {
            let mut missing = readiness.missing();
            if missing.is_empty() {
                missing.push(
                    if oneshot { "it is still running" } else { "its delay is not over" }.into(),
                );
            }
            self.on_ready_timeout(now, name, missing.join(", "));
            return;
        }
        if readiness.questions.is_none()
            && let Some(refill) = &mut readiness.refill
            && refill.at.is_some_and(|at| at <= now)
        {
            refill.at = None;
            self.prepare_check(Purpose::Questions(name.clone(), generation), name);
            self.set_timer(name);
            return;
        }
        let mut due = Vec::new();
        for (index, asked) in readiness.questions.iter_mut().flatten().enumerate() {
            if let Progress::Due { at, last } = &mut asked.progress
                && *at <= now
            {
                asked.progress = Progress::Open { last: last.take() };
                due.push((index, asked.question.clone()));
            }
        }
        for (index, question) in due {
            self.ask(name, generation, index, question);
        }
        self.set_timer(name);
    }

    fn ask(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        index: usize,
        question: Question,
    ) {
        let name = name.clone();
        let timeout = PROBE_TIMEOUT;
        match question {
            Question::Exec(arguments) => {
                let sent = Sent::Probe { name: name.clone(), generation, index };
                self.send_for(Command::ServiceExec { name, deadline: timeout, arguments }, sent);
            }
            Question::Tcp(_)
            | Question::Http(_)
            | Question::Socket(_)
            | Question::File(_)
            | Question::Log(_) => {
                self.outputs.push_back(Output::Probe {
                    name,
                    generation,
                    index,
                    question,
                    timeout,
                });
            }
        }
    }

    fn starting(&mut self, name: &ServiceName, generation: Generation) -> Option<&mut Starting> {
        match &mut self.services.get_mut(name)?.phase {
            Phase::Starting(starting) if starting.generation == generation => Some(starting),
            _ => None,
        }
    }
}

fn asked(questions: Vec<Question>, at: Instant) -> Vec<Asked> {
    let due = |question| Asked { question, progress: Progress::Due { at, last: None } };
    questions.into_iter().map(due).collect()
}

/// Returns until when it must stay up; a oneshot is never ready: it is done, or its time is over.
fn settled(spec: &ServiceSpec, started: Instant) -> Option<Instant> {
    match spec.kind {
        Kind::Daemon => Some(started.saturating_add(spec.ready.delay)),
        Kind::Oneshot | Kind::Group => None,
    }
}
