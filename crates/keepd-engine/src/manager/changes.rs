//! Changes: what was asked for, goal by goal, until each is reached or cannot be reached any more.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::protocol::{self, Command, RequestId};
use keepd_model::{ChangeId, Instant, ServiceName};

use super::interface::{Change, Goal, Happening, Outcome, Target, Verb, Who};
use super::record::{change_key, change_parts, encode_change, part_of_goal};
use super::service::{Phase, Service, Want};
use super::{Manager, Purpose, Sent};

/// How many closed changes are kept to be asked about.
const CLOSED_MAX: usize = 64;

/// How many changes may be open. Of more, the oldest is not followed any longer, so that whoever
/// asks again and again for what never comes fills neither our memory nor the proxy's notes.
const OPEN_MAX: usize = 128;

/// How many notes changes may have together before closed ones are forgotten sooner: all that one
/// service may have, but the one that a shutdown is written into.
const NOTES_MAX: usize = protocol::NOTES_MAX - 1;

/// Every change that is open or was closed lately.
#[derive(Debug, Default)]
pub(super) struct Changes {
    by_id: BTreeMap<ChangeId, Change>,
    /// The changes that are open, each with how many of its goals are.
    open: BTreeMap<ChangeId, usize>,
    /// The open goals of each service: which change, and which of its goals.
    goals: BTreeMap<ServiceName, BTreeSet<(ChangeId, usize)>>,
    last: u64,
    /// Notes to be written at the end of the turn.
    unsaved: BTreeSet<(ChangeId, usize)>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Takes over what a predecessor noted; what is known already is newer.
    pub(super) fn restore(&mut self, noted: Vec<Change>) {
        for change in noted {
            self.last = self.last.max(change.id.0);
            if !self.by_id.contains_key(&change.id) {
                self.insert(change);
            }
        }
    }

    pub(super) fn with_token(&self, token: &str) -> Option<ChangeId> {
        let found = self.by_id.values().find(|change| change.token.as_deref() == Some(token));
        found.map(|change| change.id)
    }

    fn insert(&mut self, change: Change) {
        let id = change.id;
        if !change.is_closed() {
            let open = change.goals.iter().enumerate().filter(|(_, goal)| goal.outcome.is_none());
            let mut count = 0;
            for (index, goal) in open {
                count += 1;
                self.goals.entry(goal.name.clone()).or_default().insert((id, index));
            }
            self.open.insert(id, count);
        }
        self.by_id.insert(id, change);
    }

    /// Settles one goal, if it is open.
    fn settle(&mut self, id: ChangeId, index: usize, outcome: Outcome) {
        let Some(change) = self.by_id.get_mut(&id) else {
            return;
        };
        let part = part_of_goal(change, index);
        let Some(goal) = change.goals.get_mut(index).filter(|goal| goal.outcome.is_none()) else {
            return;
        };
        goal.outcome = Some(outcome);
        if let Some(goals) = self.goals.get_mut(&goal.name) {
            goals.remove(&(id, index));
            if goals.is_empty() {
                self.goals.remove(&goal.name);
            }
        }
        if let Some(count) = self.open.get_mut(&id) {
            *count -= 1;
        }
        self.unsaved.insert((id, part));
    }

    /// Returns the open goals of a service.
    fn goals_of(&self, name: &ServiceName) -> Vec<(ChangeId, usize)> {
        self.goals.get(name).into_iter().flatten().copied().collect()
    }

    fn goal(&self, id: ChangeId, index: usize) -> Option<(&Change, &Goal)> {
        let change = self.by_id.get(&id)?;
        change.goals.get(index).map(|goal| (change, goal))
    }

    /// Returns the services that open goals are about.
    pub(super) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.goals.keys()
    }

    /// Returns every open goal.
    fn open_goals(&self) -> impl Iterator<Item = (ChangeId, usize, &Goal)> {
        self.goals
            .values()
            .flatten()
            .filter_map(|(id, index)| self.goal(*id, *index).map(|(_, goal)| (*id, *index, goal)))
    }
}

/// What is asked for, before it has a number.
pub(super) struct Wish {
    pub(super) verb: Verb,
    pub(super) who: Option<Who>,
    pub(super) token: Option<String>,
    pub(super) goals: Vec<Goal>,
}

impl Manager {
    /// Returns a change by number, open or closed lately.
    pub fn change(&self, id: ChangeId) -> Option<&Change> {
        self.changes.by_id.get(&id)
    }

    /// Returns the changes that are known, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.by_id.values()
    }

    /// Returns the number that the next change will have.
    pub(super) fn next_change(&self) -> ChangeId {
        ChangeId(self.changes.last + 1)
    }

    /// Opens a change under the number that [`Manager::next_change`] gave.
    pub(super) fn open_change(&mut self, now: Instant, wish: Wish) -> ChangeId {
        let id = self.next_change();
        self.changes.last = id.0;
        let Wish { verb, who, token, goals } = wish;
        self.touched.extend(goals.iter().map(|goal| goal.name.clone()));
        let change = Change { id, verb, who, token, opened: now, closed: None, goals };
        let parts = change_parts(&change);
        self.changes.insert(change);
        self.announce(now, Happening::ChangeOpened(id));
        self.changes.unsaved.extend((0..parts).map(|part| (id, part)));
        self.give_up_oldest();
        self.drop_old_changes();
        id
    }

    /// Settles what is open of the oldest changes, if too many are open, or if they need too many
    /// notes. What they asked for is wanted as before.
    fn give_up_oldest(&mut self) {
        let mut count = self.changes.open.len();
        let mut notes: usize =
            self.changes.open.keys().filter_map(|id| self.change(*id)).map(change_parts).sum();
        let mut oldest = Vec::new();
        for id in self.changes.open.keys() {
            if count <= 1 || (count <= OPEN_MAX && notes <= NOTES_MAX) {
                break;
            }
            count -= 1;
            notes -= self.change(*id).map_or(0, change_parts);
            oldest.push(*id);
        }
        let of_oldest = |(id, ..): &(ChangeId, usize, &Goal)| oldest.contains(id);
        let goals = self.changes.open_goals().filter(of_oldest);
        let goals: Vec<(ChangeId, usize)> = goals.map(|(id, index, _)| (id, index)).collect();
        for (id, index) in goals {
            let text = "too many changes are open, and this is one of the oldest";
            self.changes.settle(id, index, Outcome::Missed(text.to_owned()));
        }
    }

    fn drop_old_changes(&mut self) {
        let mut closed = self.changes.by_id.len() - self.changes.open.len();
        let mut notes: usize = self.changes.by_id.values().map(change_parts).sum();
        let mut old = Vec::new();
        for change in self.changes.by_id.values().filter(|change| change.is_closed()) {
            if closed <= CLOSED_MAX && notes <= NOTES_MAX {
                break;
            }
            closed -= 1;
            notes -= change_parts(change);
            old.push((change.id, change_parts(change)));
        }
        for (id, parts) in old {
            self.changes.by_id.remove(&id);
            for part in 0..parts {
                self.note(change_key(id, part), Vec::new());
            }
        }
    }

    /// Writes down the changes that moved in this turn. They come after the records of the
    /// services: a successor that finds a change finds everything that was wanted by it. Returns
    /// the last note.
    pub(super) fn write_changes(&mut self) -> Option<RequestId> {
        let mut last = None;
        for (id, part) in std::mem::take(&mut self.changes.unsaved) {
            if let Some(change) = self.changes.by_id.get(&id) {
                let value = encode_change(change, part);
                last = Some(self.note(change_key(id, part), value));
            }
        }
        last
    }

    /// Marks what the proxy's notes do not say of our changes: it was lost before it had them.
    pub(super) fn miss_changes(&mut self, notes: &BTreeMap<String, Vec<u8>>) {
        for change in self.changes.by_id.values() {
            let is_missing = |part: &usize| {
                let known = notes.get(&change_key(change.id, *part));
                known.is_none_or(|known| *known != encode_change(change, *part))
            };
            let missing = (0..change_parts(change)).filter(is_missing);
            self.changes.unsaved.extend(missing.map(|part| (change.id, part)));
        }
    }

    /// Writes a note that concerns everything.
    pub(super) fn note(&mut self, key: String, value: Vec<u8>) -> RequestId {
        self.send(Command::ServiceNote { name: Self::manager_name(), key, value })
    }

    /// Settles the goals of services that were touched in this turn. A service that became hopeless
    /// because of another one was touched, too.
    pub(super) fn settle_goals(&mut self, now: Instant) {
        let mut settled = Vec::new();
        for name in &self.touched {
            for (id, index) in self.changes.goals_of(name) {
                if let Some((change, goal)) = self.changes.goal(id, index)
                    && let Some(outcome) = self.judge(goal, now, change.opened)
                {
                    settled.push((id, index, outcome));
                }
            }
        }
        for (id, index, outcome) in settled {
            self.changes.settle(id, index, outcome);
        }
        let complete = self.changes.open.iter().filter(|(_, goals)| **goals == 0);
        for id in complete.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.changes.open.remove(&id);
            if let Some(change) = self.changes.by_id.get_mut(&id) {
                change.closed = Some(now);
            }
            self.changes.unsaved.insert((id, 0));
            self.announce(now, Happening::ChangeClosed(id));
            self.drop_old_changes();
        }
    }

    /// Returns what became of a goal, or `None` while it is open.
    fn judge(&self, goal: &Goal, now: Instant, opened: Instant) -> Option<Outcome> {
        let reached = Outcome::Reached(now.saturating_since(opened));
        let missed = |text: &str| Some(Outcome::Missed(text.to_owned()));
        let service = match (self.services.get(&goal.name), goal.target) {
            (None, Target::Gone | Target::Down) => return Some(reached),
            (None, Target::Up | Target::UpAfter(_) | Target::Reloaded | Target::Signalled) => {
                return missed("it is gone from the configuration");
            }
            (Some(service), _) => service,
        };
        match goal.target {
            Target::Up => self.judge_up(service, reached),
            Target::UpAfter(generation) if service.generation > generation => {
                self.judge_up(service, reached)
            }
            Target::UpAfter(_) => match service.want {
                Want::Down(_) => missed("it was stopped meanwhile"),
                Want::Up => self.hopeless(service).map(Outcome::Missed),
            },
            Target::Down => match (&service.phase, service.want) {
                (Phase::Resting(_), _) => Some(reached),
                (Phase::Stuck(_), _) => missed("something of it is left long after KILL"),
                (_, Want::Up) => missed("it was started meanwhile"),
                (_, Want::Down(_)) => None,
            },
            Target::Gone => match service.phase {
                _ if !service.removed => missed("it came back into the configuration"),
                Phase::Stuck(_) => missed("something of it is left long after KILL"),
                _ => None,
            },
            // The answer of the proxy settles it, unless the one who waited for it was lost.
            Target::Reloaded | Target::Signalled => None,
        }
    }

    fn judge_up(&self, service: &Service, reached: Outcome) -> Option<Outcome> {
        if service.is_there() {
            return Some(reached);
        }
        if let Want::Down(_) = service.want {
            return Some(Outcome::Missed("it was stopped meanwhile".to_owned()));
        }
        self.hopeless(service).map(Outcome::Missed)
    }

    /// Settles the goal of one service in one change from outside the judgement.
    pub(super) fn settle_goal(
        &mut self,
        now: Instant,
        name: &ServiceName,
        id: ChangeId,
        missed: Option<&str>,
    ) {
        let goals = self.changes.goals_of(name);
        for (id, index) in goals.into_iter().filter(|(of, _)| *of == id) {
            let Some((change, _)) = self.changes.goal(id, index) else {
                continue;
            };
            let outcome = match missed {
                Some(text) => Outcome::Missed(text.to_owned()),
                None => Outcome::Reached(now.saturating_since(change.opened)),
            };
            self.changes.settle(id, index, outcome);
        }
        if let Some(service) = self.services.get_mut(name) {
            service.reloads.forget(id);
        }
        self.set_timer(name);
        self.touched.insert(name.clone());
    }

    /// Goes on with what a predecessor left open: restarts that were not begun are begun, and what
    /// only it could have heard of is given up.
    pub(super) fn resume_changes(&mut self, now: Instant) {
        let sent = self.requests.values().filter_map(Sent::waiting_goal);
        let prepared = self.tickets.values().filter_map(Purpose::waiting_goal);
        let heard = self.services.iter().flat_map(|(name, service)| {
            service.reloads.listening().map(|change| (name.clone(), change))
        });
        let waiting: BTreeSet<(ServiceName, ChangeId)> =
            sent.chain(prepared).chain(heard).collect();
        let mut restarts = Vec::new();
        let mut given_up = Vec::new();
        for (id, _, goal) in self.changes.open_goals() {
            match goal.target {
                Target::Reloaded | Target::Signalled => {
                    if !waiting.contains(&(goal.name.clone(), id)) {
                        given_up.push((id, goal.name.clone()));
                    }
                }
                Target::UpAfter(_) => restarts.push((goal.name.clone(), id)),
                Target::Up | Target::Down | Target::Gone => {}
            }
        }
        for (id, name) in given_up {
            let text = if self.has_adopted {
                "the connection to keepd's proxy was lost before the answer came"
            } else {
                "keepd's manager was replaced before the answer came"
            };
            self.settle_goal(now, &name, id, Some(text));
        }
        for (name, id) in restarts {
            if self.is_before_restart(&name, id) {
                self.check_restart(&name, id);
            } else {
                self.restart_rested(now, &name, id);
            }
        }
    }

    /// What was to be restarted may have ended before it was asked to, and rests: it is started.
    pub(super) fn restart_rested(&mut self, now: Instant, name: &ServiceName, id: ChangeId) {
        let rests = self.services.get(name).is_some_and(|service| {
            service.want == Want::Up && matches!(service.phase, Phase::Resting(_))
        });
        if rests && self.restart_is_open(name, id) {
            let cause = self.restart_cause(id);
            self.begin_restart(now, name, cause);
        }
    }

    /// A run ended by itself (or by a predecessor that was lost before it wrote down why): whoever
    /// waits for a restart of it gets a start.
    pub(super) fn restart_what_rests(&mut self, now: Instant, name: &ServiceName) {
        for (id, _) in self.changes.goals_of(name) {
            self.restart_rested(now, name, id);
        }
    }

    /// Reports whether a change waits for a later generation of a service than the present one.
    fn restart_is_open(&self, name: &ServiceName, id: ChangeId) -> bool {
        let generation = self.services.get(name).map(|service| service.generation);
        let goals = self.changes.goals_of(name);
        goals.into_iter().filter(|(of, _)| *of == id).any(|(id, index)| {
            self.changes.goal(id, index).is_some_and(|(_, goal)| match goal.target {
                Target::UpAfter(old) => generation <= Some(old),
                Target::Up | Target::Down | Target::Reloaded | Target::Signalled | Target::Gone => {
                    false
                }
            })
        })
    }

    /// Reports whether a change still has to restart a service that runs and is wanted.
    pub(super) fn is_before_restart(&self, name: &ServiceName, id: ChangeId) -> bool {
        let Some(service) = self.services.get(name) else {
            return false;
        };
        let begun = match service.phase {
            Phase::Commanded { .. } | Phase::Starting(_) | Phase::Running(_) => false,
            Phase::Resting(_)
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Ending(_)
            | Phase::Stuck(_)
            | Phase::Gathered
            | Phase::Leased { .. }
            | Phase::Backoff { .. } => true,
        };
        !begun && service.want == Want::Up && self.restart_is_open(name, id)
    }
}
