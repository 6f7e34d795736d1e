//! Warden and proxy: what they do, one system call or access to a cell at a time.

use keepd_model::{Exit, Generation};
use keepd_wire::ledger::ring;
use keepd_wire::ledger::{
    Decision, Found, Identity, Match, Outcome, Seen, State, Word, decide, inode_cell,
};

use crate::world::{GENERATIONS, Kernel, Life, Parent, Sabotage, Violation, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Warden,
    Proxy,
}

/// What a keeper does next, with what it knows by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Sleeps until there is news.
    Idle,
    /// A warden without a proxy: reads the word.
    Cancel,
    /// Takes back the intent that it read.
    CancelIntent(u64),
    /// Starts a proxy.
    Fork,
    /// A new proxy reads the word.
    Adopt,
    /// Takes hold of the process, from its warden or by its pid.
    AdoptOpen(u64),
    /// Asks who it is, and reads the word again.
    AdoptLook(u64, Option<usize>),
    /// Writes down what it found out about a process that is gone.
    AdoptRecord(u64, Exit),
    /// A child is a zombie: reads the word.
    Peeked(usize),
    /// Reads the identity.
    PeekedWord(usize, u64),
    /// Writes the end into the word.
    RecordEnd(usize, u64),
    /// Lets the zombie go.
    Consume(usize),
    /// Sabotage only: the zombie is gone, the word does not know.
    RecordLate(usize),
    /// A process that it holds is gone: writes the end into the word.
    HeldGone,
    /// Reads the entry for an outcome.
    ReadEntry(u64),
    /// Puts it there.
    Put(u64, u64),
    /// Takes it out of the word.
    Settle(u64),
    /// Puts the expected identity there.
    StartIdentity(u64),
    /// Says that it will clone.
    StartIntent(u64),
    /// clone(2).
    Clone(u64),
    /// Writes down the start time of its child, where the child cannot say who it is.
    StartTime(usize),
    /// Sabotage only: the parent records its child.
    RecordChild(usize),
    /// The warden above is gone: takes its place.
    Promote,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keeper {
    pub(crate) role: Role,
    pub(crate) parent: Option<usize>,
    pub(crate) is_alive: bool,
    pub(crate) step: Step,
    /// A process held by a pidfd, and the word that was read with it.
    pub(crate) held: Option<(usize, u64)>,
    pub(crate) has_adopted: bool,
}

impl Keeper {
    pub(crate) fn new(role: Role, parent: Option<usize>, step: Step) -> Self {
        Self { role, parent, is_alive: true, step, held: None, has_adopted: false }
    }
}

impl World {
    /// What a keeper may do next.
    pub(crate) fn steps_of(&self, me: usize) -> Vec<Step> {
        let keeper = &self.keepers[me];
        if keeper.step != Step::Idle {
            return vec![keeper.step];
        }
        let mut steps = Vec::new();
        for (index, child) in self.children.iter().enumerate() {
            if child.parent == Parent::Keeper(me) && matches!(child.life, Life::Zombie(_)) {
                steps.push(Step::Peeked(index));
            }
        }
        if let Some((process, _)) = keeper.held
            && matches!(self.children[process].life, Life::Consumed(_))
        {
            steps.push(Step::HeldGone);
        }
        match keeper.role {
            Role::Warden => {
                let has_proxy = |proxy: &Keeper| proxy.parent == Some(me) && proxy.is_alive;
                if !self.keepers.iter().any(has_proxy) {
                    steps.push(Step::Cancel);
                }
            }
            Role::Proxy if keeper.parent.is_none() => steps.push(Step::Promote),
            Role::Proxy => steps.extend(self.work_of_proxy()),
        }
        steps
    }

    fn work_of_proxy(&self) -> Option<Step> {
        match self.state() {
            State::Over(..) => Some(Step::ReadEntry(self.word)),
            State::Down(generation) if generation.get() < GENERATIONS => {
                Some(Step::StartIdentity(self.word))
            }
            State::Unused | State::Down(_) | State::Intent(_) | State::Run(..) => None,
        }
    }

    pub(crate) fn keeper_step(&mut self, me: usize, step: Step) -> Result<(), Violation> {
        let next = match step {
            Step::Idle => Step::Idle,
            Step::Cancel | Step::CancelIntent(_) | Step::Fork | Step::Promote => {
                self.succeed(me, step)
            }
            Step::Adopt | Step::AdoptOpen(_) | Step::AdoptLook(..) | Step::AdoptRecord(..) => {
                self.adopt(me, step)
            }
            Step::Peeked(_)
            | Step::PeekedWord(..)
            | Step::RecordEnd(..)
            | Step::Consume(_)
            | Step::RecordLate(_)
            | Step::HeldGone => self.reap(me, step),
            Step::ReadEntry(raw) => {
                let entry = ring::entry_of(Word::from_raw(raw).unwrap().generation());
                if self.is(Sabotage::SettledFirst) {
                    Step::Settle(raw)
                } else {
                    Step::Put(raw, self.ring[entry])
                }
            }
            Step::Put(raw, entry) => {
                self.put(raw, entry)?;
                if self.is(Sabotage::SettledFirst) { Step::Idle } else { Step::Settle(raw) }
            }
            Step::Settle(raw) => {
                let word = Word::from_raw(raw).unwrap();
                self.exchange(raw, word.settled());
                if self.is(Sabotage::SettledFirst) {
                    Step::Put(raw, self.ring[ring::entry_of(word.generation())])
                } else {
                    Step::Idle
                }
            }
            Step::StartIdentity(_)
            | Step::StartIntent(_)
            | Step::Clone(_)
            | Step::StartTime(_)
            | Step::RecordChild(_) => self.start(me, step)?,
        };
        self.keepers[me].step = next;
        Ok(())
    }

    /// A warden without a proxy.
    fn succeed(&mut self, me: usize, step: Step) -> Step {
        match step {
            Step::Promote => {
                self.keepers[me].role = Role::Warden;
                Step::Cancel
            }
            Step::Cancel if self.is(Sabotage::ForkFirst) => Step::Fork,
            Step::Cancel => match self.state() {
                State::Intent(_) if !self.is(Sabotage::IntentIsLeft) => {
                    Step::CancelIntent(self.word)
                }
                State::Intent(_)
                | State::Unused
                | State::Down(_)
                | State::Run(..)
                | State::Over(..) => Step::Fork,
            },
            Step::CancelIntent(raw) => {
                let word = Word::from_raw(raw).unwrap();
                let is_taken_back = self.exchange(raw, word.cancelled());
                match (self.is(Sabotage::ForkFirst), is_taken_back) {
                    (true, _) => Step::Idle,
                    (false, true) => Step::Fork,
                    (false, false) => Step::Cancel,
                }
            }
            _ => {
                let mut proxy = Keeper::new(Role::Proxy, Some(me), Step::Adopt);
                if !self.is(Sabotage::PidfdsNotInherited) {
                    proxy.held = self.keepers[me].held;
                }
                self.keepers.push(proxy);
                match self.state() {
                    State::Intent(_) if self.is(Sabotage::ForkFirst) => {
                        Step::CancelIntent(self.word)
                    }
                    _ => Step::Idle,
                }
            }
        }
    }

    /// A new proxy.
    fn adopt(&mut self, me: usize, step: Step) -> Step {
        match step {
            Step::Adopt => match self.state() {
                State::Run(..) => Step::AdoptOpen(self.word),
                State::Unused | State::Down(_) | State::Intent(_) | State::Over(..) => {
                    self.keepers[me].has_adopted = true;
                    Step::Idle
                }
            },
            Step::AdoptOpen(raw) => {
                let State::Run(_, pid) = Word::from_raw(raw).unwrap().state() else {
                    unreachable!()
                };
                let inherited = self.keepers[me].held.filter(|(_, word)| *word == raw);
                let process = inherited.map(|(process, _)| process);
                Step::AdoptLook(raw, process.or_else(|| self.holder(pid.get())))
            }
            Step::AdoptLook(raw, process) => self.look(me, raw, process),
            Step::AdoptRecord(raw, exit) => {
                let word = Word::from_raw(raw).unwrap();
                self.exchange(raw, word.ended(exit));
                self.keepers[me].held = None;
                Step::Adopt
            }
            _ => unreachable!("no step of an adoption"),
        }
    }

    fn look(&mut self, me: usize, raw: u64, process: Option<usize>) -> Step {
        if self.word != raw {
            return Step::Adopt;
        }
        let found = process.map_or(Found::Nobody, |process| self.found(me, process));
        let identity = Identity::from_raw(self.identity);
        match decide(Word::from_raw(raw), identity, found) {
            Decision::Adopt(..) => {
                let process = process.filter(|_| !self.is(Sabotage::NoPidfd));
                self.keepers[me].held = process.map(|process| (process, raw));
                self.keepers[me].has_adopted = true;
                Step::Idle
            }
            Decision::Record(_, exit) => Step::AdoptRecord(raw, exit),
            Decision::Unsure(_) if process.is_some() => {
                // It is looked at again when it is gone.
                self.keepers[me].held = process.map(|process| (process, raw));
                self.keepers[me].has_adopted = true;
                Step::Idle
            }
            Decision::Nothing
            | Decision::MayStart(_)
            | Decision::Cancel(_)
            | Decision::Report(..)
            | Decision::Unsure(_) => unreachable!("the word says that it runs"),
        }
    }

    /// Who a process is, for this kernel.
    fn seen(&self, process: usize) -> Seen {
        if self.is(Sabotage::PidIsIdentity) {
            let recorded = Identity::from_raw(self.identity);
            let inode = match recorded {
                Some(Identity::Inode(inode)) => Some(inode),
                _ => None,
            };
            return Seen { inode, start_ticks: None };
        }
        let number = Some(self.inode(process));
        match self.kernel {
            Kernel::Modern => Seen { inode: number, start_ticks: None },
            Kernel::Old => Seen { inode: None, start_ticks: number },
        }
    }

    fn found(&self, me: usize, process: usize) -> Found {
        let seen = self.seen(process);
        let child = &self.children[process];
        let is_ours = match child.parent {
            Parent::Keeper(parent) => parent == me || self.keepers[me].parent == Some(parent),
            Parent::Init => false,
        };
        match child.life {
            Life::Alive => Found::Alive { seen, is_ours },
            Life::Zombie(exit) => Found::Zombie { seen, is_ours, exit: Some(exit) },
            Life::Consumed(exit) => {
                let exit = Some(exit).filter(|_| self.kernel == Kernel::Modern);
                Found::Gone { seen, exit }
            }
        }
    }

    /// The end of a child, or of a process that is held.
    fn reap(&mut self, me: usize, step: Step) -> Step {
        let exit_of = |world: &Self, process: usize| match world.children[process].life {
            Life::Zombie(exit) | Life::Consumed(exit) => exit,
            Life::Alive => unreachable!("it has ended"),
        };
        match step {
            Step::Peeked(child) if self.is(Sabotage::ConsumeFirst) => {
                self.consume(child);
                Step::RecordLate(child)
            }
            Step::Peeked(child) => Step::PeekedWord(child, self.word),
            Step::PeekedWord(child, raw) => {
                if self.is_run_of(me, child, raw) {
                    Step::RecordEnd(child, raw)
                } else {
                    Step::Consume(child)
                }
            }
            Step::RecordEnd(child, raw) => {
                let word = Word::from_raw(raw).unwrap();
                let is_recorded = self.exchange(raw, word.ended(exit_of(self, child)));
                if is_recorded { Step::Consume(child) } else { Step::Peeked(child) }
            }
            Step::Consume(child) => {
                self.consume(child);
                Step::Idle
            }
            Step::RecordLate(child) => {
                if self.is_run_of(me, child, self.word) {
                    let word = Word::from_raw(self.word).unwrap();
                    self.exchange(self.word, word.ended(exit_of(self, child)));
                }
                Step::Idle
            }
            Step::HeldGone => {
                let (process, raw) = self.keepers[me].held.take().expect("it is held");
                if self.word != raw {
                    return Step::Idle;
                }
                let identity = Identity::from_raw(self.identity);
                let found = self.found(me, process);
                match decide(Word::from_raw(raw), identity, found) {
                    Decision::Record(_, exit) => {
                        let word = Word::from_raw(raw).unwrap();
                        self.exchange(raw, word.ended(exit));
                    }
                    other => unreachable!("it is gone: {other:?}"),
                }
                Step::Idle
            }
            _ => unreachable!("no step of an end"),
        }
    }

    /// Whether a word is about this zombie child of ours: we cloned it, or its identity is there.
    fn is_run_of(&self, me: usize, child: usize, raw: u64) -> bool {
        let word = Word::from_raw(raw).unwrap();
        let is_own = self.children[child].cloner == Some(me)
            && word.generation() == Generation::new(self.children[child].generation);
        match word.state() {
            State::Intent(_) => is_own,
            State::Run(_, pid) => {
                let identity = Identity::from_raw(self.identity).unwrap();
                let compared = identity.compare(self.seen(child));
                let is_recorded = match compared {
                    Match::Same => true,
                    Match::Other => false,
                    Match::Unknown => self.kernel == Kernel::Old,
                };
                pid == self.pid_of(child) && (is_own || is_recorded)
            }
            State::Unused | State::Down(_) | State::Over(_, Outcome::Cancelled) => false,
            State::Over(..) => false,
        }
    }

    /// From "nothing runs" to a child.
    fn start(&mut self, me: usize, step: Step) -> Result<Step, Violation> {
        Ok(match step {
            Step::StartIdentity(raw) => {
                let next = Word::from_raw(raw).unwrap().generation().next();
                self.judge_start(next)?;
                assert!(ring::has_room(self.ring[ring::entry_of(next)], next));
                self.identity = Identity::Awaited(next).raw().unwrap();
                Step::StartIntent(raw)
            }
            Step::StartIntent(raw) => {
                let intent = Word::from_raw(raw).unwrap().intended();
                if self.exchange(raw, intent) { Step::Clone(self.word) } else { Step::Idle }
            }
            Step::Clone(intent) => {
                self.clone_child(me, intent);
                let child = self.children.len() - 1;
                if self.is(Sabotage::ParentRecords) {
                    Step::RecordChild(child)
                } else if self.kernel == Kernel::Old {
                    Step::StartTime(child)
                } else {
                    Step::Idle
                }
            }
            Step::StartTime(child) => {
                let generation = Generation::new(self.children[child].generation);
                if Some(self.identity) == Identity::Awaited(generation).raw() {
                    let ticks = Identity::StartTicks(self.inode(child));
                    self.identity = ticks.raw().unwrap();
                }
                Step::Idle
            }
            Step::RecordChild(child) => {
                let intent = self.children[child].intent;
                self.identity = inode_cell(self.inode(child));
                let run = Word::from_raw(intent).unwrap().running(self.pid_of(child));
                self.exchange(intent, run);
                Step::Idle
            }
            _ => unreachable!("no step of a start"),
        })
    }
}
