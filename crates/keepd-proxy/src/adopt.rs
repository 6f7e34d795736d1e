//! The start of a successor: what its predecessor wrote down is told to the machine, and what still
//! runs is taken hold of.
//!
//! Each slot of the ledger is looked at until nothing about it has to be changed any more
//! ([`keepd_wire::ledger::decide`]). What cannot be told apart is looked at again from time to
//! time, and neither signalled nor started meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::time::Duration;

use keepd_engine::proxy::{AdoptedRun, EndedRun, Fact, Input, Owner};
use keepd_model::protocol::{Event, Place, RunEnd, Stream};
use keepd_model::{Errno, Generation, Instant, LogLevel, Pid, ServiceName};
use keepd_os::ledger::{Presence, examine, inode};
use keepd_os::pipe::LogPipe;
use keepd_os::{clock, pidfd, process};
use keepd_wire::ledger::keeper::WhenFull;
use keepd_wire::ledger::layout::SlotNumber;
use keepd_wire::ledger::ring::Waiting;
use keepd_wire::ledger::{Decision, Found, Outcome, Seen, State, decide};

use crate::holder::Held;
use crate::ledger::{Ledger, Run};
use crate::legacy::Left;
use crate::pump;
use crate::run::Shell;

/// How often one slot is looked at again because somebody changed it meanwhile.
const LOOKS_MAX: u32 = 16;
/// From one look at what is not known to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// An end was recorded by somebody else: when, is known to so much.
const GAP_MAX: Duration = Duration::from_secs(5);
/// No such process.
const ESRCH: Errno = Errno(3);

/// Pidfds that the warden had opened before it started us.
type Pidfds = BTreeMap<Pid, Held>;

/// What is left to do about what a predecessor left.
#[derive(Default)]
pub(crate) struct Adoption {
    /// Services of which nobody can say whether they run, with why.
    unsure: BTreeMap<ServiceName, String>,
    look_at: Option<Instant>,
    /// Nobody is connected yet, and nobody may ask anything.
    pub(crate) is_under_way: bool,
    /// The last INVOCATION_ID of each service, as long as somebody needs it.
    invocations: BTreeMap<ServiceName, u128>,
}

impl Adoption {
    /// Returns when it is looked at again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }
}

/// What was found of a service.
enum Finding {
    /// Its process is there.
    Runs { run: Run, pid: Pid, pidfd: Held, started: Instant },
    /// Nothing of it runs, and how it ended is in the ring or acknowledged.
    Over,
    /// It cannot be said.
    Unsure(String),
}

/// Who has a process id now.
struct Looked {
    found: Found,
    pidfd: Option<Held>,
    start_ticks: Option<u64>,
    /// It is a child of a keeper of ours, which records its end before it consumes it.
    is_ours: bool,
}

impl Shell {
    /// Goes on where a predecessor was lost: it had accepted these facts, and left this open.
    pub(crate) fn take_over(&mut self, facts: Vec<Fact>, left: Left) {
        self.adoption.is_under_way = true;
        self.replay(facts);
        self.adopt(left);
        self.adoption.is_under_way = false;
    }

    /// Tells the machine what a predecessor accepted.
    fn replay(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            if let Fact::Event(Event::Invocation { name, id, .. }) = &fact {
                self.adoption.invocations.insert(name.clone(), *id);
            }
            self.tell(Input::Replayed { fact });
        }
    }

    /// Takes over what a predecessor left of every service.
    fn adopt(&mut self, mut left: Left) {
        let Some(ledger) = &self.ledger else {
            return;
        };
        let defined = self.machine.services().map(|service| service.name);
        // What runs and is not defined can be stopped at least.
        let names: BTreeSet<ServiceName> =
            defined.chain(ledger.slots().map(|(name, _)| name)).cloned().collect();
        self.adopt_descriptors(&names, &mut left);
        let mut running = 0_usize;
        for name in &names {
            running += usize::from(self.adopt_service(name, &mut left));
        }
        match self.groups.take_over_rest(&self.epoll) {
            Ok(0) => {}
            Ok(count) => {
                let text = format_args!("{count} commands beside services were ended unanswered");
                self.say(LogLevel::Warning, text);
            }
            Err(error) => {
                self.say(
                    LogLevel::Error,
                    format_args!("cannot end commands that were lost: {error}"),
                );
            }
        }
        self.give_back_slots();
        self.forget_invocations();
        let count = names.len();
        self.say(
            LogLevel::Info,
            format_args!("taken over from a proxy that was lost: {count} services, {running} run"),
        );
    }

    /// Goes on with what services say and write; nothing of it was lost meanwhile.
    fn adopt_descriptors(&mut self, names: &BTreeSet<ServiceName>, left: &mut Left) {
        let Left { logs, notify, ready, .. } = left;
        for (name, socket) in notify.drain(..).filter(|(name, _)| names.contains(name)) {
            if let Err(error) = self.notify.adopt(&self.epoll, &name, socket) {
                let text =
                    format_args!("cannot go on with the notify socket of \"{name}\": {error}");
                self.log.say(LogLevel::Error, text);
            }
        }
        for (name, generation, pipe) in ready.drain(..).filter(|(name, ..)| names.contains(name)) {
            if let Err(error) = self.ready.adopt(&self.epoll, &name, generation, pipe) {
                let text = format_args!("cannot go on with the ready_fd of \"{name}\": {error}");
                self.log.say(LogLevel::Error, text);
            }
        }
        for (name, pipes) in std::mem::take(logs) {
            self.adopt_pipes(&name, pipes);
        }
    }

    /// Goes on with the output of a service; returns the streams that are lost.
    fn adopt_pipes(
        &mut self,
        name: &ServiceName,
        pipes: Vec<(Stream, LogPipe<Held>)>,
    ) -> Vec<Stream> {
        let Some(service) = self.machine.service(name.as_str()) else {
            return Vec::new();
        };
        let target = service.log().clone();
        let slot = self
            .ledger
            .as_ref()
            .and_then(|ledger| ledger.slot_of(name).map(|number| ledger.slot(number)));
        let word = slot.and_then(|slot| slot.word().ok());
        let generation = word.map(|word| word.generation()).unwrap_or_default();
        let left = pump::Left { name: name.clone(), generation, target, pipes };
        self.pump.adopt(&self.epoll, self.now, left)
    }

    /// Finds the pipes of a running service that nobody held, where both who had them were lost.
    fn find_pipes(&mut self, name: &ServiceName, pid: Pid) {
        let Some(target) = self.machine.service(name.as_str()).map(|service| service.log()) else {
            return;
        };
        let Some(pidfd) = self.foreign.pidfd(pid).filter(|_| !self.pump.has(name)) else {
            return;
        };
        // If it has ended there is nothing to be found.
        let pipes = pump::find_again(&self.holder(), name, target, (pid, pidfd));
        let lost = self.adopt_pipes(name, pipes.unwrap_or_default());
        for stream in lost {
            let stream = stream.word();
            let text =
                format_args!("what \"{name}\" writes to {stream} is lost until it is restarted");
            self.say(LogLevel::Error, text);
        }
    }

    /// Makes the notify socket of a running service anew where nobody held it: the service has its
    /// path.
    fn find_notify_socket(&mut self, name: &ServiceName) {
        let service = self.machine.service(name.as_str());
        let Some(attributes) = service.map(|service| service.attributes()) else {
            return;
        };
        if !attributes.notify || self.notify.has(name) {
            return;
        }
        let uid = attributes.uid.unwrap_or_else(process::effective_uid);
        if let Err(error) = self.notify.prepare(&self.epoll, name, uid) {
            let text = format_args!("cannot make the notify socket of \"{name}\": {error}");
            self.log.say(LogLevel::Error, text);
        }
    }

    /// Looks again at what could not be told apart.
    pub(crate) fn look_at_unsure(&mut self) {
        if self.adoption.look_at.is_none_or(|look_at| self.now.monotonic < look_at) {
            return;
        }
        self.adoption.look_at = None;
        let names: Vec<ServiceName> = self.adoption.unsure.keys().cloned().collect();
        for name in names {
            self.adopt_service(&name, &mut Left::default());
        }
        self.forget_invocations();
    }

    fn forget_invocations(&mut self) {
        let unsure = &self.adoption.unsure;
        self.adoption.invocations.retain(|name, _| unsure.contains_key(name));
    }

    /// Takes over one service, and returns whether it runs.
    fn adopt_service(&mut self, name: &ServiceName, left: &mut Left) -> bool {
        // Nobody wrote down when something ended while there was no proxy, but it was just now.
        let now = self.now.monotonic;
        let lost_at = left.lost_at.filter(|lost_at| now.saturating_since(*lost_at) <= GAP_MAX);
        let at = lost_at.map(|_| now);
        let Some(ledger) = &mut self.ledger else {
            return false;
        };
        let Some(number) = ledger.slot_of(name) else {
            self.tell_adopted(name, Generation::NONE, AdoptedRun::Known, Vec::new());
            return false;
        };
        let finding = find(ledger, number, name, &mut left.pidfds, at);
        let generation = ledger.slot(number).word().map(|word| word.generation());
        let (waiting, damaged) = ledger.slot(number).waiting();
        for error in damaged {
            let text = format_args!("cannot say how \"{name}\" once ended: {error}");
            self.log.say(LogLevel::Error, text);
        }
        let mut ended: Vec<EndedRun> = waiting.into_iter().map(ended_run).collect();
        match finding {
            Finding::Runs { run, pid, pidfd, started } => {
                ledger.adopt(pid, run);
                self.foreign.add(&self.epoll, pid, name.clone(), run, pidfd, now);
                self.adoption.unsure.remove(name);
                let leaf = self.adopt_group(name, run.generation, Some(pid));
                self.find_pipes(name, pid);
                self.find_notify_socket(name);
                let run = AdoptedRun::Running { pid, started, leaf };
                self.tell_adopted(name, generation.unwrap_or_default(), run, ended);
                true
            }
            Finding::Over => {
                self.adoption.unsure.remove(name);
                let generation = generation.unwrap_or_default();
                let last = ended.pop_if(|ended| ended.generation == generation);
                let leaf = last.is_some() && self.adopt_group(name, generation, None);
                let run = last.map_or(AdoptedRun::Known, |ended| AdoptedRun::Ended { ended, leaf });
                self.tell_adopted(name, generation, run, ended);
                false
            }
            Finding::Unsure(why) => {
                // What is not to be read says nothing of a generation either; the machine has one.
                let generation = generation.unwrap_or_default();
                self.note_unsure(name, generation, why, ended);
                false
            }
        }
    }

    fn note_unsure(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        why: String,
        ended: Vec<EndedRun>,
    ) {
        self.adoption.look_at = Some(self.now.monotonic.saturating_add(LOOK_INTERVAL));
        let before = self.adoption.unsure.insert(name.clone(), why.clone());
        if before.as_ref() != Some(&why) {
            self.say(LogLevel::Error, format_args!("service \"{name}\": {why}"));
            self.tell_adopted(name, generation, AdoptedRun::Unsure { why }, ended);
        }
    }

    fn tell_adopted(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        run: AdoptedRun,
        unacknowledged: Vec<EndedRun>,
    ) {
        self.tell(Input::Adopted { name: name.clone(), generation, run, unacknowledged });
    }

    /// Takes over the group of a generation; returns whether there is one of its own.
    fn adopt_group(
        &mut self,
        name: &ServiceName,
        generation: Generation,
        leader: Option<Pid>,
    ) -> bool {
        let service = self.machine.service(name.as_str());
        let place = service.map_or(Place::Service, |service| service.attributes().place);
        if place != Place::Service {
            return false;
        }
        let owner = Owner::Service(name.clone(), generation);
        let invocation = self.adoption.invocations.get(name).copied().unwrap_or_default();
        let is_leaf = self.groups.adopt(&owner, leader, invocation);
        // Without a cgroup there is a group in the weaker way.
        is_leaf || self.groups.own_directory().is_none()
    }

    /// Gives back slots of services that were deleted, where the predecessor had no time for it.
    fn give_back_slots(&mut self) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let is_gone = |name: &&ServiceName| self.machine.service(name.as_str()).is_none();
        let gone: Vec<ServiceName> =
            ledger.slots().map(|(name, _)| name).filter(is_gone).cloned().collect();
        for name in gone {
            ledger.forget(&name);
        }
    }
}

/// Looks at a slot until nothing has to be changed in it.
fn find(
    ledger: &mut Ledger,
    number: SlotNumber,
    name: &ServiceName,
    held: &mut Pidfds,
    at: Option<Instant>,
) -> Finding {
    if let Err(refusal) = ledger.claim(number, name) {
        return Finding::Unsure(refusal.why);
    }
    for _ in 0..LOOKS_MAX {
        let slot = ledger.slot(number);
        let word = slot.word();
        let looked = match word.map(|word| word.state()) {
            Ok(State::Run(_, pid)) => look(pid, held),
            Ok(State::Unused | State::Down(_) | State::Intent(_) | State::Over(..)) | Err(_) => {
                Looked::nobody()
            }
        };
        // Whoever had the number, it counts only if the word still says so.
        if slot.word() != word {
            continue;
        }
        match decide(word, slot.identity(), looked.found) {
            Decision::Nothing | Decision::MayStart(_) => return Finding::Over,
            Decision::Cancel(_) => {
                slot.cancel();
            }
            Decision::Record(generation, exit) => {
                // Who was faster wrote the same; the next look shows it.
                let _ = slot.end(generation, None, exit);
            }
            Decision::Report(..) => {
                slot.settle(at, WhenFull::Overwrite);
            }
            Decision::Adopt(generation, pid) => {
                let (Some(pidfd), ticks) = (looked.pidfd, looked.start_ticks) else {
                    continue;
                };
                let started = ticks.map_or(Instant::ZERO, clock::monotonic_of_ticks);
                let run = Run { slot: number, generation };
                let pidfd = if looked.is_ours { own_copy(pidfd) } else { pidfd };
                return Finding::Runs { run, pid, pidfd, started };
            }
            Decision::Unsure(doubt) => return Finding::Unsure(doubt.to_string()),
        }
    }
    Finding::Unsure("its word in the ledger changes again and again".to_owned())
}

impl Looked {
    fn nobody() -> Self {
        Self::without(Found::Nobody)
    }

    fn without(found: Found) -> Self {
        Self { found, pidfd: None, start_ticks: None, is_ours: false }
    }
}

/// Takes hold of whoever has a number, and says who that is. A pidfd that somebody held for us is
/// of who had it then.
fn look(pid: Pid, held: &mut Pidfds) -> Looked {
    let opened = held.remove(&pid).map_or_else(|| pidfd::open(pid).map(Held::alone), Ok);
    let pidfd = match opened {
        Ok(pidfd) => pidfd,
        Err(ESRCH) => return Looked::nobody(),
        Err(error) => return Looked::without(Found::NotAsked(error)),
    };
    let inode = inode(&pidfd);
    let presence = match examine(&pidfd, pid) {
        Ok(presence) => presence,
        Err(error) => return Looked::without(Found::NotAsked(error)),
    };
    let (found, start_ticks, is_ours) = match presence {
        Presence::Alive { parent, start_ticks } => {
            let seen = Seen { inode, start_ticks: Some(start_ticks) };
            let is_ours = is_a_keeper(parent);
            (Found::Alive { seen, is_ours }, Some(start_ticks), is_ours)
        }
        Presence::Zombie { parent, start_ticks, exit } => {
            let seen = Seen { inode, start_ticks: Some(start_ticks) };
            let is_ours = is_a_keeper(parent);
            (Found::Zombie { seen, is_ours, exit }, Some(start_ticks), is_ours)
        }
        Presence::Gone { exit } => {
            (Found::Gone { seen: Seen { inode, start_ticks: None }, exit }, None, false)
        }
    };
    Looked { found, pidfd: Some(pidfd), start_ticks, is_ours }
}

/// Reports whether a process is this one or the warden above it.
pub(crate) fn is_a_keeper(parent: Option<Pid>) -> bool {
    parent.is_some() && [Some(process::id()), process::parent_id()].contains(&parent)
}

/// Returns a copy that the warden need not hold: the end of the process is written down before it
/// is consumed, so no status can be lost.
fn own_copy(pidfd: Held) -> Held {
    match pidfd.as_fd().try_clone_to_owned() {
        Ok(copy) => Held::alone(copy),
        Err(_) => pidfd,
    }
}

fn ended_run(waiting: Waiting) -> EndedRun {
    let end = match waiting.outcome {
        Outcome::Ended(exit) => RunEnd::Exit(exit),
        Outcome::Failed(failure) => RunEnd::Failed(failure),
        Outcome::Cancelled => RunEnd::Cancelled,
    };
    EndedRun { generation: waiting.generation, end, at: waiting.time }
}
