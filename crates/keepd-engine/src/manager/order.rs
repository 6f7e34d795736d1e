//! Who must be there, or at least be dealt with, before whom: derived from the plan.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::{ServiceName, Until};

use super::Manager;
use super::service::{Manner, Phase, Rest, Service, Want};

/// The relations between services, in the direction in which the plan does not say them.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Who depends on it.
    dependents: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// What it comes after, by its own `after` and the `before` of others.
    predecessors: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// Who comes after it.
    successors: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// What it depends on.
    needs: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// The groups.
    groups: BTreeSet<ServiceName>,
}

/// What stands in the way of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    /// It needs this one to be so.
    Edge(ServiceName, Until),
    /// It comes after this one, which is on its way.
    Order(ServiceName),
    /// The proxy starts nothing; why.
    SafeMode(String),
}

impl Order {
    /// Derives everything from these services.
    pub(super) fn of<'s>(services: impl Iterator<Item = &'s Service>) -> Self {
        let mut order = Self::default();
        for service in services {
            let (name, spec) = (service.name(), &service.spec);
            if service.is_group() {
                order.groups.insert(name.clone());
            }
            for on in spec.depends_on.keys() {
                insert(&mut order.dependents, on, name);
                insert(&mut order.needs, name, on);
            }
            for earlier in &spec.after {
                insert(&mut order.predecessors, name, earlier);
                insert(&mut order.successors, earlier, name);
            }
            for later in &spec.before {
                insert(&mut order.predecessors, later, name);
                insert(&mut order.successors, name, later);
            }
        }
        order
    }

    fn needs(&self, name: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        self.needs.get(name).into_iter().flatten()
    }

    fn dependents(&self, name: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        self.dependents.get(name).into_iter().flatten()
    }

    fn predecessors(&self, name: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        self.predecessors.get(name).into_iter().flatten()
    }

    fn successors(&self, name: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        self.successors.get(name).into_iter().flatten()
    }

    /// Puts everybody into the queue for whom it can matter what became of a service.
    pub(super) fn queue_neighbours(&self, name: &ServiceName, queue: &mut BTreeSet<ServiceName>) {
        queue.extend(self.dependents(name).chain(self.successors(name)).cloned());
        // Who stops waits until nobody needs it any more, also by way of a group: groups are looked
        // through, they are nobody, only a name for others.
        let mut open: Vec<&ServiceName> = self.needs(name).chain(self.predecessors(name)).collect();
        let mut seen = BTreeSet::new();
        while let Some(earlier) = open.pop() {
            queue.insert(earlier.clone());
            if self.groups.contains(earlier) && seen.insert(earlier) {
                open.extend(self.needs(earlier).chain(self.predecessors(earlier)));
            }
        }
    }
}

fn insert(
    relation: &mut BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    from: &ServiceName,
    to: &ServiceName,
) {
    relation.entry(from.clone()).or_default().insert(to.clone());
}

impl Manager {
    /// Derives the relations anew. Services that are going keep theirs until they are down.
    pub(super) fn index_order(&mut self) {
        self.order = Order::of(self.services.values().map(Box::as_ref));
    }

    /// Puts those into the queue that wait for a service, which became hopeless or is so no more.
    pub(super) fn queue_who_waits(&mut self, name: &ServiceName) {
        let waiting = self.order.dependents(name).chain(self.order.successors(name));
        for other in waiting {
            if self.services.get(other).is_some_and(|other| other.phase == Phase::Waiting) {
                self.queue.insert(other.clone());
            }
        }
    }

    /// Returns these services and everything they need, directly or not.
    pub(super) fn with_dependencies(&self, names: &[ServiceName]) -> BTreeSet<ServiceName> {
        let mut found = BTreeSet::new();
        let mut open: Vec<ServiceName> = names.to_vec();
        while let Some(name) = open.pop() {
            if let Some(spec) = self.plan.services.get(&name)
                && found.insert(name)
            {
                open.extend(spec.depends_on.keys().cloned());
            }
        }
        found
    }

    /// Returns these services and everything that cannot be without them, directly or not. A group
    /// is not ended by the end of a member, but who depends on the group is.
    pub(super) fn with_dependents(&self, names: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let mut found = names.clone();
        let mut seen = BTreeSet::new();
        let mut open: Vec<&ServiceName> = names.iter().collect();
        while let Some(name) = open.pop() {
            for dependent in self.order.dependents(name) {
                let Some(service) = self.services.get(dependent) else {
                    continue;
                };
                let required = service.spec.depends_on.get(name).is_none_or(|edge| edge.required);
                if !required || !seen.insert(dependent) {
                    continue;
                }
                if !service.is_group() {
                    found.insert(dependent.clone());
                }
                open.push(dependent);
            }
        }
        found
    }

    /// Returns these services, and for groups everybody they stand for.
    pub(super) fn with_members(&self, names: &[ServiceName]) -> BTreeSet<ServiceName> {
        let mut found = BTreeSet::new();
        let mut open: Vec<ServiceName> = names.to_vec();
        while let Some(name) = open.pop() {
            if let Some(service) = self.services.get(&name)
                && found.insert(name)
                && service.is_group()
            {
                open.extend(service.spec.depends_on.keys().cloned());
            }
        }
        found
    }

    /// Returns everybody these stand for: the services themselves, of groups their members.
    pub fn members(&self, names: &[ServiceName]) -> Vec<ServiceName> {
        let all = self.with_members(names).into_iter();
        all.filter(|name| self.services.get(name).is_some_and(|service| !service.is_group()))
            .collect()
    }

    /// Returns the first thing that stands in the way of a start.
    pub(super) fn first_unmet(&self, service: &Service) -> Option<Unmet> {
        self.unmet(service).next()
    }

    /// Returns everything that stands in the way of a start.
    pub(super) fn unmet(&self, service: &Service) -> impl Iterator<Item = Unmet> {
        let edges = service.spec.depends_on.iter().filter_map(|(on, edge)| {
            let holds = self.services.get(on).is_some_and(|other| {
                let is_there = other.satisfies(edge.until) && !is_on_its_way_down(other);
                is_there || (!edge.required && gave_up(other))
            });
            (!holds).then(|| Unmet::Edge(on.clone(), edge.until))
        });
        let earlier = self.order.predecessors.get(service.name()).into_iter().flatten();
        // Who is there does not go back for somebody who comes late.
        let is_to_come = service.phase != Phase::Gathered;
        let order = earlier.filter(move |other| {
            is_to_come && self.services.get(*other).is_some_and(|other| is_on_its_way(other))
        });
        let safe = self.abilities.safe_mode.clone().filter(|_| !service.is_group());
        safe.into_iter().map(Unmet::SafeMode).chain(edges).chain(order.cloned().map(Unmet::Order))
    }

    /// Reports whether nobody that is also going down still needs it. Who is killed does not wait.
    pub(super) fn dependents_are_down(&self, name: &ServiceName, manner: Manner) -> bool {
        if manner == Manner::Kill {
            return true;
        }
        let mut open = vec![name];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            for other in self.order.dependents(name).chain(self.order.successors(name)) {
                let Some(service) = self.services.get(other) else {
                    continue;
                };
                if service.has_process() && service.want != Want::Up {
                    return false;
                }
                if service.is_group() && seen.insert(other) {
                    open.push(other);
                }
            }
        }
        true
    }
}

/// Reports whether a service that still runs is about to be ended.
fn is_on_its_way_down(service: &Service) -> bool {
    service.has_process() && service.want != Want::Up
}

/// Reports whether nobody has to wait any more for a service to get somewhere.
fn gave_up(service: &Service) -> bool {
    service.is_hopeless
        || service.want != Want::Up
        || matches!(service.phase, Phase::Resting(Rest::Done | Rest::Failed))
}

/// Reports whether a service is being started.
fn is_on_its_way(service: &Service) -> bool {
    let begun = match service.phase {
        Phase::Resting(Rest::Stopped)
        | Phase::Waiting
        | Phase::Preparing { .. }
        | Phase::Commanded { .. }
        | Phase::Leased { until: None, .. }
        | Phase::Starting(_) => true,
        Phase::Resting(Rest::Done | Rest::Failed)
        | Phase::Running(_)
        | Phase::Gathered
        | Phase::Ending(_)
        | Phase::Stuck(_)
        | Phase::Leased { until: Some(_), .. }
        | Phase::Backoff { .. } => false,
    };
    begun && service.want == Want::Up && !service.removed && !service.is_hopeless
}
