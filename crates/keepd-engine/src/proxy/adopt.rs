//! What a predecessor left: its processes, and the ends that nobody has acknowledged.
//!
//! Facts say what is wanted, the ledger says what is. What the predecessor was about to do is lost:
//! a service that it was stopping is up, and whoever asked for the stop asks again; nothing starts
//! it when it ends, because that is a fact. What follows from an end by itself (the rest of the
//! group, triggers, `respawn`, a lease) follows here, too.

use keepd_model::{Generation, Instant, LogLevel, ServiceName, Wanted};

use super::service::{Cause, Ended, Main, Run, Service};
use super::{AdoptedRun, EndedRun, Proxy};

impl Proxy {
    /// A predecessor left this of a service, or more has become known of it.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        run: AdoptedRun,
        unacknowledged: Vec<EndedRun>,
    ) {
        if !self.expect_adoption(now, name, &run) {
            return;
        }
        self.doubts.remove(name);
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.take_over(generation, &run, unacknowledged);
        match run {
            AdoptedRun::Running { pid, started, leaf } => {
                let main = Main { pid, started, leaf, failure: None };
                self.transition(name, Run::Up { main, since: started });
            }
            AdoptedRun::Ended { ended, leaf } => {
                let at = ended.at.unwrap_or(now);
                let ended = Ended { at, end: ended.end, pid: None, started: at };
                self.end_main(now, name, ended, leaf, None);
            }
            AdoptedRun::Known => self.adopt_known(now, name),
            AdoptedRun::Unsure { why } => {
                self.log(
                    LogLevel::Error,
                    format!("service \"{name}\" is neither started nor signalled: {why}"),
                );
                self.doubts.insert(name.clone(), why);
                self.transition(name, Run::Unsure { since: now });
            }
        }
    }

    /// Reports whether a service waits to be adopted. One whose definition is lost is made, where
    /// something of it may run: it can be stopped at least.
    fn expect_adoption(&mut self, now: Instant, name: &ServiceName, run: &AdoptedRun) -> bool {
        if let Some(service) = self.services.get(name) {
            return match service.run() {
                Run::Down { ended: None, .. } | Run::Unsure { .. } => true,
                Run::Down { ended: Some(_), .. }
                | Run::Pending { .. }
                | Run::Spawning { .. }
                | Run::Forked { .. }
                | Run::Up { .. }
                | Run::Stopping { .. }
                | Run::Emptying { .. }
                | Run::Stuck { .. } => false,
            };
        }
        match run {
            AdoptedRun::Running { .. } | AdoptedRun::Unsure { .. } => {
                let text = format!("service \"{name}\" is there, but nothing says what it is");
                self.log(LogLevel::Warning, text);
                self.services.insert(name.clone(), Box::new(Service::new(now)));
                true
            }
            AdoptedRun::Ended { .. } | AdoptedRun::Known => false,
        }
    }

    /// The last end is known to whoever decides: only what starts by itself is started. That is a
    /// service with triggers or `respawn`; its start may have been lost after it was written down.
    fn adopt_known(&mut self, now: Instant, name: &ServiceName) {
        self.transition(name, Run::Down { since: now, ended: None });
        let Some(service) = self.services.get(name) else {
            return;
        };
        let is_wanted = service.wanted == Wanted::Up;
        let is_respawned = !service.attributes.respawn.is_empty();
        if is_wanted && self.may_start() && (is_respawned || self.is_service_triggered(name)) {
            self.schedule(now, name, now, Cause::Itself);
        }
    }
}

impl Service {
    /// Takes over what the ledger says of generations.
    fn take_over(
        &mut self,
        generation: Generation,
        run: &AdoptedRun,
        unacknowledged: Vec<EndedRun>,
    ) {
        if self.generation != generation {
            // What was written down is about a generation that nobody began.
            self.generation = generation;
            self.invocation = 0;
            self.notifications.clear();
            self.ready_fd_said = false;
        }
        let before = |generation: Generation| Generation::new(generation.get().saturating_sub(1));
        let oldest = unacknowledged.first().map(|ended| before(ended.generation));
        self.acknowledged = oldest.unwrap_or(match run {
            AdoptedRun::Known => generation,
            AdoptedRun::Running { .. } | AdoptedRun::Ended { .. } | AdoptedRun::Unsure { .. } => {
                before(generation)
            }
        });
        self.unacknowledged = unacknowledged;
    }
}
