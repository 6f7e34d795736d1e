//! The connection to the proxy: greeting, dump, adoption, and what each line means.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepd_model::protocol::{
    Command, Event, Lease, Message, Reply, RequestId, RunReport, RunState, VERSION,
};
use keepd_model::{
    ChangeId, CommandLine, Edge, Exit, Generation, Instant, Plan, ServiceName, ServiceSpec, Until,
};

use super::cause::Cause;
use super::interface::{Happening, Output, Said};
use super::lease::Leasing;
use super::record::{self, RECORD_KEY, Record, RecordedPhase, SHUTDOWN_KEY};
use super::reload::Heard;
use super::service::{
    Definition, EndWhy, Ending, Manner, Phase, Rest, Running, Service, Want, fingerprint,
};
use super::unseen::{Recorded, SeenEnd};
use super::{Abilities, MANAGER_NAME, Manager, Sent};

/// The word with which a proxy says that it starts nothing; why stands behind a `=`.
const SAFE_FEATURE: &str = "safe";

/// Why it does, where nothing stands there.
const SAFE_REASON: &str = "keepd's proxy ended too often in a short time";

/// How far the conversation with the proxy is.
#[derive(Debug)]
pub(super) enum Link {
    /// There is no connection.
    Lost,
    /// `proto` was sent.
    Greeting,
    /// A dump is coming in.
    Dumping(Dump),
    /// Everything the proxy knows is known.
    Live,
}

/// A dump that is coming in.
#[derive(Debug, Default)]
pub(super) struct Dump {
    seen: BTreeMap<ServiceName, Seen>,
    /// How many dumps were asked for and did not end yet; the last of them counts.
    open: u64,
}

/// Whether a service that is adopted is in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    /// It is.
    Planned {
        /// It is wanted up where nothing else was recorded.
        wanted: bool,
    },
    /// It was, and is on its way out.
    Removed,
}

/// What a dump says of one service.
#[derive(Debug, Default)]
pub(super) struct Seen {
    definition: Definition,
    notes: BTreeMap<String, Vec<u8>>,
    run: Option<RunReport>,
    /// Ends of generations, as far as nobody acknowledged them.
    ends: BTreeMap<Generation, SeenEnd>,
    /// What is left of its lease.
    lease: Option<Lease>,
    invocation: Option<u128>,
    /// The generations from which READY=1, and the line feed on `ready.fd`, were kept.
    notified: Generation,
    notified_fd: Generation,
    /// What was kept of its reloads, and its last `STATUS=`.
    heard: Heard,
    status: Option<String>,
}

impl Manager {
    /// Reports whether plan and proxy are both known.
    pub fn is_synchronised(&self) -> bool {
        self.booted && matches!(self.link, Link::Live)
    }

    pub(super) fn on_boot(&mut self, plan: Plan) {
        self.plan = plan;
        self.booted = true;
        match &self.link {
            // The dump came first and could not be held against a plan: ask for another one.
            Link::Dumping(Dump { open: 0, .. }) | Link::Live => self.begin_dump(),
            Link::Lost | Link::Greeting | Link::Dumping(_) => {}
        }
    }

    pub(super) fn on_connected(&mut self) {
        self.link = Link::Greeting;
        let id = self.request_id();
        self.outputs
            .push_back(Output::Command { id, command: Command::Proto { version: VERSION } });
    }

    pub(super) fn on_disconnected(&mut self) {
        self.link = Link::Lost;
        self.requests.clear();
        self.doubt_notes();
    }

    pub(super) fn begin_dump(&mut self) {
        // Dumps come one after the other: the end of an earlier one is not the end of this.
        let open = match &self.link {
            Link::Dumping(dump) => dump.open + 1,
            Link::Lost | Link::Greeting | Link::Live => 1,
        };
        let seen = BTreeMap::new();
        self.link = Link::Dumping(Dump { seen, open });
        self.send_for(Command::StateDump, Sent::Dump);
    }

    pub(super) fn on_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::ProtoAccepted { features, .. } => {
                self.abilities = Abilities::of(&features);
                if let Link::Greeting = self.link {
                    self.send(Command::WatchLogs { on: true });
                    self.begin_dump();
                }
            }
            Message::Event(event) => self.on_event(now, event),
            Message::Reply(id, reply) => self.on_reply(now, id, reply),
            // Lines of plain connections: not meant for us.
            Message::Text(_) | Message::Error(_) => {}
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        if let Link::Dumping(_) = self.link {
            self.on_dump_event(now, event);
            return;
        }
        match event {
            Event::Run(report) => self.on_run(now, &report),
            Event::Invocation { name, generation, id } => {
                if let Some(service) = self.services.get_mut(&name)
                    && generation >= service.generation
                {
                    service.invocation = Some(id);
                }
            }
            Event::OutputBlocked { name, errno } => {
                if let Some(service) = self.services.get_mut(&name) {
                    service.output_blocked = errno;
                    self.announce(now, Happening::OutputBlocked { name, errno });
                }
            }
            Event::Signal { signal, count, .. } => self.on_signal(now, signal, count),
            Event::Deleted(name) => self.on_deleted(&name),
            // Readiness text comes as `Input::Notified`; output and the rest concern only the
            // shell.
            Event::Notify { .. } | Event::Output { .. } => {}
            // Echoes of what other controllers set; our own are answered by `ok`.
            Event::Args(..)
            | Event::Tags(..)
            | Event::Set(..)
            | Event::Env(..)
            | Event::Log(..)
            | Event::AutoUp(..)
            | Event::Fds(..)
            | Event::Handle(_)
            | Event::HandleDeleted(_)
            | Event::LogFilter(_)
            | Event::Note(..)
            | Event::Lease(..)
            | Event::Ended { .. }
            | Event::DumpEnd { .. } => {}
        }
    }

    fn on_dump_event(&mut self, now: Instant, event: Event) {
        let Link::Dumping(dump) = &mut self.link else {
            return;
        };
        let seen = &mut dump.seen;
        match event {
            Event::Run(report) => {
                let name = report.name.clone();
                seen.entry(name).or_default().note_run(report);
            }
            Event::Lease(name, _, lease) => seen.entry(name).or_default().lease = Some(lease),
            Event::Ended { name, generation, at, end } => {
                seen.entry(name).or_default().ends.insert(generation, SeenEnd { at, end });
            }
            Event::Invocation { name, id, .. } => {
                seen.entry(name).or_default().invocation = Some(id);
            }
            Event::Args(name, arguments) => {
                seen.entry(name).or_default().definition.note_arguments(&arguments);
            }
            Event::Tags(name, tags) => {
                seen.entry(name).or_default().definition.note_tags(&tags);
            }
            Event::Set(name, attributes) => {
                seen.entry(name).or_default().definition.attributes = Some(attributes);
            }
            Event::Env(name, environment) => {
                seen.entry(name).or_default().definition.note_environment(&environment);
            }
            Event::Log(name, log) => {
                seen.entry(name).or_default().definition.note_log(&log);
            }
            Event::Note(name, key, value) => {
                seen.entry(name).or_default().notes.insert(key, value);
            }
            Event::Deleted(name) => {
                seen.remove(&name);
            }
            Event::DumpEnd { .. } => {
                dump.open = dump.open.saturating_sub(1);
                if dump.open > 0 {
                    // What it said is older than what comes.
                    seen.clear();
                } else if self.booted {
                    let seen = std::mem::take(seen);
                    self.link = Link::Live;
                    self.adopt(now, seen);
                }
            }
            Event::Signal { signal, count, .. } => self.on_signal(now, signal, count),
            Event::Notify { .. }
            | Event::Output { .. }
            | Event::OutputBlocked { .. }
            | Event::Fds(..)
            | Event::Handle(_)
            | Event::HandleDeleted(_)
            | Event::LogFilter(_)
            | Event::AutoUp(..) => {}
        }
    }

    /// A notification during a dump is kept until the service is known; another one is handed
    /// back.
    pub(super) fn keep_while_dumping(
        &mut self,
        now: Instant,
        name: &ServiceName,
        generation: Generation,
        said: Said,
    ) -> Option<Said> {
        let Link::Dumping(dump) = &mut self.link else {
            return Some(said);
        };
        let seen = dump.seen.entry(name.clone()).or_default();
        if said.ready {
            seen.notified = seen.notified.max(generation);
        }
        if said.ready_fd {
            seen.notified_fd = seen.notified_fd.max(generation);
        }
        seen.heard.note(now, generation, &said);
        seen.status = said.status.or(seen.status.take());
        None
    }

    fn on_reply(&mut self, now: Instant, id: RequestId, reply: Reply) {
        let Some(sent) = self.requests.remove(&id) else {
            return;
        };
        match (sent, reply) {
            (Sent::Dump, Reply::Ok | Reply::Exec { .. }) => {}
            (Sent::Dump, Reply::Fail(_)) => self.begin_dump(),
            (Sent::Run | Sent::Start { .. }, Reply::Ok | Reply::Exec { .. }) => {}
            // Refused for good, and said so in the log: no later proxy would take it either.
            (Sent::Noted, Reply::Ok | Reply::Exec { .. } | Reply::Fail(_)) => self.on_noted(id),
            (Sent::Run, Reply::Fail(_)) => self.look_again(),
            (Sent::Start { name, generation, launched }, Reply::Fail(_)) => {
                if let Some(service) = self.services.get_mut(&name)
                    && service.generation == generation
                {
                    service.launched = launched;
                }
                self.look_again();
            }
            (Sent::Unlease { name }, reply) => {
                let accepted = is_accepted(&reply);
                self.on_lease_answered(now, id, &name, accepted);
                if !accepted {
                    self.look_again();
                }
            }
            (Sent::Lease { name }, reply) => {
                self.on_lease_answered(now, id, &name, is_accepted(&reply));
            }
            (Sent::Probe { name, generation, index }, reply) => {
                let outcome = match reply {
                    Reply::Exec { exit: Exit::Code(0), .. } => Ok(()),
                    Reply::Exec { exit, output } => Err(describe_exec(exit, &output)),
                    Reply::Ok => Err("no status came".to_owned()),
                    Reply::Fail(fail) => Err(fail.text),
                };
                self.on_probed(now, &name, generation, index, outcome);
            }
            (Sent::Told { name, change }, reply) => {
                let missed = match reply {
                    Reply::Ok | Reply::Exec { exit: Exit::Code(0), .. } => {
                        self.on_told(now, &name, change);
                        return;
                    }
                    Reply::Exec { exit, output } => {
                        let how = with_output(exit, &output);
                        format!("its reload_command ended with {how}")
                    }
                    Reply::Fail(fail) => format!("it cannot be told: {}", fail.text),
                };
                self.settle_goal(now, &name, change, Some(&missed));
            }
        }
    }

    /// The proxy's state is not what we believed: asks for it, then goes on.
    fn look_again(&mut self) {
        if let Link::Live = self.link {
            self.begin_dump();
        }
    }

    /// Holds the proxy's services against the plan: adopts, begins, removes. One path for a first
    /// start and for a successor.
    fn adopt(&mut self, now: Instant, mut seen: BTreeMap<ServiceName, Seen>) {
        self.queue.clear();
        let own = seen.remove(MANAGER_NAME).unwrap_or_default();
        let noted = record::decode_changes(&own.notes);
        let first = noted.is_empty() && self.changes.is_empty();
        self.changes.restore(noted);
        self.miss_changes(&own.notes);
        let mut adopted = 0;
        let planned: Vec<Arc<ServiceSpec>> = self.plan.services.values().cloned().collect();
        let wanted = self.wanted_at_boot();
        for spec in planned {
            let seen = seen.remove(&spec.name).unwrap_or_default();
            let name = spec.name.clone();
            let membership = Membership::Planned { wanted: wanted.contains(&name) };
            let known = self.adopt_service(now, spec, seen, membership);
            adopted += usize::from(known);
            self.set_timer(&name);
            self.touch(&name);
        }
        for (name, seen) in seen {
            // What carries our record was ours and is gone from the plan; what does not is foreign.
            if !name.is_internal() && seen.notes.contains_key(RECORD_KEY) {
                self.adopt_removed(now, &name, seen);
            }
        }
        self.index_order();
        self.compare_shutdown(own.notes.get(SHUTDOWN_KEY));
        self.unwant_everything();
        self.resume_changes(now);
        self.has_adopted = true;
        self.announce(now, Happening::Synchronised { adopted });
        if first {
            self.open_boot(now);
        }
        self.queue = self.services.keys().cloned().collect();
        self.touched = self.queue.clone();
        // Goals may be about services that are gone.
        self.touched.extend(self.changes.names().cloned());
    }

    /// Returns whether a process was found running.
    fn adopt_service(
        &mut self,
        now: Instant,
        spec: Arc<ServiceSpec>,
        seen: Seen,
        membership: Membership,
    ) -> bool {
        let name = spec.name.clone();
        let record = seen.notes.get(RECORD_KEY).and_then(|note| Record::decode(note));
        let mut service = match self.services.remove(&name) {
            // A dump in the middle of a life: what we know is newer than any note.
            Some(service) => service,
            None => Box::new(Service::new(spec.clone(), now)),
        };
        if let Some(timer) = service.timer.take() {
            self.timers.remove(&(timer, name.clone()));
        }
        let known_before = service.known.record.is_some();
        service.known = seen.definition;
        if let Some(attributes) = &mut service.known.attributes {
            self.share(attributes);
        }
        if let Some(record) = seen.notes.get(RECORD_KEY) {
            service.known.note_record(record);
        }
        service.invocation = seen.invocation.or(service.invocation);
        let record = if known_before { Some(Record::of(&service)) } else { record };
        service.history.restore(&seen.notes);
        service.notified = service.notified.max(seen.notified);
        service.notified_fd = service.notified_fd.max(seen.notified_fd);
        service.reloads.hear_again(seen.heard);
        let run = seen.run;
        if run.as_ref().is_some_and(|run| run.pid.is_some() && run.state != RunState::Down) {
            service.status_text = seen.status.or(service.status_text.take());
        }
        let generation = generation_of(run.as_ref());
        match &record {
            Some(record) => {
                restore(&mut service, record);
                follow_enabled_since(&mut service, record, spec.enabled);
            }
            None if membership == (Membership::Planned { wanted: true }) => {
                service.want = Want::Up;
                service.want_cause = Cause::Boot;
            }
            None => {}
        }
        service.spec = spec;
        service.removed = membership == Membership::Removed;
        service.generation = generation;
        // Whoever is told of ends says that they are known, be it a second time.
        service.acknowledged = match (&record, seen.ends.is_empty()) {
            (Some(record), true) => record.counted().min(generation),
            (Some(_) | None, _) => Generation::NONE,
        };
        self.services.insert(name.clone(), service);
        // What the proxy does not have has no process.
        let run = run.unwrap_or_else(|| RunReport {
            name: name.clone(),
            generation: Generation::NONE,
            state: RunState::Down,
            at: now,
            pid: None,
            ended: None,
            started: None,
            ended_at: None,
        });
        let recorded = self.catch_up(now, &name, &run, &seen.ends, record.as_ref());
        if let Some(service) = self.services.get_mut(&name) {
            let counted = match run.state {
                RunState::Down => run.generation,
                // Its lease was spent on the end before.
                RunState::Pending if run.ended.is_some() => run.generation,
                RunState::Pending
                | RunState::Forked
                | RunState::Up
                | RunState::Stopping
                | RunState::Emptying
                | RunState::Stuck => Generation::new(run.generation.get().saturating_sub(1)),
            };
            service.leasing = Leasing::seen(run.generation, counted, seen.lease.as_ref());
        }
        let is_pending = run.state == RunState::Pending
            && run.ended.is_some()
            && self.adopt_pending(now, &name, &run, &seen.ends, recorded.as_ref());
        let is_running = !is_pending && self.adopt_run(now, &name, &run, recorded.as_ref());
        self.advance_reloads(now, &name);
        is_running
    }

    /// Derives the phase of a service from the proxy's report and the last record.
    fn adopt_run(
        &mut self,
        now: Instant,
        name: &ServiceName,
        run: &RunReport,
        recorded: Option<&Recorded>,
    ) -> bool {
        let Some(service) = self.services.get_mut(name) else {
            return false;
        };
        if recorded.is_none() && matches!(run.state, RunState::Forked | RunState::Up) {
            service.cause = Cause::Foreign;
        }
        match run.state {
            // Pending: its process is being made this very moment (or somebody else gave it
            // `auto_up`).
            RunState::Pending | RunState::Forked => {
                let (generation, pid) = (run.generation, run.pid);
                let timeout = service.spec.ready.timeout;
                let deadline = timeout.map(|timeout| now.saturating_add(timeout));
                service.phase = Phase::Commanded { generation, pid, questions: None, deadline };
                true
            }
            RunState::Up => {
                let Some(pid) = run.pid else { return false };
                let ready = match recorded.map(|recorded| &recorded.phase) {
                    Some(RecordedPhase::Ready(ready)) => Some(*ready),
                    _ => None,
                };
                let (generation, started) = (run.generation, run.at);
                if let Some(ready) = ready {
                    service.phase = Phase::Running(Running { generation, pid, started, ready });
                } else {
                    self.resume_starting(now, name, generation, pid, started);
                }
                self.restart_if_outdated(now, name);
                true
            }
            RunState::Stopping | RunState::Emptying | RunState::Stuck => {
                let (why, ready) = match recorded.map(|recorded| &recorded.phase) {
                    Some(RecordedPhase::Ending(why, ready)) => (why.clone(), *ready),
                    Some(RecordedPhase::Ready(ready)) => (EndWhy::ByItself, Some(*ready)),
                    _ if service.want != Want::Up => (EndWhy::Unwanted, None),
                    _ => (EndWhy::ByItself, None),
                };
                let ending = Ending {
                    generation: run.generation,
                    pid: run.pid,
                    started: recorded.and_then(|recorded| recorded.started),
                    ready,
                    why,
                    pressed: Some(Manner::Polite),
                };
                if run.state == RunState::Stuck && run.pid.is_none() && run.ended.is_none() {
                    service.cause = Cause::Unsure;
                }
                service.phase = match run.state {
                    RunState::Stuck => Phase::Stuck(ending),
                    _ => Phase::Ending(ending),
                };
                true
            }
            RunState::Down => {
                self.adopt_down(now, name, run, recorded);
                false
            }
        }
    }

    fn adopt_down(
        &mut self,
        now: Instant,
        name: &ServiceName,
        run: &RunReport,
        recorded: Option<&Recorded>,
    ) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(recorded) = recorded else {
            // Never started: settle begins.
            service.phase = Phase::Resting(Rest::Stopped);
            return;
        };
        match &recorded.phase {
            RecordedPhase::Resting(rest) => service.phase = Phase::Resting(*rest),
            RecordedPhase::Gathered => service.phase = Phase::Gathered,
            RecordedPhase::Backoff(until) => service.phase = Phase::Backoff { until: *until },
            // On its way to a start that was not commanded: settle begins again.
            RecordedPhase::Begun => service.phase = Phase::Resting(Rest::Stopped),
            // It ended while nobody looked: the end is in the report. No lease has answered it.
            RecordedPhase::Started | RecordedPhase::Ready(_) | RecordedPhase::Ending(..) => {
                service.leasing.forget();
                service.begin_unseen_ending(recorded, run.pid);
                self.on_down(now, name, run);
            }
        }
    }

    /// A service that was ours and is in the plan no more: it is stopped and forgotten.
    fn adopt_removed(&mut self, now: Instant, name: &ServiceName, seen: Seen) {
        let mut spec = ServiceSpec::new(name.clone(), CommandLine::Words(Vec::new()));
        let record = seen.notes.get(RECORD_KEY).and_then(|note| Record::decode(note));
        let needs = record.map(|record| record.needs).unwrap_or_default();
        // What exactly it waited for does not matter any more.
        spec.depends_on = needs.into_iter().map(|on| (on, Edge::until(Until::Started))).collect();
        let cause = Cause::Applied { change: ChangeId(0), keys: Vec::new() };
        self.adopt_service(now, Arc::new(spec), seen, Membership::Removed);
        if let Some(service) = self.services.get_mut(name) {
            service.want = Want::Down(Manner::Polite);
            service.want_cause = cause;
        }
    }

    fn restart_if_outdated(&mut self, now: Instant, name: &ServiceName) {
        // The manager was lost between accepting a plan and restarting this service.
        if let Some(service) = self.services.get(name)
            && service.want == Want::Up
            && !service.removed
            && service.is_outdated()
            && service.kept != Some(fingerprint(&service.spec))
        {
            let cause = Cause::Applied { change: ChangeId(0), keys: Vec::new() };
            self.begin_restart(now, name, cause);
        }
    }
}

impl Abilities {
    /// Reads the words of the answer to `proto`.
    fn of(features: &[String]) -> Self {
        let has = |word: &str| features.iter().any(|feature| feature == word);
        let safe = features.iter().find_map(|feature| match feature.split_once('=') {
            Some((SAFE_FEATURE, why)) => Some(why.to_owned()),
            Some(_) => None,
            None => (feature == SAFE_FEATURE).then(|| SAFE_REASON.to_owned()),
        });
        Self { leases: has("lease"), acknowledgements: has("ack"), safe_mode: safe }
    }
}

impl Seen {
    /// Notes a report of its run. One after another in the same dump is news: what ended meanwhile
    /// was told once, and may have used up some of its lease.
    fn note_run(&mut self, report: RunReport) {
        if let (RunState::Down, Some(end)) = (report.state, report.ended) {
            self.ends.insert(report.generation, SeenEnd { at: Some(report.at), end });
        }
        if self.run.replace(report).is_some() {
            self.lease = None;
        }
    }
}

fn generation_of(run: Option<&RunReport>) -> Generation {
    run.map_or(Generation::NONE, |run| run.generation)
}

fn is_accepted(reply: &Reply) -> bool {
    match reply {
        Reply::Ok | Reply::Exec { .. } => true,
        Reply::Fail(_) => false,
    }
}

fn restore(service: &mut Service, record: &Record) {
    service.want = record.want;
    service.want_cause = record.want_cause.clone();
    service.cause = record.cause.clone();
    service.since = record.since;
    service.end_count = record.end_count;
    service.restart_times = record.restart_times.iter().copied().collect();
    service.held = record.held.iter().cloned().collect();
    if let Some(cause) = &record.start_cause {
        service.start_cause = cause.clone();
    }
    service.restarts = record.restarts;
    service.ready_after = record.ready_after;
    service.last_end = record.last_end.clone().map(Box::new);
    service.launched = record.launched;
    service.kept = record.kept;
    service.needs_new_start = record.needs_new_start;
}

/// A predecessor was lost between accepting a plan and following its `enabled`; an operator's word
/// stands.
fn follow_enabled_since(service: &mut Service, record: &Record, enabled: bool) {
    let by_operator = matches!(service.want_cause, Cause::Operator { .. });
    if record.enabled.is_some_and(|before| before != enabled) && !by_operator {
        service.want = if enabled { Want::Up } else { Want::Down(Manner::Polite) };
        service.want_cause = Cause::Applied { change: ChangeId(0), keys: Vec::new() };
    }
}

/// Keeps a readiness command's own words: they say best why it is not ready.
fn describe_exec(exit: Exit, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{exit}: {}", line.trim().chars().take(200).collect::<String>()),
        None => exit.to_string(),
    }
}

/// Keeps all that a reload command said, on one line: some programs name the cause first, some
/// last.
fn with_output(exit: Exit, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return exit.to_string();
    }
    format!("{exit}: {}", lines.join("; ").chars().take(400).collect::<String>())
}
