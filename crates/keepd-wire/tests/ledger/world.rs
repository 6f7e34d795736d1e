//! The kernel, the cells and the judge.

use keepd_model::{Errno, Exit, Generation, Pid, Signal, SpawnStep};
use keepd_wire::ledger::ring::{self, Put};
use keepd_wire::ledger::{Identity, Outcome, State, Word, failed_word, inode_cell, run_word};

use crate::keeper::{Keeper, Role, Step};

/// How many generations are started.
pub(crate) const GENERATIONS: u64 = 3;
const KILLS: u8 = 2;
const REFUSED: u8 = 111;
const NOT_EXECUTED: u8 = 112;
const STRANGER_INODE: u64 = 9999;

/// Which kernel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// Inodes of pidfds, and PIDFD_GET_INFO with the status.
    Modern,
    /// Neither: the parent records the start time, and statuses of foreign processes are unknown.
    Old,
}

/// What is done in the wrong way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sabotage {
    /// waitid(2) takes the zombie away before the word says so.
    ConsumeFirst,
    /// A successor leaves an intent as it is.
    IntentIsLeft,
    /// The warden starts the proxy first and takes intents back then.
    ForkFirst,
    /// The child executes its program whatever the word says.
    RefusalIgnored,
    /// The parent records the child after the clone, instead of the child itself.
    ParentRecords,
    /// The child stores its identity without expecting what its parent put there.
    IdentityOverwritten,
    /// Whoever has the pid is taken for the process.
    PidIsIdentity,
    /// An adopted process is not held by a pidfd.
    NoPidfd,
    /// A new proxy does not get the pidfds of the warden.
    PidfdsNotInherited,
    /// The word goes to "down" before the outcome is in the ring.
    SettledFirst,
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two instances of the service are alive.
    Double,
    /// A program runs of a generation whose word does not say so.
    RanUnrecorded,
    /// An outcome was reported that is not true.
    Wrong,
    /// An outcome is unknown, although no second fault came into the recovery from a first.
    Lost,
    /// A generation was started although the one before was not reported.
    Gap,
    /// Nothing can happen any more, and not everything is done.
    Stuck,
}

/// Whose child a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Parent {
    Keeper(usize),
    Init,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Alive,
    Zombie(Exit),
    /// Consumed: the pid is free. Who holds a pidfd can still ask for the status.
    Consumed(Exit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChildStep {
    Born,
    Identified,
    Recorded,
    Executed,
    /// A process that is not ours at all.
    Stranger,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) parent: Parent,
    pub(crate) cloner: Option<usize>,
    pub(crate) intent: u64,
    pub(crate) generation: u64,
    pub(crate) step: ChildStep,
    pub(crate) has_executed: bool,
    pub(crate) life: Life,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) word: u64,
    pub(crate) identity: u64,
    /// The words of the entries 0 to 3.
    pub(crate) ring: [u64; 4],
    /// The place is what tells processes apart for ever.
    pub(crate) children: Vec<Child>,
    pub(crate) keepers: Vec<Keeper>,
    pub(crate) kills_left: u8,
    /// The second kill came before all was well again after the first.
    pub(crate) is_double_fault: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The next step of a child.
    Child(usize),
    /// A child before its program is killed by somebody else.
    ChildKilled(usize),
    /// execve(2) fails.
    NotExecuted(usize),
    /// The program ends.
    Exit(usize),
    /// Init consumes a zombie.
    InitConsumes(usize),
    /// A foreign process gets the pid that the word names.
    Stranger,
    /// SIGKILL of a keeper.
    Kill(usize),
    /// Nobody is left: somebody starts a new warden.
    NewWarden,
    /// A step of a keeper, or the beginning of one of the things it may do.
    Keeper(usize, Step),
}

impl World {
    pub(crate) fn new(kernel: Kernel, sabotage: Option<Sabotage>) -> Self {
        let warden = Keeper::new(Role::Warden, None, Step::Idle);
        let proxy = Keeper::new(Role::Proxy, Some(0), Step::Adopt);
        Self {
            kernel,
            sabotage,
            word: Word::UNUSED.claimed().unwrap().raw(),
            identity: 0,
            ring: [0; 4],
            children: Vec::new(),
            keepers: vec![warden, proxy],
            kills_left: KILLS,
            is_double_fault: false,
        }
    }

    pub(crate) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    pub(crate) fn state(&self) -> State {
        Word::from_raw(self.word).unwrap().state()
    }

    /// Compare and exchange of the word.
    pub(crate) fn exchange(&mut self, expected: u64, new: Option<Word>) -> bool {
        let new = new.expect("the transition exists");
        let is_equal = self.word == expected;
        if is_equal {
            self.word = new.raw();
        }
        is_equal
    }

    /// Which process has a pid.
    pub(crate) fn holder(&self, pid: u32) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.pid == pid && !matches!(child.life, Life::Consumed(_)))
    }

    fn free_pid(&self) -> u32 {
        (1..).find(|pid| self.holder(*pid).is_none()).unwrap()
    }

    pub(crate) fn inode(&self, process: usize) -> u64 {
        match self.children[process].step {
            ChildStep::Stranger => STRANGER_INODE,
            _ => 100 + process as u64,
        }
    }

    /// clone(2).
    pub(crate) fn clone_child(&mut self, keeper: usize, intent: u64) {
        let generation = Word::from_raw(intent).unwrap().generation().get();
        let mut step = ChildStep::Born;
        if self.is(Sabotage::ParentRecords) {
            step = ChildStep::Recorded;
        }
        self.children.push(Child {
            pid: self.free_pid(),
            parent: Parent::Keeper(keeper),
            cloner: Some(keeper),
            intent,
            generation,
            step,
            has_executed: false,
            life: Life::Alive,
        });
    }

    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, child) in self.children.iter().enumerate() {
            match (child.life, child.step) {
                (Life::Alive, ChildStep::Stranger) | (Life::Consumed(_), _) => {}
                (Life::Alive, ChildStep::Executed) => actions.push(Action::Exit(index)),
                (Life::Alive, step) => {
                    actions.push(Action::Child(index));
                    // Each kind of bad luck in one generation only, or there are too many states.
                    if child.generation == 1 {
                        actions.push(Action::ChildKilled(index));
                    }
                    if child.generation == 2 && step == ChildStep::Recorded {
                        actions.push(Action::NotExecuted(index));
                    }
                }
                (Life::Zombie(_), _) if child.parent == Parent::Init => {
                    actions.push(Action::InitConsumes(index));
                }
                (Life::Zombie(_), _) => {}
            }
        }
        let has_stranger = self.children.iter().any(|child| child.step == ChildStep::Stranger);
        if let State::Run(_, pid) = self.state()
            && !has_stranger
            && self.holder(pid.get()).is_none()
        {
            actions.push(Action::Stranger);
        }
        for (index, keeper) in self.keepers.iter().enumerate() {
            if keeper.is_alive {
                if self.kills_left > 0 {
                    actions.push(Action::Kill(index));
                }
                let steps = self.steps_of(index);
                actions.extend(steps.into_iter().map(|step| Action::Keeper(index, step)));
            }
        }
        if !self.keepers.iter().any(|keeper| keeper.is_alive) {
            actions.push(Action::NewWarden);
        }
        actions
    }

    pub(crate) fn apply(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Child(index) => return self.child_step(index),
            Action::ChildKilled(index) => {
                let killed = Exit::Signal { signal: Signal::KILL, core: false };
                self.children[index].life = Life::Zombie(killed);
            }
            Action::NotExecuted(index) => {
                let new = failed_word(self.run_of(index), SpawnStep::Exec as u8, 2);
                if self.word == self.run_of(index) {
                    self.word = new;
                }
                self.children[index].life = Life::Zombie(Exit::Code(NOT_EXECUTED));
            }
            Action::Exit(index) => {
                let code = 10 + index as u8;
                self.children[index].life = Life::Zombie(Exit::Code(code));
            }
            Action::InitConsumes(index) => self.consume(index),
            Action::Stranger => {
                let State::Run(_, pid) = self.state() else { unreachable!() };
                self.children.push(Child {
                    pid: pid.get(),
                    parent: Parent::Init,
                    cloner: None,
                    intent: 0,
                    generation: 0,
                    step: ChildStep::Stranger,
                    has_executed: false,
                    life: Life::Alive,
                });
            }
            Action::Kill(index) => self.kill(index),
            Action::NewWarden => {
                let warden = Keeper::new(Role::Warden, None, Step::Cancel);
                self.keepers.push(warden);
            }
            Action::Keeper(index, step) => return self.keeper_step(index, step),
        }
        Ok(())
    }

    fn run_of(&self, index: usize) -> u64 {
        run_word(self.children[index].intent, self.children[index].pid)
    }

    fn child_step(&mut self, index: usize) -> Result<(), Violation> {
        let child = self.children[index].clone();
        let refused = Life::Zombie(Exit::Code(REFUSED));
        match child.step {
            ChildStep::Born => {
                let awaited = Identity::Awaited(Generation::new(child.generation)).raw().unwrap();
                let own = inode_cell(self.inode(index));
                if self.kernel == Kernel::Old {
                    // It has nothing to say.
                } else if self.identity == awaited || self.is(Sabotage::IdentityOverwritten) {
                    self.identity = own;
                } else {
                    self.children[index].life = refused;
                    return Ok(());
                }
                self.children[index].step = ChildStep::Identified;
            }
            ChildStep::Identified => {
                if self.word == child.intent {
                    self.word = self.run_of(index);
                } else if !self.is(Sabotage::RefusalIgnored) {
                    self.children[index].life = refused;
                    return Ok(());
                }
                self.children[index].step = ChildStep::Recorded;
            }
            ChildStep::Recorded => {
                self.children[index].step = ChildStep::Executed;
                self.children[index].has_executed = true;
                return self.judge_execution(index);
            }
            ChildStep::Executed | ChildStep::Stranger => unreachable!("it has no next step"),
        }
        Ok(())
    }

    fn judge_execution(&self, index: usize) -> Result<(), Violation> {
        let is_instance = |child: &Child| child.has_executed && child.life == Life::Alive;
        if self.children.iter().filter(|child| is_instance(child)).count() > 1 {
            return Err(Violation::Double);
        }
        if self.shows_harm_only() {
            return Ok(());
        }
        let is_recorded = self.word == self.run_of(index);
        if is_recorded { Ok(()) } else { Err(Violation::RanUnrecorded) }
    }

    pub(crate) fn consume(&mut self, index: usize) {
        let Life::Zombie(exit) = self.children[index].life else {
            unreachable!("only zombies are consumed")
        };
        let child = &mut self.children[index];
        child.life = Life::Consumed(exit);
        if self.sabotage != Some(Sabotage::ConsumeFirst) {
            // Nobody can ask for these any more.
            *child = Child { pid: 0, parent: Parent::Init, cloner: None, intent: 0, ..*child };
        }
    }

    /// SIGKILL: the children go to the next living subreaper above, or to init.
    fn kill(&mut self, index: usize) {
        if self.kills_left < KILLS && !self.is_well() {
            self.is_double_fault = true;
        }
        self.kills_left -= 1;
        let keeper = &mut self.keepers[index];
        // What it knew is gone with it.
        *keeper = Keeper { is_alive: false, ..Keeper::new(keeper.role, keeper.parent, Step::Idle) };
        let above = self.keepers[index].parent.filter(|above| self.keepers[*above].is_alive);
        for child in &mut self.children {
            if child.parent == Parent::Keeper(index) {
                child.parent = above.map_or(Parent::Init, Parent::Keeper);
            }
        }
        for keeper in &mut self.keepers {
            if keeper.parent == Some(index) {
                keeper.parent = None;
            }
        }
    }

    /// A warden and its proxy are there, and the proxy has adopted everything.
    fn is_well(&self) -> bool {
        self.keepers.iter().any(|proxy| {
            let has_warden = proxy.parent.is_some_and(|warden| self.keepers[warden].is_alive);
            proxy.is_alive && proxy.role == Role::Proxy && proxy.has_adopted && has_warden
        })
    }

    /// Writes an outcome into the ring, and judges it.
    pub(crate) fn put(&mut self, raw: u64, expected_entry: u64) -> Result<(), Violation> {
        let word = Word::from_raw(raw).unwrap();
        let entry = ring::entry_of(word.generation());
        if self.ring[entry] != expected_entry {
            return Ok(());
        }
        match ring::put(expected_entry, word) {
            Put::Write(new) => self.ring[entry] = new,
            Put::Done => return Ok(()),
            Put::Full(_) | Put::Damaged(_) | Put::Nothing => return Err(Violation::Wrong),
        }
        let State::Over(generation, outcome) = word.state() else { unreachable!() };
        self.judge_outcome(generation.get(), outcome)
    }

    /// With these the wrong order itself would be seen first, and the harm is of interest.
    fn shows_harm_only(&self) -> bool {
        self.is(Sabotage::ParentRecords) || self.is(Sabotage::RefusalIgnored)
    }

    fn judge_outcome(&self, generation: u64, outcome: Outcome) -> Result<(), Violation> {
        if self.shows_harm_only() {
            return Ok(());
        }
        let of_it = || self.children.iter().filter(|child| child.generation == generation);
        let has_run = of_it().any(|child| child.has_executed);
        let exits = |wanted: Exit| {
            of_it().any(|child| match child.life {
                Life::Alive => false,
                Life::Zombie(exit) | Life::Consumed(exit) => exit == wanted,
            })
        };
        let is_alive = of_it().any(|child| child.has_executed && child.life == Life::Alive);
        match outcome {
            _ if is_alive => Err(Violation::Wrong),
            Outcome::Ended(Exit::Unknown) if self.is_double_fault => Ok(()),
            Outcome::Ended(Exit::Unknown) if self.kernel == Kernel::Old => Ok(()),
            Outcome::Ended(Exit::Unknown) => Err(Violation::Lost),
            Outcome::Ended(exit) if exits(exit) => Ok(()),
            Outcome::Ended(_) => Err(Violation::Wrong),
            Outcome::Failed(failure) if failure.errno == Errno(2) && !has_run => Ok(()),
            Outcome::Cancelled if !has_run => Ok(()),
            Outcome::Failed(_) | Outcome::Cancelled => Err(Violation::Wrong),
        }
    }

    /// Before a start: everything before was reported.
    pub(crate) fn judge_start(&self, generation: Generation) -> Result<(), Violation> {
        let is_there = |number: u64| {
            let word = Word::from_raw(self.ring[number as usize]).unwrap();
            matches!(word.state(), State::Over(found, _) if found.get() == number)
        };
        if (1..generation.get()).all(is_there) { Ok(()) } else { Err(Violation::Gap) }
    }

    /// Nothing can happen any more: is everything done?
    pub(crate) fn judge_end(&self) -> Result<(), Violation> {
        let is_done = self.state() == State::Down(Generation::new(GENERATIONS));
        let all_consumed = self.children.iter().all(|child| {
            child.step == ChildStep::Stranger || matches!(child.life, Life::Consumed(_))
        });
        if !is_done || !all_consumed {
            // Who cannot be sure starts nothing: that is the promise for such a kernel.
            let may_doubt = self.kernel == Kernel::Old && matches!(self.state(), State::Run(..));
            return if may_doubt { Ok(()) } else { Err(Violation::Stuck) };
        }
        self.judge_start(Generation::new(GENERATIONS + 1))
    }

    pub(crate) fn pid_of(&self, index: usize) -> Pid {
        Pid::new(self.children[index].pid).unwrap()
    }
}
