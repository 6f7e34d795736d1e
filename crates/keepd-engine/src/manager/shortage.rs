//! Starts that the system had no room for: too few processes, descriptors, memory, space.
//!
//! Nothing was tried, so the service has not failed: no restart policy is asked, and nothing is
//! counted. What is due is to try again soon, without making the shortage worse and without being
//! late when it is over. So each service is tried again after a delay that grows to one second, no
//! two of them at the same time; the first that runs brings two others along, and so on.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::{Instant, ServiceName};

use super::Manager;
use super::cause::Cause;
use super::service::Phase;

/// How long until the next try: 50 ms, twice as long each time, at most a second.
const RETRY: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(1),
    factor: 2.0,
    jitter: 0.2,
    reset: Duration::ZERO,
};

/// How far apart two tries are at least: it bounds what a thousand services cost meanwhile.
const APART: Duration = Duration::from_millis(20);

/// How many are tried when a start succeeded.
const BROUGHT_ALONG: usize = 2;

/// Who waits for the system to have room.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortage {
    /// How often in a row each was refused.
    tries: BTreeMap<ServiceName, u32>,
    /// The time of the latest try that was agreed on.
    latest: Instant,
}

impl Shortage {
    /// Agrees on the next try of a service that was refused.
    fn next_try(&mut self, now: Instant, name: &ServiceName, chance: f64) -> Instant {
        let tries = self.tries.entry(name.clone()).or_default();
        *tries = tries.saturating_add(1);
        // The first delay belongs to a second end.
        let delay = RETRY.delay_with_jitter(tries.saturating_add(1), chance);
        // Those that went away since do not keep anybody waiting.
        let waiting = u32::try_from(self.tries.len()).unwrap_or(u32::MAX);
        let last = now.saturating_add(APART.saturating_mul(waiting));
        let apart = self.latest.saturating_add(APART).min(last);
        self.latest = now.saturating_add(delay).max(apart);
        self.latest
    }

    /// Forgets a service: its program runs, or it waits no more.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        self.tries.remove(name);
    }

    /// Returns how often in a row a service was refused.
    pub(super) fn tries(&self, name: &ServiceName) -> u32 {
        self.tries.get(name).copied().unwrap_or_default()
    }
}

impl Manager {
    /// A start found no room: it is tried again soon, whatever the policy.
    pub(super) fn wait_for_room(&mut self, now: Instant, name: &ServiceName, cause: Cause) {
        let tries = self.shortage.tries(name);
        let chance = self.services.get(name).map_or(0.0, |service| self.chance(service, tries));
        let until = self.shortage.next_try(now, name, chance);
        self.transition(now, name, Phase::Backoff { until }, cause);
    }

    /// A program runs that was not running: there is room again, at least for some.
    pub(super) fn on_room(&mut self, now: Instant, name: &ServiceName) {
        self.shortage.forget(name);
        let mut brought = 0;
        while brought < BROUGHT_ALONG
            && let Some((other, _)) = self.shortage.tries.pop_first()
        {
            let waits = |phase: &Phase| matches!(phase, Phase::Backoff { .. });
            if self.services.get(&other).is_some_and(|service| waits(&service.phase)) {
                self.start_by_policy(now, &other);
                brought += 1;
            }
        }
    }
}
