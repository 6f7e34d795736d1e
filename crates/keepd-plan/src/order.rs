//! The order of services by what they have to do with each other.

use std::collections::{BTreeMap, BTreeSet};

use keepd_model::{Plan, ServiceName};

/// Returns every service after all those that it depends on or is to start after; where that leaves
/// a choice, by name.
pub fn start_order(plan: &Plan) -> Vec<ServiceName> {
    let mut earlier: BTreeMap<&ServiceName, BTreeSet<&ServiceName>> = BTreeMap::new();
    for (name, spec) in &plan.services {
        let own = earlier.entry(name).or_default();
        own.extend(spec.depends_on.keys().chain(&spec.after));
        for later in &spec.before {
            earlier.entry(later).or_default().insert(name);
        }
    }
    let mut later: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    let mut missing: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    for (name, earlier) in &earlier {
        missing.insert(name, earlier.len());
        for other in earlier {
            later.entry(other).or_default().push(name);
        }
    }
    let mut free: BTreeSet<&ServiceName> =
        missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::with_capacity(plan.services.len());
    while let Some(name) = free.pop_first() {
        order.push(name.clone());
        for other in later.get(name).into_iter().flatten() {
            if let Some(count) = missing.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    free.insert(other);
                }
            }
        }
    }
    order
}
