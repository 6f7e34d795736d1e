//! Leases: restarts that the proxy makes without asking, so that a lost manager costs no service
//! its restart, and a present one no round trip.
//!
//! A lease is what [`Manager::apply_policy`] would do from here, written down: the same counts, the
//! same delays, and no more of them than the restart limit allows. So it does not matter who
//! restarts a service. The proxy spends one delay an end; the manager counts every end that it
//! hears of, and grants a new lease for each generation.
//!
//! The proxy may use a lease in the very moment in which it is taken back. What came first is told
//! by the order of the lines: an end that comes before the answer was there before the command.
//! Then the dump says what became of it.
//!
//! [`Manager::apply_policy`]: super::Manager

use std::time::Duration;

use keepd_model::backoff::Backoff;
use keepd_model::protocol::{Command, LEASE_DELAYS_MAX, Lease, LeaseAfter, RequestId, RunReport};
use keepd_model::{Generation, Instant, Kind, Probe, RestartPolicy, ServiceName};

use super::cause::Cause;
use super::service::{Digest, Phase, Rest, Service, Want, fingerprint};
use super::{Manager, Sent};

/// The proxy makes a start by lease at its time; so much later it has to have said so.
const OVERDUE_AFTER: Duration = Duration::from_secs(1);

/// What is known of the lease that the proxy has for a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Leasing {
    /// It has this one.
    held: Option<Held>,
    /// Another one, or none, was asked for, and there is no answer yet.
    asked: Option<Asked>,
}

/// A lease that the proxy has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    /// The generation that it was given for.
    generation: Generation,
    /// The last generation whose end was counted when it was reckoned, or spent.
    counted: Generation,
    /// How many ends it still answers.
    left: usize,
    /// Of the lease as it was given.
    digest: Digest,
}

/// A command about a lease without an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    id: RequestId,
    /// What the proxy has from then on.
    lease: Option<Held>,
}

impl Held {
    fn of(generation: Generation, counted: Generation, lease: &Lease) -> Option<Self> {
        let left = lease.delays.len();
        (left > 0).then(|| Self { generation, counted, left, digest: Digest::of(lease) })
    }
}

impl Leasing {
    /// Returns what a dump says.
    pub(super) fn seen(generation: Generation, counted: Generation, lease: Option<&Lease>) -> Self {
        Self { held: lease.and_then(|lease| Held::of(generation, counted, lease)), asked: None }
    }

    /// Reports whether the proxy starts the service again after an end that is to be followed by a
    /// start.
    pub(super) fn covers_end(&self) -> bool {
        self.held.is_some()
    }

    /// Notes that the proxy answers the end of this generation.
    pub(super) fn spend(&mut self, counted: Generation) {
        self.held = self.held.and_then(|held| {
            let left = held.left.checked_sub(1).filter(|left| *left > 0)?;
            Some(Held { left, counted, ..held })
        });
    }

    /// Reports whether the proxy took it after an end for which it was reckoned: it is for the ends
    /// after that one, and one too long.
    fn is_late(&self, counted: Generation) -> bool {
        self.held.is_some_and(|held| held.counted < counted)
    }

    /// Reports whether the lease was taken back, and nobody knows whether it was used before.
    pub(super) fn is_being_taken_back(&self) -> bool {
        self.asked.is_some_and(|asked| asked.lease.is_none())
    }

    /// Notes a command that ends the lease. Without a lease there is nothing to wait for.
    pub(super) fn end_by(&mut self, id: RequestId) {
        if self.held.is_some() || self.asked.is_some() {
            self.asked = Some(Asked { id, lease: None });
        }
    }

    /// Notes that there is no lease, because the definition changed while nothing ran.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes the answer to a command about it.
    fn answer(&mut self, id: RequestId, accepted: bool) {
        if let Some(asked) = self.asked.take_if(|asked| asked.id == id)
            && accepted
        {
            self.held = asked.lease;
        }
    }
}

/// What should be so of a lease.
enum Terms {
    /// The proxy keeps what it has.
    Stay,
    /// It has none.
    None,
    /// It has this one.
    Give(Lease),
}

impl Manager {
    /// Grants, renews and takes back the leases of services that were touched in this turn.
    pub(super) fn renew_leases(&mut self, now: Instant) {
        if !self.abilities.leases || self.abilities.safe_mode.is_some() {
            return;
        }
        let names: Vec<ServiceName> = self.touched.iter().cloned().collect();
        for name in names {
            self.renew_lease(now, &name);
        }
    }

    fn renew_lease(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let leasing = &service.leasing;
        let (generation, counted) = (service.generation, service.counted());
        let lease = match self.terms(now, service) {
            Terms::Stay => return,
            Terms::None => {
                let has_one = leasing.held.is_some() || leasing.asked.is_some();
                if !has_one || leasing.is_being_taken_back() {
                    return;
                }
                Lease::default()
            }
            Terms::Give(lease) => {
                // One at a time: the answer says from where to go on.
                let held = Held::of(generation, counted, &lease);
                if leasing.asked.is_some() || leasing.held == held {
                    return;
                }
                lease
            }
        };
        let held = Held::of(generation, counted, &lease);
        let command = Command::ServiceLease { name: name.clone(), expected: generation, lease };
        let id = self.send_for(command, Sent::Lease { name: name.clone() });
        if let Some(service) = self.services.get_mut(name) {
            service.leasing.asked = Some(Asked { id, lease: held });
        }
    }

    /// Takes the answer to a command that gave a lease, or ended one.
    pub(super) fn on_lease_answered(
        &mut self,
        now: Instant,
        id: RequestId,
        name: &ServiceName,
        accepted: bool,
    ) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.leasing.answer(id, accepted);
        // A refusal is followed by the news that made it one.
        if !accepted {
            return;
        }
        self.touched.insert(name.clone());
        if let Phase::Leased { cancelled: true, .. } = service.phase {
            let cause = service.want_cause.clone();
            self.transition(now, name, Phase::Resting(Rest::Stopped), cause);
        }
    }

    fn terms(&self, now: Instant, service: &Service) -> Terms {
        if service.want != Want::Up || self.shutdown.is_some() || !service.may_be_leased() {
            return Terms::None;
        }
        match &service.phase {
            Phase::Starting(_) => Terms::Give(self.lease(now, service, false)),
            Phase::Running(_) => Terms::Give(self.lease(now, service, true)),
            Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Backoff { .. }
            | Phase::Leased { .. }
                if service.leasing.is_late(service.counted()) =>
            {
                Terms::Give(self.lease(now, service, false))
            }
            // The next start is commanded. Left to the proxy, the lease would answer the end of
            // that one as if it were the next of the run before, which perhaps was ready.
            Phase::Resting(_) => Terms::None,
            // What it has counts for the end that is coming, or has come.
            Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Backoff { .. }
            | Phase::Leased { .. }
            | Phase::Waiting
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_) => Terms::Stay,
        }
    }

    /// Returns what the restart policy would do from here.
    fn lease(&self, now: Instant, service: &Service, is_ready: bool) -> Lease {
        let spec = &service.spec;
        let (mut count, recent) = match service.is_steady(now) {
            true => (0, 0),
            false => (service.end_count, service.recent_restarts(now)),
        };
        let allowed = match spec.restart_limit.count {
            0 => LEASE_DELAYS_MAX,
            limit => (limit as usize).saturating_sub(recent).min(LEASE_DELAYS_MAX),
        };
        let delays = (0..allowed).map(|_| {
            count = Backoff::count_end(count, is_ready);
            // The protocol knows milliseconds.
            let delay_ms = self.delay(service, count).as_millis();
            Duration::from_millis(u64::try_from(delay_ms).unwrap_or(u64::MAX))
        });
        let after = match spec.restart {
            RestartPolicy::OnFailure => LeaseAfter::Failure,
            RestartPolicy::Always | RestartPolicy::Never => LeaseAfter::Any,
        };
        Lease { after, successes: spec.exit_ok.clone(), delays: delays.collect() }
    }

    /// Returns the delay before the start that follows the end of this number, with jitter.
    ///
    /// Chance is a function of the run and the number: whoever asks gets the same, the proxy's
    /// lease, this manager and the next one.
    pub(super) fn delay(&self, service: &Service, count: u32) -> Duration {
        service.spec.backoff.delay_with_jitter(count, self.chance(service, count))
    }

    /// Returns a number from 0.0 to 1.0.
    pub(super) fn chance(&self, service: &Service, count: u32) -> f64 {
        let run = service.invocation.unwrap_or_else(|| {
            u128::from(self.settings.seed) << 64 | u128::from(service.generation.get())
        });
        let words = [run as u64, (run >> 64) as u64, u64::from(count)];
        let name = service.name().as_str().bytes().map(u64::from);
        let seed = words.into_iter().chain(name).fold(0, |hash, word| mix(hash ^ word));
        // 53 bits fill the mantissa exactly.
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The proxy starts a service again, which ended: this delay after the end.
    pub(super) fn leave_to_proxy(
        &mut self,
        now: Instant,
        name: &ServiceName,
        until: Option<Instant>,
        cause: Cause,
    ) {
        let overdue = until.unwrap_or(now).max(now).saturating_add(OVERDUE_AFTER);
        let phase = Phase::Leased { until, overdue, cancelled: false };
        self.transition(now, name, phase, cause);
    }

    /// Takes back the start that the proxy would make. Until its answer that start may have been
    /// made already.
    pub(super) fn cancel_leased(&mut self, name: &ServiceName) {
        if let Some(service) = self.services.get_mut(name)
            && let Phase::Leased { cancelled: cancelled @ false, .. } = &mut service.phase
        {
            *cancelled = true;
            self.take_lease_back(name);
        }
        self.touch(name);
    }

    /// Takes a lease back, and the start that it made pending. Refused, that start was made.
    pub(super) fn take_lease_back(&mut self, name: &ServiceName) {
        let Some(expected) = self.services.get(name).map(|service| service.generation) else {
            return;
        };
        let lease = Lease::default();
        let command = Command::ServiceLease { name: name.clone(), expected, lease };
        let id = self.send_for(command, Sent::Unlease { name: name.clone() });
        if let Some(service) = self.services.get_mut(name) {
            service.leasing.asked = Some(Asked { id, lease: None });
        }
    }

    /// The proxy says when it starts a service again: that counts.
    pub(super) fn on_start_due(&mut self, now: Instant, name: &ServiceName, at: Instant) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if let Phase::Leased { until: Some(until), overdue, .. } = &mut service.phase {
            *until = at;
            *overdue = at.max(now).saturating_add(OVERDUE_AFTER);
            self.touched.insert(name.clone());
            self.set_timer(name);
        }
    }

    /// News of a generation that nobody commanded: reports whether it is the next one of a lease.
    pub(super) fn follow_lease(&mut self, now: Instant, report: &RunReport) -> bool {
        let name = &report.name;
        let Some(service) = self.services.get_mut(name) else {
            return false;
        };
        let is_leased = matches!(service.phase, Phase::Leased { .. });
        if !is_leased || report.generation != service.generation.next() {
            return false;
        }
        service.begin_by_lease(report.generation);
        let timeout = service.spec.ready.timeout;
        let deadline = timeout.map(|timeout| now.saturating_add(timeout));
        let (generation, pid) = (report.generation, report.pid);
        let phase = Phase::Commanded { generation, pid, questions: None, deadline };
        self.transition(now, name, phase, Cause::RestartPolicy);
        true
    }

    /// The proxy should have started it: the dump says why it did not.
    pub(super) fn ask_after_lease(&mut self, now: Instant, name: &ServiceName) {
        if let Some(service) = self.services.get_mut(name)
            && let Phase::Leased { overdue, .. } = &mut service.phase
        {
            *overdue = now.saturating_add(OVERDUE_AFTER);
        }
        self.begin_dump();
    }

    /// It was ready for so long that its next end is a first one.
    pub(super) fn forget_old_ends(&mut self, now: Instant, name: &ServiceName) {
        if let Some(service) = self.services.get_mut(name)
            && service.is_steady(now)
        {
            service.forget_ends();
            self.touched.insert(name.clone());
        }
    }
}

impl Service {
    /// Reports whether a start without fresh data is as good as one by the manager: what runs has
    /// today's definition, and nothing has to be looked at before it starts.
    fn may_be_leased(&self) -> bool {
        let spec = &self.spec;
        let asks_for_file = spec.ready.probes.iter().any(|probe| match probe {
            Probe::File(_) => true,
            Probe::Tcp(_) | Probe::Http(_) | Probe::Exec(_) | Probe::Socket(_) | Probe::Log(_) => {
                false
            }
        });
        // The end of a oneshot is what it is for.
        spec.kind == Kind::Daemon
            && spec.restart != RestartPolicy::Never
            && spec.quarantine.is_none()
            && spec.env_files.is_empty()
            && !asks_for_file
            && !self.reacts()
            && !self.removed
            && !self.needs_new_start
            && self.launched == Some(fingerprint(spec))
    }

    /// Reports whether it was ready for so long that its ends before do not count any more.
    fn is_steady(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Running(running) => {
                now.saturating_since(running.ready) >= self.spec.backoff.reset
            }
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Gathered
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Backoff { .. }
            | Phase::Leased { .. } => false,
        }
    }

    /// Notes that its present generation is one that the proxy began by its lease.
    pub(super) fn begin_by_lease(&mut self, generation: Generation) {
        self.generation = generation;
        self.ready_after = None;
        self.status_text = None;
        self.held.clear();
        self.start_cause = Cause::RestartPolicy;
    }
}

/// One round of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every other.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
