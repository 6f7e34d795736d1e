//! `service.auto_up`: services that start by themselves while something holds.
//!
//! Triggers are looked at when they are set, when the service came down, and when a signal arrives;
//! and only where nobody asked for an end.

use keepd_model::protocol::{Event, Fail, Triggers};
use keepd_model::{Instant, ServiceName, Signal, Wanted};

use super::Proxy;
use super::commands::Asker;
use super::connections::Audience;
use super::machine::PendingSignal;
use super::service::{Run, Service};

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
        let holds = self.is_triggered(&triggers);
        let service = self.service_or_new(now, name)?;
        if let Some(seconds) = seconds {
            service.auto_up.seconds = seconds.max(1);
        }
        if triggers.always || !triggers.signals.is_empty() {
            service.wanted = Wanted::Up;
        }
        service.auto_up.set_triggers(triggers);
        let event = service.auto_up_event(name);
        let starts_now = holds && matches!(service.run(), Run::Down { .. });
        self.accept(asker);
        if starts_now {
            self.schedule(now, name, now);
        }
        self.broadcast(&event, asker.audience());
        Ok(())
    }

    /// Reports whether any of these triggers holds now.
    pub(super) fn is_triggered(&self, triggers: &Triggers) -> bool {
        let is_pending = |signal| self.signals.contains_key(signal);
        triggers.always || triggers.signals.iter().any(is_pending)
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
        let waiting: Vec<ServiceName> = self
            .services
            .iter()
            .filter(|(_, service)| waits_for(service, now, signal))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            self.schedule(now, &name, now);
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
    if !service.auto_up.triggers().signals.contains(&signal) {
        return false;
    }
    match service.wanted {
        Wanted::Down => return false,
        Wanted::Up => {}
    }
    match service.run() {
        Run::Down { .. } => true,
        Run::Pending { due, .. } => due > now,
        Run::Spawning { .. }
        | Run::Forked { .. }
        | Run::Up { .. }
        | Run::Stopping { .. }
        | Run::Emptying { .. }
        | Run::Stuck { .. } => false,
    }
}
