//! What happened while nobody looked: ends and starts that a dump tells of.
//!
//! The proxy keeps every end that was not acknowledged, and restarts services by their leases. So
//! between the last record of a service and its present run there may be whole generations. Each of
//! their ends is counted once, in order, as if it had been seen.

use std::collections::BTreeMap;

use keepd_model::protocol::{Command, RunEnd, RunReport, RunState};
use keepd_model::{Generation, Instant, ServiceName};

use super::Manager;
use super::cause::Cause;
use super::record::{Record, RecordedPhase};
use super::service::{Ending, Manner, Phase, Service};

/// The end of a generation, as a dump tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenEnd {
    pub(super) at: Option<Instant>,
    pub(super) end: RunEnd,
}

/// What is known of a run beside the proxy's report of it.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) phase: RecordedPhase,
    /// When its program was executed.
    pub(super) started: Option<Instant>,
}

impl Manager {
    /// Counts the ends of all generations between the last record and the present run. Returns what
    /// is known of the present run: what was recorded of it, or that it was begun by a lease.
    pub(super) fn catch_up(
        &mut self,
        now: Instant,
        name: &ServiceName,
        run: &RunReport,
        ends: &BTreeMap<Generation, SeenEnd>,
        record: Option<&Record>,
    ) -> Option<Recorded> {
        let record = record.filter(|record| record.generation <= run.generation)?;
        let recorded = Recorded { phase: record.phase.clone(), started: record.started() };
        if record.generation == run.generation {
            return Some(recorded);
        }
        let (mut known, mut generation) = match &record.phase {
            phase if phase.is_of_run() => (recorded, record.generation),
            RecordedPhase::Backoff(until) => {
                let started = Recorded { phase: RecordedPhase::Started, started: Some(*until) };
                (started, record.generation.next())
            }
            // Whoever started it, it was not for us.
            RecordedPhase::Resting(_)
            | RecordedPhase::Begun
            | RecordedPhase::Gathered
            | RecordedPhase::Started
            | RecordedPhase::Ready(_)
            | RecordedPhase::Ending(..) => return None,
        };
        while generation < run.generation {
            // An end that was acknowledged was another one's.
            let end = ends.get(&generation)?;
            let next = self.count_unseen(now, name, generation, *end, &known);
            known = Recorded { phase: RecordedPhase::Started, started: Some(next) };
            generation = generation.next();
        }
        let service = self.services.get_mut(name)?;
        service.begin_by_lease(run.generation);
        service.since = run.at.min(now);
        service.cause = match run.state {
            RunState::Up => Cause::Executed,
            RunState::Down
            | RunState::Pending
            | RunState::Forked
            | RunState::Stopping
            | RunState::Emptying
            | RunState::Stuck => Cause::RestartPolicy,
        };
        Some(known)
    }

    /// Counts an end that the proxy answered with a start; returns when that was, as nearly as can
    /// be said.
    fn count_unseen(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        end: SeenEnd,
        known: &Recorded,
    ) -> Instant {
        let at = end.at.unwrap_or(now).min(now);
        let Some(service) = self.services.get_mut(name) else {
            return at;
        };
        service.generation = generation;
        let ending = service.begin_unseen_ending(known, None);
        let report = RunReport {
            name: name.clone(),
            generation,
            state: RunState::Down,
            at,
            pid: None,
            ended: Some(end.end),
            started: None,
            ended_at: None,
        };
        let was_ready = ending.ready.is_some();
        let noted = self.note_end(name, &report, &ending);
        let Some(service) = self.services.get_mut(name) else {
            return at;
        };
        // How long the delay was, nobody can tell; how long it is without chance is known.
        let mut next = at;
        if end.end != RunEnd::Cancelled {
            service.count_restart(at, was_ready);
            next = at.saturating_add(service.spec.backoff.delay(service.end_count)).min(now);
        }
        service.start_cause = Cause::RestartPolicy;
        service.ready_after = None;
        self.leave_to_proxy(now, name, None, noted.cause);
        next
    }

    /// A dump says that a service ended and starts again by itself.
    pub(super) fn adopt_pending(
        &mut self,
        now: Instant,
        name: &ServiceName,
        run: &RunReport,
        ends: &BTreeMap<Generation, SeenEnd>,
        recorded: Option<&Recorded>,
    ) -> bool {
        let Some(service) = self.services.get_mut(name) else {
            return false;
        };
        match recorded {
            Some(recorded) if recorded.phase.is_of_run() => {
                let ending = service.begin_unseen_ending(recorded, run.pid);
                let was_ready = ending.ready.is_some();
                // The report says when it starts; from that it is known when it ended.
                let count = service.end_count.saturating_add(1);
                let delay = service.spec.backoff.delay(count);
                let due_ns = run.at.as_nanos();
                let delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
                let by_delay = Instant::from_nanos(due_ns.saturating_sub(delay_ns));
                let said = ends.get(&run.generation).and_then(|end| end.at);
                let at = said.unwrap_or(by_delay).min(now);
                let report = RunReport { at, ..run.clone() };
                let noted = self.note_end(name, &report, &ending);
                if let Some(service) = self.services.get_mut(name)
                    && run.ended != Some(RunEnd::Cancelled)
                {
                    service.count_restart(at, was_ready);
                }
                self.leave_to_proxy(now, name, Some(run.at), noted.cause);
                true
            }
            Some(Recorded { phase: RecordedPhase::Backoff(_), .. }) => {
                let cause = service.cause.clone();
                self.leave_to_proxy(now, name, Some(run.at), cause);
                true
            }
            // Somebody else gave it a trigger.
            Some(_) | None => false,
        }
    }

    /// Tells the proxy which ends need not be kept any more: what is known of them is written down.
    pub(super) fn acknowledge_ends(&mut self) {
        if !self.abilities.acknowledgements {
            return;
        }
        let mut known = Vec::new();
        for name in &self.touched {
            if let Some(service) = self.services.get_mut(name) {
                let counted = service.counted();
                if counted > service.acknowledged {
                    service.acknowledged = counted;
                    known.push((name.clone(), counted));
                }
            }
        }
        for (name, generation) in known {
            self.send(Command::ServiceAck { name, generation });
        }
    }
}

impl Service {
    /// Returns the last generation whose end was counted.
    pub(super) fn counted(&self) -> Generation {
        let is_over = matches!(self.phase, Phase::Leased { .. });
        match self.has_process() && !is_over {
            true => Generation::new(self.generation.get().saturating_sub(1)),
            false => self.generation,
        }
    }

    /// Puts it on its way down, as it was when nobody looked.
    pub(super) fn begin_unseen_ending(
        &mut self,
        known: &Recorded,
        pid: Option<keepd_model::Pid>,
    ) -> Ending {
        let (why, ready) = known.phase.as_ending();
        let ending = Ending {
            generation: self.generation,
            pid,
            started: known.started,
            ready,
            why,
            pressed: Some(Manner::Polite),
        };
        self.phase = Phase::Ending(ending.clone());
        ending
    }
}
