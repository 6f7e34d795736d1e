//! The proxy's part of leases and acknowledgements, as `keepd_engine::proxy` has it.

use keepd_engine::manager::{Input, Manager};
use keepd_model::protocol::{Command, Event, Lease, LeaseAfter, RunEnd, RunState};
use keepd_model::{Errno, Generation, Instant, ServiceName, SpawnStep};

use super::{Held, World};

/// What the proxy keeps of a service beside its run.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Its lease, and the generation whose end spends the first delay.
    lease: Option<(Generation, Lease)>,
    /// When a start by lease is due.
    due: Option<Instant>,
    /// Ends that nobody has acknowledged.
    ends: Vec<(Generation, Instant, RunEnd)>,
    acknowledged: Generation,
}

impl Held {
    /// Reports whether it is down, and a start by lease is due.
    pub(super) fn is_pending(&self) -> bool {
        self.kept.due.is_some()
    }

    pub(super) fn acknowledge(&mut self, generation: Generation) {
        assert!(generation <= self.generation, "an end is acknowledged that was not");
        let is_over = matches!(self.state, RunState::Down) || self.is_pending();
        assert!(generation < self.generation || is_over, "a run is acknowledged that goes on");
        self.kept.acknowledged = self.kept.acknowledged.max(generation);
        self.kept.ends.retain(|(ended, ..)| *ended > generation);
    }

    /// Returns the lines of a dump before the run.
    pub(super) fn lines(&self, name: &ServiceName) -> Vec<Event> {
        let mut lines = Vec::new();
        if let Some((base, lease)) = &self.kept.lease {
            lines.push(Event::Lease(name.clone(), *base, lease.clone()));
        }
        for (generation, at, end) in &self.kept.ends {
            if *generation < self.generation {
                let (name, generation, end) = (name.clone(), *generation, *end);
                lines.push(Event::Ended { name, generation, at: Some(*at), end });
            }
        }
        lines
    }
}

impl World {
    /// Returns a world whose proxy knows no leases.
    pub(crate) fn boot_without_leases(plan: keepd_model::Plan) -> Self {
        let mut world = Self::boot(keepd_model::Plan::default());
        world.features.clear();
        world.manager = Manager::new(world.settings.clone());
        world.begin_manager(plan);
        world
    }

    /// Returns when the manager or the proxy has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let dues = self.held.values().filter_map(|held| held.kept.due);
        dues.chain(self.manager.poll_timeout()).min()
    }

    /// Makes the starts that are due; reports whether there were any.
    pub(super) fn start_what_is_due(&mut self) -> bool {
        let is_due = |held: &Held| held.kept.due.is_some_and(|due| due <= self.now);
        let due = self.held.iter().filter(|(_, held)| is_due(held));
        let due: Vec<ServiceName> = due.map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.begin_generation(name);
        }
        !due.is_empty()
    }

    /// Time passes for the proxy alone; nobody listens.
    pub(crate) fn pass_unseen(&mut self, duration: std::time::Duration) {
        let end = self.now.saturating_add(duration);
        while let Some(due) = self.held.values().filter_map(|held| held.kept.due).min()
            && due <= end
        {
            self.now = self.now.max(due);
            self.start_what_is_due();
        }
        self.now = end;
        self.inbox.clear();
    }

    pub(super) fn begin_generation(&mut self, name: &ServiceName) {
        let held = self.held(name.clone());
        held.generation = held.generation.next();
        held.kept.due = None;
        held.state = RunState::Pending;
        (held.pid, held.ended, held.notified) = (None, None, false);
        held.said.clear();
        match &mut self.room {
            Some(0) => self.refuse(name, SpawnStep::Clone, Errno::EAGAIN),
            _ if self.slow.contains(name) => {}
            Some(room) => {
                *room -= 1;
                self.execute(name);
            }
            None => self.execute(name),
        }
    }

    /// Nothing of a generation is left: it is down, and its lease may start it again.
    pub(super) fn come_down(&mut self, name: &ServiceName) {
        self.report(name, RunState::Down);
        let now = self.now;
        let rests = self.features.iter().any(|feature| feature.starts_with("safe"));
        let held = self.held(name.clone());
        let Some(end) = held.ended else { return };
        held.kept.ends.push((held.generation, now, end));
        let Some((base, lease)) = held.kept.lease.take() else { return };
        let is_success = match end {
            RunEnd::Exit(exit) => lease.successes.iter().any(|one| one.matches(exit)),
            RunEnd::Failed(_) | RunEnd::Cancelled => false,
        };
        let found_no_room = matches!(end, RunEnd::Failed(failure) if failure.is_shortage());
        let is_covered =
            !rests && !found_no_room && (lease.after == LeaseAfter::Any || !is_success);
        let mut delays = lease.delays.into_iter();
        let delay = delays.next().filter(|_| is_covered && base == held.generation);
        let left: Vec<_> = delays.collect();
        if !left.is_empty() {
            held.kept.lease = Some((base.next(), Lease { delays: left, ..lease }));
        }
        if let Some(delay) = delay {
            let due = now.saturating_add(delay);
            held.kept.due = Some(due);
            self.report(name, RunState::Pending);
            self.held(name.clone()).at = due;
            let message = self.held[name].report(name);
            let line = self.inbox.back_mut().expect("the report is there");
            *line = Input::Message(message);
        }
    }

    pub(super) fn grant(&mut self, name: &ServiceName, lease: Lease) {
        let held = self.held(name.clone());
        let is_over = held.state == RunState::Down || held.is_pending();
        let base = if is_over { held.generation.next() } else { held.generation };
        held.kept.lease = (!lease.delays.is_empty()).then_some((base, lease));
        if held.kept.lease.is_none() {
            self.cancel_pending(name);
        }
    }

    /// A stop and another definition end a lease, and take a start of it back.
    pub(super) fn end_lease_by(&mut self, command: &Command) {
        let (Command::ServiceArgs { name, .. }
        | Command::ServiceSet { name, .. }
        | Command::ServiceEnv { name, .. }
        | Command::ServiceLog { name, .. }
        | Command::ServiceStop { name, .. }) = command
        else {
            return;
        };
        let held = self.held(name.clone());
        let had_one = held.kept.lease.take().is_some();
        if had_one && !matches!(command, Command::ServiceStop { .. }) {
            self.cancel_pending(name);
        }
    }

    pub(super) fn cancel_pending(&mut self, name: &ServiceName) {
        if self.held(name.clone()).kept.due.take().is_some() {
            self.report(name, RunState::Down);
        }
    }

    /// Its end, and what follows from its lease, before the manager hears of anything.
    pub(crate) fn exits_behind(&mut self, service: &str, exit: keepd_model::Exit) -> Vec<Input> {
        let before = std::mem::take(&mut self.inbox);
        self.end(&super::name(service), exit);
        self.start_what_is_due();
        std::mem::replace(&mut self.inbox, before).into()
    }

    /// Gives what was on its way before the proxy heard of this wish.
    pub(crate) fn give_before(&mut self, request: keepd_engine::manager::Ask, news: Vec<Input>) {
        let asks = self.asks + 1;
        self.asks = asks;
        let ask = keepd_engine::manager::AskId(asks);
        let who = keepd_engine::manager::Who { uid: 7, pid: 70 };
        let token = None;
        self.manager.handle_input(self.now, Input::Ask { ask, who, token, request });
        let before: Vec<Input> = news;
        self.inbox.extend(before);
        self.carry_out_all();
        self.drive();
    }

    /// Gives these news to the manager, and lets everything happen that follows.
    pub(crate) fn give_all(&mut self, news: Vec<Input>) {
        self.inbox.extend(news);
        self.drive();
    }

    /// The program of a service in [`World::slow`] runs, and ends before anybody can be told.
    pub(crate) fn runs_and_exits(&mut self, service: &str, exit: keepd_model::Exit) {
        let name = super::name(service);
        self.execute(&name);
        self.end(&name, exit);
        self.drive();
    }

    /// Somebody else takes a lease back, and the start that it made pending.
    pub(crate) fn loses_lease(&mut self, service: &str) {
        let name = super::name(service);
        self.held(name.clone()).kept.lease = None;
        self.cancel_pending(&name);
        self.drive();
    }

    /// The proxy was lost before the program of this generation began.
    pub(crate) fn is_cancelled(&mut self, service: &str) {
        let name = super::name(service);
        let now = self.now;
        let held = self.held(name);
        held.ended = Some(RunEnd::Cancelled);
        (held.state, held.pid, held.at) = (RunState::Down, None, now);
        held.kept.ends.push((held.generation, now, RunEnd::Cancelled));
    }

    /// Returns the leases and acknowledgements that were sent, and forgets them.
    pub(crate) fn leased(&mut self) -> Vec<String> {
        std::mem::take(&mut self.leases)
    }
}

/// Returns a lease or an acknowledgement in short words.
pub(super) fn short(command: &Command) -> Option<String> {
    match command {
        Command::ServiceLease { name, expected, lease } => {
            let after = match lease.after {
                LeaseAfter::Any => "any",
                LeaseAfter::Failure => "failure",
            };
            let delays = lease.delays.iter().map(|delay| delay.as_millis().to_string());
            let delays: Vec<String> = delays.collect();
            Some(format!("lease {name} {expected} {after} {}", delays.join(" ")))
        }
        Command::ServiceAck { name, generation } => Some(format!("ack {name} {generation}")),
        _ => None,
    }
}
