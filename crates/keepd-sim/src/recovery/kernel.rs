//! The simulated kernel of a recovery: processes with parents, zombies, subreapers and pidfds, the
//! cells and the journal that outlive everybody, pipes, and a SIGKILL at any effect.
//!
//! It is shared by all shells, because a process that is killed in the middle of a function of the
//! keeper must not change anything any more: from its death on it sees and writes cells of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keepd_engine::proxy::{ConnectionId, Fact};
use keepd_model::{
    Errno, Exit, Generation, Instant, Pid, ServiceName, Signal, SpawnFailure, SpawnStep,
};
use keepd_wire::ledger::keeper::Intended;
use keepd_wire::ledger::layout::{ANSWERED_OFFSET, CHUNKS_OFFSET, SlotNumber, file_bytes};
use keepd_wire::ledger::seal_cell;

use super::judge::Judge;
use super::pace::Pace;
use super::sabotage::Sabotage;
use super::story::Behaviour;
use crate::random::Random;
use crate::report::Trace;

/// Process ids go round in this range, so that each is used again soon.
const PIDS: std::ops::RangeInclusive<u32> = 300..=330;
/// More effects than this are a loop.
const EFFECTS_MAX: u64 = 2_000_000;
/// How many chunks the file of cells has.
pub(crate) const CHUNKS: u32 = 1;

/// What tells a process from every other one, for ever: the inode of its pidfd.
pub(crate) type Serial = u64;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The process that never dies.
    Warden,
    /// The parent of services.
    Proxy,
    /// The manager: a service of the proxy that is started again by it.
    Manager,
}

impl Role {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Warden, Self::Proxy, Self::Manager];
}

/// A SIGKILL before an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Before this effect, counted from the beginning of the run.
    pub at: u64,
    /// Whoever has this part then; nobody, if there is none.
    pub whom: Role,
}

/// The actor is dead, or the run is over: nothing that follows happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Zombie(Exit),
    /// The pid is free. Who holds a pidfd can still ask how it ended.
    Consumed(Exit),
}

/// How far a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildStep {
    Born,
    Identified,
    Recorded,
    /// Its failure is in the word.
    FailureRecorded,
    /// Its failure is in the error pipe.
    FailureReported,
    Executed,
}

/// What a child was cloned for.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) name: ServiceName,
    pub(crate) generation: Generation,
    pub(crate) slot: SlotNumber,
    pub(crate) intended: Intended,
    pub(crate) step: ChildStep,
    pub(crate) behaviour: Behaviour,
    /// Where its output goes.
    pub(crate) pipe: usize,
    /// Who reads its error pipe.
    pub(super) parent: Serial,
    pub(super) lines_left: u32,
    pub(super) has_term_pending: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// `None`: init.
    pub(crate) parent: Option<Serial>,
    pub(crate) life: Life,
    /// `None`: a warden, a proxy, a helper of a service, or somebody else's process.
    pub(crate) child: Option<Child>,
    /// The cgroup that it is in, if it is that of a generation.
    pub(crate) group: Option<(ServiceName, Generation)>,
}

/// What a child reports through its error pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChildReport {
    pub(crate) name: ServiceName,
    pub(crate) generation: Generation,
    pub(crate) failure: Option<SpawnFailure>,
}

/// A log pipe. What is in it is there as long as somebody holds its end for reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) holders: BTreeSet<Serial>,
    pub(crate) lines: VecDeque<u64>,
}

/// What the proxy says on the channel. A descriptor travels in its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToWarden {
    Hold(u32, Label),
    Drop(u32),
    Exit(u8),
}

/// What a held descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// The end for reading of a log pipe.
    Log(ServiceName, usize),
    /// A process.
    Pidfd(Pid, Serial),
}

/// A connection to the control socket: lines under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Socket {
    pub(crate) proxy: Serial,
    pub(crate) to_proxy: VecDeque<Vec<u8>>,
    pub(crate) to_client: VecDeque<Vec<u8>>,
    /// The proxy has seen it.
    pub(crate) is_accepted: bool,
    /// Its client is gone.
    pub(crate) is_closed: bool,
}

/// What comes by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    ChildSteps(Serial),
    Ends(Serial, Exit),
    Writes(Serial),
    InitConsumes(Serial),
    Nothing,
}

/// The kernel, with everything that outlives a process.
pub(crate) struct Kernel {
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) pace: Pace,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) effects: u64,
    kills: VecDeque<Kill>,
    pub(crate) kills_done: u64,
    pub(crate) judge: Judge,
    trace: Trace,
    pub(crate) processes: BTreeMap<Serial, Process>,
    /// Who has a pid: those that were not consumed.
    holders: BTreeMap<Pid, Serial>,
    next_pid: u32,
    agenda: BTreeMap<(Instant, u64), Due>,
    entries: u64,
    cells: Vec<u64>,
    /// Cells as a dead process would have left them.
    ghosts: BTreeMap<(Serial, u64), u64>,
    pub(crate) journal: Option<Vec<u8>>,
    /// What the machine knew when the journal had these bytes and no others.
    pub(crate) snapshot: Option<(Vec<u8>, Vec<Fact>)>,
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) sockets: BTreeMap<ConnectionId, Socket>,
    pub(crate) channel: VecDeque<(Serial, ToWarden)>,
    pub(crate) reports: BTreeMap<Serial, Vec<ChildReport>>,
    pub(crate) warden: Option<Serial>,
    pub(crate) proxy: Option<Serial>,
    pub(crate) manager: Option<Serial>,
    /// The proxy takes connections.
    pub(crate) is_listening: bool,
}

impl Kernel {
    pub(crate) fn new(
        seed: u64,
        pace: Pace,
        kills: Vec<Kill>,
        sabotage: Option<Sabotage>,
        trace: Trace,
    ) -> Self {
        let mut cells = vec![0; (file_bytes(CHUNKS) / 8) as usize];
        // As a new file has them.
        cells[(CHUNKS_OFFSET / 8) as usize] = seal_cell(u64::from(CHUNKS));
        cells[(ANSWERED_OFFSET / 8) as usize] = seal_cell(0);
        Self {
            now: Instant::ZERO.saturating_add(Duration::from_secs(1)),
            random: Random::new(seed),
            pace,
            sabotage,
            effects: 0,
            kills: kills.into(),
            kills_done: 0,
            judge: Judge::default(),
            trace,
            processes: BTreeMap::new(),
            holders: BTreeMap::new(),
            next_pid: 0,
            agenda: BTreeMap::new(),
            entries: 0,
            cells,
            ghosts: BTreeMap::new(),
            journal: None,
            snapshot: None,
            pipes: Vec::new(),
            sockets: BTreeMap::new(),
            channel: VecDeque::new(),
            reports: BTreeMap::new(),
            warden: None,
            proxy: None,
            manager: None,
            is_listening: false,
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let effect = self.effects;
        self.trace.note(self.now, || format!("{effect:>4} {}", line()));
    }

    pub(crate) fn take_trace(&mut self) -> Vec<String> {
        std::mem::replace(&mut self.trace, Trace::Off).into_lines()
    }

    pub(crate) fn is(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// Something is done that others can see. Before it, everything may happen: a SIGKILL, a step
    /// of a child.
    pub(crate) fn effect(&mut self, actor: Serial, what: &'static str) -> Result<(), Stopped> {
        if !self.goes_on(actor) {
            return Err(Stopped);
        }
        while let Some(kill) = self.kills.front().copied().filter(|kill| kill.at <= self.effects) {
            self.kills.pop_front();
            self.kill(kill.whom);
        }
        if let Some(whom) = self.pace.kills(&mut self.random) {
            self.kill(whom);
        }
        self.interleave();
        if !self.goes_on(actor) {
            return Err(Stopped);
        }
        self.note(|| format!("{actor}: {what}"));
        self.effects += 1;
        if self.effects > EFFECTS_MAX {
            self.judge.breach("R11", "the effects do not end".to_owned());
        }
        Ok(())
    }

    /// Reports whether a process does anything more.
    pub(crate) fn goes_on(&self, actor: Serial) -> bool {
        self.is_alive(actor) && self.judge.breach.is_none()
    }

    /// No more kills, and nothing is slow any more.
    pub(crate) fn calm_down(&mut self) {
        self.kills.clear();
        self.pace = Pace::Lazy;
    }

    pub(crate) fn kill(&mut self, whom: Role) {
        let serial = match whom {
            Role::Warden => self.warden,
            Role::Proxy => self.proxy,
            Role::Manager => self.manager,
        };
        let Some(serial) = serial else {
            return;
        };
        self.note(|| format!("SIGKILL to the {whom:?}, {serial}"));
        self.kills_done += 1;
        if whom != Role::Manager {
            self.judge.on_fault();
        }
        self.die(serial, Exit::Signal { signal: Signal::KILL, core: false });
    }

    // Processes

    pub(crate) fn fork(&mut self, parent: Option<Serial>, child: Option<Child>) -> Serial {
        let pid = self.free_pid();
        let serial = self.processes.len() as Serial + 1;
        self.holders.insert(pid, serial);
        let has_steps = child.is_some();
        let group = child.as_ref().map(|child| (child.name.clone(), child.generation));
        let process = Process { pid, parent, life: Life::Alive, child, group };
        self.processes.insert(serial, process);
        if has_steps {
            let delay = self.pace.child_delay(&mut self.random);
            self.after(delay, Due::ChildSteps(serial));
        }
        serial
    }

    /// clone(2) of a service.
    pub(crate) fn clone_child(
        &mut self,
        parent: Serial,
        owner: (&ServiceName, Generation),
        slot: SlotNumber,
        intended: Intended,
        pipe: usize,
        behaviour: Behaviour,
    ) -> Serial {
        let (name, generation) = (owner.0.clone(), owner.1);
        let lines_left = behaviour.lines;
        let step = ChildStep::Born;
        let child = Child {
            name,
            generation,
            slot,
            intended,
            step,
            behaviour,
            pipe,
            parent,
            lines_left,
            has_term_pending: false,
        };
        let serial = self.fork(Some(parent), Some(child));
        self.judge.on_clone(owner.0, generation, serial);
        serial
    }

    fn free_pid(&mut self) -> Pid {
        loop {
            self.next_pid = match self.next_pid {
                pid if pid < *PIDS.start() || pid >= *PIDS.end() => *PIDS.start(),
                pid => pid + 1,
            };
            let pid = Pid::new(self.next_pid).expect("the range holds process ids");
            if !self.holders.contains_key(&pid) {
                return pid;
            }
        }
    }

    pub(crate) fn is_alive(&self, serial: Serial) -> bool {
        self.life(serial) == Some(Life::Alive)
    }

    pub(crate) fn life(&self, serial: Serial) -> Option<Life> {
        self.processes.get(&serial).map(|process| process.life)
    }

    pub(crate) fn pid_of(&self, serial: Serial) -> Pid {
        self.processes[&serial].pid
    }

    /// Who has a pid now.
    pub(crate) fn holder(&self, pid: Pid) -> Option<Serial> {
        self.holders.get(&pid).copied()
    }

    /// waitid(2) with WNOWAIT.
    pub(crate) fn zombie_of(&self, parent: Serial) -> Option<(Serial, Pid, Exit)> {
        self.present().find_map(|(serial, process)| match process.life {
            Life::Zombie(exit) if process.parent == Some(parent) => {
                Some((serial, process.pid, exit))
            }
            Life::Zombie(_) | Life::Alive | Life::Consumed(_) => None,
        })
    }

    /// Those that have a pid, in its order.
    pub(crate) fn present(&self) -> impl Iterator<Item = (Serial, &Process)> {
        self.holders.values().map(|serial| (*serial, &self.processes[serial]))
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (Serial, &Process)> {
        self.present().filter(|(_, process)| process.life == Life::Alive)
    }

    /// waitid(2).
    pub(crate) fn consume(&mut self, serial: Serial) {
        if let Some(process) = self.processes.get_mut(&serial)
            && let Life::Zombie(exit) = process.life
        {
            process.life = Life::Consumed(exit);
            self.holders.remove(&process.pid);
        }
    }

    /// Somebody else's process, which takes a pid for a while.
    pub(crate) fn add_stranger(&mut self, lasts: Duration) {
        let stranger = self.fork(None, None);
        self.after(lasts, Due::Ends(stranger, Exit::Code(0)));
    }

    /// A service makes a process of its own, in its group.
    pub(super) fn add_helper(&mut self, parent: Serial) {
        let helper = self.fork(Some(parent), None);
        let group = self.processes[&parent].group.clone();
        if let Some(process) = self.processes.get_mut(&helper) {
            process.group = group;
        }
    }

    /// The processes of a group that live.
    pub(crate) fn group(&self, name: &ServiceName, generation: Generation) -> Vec<Serial> {
        let is_in = |process: &Process| {
            let group = process.group.as_ref();
            group.is_some_and(|group| group.0 == *name && group.1 == generation)
        };
        self.alive().filter(|(_, process)| is_in(process)).map(|(serial, _)| serial).collect()
    }

    /// Reports whether a service has a process that is no zombie.
    pub(crate) fn live_run(&self, name: &ServiceName) -> Option<(Generation, Serial)> {
        self.alive().find_map(|(serial, process)| {
            let child = process.child.as_ref().filter(|child| child.name == *name)?;
            Some((child.generation, serial))
        })
    }

    pub(super) fn die(&mut self, serial: Serial, exit: Exit) {
        let Some(process) = self.processes.get_mut(&serial) else {
            return;
        };
        if process.life != Life::Alive {
            return;
        }
        process.life = Life::Zombie(exit);
        let (above, child) = (process.parent, process.child.clone());
        self.note(|| format!("{serial} ends with {exit}"));
        if let Some(child) = &child {
            self.judge.on_end(&child.name, child.generation, exit);
        }
        for part in [&mut self.warden, &mut self.proxy, &mut self.manager] {
            if *part == Some(serial) {
                *part = None;
            }
        }
        if above.is_none() {
            self.init_gets(serial);
        }
        self.on_closed(serial);
        self.give_orphans(serial, above);
    }

    /// Its descriptors are closed.
    fn on_closed(&mut self, serial: Serial) {
        self.is_listening &= self.proxy.is_some();
        self.reports.remove(&serial);
        for pipe in &mut self.pipes {
            pipe.holders.remove(&serial);
            if pipe.holders.is_empty() && !pipe.lines.is_empty() {
                self.judge.on_lines_lost(pipe.lines.len());
                pipe.lines.clear();
            }
        }
    }

    /// Its children go to the nearest subreaper that lives, or to init.
    fn give_orphans(&mut self, serial: Serial, above: Option<Serial>) {
        let mut heir = above;
        while let Some(above) = heir
            && !(self.is_alive(above) && self.is_subreaper(above))
        {
            heir = self.processes.get(&above).and_then(|process| process.parent);
        }
        let orphans: Vec<Serial> = self
            .present()
            .filter(|(_, process)| process.parent == Some(serial))
            .map(|(orphan, _)| orphan)
            .collect();
        for orphan in orphans {
            if let Some(process) = self.processes.get_mut(&orphan) {
                process.parent = heir;
            }
            if heir.is_none() {
                self.init_gets(orphan);
            }
        }
    }

    fn is_subreaper(&self, serial: Serial) -> bool {
        self.warden == Some(serial) || self.proxy == Some(serial)
    }

    /// Init consumes a zombie whenever it likes.
    fn init_gets(&mut self, serial: Serial) {
        if matches!(self.life(serial), Some(Life::Zombie(_))) {
            let delay = self.pace.init_delay(&mut self.random);
            self.after(delay, Due::InitConsumes(serial));
        }
    }

    /// A proxy ends by itself.
    pub(crate) fn exit(&mut self, serial: Serial) {
        self.die(serial, Exit::Code(0));
    }

    /// kill(2) or pidfd_send_signal(2).
    pub(crate) fn signal(&mut self, serial: Serial, signal: Signal) {
        let delay = Duration::from_micros(self.random.between(10, 2_000));
        let exit = Exit::Signal { signal, core: false };
        let Some(process) = self.processes.get_mut(&serial) else {
            return;
        };
        let takes_it = match &mut process.child {
            None => true,
            Some(_) if signal == Signal::KILL => true,
            Some(child) if child.step != ChildStep::Executed => {
                child.has_term_pending = true;
                false
            }
            Some(child) => !child.behaviour.ignores_term,
        };
        if takes_it {
            self.after(delay, Due::Ends(serial, exit));
        }
    }

    // Cells

    /// Reads a cell, as this process sees it.
    pub(crate) fn load(&mut self, actor: Serial, offset: u64) -> u64 {
        let is_ghost = self.effect(actor, "load").is_err();
        let there = self.cells[(offset / 8) as usize];
        match is_ghost {
            true => self.ghosts.get(&(actor, offset)).copied().unwrap_or(there),
            false => there,
        }
    }

    /// Writes a cell. What a dead process writes, only it sees.
    pub(crate) fn store(&mut self, actor: Serial, offset: u64, value: u64) {
        match self.effect(actor, "store") {
            Ok(()) => self.cells[(offset / 8) as usize] = value,
            Err(Stopped) => {
                self.ghosts.insert((actor, offset), value);
            }
        }
    }

    pub(crate) fn exchange(&mut self, actor: Serial, offset: u64, old: u64, new: u64) -> bool {
        match self.effect(actor, "exchange") {
            Ok(()) => self.exchange_now(offset, old, new),
            Err(Stopped) => {
                let there = self.cells[(offset / 8) as usize];
                let seen = self.ghosts.get(&(actor, offset)).copied().unwrap_or(there);
                if seen == old {
                    self.ghosts.insert((actor, offset), new);
                }
                seen == old
            }
        }
    }

    pub(crate) fn exchange_now(&mut self, offset: u64, old: u64, new: u64) -> bool {
        let cell = &mut self.cells[(offset / 8) as usize];
        let is_equal = *cell == old;
        if is_equal {
            *cell = new;
        }
        is_equal
    }

    /// Reads a cell without an effect: for children, and for the judge.
    pub(crate) fn peek(&self, offset: u64) -> u64 {
        self.cells[(offset / 8) as usize]
    }

    // Time

    pub(super) fn after(&mut self, delay: Duration, due: Due) {
        self.entries += 1;
        self.agenda.insert((self.now.saturating_add(delay), self.entries), due);
    }

    /// Returns when something comes by itself.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((at, _), _)| *at)
    }

    /// Makes sure that somebody looks at a clock then.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), Due::Nothing);
    }

    /// The next thing that comes by itself happens.
    pub(crate) fn happen(&mut self) {
        if let Some(((at, _), due)) = self.agenda.pop_first() {
            self.now = self.now.max(at);
            self.carry_out(due);
        }
    }

    /// Between two effects of a process others go on.
    fn interleave(&mut self) {
        for _ in 0..self.pace.steps_between(&mut self.random) {
            let is_step = |due: &Due| match due {
                Due::ChildSteps(_) | Due::InitConsumes(_) | Due::Ends(..) => true,
                Due::Writes(_) | Due::Nothing => false,
            };
            let end = self.now.saturating_add(self.pace.hurry());
            let mut soon = self.agenda.iter().take_while(|((at, _), _)| *at <= end);
            let Some(key) = soon.find(|(_, due)| is_step(due)).map(|(key, _)| *key) else {
                return;
            };
            if let Some(due) = self.agenda.remove(&key) {
                self.carry_out(due);
            }
        }
    }

    fn carry_out(&mut self, due: Due) {
        match due {
            Due::ChildSteps(serial) => self.child_steps(serial),
            Due::Ends(serial, exit) => self.die(serial, exit),
            Due::Writes(serial) => self.child_writes(serial),
            Due::InitConsumes(serial) => {
                self.note(|| format!("init consumes {serial}"));
                self.consume(serial);
            }
            Due::Nothing => {}
        }
    }
}

/// Clone fails with this.
pub(crate) const NO_PROCESS: SpawnFailure =
    SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN };
