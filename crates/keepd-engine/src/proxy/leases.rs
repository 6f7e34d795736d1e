//! Restarts that need no command (`service.lease`), and ends that nobody has acknowledged yet
//! (`service.ack`).
//!
//! Both count by generation. The end of generation g spends the delay number g - BASE of a lease,
//! whatever the end was, so how much is left of a lease follows from the present generation alone,
//! also for a successor. Ends are acknowledged up to a generation, so what is not acknowledged is
//! always without a gap.

use keepd_model::protocol::{Command, Event, Fail, FailKind, Lease, LeaseAfter, RunEnd};
use keepd_model::{Generation, Instant, LogLevel, ServiceName, Wanted};

use super::commands::{Asker, fail, stale};
use super::service::{Cause, Ended, Run, Service};
use super::{EndedRun, Output, Proxy};

/// The most ends of one service that nobody has acknowledged: the ledger has no room for more.
pub(super) const UNACKNOWLEDGED_MAX: usize = 16;

/// A lease that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// The generation whose end spends the first delay.
    pub(super) base: Generation,
    pub(super) lease: Lease,
}

/// Ends that somebody knows when a generation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Those up to this one make room in the ledger first, if nobody acknowledged them before.
    pub(super) older: Option<Generation>,
    /// The last one stays there until the start is written down: a successor would not know that
    /// the service is to be started.
    pub(super) last: Generation,
}

impl Granted {
    /// Returns what is left from the end of this generation on; `None` if it is nothing.
    fn left_from(&self, generation: Generation) -> Option<Self> {
        let base = self.base.max(generation);
        let spent = usize::try_from(base.get() - self.base.get()).ok()?;
        let delays = self.lease.delays.get(spent..).filter(|delays| !delays.is_empty())?;
        let Lease { after, ref successes, .. } = self.lease;
        let lease = Lease { after, successes: successes.clone(), delays: delays.to_vec() };
        Some(Self { base, lease })
    }

    /// Reports whether an end is one after which the service is started again.
    fn covers(&self, end: RunEnd) -> bool {
        let is_success = match end {
            RunEnd::Exit(exit) => self.lease.successes.iter().any(|one| one.matches(exit)),
            // When there is room again is nothing that delays reckoned before can say.
            RunEnd::Failed(failure) if failure.is_shortage() => return false,
            RunEnd::Failed(_) | RunEnd::Cancelled => false,
        };
        match self.lease.after {
            LeaseAfter::Any => true,
            LeaseAfter::Failure => !is_success,
        }
    }
}

impl Service {
    /// Reports whether the end of the next generation will have room beside those that nobody has
    /// acknowledged.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.generation.get().saturating_sub(self.acknowledged.get());
        waiting < UNACKNOWLEDGED_MAX as u64
    }

    /// Begins the next generation, with nothing of the one before but its end, if nobody has
    /// acknowledged that. Returns what need not be kept of ends.
    ///
    /// A command to start acknowledges, and so does a start by itself: nobody is expected to. After
    /// a lease somebody is.
    pub(super) fn begin_generation(&mut self, cause: Cause) -> Option<Known> {
        let before = self.generation;
        let acknowledged = match (cause, self.run().ended()) {
            (Cause::Lease | Cause::Held, Some(ended)) if self.acknowledged < before => {
                let ended = EndedRun { generation: before, end: ended.end, at: Some(ended.at) };
                self.unacknowledged.push(ended);
                None
            }
            (Cause::Command | Cause::Itself | Cause::Lease | Cause::Held, _) => {
                let older = Generation::new(before.get().saturating_sub(1));
                let older = (self.acknowledged < older).then_some(older);
                self.acknowledge(before);
                Some(Known { older, last: before })
            }
        };
        self.take_generation(before.next());
        acknowledged
    }

    /// Takes the number of a generation that somebody asked for.
    pub(super) fn take_generation(&mut self, generation: Generation) {
        self.generation = generation;
        self.wanted = Wanted::Up;
        self.notifications.clear();
        self.ready_fd_said = false;
        let is_used_up = |granted: &Granted| granted.left_from(generation).is_none();
        if self.lease.as_deref().is_some_and(is_used_up) {
            self.lease = None;
        }
    }

    /// Forgets ends up to that of a generation.
    fn acknowledge(&mut self, generation: Generation) {
        self.acknowledged = self.acknowledged.max(generation);
        self.unacknowledged.retain(|ended| ended.generation > generation);
        if self.unacknowledged.is_empty() {
            self.unacknowledged = Vec::new();
        }
    }

    /// Returns the first generation whose end is still to come.
    fn first_open(&self) -> Generation {
        if self.run().is_at_rest() { self.generation.next() } else { self.generation }
    }

    /// Returns the lines of a dump about ends of earlier generations.
    pub(super) fn ended_lines(&self, name: &ServiceName) -> impl Iterator<Item = Event> {
        self.unacknowledged.iter().map(|ended| Event::Ended {
            name: name.clone(),
            generation: ended.generation,
            at: ended.at,
            end: ended.end,
        })
    }

    /// Returns the line of a dump about what is left of a lease.
    pub(super) fn lease_line(&self, name: &ServiceName) -> Option<Event> {
        let left = self.lease.as_ref()?.left_from(self.first_open())?;
        Some(Event::Lease(name.clone(), left.base, left.lease))
    }
}

impl Proxy {
    /// `service.ack`. While a start is pending, the last end stays in the ledger: a successor has
    /// to start the service, too.
    pub(super) fn acknowledge_by_command(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        generation: Generation,
    ) -> Result<(), Fail> {
        let service = self.service_mut("acknowledge the end of", name)?;
        if generation > service.generation {
            let present = service.generation;
            return Err(stale("acknowledge the end of", name, generation, present));
        }
        if generation == service.generation && !service.run().is_at_rest() {
            let text = format!(
                "cannot acknowledge the end of service \"{name}\": generation {generation} is not \
                 over"
            );
            return Err(fail(FailKind::Running, text));
        }
        service.acknowledge(generation);
        let run = service.run();
        let is_pending = matches!(run, Run::Pending { .. }) && generation == service.generation;
        let written = match (is_pending, generation.get().checked_sub(1)) {
            (true, Some(before)) => Generation::new(before),
            (true, None) | (false, _) => generation,
        };
        self.accept(asker);
        self.say_acknowledged(name, written);
        if let Run::Pending { due, ended, cause: Cause::Held } = run {
            self.start_due(now, name, due, ended, Cause::Lease);
        }
        Ok(())
    }

    /// Says that ends up to that of a generation need not be kept for a successor.
    pub(super) fn say_acknowledged(&mut self, name: &ServiceName, generation: Generation) {
        if self.settings.records && generation != Generation::NONE {
            self.outputs.push_back(Output::Acknowledge { name: name.clone(), generation });
        }
    }

    /// `service.lease`. The end of a service that is down was told already: then the lease is for
    /// the next one.
    pub(super) fn grant_lease(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        expected: Generation,
        lease: Lease,
    ) -> Result<(), Fail> {
        let service = self.service_mut("lease", name)?;
        if expected != service.generation {
            return Err(stale("lease", name, expected, service.generation));
        }
        let base = service.first_open();
        self.record(|| {
            let (name, lease) = (name.clone(), lease.clone());
            Command::ServiceLease { name, expected: base, lease }.into()
        });
        self.accept(asker);
        if lease.delays.is_empty() {
            self.end_lease(now, name);
        } else if let Some(service) = self.services.get_mut(name) {
            service.lease = Some(Box::new(Granted { base, lease }));
        }
        Ok(())
    }

    /// Takes a lease back. A start that it made pending is taken back, too: it would be one of a
    /// service that is being changed.
    pub(super) fn end_lease(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if service.lease.take().is_some()
            && let Run::Pending { ended, cause: Cause::Lease | Cause::Held, .. } = service.run()
        {
            self.transition(name, Run::Down { since: now, ended });
        }
    }

    /// Returns when a lease starts a service again after this end. An end that was cancelled spends
    /// nothing: the delays are for the ends after it.
    pub(super) fn lease_due(
        &mut self,
        now: Instant,
        name: &ServiceName,
        ended: &Ended,
    ) -> Option<Instant> {
        let service = self.services.get_mut(name)?;
        let generation = service.generation;
        let left = service.lease.as_ref()?.left_from(generation)?;
        if left.base != generation || !left.covers(ended.end) {
            return None;
        }
        if ended.end == RunEnd::Cancelled {
            let Granted { base, lease } = left;
            let base = base.next();
            service.lease = Some(Box::new(Granted { base, lease: lease.clone() }));
            self.record(|| {
                Command::ServiceLease { name: name.clone(), expected: base, lease }.into()
            });
            return Some(now);
        }
        let delay = left.lease.delays.first().copied()?;
        Some(now.max(ended.at.saturating_add(delay)))
    }

    /// Nobody waits for a start without a command, so the log says why there is none.
    pub(super) fn log_held(&mut self, name: &ServiceName) {
        let text = format!(
            "the start of service \"{name}\" waits: {UNACKNOWLEDGED_MAX} of its ends are not \
             acknowledged"
        );
        self.log(LogLevel::Warning, text);
    }
}
