//! What a new proxy does with what its predecessor left: the journal, then the words.

use std::collections::BTreeSet;

use keepd_engine::proxy::{AdoptedRun, EndedRun, Fact, Input};
use keepd_model::protocol::{Command, Message, Request, RunEnd};
use keepd_model::{Exit, Generation, Pid, ServiceName};
use keepd_wire::ledger::journal::{self, Record};
use keepd_wire::ledger::keeper::{self, Slot};
use keepd_wire::ledger::layout::SlotNumber;
use keepd_wire::ledger::ring::Waiting;
use keepd_wire::ledger::{Decision, Found, Outcome, Seen, State, decide};
use keepd_wire::{decode_message, decode_request};

use super::kernel::{Label, Life, Serial, Stopped, ToWarden};
use super::proxy::{Foreign, ProxyShell, SCOPE};
use super::sabotage::Sabotage;
use super::warden::free_number;

/// Returns the fact of a record, if it is one.
fn fact_of(record: &Record<'_>) -> Option<Fact> {
    match record {
        Record::Command(line) => match decode_request(line) {
            Ok(Some(Request::Numbered(_, command))) => Some(Fact::Command(command)),
            Ok(Some(Request::Unnumbered(_)) | None) | Err(_) => None,
        },
        Record::Event(line) => match decode_message(line) {
            Ok(Some(Message::Event(event))) => Some(Fact::Event(event)),
            Ok(_) | Err(_) => None,
        },
        Record::Slot(..) | Record::Freed(_) => None,
    }
}

/// Reports whether a fact is the same whatever the last generation is.
fn says_more_than_generations(fact: &Fact) -> bool {
    match fact {
        Fact::Event(_) => false,
        Fact::Command(command) => {
            !matches!(command, Command::ServiceStart { .. } | Command::ServiceStop { .. })
        }
    }
}

fn end_of(outcome: Outcome) -> RunEnd {
    match outcome {
        Outcome::Ended(exit) => RunEnd::Exit(exit),
        Outcome::Failed(failure) => RunEnd::Failed(failure),
        Outcome::Cancelled => RunEnd::Cancelled,
    }
}

fn ended(waiting: &Waiting) -> EndedRun {
    let Waiting { generation, outcome, time } = *waiting;
    EndedRun { generation, end: end_of(outcome), at: time }
}

impl ProxyShell {
    pub(super) fn resume(&mut self) -> Result<(), Stopped> {
        self.replay()?;
        self.release_left_overs()?;
        let services: BTreeSet<ServiceName> =
            self.machine.services().map(|service| service.name.clone()).collect();
        for name in &services {
            self.adopt(name)?;
        }
        // It was deleted, and its slot was not given back.
        let left: Vec<ServiceName> =
            self.slots.keys().filter(|name| !services.contains(*name)).cloned().collect();
        for name in left {
            self.forget(&name)?;
        }
        Ok(())
    }

    fn replay(&mut self) -> Result<(), Stopped> {
        self.actor.effect("read the journal")?;
        let answered = keeper::answered(&self.actor);
        self.actor.goes_on()?;
        let bytes = self.actor.kernel().journal.clone().unwrap_or_default();
        let Some(answered) = answered else {
            return self.actor.breach("R10", "the last answered number is damaged".to_owned());
        };
        let answered = if bytes.is_empty() { 0 } else { answered };
        let replay = match journal::read(&bytes, &SCOPE, answered) {
            Ok(replay) => replay,
            Err(error) => return self.actor.breach("R10", error.to_string()),
        };
        if !self.is(Sabotage::KeepsTornEnd) {
            self.actor.effect("cut the journal")?;
            let sound = replay.sound_bytes as usize;
            if let Some(journal) = &mut self.actor.kernel().journal {
                journal.truncate(sound);
            }
        }
        self.writer = Some(replay.writer);
        self.say_answered()?;
        for record in &replay.records {
            self.replay_one(record)?;
        }
        self.check_snapshot(&bytes)?;
        self.drain()
    }

    /// R10: what was replayed is the machine that was lost, if that one had nothing else in mind.
    fn check_snapshot(&self, journal: &[u8]) -> Result<(), Stopped> {
        let known = self.actor.kernel().snapshot.clone();
        let Some((_, mut facts)) = known.filter(|(bytes, _)| bytes == journal) else {
            return Ok(());
        };
        let mut replayed: Vec<Fact> = self.machine.snapshot().collect();
        // Of generations the ledger knows more: one may be written down that nobody began.
        facts.retain(says_more_than_generations);
        replayed.retain(says_more_than_generations);
        let both = facts.iter().zip(&replayed);
        match both.into_iter().find(|(one, other)| one != other) {
            Some(pair) => self.actor.breach("R10", format!("replayed is another: {pair:?}")),
            None if facts.len() != replayed.len() => {
                let (lost, found) = (facts.len(), replayed.len());
                self.actor.breach("R10", format!("{lost} facts are replayed as {found}"))
            }
            None => Ok(()),
        }
    }

    fn replay_one(&mut self, record: &Record<'_>) -> Result<(), Stopped> {
        match record {
            Record::Command(_) | Record::Event(_) => match fact_of(record) {
                Some(fact) => self.tell(Input::Replayed { fact }),
                None => return self.actor.breach("R10", format!("no fact: {record:?}")),
            },
            Record::Slot(number, name) => {
                let name = ServiceName::new_internal(name);
                if let Ok(name) = name {
                    self.slots.insert(name, *number);
                }
            }
            Record::Freed(number) => self.slots.retain(|_, other| other != number),
        }
        Ok(())
    }

    /// A slot that is nobody's by the journal may not have been given back.
    fn release_left_overs(&mut self) -> Result<(), Stopped> {
        let used = self.actor.kernel().judge.slots_used;
        for number in (0..used).map(SlotNumber) {
            if !self.slots.values().any(|other| *other == number) {
                let released = Slot::new(&self.actor, number).release();
                self.actor.goes_on()?;
                if released == keeper::Released::Free {
                    self.free_slots.insert(number);
                }
            }
        }
        Ok(())
    }

    /// Goes from the word of a service to what the machine is told.
    fn adopt(&mut self, name: &ServiceName) -> Result<(), Stopped> {
        let Some(number) = self.slots.get(name).copied() else {
            return self.tell_adopted(name, Generation::NONE, None, &[]);
        };
        // The journal came first: the slot may not have been claimed.
        let claimed = Slot::new(&self.actor, number).claim(name.as_str());
        self.actor.goes_on()?;
        if let Err(error) = claimed {
            return self.actor.breach("R10", format!("{name} has slot {}: {error}", number.0));
        }
        let running = loop {
            let slot = Slot::new(&self.actor, number);
            let word = slot.word();
            self.actor.goes_on()?;
            let (process, found) = match word.map(|word| word.state()) {
                Ok(State::Run(_, pid)) => self.look(pid)?,
                Ok(_) | Err(_) => (None, Found::Nobody),
            };
            let identity = slot.identity();
            if slot.word() != word {
                self.actor.goes_on()?;
                continue;
            }
            self.actor.goes_on()?;
            let mut decision = decide(word, identity, found);
            if let Decision::Adopt(generation, _) = decision
                && self.is(Sabotage::ForgetsRuns)
            {
                decision = Decision::Record(generation, Exit::Unknown);
            }
            match decision {
                Decision::Nothing | Decision::MayStart(_) => break None,
                Decision::Cancel(_) if self.is(Sabotage::LeavesIntents) => break None,
                Decision::Cancel(_) => _ = slot.cancel(),
                Decision::Record(generation, exit) => {
                    if let Ok(State::Run(_, pid)) = word.map(|word| word.state()) {
                        // Another value is decided about again.
                        let _ = slot.end(generation, Some(pid), exit);
                    }
                }
                Decision::Report(..) => self.settle(name)?,
                Decision::Adopt(generation, pid) => {
                    break process.map(|process| (process, generation, pid));
                }
                Decision::Unsure(doubt) => {
                    return self.actor.breach("R10", format!("{name}: {doubt}"));
                }
            }
            self.actor.goes_on()?;
        };
        if let Some((process, generation, pid)) = running {
            self.hold(process, pid)?;
            let foreign = Foreign { name: name.clone(), generation, pid };
            self.foreign.insert(process, foreign);
        }
        let slot = Slot::new(&self.actor, number);
        let word = slot.word();
        let (waiting, damaged) = slot.waiting();
        self.actor.goes_on()?;
        if !damaged.is_empty() {
            return self.actor.breach("R10", format!("{name}: {damaged:?}"));
        }
        let last = word.map_or(Generation::NONE, |word| word.generation());
        self.tell_adopted(name, last, running.map(|(_, _, pid)| pid), &waiting)
    }

    fn tell_adopted(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        running: Option<Pid>,
        waiting: &[Waiting],
    ) -> Result<(), Stopped> {
        let mut ends: Vec<EndedRun> = waiting.iter().map(ended).collect();
        if self.is(Sabotage::ForgetsEnds) {
            ends.clear();
        }
        let is_last = |end: &EndedRun| end.generation == generation;
        let run = match running {
            Some(pid) => {
                let started = self.actor.kernel().now;
                AdoptedRun::Running { pid, started, leaf: true }
            }
            None => match ends.iter().copied().find(is_last) {
                Some(ended) => {
                    let leaf = !self.actor.kernel().group(name, generation).is_empty();
                    AdoptedRun::Ended { ended, leaf }
                }
                None => AdoptedRun::Known,
            },
        };
        ends.retain(|end| !is_last(end));
        let name = name.clone();
        self.tell(Input::Adopted { name, generation, run, unacknowledged: ends });
        self.drain()
    }

    /// Takes hold of who has a pid, and asks who it is.
    fn look(&self, pid: Pid) -> Result<(Option<Serial>, Found), Stopped> {
        let held = self.estate.values().find_map(|label| match label {
            Label::Pidfd(other, serial) if *other == pid => Some(*serial),
            Label::Pidfd(..) | Label::Log(..) => None,
        });
        self.actor.effect("pidfd_open")?;
        let process = held.or_else(|| self.actor.kernel().holder(pid));
        let Some(serial) = process else {
            return Ok((None, Found::Nobody));
        };
        self.actor.effect("ask the pidfd")?;
        let kernel = self.actor.kernel();
        let seen = Seen { inode: Some(serial), start_ticks: None };
        let parent = kernel.processes[&serial].parent;
        let is_ours = parent == Some(self.actor.serial)
            || (parent.is_some() && parent == kernel.processes[&self.actor.serial].parent);
        let found = match kernel.processes[&serial].life {
            Life::Alive => Found::Alive { seen, is_ours },
            Life::Zombie(_) => Found::Zombie { seen, is_ours, exit: None },
            Life::Consumed(exit) => Found::Gone { seen, exit: Some(exit) },
        };
        Ok((Some(serial), found))
    }

    /// A pidfd is held by the warden, too: init may take the process away at any time.
    fn hold(&mut self, process: Serial, pid: Pid) -> Result<(), Stopped> {
        let label = Label::Pidfd(pid, process);
        if self.is(Sabotage::PassesNoPidfds) {
            return Ok(());
        }
        if self.estate.values().any(|other| *other == label) {
            return Ok(());
        }
        let number = free_number(&self.estate);
        self.estate.insert(number, label.clone());
        self.say(ToWarden::Hold(number, label))
    }
}
