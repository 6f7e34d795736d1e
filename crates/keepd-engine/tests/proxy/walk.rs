//! A random walk with a small simulated world: safety at every step, and after the walk everything
//! comes to rest. Every numbered request of a connection that stays is answered exactly once.

mod crash;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keepd_engine::proxy::{
    CallFailure, ConnectionId, DescriptorId, DescriptorList, DescriptorSource, Effect, Fact, Input,
    Output, Owner, Performed, Proxy, SpawnOutcome, Ticket,
};
use keepd_model::protocol::{
    Attributes, Command, Event, FilterChange, Lease, LeaseAfter, Message, Place, Request,
    RequestId, RunEnd, RunState, Scope, SignalNumber, Stream, Triggers,
};
use keepd_model::{
    Errno, Exit, ExpectedEnd, FdSlot, Generation, HandleName, Instant, KillMode, OpenFlags, Pid,
    PipeSpec, ServiceName, Signal,
};

use self::crash::{Ledger, settings};
use crate::driver::{NO_FILE, NO_PROCESS, name, null};

const STEPS: usize = 20_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A main process in the world.
struct Process {
    owner: Owner,
    started: Instant,
    /// It reported already.
    reported: bool,
    /// It reported a failure.
    failed: bool,
    /// It was told to die, or will by itself.
    dies: Option<Signal>,
}

/// The shell and the kernel.
struct World {
    random: Random,
    proxy: Proxy,
    now: Instant,
    /// Asked for, not answered; whether it gets a group of its own.
    spawns: VecDeque<(Owner, bool)>,
    processes: BTreeMap<Pid, Process>,
    /// Descriptors that are open in the shell.
    descriptors: BTreeSet<DescriptorId>,
    /// Asked for, not answered: given before anything else.
    tickets: VecDeque<(Ticket, Effect)>,
    /// Groups of which something is left, and whether it got KILL.
    leftovers: BTreeMap<Owner, bool>,
    watched: BTreeSet<Owner>,
    connections: BTreeMap<ConnectionId, Peer>,
    /// Requests without an answer.
    open: BTreeSet<(ConnectionId, RequestId)>,
    /// The last generation that each connection heard of an end of, by service.
    ends_heard: BTreeMap<(ConnectionId, ServiceName), u64>,
    /// States that were reported, and `full` if a connection was.
    seen: BTreeSet<&'static str>,
    numbers: u64,
    /// What the machine wrote down, and whether it holds all that it knows.
    facts: Vec<Fact>,
    is_exact: bool,
    ledger: Ledger,
    /// After so many outputs the machine is lost.
    crash_in: Option<u64>,
    /// Until then nothing dies, not even by KILL.
    frozen_until: Instant,
    is_quiet: bool,
}

#[derive(Default)]
struct Peer {
    is_full: bool,
    room: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            proxy: Proxy::new(settings(vec![null()])),
            now: Instant::from_nanos(1),
            spawns: VecDeque::new(),
            processes: BTreeMap::new(),
            descriptors: [DescriptorId(1)].into(),
            tickets: VecDeque::new(),
            leftovers: BTreeMap::new(),
            watched: BTreeSet::new(),
            connections: BTreeMap::new(),
            open: BTreeSet::new(),
            ends_heard: BTreeMap::new(),
            seen: BTreeSet::new(),
            numbers: 0,
            facts: Vec::new(),
            is_exact: true,
            ledger: Ledger::default(),
            crash_in: None,
            frozen_until: Instant::ZERO,
            is_quiet: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn give(&mut self, input: Input) {
        self.proxy.handle_input(self.now, input);
        self.settle();
    }

    /// Carries out every output, and says `Full` in the middle of them, as a shell does.
    fn settle(&mut self) {
        self.proxy.check_invariants().unwrap();
        loop {
            while let Some(output) = self.proxy.poll_output() {
                if self.is_lost_now() {
                    self.crash();
                    return;
                }
                self.perform(output);
            }
            self.proxy.check_invariants().unwrap();
            let Some((ticket, effect)) = self.tickets.pop_front() else {
                break;
            };
            let outcome = self.attempt(&effect);
            self.proxy.handle_input(self.now, Input::Performed { ticket, outcome });
        }
    }

    /// Does what a ticket asks for, or fails to.
    fn attempt(&mut self, effect: &Effect) -> Result<Performed, CallFailure> {
        let made: &[DescriptorId] = match effect {
            Effect::Signal { pid, signal, .. } => {
                let process = self.processes.get_mut(pid);
                let process = process.expect("only processes that were not reaped are signalled");
                process.dies = process.dies.or(signal.signal());
                &[]
            }
            Effect::Open { descriptor, .. }
            | Effect::Socket { descriptor, .. }
            | Effect::Take { descriptor, .. } => &[*descriptor],
            Effect::Pipe { read, write, .. } => &[*read, *write],
            Effect::Chdir { .. } | Effect::Listen { .. } => &[],
        };
        if self.random.chance(20) {
            self.seen.insert("failed");
            return Err(CallFailure { call: "open", errno: Some(Errno::EIO) });
        }
        for descriptor in made {
            assert!(self.descriptors.insert(*descriptor), "{descriptor:?} is used twice");
        }
        Ok(Performed::Done)
    }

    fn check_sources(&mut self, list: &DescriptorList) {
        for source in &list.sources {
            match source {
                DescriptorSource::Held(descriptor) => {
                    assert!(self.descriptors.contains(descriptor), "only open ones are given");
                    self.seen.insert("given");
                }
                DescriptorSource::Control => assert!(list.control.is_some()),
                DescriptorSource::Missing => _ = self.seen.insert("missing"),
                DescriptorSource::Closed => {}
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { connection, message } => self.receive(connection, &message),
            Output::Close { connection } => self.lose(connection),
            Output::Spawn(spawn) => {
                assert!(!spawn.arguments.is_empty());
                if let Some(list) = &spawn.descriptors {
                    self.check_sources(list);
                }
                let earlier = self
                    .leftovers
                    .keys()
                    .chain(self.processes.values().map(|process| &process.owner))
                    .any(|owner| matches!(owner, Owner::Service(other, _) if *other == spawn.name));
                assert!(!earlier, "two generations of {}", spawn.name);
                let has_group = spawn.attributes.place == Place::Service;
                self.expect_written(&spawn.name, spawn.generation);
                self.ledger.intend(&spawn.name, spawn.generation);
                let owner = Owner::Service(spawn.name, spawn.generation);
                self.spawns.push_back((owner, has_group));
            }
            Output::SpawnJob(spawn) => self.spawns.push_back((Owner::Job(spawn.job), true)),
            Output::SignalMain { owner, pid, signal } => {
                self.ledger.expect_sure(&owner);
                let process = self.processes.get_mut(&pid);
                let process = process.expect("only processes that were not reaped are signalled");
                if signal == Signal::KILL
                    || (signal != Signal::CONT && self.numbers.is_multiple_of(2))
                {
                    process.dies = Some(signal);
                }
            }
            Output::SignalGroup { owner, signal } => {
                self.ledger.expect_sure(&owner);
                if signal == Signal::KILL {
                    if let Some(got_kill) = self.leftovers.get_mut(&owner) {
                        *got_kill = true;
                    }
                    for process in self.processes.values_mut() {
                        if process.owner == owner {
                            process.dies = Some(signal);
                        }
                    }
                }
            }
            Output::WatchGroup { owner } => {
                assert!(self.leftovers.contains_key(&owner), "only groups are watched");
                assert!(self.processes.values().all(|process| process.owner != owner));
                self.watched.insert(owner);
            }
            Output::LeaveGroup { owner } => {
                assert!(self.processes.values().all(|process| process.owner != owner));
                assert!(self.leftovers.remove(&owner).is_some(), "only groups are left");
                self.seen.insert("left");
            }
            Output::Perform { ticket, effect } => self.tickets.push_back((ticket, effect)),
            Output::CloseDescriptor { descriptor } => {
                assert!(self.descriptors.remove(&descriptor), "only open ones are closed");
            }
            Output::LogTo { descriptor } => {
                assert!(descriptor.is_none_or(|one| self.descriptors.contains(&one)));
                self.seen.insert("logged");
            }
            Output::Record { fact } => self.facts.push(fact),
            Output::Acknowledge { name, generation } => self.ledger.acknowledge(&name, generation),
            Output::Forget { name } => self.ledger.forget(&name),
            Output::WatchOutput { .. }
            | Output::StopListening
            | Output::LogFilter { .. }
            | Output::Log { .. }
            | Output::ExitExec { .. }
            | Output::Guarded { .. } => {}
            Output::Terminate { .. } => panic!("nobody asked for it"),
        }
    }

    fn receive(&mut self, connection: ConnectionId, message: &Message) {
        let Some(peer) = self.connections.get_mut(&connection) else {
            return;
        };
        if let Message::Event(Event::Run(report)) = message {
            self.seen.insert(report.state.word());
        }
        match message {
            Message::Reply(id, _) => {
                assert!(self.open.remove(&(connection, *id)), "a second answer to {id:?}");
            }
            Message::Event(Event::Run(report))
                if report.state == RunState::Down && report.ended.is_some() =>
            {
                let last = self.ends_heard.entry((connection, report.name.clone())).or_default();
                let generation = report.generation.get();
                assert!(generation >= *last || generation == 1, "ends come in order");
                *last = generation;
            }
            Message::Event(_)
            | Message::ProtoAccepted { .. }
            | Message::Text(_)
            | Message::Error(_) => {}
        }
        peer.room = peer.room.saturating_sub(1);
        if peer.room == 0 && !peer.is_full && !self.is_quiet {
            peer.is_full = true;
            self.seen.insert("full");
            self.proxy.handle_input(self.now, Input::Full { connection });
        }
    }

    fn lose(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.open.retain(|(asker, _)| *asker != connection);
    }

    fn service(&mut self) -> ServiceName {
        name(["web", "db", "cache", "keepd.manager"][self.random.below(4) as usize])
    }

    /// Returns the present generation, or sometimes a wrong one.
    fn generation(&mut self, service: &ServiceName) -> Generation {
        let wrong = u64::from(self.random.chance(5));
        self.proxy
            .services()
            .find(|view| view.name == service)
            .map_or(Generation::NONE, |view| Generation::new(view.generation.get() + wrong))
    }

    fn command(&mut self) -> Command {
        let name = self.service();
        let expected = self.generation(&name);
        let ms = |count| Duration::from_millis(count);
        match self.random.below(28) {
            0 => Command::ServiceArgs {
                name,
                arguments: vec![b"x".to_vec(); usize::from(self.random.chance(80))],
            },
            1 => Command::ServiceSet {
                name,
                attributes: Attributes {
                    kill_mode: KillMode::ALL[self.random.below(3) as usize],
                    stop_timeout: ms(self.random.below(3_000)),
                    respawn: vec![ms(20); self.random.below(2) as usize],
                    place: [Place::Own, Place::Service][self.random.below(2) as usize],
                    ..Attributes::default()
                }
                .into(),
            },
            2 => Command::ServiceAutoUp {
                name,
                seconds: Some(self.random.below(4) as u32),
                triggers: self.triggers(),
            },
            3..=5 => Command::ServiceStart { name, expected: Some(expected), at: self.time() },
            6..=7 => Command::ServiceStop {
                name,
                expected,
                other: self.random.chance(40).then(|| (Signal::INT, ms(self.numbers % 2_000))),
            },
            8 => Command::ServiceSignal {
                name,
                expected: None,
                signal: SignalNumber([0, 1, 15, 200][self.random.below(4) as usize]),
                scope: [Scope::Main, Scope::All, Scope::ProcessGroup]
                    [self.random.below(3) as usize],
            },
            9..=10 => Command::ServiceExec {
                name,
                deadline: ms(self.random.below(2_000)),
                arguments: vec![b"probe".to_vec()],
            },
            11 => Command::ServiceDelete { name },
            12 => Command::StateDump,
            13 => Command::WatchLogs { on: self.random.chance(50) },
            14 => Command::Echo { text: b"x".to_vec() },
            15..=17 => self.handle_command(),
            18 => Command::ServiceFds { name, slots: self.slots() },
            19..=20 => Command::ServiceCancel { name },
            21 => Command::SignalClear { signal: self.signal(), count: self.random.below(4) },
            22 => Command::WatchStarts { on: self.random.chance(50) },
            23..=24 => Command::ServiceLease { name, expected, lease: self.lease() },
            25 => Command::ServiceAck { name, generation: expected },
            26 => Command::LogFilter { change: self.filter_change() },
            _ if self.random.chance(3) => Command::Exit,
            _ => Command::ServiceNote { name, key: "k".to_owned(), value: b"v".to_vec() },
        }
    }

    fn lease(&mut self) -> Lease {
        let count = self.random.below(17) as usize;
        Lease {
            after: [LeaseAfter::Any, LeaseAfter::Failure][self.random.below(2) as usize],
            successes: vec![ExpectedEnd::Code(1); self.random.below(2) as usize],
            delays: vec![Duration::from_millis(self.random.below(300)); count],
        }
    }

    fn filter_change(&mut self) -> FilterChange {
        [FilterChange::Show, FilterChange::Less, FilterChange::More][self.random.below(3) as usize]
    }

    fn signal(&mut self) -> Signal {
        [Signal::HUP, Signal::USR1][self.random.below(2) as usize]
    }

    fn triggers(&mut self) -> Triggers {
        match self.random.below(4) {
            0 => Triggers::default(),
            1 => Triggers { signals: vec![self.signal()], ..Triggers::default() },
            2 => Triggers { signals: vec![Signal::HUP, Signal::USR1], ..Triggers::always() },
            _ => Triggers::always(),
        }
    }

    /// Returns a time for a start: none, one that is over, or one that comes.
    fn time(&mut self) -> Option<Instant> {
        let seconds = Duration::from_millis(self.random.below(3_000));
        match self.random.below(3) {
            0 => None,
            1 => Some(Instant::ZERO),
            _ => Some(self.now.saturating_add(seconds)),
        }
    }

    fn handle_name(&mut self) -> HandleName {
        let names = ["null", "stderr", "a", "b", "c", "control.cmd", "control.event"];
        HandleName::new(names[self.random.below(7) as usize]).unwrap()
    }

    fn slots(&mut self) -> Vec<FdSlot> {
        (0..self.random.below(5))
            .map(|_| match self.random.below(5) {
                0 => FdSlot::Closed,
                1 => FdSlot::Skipped,
                _ => FdSlot::Handle(self.handle_name()),
            })
            .collect()
    }

    fn handle_command(&mut self) -> Command {
        let name = self.handle_name();
        match self.random.below(6) {
            0 => Command::HandleOpen { name, flags: OpenFlags::default(), path: b"/x".to_vec() },
            1 => Command::HandlePipe {
                read: name,
                write: self.handle_name(),
                spec: PipeSpec { socket: None, nonblock: false },
            },
            2 => Command::HandleTake { name },
            3 => Command::HandleDelete { name },
            4 => Command::LogDestination { handle: name },
            _ => Command::Chdir { path: b"/".to_vec() },
        }
    }

    fn any_connection(&mut self) -> Option<ConnectionId> {
        let count = self.connections.len() as u64;
        let index = self.random.below(count.max(1)) as usize;
        self.connections.keys().nth(index).copied()
    }

    fn talk(&mut self) {
        let Some(connection) = self.any_connection() else {
            return;
        };
        let peer = &self.connections[&connection];
        if peer.is_full {
            return;
        }
        let request = if self.random.chance(80) {
            let id = RequestId(self.number());
            self.open.insert((connection, id));
            Request::Numbered(id, self.command())
        } else {
            Request::Unnumbered(self.command())
        };
        self.give(Input::Request { connection, request });
    }

    fn connect_or_cut(&mut self) {
        if self.connections.len() < 4 {
            let connection = ConnectionId(self.number());
            let room = 5 + self.random.below(100);
            self.connections.insert(connection, Peer { room, ..Peer::default() });
            self.give(Input::Connected { connection, output: true });
        } else if self.random.chance(10)
            && let Some(connection) = self.any_connection()
        {
            self.lose(connection);
            self.give(Input::Disconnected { connection });
        }
    }

    fn drain(&mut self) {
        let full = self.connections.iter_mut().find(|(_, peer)| peer.is_full);
        if let Some((connection, peer)) = full {
            let connection = *connection;
            peer.is_full = false;
            peer.room = 5 + self.random.below(100);
            self.give(Input::Drained { connection });
        }
    }

    fn answer_spawn(&mut self) {
        let Some((owner, has_group)) = self.spawns.pop_front() else {
            return;
        };
        if !self.is_quiet && self.random.chance(10) {
            self.ledger.end(&owner, RunEnd::Failed(NO_PROCESS), self.now);
            self.give(Input::Spawned { owner, outcome: Err(NO_PROCESS) });
            return;
        }
        let pid = Pid::new(self.number() as u32).unwrap();
        let process = Process {
            owner: owner.clone(),
            started: self.now,
            reported: false,
            failed: false,
            dies: None,
        };
        self.processes.insert(pid, process);
        if has_group {
            self.leftovers.insert(owner.clone(), false);
        }
        self.give(Input::Spawned { owner, outcome: Ok(pid) });
    }

    fn report(&mut self) {
        let fails = self.random.chance(10);
        let found = self.processes.values_mut().find(|process| !process.reported);
        if let Some(process) = found {
            process.reported = true;
            let owner = process.owner.clone();
            let outcome = if fails {
                process.dies = Some(Signal::KILL);
                process.failed = true;
                SpawnOutcome::Failed(NO_FILE)
            } else {
                SpawnOutcome::Executed
            };
            self.give(Input::Report { owner, outcome });
        }
    }

    fn is_frozen(&self) -> bool {
        self.now < self.frozen_until && !self.is_quiet
    }

    fn die(&mut self) {
        if self.is_frozen() {
            return;
        }
        let by_itself = self.random.chance(5) && !self.is_quiet;
        let found = self
            .processes
            .iter()
            .find(|(_, process)| process.dies.is_some() || by_itself)
            .map(|(pid, process)| (*pid, process.dies));
        if let Some((pid, signal)) = found {
            let exit = match signal {
                Some(signal) => Exit::Signal { signal, core: false },
                None => Exit::Code(1),
            };
            let owner = self.consume(pid, exit);
            if self.ledger.is_sure(&owner) {
                self.give(Input::Reaped { pid, exit });
            }
        }
    }

    fn empty(&mut self) {
        if self.is_frozen() {
            return;
        }
        let lingers = !self.is_quiet && self.random.chance(20);
        let found = self
            .watched
            .iter()
            .find(|owner| self.leftovers.get(owner).is_none_or(|got_kill| *got_kill || !lingers));
        if let Some(owner) = found.cloned() {
            self.watched.remove(&owner);
            self.leftovers.remove(&owner);
            self.give(Input::GroupEmpty { owner });
        }
    }

    fn pass(&mut self) {
        if self.random.below(200) == 0 {
            self.frozen_until = self.now.saturating_add(Duration::from_secs(15));
        }
        let longest = if self.is_frozen() { 4_000 } else { 400 };
        let step = Duration::from_millis(self.random.below(longest));
        let to = self.now.saturating_add(step);
        self.now = match self.proxy.poll_timeout() {
            Some(due) if due < to => self.now.max(due),
            Some(_) | None => to,
        };
        self.proxy.handle_timeout(self.now);
        self.settle();
        assert!(self.proxy.poll_timeout().is_none_or(|due| due > self.now));
    }

    fn chatter(&mut self) {
        let name = self.service();
        let input = match self.random.below(3) {
            0 => Input::Notify { name, pid: Pid::new(1).unwrap(), text: b"READY=1".to_vec() },
            1 => Input::Output { name, stream: Stream::Out, offset: self.numbers },
            _ => Input::Signal { signal: self.signal(), count: 1 },
        };
        self.give(input);
    }

    fn step(&mut self) {
        match self.random.below(21) {
            20 => self.lose_something(),
            0..=5 => self.talk(),
            6 => self.connect_or_cut(),
            7 => self.drain(),
            8..=10 => self.answer_spawn(),
            11..=12 => self.report(),
            13..=14 => self.die(),
            15..=16 => self.empty(),
            17 => self.chatter(),
            _ => self.pass(),
        }
    }

    /// Faults stop, everything is stopped: all must come to rest.
    fn come_to_rest(&mut self) {
        self.is_quiet = true;
        self.crash_in = None;
        self.resolve_doubts();
        let boss = ConnectionId(self.number());
        self.connections.insert(boss, Peer::default());
        self.give(Input::Connected { connection: boss, output: true });
        for _ in 0..200 {
            let running: Vec<_> = self
                .proxy
                .services()
                .filter(|view| view.state != RunState::Down)
                .map(|view| (view.name.clone(), view.generation))
                .collect();
            for (name, expected) in running {
                let id = RequestId(self.number());
                self.open.insert((boss, id));
                let command = Command::ServiceStop { name, expected, other: None };
                self.give(Input::Request {
                    connection: boss,
                    request: Request::Numbered(id, command),
                });
            }
            self.drain();
            self.answer_spawn();
            self.report();
            self.die();
            self.empty();
            self.pass();
        }
        for view in self.proxy.services() {
            assert_eq!(view.state, RunState::Down, "{}", view.name);
        }
        assert_eq!(self.proxy.jobs().count(), 0);
        let held = self.proxy.handle_count() - 3;
        assert_eq!(self.descriptors.len(), held, "what is open has a name");
        assert_eq!(self.open, BTreeSet::new(), "every request is answered");
    }
}

fn walk(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.come_to_rest();
    world
}

#[test]
fn a_long_walk_keeps_every_promise() {
    let world = walk(1, STEPS);
    let mut all: BTreeSet<_> = RunState::ALL.map(RunState::word).into();
    all.insert("full");
    all.extend(["left", "failed", "given", "missing", "logged"]);
    all.extend([
        "crashed",
        "torn",
        "adopted",
        "cancelled",
        "ended",
        "known",
        "unsure",
        "rewritten",
    ]);
    assert_eq!(world.seen, all, "the walk went everywhere");
}

#[test]
fn many_short_walks_keep_every_promise() {
    for seed in 100..300 {
        walk(seed, 500);
    }
}
