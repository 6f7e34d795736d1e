//! The proxy's shell around the real machine: slots, the journal, and the order of steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use keepd_engine::proxy::{
    ConnectionId, Fact, Input, Output, Owner, Proxy, ServiceSpawn, Settings, SpawnOutcome,
};
use keepd_model::protocol::{Message, Request, RequestId};
use keepd_model::{Exit, Generation, Pid, ServiceName, Signal, SpawnFailure};
use keepd_wire::ledger::journal::{Record, Writer};
use keepd_wire::ledger::keeper::{self, Released, Settled, Slot, WhenFull};
use keepd_wire::ledger::layout::SlotNumber;
use keepd_wire::ledger::{BootId, Outcome, Scope};
use keepd_wire::{FEATURES, decode_request, encode_message, encode_request};

use super::cells::{Actor, Shared};
use super::kernel::{Label, Life, NO_PROCESS, Pipe, Serial, Stopped, ToWarden};
use super::sabotage::Sabotage;
use super::story::Story;
use super::warden::{Estate, free_number};

/// More outputs than this for one input are a loop.
const OUTPUTS_MAX: u32 = 10_000;
/// A journal with more appends than this is replaced.
const APPENDS_MAX: u32 = 6;
/// Where the configuration comes from.
const FILE: ConnectionId = ConnectionId(0);

/// Whose files these are.
pub(crate) const SCOPE: Scope<'static> =
    Scope { boot: BootId::new([7; 16]), instance: "simulated" };

/// What a proxy without a predecessor reads first: it starts the manager and keeps it alive.
const CONFIGURATION: &[u8] = b"@1\tservice.args\tkeepd.manager\t/keepd\t__manager\n\
    @2\tservice.set\tkeepd.manager\tplace=own\trespawn_ms=0,10,50,200,1000\n\
    @3\tservice.log\tkeepd.manager\tmode=inherit\n\
    @4\tservice.start\tkeepd.manager\t0\n";

/// A process that is not our child.
pub(super) struct Foreign {
    pub(super) name: ServiceName,
    pub(super) generation: Generation,
    pub(super) pid: Pid,
}

/// A living proxy.
pub(crate) struct ProxyShell {
    pub(crate) actor: Actor,
    pub(super) story: Rc<Story>,
    pub(crate) machine: Proxy,
    pub(crate) estate: Estate,
    pub(super) slots: BTreeMap<ServiceName, SlotNumber>,
    pub(super) free_slots: BTreeSet<SlotNumber>,
    pub(super) own: BTreeMap<Pid, (ServiceName, Generation)>,
    pub(super) foreign: BTreeMap<Serial, Foreign>,
    /// Where the journal goes on; `None`: there is none.
    pub(super) writer: Option<Writer>,
    /// Records that are not in the file yet.
    records: Vec<Recorded>,
    sends: Vec<(ConnectionId, Message)>,
    spawned: VecDeque<(Owner, Result<Pid, SpawnFailure>)>,
    watched: BTreeSet<Owner>,
    /// Appends since the journal was begun.
    appends: u32,
    /// The journal has more than when the machine was asked last what it knows.
    is_snapshot_old: bool,
    /// Failures that the error pipe told already.
    told_failures: BTreeSet<Pid>,
    is_terminated: bool,
    did: bool,
}

/// A record before it has a number.
enum Recorded {
    Fact(Fact),
    Slot(SlotNumber, ServiceName),
    Freed(SlotNumber),
}

impl Recorded {
    /// Returns the line of a fact.
    fn line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        match self {
            Self::Fact(Fact::Command(command)) => {
                encode_request(&Request::Numbered(RequestId(0), command.clone()), &mut line);
            }
            Self::Fact(Fact::Event(event)) => {
                encode_message(&Message::Event(event.clone()), &mut line);
            }
            Self::Slot(..) | Self::Freed(_) => {}
        }
        line.pop();
        line
    }

    fn record<'line>(&'line self, line: &'line [u8]) -> Record<'line> {
        match self {
            Self::Fact(Fact::Command(_)) => Record::Command(line),
            Self::Fact(Fact::Event(_)) => Record::Event(line),
            Self::Slot(number, name) => Record::Slot(*number, name.as_str()),
            Self::Freed(number) => Record::Freed(*number),
        }
    }
}

impl ProxyShell {
    /// A proxy that has not looked at anything yet.
    pub(crate) fn new(serial: Serial, kernel: &Shared, story: Rc<Story>, estate: Estate) -> Self {
        let settings = Settings {
            seed: 7,
            features: FEATURES.map(str::to_owned).to_vec(),
            records: true,
            ..Settings::default()
        };
        Self {
            actor: Actor::new(serial, kernel),
            story,
            machine: Proxy::new(settings),
            estate,
            slots: BTreeMap::new(),
            free_slots: BTreeSet::new(),
            own: BTreeMap::new(),
            foreign: BTreeMap::new(),
            writer: None,
            records: Vec::new(),
            sends: Vec::new(),
            spawned: VecDeque::new(),
            watched: BTreeSet::new(),
            appends: 0,
            is_snapshot_old: true,
            told_failures: BTreeSet::new(),
            is_terminated: false,
            did: true,
        }
    }

    /// What a proxy does before anything else.
    pub(crate) fn begin(&mut self) -> Result<(), Stopped> {
        if self.actor.kernel().journal.is_some() {
            self.resume()?;
        } else {
            let connected = Input::Connected { connection: FILE, output: false };
            self.tell(connected);
            for line in CONFIGURATION.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let Ok(Some(request)) = decode_request(line) {
                    self.tell(Input::Request { connection: FILE, request });
                }
            }
            self.tell(Input::Disconnected { connection: FILE });
        }
        self.drain()?;
        self.flush()?;
        self.actor.effect("ready")?;
        let mut kernel = self.actor.kernel();
        kernel.is_listening = true;
        if kernel.warden.is_some() {
            kernel.judge.on_whole();
        }
        Ok(())
    }

    /// One turn, in the order that the machine's interface prescribes. Reports whether there was
    /// anything to do.
    pub(crate) fn turn(&mut self) -> Result<bool, Stopped> {
        self.did = false;
        let serial = self.actor.serial;
        let reports = self.actor.kernel().reports.remove(&serial);
        for report in reports.into_iter().flatten() {
            let owner = Owner::Service(report.name, report.generation);
            let outcome = match report.failure {
                Some(failure) => {
                    let own = self.own.iter().find(|(_, (name, generation))| {
                        owner == Owner::Service(name.clone(), *generation)
                    });
                    self.told_failures.extend(own.map(|(pid, _)| *pid));
                    SpawnOutcome::Failed(failure)
                }
                None => SpawnOutcome::Executed,
            };
            self.give(Input::Report { owner, outcome })?;
        }
        self.reap()?;
        self.look_at_foreign()?;
        self.look_at_groups()?;
        let now = self.actor.kernel().now;
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.did = true;
            self.machine.handle_timeout(now);
            self.drain()?;
        }
        self.read_sockets()?;
        self.pump()?;
        self.flush()?;
        if let Err(sentence) = self.machine.check_invariants() {
            return self.actor.breach("R11", sentence);
        }
        self.keep_snapshot();
        self.compact()?;
        if self.is_terminated {
            self.actor.effect("exit")?;
            self.actor.kernel().exit(serial);
        }
        Ok(self.did)
    }

    pub(super) fn is(&self, sabotage: Sabotage) -> bool {
        self.actor.kernel().is(sabotage)
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.did = true;
        let now = self.actor.kernel().now;
        self.actor.kernel().note(|| format!("proxy <- {input:?}"));
        self.machine.handle_input(now, input);
    }

    fn give(&mut self, input: Input) -> Result<(), Stopped> {
        self.tell(input);
        self.drain()
    }

    fn reap(&mut self) -> Result<(), Stopped> {
        loop {
            let zombie = self.actor.kernel().zombie_of(self.actor.serial);
            let Some((serial, pid, exit)) = zombie else {
                return Ok(());
            };
            self.did = true;
            self.actor.effect("peek")?;
            let own = self.own.remove(&pid);
            let consumes_first = self.is(Sabotage::ConsumesFirst);
            if consumes_first {
                self.actor.effect("consume")?;
                self.actor.kernel().consume(serial);
            }
            let Some((name, generation)) = own else {
                self.actor.effect("consume a stranger")?;
                self.actor.kernel().consume(serial);
                continue;
            };
            let number = self.slots[&name];
            let outcome = Slot::new(&self.actor, number).end(generation, Some(pid), exit);
            self.actor.goes_on()?;
            let Ok(outcome) = outcome else {
                let sentence = format!("{name} {generation}: the end of {pid}: {outcome:?}");
                return self.actor.breach("R10", sentence);
            };
            if !consumes_first {
                self.actor.effect("consume")?;
                self.actor.kernel().consume(serial);
            }
            self.finish_run(&name, generation, pid, outcome)?;
        }
    }

    /// The word says how a run ended; now the machine is told.
    fn finish_run(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        pid: Pid,
        outcome: Outcome,
    ) -> Result<(), Stopped> {
        self.settle(name)?;
        let exit = match outcome {
            Outcome::Ended(exit) => exit,
            Outcome::Failed(failure) => {
                if !self.told_failures.remove(&pid) {
                    let owner = Owner::Service(name.clone(), generation);
                    let outcome = SpawnOutcome::Failed(failure);
                    self.give(Input::Report { owner, outcome })?;
                }
                Exit::Unknown
            }
            Outcome::Cancelled => {
                let sentence = format!("{name} {generation} is cancelled, and its parent lives");
                return self.actor.breach("R10", sentence);
            }
        };
        self.give(Input::Reaped { pid, exit })
    }

    pub(super) fn settle(&mut self, name: &ServiceName) -> Result<(), Stopped> {
        let now = self.actor.kernel().now;
        let slot = Slot::new(&self.actor, self.slots[name]);
        let settled = slot.settle(Some(now), WhenFull::Keep);
        if let Settled::Done { generation, .. } = settled
            && self.is(Sabotage::AcknowledgesUnread)
        {
            slot.acknowledge(generation);
        }
        self.actor.goes_on()
    }

    fn look_at_foreign(&mut self) -> Result<(), Stopped> {
        let over: Vec<Serial> = self
            .foreign
            .keys()
            .copied()
            .filter(|serial| self.actor.kernel().life(*serial) != Some(Life::Alive))
            .collect();
        for serial in over {
            let foreign = &self.foreign[&serial];
            let (name, generation, pid) = (foreign.name.clone(), foreign.generation, foreign.pid);
            let slot = Slot::new(&self.actor, self.slots[&name]);
            let life = self.actor.kernel().life(serial);
            let outcome = match life {
                Some(Life::Consumed(exit)) => {
                    self.actor.effect("ask the pidfd")?;
                    slot.end(generation, Some(pid), exit).ok()
                }
                // Whose child it is says more when it consumes it.
                Some(Life::Zombie(_) | Life::Alive) | None => continue,
            };
            self.actor.goes_on()?;
            self.did = true;
            self.foreign.remove(&serial);
            let Some(outcome) = outcome else {
                let sentence = format!("{name} {generation}: {pid} is gone, and its word is other");
                return self.actor.breach("R10", sentence);
            };
            let held = self.estate.iter().find(|(_, label)| **label == Label::Pidfd(pid, serial));
            if let Some(number) = held.map(|(number, _)| *number) {
                self.estate.remove(&number);
                self.say(ToWarden::Drop(number))?;
            }
            self.finish_run(&name, generation, pid, outcome)?;
        }
        Ok(())
    }

    fn look_at_groups(&mut self) -> Result<(), Stopped> {
        for owner in std::mem::take(&mut self.watched) {
            let is_empty = match &owner {
                Owner::Service(name, generation) => {
                    self.actor.kernel().group(name, *generation).is_empty()
                }
                Owner::Job(_) => true,
            };
            if is_empty {
                self.give(Input::GroupEmpty { owner })?;
            } else {
                self.watched.insert(owner);
            }
        }
        Ok(())
    }

    fn read_sockets(&mut self) -> Result<(), Stopped> {
        let serial = self.actor.serial;
        let ids: Vec<ConnectionId> = {
            let kernel = self.actor.kernel();
            let ours = kernel.sockets.iter().filter(|(_, socket)| socket.proxy == serial);
            ours.map(|(id, _)| *id).collect()
        };
        for id in ids {
            let is_new = {
                let mut kernel = self.actor.kernel();
                let socket = kernel.sockets.get_mut(&id);
                socket.is_some_and(|socket| !std::mem::replace(&mut socket.is_accepted, true))
            };
            if is_new {
                self.give(Input::Connected { connection: id, output: true })?;
            }
            loop {
                let line = {
                    let mut kernel = self.actor.kernel();
                    kernel.sockets.get_mut(&id).and_then(|socket| socket.to_proxy.pop_front())
                };
                let Some(line) = line else {
                    break;
                };
                match decode_request(&line) {
                    Ok(Some(request)) => self.give(Input::Request { connection: id, request })?,
                    Ok(None) => {}
                    Err(error) => return self.actor.breach("R11", error.text),
                }
            }
            let is_closed = {
                let kernel = self.actor.kernel();
                kernel.sockets.get(&id).is_some_and(|socket| socket.is_closed)
            };
            if is_closed {
                self.actor.kernel().sockets.remove(&id);
                self.give(Input::Disconnected { connection: id })?;
            }
        }
        Ok(())
    }

    /// Moves lines from pipes to files.
    fn pump(&mut self) -> Result<(), Stopped> {
        let pipes: Vec<usize> = self.estate.values().filter_map(pipe_of).collect();
        for pipe in pipes {
            while !self.actor.kernel().pipes[pipe].lines.is_empty() {
                self.did = true;
                self.actor.effect("splice")?;
                let line = self.actor.kernel().pipes[pipe].lines.pop_front();
                if self.is(Sabotage::ReadsThenWrites) {
                    self.actor.effect("write")?;
                }
                if let Some(line) = line {
                    self.actor.kernel().judge.on_line_filed(pipe, line);
                }
            }
        }
        Ok(())
    }

    pub(super) fn drain(&mut self) -> Result<(), Stopped> {
        for _ in 0..OUTPUTS_MAX {
            if let Some(output) = self.machine.poll_output() {
                self.carry_out(output)?;
            } else if let Some((owner, outcome)) = self.spawned.pop_front() {
                // Init may have let somebody go whose pid this one got: that is told first.
                if self.foreign.values().any(|foreign| Ok(foreign.pid) == outcome) {
                    self.look_at_foreign()?;
                }
                self.tell(Input::Spawned { owner, outcome });
            } else {
                return Ok(());
            }
        }
        self.actor.breach("R11", "the outputs of the proxy do not end".to_owned())
    }

    fn carry_out(&mut self, output: Output) -> Result<(), Stopped> {
        match output {
            Output::Send { connection, message } => self.sends.push((connection, message)),
            Output::Record { fact } => self.records.push(Recorded::Fact(fact)),
            Output::Acknowledge { name, generation } => {
                if let Some(number) = self.slots.get(&name) {
                    Slot::new(&self.actor, *number).acknowledge(generation);
                    self.actor.goes_on()?;
                }
            }
            Output::Spawn(spawn) => {
                let outcome = self.spawn(&spawn)?;
                let owner = Owner::Service(spawn.name, spawn.generation);
                self.spawned.push_back((owner, outcome));
            }
            Output::SignalMain { owner, pid, signal } => self.signal(&owner, pid, signal)?,
            Output::SignalGroup { owner, signal } => self.signal_group(&owner, signal)?,
            Output::WatchGroup { owner } => {
                self.did = true;
                self.watched.insert(owner);
            }
            Output::Forget { name } => self.forget(&name)?,
            Output::Terminate { code } => {
                self.flush()?;
                self.say(ToWarden::Exit(code))?;
                self.is_terminated = true;
            }
            Output::Log { .. }
            | Output::Close { .. }
            | Output::SpawnJob(_)
            | Output::Perform { .. }
            | Output::CloseDescriptor { .. }
            | Output::StopListening
            | Output::LogTo { .. }
            | Output::LogFilter { .. }
            | Output::LeaveGroup { .. }
            | Output::WatchOutput { .. }
            | Output::ExitExec { .. }
            | Output::Guarded { .. } => {}
        }
        Ok(())
    }

    fn signal(&mut self, owner: &Owner, pid: Pid, signal: Signal) -> Result<(), Stopped> {
        self.actor.effect("signal")?;
        let foreign = self.foreign.iter().find(|(_, foreign)| foreign.pid == pid);
        let mut kernel = self.actor.kernel();
        let serial = match foreign {
            Some((serial, _)) => Some(*serial),
            None => kernel.holder(pid),
        };
        let Some(serial) = serial else {
            return Ok(());
        };
        let is_meant = kernel.processes[&serial]
            .child
            .as_ref()
            .is_some_and(|child| *owner == Owner::Service(child.name.clone(), child.generation));
        if !is_meant {
            let sentence = format!("{signal} for {owner:?} goes to {serial}");
            kernel.judge.breach("R6", sentence);
        }
        kernel.signal(serial, signal);
        Ok(())
    }

    fn signal_group(&mut self, owner: &Owner, signal: Signal) -> Result<(), Stopped> {
        self.actor.effect("signal the group")?;
        if let Owner::Service(name, generation) = owner {
            let mut kernel = self.actor.kernel();
            for serial in kernel.group(name, *generation) {
                kernel.signal(serial, signal);
            }
        }
        Ok(())
    }

    /// A service is forgotten: its slot is nobody's, and its pipe is let go.
    pub(super) fn forget(&mut self, name: &ServiceName) -> Result<(), Stopped> {
        if let Some(number) = self.slots.remove(name) {
            self.records.push(Recorded::Freed(number));
            self.write_journal()?;
            let released = Slot::new(&self.actor, number).release();
            self.actor.goes_on()?;
            match released {
                Released::Free => _ = self.free_slots.insert(number),
                Released::Retired => {}
                Released::Busy => {
                    let sentence = format!("{name} is forgotten, and its slot is busy");
                    return self.actor.breach("R10", sentence);
                }
            }
        }
        let held = self.estate.iter().find_map(|(number, label)| match label {
            Label::Log(other, pipe) if other == name => Some((*number, *pipe)),
            Label::Log(..) | Label::Pidfd(..) => None,
        });
        if let Some((number, pipe)) = held {
            self.estate.remove(&number);
            let serial = self.actor.serial;
            self.actor.kernel().pipes[pipe].holders.remove(&serial);
            self.say(ToWarden::Drop(number))?;
        }
        Ok(())
    }

    // Start

    fn spawn(&mut self, spawn: &ServiceSpawn) -> Result<Result<Pid, SpawnFailure>, Stopped> {
        let (name, generation) = (&spawn.name, spawn.generation);
        let number = self.slot_of(name)?;
        self.write_journal()?;
        let pipe = self.pipe_of(name)?;
        let intended = Slot::new(&self.actor, number).intend(generation);
        self.actor.goes_on()?;
        let intended = match intended {
            Ok(intended) => intended,
            Err(error) => {
                let sentence = format!("{name} {generation} is to be started: {error}");
                return self.actor.breach("R10", sentence);
            }
        };
        let behaviour = self.story.behaviour(name, generation);
        self.actor.effect("clone")?;
        if behaviour.cannot_clone {
            self.actor.kernel().judge.on_clone_failed(name, generation, NO_PROCESS);
            let slot = Slot::new(&self.actor, number);
            let failed = slot.fail(generation, NO_PROCESS);
            self.actor.goes_on()?;
            if failed.is_err() {
                return self.actor.breach("R10", format!("{name} {generation}: {failed:?}"));
            }
            self.settle(name)?;
            return Ok(Err(NO_PROCESS));
        }
        let pid = {
            let mut kernel = self.actor.kernel();
            let owner = (name, generation);
            let parent = self.actor.serial;
            let child = kernel.clone_child(parent, owner, number, intended, pipe, behaviour);
            kernel.pid_of(child)
        };
        self.own.insert(pid, (name.clone(), generation));
        Ok(Ok(pid))
    }

    fn slot_of(&mut self, name: &ServiceName) -> Result<SlotNumber, Stopped> {
        if let Some(number) = self.slots.get(name) {
            return Ok(*number);
        }
        let number = match self.free_slots.pop_first() {
            Some(number) => number,
            None => {
                let mut kernel = self.actor.kernel();
                let number = kernel.judge.slots_used;
                kernel.judge.slots_used += 1;
                SlotNumber(number)
            }
        };
        self.records.push(Recorded::Slot(number, name.clone()));
        self.write_journal()?;
        let claimed = Slot::new(&self.actor, number).claim(name.as_str());
        self.actor.goes_on()?;
        if let Err(error) = claimed {
            return self.actor.breach("R10", format!("{name} gets slot {}: {error}", number.0));
        }
        self.slots.insert(name.clone(), number);
        Ok(number)
    }

    /// The log pipe of a service: made once, and held by the warden before anybody writes to it.
    fn pipe_of(&mut self, name: &ServiceName) -> Result<usize, Stopped> {
        let known = self.estate.values().find_map(|label| match label {
            Label::Log(other, pipe) if other == name => Some(*pipe),
            Label::Log(..) | Label::Pidfd(..) => None,
        });
        if let Some(pipe) = known {
            return Ok(pipe);
        }
        self.actor.effect("pipe")?;
        let pipe = {
            let mut kernel = self.actor.kernel();
            kernel.pipes.push(Pipe::default());
            let pipe = kernel.pipes.len() - 1;
            kernel.pipes[pipe].holders.insert(self.actor.serial);
            pipe
        };
        let number = free_number(&self.estate);
        let label = Label::Log(name.clone(), pipe);
        self.estate.insert(number, label.clone());
        if !self.is(Sabotage::HoldsNoPipes) {
            self.say(ToWarden::Hold(number, label))?;
        }
        Ok(pipe)
    }

    /// Sends to the warden. A descriptor in a message under way is open already.
    pub(super) fn say(&mut self, message: ToWarden) -> Result<(), Stopped> {
        self.actor.effect("send to the warden")?;
        let mut kernel = self.actor.kernel();
        if let Some(warden) = kernel.warden {
            if let ToWarden::Hold(_, Label::Log(_, pipe)) = &message {
                kernel.pipes[*pipe].holders.insert(warden);
            }
            kernel.channel.push_back((self.actor.serial, message));
        }
        Ok(())
    }

    // Journal and answers

    /// What was accepted is written down, then everybody is told.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        if !self.is(Sabotage::AnswersFirst) {
            self.write_journal()?;
        }
        for (connection, message) in std::mem::take(&mut self.sends) {
            self.actor.effect("send")?;
            self.did = true;
            let mut line = Vec::new();
            encode_message(&message, &mut line);
            line.pop();
            let mut kernel = self.actor.kernel();
            if let Some(socket) = kernel.sockets.get_mut(&connection) {
                socket.to_client.push_back(line);
            }
        }
        self.write_journal()
    }

    fn write_journal(&mut self) -> Result<(), Stopped> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.records);
        let lines: Vec<Vec<u8>> = records.iter().map(Recorded::line).collect();
        let pairs = records.iter().zip(&lines);
        let written: Vec<Record<'_>> = pairs.map(|(one, line)| one.record(line)).collect();
        let Some(writer) = &mut self.writer else {
            let begun = Writer::begin(&SCOPE, 1, 1, &written);
            let Ok((bytes, writer)) = begun else {
                return self.actor.breach("R10", "there is no journal".to_owned());
            };
            // It is made beside its place and renamed into it.
            self.actor.effect("rename the journal")?;
            self.actor.kernel().journal = Some(bytes);
            self.writer = Some(writer);
            return self.say_answered();
        };
        let mut bytes = Vec::new();
        for record in &written {
            if writer.encode(record, &mut bytes).is_err() {
                return self.actor.breach("R10", "a record is too long".to_owned());
            }
        }
        self.appends += 1;
        self.is_snapshot_old = true;
        // A SIGKILL in the middle of a write leaves any part of it.
        let cut = {
            let mut kernel = self.actor.kernel();
            kernel.random.index(bytes.len())
        };
        for piece in [&bytes[..cut], &bytes[cut..]] {
            self.actor.effect("append")?;
            if let Some(journal) = &mut self.actor.kernel().journal {
                journal.extend_from_slice(piece);
            }
        }
        self.say_answered()
    }

    /// Between two turns the journal and the machine say the same.
    fn keep_snapshot(&mut self) {
        if !std::mem::take(&mut self.is_snapshot_old) {
            return;
        }
        let facts: Vec<Fact> = self.machine.snapshot().collect();
        let mut kernel = self.actor.kernel();
        kernel.snapshot = kernel.journal.clone().map(|journal| (journal, facts));
    }

    /// A journal that has become long is replaced by a snapshot.
    fn compact(&mut self) -> Result<(), Stopped> {
        let Some(writer) = self.writer.filter(|_| self.appends >= APPENDS_MAX) else {
            return Ok(());
        };
        let slots = self.slots.iter().map(|(name, slot)| Recorded::Slot(*slot, name.clone()));
        let facts = self.machine.snapshot().map(Recorded::Fact);
        let records: Vec<Recorded> = slots.chain(facts).collect();
        let lines: Vec<Vec<u8>> = records.iter().map(Recorded::line).collect();
        let pairs = records.iter().zip(&lines);
        let written: Vec<Record<'_>> = pairs.map(|(one, line)| one.record(line)).collect();
        let begun = Writer::begin(&SCOPE, writer.next(), writer.next(), &written);
        let Ok((bytes, writer)) = begun else {
            return self.actor.breach("R10", "there is no snapshot".to_owned());
        };
        self.actor.effect("rename the snapshot")?;
        self.actor.kernel().journal = Some(bytes);
        self.writer = Some(writer);
        self.appends = 0;
        self.is_snapshot_old = true;
        self.say_answered()
    }

    pub(super) fn say_answered(&mut self) -> Result<(), Stopped> {
        if let Some(writer) = &self.writer {
            keeper::set_answered(&self.actor, writer.next() - 1);
        }
        self.actor.goes_on()
    }
}

fn pipe_of(label: &Label) -> Option<usize> {
    match label {
        Label::Log(_, pipe) => Some(*pipe),
        Label::Pidfd(..) => None,
    }
}
