//! The simulated kernel: processes with ids that are used again, zombies, groups, signals; and what
//! is true of every run, written down apart from the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepd_engine::proxy::{JobSpawn, Owner, ServiceSpawn, SpawnOutcome};
use keepd_model::protocol::{Attributes, RunEnd};
use keepd_model::{
    Errno, Exit, Generation, Instant, KillMode, Kind, Pid, ServiceName, ServiceSpec, Signal,
    SpawnFailure, SpawnStep,
};

use crate::plain;
use crate::sabotage::Sabotage;
use crate::visitor;
use crate::world::{Due, Step, World, broken};

/// Process ids go round in this range, so that each is used many times in a run.
const PIDS: std::ops::RangeInclusive<u32> = 300..=420;

/// A process, live or zombie. Its serial number is never used again.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) serial: u64,
    pub(crate) owner: Owner,
    pub(crate) is_main: bool,
    is_executed: bool,
    /// A stop signal waits until the program runs.
    pending: Option<Signal>,
    ignores_stop: bool,
    sleeps_in_kernel: bool,
    is_killed: bool,
    zombie: Option<Exit>,
}

/// What is true of one generation of a service.
#[derive(Debug)]
pub(crate) struct Truth {
    /// What its start was prepared from.
    pub(crate) spec: Option<Arc<ServiceSpec>>,
    pub(crate) executed: Option<Instant>,
    /// When it can answer; `None`: never.
    pub(crate) ready_at: Option<Instant>,
    /// Which of its questions held when they were asked.
    pub(crate) held: BTreeSet<usize>,
    pub(crate) said_ready: bool,
    pub(crate) ended: Option<RunEnd>,
    pub(crate) ended_at: Option<Instant>,
    failure: Option<SpawnFailure>,
}

#[derive(Debug, Default)]
pub(crate) struct Kernel {
    processes: BTreeMap<Pid, Process>,
    /// The live processes of each owner.
    groups: BTreeMap<Owner, BTreeSet<Pid>>,
    pub(crate) truths: BTreeMap<(ServiceName, Generation), Truth>,
    /// The last generation of each service.
    pub(crate) generations: BTreeMap<ServiceName, Generation>,
    /// What the proxy was told last.
    pub(crate) attributes: BTreeMap<ServiceName, Arc<Attributes>>,
    watched: BTreeSet<Owner>,
    next_pid: u32,
    serials: u64,
    /// Ids that were given out before.
    used: BTreeSet<Pid>,
}

impl Kernel {
    fn allocate(&mut self) -> Pid {
        loop {
            self.next_pid = match self.next_pid {
                pid if pid < *PIDS.start() || pid >= *PIDS.end() => *PIDS.start(),
                pid => pid + 1,
            };
            let pid = Pid::new(self.next_pid).expect("the range holds process ids");
            if !self.processes.contains_key(&pid) {
                return pid;
            }
        }
    }

    /// Returns the live process with this id and serial number.
    fn live(&mut self, pid: Pid, serial: u64) -> Option<&mut Process> {
        self.processes
            .get_mut(&pid)
            .filter(|process| process.serial == serial && process.zombie.is_none())
    }

    pub(crate) fn is_live(&self, pid: Pid, serial: u64) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|process| process.serial == serial && process.zombie.is_none())
    }

    pub(crate) fn group(&self, owner: &Owner) -> impl Iterator<Item = Pid> + '_ {
        self.groups.get(owner).into_iter().flatten().copied()
    }

    /// Returns the generations of a service that have live processes.
    pub(crate) fn live_generations(&self, name: &ServiceName) -> impl Iterator<Item = Generation> {
        let first = Owner::Service(name.clone(), Generation::NONE);
        self.groups.range(first..).map_while(move |(owner, _)| match owner {
            Owner::Service(other, generation) if other == name => Some(*generation),
            Owner::Service(..) | Owner::Job(_) => None,
        })
    }

    pub(crate) fn has_live(&self, name: &ServiceName) -> bool {
        self.live_generations(name).next().is_some()
    }

    /// Returns the main process of a service, if it lives.
    pub(crate) fn main_of(&self, name: &ServiceName) -> Option<(Generation, Pid, u64)> {
        let generation = *self.generations.get(name)?;
        let owner = Owner::Service(name.clone(), generation);
        let pid = self.group(&owner).find(|pid| self.processes[pid].is_main)?;
        Some((generation, pid, self.processes[&pid].serial))
    }

    /// Returns whose main process this is, if it was not reaped.
    pub(crate) fn owner_of_main(&self, pid: Pid) -> Option<Owner> {
        let process = self.processes.get(&pid).filter(|process| process.is_main)?;
        Some(process.owner.clone())
    }

    /// Returns the live main processes of services, keepd's own left out.
    pub(crate) fn mains(&self) -> Vec<(Pid, u64)> {
        let is_service = |owner: &Owner| match owner {
            Owner::Service(name, _) => !name.is_internal(),
            Owner::Job(_) => false,
        };
        self.processes
            .iter()
            .filter(|(_, process)| process.is_main && process.zombie.is_none())
            .filter(|(_, process)| is_service(&process.owner))
            .map(|(pid, process)| (*pid, process.serial))
            .collect()
    }

    /// Reports whether a process runs its program; `None`: it is not there.
    pub(crate) fn is_executed(&self, pid: Pid) -> Option<bool> {
        let process = self.processes.get(&pid).filter(|process| process.zombie.is_none())?;
        Some(process.is_executed)
    }

    /// A process is gone, and nobody is told.
    pub(crate) fn vanish(&mut self, pid: Pid) {
        if let Some(process) = self.processes.remove(&pid)
            && let Some(group) = self.groups.get_mut(&process.owner)
        {
            group.remove(&pid);
            if group.is_empty() {
                self.groups.remove(&process.owner);
            }
        }
    }

    /// Nobody will say how this process ended.
    pub(crate) fn forget_status(&mut self, pid: Pid) {
        if let Some(process) = self.processes.get_mut(&pid)
            && process.zombie.is_some()
        {
            process.zombie = Some(Exit::Unknown);
        }
    }

    /// Who watched groups was lost.
    pub(crate) fn forget_watches(&mut self) {
        self.watched.clear();
    }

    /// Returns the processes of jobs.
    pub(crate) fn of_jobs(&self) -> Vec<Pid> {
        let is_job = |process: &Process| matches!(process.owner, Owner::Job(_));
        self.processes.iter().filter(|(_, one)| is_job(one)).map(|(pid, _)| *pid).collect()
    }

    /// Takes a zombie away.
    pub(crate) fn reap(&mut self, pid: Pid) -> Option<Exit> {
        let exit = self.processes.get(&pid)?.zombie?;
        self.processes.remove(&pid);
        Some(exit)
    }
}

impl World {
    /// clone3 for a service.
    pub(crate) fn spawn_service(
        &mut self,
        spawn: &ServiceSpawn,
    ) -> Step<Result<Pid, SpawnFailure>> {
        let ServiceSpawn { name, generation, .. } = spawn;
        let last = self.kernel.generations.get(name).copied();
        if last.unwrap_or_default().next() != *generation {
            return broken("S2", format!("{name}: generation {generation} follows {last:?}"));
        }
        if let Some(living) = self.kernel.live_generations(name).next() {
            return broken(
                "S1",
                format!("{name}: generation {generation} is started while {living} lives"),
            );
        }
        self.kernel.generations.insert(name.clone(), *generation);
        let truth = Truth {
            spec: self.prepared.get(name).cloned(),
            executed: None,
            ready_at: None,
            held: BTreeSet::new(),
            said_ready: false,
            ended: None,
            ended_at: None,
            failure: None,
        };
        let key = (name.clone(), *generation);
        let temper = self.temper_of(name);
        let fails = self.random.chance(temper.cannot_clone);
        let truth = self.kernel.truths.entry(key).or_insert(truth);
        if fails {
            self.faults.count("clone fails");
            let failure = SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN };
            truth.ended = Some(RunEnd::Failed(failure));
            truth.ended_at = Some(self.now);
            return Ok(Err(failure));
        }
        let owner = Owner::Service(name.clone(), *generation);
        let (pid, serial) = self.fork(owner, true);
        self.check_emptiness(name)?;
        let delay = if self.random.chance(3) {
            self.random.millis(50, 300)
        } else {
            self.random.micros(50, 2_000)
        };
        let due = if self.random.chance(temper.cannot_execute) {
            Due::FailsToExecute(pid, serial)
        } else {
            Due::Executes(pid, serial)
        };
        self.after(delay, due);
        Ok(Ok(pid))
    }

    /// clone3 for a `service.exec`.
    pub(crate) fn spawn_job(&mut self, spawn: &JobSpawn) -> Result<Pid, SpawnFailure> {
        if !self.is_calm && self.random.chance(3) {
            self.faults.count("job cannot be cloned");
            return Err(SpawnFailure { step: SpawnStep::Clone, errno: Errno::EAGAIN });
        }
        let (pid, serial) = self.fork(Owner::Job(spawn.job), true);
        let delay = self.random.micros(50, 2_000);
        self.after(delay, Due::Executes(pid, serial));
        let holds = self.holds(&spawn.name, None);
        let exit = Exit::Code(u8::from(!holds));
        if !self.is_calm && self.random.chance(5) {
            self.faults.count("job hangs");
        } else {
            let lasts = delay + self.random.millis(1, 30);
            self.after(lasts, Due::Dies(pid, serial, exit));
        }
        Ok(pid)
    }

    fn fork(&mut self, owner: Owner, is_main: bool) -> (Pid, u64) {
        let temper = match &owner {
            Owner::Service(name, _) => self.temper_of(name),
            Owner::Job(_) => self.temper_of_nobody(),
        };
        let ignores_stop = self.random.chance(temper.ignores_stop);
        let sleeps_in_kernel = self.random.chance(temper.sleeps_in_kernel);
        let kernel = &mut self.kernel;
        let pid = kernel.allocate();
        if !kernel.used.insert(pid) {
            self.faults.count("pid used again");
        }
        kernel.serials += 1;
        let serial = kernel.serials;
        kernel.groups.entry(owner.clone()).or_default().insert(pid);
        let process = Process {
            serial,
            owner,
            is_main,
            is_executed: !is_main,
            pending: None,
            ignores_stop,
            sleeps_in_kernel,
            is_killed: false,
            zombie: None,
        };
        kernel.processes.insert(pid, process);
        (pid, serial)
    }

    /// The error pipe ends without an error.
    pub(crate) fn on_executes(&mut self, pid: Pid, serial: u64) {
        let Some(process) = self.kernel.live(pid, serial) else {
            return;
        };
        process.is_executed = true;
        let (owner, pending) = (process.owner.clone(), process.pending.take());
        self.trace(|| format!("kernel: {pid} executes, of {owner:?}"));
        self.report(pid, owner.clone(), SpawnOutcome::Executed);
        if let Owner::Service(name, generation) = owner {
            if name == visitor::service() {
                self.begin_visitor(pid, serial);
            } else if plain::is_foreign(&name) {
                self.begin_foreign(pid, serial);
            } else if name.is_internal() {
                self.on_manager_executes(pid, serial);
            } else {
                self.begin_program(pid, serial, &name, generation);
            }
        }
        if let Some(signal) = pending {
            self.deliver(pid, signal);
        }
    }

    /// A child writes to its error pipe. Nobody reads that of one whose parent was lost.
    fn report(&mut self, pid: Pid, owner: Owner, outcome: SpawnOutcome) {
        let of_service = self.estate.owner_of(pid);
        if !self.proxy.is_lost && of_service.is_none_or(|(.., running)| !running.is_foreign) {
            self.proxy.reports.push((owner, outcome));
            self.wake_proxy();
        }
    }

    /// Commands beside services are ended with the proxy that runs them.
    pub(crate) fn kill_jobs(&mut self) {
        for pid in self.kernel.of_jobs() {
            self.kernel.vanish(pid);
            self.proxy.deaths.retain(|other| *other != pid);
        }
    }

    /// A program runs: what it will do follows from its temper.
    fn begin_program(&mut self, pid: Pid, serial: u64, name: &ServiceName, generation: Generation) {
        let temper = self.temper_of(name);
        let spec = self.prepared.get(name).cloned();
        let is_oneshot = spec.as_ref().is_some_and(|spec| spec.kind == Kind::Oneshot);
        let ready_in = self.random.millis(0, 1_500);
        let never = self.random.chance(temper.never_ready);
        let ready_at = (!never).then(|| self.now.saturating_add(ready_in));
        if let Some(truth) = self.kernel.truths.get_mut(&(name.clone(), generation)) {
            // A process that was adopted is said to run since it was cloned.
            truth.executed.get_or_insert(self.now);
            truth.ready_at = ready_at;
        }
        let says = spec.is_some_and(|spec| spec.ready.notify || spec.ready.fd.is_some());
        if !never && says {
            self.after(ready_in, Due::SaysReady(pid, serial));
        }
        let fails = self.random.chance(temper.ends);
        if is_oneshot {
            if !self.is_calm && self.random.chance(4) {
                self.faults.count("oneshot hangs");
            } else {
                let exit = if fails { self.some_exit() } else { Exit::Code(0) };
                let lasts = self.random.millis(1, 3_000);
                self.after(lasts, Due::Dies(pid, serial, exit));
            }
        } else if self.random.chance(temper.ends_at_once) {
            self.faults.count("ends at once");
            let exit = self.some_exit();
            let lasts = self.random.micros(0, 2_000);
            self.after(lasts, Due::Dies(pid, serial, exit));
        } else if fails {
            self.faults.count("ends by itself");
            let exit = self.some_exit();
            let lasts = self.random.millis(1, 8_000);
            self.after(lasts, Due::Dies(pid, serial, exit));
        }
        if self.random.chance(temper.leaves_others) {
            for _ in 0..self.random.between(1, 2) {
                let delay = self.random.millis(0, 500);
                self.after(delay, Due::Forks(pid, serial));
            }
        }
    }

    fn some_exit(&mut self) -> Exit {
        let signal = |number| Exit::Signal {
            signal: Signal::new(number).expect("signal numbers are from 1 to 64"),
            core: number == 11,
        };
        self.random.pick(&[Exit::Code(0), Exit::Code(1), Exit::Code(3), signal(11), signal(15)])
    }

    /// The child reports the step that failed, and ends.
    pub(crate) fn on_fails_to_execute(&mut self, pid: Pid, serial: u64) {
        let Some(process) = self.kernel.live(pid, serial) else {
            return;
        };
        // Whatever it did last, it was not stuck in it.
        process.sleeps_in_kernel = false;
        let owner = process.owner.clone();
        self.faults.count("exec fails");
        let step = self.random.pick(&[SpawnStep::Directory, SpawnStep::Uid, SpawnStep::Exec]);
        let failure = SpawnFailure { step, errno: Errno::ENOENT };
        if let Owner::Service(name, generation) = &owner
            && let Some(truth) = self.kernel.truths.get_mut(&(name.clone(), *generation))
        {
            truth.failure = Some(failure);
        }
        let outcome = SpawnOutcome::Failed(failure);
        self.report(pid, owner, outcome);
        let delay = self.random.micros(0, 500);
        self.after(delay, Due::Dies(pid, serial, Exit::Code(127)));
    }

    /// A process of a service makes another one in its group.
    pub(crate) fn on_forks(&mut self, pid: Pid, serial: u64) {
        let Some(process) = self.kernel.live(pid, serial) else {
            return;
        };
        let owner = process.owner.clone();
        let (child, serial) = self.fork(owner, false);
        self.faults.count("grandchild");
        self.trace(|| format!("kernel: {pid} makes {child}"));
        if self.random.chance(30) {
            let lasts = self.random.millis(10, 5_000);
            self.after(lasts, Due::Dies(child, serial, Exit::Code(0)));
        }
    }

    pub(crate) fn on_says_ready(&mut self, pid: Pid, serial: u64) {
        let Some(process) = self.kernel.live(pid, serial) else {
            return;
        };
        let Owner::Service(name, generation) = process.owner.clone() else {
            return;
        };
        if let Some(truth) = self.kernel.truths.get_mut(&(name.clone(), generation)) {
            truth.said_ready = true;
        }
        if self.says_by_descriptor(&name) {
            self.proxy.ready_fds.push((name, generation));
            self.wake_proxy();
            return;
        }
        let text = b"STATUS=serving\nREADY=1".to_vec();
        self.proxy.notifications.push((name, pid, text));
        self.wake_proxy();
    }

    /// Reports whether a service says that it is ready on its `ready_fd`, not by a notification.
    fn says_by_descriptor(&self, name: &ServiceName) -> bool {
        let attributes = self.kernel.attributes.get(name);
        attributes.is_some_and(|attributes| attributes.ready_fd.is_some())
    }

    /// A process becomes a zombie; it is in its group no more.
    pub(crate) fn on_dies(&mut self, pid: Pid, serial: u64, exit: Exit) {
        let Some(process) = self.kernel.live(pid, serial) else {
            return;
        };
        if process.sleeps_in_kernel && !self.is_calm {
            return;
        }
        process.zombie = Some(exit);
        let (owner, is_main) = (process.owner.clone(), process.is_main);
        self.trace(|| format!("kernel: {pid} ends with {exit}, of {owner:?}"));
        if let Some(group) = self.kernel.groups.get_mut(&owner) {
            group.remove(&pid);
            if group.is_empty() {
                self.kernel.groups.remove(&owner);
            }
        }
        if let Owner::Service(name, generation) = &owner
            && is_main
            && let Some(truth) = self.kernel.truths.get_mut(&(name.clone(), *generation))
        {
            truth.ended = Some(truth.failure.map_or(RunEnd::Exit(exit), RunEnd::Failed));
            truth.ended_at = Some(self.now);
        }
        // Grandchildren are ours too: their parent is gone, and we are the subreaper.
        if !is_main {
            self.faults.count("stranger reaped");
        }
        self.proxy.deaths.push(pid);
        if self.is_unseen() && self.random.chance(50) {
            self.lose_status(pid);
        }
        self.look_at_group(&owner);
        self.wake_proxy();
        self.manager_process_died(serial);
    }

    /// The proxy leaves a group to itself. From here on it belongs to no generation: who is in it
    /// may live as long as it likes, and nobody may signal it.
    pub(crate) fn leave_group(&mut self, owner: &Owner) -> Step {
        let is_main_only = match owner {
            Owner::Service(name, _) => {
                let attributes = self.kernel.attributes.get(name);
                attributes.is_some_and(|attributes| attributes.kill_mode == KillMode::Main)
            }
            Owner::Job(_) => false,
        };
        let main = self.kernel.group(owner).find(|pid| self.kernel.processes[pid].is_main);
        if !is_main_only || main.is_some() {
            return broken("S6", format!("{owner:?} is left, and {main:?} lives"));
        }
        if self.kernel.groups.remove(owner).is_some() {
            self.faults.count("left behind");
        }
        Ok(())
    }

    pub(crate) fn watch(&mut self, owner: &Owner) {
        self.kernel.watched.insert(owner.clone());
        self.look_at_group(owner);
    }

    fn look_at_group(&mut self, owner: &Owner) {
        if !self.kernel.groups.contains_key(owner) && self.kernel.watched.remove(owner) {
            if self.sabotage_once(Sabotage::LosesEmptyGroup, matches!(owner, Owner::Service(..))) {
                return;
            }
            self.proxy.empties.push(owner.clone());
            self.wake_proxy();
        }
    }

    /// kill(2) for a main process.
    pub(crate) fn signal_main(&mut self, owner: &Owner, pid: Pid, signal: Signal) -> Step {
        let is_ours = self
            .kernel
            .processes
            .get(&pid)
            .is_some_and(|process| process.owner == *owner && process.is_main);
        if !is_ours {
            return broken("S8", format!("signal {signal} to {pid}, which is not {owner:?}"));
        }
        self.trace(|| format!("kernel: {signal} to {pid}"));
        self.note_signalled(owner)?;
        self.deliver(pid, signal);
        Ok(())
    }

    /// A signal to every process of a group.
    pub(crate) fn signal_group(&mut self, owner: &Owner, signal: Signal) -> Step {
        if let Owner::Service(name, generation) = owner
            && self.kernel.generations.get(name) != Some(generation)
        {
            return broken("S8", format!("signal {signal} to an older group: {owner:?}"));
        }
        self.trace(|| format!("kernel: {signal} to all of {owner:?}"));
        self.note_signalled(owner)?;
        let members: Vec<Pid> = self.kernel.group(owner).collect();
        for pid in members {
            self.deliver(pid, signal);
        }
        Ok(())
    }

    fn deliver(&mut self, pid: Pid, signal: Signal) {
        let is_calm = self.is_calm;
        let Some(process) = self.kernel.processes.get_mut(&pid) else {
            return;
        };
        let serial = process.serial;
        let by_signal = Exit::Signal { signal, core: false };
        if signal == Signal::KILL {
            process.is_killed = true;
            if process.sleeps_in_kernel && !is_calm {
                self.faults.count("survives KILL");
                return;
            }
            let delay = self.random.micros(10, 3_000);
            self.after(delay, Due::Dies(pid, serial, by_signal));
        } else if signal == Signal::HUP {
            self.faults.count("reload");
        } else if signal != Signal::CONT {
            if !process.is_executed {
                process.pending = Some(signal);
                return;
            }
            if process.ignores_stop {
                self.faults.count("ignores its stop signal");
                return;
            }
            let exit = self.random.pick(&[by_signal, by_signal, Exit::Code(0), Exit::Code(1)]);
            let delay = self.random.millis(0, 800);
            self.after(delay, Due::Dies(pid, serial, exit));
        }
    }

    /// The faults stop: what sleeps in the kernel wakes up, and dies if it was killed.
    pub(crate) fn wake_sleepers(&mut self) {
        let killed: Vec<(Pid, u64)> = self
            .kernel
            .processes
            .iter()
            .filter(|(_, process)| process.sleeps_in_kernel && process.is_killed)
            .map(|(pid, process)| (*pid, process.serial))
            .collect();
        for (pid, serial) in killed {
            let exit = Exit::Signal { signal: Signal::KILL, core: false };
            let delay = self.random.millis(1, 2_000);
            self.after(delay, Due::Dies(pid, serial, exit));
        }
    }

    /// Something outside kills a main process: a person, or the kernel when memory is short.
    pub(crate) fn kill_some_main(&mut self) {
        let mains = self.kernel.mains();
        if mains.is_empty() {
            return;
        }
        let (pid, serial) = mains[self.random.index(mains.len())];
        self.faults.count("killed from outside");
        let number = self.random.pick(&[9, 11]);
        let exit = Exit::Signal {
            signal: Signal::new(number).expect("signal numbers are from 1 to 64"),
            core: number == 11,
        };
        self.on_dies(pid, serial, exit);
    }

    /// Reports whether a question about a service holds now; for a generation, or the present one.
    pub(crate) fn holds(&self, name: &ServiceName, generation: Option<Generation>) -> bool {
        let Some((present, _, _)) = self.kernel.main_of(name) else {
            return false;
        };
        let truth = self.kernel.truths.get(&(name.clone(), present));
        generation.is_none_or(|generation| generation == present)
            && truth.and_then(|truth| truth.ready_at).is_some_and(|ready_at| ready_at <= self.now)
    }
}
