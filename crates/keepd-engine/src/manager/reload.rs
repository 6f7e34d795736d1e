//! When a reload is over.
//!
//! A service without a notify socket can say nothing about it: its reload is over when the proxy
//! accepted the signal, or the command ended. One with `ready.notify` may announce it with
//! `RELOADING=1` and end it with `READY=1` (sd_notify(3)). Nobody knows beforehand whether it does,
//! and it may say so only after the answer of the proxy; so it is listened to for a moment.

use std::time::Duration;

use keepd_model::{ChangeId, Generation, Instant, ServiceName};

use super::Manager;
use super::explain::seconds;
use super::interface::Said;
use super::service::{Phase, Service};

/// A reload has this time where the service has no `ready.timeout`.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A service that was told to reload and has a notify socket may announce it within this time.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is in a datagram is exact to so much.
const STAMP_PRECISION: Duration = Duration::from_micros(1);

/// The reloads of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reloads {
    heard: Heard,
    waiting: Vec<Waiting>,
}

/// What a generation last said of its reloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heard {
    generation: Generation,
    /// `RELOADING=1` came, and `READY=1` not since.
    is_reloading: bool,
    /// `MONOTONIC_USEC=` of the last `RELOADING=1`.
    stamp: Option<Instant>,
    /// When `READY=1` ended the last one.
    ended: Option<Instant>,
}

/// A change that waits for the end of a reload.
#[derive(Clone, Debug, PartialEq)]
struct Waiting {
    change: ChangeId,
    generation: Generation,
    asked: Instant,
    /// `RELOADING=1` came since it was asked.
    announced: bool,
    /// The signal was sent, or the command ended with 0.
    told: Option<Told>,
}

/// What follows from the answer of the proxy.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    at: Instant,
    /// How long what was announced may take from then on.
    timeout: Duration,
}

impl Heard {
    /// Notes what a generation said; an earlier one does not count any more.
    pub(super) fn note(&mut self, now: Instant, generation: Generation, said: &Said) {
        if generation < self.generation {
            return;
        }
        if generation > self.generation {
            *self = Self { generation, ..Self::default() };
        }
        if said.reloading {
            (self.is_reloading, self.stamp) = (true, said.stamp);
        }
        if said.ready && self.is_reloading {
            (self.is_reloading, self.ended) = (false, Some(now));
        }
    }
}

impl Reloads {
    /// Takes what a generation said just now.
    fn hear(&mut self, now: Instant, generation: Generation, said: &Said) {
        if said.reloading {
            for waiting in &mut self.waiting {
                // Without a time of its own it was said when it came.
                let is_answer = said.stamp.is_none_or(|stamp| waiting.precedes(stamp));
                waiting.announced |= waiting.generation == generation && is_answer;
            }
        }
        self.heard.note(now, generation, said);
    }

    /// Takes what a dump told: everything that was kept, so also what was said long ago.
    pub(super) fn hear_again(&mut self, heard: Heard) {
        if heard.generation < self.heard.generation || heard.generation == Generation::NONE {
            return;
        }
        for waiting in &mut self.waiting {
            let is_answer = heard.stamp.is_some_and(|stamp| waiting.precedes(stamp));
            waiting.announced |= waiting.generation == heard.generation && is_answer;
        }
        self.heard = heard;
    }

    /// Returns the changes that wait for what the service says, not for the proxy's answer.
    pub(super) fn listening(&self) -> impl Iterator<Item = ChangeId> {
        self.waiting.iter().filter(|waiting| waiting.told.is_some()).map(|waiting| waiting.change)
    }

    pub(super) fn forget(&mut self, change: ChangeId) {
        self.waiting.retain(|waiting| waiting.change != change);
    }

    /// Returns when the machine must look at it again.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| self.due(waiting)).min()
    }

    /// Returns when a reload is over that nothing more is heard of.
    fn due(&self, waiting: &Waiting) -> Option<Instant> {
        let told = waiting.told.as_ref()?;
        // What is being reloaded for somebody else comes first.
        if waiting.announced || self.heard.is_reloading {
            return Some(told.at.saturating_add(told.timeout));
        }
        let since = self.heard.ended.map_or(told.at, |ended| ended.max(told.at));
        Some(since.saturating_add(ANNOUNCE_TIMEOUT))
    }

    /// Takes out what is over; the text says why it is missed. `running` is the generation that
    /// runs.
    fn take_settled(
        &mut self,
        now: Instant,
        running: Option<Generation>,
    ) -> Vec<(ChangeId, Option<String>)> {
        let mut over = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let outcome = match &waiting.told {
                None => None,
                Some(_) if running != Some(waiting.generation) => {
                    Some(Some("it ended meanwhile".to_owned()))
                }
                Some(_) if waiting.announced && !self.heard.is_reloading => Some(None),
                Some(_) if self.due(&waiting).is_none_or(|due| due > now) => None,
                Some(told) if self.heard.is_reloading => {
                    let timeout = seconds(told.timeout);
                    let text = format!(
                        "it said RELOADING=1, and READY=1 has not come within {timeout} after that"
                    );
                    Some(Some(text))
                }
                Some(_) => Some(None),
            };
            match outcome {
                Some(missed) => over.push((waiting.change, missed)),
                None => self.waiting.push(waiting),
            }
        }
        over
    }
}

impl Waiting {
    /// Reports whether it was asked before a service wrote this time into a datagram.
    fn precedes(&self, stamp: Instant) -> bool {
        stamp.saturating_add(STAMP_PRECISION) > self.asked
    }
}

impl Manager {
    /// A service is being told to reload: from now on what it says counts.
    pub(super) fn listen_for_reload(&mut self, now: Instant, name: &ServiceName, change: ChangeId) {
        if let Some(service) = self.services.get_mut(name)
            && service.spec.ready.notify
        {
            let generation = service.generation;
            let waiting = Waiting { change, generation, asked: now, announced: false, told: None };
            service.reloads.waiting.push(waiting);
        }
    }

    /// A service was told: the goal is reached, unless it may say more about it.
    pub(super) fn on_told(&mut self, now: Instant, name: &ServiceName, change: ChangeId) {
        let told = self.services.get_mut(name).and_then(|service| {
            let timeout = service.reload_timeout();
            let mut waiting = service.reloads.waiting.iter_mut();
            let waiting = waiting.find(|waiting| waiting.change == change)?;
            waiting.told = Some(Told { at: now, timeout });
            Some(())
        });
        match told {
            Some(()) => self.advance_reloads(now, name),
            None => self.settle_goal(now, name, change, None),
        }
    }

    /// A service said something that may be about a reload.
    pub(super) fn hear_of_reload(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        said: &Said,
    ) {
        if let Some(service) = self.services.get_mut(name) {
            service.reloads.hear(now, generation, said);
            self.advance_reloads(now, name);
        }
    }

    /// Settles the goals of reloads that are over.
    pub(super) fn advance_reloads(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let running = match &service.phase {
            Phase::Starting(run) => Some(run.generation),
            Phase::Running(run) => Some(run.generation),
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => None,
        };
        for (change, missed) in service.reloads.take_settled(now, running) {
            self.settle_goal(now, name, change, missed.as_deref());
        }
        self.set_timer(name);
    }
}

impl Service {
    /// Returns how long a reload may take, its command and what it announces each.
    pub(super) fn reload_timeout(&self) -> Duration {
        self.spec.ready.timeout.unwrap_or(RELOAD_TIMEOUT)
    }
}
