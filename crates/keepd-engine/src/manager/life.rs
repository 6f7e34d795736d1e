//! What the proxy's reports about a run mean, and what the restart policy makes of an end.

use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::protocol::{RunEnd, RunReport, RunState};
use keepd_model::{
    Errno, Exit, Instant, Kind, Reason, RestartLimit, ServiceName, ShutdownOn, SpawnFailure,
    SpawnStep,
};

use super::cause::{Cause, ShutdownCause};
use super::interface::{LastEnd, PrepareFailure};
use super::service::{EndWhy, Phase, Rest, Want};
use super::{Manager, explain};

impl Manager {
    /// A step in the life of a run, reported by the proxy.
    pub(super) fn on_run(&mut self, now: Instant, report: &RunReport) {
        let name = &report.name;
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if report.generation < service.generation {
            return; // News of an older run: what it could say was said.
        }
        service.generation = report.generation;
        match report.state {
            RunState::Forked => {
                if let Phase::Commanded { pid, .. } = &mut service.phase {
                    *pid = report.pid;
                } else if !service.has_process() {
                    // Somebody else started it: take it as it is.
                    self.begin_dump();
                }
            }
            RunState::Up => self.on_up(now, report),
            RunState::Stopping => {}
            RunState::Emptying => self.on_emptying(now, report),
            RunState::Stuck => {
                if let Phase::Ending(ending) = &service.phase {
                    let ending = ending.clone();
                    self.transition(now, name, Phase::Stuck(ending), Cause::NotEmpty);
                }
            }
            RunState::Down => self.on_down(now, name, report),
            // Only keepd's own processes are started by the proxy itself.
            RunState::Pending => {}
        }
    }

    fn on_up(&mut self, now: Instant, report: &RunReport) {
        let Some(service) = self.services.get(&report.name) else {
            return;
        };
        let Some(pid) = report.pid else { return };
        if let Phase::Commanded { questions, .. } = &service.phase {
            let questions = questions.clone();
            self.begin_starting(now, &report.name, report.generation, pid, report.at, questions);
            self.on_room(now, &report.name);
        }
    }

    fn on_emptying(&mut self, now: Instant, report: &RunReport) {
        let name = &report.name;
        let Some(service) = self.services.get(name) else {
            return;
        };
        // Otherwise it is on its way already, or these are news that nobody waits for.
        let Some(ending) = service.phase.begin_ending(EndWhy::ByItself) else {
            return;
        };
        let cause = end_cause(report, ending.started, service.known.program.as_deref());
        self.transition(now, name, Phase::Ending(ending), cause);
    }

    /// The run is over: its whole group is gone.
    pub(super) fn on_down(&mut self, now: Instant, name: &ServiceName, report: &RunReport) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let ending = match &service.phase {
            Phase::Ending(ending) | Phase::Stuck(ending) => Some(ending.clone()),
            phase => phase.begin_ending(EndWhy::ByItself),
        };
        let Some(ending) = ending else {
            return;
        };
        let cause = end_cause(report, ending.started, service.known.program.as_deref());
        let exit = match report.ended {
            Some(RunEnd::Exit(exit)) => Some(exit),
            Some(RunEnd::Failed(_) | RunEnd::Cancelled) => None,
            None => Some(Exit::Unknown),
        };
        let is_shortage = match report.ended {
            Some(RunEnd::Failed(failure)) => failure.is_shortage(),
            Some(RunEnd::Exit(_) | RunEnd::Cancelled) | None => false,
        };
        // It may be long ago, if nobody looked meanwhile.
        let ended = report.at;
        let reason = match &ending.why {
            EndWhy::ReadyTimeout { .. } => Reason::ReadyTimeout,
            EndWhy::Unwanted => service.want_cause.reason(),
            EndWhy::Restart => Reason::Operator,
            EndWhy::Dependency => Reason::Dependency,
            EndWhy::ByItself => cause.reason(),
        };
        let end = LastEnd {
            generation: report.generation,
            pid: report.pid.or(ending.pid),
            at: ended,
            exit,
            reason,
            ran: ending.started.map_or(Duration::ZERO, |started| ended.saturating_since(started)),
            failure: service.remark(ended, &ending, exit, &cause),
        };
        let ready_after = service.ready_after;
        service.remember_run(end, ready_after, self.plan.manager.history_max);
        service.status_text = None;
        // Not until now: nobody may have looked for long, and that is no time of being ready.
        let is_reset = |ready| ended.saturating_since(ready) >= service.spec.backoff.reset;
        if ending.ready.is_some_and(is_reset) {
            service.forget_ends();
        }
        let was_ready = ending.ready.is_some();
        match ending.why {
            EndWhy::Unwanted | EndWhy::Restart | EndWhy::Dependency => {
                self.come_to_rest(now, name, Rest::Stopped, None);
            }
            // Whoever does not want it is not asked what its policy is.
            EndWhy::ByItself | EndWhy::ReadyTimeout { .. }
                if matches!(service.want, Want::Down(_)) =>
            {
                self.come_to_rest(now, name, Rest::Stopped, None);
            }
            EndWhy::ByItself if is_shortage => self.wait_for_room(now, name, cause),
            EndWhy::ByItself => {
                self.apply_policy(now, name, exit, was_ready, cause);
                self.restart_what_rests(now, name);
            }
            EndWhy::ReadyTimeout { missing } => {
                let after = service.spec.ready.timeout.unwrap_or_default();
                let cause = Cause::ReadyTimeout { after, missing };
                // An end that we forced is no success, whatever its status.
                self.apply_policy(now, name, None, was_ready, cause);
            }
        }
    }

    /// It could not even be tried: counts as an end of a run that never was ready.
    pub(super) fn on_cannot_start(
        &mut self,
        now: Instant,
        name: &ServiceName,
        failure: PrepareFailure,
    ) {
        let is_shortage = failure.is_shortage();
        let cause = Cause::CannotExecute(failure);
        if let Some(service) = self.services.get_mut(name) {
            let end = LastEnd {
                generation: service.generation,
                pid: None,
                at: now,
                exit: None,
                reason: Reason::ExecError,
                ran: Duration::ZERO,
                failure: Some(explain::cause_clause(&cause)),
            };
            service.remember_run(end, None, self.plan.manager.history_max);
        }
        if is_shortage {
            self.wait_for_room(now, name, cause);
        } else {
            self.apply_policy(now, name, None, false, cause);
        }
    }

    /// What the restart policy makes of an end that nobody asked for. `exit` is `None` for ends
    /// that are no success whatever their status.
    fn apply_policy(
        &mut self,
        now: Instant,
        name: &ServiceName,
        exit: Option<Exit>,
        was_ready: bool,
        cause: Cause,
    ) {
        self.shortage.forget(name);
        let random = self.random();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let success = exit.is_some_and(|exit| service.spec.is_success(exit));
        let finished = service.spec.kind == Kind::Oneshot && success;
        if finished || !service.wants_restart_after(exit) {
            let rest = if success { Rest::Done } else { Rest::Failed };
            self.come_to_rest(now, name, rest, Some(cause));
            return;
        }
        if !service.take_restart(now) {
            let RestartLimit { count, window } = service.spec.restart_limit;
            let cause = Cause::Limit { count, window };
            self.come_to_rest(now, name, Rest::Failed, Some(cause));
            return;
        }
        service.end_count = Backoff::count_end(service.end_count, was_ready);
        service.restarts += 1;
        let delay = service.spec.backoff.delay_with_jitter(service.end_count, random);
        let until = now.saturating_add(delay);
        if delay.is_zero() {
            self.start_by_policy(now, name);
        } else {
            self.transition(now, name, Phase::Backoff { until }, cause);
        }
    }

    /// An automatic restart. It does not look at dependencies again, unless one of them reacts.
    pub(super) fn start_by_policy(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        if service.spec.command.is_none() {
            // Its table changed meanwhile: it is a group, or cannot be used.
            let cause = service.want_cause.clone();
            self.transition(now, name, Phase::Resting(Rest::Stopped), cause);
            return;
        }
        let unmet = if service.reacts() { self.first_unmet(service) } else { None };
        match unmet {
            Some(unmet) => self.wait_for(now, name, unmet),
            None => self.prepare_start(now, name, Cause::RestartPolicy),
        }
    }

    /// No process is left and nothing is due. Without a cause, it rests because it is not wanted.
    fn come_to_rest(&mut self, now: Instant, name: &ServiceName, rest: Rest, cause: Option<Cause>) {
        self.shortage.forget(name);
        let Some(service) = self.services.get(name) else {
            return;
        };
        let cause = cause.unwrap_or_else(|| service.want_cause.clone());
        let ends_all = match (service.spec.shutdown_on, rest) {
            (ShutdownOn::Never, _) | (_, Rest::Stopped) => false,
            (ShutdownOn::Failure, rest) => rest == Rest::Failed,
            (ShutdownOn::Exit, Rest::Done | Rest::Failed) => true,
        };
        self.transition(now, name, Phase::Resting(rest), cause);
        if ends_all {
            self.begin_shutdown(now, ShutdownCause::Service(name.clone()), false);
        }
    }
}

/// Returns what the report says about the end of the main process.
fn end_cause(report: &RunReport, started: Option<Instant>, program: Option<&[u8]>) -> Cause {
    let ran = started.map_or(Duration::ZERO, |started| report.at.saturating_since(started));
    let (generation, pid) = (report.generation, report.pid);
    match report.ended {
        Some(RunEnd::Exit(exit)) => Cause::Ended { generation, pid, exit, ran },
        Some(RunEnd::Failed(failure)) => Cause::CannotExecute(PrepareFailure {
            step: failure.step,
            errno: Some(failure.errno),
            text: describe_failure(failure, program),
        }),
        Some(RunEnd::Cancelled) | None => {
            Cause::Ended { generation, pid, exit: Exit::Unknown, ran }
        }
    }
}

/// Says what a step of the start was about, where one word of it is known.
fn describe_failure(failure: SpawnFailure, program: Option<&[u8]>) -> String {
    match (failure.step, program) {
        (SpawnStep::Exec, Some(program)) => {
            let program = String::from_utf8_lossy(program);
            if failure.errno == Errno::ENOENT {
                // The shell saw the file a moment ago: what is missing is likely its interpreter.
                format!("executable \"{program}\" or its interpreter not found")
            } else {
                format!("executable \"{program}\" cannot be executed: {}", failure.errno)
            }
        }
        (_, Some(_) | None) => failure.to_string(),
    }
}
