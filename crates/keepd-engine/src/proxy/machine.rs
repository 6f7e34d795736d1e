//! The four verbs, and news that changes no run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use keepd_model::protocol::{Attributes, Event, NOTIFY_BYTES_MAX, READY_FD_TEXT, RunState, Stream};
use keepd_model::{
    Errno, Exit, Generation, HandleName, HandleReport, Instant, LogLevel, Pid, ServiceName, Signal,
    Wanted,
};

use super::connections::{Audience, Connection};
use super::handles::Handle;
use super::jobs::Job;
use super::service::{NOTIFICATIONS_MAX, Notification, Service, Timer, readiness, says_ready};
use super::tickets::Undertaking;
use super::triggers::Arrived;
use super::{ConnectionId, Fact, Input, JobId, Output, Owner, Ticket, handles, process};

/// What a proxy machine is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where INVOCATION_IDs come from; another one for each process that runs a machine, a
    /// successor too: how many starts its predecessors made is in no fact.
    pub seed: u128,
    /// Words for what the proxy can do beyond the version, told in the answer to `proto`.
    pub features: Vec<String>,
    /// The handles that are there from the start: `null` first, then what the process inherited.
    /// Their descriptors are numbered from 1 in this order; the virtual `control.*` handles need
    /// none and are made by the machine. No name is there twice.
    pub handles: Vec<HandleReport>,
    /// The guard code of the start, if there is one; 0 is none.
    pub guard: Option<i64>,
    /// What the process becomes at its end; empty: nothing.
    pub exit_exec: Vec<Vec<u8>>,
    /// The filter that the proxy's own log starts with.
    pub log_filter: LogLevel,
    /// The log goes nowhere until `log.dest`, not even to a handle named `stderr`.
    pub is_log_closed: bool,
    /// No more bytes than these are kept of what is said of a handle; `None`: all.
    pub description_bytes_max: Option<usize>,
    /// There is somebody to be survived by: say [`Output::Record`] and [`Output::Acknowledge`].
    pub records: bool,
    /// Only adopt, signal, stop and reap; nothing is started (`service.start` and `service.exec`
    /// are refused, leases and triggers rest), and the greeting has the word `safe`. Why, in one
    /// sentence.
    pub safe_mode: Option<String>,
}

/// The mechanism: services, their processes, and the connections that command and watch them.
#[derive(Debug)]
pub struct Proxy {
    pub(super) settings: Settings,
    /// Boxed, because a node of the map has room for many that are not there.
    pub(super) services: BTreeMap<ServiceName, Box<Service>>,
    /// What the last `service.set` said.
    pub(super) attributes_set: Arc<Attributes>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) handles: BTreeMap<HandleName, Handle>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    /// Signals that the proxy got and nobody cleared.
    pub(super) signals: BTreeMap<Signal, PendingSignal>,
    /// Main processes that were not reaped yet.
    pub(super) processes: BTreeMap<Pid, Owner>,
    /// What is due, and when.
    pub(super) timers: BTreeSet<(Instant, Timer)>,
    /// What is left to be carried out of what was due.
    pub(super) due: Option<Due>,
    /// Signals that came, with what is left to be started by each.
    pub(super) arrived: VecDeque<Arrived>,
    pub(super) outputs: VecDeque<Output>,
    /// Generations started so far, of all services; part of each INVOCATION_ID.
    pub(super) starts: u64,
    /// The number of the last job.
    pub(super) jobs_made: u64,
    /// The number of the last descriptor.
    pub(super) descriptors_made: u64,
    /// Effects that the shell was asked for and has not answered.
    pub(super) tickets: BTreeMap<Ticket, Undertaking>,
    /// The number of the last ticket.
    pub(super) tickets_made: u64,
    /// The system gives no memory: nothing may grow.
    pub(super) is_memory_low: bool,
    /// The journal has no room: nothing long may be written down.
    pub(super) is_journal_full: bool,
    /// Why it cannot be said whether something runs, of each service of which it cannot.
    pub(super) doubts: BTreeMap<ServiceName, String>,
    /// Where `chdir` led, from the directory of the start; `None`: nowhere yet.
    pub(super) directory: Option<Vec<u8>>,
    /// No end without this code; never 0.
    pub(super) guard: Option<i64>,
    /// What the process becomes at its end.
    pub(super) exit_exec: Vec<Vec<u8>>,
    /// The filter of the proxy's own log.
    pub(super) log_filter: LogLevel,
    /// The handle whose descriptor has the log, whether or not there is one of this name; `None`:
    /// nobody has said one yet.
    pub(super) log_handle: Option<HandleName>,
    /// `terminate` was accepted: the shell ends, and nothing is decided any more. It is no state
    /// of a service, so it stands alone.
    pub(super) is_terminated: bool,
}

/// A signal that the proxy got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingSignal {
    /// When the last one came.
    pub(super) at: Instant,
    pub(super) count: u64,
}

/// Timers up to some time that are being carried out, one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// When it is.
    until: Instant,
    /// The last that was carried out. What it set to the same time waits for the next call, or the
    /// end of the clock would never be over.
    after: Option<(Instant, Timer)>,
}

/// What a test or a simulation may see of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceView<'machine> {
    /// Its name.
    pub name: &'machine ServiceName,
    /// The last generation that was started.
    pub generation: Generation,
    /// What the last command asked for.
    pub wanted: Wanted,
    /// What it is doing.
    pub state: RunState,
    /// The main process that was not reaped yet.
    pub pid: Option<Pid>,
}

impl Proxy {
    /// Returns a machine without services and connections.
    pub fn new(mut settings: Settings) -> Self {
        let handles = std::mem::take(&mut settings.handles);
        Self {
            descriptors_made: handles.len() as u64,
            handles: handles::initial(handles),
            guard: settings.guard.filter(|code| *code != 0),
            exit_exec: settings.exit_exec.clone(),
            log_filter: settings.log_filter,
            log_handle: (!settings.is_log_closed).then(process::initial_log_handle),
            settings,
            services: BTreeMap::new(),
            attributes_set: Arc::default(),
            jobs: BTreeMap::new(),
            connections: BTreeMap::new(),
            signals: BTreeMap::new(),
            processes: BTreeMap::new(),
            timers: BTreeSet::new(),
            due: None,
            arrived: VecDeque::new(),
            outputs: VecDeque::new(),
            starts: 0,
            jobs_made: 0,
            tickets: BTreeMap::new(),
            tickets_made: 0,
            is_memory_low: false,
            is_journal_full: false,
            doubts: BTreeMap::new(),
            directory: None,
            is_terminated: false,
        }
    }

    /// Takes news. After `terminate` all news is ignored.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        if self.is_terminated {
            return;
        }
        match input {
            Input::Connected { connection, output } => self.on_connected(connection, output),
            Input::Disconnected { connection } => self.on_disconnected(now, connection),
            Input::Request { connection, request } => self.on_request(now, connection, request),
            Input::Refused { connection, answer } => self.send(connection, answer),
            Input::Full { connection } => self.on_full(connection),
            Input::Drained { connection } => self.on_drained(connection),
            Input::Spawned { owner, outcome } => match owner {
                Owner::Service(name, generation) => {
                    self.on_service_spawned(now, &name, generation, outcome);
                }
                Owner::Job(id) => self.on_job_spawned(now, id, outcome),
            },
            Input::Report { owner, outcome } => match owner {
                Owner::Service(name, generation) => {
                    self.on_service_report(now, &name, generation, outcome);
                }
                Owner::Job(id) => self.on_job_report(id, outcome),
            },
            Input::Reaped { pid, exit } => self.on_reaped(now, pid, exit),
            Input::GroupEmpty { owner } => match owner {
                Owner::Service(name, generation) => {
                    self.on_service_group_empty(now, &name, generation);
                }
                Owner::Job(id) => self.on_job_group_empty(id),
            },
            Input::Notify { name, pid, text } => self.on_notify(&name, pid, text),
            Input::ReadyFd { name, generation } => self.on_ready_fd(&name, generation),
            Input::Output { name, stream, offset } => self.on_output(name, stream, offset),
            Input::OutputBlocked { name, errno } => self.on_output_blocked(&name, errno),
            Input::JobOutput { job, bytes } => self.on_job_output(job, &bytes),
            Input::Performed { ticket, outcome } => self.on_performed(ticket, outcome),
            Input::MemoryLow { on } => self.on_memory_low(on),
            Input::Signal { signal, count } => self.on_signal(now, signal, count),
            Input::JournalFull { on } => self.is_journal_full = on,
            Input::Replayed { fact } => self.replay(now, fact),
            Input::Adopted { name, generation, run, unacknowledged } => {
                self.adopt(now, &name, generation, run, unacknowledged);
            }
        }
        self.close_hopeless(now);
    }

    /// Everything that is due is to be carried out, with the outputs that are polled next.
    /// Afterwards [`Proxy::poll_timeout`] is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_terminated {
            self.due = Some(Due { until: now, after: None });
            self.resume_due();
        }
    }

    /// Carries out what is due until there is something for the shell to do. However many services
    /// are due at the same time, what they ask for is never in memory all at once.
    fn resume_due(&mut self) {
        while self.outputs.is_empty()
            && let Some(Due { until, after }) = self.due.take()
        {
            let next = match &after {
                Some(after) => self.timers.range((Excluded(after), Unbounded)).next(),
                None => self.timers.first(),
            };
            let Some(entry) = next.filter(|(due, _)| *due <= until).cloned() else {
                self.close_hopeless(until);
                return;
            };
            self.due = Some(Due { until, after: Some(entry.clone()) });
            match entry.1 {
                Timer::Service(name) => self.on_service_timer(until, &name),
                Timer::Job(id) => self.on_job_timer(until, id),
            }
        }
    }

    /// Returns when [`Proxy::handle_timeout`] must be called at the latest, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.is_terminated {
            true => None,
            false => self.timers.first().map(|(due, _)| *due),
        }
    }

    /// Returns the next thing to do.
    ///
    /// To be called until it returns nothing after each input, and before the next command of any
    /// connection. When a buffer becomes full meanwhile, [`Input::Full`] is to be given at once:
    /// dumps and what was kept for a connection are produced here, piece by piece, only while
    /// there is room.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && !self.is_terminated {
            self.resume_due();
            self.resume_arrived();
            self.resume_connections();
        }
        self.outputs.pop_front()
    }

    /// Returns every service by name.
    pub fn services(&self) -> impl Iterator<Item = ServiceView<'_>> {
        self.services.iter().map(|(name, service)| ServiceView {
            name,
            generation: service.generation,
            wanted: service.wanted,
            state: service.run().state(),
            pid: service.run().main().map(|main| main.pid),
        })
    }

    /// Returns the service whose run is over when this process is reaped, because nothing else of
    /// it is waited for.
    pub fn run_ends_with(&self, pid: Pid) -> Option<&ServiceName> {
        let Owner::Service(name, _) = self.processes.get(&pid)? else {
            return None;
        };
        let service = self.services.get(name)?;
        let main = service.run().main().copied()?;
        (!service.waits_for_group(main.leaf)).then_some(name)
    }

    /// Returns the jobs of which something is left, answered or not.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Returns how many ends of services slow connections were not told, of those that are
    /// connected.
    pub fn ends_dropped(&self) -> u64 {
        self.connections.values().map(|connection| connection.backlog.ends_dropped).sum()
    }

    /// A child was reaped. Strangers are none of ours.
    fn on_reaped(&mut self, now: Instant, pid: Pid, exit: Exit) {
        match self.processes.get(&pid).cloned() {
            Some(Owner::Service(name, _)) => self.on_service_reaped(now, &name, exit),
            Some(Owner::Job(id)) => self.on_job_reaped(now, id, exit),
            None => {}
        }
    }

    /// A notification is told to extended connections, and kept for those that come later.
    fn on_notify(&mut self, name: &ServiceName, pid: Pid, mut text: Vec<u8>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        // Otherwise whoever sent this is not of a generation that runs.
        if service.run().first_pid().is_none() {
            return;
        }
        text.truncate(NOTIFY_BYTES_MAX);
        let generation = service.generation;
        let said = readiness(&text).filter(|said| !service.has_said(said));
        if service.notifications.len() >= NOTIFICATIONS_MAX {
            let others = |kept: &Notification| !says_ready(&kept.text);
            let oldest = service.notifications.iter().position(others).unwrap_or(0);
            service.notifications.remove(oldest);
        }
        service.notifications.push_back(Notification { pid, text: text.clone() });
        // It is said once: a successor could not ask for it.
        if let Some(said) = said {
            let name = name.clone();
            let text = said.to_vec();
            self.record(|| Fact::Event(Event::Notify { name, generation, pid, text }));
        }
        let event = Event::Notify { name: name.clone(), generation, pid, text };
        self.broadcast(&event, Audience::Everyone);
    }

    /// A line feed is told like a notification of the main process, whoever of the group wrote it.
    fn on_ready_fd(&mut self, name: &ServiceName, generation: Generation) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(pid) = service.run().first_pid() else {
            return;
        };
        if service.generation == generation && !service.ready_fd_said {
            service.ready_fd_said = true;
            self.on_notify(name, pid, READY_FD_TEXT.into());
        }
    }

    fn on_output(&mut self, name: ServiceName, stream: Stream, offset: u64) {
        if self.services.contains_key(&name) {
            let event = Event::Output { name, stream, offset };
            self.broadcast(&event, Audience::Everyone);
        }
    }

    fn on_output_blocked(&mut self, name: &ServiceName, errno: Option<Errno>) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        if service.output_blocked != errno {
            service.output_blocked = errno;
            let event = Event::OutputBlocked { name: name.clone(), errno };
            self.broadcast(&event, Audience::Everyone);
        }
    }

    /// Forgets a service that is down. Its timer goes with it.
    pub(super) fn forget(&mut self, name: &ServiceName) {
        if let Some(service) = self.services.remove(name)
            && let Some(due) = service.run().deadline()
        {
            self.timers.remove(&(due, Timer::Service(name.clone())));
        }
    }
}
