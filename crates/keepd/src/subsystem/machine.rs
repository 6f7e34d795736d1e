//! What happens to each subsystem, and in which order: the pure machine behind the manager.
//!
//! News goes in by the methods that take `now`; what has to be done comes out of
//! [`Machine::take_outputs`], in order. There is no clock, task, lock or closure here.
//!
//! A subsystem is *live* from its start until nothing will follow: it has a task, waits for its
//! next start, or waits for the subsystems inside it. The shutdown order follows from one rule:
//! **nobody is asked to end while somebody who needs it is live**. Those are the subsystems inside
//! it, and those that depend on it. Somebody who is kept from being asked is *held*. The end of the
//! graceful time ends the order: then everybody is asked.
//!
//! Who outranks whom: the force time over everything; the shutdown of all over a restart, by hand
//! or by rule; a stop by hand over a rule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use keepd_model::Instant;

use super::SubsystemState;
use super::slot::{
    ABORTED, ASKED_LATE, After, CRITICAL, Cold, FREE, Life, NONE, OVERDUE, Phase, Slot, Timer, Work,
};
use super::words::{Counts, End, Facts, Output, PANIC_EXIT_CODE, Settings, Setup};
use crate::restart::{Decision, Outcome, Past, Ran, Restart, RestartWhen, Window};

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    slots: Vec<Slot>,
    free: Vec<u32>,
    timers: BinaryHeap<Reverse<(Instant, u32, u32, Timer)>>,
    phase: Phase,
    settings: Settings,
    live: usize,
    total_restarts: u64,
    /// Whether somebody listens to the changes of states.
    announces: bool,
    outputs: Vec<Output>,
    work: Vec<Work>,
}

impl Machine {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            phase: Phase::Up,
            settings,
            live: 0,
            total_restarts: 0,
            announces: false,
            outputs: Vec::new(),
            work: Vec::new(),
        }
    }

    pub(crate) const fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(crate) const fn settings(&self) -> Settings {
        self.settings
    }

    /// From now on every change of a state is an output.
    pub(crate) const fn announce(&mut self) {
        self.announces = true;
    }

    /// Takes what has to be done, in order.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Replaces the rule for the ends of one.
    pub(crate) fn set_restart(&mut self, index: u32, restart: Restart) {
        self.cold_mut(index).restart = restart;
    }

    /// Adds a subsystem; it is not started.
    pub(crate) fn register(&mut self, now: Instant, setup: Setup) -> u32 {
        let is_plain = setup.restart.when() == RestartWhen::Never && setup.stop_timeout.is_none();
        let cold = (!is_plain).then(|| {
            let Setup { restart, stop_timeout, .. } = setup;
            Box::new(Cold { restart, stop_timeout, ..Cold::default() })
        });
        let mut slot = Slot {
            registered: now,
            started: now,
            stopped: now,
            cold,
            reuse: 0,
            run: 0,
            restarts: 0,
            row: 0,
            parent: setup.parent.unwrap_or(NONE),
            inside_live: 0,
            needing_live: 0,
            bad_answers: 0,
            life: Life::Registered,
            flags: if setup.is_critical { CRITICAL } else { 0 },
        };
        let index = match self.free.pop() {
            Some(index) => {
                slot.reuse = self.slot(index).reuse + 1;
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 subsystems")
            }
        };
        if let Some(parent) = setup.parent {
            self.cold_mut(parent).inside.push(index);
        }
        index
    }

    /// Notes whom a subsystem needs. Only while it is not live.
    pub(crate) fn set_needs(&mut self, index: u32, needs: Vec<u32>) {
        for needed in self.cold(index).map(|cold| cold.needs.clone()).unwrap_or_default() {
            if let Some(cold) = &mut self.slot_mut(needed).cold {
                cold.needed_by.retain(|other| *other != index);
            }
        }
        for needed in &needs {
            self.cold_mut(*needed).needed_by.push(index);
        }
        self.cold_mut(index).needs = needs;
    }

    /// Starts a subsystem that is not live, or one that waits for its start. Nothing starts once a
    /// shutdown has begun: returns false then.
    pub(crate) fn start(&mut self, now: Instant, index: u32) -> bool {
        if self.phase != Phase::Up {
            return false;
        }
        match self.slot(index).life {
            Life::Registered | Life::Ended { .. } => {
                self.forget_restarts(index);
                self.become_live(index);
                self.begin(now, index);
            }
            Life::Waiting => self.begin(now, index),
            Life::Running | Life::Held { .. } | Life::Stopping { .. } | Life::Closing { .. } => {}
        }
        true
    }

    /// Ends a subsystem, after those inside it.
    pub(crate) fn stop(&mut self, now: Instant, index: u32) {
        self.stop_alone(now, index, After::Stay);
        self.do_work(now);
    }

    /// From now on the end of this one is the end of all.
    pub(crate) fn set_critical(&mut self, index: u32) {
        self.slot_mut(index).flags |= CRITICAL;
    }

    /// Ends these in the order of a shutdown: each after those inside it and those that need it.
    pub(crate) fn stop_many(&mut self, now: Instant, indices: &[u32]) {
        for index in indices {
            self.stop_with_all(now, *index);
        }
        self.do_work(now);
    }

    /// Ends a subsystem and starts it again, with the delay of a restart by hand. Returns false
    /// once a shutdown has begun.
    pub(crate) fn restart(&mut self, now: Instant, index: u32) -> bool {
        if self.phase != Phase::Up {
            return false;
        }
        match self.slot(index).life {
            Life::Registered | Life::Ended { .. } | Life::Waiting => {
                if self.slot(index).life != Life::Waiting {
                    self.become_live(index);
                }
                self.restart_by_hand(now, index);
            }
            Life::Running | Life::Held { .. } | Life::Stopping { .. } | Life::Closing { .. } => {
                self.stop_alone(now, index, After::Restart);
            }
        }
        self.do_work(now);
        true
    }

    /// Takes the news that a run ended. News of an earlier run is dropped. `random` is uniform in
    /// 0.0 to 1.0.
    pub(crate) fn ended(&mut self, now: Instant, index: u32, run: u32, end: End, random: f64) {
        let slot = self.slot_mut(index);
        if slot.run != run {
            return;
        }
        let after = match slot.life {
            Life::Running => None,
            Life::Held { after, .. } | Life::Stopping { after } => Some(after),
            Life::Registered | Life::Closing { .. } | Life::Waiting | Life::Ended { .. } => return,
        };
        let was_held = matches!(slot.life, Life::Held { .. });
        slot.stopped = now;
        let aborted_by_us = slot.flags & ABORTED != 0;
        // Where the runtime has gone, another start could only be dropped as well.
        let after = if end == End::Aborted && !aborted_by_us { Some(After::Stay) } else { after };
        let (failure, code) = match end {
            End::Done => (None, Some(0)),
            End::Failed(text, code) => (Some(text), Some(code)),
            End::Panicked(text) => (Some(format!("panicked: {text}")), Some(PANIC_EXIT_CODE)),
            End::Aborted if aborted_by_us => {
                (Some("aborted: it did not end when it was asked to".to_owned()), None)
            }
            End::Aborted => (Some("aborted: its runtime has gone".to_owned()), None),
        };
        let outcome = Outcome { failed: failure.is_some(), code };
        if outcome.failed {
            self.cold_mut(index).error = failure;
            self.outputs.push(Output::Failure { index });
        }
        if was_held {
            self.changed(index, SubsystemState::Stopping);
        }
        if self.slot(index).inside_live > 0 {
            self.slot_mut(index).life = Life::Closing { after, outcome };
            self.stop_inside(index);
        } else {
            self.settle(now, index, after, outcome, random);
        }
        self.do_work(now);
    }

    /// Takes the answer to a health check of this run.
    pub(crate) fn health(&mut self, now: Instant, index: u32, run: u32, is_healthy: bool) {
        let failures = self.settings.health_failures;
        let slot = self.slot_mut(index);
        if slot.run != run || slot.life != Life::Running {
            return;
        }
        if is_healthy {
            if std::mem::take(&mut slot.bad_answers) >= failures {
                self.outputs.push(Output::Healthy { index });
            }
            return;
        }
        slot.bad_answers = slot.bad_answers.saturating_add(1);
        if slot.bad_answers != failures {
            return;
        }
        if self.restart_rule(index).when() == RestartWhen::Never {
            self.outputs.push(Output::Unhealthy { index });
            return;
        }
        self.cold_mut(index).error =
            Some(format!("unhealthy: {failures} health checks in a row failed"));
        self.outputs.push(Output::Failure { index });
        self.stop_alone(now, index, After::Unhealthy);
        self.do_work(now);
    }

    /// Begins the shutdown of all, or moves its times.
    pub(crate) fn shut_down(&mut self, now: Instant, grace_over: Instant, force: Instant) {
        match &mut self.phase {
            Phase::Aborted => return,
            Phase::Forced { force: at } => {
                *at = force;
                return;
            }
            Phase::Graceful { grace_over: grace_at, force: at } => {
                (*grace_at, *at) = (grace_over, force);
                return;
            }
            Phase::Up => self.phase = Phase::Graceful { grace_over, force },
        }
        for index in 0..self.slots.len() {
            self.stop_with_all(now, index as u32);
        }
        self.do_work(now);
    }

    /// Ends the force time: aborts whatever runs.
    pub(crate) fn abort_all(&mut self) {
        if self.phase == Phase::Aborted {
            return;
        }
        self.phase = Phase::Aborted;
        for index in 0..self.slots.len() {
            self.abort(index as u32);
        }
    }

    /// Does what is due. Afterwards [`poll_timeout`](Self::poll_timeout) is later than `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((due, index, run, timer))) = self.timers.peek().copied()
            && due <= now
        {
            self.timers.pop();
            let slot = self.slot(index);
            if slot.flags & FREE != 0 || slot.run != run {
                continue;
            }
            match (timer, slot.life) {
                (Timer::Start, Life::Waiting) => self.begin(now, index),
                (Timer::StopDeadline, Life::Stopping { .. }) => self.abort(index),
                (Timer::Start | Timer::StopDeadline, _) => {}
            }
        }
        if let Phase::Graceful { grace_over, force } = self.phase
            && grace_over <= now
        {
            self.phase = Phase::Forced { force };
            self.outputs.push(Output::GraceOver);
            self.ask_those_held(now);
        }
        if let Phase::Forced { force } = self.phase
            && force <= now
        {
            self.abort_all();
        }
        self.do_work(now);
    }

    /// Returns when something is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            // With nobody left the phases have nothing to do.
            _ if self.live == 0 => None,
            Phase::Up | Phase::Aborted => None,
            Phase::Graceful { grace_over, .. } => Some(grace_over),
            Phase::Forced { force } => Some(force),
        };
        let timer = self.timers.peek().map(|Reverse((due, ..))| *due);
        phase.into_iter().chain(timer).min()
    }

    /// Takes a subsystem out. Returns false where it is live.
    pub(crate) fn remove(&mut self, index: u32) -> bool {
        if self.is_live(index) {
            return false;
        }
        self.remove_tree(index);
        true
    }

    pub(crate) const fn is_shutting_down(&self) -> bool {
        !matches!(self.phase, Phase::Up)
    }

    pub(crate) const fn live(&self) -> usize {
        self.live
    }

    pub(crate) const fn total_restarts(&self) -> u64 {
        self.total_restarts
    }

    /// Returns the id of the subsystem at this place.
    pub(crate) fn id(&self, index: u32) -> u64 {
        u64::from(self.slot(index).reuse) << 32 | (u64::from(index) + 1)
    }

    /// Returns the place of the subsystem with this id.
    pub(crate) fn index(&self, id: u64) -> Option<u32> {
        let index = (id as u32).checked_sub(1)?;
        let slot = self.slots.get(index as usize)?;
        (slot.flags & FREE == 0 && self.id(index) == id).then_some(index)
    }

    /// Returns every place in use, in ascending order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.flags & FREE == 0);
        used.map(|(index, _)| index as u32)
    }

    /// Returns the subsystem that this one is inside of.
    pub(crate) fn parent(&self, index: u32) -> Option<u32> {
        Some(self.slot(index).parent).filter(|parent| *parent != NONE)
    }

    /// Reports whether it is `other`, or inside it at any depth.
    pub(crate) fn is_within(&self, mut index: u32, other: u32) -> bool {
        while index != other {
            match self.parent(index) {
                Some(parent) => index = parent,
                None => return false,
            }
        }
        true
    }

    pub(crate) fn needs(&self, index: u32) -> &[u32] {
        self.cold(index).map_or(&[], |cold| &cold.needs)
    }

    pub(crate) fn run(&self, index: u32) -> u32 {
        self.slot(index).run
    }

    /// Reports whether its task exists, or is about to.
    pub(crate) fn has_task(&self, index: u32) -> bool {
        match self.slot(index).life {
            Life::Running | Life::Held { .. } | Life::Stopping { .. } => true,
            Life::Registered | Life::Closing { .. } | Life::Waiting | Life::Ended { .. } => false,
        }
    }

    /// Reports whether anything may still follow.
    pub(crate) fn is_live(&self, index: u32) -> bool {
        match self.slot(index).life {
            Life::Registered | Life::Ended { .. } => false,
            Life::Running
            | Life::Held { .. }
            | Life::Stopping { .. }
            | Life::Closing { .. }
            | Life::Waiting => true,
        }
    }

    /// Reports whether this run is to be aborted.
    pub(crate) fn is_aborted(&self, index: u32, run: u32) -> bool {
        let slot = self.slot(index);
        slot.run == run && slot.flags & ABORTED != 0 && self.has_task(index)
    }

    /// Reports whether it was aborted because its time in a shutdown was over.
    pub(crate) fn was_overdue(&self, index: u32) -> bool {
        self.slot(index).flags & OVERDUE != 0
    }

    /// Reports whether it was not asked before the graceful time was over.
    pub(crate) fn was_asked_late(&self, index: u32) -> bool {
        self.slot(index).flags & ASKED_LATE != 0
    }

    /// Reports whether a subsystem that runs answers badly.
    pub(crate) fn is_unhealthy(&self, index: u32) -> bool {
        let slot = self.slot(index);
        slot.life == Life::Running && slot.bad_answers >= self.settings.health_failures
    }

    /// Reports whether it decides about all.
    pub(crate) fn is_critical(&self, index: u32) -> bool {
        self.slot(index).flags & CRITICAL != 0
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { restarts: self.total_restarts, ..Counts::default() };
        for index in self.indices() {
            counts.registered += 1;
            counts.running += u64::from(self.state(index) == SubsystemState::Running);
            counts.failed += u64::from(self.state(index) == SubsystemState::Failed);
            counts.unhealthy += u64::from(self.is_unhealthy(index));
        }
        counts
    }

    pub(crate) fn state(&self, index: u32) -> SubsystemState {
        match self.slot(index).life {
            Life::Registered => SubsystemState::Starting,
            Life::Running | Life::Held { .. } => SubsystemState::Running,
            Life::Stopping { .. } | Life::Closing { .. } => SubsystemState::Stopping,
            Life::Waiting => SubsystemState::Restarting,
            Life::Ended { failed: false } => SubsystemState::Stopped,
            Life::Ended { failed: true } => SubsystemState::Failed,
        }
    }

    pub(crate) fn facts(&self, index: u32) -> Facts {
        let slot = self.slot(index);
        let stopped = slot.run > 0 && !self.has_task(index);
        Facts {
            state: self.state(index),
            registered: slot.registered,
            started: (slot.run > 0).then_some(slot.started),
            stopped: stopped.then_some(slot.stopped),
            restarts: slot.restarts,
            error: self.cold(index).and_then(|cold| cold.error.clone()),
        }
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    fn cold(&self, index: u32) -> Option<&Cold> {
        self.slot(index).cold.as_deref()
    }

    fn cold_mut(&mut self, index: u32) -> &mut Cold {
        self.slot_mut(index).cold.get_or_insert_default()
    }

    fn restart_rule(&self, index: u32) -> Restart {
        self.cold(index).map(|cold| cold.restart).unwrap_or_default()
    }

    fn changed(&mut self, index: u32, state: SubsystemState) {
        if self.announces {
            self.outputs.push(Output::Changed { index, state });
        }
    }

    /// Starts the next run of a live subsystem.
    fn begin(&mut self, now: Instant, index: u32) {
        // Those inside belong to the run that registered them.
        let inside =
            self.slot_mut(index).cold.as_mut().map(|cold| std::mem::take(&mut cold.inside));
        for child in inside.unwrap_or_default() {
            self.remove_tree(child);
        }
        let slot = self.slot_mut(index);
        slot.run += 1;
        slot.started = now;
        slot.bad_answers = 0;
        slot.flags &= !(ABORTED | OVERDUE | ASKED_LATE);
        slot.life = Life::Running;
        let run = slot.run;
        self.changed(index, SubsystemState::Starting);
        self.outputs.push(Output::Start { index, run });
        self.changed(index, SubsystemState::Running);
    }

    fn remove_tree(&mut self, index: u32) {
        let mut left = vec![index];
        while let Some(index) = left.pop() {
            self.set_needs(index, Vec::new());
            if let Some(cold) = self.slot_mut(index).cold.take() {
                left.extend(cold.inside);
                for other in cold.needed_by {
                    self.cold_mut(other).needs.retain(|needed| *needed != index);
                }
            }
            let parent = std::mem::replace(&mut self.slot_mut(index).parent, NONE);
            if parent != NONE
                && let Some(cold) = &mut self.slot_mut(parent).cold
            {
                cold.inside.retain(|child| *child != index);
            }
            self.slot_mut(index).flags = FREE;
            self.free.push(index);
            self.outputs.push(Output::Remove { index });
        }
    }

    fn become_live(&mut self, index: u32) {
        self.live += 1;
        self.for_each_needed(index, |machine, other, is_parent| {
            let slot = machine.slot_mut(other);
            let was_held = slot.inside_live + slot.needing_live > 0;
            *(if is_parent { &mut slot.inside_live } else { &mut slot.needing_live }) += 1;
            if !was_held {
                machine.outputs.push(Output::Hold { index: other });
            }
        });
    }

    /// Calls `visit` with everybody whom this one holds.
    fn for_each_needed(&mut self, index: u32, mut visit: impl FnMut(&mut Self, u32, bool)) {
        if let Some(parent) = self.parent(index) {
            visit(self, parent, true);
        }
        for position in 0..self.needs(index).len() {
            let other = self.needs(index)[position];
            visit(self, other, false);
        }
    }

    /// Asks one that may be asked now.
    fn ask(&mut self, now: Instant, index: u32, after: After, alone: bool) {
        let stop_timeout = self.cold(index).and_then(|cold| cold.stop_timeout);
        // In the shutdown of all the force time is the deadline.
        let stop_timeout =
            stop_timeout.or((!self.is_shutting_down()).then_some(self.settings.stop_timeout));
        let slot = self.slot_mut(index);
        slot.life = Life::Stopping { after };
        let run = slot.run;
        if let Some(timeout) = stop_timeout {
            let due = now.saturating_add(timeout);
            self.timers.push(Reverse((due, index, run, Timer::StopDeadline)));
        }
        self.changed(index, SubsystemState::Stopping);
        // In the shutdown of all everybody is asked by that, as soon as nobody holds them.
        if alone || self.phase == Phase::Up {
            self.outputs.push(Output::Ask { index });
        }
    }

    fn stop_alone(&mut self, now: Instant, index: u32, after: After) {
        let has_inside = self.slot(index).inside_live > 0;
        match self.slot(index).life {
            Life::Registered | Life::Ended { .. } => {}
            Life::Waiting => self.finish(index, false),
            Life::Running if has_inside => {
                self.slot_mut(index).life = Life::Held { after, alone: true };
                self.stop_inside(index);
            }
            Life::Running => self.ask(now, index, after, true),
            Life::Held { alone, .. } => {
                self.slot_mut(index).life = Life::Held { after, alone };
            }
            Life::Stopping { .. } => self.slot_mut(index).life = Life::Stopping { after },
            Life::Closing { outcome, .. } => {
                self.slot_mut(index).life = Life::Closing { after: Some(after), outcome };
            }
        }
    }

    fn stop_inside(&mut self, index: u32) {
        let inside = self.cold(index).map(|cold| cold.inside.clone()).unwrap_or_default();
        self.work.extend(inside.into_iter().map(Work::Stop));
    }

    fn stop_with_all(&mut self, now: Instant, index: u32) {
        let slot = self.slot(index);
        let is_held = slot.inside_live + slot.needing_live > 0;
        let after = After::Stay;
        match slot.life {
            Life::Registered | Life::Ended { .. } => {}
            // It ended before, and is not started again because all end: that is no failure.
            Life::Waiting => self.finish(index, false),
            Life::Running if is_held => {
                self.slot_mut(index).life = Life::Held { after, alone: false };
            }
            Life::Running => self.ask(now, index, after, false),
            Life::Held { alone, .. } => self.slot_mut(index).life = Life::Held { after, alone },
            Life::Stopping { .. } => self.slot_mut(index).life = Life::Stopping { after },
            Life::Closing { outcome, .. } => {
                self.slot_mut(index).life = Life::Closing { after: Some(after), outcome };
            }
        }
    }

    /// Gives up the order: one that does not end must not take the time of those that it needs, who
    /// have the rest of the force time for themselves.
    fn ask_those_held(&mut self, now: Instant) {
        for index in 0..self.slots.len() as u32 {
            if let Life::Held { after, .. } = self.slot(index).life {
                self.slot_mut(index).flags |= ASKED_LATE;
                self.outputs.push(Output::Release { index });
                self.ask(now, index, after, false);
            }
        }
    }

    fn abort(&mut self, index: u32) {
        if !self.has_task(index) {
            return;
        }
        let overdue = if self.is_shutting_down() { OVERDUE } else { 0 };
        let slot = self.slot_mut(index);
        slot.flags |= ABORTED | overdue;
        if let Life::Held { after, .. } = slot.life {
            slot.life = Life::Stopping { after };
            self.changed(index, SubsystemState::Stopping);
        }
        self.outputs.push(Output::Abort { index });
    }

    /// Decides what follows the end of one that holds nothing any more. `after` is absent where it
    /// was not asked.
    fn settle(
        &mut self,
        now: Instant,
        index: u32,
        after: Option<After>,
        outcome: Outcome,
        random: f64,
    ) {
        match after {
            Some(After::Stay) => self.finish(index, outcome.failed),
            Some(After::Restart) => self.restart_by_hand(now, index),
            Some(After::Unhealthy) => {
                let outcome = Outcome { failed: true, code: None };
                self.settle_by_rule(now, index, outcome, random);
            }
            None => self.settle_by_rule(now, index, outcome, random),
        }
    }

    fn settle_by_rule(&mut self, now: Instant, index: u32, outcome: Outcome, random: f64) {
        let slot = self.slot(index);
        let lasted = slot.stopped.saturating_since(slot.started);
        let window = self.cold(index).map(|cold| cold.window).unwrap_or_default();
        let past = Past { row: slot.row, window };
        let run = Ran { outcome, lasted, ended: slot.stopped };
        match self.restart_rule(index).decide(past, run, random) {
            Decision::Stay | Decision::GiveUp => {
                let failed = outcome.failed;
                let is_critical = slot.flags & CRITICAL != 0;
                self.finish(index, failed);
                if is_critical || (failed && self.settings.fail_fast) {
                    self.outputs.push(Output::ShutDown { index, failed });
                }
            }
            Decision::Restart { past: Past { row, window }, delay } => {
                self.slot_mut(index).row = row;
                self.cold_mut(index).window = window;
                self.wait_for_start(now, index, delay);
            }
        }
    }

    fn restart_by_hand(&mut self, now: Instant, index: u32) {
        let delay = self.restart_rule(index).delay_by_hand(self.slot(index).restarts + 1);
        self.forget_restarts(index);
        self.wait_for_start(now, index, delay);
    }

    fn forget_restarts(&mut self, index: u32) {
        let slot = self.slot_mut(index);
        slot.row = 0;
        if let Some(cold) = &mut slot.cold {
            cold.window = Window::default();
        }
    }

    fn wait_for_start(&mut self, now: Instant, index: u32, delay: Duration) {
        self.total_restarts += 1;
        let slot = self.slot_mut(index);
        slot.restarts = slot.restarts.saturating_add(1);
        slot.life = Life::Waiting;
        let run = slot.run;
        self.changed(index, SubsystemState::Restarting);
        if delay.is_zero() {
            self.begin(now, index);
        } else {
            self.timers.push(Reverse((now.saturating_add(delay), index, run, Timer::Start)));
        }
    }

    /// Ends the life of one for good.
    fn finish(&mut self, index: u32, failed: bool) {
        self.slot_mut(index).life = Life::Ended { failed };
        self.live -= 1;
        let state = if failed { SubsystemState::Failed } else { SubsystemState::Stopped };
        self.changed(index, state);
        self.outputs.push(Output::Finish { index });
        self.for_each_needed(index, |machine, other, is_parent| {
            let slot = machine.slot_mut(other);
            *(if is_parent { &mut slot.inside_live } else { &mut slot.needing_live }) -= 1;
            machine.work.push(Work::Unhold(other));
        });
    }

    fn do_work(&mut self, now: Instant) {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Stop(index) => self.stop_alone(now, index, After::Stay),
                Work::Unhold(index) => self.unhold(now, index),
            }
        }
    }

    /// Goes on with one that somebody held.
    fn unhold(&mut self, now: Instant, index: u32) {
        let slot = self.slot(index);
        let (inside, needing) = (slot.inside_live, slot.needing_live);
        if inside + needing == 0 {
            self.outputs.push(Output::Release { index });
        }
        match self.slot(index).life {
            Life::Held { after, alone } if inside == 0 && (alone || needing == 0) => {
                self.ask(now, index, after, alone);
            }
            // Chance is for many that fail at once; one whose insides took their time needs none.
            Life::Closing { after, outcome } if inside == 0 => {
                self.settle(now, index, after, outcome, 0.0);
            }
            Life::Held { .. }
            | Life::Closing { .. }
            | Life::Registered
            | Life::Running
            | Life::Stopping { .. }
            | Life::Waiting
            | Life::Ended { .. } => {}
        }
    }
}
