//! `service.auto_up`: services that start by themselves while something holds.
//!
//! Triggers are looked at when they are set, when the service came down, and when a signal arrives;
//! and only where nobody asked for an end.

use std::ops::Bound::{Excluded, Unbounded};

use keepd_model::protocol::{Event, Fail, Triggers};
use keepd_model::{Instant, ServiceName, Signal, Wanted};

use super::Proxy;
use super::commands::Asker;
use super::connections::Audience;
use super::machine::PendingSignal;
use super::service::{Cause, Run, Service};

/// A signal that came, while services are started by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    signal: Signal,
    at: Instant,
    /// The last one that was looked at, by name.
    after: Option<ServiceName>,
}

impl Proxy {
    /// `service.auto_up`. What holds at once starts a service that is down, and its `start` line
    /// comes before the line of the setting.
    pub(super) fn set_auto_up(
        &mut self,
        now: Instant,
        asker: Asker,
        name: &ServiceName,
        seconds: Option<u32>,
        triggers: Triggers,
    ) -> Result<(), Fail> {
        let holds = self.is_triggered(triggers.always, &triggers.signals);
        let service = self.service_or_new(now, name)?;
        service.set_auto_up(seconds, triggers);
        let event = service.auto_up_event(name);
        let is_down = matches!(service.run(), Run::Down { .. });
        self.accept(asker);
        if holds && is_down && self.may_start() {
            self.schedule(now, name, now, Cause::Itself);
        }
        self.broadcast(&event, asker.audience());
        Ok(())
    }

    /// Reports whether any of these triggers holds now.
    pub(super) fn is_triggered(&self, always: bool, signals: &[Signal]) -> bool {
        always || signals.iter().any(|signal| self.signals.contains_key(signal))
    }

    /// The proxy itself got a signal. It is counted until somebody clears it, and it starts
    /// whoever waits for it, whatever the interval says.
    pub(super) fn on_signal(&mut self, now: Instant, signal: Signal, count: u64) {
        if count == 0 {
            return;
        }
        let pending = self.signals.entry(signal).or_insert(PendingSignal { at: now, count: 0 });
        pending.at = now;
        pending.count = pending.count.saturating_add(count);
        let event = Event::Signal { signal, at: now, count: pending.count };
        self.broadcast(&event, Audience::Everyone);
        if self.may_start() {
            self.arrived.retain(|arrived| arrived.signal != signal);
            self.arrived.push_back(Arrived { signal, at: now, after: None });
        }
    }

    /// Goes on starting who waits for the signals that came, until there is something for the shell
    /// to do: all services may wait for the same one.
    pub(super) fn resume_arrived(&mut self) {
        while self.outputs.is_empty()
            && let Some(Arrived { signal, at, after }) = self.arrived.pop_front()
        {
            let rest = match &after {
                Some(after) => self.services.range::<ServiceName, _>((Excluded(after), Unbounded)),
                None => self.services.range::<ServiceName, _>(..),
            };
            let mut waiting = rest.filter(|(_, service)| waits_for(service, at, signal));
            let Some(name) = waiting.next().map(|(name, _)| name.clone()) else {
                continue;
            };
            self.arrived.push_front(Arrived { signal, at, after: Some(name.clone()) });
            self.schedule(at, &name, at, Cause::Itself);
        }
    }

    /// `signal.clear`: subtracts, not below zero. What is not pending is not kept.
    pub(super) fn clear_signal(&mut self, signal: Signal, count: u64) {
        if let Some(pending) = self.signals.get_mut(&signal) {
            pending.count = pending.count.saturating_sub(count);
            if pending.count == 0 {
                self.signals.remove(&signal);
            }
        }
    }
}

/// Reports whether a signal that arrives now starts a service.
fn waits_for(service: &Service, now: Instant, signal: Signal) -> bool {
    if !service.auto_up.signals.contains(&signal) {
        return false;
    }
    match service.wanted {
        Wanted::Down => return false,
        Wanted::Up => {}
    }
    match service.run() {
        Run::Down { .. } => true,
        Run::Pending { cause: Cause::Held, .. } => true,
        Run::Pending { due, cause: Cause::Command | Cause::Itself | Cause::Lease, .. } => due > now,
        Run::Spawning { .. }
        | Run::Forked { .. }
        | Run::Up { .. }
        | Run::Stopping { .. }
        | Run::Emptying { .. }
        | Run::Stuck { .. }
        | Run::Unsure { .. } => false,
    }
}
