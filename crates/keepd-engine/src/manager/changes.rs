//! Changes: what was asked for, goal by goal, until each is reached or cannot be reached any more.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::protocol::Command;
use keepd_model::{ChangeId, Instant, ServiceName};

use super::explain;
use super::interface::{Change, Goal, Happening, Outcome, Target, Verb, Who};
use super::record::{CHANGE_KEY, decode_change, encode_change};
use super::service::{Phase, Rest, Service, Want};
use super::{Manager, Sent};

/// How many closed changes are kept to be asked about.
const CLOSED_MAX: usize = 64;

/// Every change that is open or was closed lately.
#[derive(Debug, Default)]
pub(super) struct Changes {
    by_id: BTreeMap<ChangeId, Change>,
    open: BTreeSet<ChangeId>,
    last: u64,
    /// To be written down at the end of the turn.
    unsaved: BTreeSet<ChangeId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Takes over what a predecessor noted; what is known already is newer.
    pub(super) fn restore(&mut self, noted: Vec<Change>) {
        for change in noted {
            self.last = self.last.max(change.id.0);
            if self.by_id.contains_key(&change.id) {
                continue;
            }
            if !change.is_closed() {
                self.open.insert(change.id);
            }
            self.by_id.insert(change.id, change);
        }
    }

    pub(super) fn with_token(&self, token: &str) -> Option<ChangeId> {
        let found = self.by_id.values().find(|change| change.token.as_deref() == Some(token));
        found.map(|change| change.id)
    }
}

/// Reads the notes of changes among those on the manager.
pub(super) fn decode_notes(notes: &BTreeMap<String, Vec<u8>>) -> Vec<Change> {
    let change = |(key, value): (&String, &Vec<u8>)| {
        let id = ChangeId(key.strip_prefix(CHANGE_KEY)?.parse().ok()?);
        decode_change(id, value)
    };
    notes.iter().filter_map(change).collect()
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
        self.changes.by_id.insert(id, change);
        self.changes.open.insert(id);
        self.announce(now, Happening::ChangeOpened(id));
        self.changes.unsaved.insert(id);
        self.drop_old_changes();
        id
    }

    fn drop_old_changes(&mut self) {
        let closed = self.changes.by_id.len() - self.changes.open.len();
        let surplus = closed.saturating_sub(CLOSED_MAX);
        let old: Vec<ChangeId> = self
            .changes
            .by_id
            .values()
            .filter(|change| change.is_closed())
            .map(|change| change.id)
            .take(surplus)
            .collect();
        for id in old {
            self.changes.by_id.remove(&id);
            self.note(format!("{CHANGE_KEY}{id}"), Vec::new());
        }
    }

    /// Writes down the changes that moved in this turn. They come after the records of the
    /// services: a successor that finds a change finds everything that was wanted by it.
    pub(super) fn write_changes(&mut self) {
        for id in std::mem::take(&mut self.changes.unsaved) {
            if let Some(change) = self.changes.by_id.get(&id) {
                let value = encode_change(change);
                self.note(format!("{CHANGE_KEY}{id}"), value);
            }
        }
    }

    /// Writes a note that concerns everything.
    pub(super) fn note(&mut self, key: String, value: Vec<u8>) {
        self.send(Command::ServiceNote { name: Self::manager_name(), key, value });
    }

    /// Settles the goals of services that were touched in this turn.
    pub(super) fn settle_goals(&mut self, now: Instant) {
        let open: Vec<ChangeId> = self.changes.open.iter().copied().collect();
        for id in open {
            self.settle_change(now, id);
        }
    }

    fn settle_change(&mut self, now: Instant, id: ChangeId) {
        let Some(change) = self.changes.by_id.get(&id) else {
            return;
        };
        let opened = change.opened;
        let mut outcomes = Vec::new();
        for (index, goal) in change.goals.iter().enumerate() {
            // What another service did can make a goal hopeless, so all open goals are looked at as
            // soon as anything moved; nothing moved means nothing to look at.
            if goal.outcome.is_none()
                && !self.touched.is_empty()
                && let Some(outcome) = self.judge(goal, now, opened)
            {
                outcomes.push((index, outcome));
            }
        }
        let moved = !outcomes.is_empty();
        let Some(change) = self.changes.by_id.get_mut(&id) else {
            return;
        };
        for (index, outcome) in outcomes {
            change.goals[index].outcome = Some(outcome);
        }
        if change.goals.iter().all(|goal| goal.outcome.is_some()) {
            change.closed = Some(now);
            self.changes.open.remove(&id);
            self.changes.unsaved.insert(id);
            self.announce(now, Happening::ChangeClosed(id));
            self.drop_old_changes();
        } else if moved {
            self.changes.unsaved.insert(id);
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
                Want::Up => self.hopeless(service, 0).map(Outcome::Missed),
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
        let hopeless = self.hopeless(service, 0)?;
        Some(Outcome::Missed(hopeless))
    }

    /// Returns why a service that is wanted up does not get there by itself soon, if that is so.
    pub(super) fn hopeless(&self, service: &Service, depth: usize) -> Option<String> {
        match &service.phase {
            Phase::Resting(Rest::Failed) => Some(explain::cause_clause(&service.cause)),
            Phase::Backoff { .. } if service.end_count > 1 => {
                Some(explain::cause_clause(&service.cause))
            }
            Phase::Resting(Rest::Stopped) if service.want != Want::Up => {
                Some("it is stopped".to_owned())
            }
            // A plan has no cycles; the bound keeps a broken one from hanging us.
            Phase::Waiting if depth < self.services.len() => {
                service.spec.depends_on.iter().find_map(|(on, edge)| {
                    let other = self.services.get(on)?;
                    if other.satisfies(edge.until) {
                        return None;
                    }
                    // A daemon that ended with success is done, and does not get ready by itself.
                    if other.phase == Phase::Resting(Rest::Done) {
                        let until = edge.until;
                        return Some(format!("it waits for \"{on}\" to be {until}, which is done"));
                    }
                    let why = self.hopeless(other, depth + 1)?;
                    Some(format!("it waits for \"{on}\", of which: {why}"))
                })
            }
            Phase::Resting(_)
            | Phase::Backoff { .. }
            | Phase::Waiting
            | Phase::Preparing { .. }
            | Phase::Commanded { .. }
            | Phase::Starting(_)
            | Phase::Running(_)
            | Phase::Ending(_) => None,
            Phase::Stuck(_) => Some("something of it is left long after KILL".to_owned()),
        }
    }

    /// Settles the goal of one service in one change from outside the judgement.
    pub(super) fn settle_goal(
        &mut self,
        now: Instant,
        name: &ServiceName,
        id: ChangeId,
        missed: Option<&str>,
    ) {
        let Some(change) = self.changes.by_id.get_mut(&id) else {
            return;
        };
        let reached = Outcome::Reached(now.saturating_since(change.opened));
        for goal in &mut change.goals {
            if goal.name == *name && goal.outcome.is_none() {
                goal.outcome = Some(match missed {
                    Some(text) => Outcome::Missed(text.to_owned()),
                    None => reached.clone(),
                });
            }
        }
        self.touched.insert(name.clone());
    }

    /// Goes on with what a predecessor left open: restarts that were not begun are begun, and what
    /// only it could have heard of is given up.
    pub(super) fn resume_changes(&mut self, now: Instant) {
        let waiting: BTreeSet<(ServiceName, ChangeId)> = self
            .requests
            .values()
            .filter_map(|sent| match sent {
                Sent::Reload { name, change } => Some((name.clone(), *change)),
                Sent::Dump | Sent::Probe { .. } | Sent::Run => None,
            })
            .collect();
        let mut restarts = Vec::new();
        for id in &self.changes.open {
            let Some(change) = self.changes.by_id.get_mut(id) else {
                continue;
            };
            for goal in change.goals.iter_mut().filter(|goal| goal.outcome.is_none()) {
                match goal.target {
                    Target::Reloaded | Target::Signalled
                        if !waiting.contains(&(goal.name.clone(), *id)) =>
                    {
                        let text = "keepd's manager was replaced before the answer came";
                        goal.outcome = Some(Outcome::Missed(text.to_owned()));
                    }
                    Target::UpAfter(_) => restarts.push((goal.name.clone(), *id)),
                    Target::Reloaded
                    | Target::Signalled
                    | Target::Up
                    | Target::Down
                    | Target::Gone => {}
                }
            }
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
        let open: Vec<ChangeId> = self.changes.open.iter().copied().collect();
        for id in open {
            self.restart_rested(now, name, id);
        }
    }

    /// Reports whether a change waits for a later generation of a service than the present one.
    fn restart_is_open(&self, name: &ServiceName, id: ChangeId) -> bool {
        let generation = self.services.get(name).map(|service| service.generation);
        self.change(id).is_some_and(|change| {
            change.goals.iter().any(|goal| match goal.target {
                Target::UpAfter(old) => {
                    goal.name == *name && goal.outcome.is_none() && generation <= Some(old)
                }
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
            | Phase::Backoff { .. } => true,
        };
        !begun && service.want == Want::Up && self.restart_is_open(name, id)
    }
}
