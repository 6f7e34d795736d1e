//! What the proxy's reports about a run mean, and what the restart policy makes of an end.

use std::time::Duration;

use keepd_model::protocol::{RunEnd, RunReport, RunState};
use keepd_model::{
    Errno, Exit, Instant, Kind, Reason, RestartLimit, ServiceName, ShutdownOn, SpawnFailure,
    SpawnStep,
};

use super::cause::{Cause, ShutdownCause};
use super::interface::{LastEnd, PrepareFailure};
use super::service::{EndWhy, Ending, Phase, Rest, Want};
use super::{Manager, explain};

/// What is said of an end: why, and how, unless it never was a program.
pub(super) struct Noted {
    pub(super) cause: Cause,
    exit: Option<Exit>,
}

/// Who makes the start that follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartedBy {
    /// We command it.
    Manager,
    /// The proxy makes it by its lease.
    Proxy,
}

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
        if report.generation > service.generation && !self.follow_lease(now, report) {
            self.on_unexpected_run(report);
            return;
        }
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
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
            // Its lease was taken back, and perhaps after it was used: the dump says so, and has
            // the end.
            RunState::Down if service.leasing.is_being_taken_back() => self.begin_dump(),
            // The start that its lease had made pending was taken back, and not by us.
            RunState::Down if matches!(service.phase, Phase::Leased { .. }) => self.begin_dump(),
            RunState::Down => self.on_down(now, name, report),
            RunState::Pending => self.on_start_due(now, name, report.at),
        }
    }

    /// News of a generation that nobody commanded, and that follows from no lease.
    fn on_unexpected_run(&mut self, report: &RunReport) {
        let Some(service) = self.services.get_mut(&report.name) else {
            return;
        };
        if !service.has_process() && report.state == RunState::Down {
            // Somebody else started it, and it is over: nothing follows.
            service.generation = report.generation;
            return;
        }
        // Take it as it is; and an end before it may not have been heard.
        self.begin_dump();
    }

    fn on_up(&mut self, now: Instant, report: &RunReport) {
        let Some(service) = self.services.get(&report.name) else {
            return;
        };
        let Some(pid) = report.pid else { return };
        match &service.phase {
            Phase::Commanded { questions, .. } => {
                let (questions, name) = (questions.clone(), &report.name);
                self.begin_starting(now, name, report.generation, pid, report.at, questions);
                self.on_room(now, &report.name);
            }
            // It is known again what became of it.
            Phase::Stuck(Ending { pid: None, .. }) => self.begin_dump(),
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Backoff { .. }
            | Phase::Leased { .. } => {}
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
        let Noted { cause, exit } = self.note_end(name, report, &ending);
        let Some(service) = self.services.get(name) else {
            return;
        };
        let (want, timeout) = (service.want, service.spec.ready.timeout);
        let was_ready = ending.ready.is_some();
        match ending.why {
            EndWhy::Unwanted | EndWhy::Restart | EndWhy::Dependency => {
                self.come_to_rest(now, name, Rest::Stopped, None);
            }
            // Whoever does not want it is not asked what its policy is.
            EndWhy::ByItself | EndWhy::ReadyTimeout { .. } if matches!(want, Want::Down(_)) => {
                self.come_to_rest(now, name, Rest::Stopped, None);
            }
            EndWhy::ByItself | EndWhy::ReadyTimeout { .. }
                if report.ended == Some(RunEnd::Cancelled) =>
            {
                // A lease answers it, too, and nothing of it is spent.
                match self.is_covered(name) {
                    true => self.leave_to_proxy(now, name, None, cause),
                    false => self.start_again(now, name, cause),
                }
            }
            EndWhy::ByItself if found_no_room(report) => {
                // No lease answers that; but it is spent by every end.
                let generation = report.generation;
                if let Some(service) = self.services.get_mut(name) {
                    service.leasing.spend(generation);
                }
                self.wait_for_room(now, name, cause);
            }
            EndWhy::ByItself => {
                let by = match self.is_covered(name) {
                    true => StartedBy::Proxy,
                    false => StartedBy::Manager,
                };
                self.apply_policy(now, name, exit, was_ready, cause, by);
                self.restart_what_rests(now, name);
            }
            EndWhy::ReadyTimeout { missing } => {
                let after = timeout.unwrap_or_default();
                let cause = Cause::ReadyTimeout { after, missing };
                // An end that we forced is no success, whatever its status; and it ended the lease.
                self.apply_policy(now, name, None, was_ready, cause, StartedBy::Manager);
            }
        }
    }

    /// Reports whether the proxy starts a service again that ended by itself.
    fn is_covered(&self, name: &ServiceName) -> bool {
        self.abilities.safe_mode.is_none()
            && self.services.get(name).is_some_and(|service| service.leasing.covers_end())
    }

    /// Remembers the end of a run, and whether the count of ends begins anew with it.
    pub(super) fn note_end(
        &mut self,
        name: &ServiceName,
        report: &RunReport,
        ending: &Ending,
    ) -> Noted {
        let runs_max = self.plan.manager.history_max;
        let service = self.services.get_mut(name);
        let program = service.as_ref().and_then(|service| service.known.program.as_deref());
        let cause = end_cause(report, ending.started, program);
        let exit = match report.ended {
            Some(RunEnd::Exit(exit)) => Some(exit),
            Some(RunEnd::Failed(_) | RunEnd::Cancelled) => None,
            None => Some(Exit::Unknown),
        };
        let Some(service) = self.services.get_mut(name) else {
            return Noted { cause, exit };
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
            failure: service.remark(ended, ending, exit, &cause),
        };
        let ready_after = service.ready_after;
        service.remember_run(end, ready_after, runs_max);
        service.status_text = None;
        // Not until now: nobody may have looked for long, and that is no time of being ready.
        let is_reset = |ready| ended.saturating_since(ready) >= service.spec.backoff.reset;
        if ending.ready.is_some_and(is_reset) {
            service.forget_ends();
        }
        Noted { cause, exit }
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
            self.apply_policy(now, name, None, false, cause, StartedBy::Manager);
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
        by: StartedBy,
    ) {
        self.shortage.forget(name);
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
        let is_leased = by == StartedBy::Proxy;
        // What the proxy does counts, whatever we think of it.
        if !is_leased && !service.may_restart(now) {
            let RestartLimit { count, window } = service.spec.restart_limit;
            let cause = Cause::Limit { count, window };
            self.come_to_rest(now, name, Rest::Failed, Some(cause));
            return;
        }
        service.count_restart(now, was_ready);
        if is_leased {
            service.leasing.spend(service.generation);
        }
        let Some(service) = self.services.get(name) else {
            return;
        };
        let delay = self.delay(service, service.end_count);
        let until = (!delay.is_zero()).then(|| now.saturating_add(delay));
        match (by, until) {
            (StartedBy::Proxy, until) => self.leave_to_proxy(now, name, until, cause),
            (StartedBy::Manager, None) => self.start_by_policy(now, name),
            (StartedBy::Manager, Some(until)) => {
                self.transition(now, name, Phase::Backoff { until }, cause);
            }
        }
    }

    /// An automatic restart. It does not look at dependencies again, unless one of them reacts.
    pub(super) fn start_by_policy(&mut self, now: Instant, name: &ServiceName) {
        self.start_again(now, name, Cause::RestartPolicy);
    }

    /// Starts a service again that had what it needs.
    fn start_again(&mut self, now: Instant, name: &ServiceName, cause: Cause) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        if service.spec.command.is_none() {
            // Its table changed meanwhile: it is a group, or cannot be used.
            let cause = service.want_cause.clone();
            self.transition(now, name, Phase::Resting(Rest::Stopped), cause);
            return;
        }
        let looks = service.reacts() || self.abilities.safe_mode.is_some();
        let unmet = if looks { self.first_unmet(service) } else { None };
        match unmet {
            Some(unmet) => self.wait_for(now, name, unmet),
            None => self.prepare_start(now, name, cause),
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

/// Reports whether the system had no room for the run.
fn found_no_room(report: &RunReport) -> bool {
    match report.ended {
        Some(RunEnd::Failed(failure)) => failure.is_shortage(),
        Some(RunEnd::Exit(_) | RunEnd::Cancelled) | None => false,
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
        Some(RunEnd::Cancelled) => Cause::Cancelled,
        None => Cause::Ended { generation, pid, exit: Exit::Unknown, ran },
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
