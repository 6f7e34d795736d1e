//! The order of services by their dependencies, and what has none: cycles.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::{Origin, Plan, ServiceName};

use crate::diagnostic::Collector;
use crate::service::Draft;

/// The most cycles that are noted: one is enough to refuse a plan, a few help to see the knot.
const CYCLES_MAX: usize = 100;

/// The most services of one cycle that a message names.
const CYCLE_NAMES_MAX: usize = 12;

/// Returns every service after all those it depends on; where that leaves a choice, by name.
pub fn start_order(plan: &Plan) -> Vec<ServiceName> {
    let mut missing: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for (name, spec) in &plan.services {
        missing.insert(name, spec.depends_on.len());
        for dependency in spec.depends_on.keys() {
            dependents.entry(dependency).or_default().push(name);
        }
    }
    let mut free: BTreeSet<&ServiceName> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(plan.services.len());
    while let Some(name) = free.pop_first() {
        order.push(name.clone());
        for dependent in dependents.get(name).into_iter().flatten() {
            if let Some(count) = missing.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    free.insert(dependent);
                }
            }
        }
    }
    order
}

/// What a walk along the edges knows of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    /// On the way from the start to where the walk is.
    Open,
    /// Everything behind it has been seen.
    Closed,
}

/// Notes every cycle, at the edge that closes it. A cycle is written from the service at which the
/// walk enters it, and walks begin in the order of `names`, which is that of the files.
pub(crate) fn refuse_cycles(
    names: &[&ServiceName],
    drafts: &BTreeMap<ServiceName, Draft>,
    collector: &mut Collector,
) {
    let mut visits: BTreeMap<&str, Visit> = BTreeMap::new();
    let mut found = 0;
    for start in names {
        if visits.contains_key(start.as_str()) {
            continue;
        }
        // The way from the start, each service with the edges that are still to be walked.
        let mut way = vec![(start.as_str(), edges_of(drafts, start.as_str()))];
        visits.insert(start.as_str(), Visit::Open);
        while let Some((name, edges)) = way.last_mut() {
            let Some((next, origin)) = edges.next() else {
                visits.insert(name, Visit::Closed);
                way.pop();
                continue;
            };
            match visits.get(next) {
                Some(Visit::Closed) => {}
                Some(Visit::Open) => {
                    let names = way.iter().map(|(name, _)| *name);
                    let cycle: Vec<&str> = names.skip_while(|name| *name != next).collect();
                    let message = format!("cannot order services: {}", shown(&cycle));
                    collector.error(Some(origin.clone()), message, None);
                    found += 1;
                    if found == CYCLES_MAX {
                        return;
                    }
                }
                None => {
                    visits.insert(next, Visit::Open);
                    way.push((next, edges_of(drafts, next)));
                }
            }
        }
    }
}

fn edges_of<'d>(
    drafts: &'d BTreeMap<ServiceName, Draft>,
    name: &str,
) -> impl Iterator<Item = (&'d str, &'d Origin)> + use<'d> {
    let edges = drafts.get(name).into_iter().flat_map(|draft| &draft.edges);
    edges.map(|(name, edge)| (name.as_str(), &edge.origin))
}

/// Writes a cycle as a way that ends where it begins.
fn shown(cycle: &[&str]) -> String {
    let mut names: Vec<String> = cycle.iter().map(|name| (*name).to_owned()).collect();
    if names.len() > CYCLE_NAMES_MAX {
        let left_out = names.len() - CYCLE_NAMES_MAX;
        let half = CYCLE_NAMES_MAX / 2;
        names.splice(half..half + left_out, [format!("({left_out} more)")]);
    }
    names.extend(cycle.first().map(|name| (*name).to_owned()));
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cycle_is_shortened() {
        assert_eq!(shown(&["a"]), "a -> a");
        assert_eq!(shown(&["a", "b"]), "a -> b -> a");
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            shown(&names),
            "s0 -> s1 -> s2 -> s3 -> s4 -> s5 -> (88 more) -> s94 -> s95 -> s96 -> s97 -> s98 -> \
             s99 -> s0"
        );
    }
}
