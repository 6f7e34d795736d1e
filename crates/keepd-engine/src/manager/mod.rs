//! The manager machine: policy.
//!
//! # States
//!
//! Of every service three things are kept apart: what is **wanted** (up, or down in a manner), what
//! it is **doing** (a phase with its data in the variant), and **why** each is so (a cause). A
//! phase moves through one door, `transition`, which records the instant and the cause, sets the
//! timer and announces.
//!
//! ```text
//!  Resting ──> Waiting ──> Preparing ──> Commanded ──> Starting ──> Running
//!     ^           │            │             │             │           │
//!     │           └── unwanted ┴─────────────┤             │           │
//!     │                                      v             v           v
//!     └────────────────────────── Backoff <── Ending (─> Stuck) <───────┘
//! ```
//!
//! A group has no process: it goes from Waiting to Gathered when every member is there, and back
//! when one is not any more.
//!
//! # Who outranks whom
//!
//! 1. What the proxy reports outranks what was expected: a phase about another generation is
//!    corrected.
//! 2. Shutdown outranks every wish: nothing is wanted up any more, and no ask but shutdown is
//!    accepted.
//! 3. An operator's stop outranks the restart policy and the configuration, until a start.
//! 4. What a service needs and reacts to (`on_stop`) outranks its own phase: it is ended when that
//!    is gone.
//! 5. A wish outranks a phase: a service that is not wanted leaves `Waiting`, `Preparing` and
//!    `Backoff` at once, and is ended in every other phase, dependents before what they depend on.
//! 6. The restart policy decides only about ends that nobody asked for.
//!
//! # Two phases of deciding
//!
//! News changes wants and phases of the services it is about and puts them, and their neighbours,
//! into a queue. `settle` then takes one after the other, decides from what is, and acts; there is
//! no recursion over the graph of dependencies. At the end of each turn everything a successor
//! could not observe is written into notes, and only then are asks answered.

mod answers;
mod apply;
mod asks;
mod cause;
mod changes;
mod explain;
mod history;
mod hope;
mod interface;
mod invariants;
mod launch;
mod lease;
mod life;
mod order;
mod readiness;
mod record;
mod reload;
mod select;
mod service;
mod settle;
mod shortage;
mod shutdown;
mod status;
mod sync;
mod tell;
mod unseen;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keepd_model::protocol::{Attributes, Command, RequestId};
use keepd_model::{ChangeId, Generation, Instant, Plan, ServiceName};

use self::answers::Answers;
use self::changes::Changes;
use self::order::Order;
use self::service::{PastStep, Phase, Service};
use self::shortage::Shortage;
use self::shutdown::Shutdown;
use self::sync::Link;

pub use self::cause::{Cause, ShutdownCause};
pub use self::explain::{cause_clause, sentence};
pub use self::interface::{
    Action, Announcement, Ask, AskId, Awaited, Change, Goal, Happening, Input, LastEnd, Launch,
    Outcome, Output, PastRun, Preparation, PrepareFailure, Question, Refusal, Said, ServiceStatus,
    Settings, Step, Target, Ticket, Verb, Who, WhyLine,
};

/// No answer to a readiness question within this time is an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// For so many outputs room is kept. A large change makes many at once, and then there is peace.
const OUTPUTS_KEPT: usize = 64;

/// The service that keepd's manager itself is to the proxy; notes about everything hang on it.
const MANAGER_NAME: &str = "keepd.manager";

/// The machine. See the module's text.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    plan: Plan,
    booted: bool,
    /// A dump was adopted before: what comes after that is news to us, and nobody else's work.
    has_adopted: bool,
    link: Link,
    /// What the proxy of this connection can do.
    abilities: Abilities,
    /// Boxed: half of the room in a map's nodes is empty.
    services: BTreeMap<ServiceName, Box<Service>>,
    /// Who depends on whom, and who comes after whom: derived from the plan.
    order: Order,
    queue: BTreeSet<ServiceName>,
    touched: BTreeSet<ServiceName>,
    timers: BTreeSet<(Instant, ServiceName)>,
    tickets: BTreeMap<Ticket, Purpose>,
    requests: BTreeMap<RequestId, Sent>,
    changes: Changes,
    shutdown: Option<Shutdown>,
    shortage: Shortage,
    /// See [`Manager::share`].
    attributes_seen: Arc<Attributes>,
    answers: Answers,
    outputs: VecDeque<Output>,
    ticket_next: u64,
    request_next: u64,
}

/// What a proxy can do beyond the version, as its answer to `proto` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Abilities {
    /// It takes leases.
    leases: bool,
    /// It keeps ends until they are acknowledged.
    acknowledgements: bool,
    /// It starts nothing; why.
    safe_mode: Option<String>,
}

/// What a preparation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// The start of a service whose phase holds the ticket.
    Start(ServiceName),
    /// To see that a restart would work, before the old process is asked to stop.
    CheckRestart(ServiceName, ChangeId),
    /// To run the reload command of this generation.
    Reload(ServiceName, Generation, ChangeId),
    /// To fill in the readiness questions of a generation that a predecessor started.
    Questions(ServiceName, Generation),
}

impl Purpose {
    /// Returns which goal waits for the answer, and for nothing that a dump shows.
    fn waiting_goal(&self) -> Option<(ServiceName, ChangeId)> {
        match self {
            Self::Reload(name, _, change) => Some((name.clone(), *change)),
            Self::Start(_) | Self::CheckRestart(..) | Self::Questions(..) => None,
        }
    }
}

/// A command whose answer matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// A dump.
    Dump,
    /// A readiness question to a command.
    Probe { name: ServiceName, generation: Generation, index: usize },
    /// A signal, or a reload command: its answer settles the goal of a change.
    Told { name: ServiceName, change: ChangeId },
    /// A command that moves a run: a refusal means that the proxy knows something we do not.
    Run,
    /// The same, for a start: refused, the generation is not the one that was meant, and runs what
    /// was launched before.
    Start { name: ServiceName, generation: Generation, launched: Option<u64> },
    /// The same, for what ends the lease, too: a stop, another definition, or taking it back.
    Unlease { name: ServiceName },
    /// A lease was given or taken back.
    Lease { name: ServiceName },
    /// The last note of a turn in which something was promised.
    Noted,
}

impl Sent {
    /// Returns which goal waits for the answer.
    fn waiting_goal(&self) -> Option<(ServiceName, ChangeId)> {
        match self {
            Self::Told { name, change } => Some((name.clone(), *change)),
            Self::Dump
            | Self::Probe { .. }
            | Self::Run
            | Self::Start { .. }
            | Self::Unlease { .. }
            | Self::Lease { .. }
            | Self::Noted => None,
        }
    }
}

impl Manager {
    /// Returns a machine that knows nothing yet: it needs a plan and a connection, in any order.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            plan: Plan::default(),
            booted: false,
            has_adopted: false,
            link: Link::Lost,
            abilities: Abilities::default(),
            services: BTreeMap::new(),
            order: Order::default(),
            queue: BTreeSet::new(),
            touched: BTreeSet::new(),
            timers: BTreeSet::new(),
            tickets: BTreeMap::new(),
            requests: BTreeMap::new(),
            changes: Changes::default(),
            shutdown: None,
            shortage: Shortage::default(),
            attributes_seen: Arc::default(),
            answers: Answers::default(),
            outputs: VecDeque::new(),
            ticket_next: 0,
            request_next: 0,
        }
    }

    /// Takes news.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Boot { plan } => self.on_boot(plan),
            Input::Connected => self.on_connected(),
            Input::Disconnected => self.on_disconnected(),
            Input::Message(message) => self.on_message(now, message),
            Input::Notified { name, generation, said } => {
                self.on_notified(now, &name, generation, said);
            }
            Input::Ask { ask, who, token, request } => self.on_ask(now, ask, who, token, request),
            Input::Prepared { ticket, outcome } => self.on_prepared(now, ticket, outcome),
            Input::Probed { name, generation, index, outcome } => {
                self.on_probed(now, &name, generation, index, outcome);
            }
        }
        self.finish_turn(now);
    }

    /// Does what is due. Afterwards the next timeout is later than `now`, or there is none.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_synchronised() {
            return;
        }
        while let Some((at, name)) = self.timers.first().cloned() {
            // Who asks for a dump decides nothing until it has come.
            if at > now || !self.is_synchronised() {
                break;
            }
            self.timers.pop_first();
            if let Some(service) = self.services.get_mut(&name) {
                service.timer = None;
            }
            self.on_timer(now, &name);
            self.set_timer(&name);
        }
        self.on_shutdown_timer(now);
        self.finish_turn(now);
    }

    /// Returns when [`Manager::handle_timeout`] must be called.
    ///
    /// Nothing is due while the proxy's state is not known: nothing could be done about it. What is
    /// overdue afterwards is due at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_synchronised() {
            return None;
        }
        let service = self.timers.first().map(|(at, _)| *at);
        let shutdown = self.shutdown.as_ref().and_then(Shutdown::next_time);
        service.into_iter().chain(shutdown).min()
    }

    /// Returns the next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs.shrink_to(OUTPUTS_KEPT);
        }
        output
    }

    /// Decides what follows and writes down what a successor needs, in this order.
    fn finish_turn(&mut self, now: Instant) {
        let mut end = None;
        if self.is_synchronised() {
            self.settle(now);
            end = self.advance_shutdown(now);
            self.settle_goals(now);
            self.write_records();
            self.acknowledge_ends();
            self.renew_leases(now);
            let last_note = self.write_changes();
            self.hold_answers(last_note);
        }
        self.touched.clear();
        if let Some(end) = end {
            // After it nothing is done any more: who asked for the end hears of it first.
            self.give_answers();
            self.outputs.push_back(end);
        }
    }

    /// Moves a service to another phase: the one door.
    fn transition(&mut self, now: Instant, name: &ServiceName, phase: Phase, cause: Cause) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let from = service.state();
        let started = service.started();
        let takes_over = matches!(service.phase, Phase::Leased { cancelled: false, .. })
            && !matches!(phase, Phase::Leased { .. } | Phase::Commanded { .. });
        service.phase = phase;
        service.cause = cause.clone();
        let to = service.state();
        if from != to {
            service.since = now;
            service.remember(PastStep { at: now, state: to, cause: cause.clone() });
            let next_start = match service.phase {
                Phase::Backoff { until } | Phase::Leased { until: Some(until), .. } => Some(until),
                _ => None,
            };
            let ran = started.or(service.started()).map(|started| now.saturating_since(started));
            let (generation, pid) = (service.generation, service.pid());
            let name = name.clone();
            let what = Happening::State { name, from, to, cause, generation, pid, ran, next_start };
            self.announce(now, what);
        }
        if takes_over {
            // The start of the proxy is taken back before another one is made.
            self.take_lease_back(name);
        }
        self.advance_reloads(now, name);
        self.touch(name);
    }

    /// Puts a service and its neighbours into the queue of those to be looked at.
    fn touch(&mut self, name: &ServiceName) {
        self.touched.insert(name.clone());
        self.queue.insert(name.clone());
        self.order.queue_neighbours(name, &mut self.queue);
    }

    /// Sets the timer of a service to what its phase asks for.
    fn set_timer(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let next = service.next_time();
        if service.timer == next {
            return;
        }
        if let Some(old) = service.timer {
            self.timers.remove(&(old, name.clone()));
        }
        service.timer = next;
        if let Some(at) = next {
            self.timers.insert((at, name.clone()));
        }
    }

    fn announce(&mut self, at: Instant, what: Happening) {
        self.outputs.push_back(Output::Announce(Announcement { at, what }));
    }

    /// Sends a command whose refusal would tell us nothing.
    fn send(&mut self, command: Command) -> RequestId {
        let id = self.request_id();
        self.outputs.push_back(Output::Command { id, command });
        id
    }

    /// Sends a command and remembers what its answer is for.
    fn send_for(&mut self, command: Command, sent: Sent) -> RequestId {
        let id = self.request_id();
        self.requests.insert(id, sent);
        self.outputs.push_back(Output::Command { id, command });
        id
    }

    fn request_id(&mut self) -> RequestId {
        self.request_next += 1;
        RequestId(self.request_next)
    }

    fn ticket(&mut self, purpose: Purpose) -> Ticket {
        self.ticket_next += 1;
        let ticket = Ticket(self.ticket_next);
        self.tickets.insert(ticket, purpose);
        ticket
    }

    fn manager_name() -> ServiceName {
        ServiceName::new_internal(MANAGER_NAME).expect("the manager's own name is a valid name")
    }
}
