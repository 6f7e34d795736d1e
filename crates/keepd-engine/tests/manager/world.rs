//! A world for one manager: it plays the proxy and the shell, keeps the time, and writes down what
//! happens.
//!
//! Unless a test says otherwise, a program runs as soon as it is commanded and ends as soon as it
//! is signalled, and every preparation works.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{
    Announcement, Ask, AskId, Input, Launch, Manager, Output, PrepareFailure, Question, Refusal,
    Said, Settings, Ticket, Who,
};
use keepd_model::protocol::{
    Attributes, Command, Environment, Event, Fail, FailKind, LogTarget, Message, NOTE_BYTES_MAX,
    NOTES_MAX, Reply, RequestId, RunEnd, RunReport, RunState,
};
use keepd_model::{
    ChangeId, CommandLine, Edge, Errno, Exit, Generation, Instant, Kind, Pid, Plan, Probe, Reload,
    ServiceName, ServiceSpec, Signal, SpawnStep, TcpProbe, Template, Until,
};

mod lease;
mod look;

/// More outputs than this for one turn of a test mean that the machine does not come to rest.
const OUTPUTS_MAX: usize = 10_000;

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new_internal(text).unwrap()
}

fn names(texts: &[&str]) -> Vec<ServiceName> {
    texts.iter().map(|text| name(text)).collect()
}

pub(crate) fn killed_by(signal: Signal) -> Exit {
    Exit::Signal { signal, core: false }
}

/// Returns a daemon that is ready as soon as it runs.
pub(crate) fn daemon(text: &str) -> ServiceSpec {
    let command = CommandLine::Words(vec![Template::literal("/bin/service")]);
    let mut spec = ServiceSpec::new(name(text), command);
    spec.ready.delay = Duration::ZERO;
    spec.backoff.jitter = 0.0;
    spec
}

pub(crate) fn oneshot(text: &str) -> ServiceSpec {
    let mut spec = daemon(text);
    spec.kind = Kind::Oneshot;
    spec.restart = keepd_model::RestartPolicy::Never;
    spec.ready.timeout = None;
    spec
}

/// Lets a service depend on others.
pub(crate) fn needs(mut spec: ServiceSpec, edges: &[(&str, Until)]) -> ServiceSpec {
    for (on, until) in edges {
        spec.depends_on.insert(name(on), Edge::until(*until));
    }
    spec
}

/// Gives a daemon a TCP probe, so that it is ready when the test says so.
pub(crate) fn probed(mut spec: ServiceSpec) -> ServiceSpec {
    let address = Template::literal("127.0.0.1:5432");
    spec.ready.probes.push(Probe::Tcp(TcpProbe { address }));
    spec
}

pub(crate) fn plan(specs: impl IntoIterator<Item = ServiceSpec>) -> Plan {
    let services = specs.into_iter().map(|spec| (spec.name.clone(), Arc::new(spec)));
    Plan { services: services.collect(), ..Plan::default() }
}

/// A service as the proxy holds it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) attributes: Arc<Attributes>,
    environment: Environment,
    log: LogTarget,
    tags: Vec<Vec<u8>>,
    pub(crate) notes: BTreeMap<String, Vec<u8>>,
    pub(crate) generation: Generation,
    pub(crate) state: RunState,
    at: Instant,
    pub(crate) pid: Option<Pid>,
    ended: Option<RunEnd>,
    notified: bool,
    said: Vec<Said>,
    kept: lease::Kept,
}

impl Held {
    fn new(now: Instant) -> Self {
        Self {
            arguments: Vec::new(),
            attributes: Arc::default(),
            environment: Environment::default(),
            log: LogTarget::default(),
            tags: Vec::new(),
            notes: BTreeMap::new(),
            generation: Generation::NONE,
            state: RunState::Down,
            at: now,
            pid: None,
            ended: None,
            notified: false,
            said: Vec::new(),
            kept: lease::Kept::default(),
        }
    }

    fn report(&self, name: &ServiceName) -> Message {
        Message::Event(Event::Run(RunReport {
            name: name.clone(),
            generation: self.generation,
            state: self.state,
            at: self.at,
            pid: self.pid,
            ended: self.ended,
            started: None,
            ended_at: None,
        }))
    }
}

/// A readiness question that is open.
#[derive(Debug)]
pub(crate) enum OpenProbe {
    Outside(ServiceName, Generation, usize, Question),
    Exec(RequestId, ServiceName),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) manager: Manager,
    settings: Settings,
    pub(crate) held: BTreeMap<ServiceName, Held>,
    inbox: VecDeque<Input>,
    asks: u64,
    next_pid: u32,
    pub(crate) answers: BTreeMap<AskId, Result<ChangeId, Refusal>>,
    pub(crate) announced: Vec<Announcement>,
    /// Every command about services, in short words, since the last look.
    pub(crate) commands: Vec<String>,
    /// Every lease and every acknowledgement, in short words, since the last look.
    pub(crate) leases: Vec<String>,
    /// Leases are refused.
    pub(crate) refuses_leases: bool,
    /// What the proxy says that it can.
    pub(crate) features: Vec<String>,
    pub(crate) probes: Vec<OpenProbe>,
    pub(crate) finished: Option<u8>,
    /// Services whose start cannot be prepared.
    pub(crate) unpreparable: BTreeSet<ServiceName>,
    /// How many preparations were asked for.
    pub(crate) preparations: u64,
    /// Services whose preparations are not answered until they are released.
    pub(crate) held_preparations: BTreeSet<ServiceName>,
    open_preparations: Vec<(Ticket, Arc<ServiceSpec>)>,
    /// Services that do not reach their program by themselves.
    pub(crate) slow: BTreeSet<ServiceName>,
    /// The system has room for so many more programs; `None`: for any number.
    pub(crate) room: Option<usize>,
    /// Services that ignore the polite signal.
    pub(crate) stubborn: BTreeSet<ServiceName>,
    /// Services that survive KILL.
    pub(crate) immortal: BTreeSet<ServiceName>,
}

impl World {
    /// Returns a world in which a manager with this plan is connected and in charge.
    pub(crate) fn boot(plan: Plan) -> Self {
        Self::boot_with(plan, Settings { seed: 1, idle_by_default: false, only: None })
    }

    pub(crate) fn boot_with(plan: Plan, settings: Settings) -> Self {
        let mut world = Self {
            now: Instant::ZERO.saturating_add(secs(1_000)),
            manager: Manager::new(settings.clone()),
            settings,
            held: BTreeMap::new(),
            inbox: VecDeque::new(),
            asks: 0,
            next_pid: 100,
            answers: BTreeMap::new(),
            announced: Vec::new(),
            commands: Vec::new(),
            leases: Vec::new(),
            refuses_leases: false,
            features: vec!["ack".to_owned(), "lease".to_owned()],
            probes: Vec::new(),
            finished: None,
            unpreparable: BTreeSet::new(),
            preparations: 0,
            held_preparations: BTreeSet::new(),
            open_preparations: Vec::new(),
            slow: BTreeSet::new(),
            room: None,
            stubborn: BTreeSet::new(),
            immortal: BTreeSet::new(),
        };
        world.held.insert(name("keepd.manager"), Held::new(world.now));
        world.give(Input::Boot { plan });
        world.give(Input::Connected);
        world
    }

    /// The manager is lost, and a new one takes over with the accepted plan.
    pub(crate) fn take_over(&mut self) {
        let plan = self.manager.plan().clone();
        self.lose_manager();
        self.begin_manager(plan);
    }

    /// The manager is lost; the proxy and its services go on.
    pub(crate) fn lose_manager(&mut self) {
        self.manager = Manager::new(self.settings.clone());
        self.inbox.clear();
        self.probes.clear();
        self.commands.clear();
        self.leases.clear();
        self.announced.clear();
    }

    pub(crate) fn begin_manager(&mut self, plan: Plan) {
        self.give(Input::Boot { plan });
        self.give(Input::Connected);
    }

    /// Gives news to the machine and lets everything that follows happen.
    pub(crate) fn give(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.drive();
    }

    /// Gives one thing, then lets so many more of what follows happen before another.
    pub(crate) fn give_slowly(&mut self, first: Input, between: usize, second: Input) {
        self.manager.handle_input(self.now, first);
        self.carry_out_all();
        for _ in 0..between {
            if let Some(input) = self.inbox.pop_front() {
                self.manager.handle_input(self.now, input);
                self.carry_out_all();
            }
        }
        self.inbox.push_front(second);
        self.drive();
    }

    fn carry_out_all(&mut self) {
        self.manager.check_invariants().unwrap();
        while let Some(output) = self.manager.poll_output() {
            self.carry_out(output);
        }
    }

    fn drive(&mut self) {
        let mut outputs = 0;
        self.start_what_is_due();
        while let Some(input) = self.inbox.pop_front() {
            self.manager.handle_input(self.now, input);
            self.manager.check_invariants().unwrap();
            while let Some(output) = self.manager.poll_output() {
                outputs += 1;
                assert!(outputs < OUTPUTS_MAX, "the machine does not come to rest: {output:?}");
                self.carry_out(output);
            }
        }
    }

    /// Lets time pass, and everything that is due meanwhile happen in order.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now.saturating_add(duration);
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            if self.start_what_is_due() {
                self.drive();
                continue;
            }
            self.manager.handle_timeout(self.now);
            self.manager.check_invariants().unwrap();
            let next = self.manager.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "the timeout does not advance");
            while let Some(output) = self.manager.poll_output() {
                self.carry_out(output);
            }
            self.drive();
        }
        self.now = end;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Command { id, command } => self.run_command(id, command),
            Output::Prepare { ticket, spec, preparation: _ } => {
                self.preparations += 1;
                if self.held_preparations.contains(&spec.name) {
                    self.open_preparations.push((ticket, spec));
                } else {
                    let outcome = self.prepare(&spec);
                    self.inbox.push_back(Input::Prepared { ticket, outcome });
                }
            }
            Output::Probe { name, generation, index, question, timeout } => {
                assert_eq!(timeout, secs(3));
                let probe = OpenProbe::Outside(name, generation, index, question);
                self.probes.push(probe);
            }
            Output::Answer { ask, answer } => {
                let before = self.answers.insert(ask, answer);
                assert_eq!(before, None, "{ask:?} is answered twice");
            }
            Output::Announce(announcement) => self.announced.push(announcement),
            Output::Finish { code } => {
                assert_eq!(self.finished.replace(code), None, "finished twice");
            }
        }
    }

    fn prepare(&self, spec: &ServiceSpec) -> Result<Box<Launch>, PrepareFailure> {
        if self.unpreparable.contains(&spec.name) {
            return Err(PrepareFailure {
                step: SpawnStep::Exec,
                errno: Some(Errno::ENOENT),
                text: "executable \"/bin/service\" not found".to_owned(),
            });
        }
        let bytes = |command: &CommandLine| match command {
            CommandLine::Words(words) => {
                words.iter().map(|word| word.to_string().into_bytes()).collect()
            }
            CommandLine::Shell(line) => vec![b"/bin/sh".to_vec(), line.clone().into_bytes()],
        };
        let question = |probe: &Probe| match probe {
            Probe::Tcp(tcp) => Question::Tcp(tcp.address.to_string()),
            Probe::Http(http) => Question::Http(http.url.to_string()),
            Probe::Exec(command) => Question::Exec(bytes(command)),
            Probe::Socket(path) => Question::Socket(path.to_string()),
            Probe::File(path) => Question::File(path.to_string()),
            Probe::Log(pattern) => Question::Log(pattern.clone()),
        };
        Ok(Box::new(Launch {
            arguments: spec.command.as_ref().map(bytes).unwrap_or_default(),
            environment: Environment::default(),
            directory: b"/".to_vec(),
            uid: None,
            gid: None,
            groups: None,
            log: LogTarget::Null,
            questions: spec.ready.probes.iter().map(question).collect(),
            reload: match &spec.reload {
                Some(Reload::Command(command)) => Some(bytes(command)),
                Some(Reload::Signal(_)) | None => None,
            },
        }))
    }

    fn hear(&mut self, message: Message) {
        self.inbox.push_back(Input::Message(message));
    }

    fn run_command(&mut self, id: RequestId, command: Command) {
        if let Some(words) = short(&command) {
            self.commands.push(words);
        }
        self.leases.extend(lease::short(&command));
        if let Command::Proto { version } = command {
            let features = self.features.clone();
            self.hear(Message::ProtoAccepted { version, features });
            return;
        }
        match self.accepts(&command) {
            Ok(()) => {}
            Err(kind) => {
                let fail = Fail { kind, spawn: None, text: kind.word().to_owned() };
                self.hear(Message::Reply(id, Reply::Fail(fail)));
                return;
            }
        }
        if let Command::ServiceExec { name, .. } = command {
            self.probes.push(OpenProbe::Exec(id, name));
            return;
        }
        self.hear(Message::Reply(id, Reply::Ok));
        self.run_accepted(command);
    }

    /// Refuses as the proxy does (behaviour 1.5, 1.6, 2.6, 3.1, 3.21).
    fn accepts(&self, command: &Command) -> Result<(), FailKind> {
        let held = |name| self.held.get(name).ok_or(FailKind::NoSuchService);
        let is_there = |held: &Held| held.state != RunState::Down && !held.is_pending();
        match command {
            Command::ServiceStart { name, expected, at: _ } => {
                let held = held(name)?;
                if expected.is_some_and(|expected| expected != held.generation) {
                    return Err(FailKind::Stale);
                }
                if is_there(held) {
                    return Err(FailKind::Running);
                }
                if held.arguments.is_empty() {
                    return Err(FailKind::NoArguments);
                }
            }
            Command::ServiceLease { .. } if self.refuses_leases => return Err(FailKind::Limit),
            Command::ServiceLease { name, expected, .. } if *expected != held(name)?.generation => {
                return Err(FailKind::Stale);
            }
            Command::ServiceStop { name, expected, .. } => {
                let held = held(name)?;
                if !is_there(held) && !held.is_pending() {
                    return Err(FailKind::NotRunning);
                }
                if *expected != held.generation {
                    return Err(FailKind::Stale);
                }
            }
            Command::ServiceSignal { name, expected, .. } => {
                let held = held(name)?;
                if !is_there(held) {
                    return Err(FailKind::NotRunning);
                }
                if expected.is_some_and(|expected| expected != held.generation) {
                    return Err(FailKind::Stale);
                }
            }
            Command::ServiceDelete { name } if is_there(held(name)?) => {
                return Err(FailKind::Running);
            }
            Command::ServiceNote { name, key, value } => {
                let notes = self.held.get(name).map(|held| &held.notes);
                let is_full = notes.is_some_and(|notes| {
                    notes.len() >= NOTES_MAX && !notes.contains_key(key) && !value.is_empty()
                });
                if is_full || value.len() > NOTE_BYTES_MAX {
                    return Err(FailKind::Limit);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn held(&mut self, name: ServiceName) -> &mut Held {
        let now = self.now;
        self.held.entry(name).or_insert_with(|| Held::new(now))
    }

    fn run_accepted(&mut self, command: Command) {
        self.end_lease_by(&command);
        match command {
            Command::StateDump => self.dump(),
            Command::ServiceArgs { name, arguments } => self.held(name).arguments = arguments,
            Command::ServiceTags { name, tags } => self.held(name).tags = tags,
            Command::ServiceSet { name, attributes } => self.held(name).attributes = attributes,
            Command::ServiceEnv { name, environment } => self.held(name).environment = environment,
            Command::ServiceLog { name, log } => self.held(name).log = log,
            Command::ServiceNote { name, key, value } if value.is_empty() => {
                self.held(name).notes.remove(&key);
            }
            Command::ServiceNote { name, key, value } => {
                self.held(name).notes.insert(key, value);
            }
            Command::ServiceStart { name, .. } => {
                let held = self.held(name.clone());
                held.acknowledge(held.generation);
                self.begin_generation(&name);
            }
            Command::ServiceStop { name, .. } if self.held(name.clone()).is_pending() => {
                self.cancel_pending(&name);
            }
            Command::ServiceLease { name, lease, .. } => self.grant(&name, lease),
            Command::ServiceAck { name, generation } => self.held(name).acknowledge(generation),
            Command::ServiceStop { name, other, .. } => {
                let polite = other.is_none_or(|(signal, _)| signal != Signal::KILL);
                let signal = match polite {
                    true => self.held(name.clone()).attributes.stop_signal,
                    false => Signal::KILL,
                };
                self.report(&name, RunState::Stopping);
                let stays =
                    self.immortal.contains(&name) || (polite && self.stubborn.contains(&name));
                if !stays {
                    self.end(&name, killed_by(signal));
                }
            }
            Command::ServiceDelete { name } => {
                self.held.remove(&name);
                self.hear(Message::Event(Event::Deleted(name)));
            }
            _ => {}
        }
    }

    fn dump(&mut self) {
        let mut lines = Vec::new();
        for (name, held) in &self.held {
            let event = |event| Input::Message(Message::Event(event));
            if !held.arguments.is_empty() {
                lines.push(event(Event::Args(name.clone(), held.arguments.clone())));
            }
            lines.push(event(Event::Tags(name.clone(), held.tags.clone())));
            lines.push(event(Event::Set(name.clone(), Arc::clone(&held.attributes))));
            lines.push(event(Event::Env(name.clone(), held.environment.clone())));
            lines.push(event(Event::Log(name.clone(), held.log.clone())));
            for (key, value) in &held.notes {
                lines.push(event(Event::Note(name.clone(), key.clone(), value.clone())));
            }
            lines.extend(held.lines(name).into_iter().map(event));
            lines.push(Input::Message(held.report(name)));
            if held.notified {
                let said = Said { ready: true, ..Said::default() };
                let (name, generation) = (name.clone(), held.generation);
                lines.push(Input::Notified { name, generation, said });
            }
            lines.extend(held.said.iter().map(|said| {
                let (name, generation, said) = (name.clone(), held.generation, said.clone());
                Input::Notified { name, generation, said }
            }));
        }
        let end = Event::DumpEnd { sequence: 1 };
        lines.push(Input::Message(Message::Event(end)));
        self.inbox.extend(lines);
    }

    fn report(&mut self, name: &ServiceName, state: RunState) {
        let held = self.held.get_mut(name).expect("the service is held");
        held.state = state;
        held.at = self.now;
        let message = held.report(name);
        self.hear(message);
    }

    /// The program of a commanded start runs.
    fn execute(&mut self, name: &ServiceName) {
        self.next_pid += 1;
        let held = self.held.get_mut(name).expect("the service is held");
        held.pid = Pid::new(self.next_pid);
        self.report(name, RunState::Forked);
        self.report(name, RunState::Up);
    }

    fn refuse(&mut self, name: &ServiceName, step: SpawnStep, errno: Errno) {
        let held = self.held.get_mut(name).expect("the service is held");
        held.ended = Some(RunEnd::Failed(keepd_model::SpawnFailure { step, errno }));
        self.come_down(name);
    }

    fn end(&mut self, name: &ServiceName, exit: Exit) {
        let held = self.held.get_mut(name).expect("the service is held");
        held.ended = Some(RunEnd::Exit(exit));
        self.report(name, RunState::Emptying);
        self.come_down(name);
    }

    // What a test makes happen.

    /// The program of a service in [`World::slow`] runs after all.
    pub(crate) fn let_run(&mut self, service: &str) {
        self.execute(&name(service));
        self.drive();
    }

    /// The start of a service in [`World::slow`] failed before its program.
    pub(crate) fn let_fail(&mut self, service: &str) {
        self.refuse(&name(service), SpawnStep::Exec, Errno::ENOENT);
        self.drive();
    }

    /// A process and its whole group end.
    pub(crate) fn exits(&mut self, service: &str, exit: Exit) {
        self.end(&name(service), exit);
        self.drive();
    }

    /// A main process ends, others of its group are left.
    pub(crate) fn exits_partly(&mut self, service: &str, exit: Exit) {
        let held = self.held.get_mut(&name(service)).unwrap();
        held.ended = Some(RunEnd::Exit(exit));
        self.report(&name(service), RunState::Emptying);
        self.drive();
    }

    /// Nothing of the group is left.
    pub(crate) fn empties(&mut self, service: &str) {
        self.come_down(&name(service));
        self.drive();
    }

    pub(crate) fn sticks(&mut self, service: &str) {
        self.report(&name(service), RunState::Stuck);
        self.drive();
    }

    /// Its end, while nobody is connected.
    pub(crate) fn exits_unseen(&mut self, service: &str, exit: Exit) {
        self.end(&name(service), exit);
        self.inbox.clear();
    }

    /// `READY=1` comes, or is kept for whoever connects next.
    pub(crate) fn notifies(&mut self, service: &str) {
        let held = self.held.get_mut(&name(service)).unwrap();
        held.notified = true;
        let generation = held.generation;
        if self.manager.is_synchronised() {
            let said = Said { ready: true, ..Said::default() };
            self.give(Input::Notified { name: name(service), generation, said });
        }
    }

    /// Something else comes on the notify socket, and is kept for whoever connects next.
    pub(crate) fn says(&mut self, service: &str, said: Said) {
        let held = self.held.get_mut(&name(service)).unwrap();
        held.said.push(said.clone());
        let generation = held.generation;
        if self.manager.is_synchronised() {
            self.give(Input::Notified { name: name(service), generation, said });
        }
    }

    pub(crate) fn signalled(&mut self, signal: Signal, count: u64) {
        let at = self.now;
        self.give(Input::Message(Message::Event(Event::Signal { signal, at, count })));
    }

    /// Answers every preparation of a service that was held back.
    pub(crate) fn release_preparations(&mut self, service: &str) {
        self.held_preparations.remove(&name(service));
        let open = std::mem::take(&mut self.open_preparations);
        for (ticket, spec) in open {
            let outcome = self.prepare(&spec);
            self.give(Input::Prepared { ticket, outcome });
        }
    }

    /// Answers every open question of a service.
    pub(crate) fn answer_probes(&mut self, service: &str, outcome: Result<(), &str>) {
        let (mine, others) =
            std::mem::take(&mut self.probes).into_iter().partition(|probe| match probe {
                OpenProbe::Outside(name, ..) | OpenProbe::Exec(_, name) => name.as_str() == service,
            });
        self.probes = others;
        let mine: Vec<OpenProbe> = mine;
        assert!(!mine.is_empty(), "nothing is asked of {service}");
        for probe in mine {
            match probe {
                OpenProbe::Outside(name, generation, index, _) => {
                    let outcome = outcome.map_err(str::to_owned);
                    self.give(Input::Probed { name, generation, index, outcome });
                }
                OpenProbe::Exec(id, _) => {
                    let (code, output) = match outcome {
                        Ok(()) => (0, String::new()),
                        Err(text) => (1, format!("first\n{text}\n")),
                    };
                    let exit = Exit::Code(code);
                    let output = output.into_bytes();
                    let reply = Reply::Exec { exit, output };
                    self.give(Input::Message(Message::Reply(id, reply)));
                }
            }
        }
    }

    pub(crate) fn ask_with(&mut self, token: Option<&str>, request: Ask) -> AskId {
        self.asks += 1;
        let ask = AskId(self.asks);
        self.give(Input::Ask {
            ask,
            who: Who { uid: 7, pid: 70 },
            token: token.map(str::to_owned),
            request,
        });
        ask
    }

    /// Asks, and returns the number of the change.
    pub(crate) fn ask(&mut self, request: Ask) -> ChangeId {
        let ask = self.ask_with(None, request);
        self.answers[&ask].clone().unwrap()
    }

    pub(crate) fn refusal(&mut self, request: Ask) -> Refusal {
        let ask = self.ask_with(None, request);
        self.answers[&ask].clone().unwrap_err()
    }

    pub(crate) fn start(&mut self, services: &[&str]) -> ChangeId {
        let alone = false;
        let names = names(services);
        self.ask(Ask::Start { names, alone })
    }

    pub(crate) fn stop(&mut self, services: &[&str]) -> ChangeId {
        let names = names(services);
        let (alone, kill) = (false, false);
        self.ask(Ask::Stop { names, alone, kill })
    }

    pub(crate) fn kill(&mut self, services: &[&str]) -> ChangeId {
        let names = names(services);
        let (alone, kill) = (false, true);
        self.ask(Ask::Stop { names, alone, kill })
    }

    pub(crate) fn restart(&mut self, services: &[&str]) -> ChangeId {
        let names = names(services);
        self.ask(Ask::Restart { names })
    }

    pub(crate) fn apply(&mut self, plan: Plan, restart: bool) -> ChangeId {
        self.ask(Ask::Apply { plan, restart })
    }
}

/// Returns a command about a service in short words; notes and questions are left out.
fn short(command: &Command) -> Option<String> {
    Some(match command {
        Command::ServiceArgs { name, .. } => format!("args {name}"),
        Command::ServiceTags { name, .. } => format!("tags {name}"),
        Command::ServiceSet { name, .. } => format!("set {name}"),
        Command::ServiceEnv { name, .. } => format!("env {name}"),
        Command::ServiceLog { name, .. } => format!("log {name}"),
        Command::ServiceStart { name, .. } => format!("start {name}"),
        Command::ServiceStop { name, other, .. } => match other {
            None => format!("stop {name}"),
            Some((signal, _)) => format!("stop {name} {signal}"),
        },
        Command::ServiceSignal { name, signal, .. } => {
            let signal = signal.signal().expect("the manager sends signals that there are");
            format!("signal {name} {signal}")
        }
        Command::ServiceDelete { name } => format!("delete {name}"),
        Command::SignalClear { signal, count } => format!("clear {signal} {count}"),
        _ => return None,
    })
}
