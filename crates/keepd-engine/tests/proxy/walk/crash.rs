//! The machine is lost, at any output, and another one takes over: from what was written down, or
//! from what the lost one would have written last, and from what runs.

use std::collections::{BTreeMap, BTreeSet};

use keepd_engine::proxy::{
    AdoptedRun, DescriptorId, EndedRun, Fact, Input, Output, Owner, Performed, Proxy, Settings,
};
use keepd_model::protocol::{Event, RunEnd};
use keepd_model::{Exit, Generation, HandleReport, Instant, Pid, ServiceName};

use super::World;
use crate::driver::NO_FILE;

/// How many ends the ledger has room for.
const RING: usize = 16;

/// What the keepers have of each service.
#[derive(Default)]
pub(super) struct Ledger {
    slots: BTreeMap<ServiceName, Slot>,
    /// Nobody has told the machine what became of these.
    unsure: BTreeSet<ServiceName>,
}

#[derive(Default)]
struct Slot {
    generation: u64,
    /// Begun and not over.
    is_open: bool,
    /// Ends that nobody has acknowledged, each in its place.
    ring: BTreeMap<u64, EndedRun>,
}

impl Ledger {
    pub(super) fn intend(&mut self, name: &ServiceName, generation: Generation) {
        let slot = self.slots.entry(name.clone()).or_default();
        assert!(!slot.is_open, "{name}: one generation at a time");
        assert_eq!(generation.get(), slot.generation + 1, "{name}: generations have no gaps");
        let place = generation.get() % RING as u64;
        let is_free = slot.ring.keys().all(|other| other % RING as u64 != place);
        assert!(is_free, "{name}: there is room for the end of {generation}");
        slot.generation += 1;
        slot.is_open = true;
    }

    /// A generation is over. Ends of jobs are in no ledger.
    pub(super) fn end(&mut self, owner: &Owner, end: RunEnd, now: Instant) {
        if let Owner::Service(name, generation) = owner {
            let slot = self.slots.get_mut(name).unwrap();
            assert!(slot.is_open && slot.generation == generation.get());
            slot.is_open = false;
            let ended = EndedRun { generation: *generation, end, at: Some(now) };
            slot.ring.insert(generation.get(), ended);
        }
    }

    pub(super) fn acknowledge(&mut self, name: &ServiceName, generation: Generation) {
        let slot = self.slots.get_mut(name).unwrap();
        assert!(generation.get() < slot.generation + u64::from(!slot.is_open));
        slot.ring.retain(|other, _| *other > generation.get());
    }

    pub(super) fn forget(&mut self, name: &ServiceName) {
        assert!(self.slots.remove(name).is_none_or(|slot| !slot.is_open));
    }

    pub(super) fn is_sure(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Service(name, _) => !self.unsure.contains(name),
            Owner::Job(_) => true,
        }
    }

    pub(super) fn expect_sure(&self, owner: &Owner) {
        assert!(self.is_sure(owner), "what is in doubt is not signalled: {owner:?}");
    }
}

/// Returns what every machine of the walk is made with.
pub(super) fn settings(handles: Vec<HandleReport>) -> Settings {
    Settings { handles, records: true, ..Settings::default() }
}

/// Returns a machine that was told these facts, and what it asks for.
fn rebuilt(now: Instant, handles: Vec<HandleReport>, facts: &[Fact]) -> (Proxy, Vec<Output>) {
    let mut proxy = Proxy::new(settings(handles));
    let mut outputs = Vec::new();
    for fact in facts {
        proxy.handle_input(now, Input::Replayed { fact: fact.clone() });
        while let Some(output) = proxy.poll_output() {
            if let Output::Perform { ticket, .. } = output {
                let outcome = Ok(Performed::Done);
                proxy.handle_input(now, Input::Performed { ticket, outcome });
            } else {
                outputs.push(output);
            }
        }
        proxy.check_invariants().unwrap();
    }
    (proxy, outputs)
}

impl World {
    /// A start is written down before the process is asked for.
    pub(super) fn expect_written(&self, service: &ServiceName, number: Generation) {
        let is_it = |fact: &Fact| {
            matches!(fact, Fact::Event(Event::Invocation { name, generation, .. })
                if name == service && *generation == number)
        };
        assert!(self.facts.iter().any(is_it), "{service} {number} is written down");
    }

    /// Reports whether this is the output before which the machine is lost.
    pub(super) fn is_lost_now(&mut self) -> bool {
        match self.crash_in.take() {
            Some(0) => {
                self.seen.insert("torn");
                self.is_exact = false;
                true
            }
            Some(more) => {
                self.crash_in = Some(more - 1);
                false
            }
            None => false,
        }
    }

    /// A process ends and is consumed, after the ledger knows.
    pub(super) fn consume(&mut self, pid: Pid, exit: Exit) -> Owner {
        let process = self.processes.remove(&pid).unwrap();
        let end = if process.failed { RunEnd::Failed(NO_FILE) } else { RunEnd::Exit(exit) };
        self.ledger.end(&process.owner, end, self.now);
        process.owner
    }

    /// The machine is lost now or in a while, or the journal is made shorter, or something becomes
    /// known.
    pub(super) fn lose_something(&mut self) {
        match self.random.below(12) {
            0 => self.crash(),
            1 => self.crash_in = Some(self.random.below(12)),
            2 => {
                self.facts = self.proxy.snapshot().collect();
                self.is_exact = true;
                self.seen.insert("rewritten");
            }
            3 => self.resolve_doubts(),
            _ => {}
        }
    }

    /// Another machine takes over.
    pub(super) fn crash(&mut self) {
        self.seen.insert("crashed");
        self.crash_in = None;
        self.connections.clear();
        self.open.clear();
        self.ends_heard.clear();
        self.watched.clear();
        self.tickets.clear();
        let handles = self.labels();
        let snapshot: Vec<Fact> = self.proxy.snapshot().collect();
        let (by_facts, mut outputs) = rebuilt(self.now, handles.clone(), &self.facts);
        if self.is_exact {
            let (by_snapshot, shorter) = rebuilt(self.now, handles.clone(), &snapshot);
            let again = |proxy: &Proxy| proxy.snapshot().collect::<Vec<_>>();
            assert_eq!(again(&by_facts), snapshot, "facts say what a machine knows");
            assert_eq!(again(&by_snapshot), snapshot, "a snapshot says what all facts say");
            self.proxy = by_snapshot;
            outputs = shorter;
        } else {
            self.proxy = by_facts;
        }
        self.descriptors = (1..=handles.len() as u64).map(DescriptorId).collect();
        for output in outputs {
            let is_silent = matches!(
                output,
                Output::LogTo { .. }
                    | Output::LogFilter { .. }
                    | Output::Guarded { .. }
                    | Output::ExitExec { .. }
            );
            assert!(is_silent, "nothing comes of a fact: {output:?}");
            self.perform(output);
        }
        self.settle();
        self.take_stock();
    }

    /// Returns what the shell knows of the descriptors that it holds.
    fn labels(&self) -> Vec<HandleReport> {
        let mut reports: Vec<HandleReport> = Vec::new();
        while let Some(report) = self.proxy.handle_after(reports.last().map(|last| &last.name)) {
            reports.push(report);
        }
        reports.retain(|report| !report.name.as_str().starts_with("control."));
        reports.sort_by_key(|report| report.name.as_str() != "null");
        reports
    }

    /// Jobs are gone, intents are taken back, and the machine is told what is left of each service.
    fn take_stock(&mut self) {
        let is_job = |owner: &Owner| matches!(owner, Owner::Job(_));
        self.processes.retain(|_, process| !is_job(&process.owner));
        self.leftovers.retain(|owner, _| !is_job(owner));
        for (owner, _) in std::mem::take(&mut self.spawns) {
            if !is_job(&owner) {
                self.ledger.end(&owner, RunEnd::Cancelled, self.now);
                self.seen.insert("cancelled");
            }
        }
        for process in self.processes.values_mut() {
            process.reported = true;
        }
        self.ledger.unsure.clear();
        let names: Vec<_> = self.proxy.services().map(|view| view.name.clone()).collect();
        // A service was forgotten, and its place was not given back any more.
        self.ledger.slots.retain(|name, slot| slot.is_open || names.contains(name));
        for name in names {
            let is_open = self.ledger.slots.get(&name).is_some_and(|slot| slot.is_open);
            if is_open && self.random.chance(10) && !self.is_quiet {
                self.seen.insert("unsure");
                self.ledger.unsure.insert(name.clone());
                let why = "nobody knows".to_owned();
                self.tell(&name, AdoptedRun::Unsure { why });
            } else {
                self.tell_truth(&name);
            }
        }
    }

    /// What was in doubt becomes known.
    pub(super) fn resolve_doubts(&mut self) {
        while let Some(name) = self.ledger.unsure.pop_first() {
            self.tell_truth(&name);
        }
    }

    fn tell_truth(&mut self, name: &ServiceName) {
        let slot = self.ledger.slots.get(name);
        let generation = Generation::new(slot.map_or(0, |slot| slot.generation));
        let owner = Owner::Service(name.clone(), generation);
        let leaf = self.leftovers.contains_key(&owner);
        let found = self.processes.iter().find(|(_, process)| process.owner == owner);
        let ended = slot.and_then(|slot| slot.ring.get(&generation.get()));
        let run = match (found, ended) {
            (Some((pid, process)), _) => {
                self.seen.insert("adopted");
                AdoptedRun::Running { pid: *pid, started: process.started, leaf }
            }
            (None, Some(ended)) => {
                self.seen.insert("ended");
                AdoptedRun::Ended { ended: *ended, leaf }
            }
            (None, None) => {
                self.seen.insert("known");
                AdoptedRun::Known
            }
        };
        self.tell(name, run);
    }

    fn tell(&mut self, name: &ServiceName, run: AdoptedRun) {
        let slot = self.ledger.slots.get(name);
        let generation = slot.map_or(0, |slot| slot.generation);
        let before = slot.into_iter().flat_map(|slot| slot.ring.range(..generation));
        let unacknowledged = before.map(|(_, ended)| *ended).collect();
        let generation = Generation::new(generation);
        self.is_exact &=
            self.proxy.services().any(|view| view.name == name && view.generation == generation);
        self.give(Input::Adopted { name: name.clone(), generation, run, unacknowledged });
    }
}
