//! Services that wait for each other in a circle, by whichever of the three relations.

use std::collections::BTreeMap;

use keepd_model::{Origin, ServiceName};

use crate::diagnostic::{Collector, Diagnostic};
use crate::service::Draft;

/// The most cycles that are noted: one is enough to refuse a plan, a few help to see the knot.
const CYCLES_MAX: usize = 100;

/// The most services of one cycle that a message names.
const CYCLE_NAMES_MAX: usize = 12;

/// The key by which one service comes after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    DependsOn,
    After,
    /// The key stands in the other service.
    Before,
}

impl Relation {
    /// Returns what follows the name of the other service in a message.
    const fn suffix(self) -> &'static str {
        match self {
            Self::DependsOn => "",
            Self::After => " (after)",
            Self::Before => " (before)",
        }
    }
}

/// "This service comes after that one", as written at one place.
struct Step<'d> {
    to: usize,
    relation: Relation,
    origin: &'d Origin,
}

/// Notes every cycle, at the key that closes it. A cycle is written from the service at which the
/// walk enters it, and walks begin in the order of `names`, which is that of the files. Every
/// service that is part of any cycle counts as broken.
pub(crate) fn refuse_cycles(
    names: &[&ServiceName],
    drafts: &BTreeMap<ServiceName, Draft>,
    collector: &mut Collector,
) {
    let graph = graph(names, drafts);
    let mut walk = Walk::new(&graph);
    for start in 0..names.len() {
        walk.run_from(start);
    }
    let name = |node: usize| names[node].as_str();
    for cycle in &walk.cycles {
        let shown: Vec<_> = cycle.nodes.iter().map(|(node, by)| (name(*node), *by)).collect();
        let is_mixed = shown.iter().any(|(_, relation)| *relation != Relation::DependsOn);
        let hint = "\"a -> b\" means that a starts after b; \"(after)\" and \"(before)\" name the \
                    key where it is not depends_on";
        let diagnostic = Diagnostic {
            origin: Some(cycle.origin.clone()),
            message: format!("cannot order services: {}", write(&shown)),
            hint: is_mixed.then(|| hint.to_owned()),
        };
        collector.error_of(shown.iter().map(|(name, _)| *name), diagnostic);
    }
    for (node, step) in walk.knotted {
        if !collector.is_broken(name(node)) {
            let message = format!("cannot order services: {} is in a cycle", name(node));
            collector.consequence(name(node), step.origin.clone(), message);
        }
    }
}

/// Returns for each service, by its place in `names`, what it comes after.
fn graph<'d>(
    names: &[&ServiceName],
    drafts: &'d BTreeMap<ServiceName, Draft>,
) -> Vec<Vec<Step<'d>>> {
    let indices: BTreeMap<&str, usize> =
        names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let mut graph: Vec<Vec<Step<'d>>> = Vec::new();
    graph.resize_with(names.len(), Vec::new);
    for (from, name) in names.iter().enumerate() {
        let Some(draft) = drafts.get(*name) else { continue };
        let edges = draft.edges.iter().map(|(name, edge)| (name, &edge.origin));
        let edges = edges.map(|(name, origin)| (name, Relation::DependsOn, origin));
        let after = draft.after.iter().map(|(name, origin)| (name, Relation::After, origin));
        for (name, relation, origin) in edges.chain(after) {
            if let Some(to) = indices.get(name.as_str()) {
                graph[from].push(Step { to: *to, relation, origin });
            }
        }
        for (name, origin) in &draft.before {
            if let Some(later) = indices.get(name.as_str()) {
                graph[*later].push(Step { to: from, relation: Relation::Before, origin });
            }
        }
    }
    graph
}

/// A way that ends where it begins.
struct Cycle<'g> {
    /// Each service with the relation by which the one before it (for the first, the last) comes
    /// after it.
    nodes: Vec<(usize, Relation)>,
    /// Where the step stands that closes it.
    origin: &'g Origin,
}

/// One service on the way from the start to where the walk is.
struct Visit {
    node: usize,
    /// By which the one before it comes after it.
    entered_by: Relation,
    steps_taken: usize,
}

/// A walk through the whole graph, depth first, without recursion. It finds cycles where a step
/// leads back to the way, and with the numbers of Tarjan's algorithm all services that are part of
/// any.
struct Walk<'g, 'd> {
    graph: &'g [Vec<Step<'d>>],
    /// The how-manieth a service is that the walk came to; none: not yet.
    numbers: Vec<Option<usize>>,
    /// The smallest number that can be come to from a service, among those still pending.
    lowest: Vec<usize>,
    /// Services of which it is not known yet whether they are part of a cycle.
    pending: Vec<usize>,
    is_pending: Vec<bool>,
    /// Services with the same entry can all be come to from each other.
    knots: Vec<Option<usize>>,
    way: Vec<Visit>,
    is_on_way: Vec<bool>,
    count: usize,
    cycles: Vec<Cycle<'d>>,
    /// Every service that is part of a cycle, with a step of it.
    knotted: Vec<(usize, &'g Step<'d>)>,
}

impl<'g, 'd> Walk<'g, 'd> {
    fn new(graph: &'g [Vec<Step<'d>>]) -> Self {
        Self {
            graph,
            numbers: vec![None; graph.len()],
            lowest: vec![0; graph.len()],
            pending: Vec::new(),
            is_pending: vec![false; graph.len()],
            knots: vec![None; graph.len()],
            way: Vec::new(),
            is_on_way: vec![false; graph.len()],
            count: 0,
            cycles: Vec::new(),
            knotted: Vec::new(),
        }
    }

    fn run_from(&mut self, start: usize) {
        if self.numbers[start].is_some() {
            return;
        }
        self.enter(start, Relation::DependsOn);
        while let Some(visit) = self.way.last_mut() {
            let node = visit.node;
            let Some(step) = self.graph[node].get(visit.steps_taken) else {
                self.leave(node);
                continue;
            };
            visit.steps_taken += 1;
            match self.numbers[step.to] {
                None => self.enter(step.to, step.relation),
                Some(number) if self.is_pending[step.to] => {
                    self.lowest[node] = self.lowest[node].min(number);
                    if self.is_on_way[step.to] && self.cycles.len() < CYCLES_MAX {
                        self.note_cycle(step);
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn enter(&mut self, node: usize, entered_by: Relation) {
        self.numbers[node] = Some(self.count);
        self.lowest[node] = self.count;
        self.count += 1;
        self.pending.push(node);
        self.is_pending[node] = true;
        self.is_on_way[node] = true;
        self.way.push(Visit { node, entered_by, steps_taken: 0 });
    }

    fn leave(&mut self, node: usize) {
        self.way.pop();
        self.is_on_way[node] = false;
        if let Some(visit) = self.way.last() {
            self.lowest[visit.node] = self.lowest[visit.node].min(self.lowest[node]);
        }
        if self.numbers[node] != Some(self.lowest[node]) {
            return;
        }
        // It is the first that was come to of those that can all be come to from each other.
        let first = self.pending.iter().rposition(|pending| *pending == node).unwrap_or(0);
        let knot = self.pending.split_off(first);
        for member in &knot {
            self.is_pending[*member] = false;
            self.knots[*member] = Some(node);
        }
        // A service alone is part of a cycle only where a step leads back to it.
        for member in &knot {
            let is_inside = |step: &&Step<'d>| self.knots[step.to] == Some(node);
            if let Some(step) = self.graph[*member].iter().find(is_inside) {
                self.knotted.push((*member, step));
            }
        }
    }

    fn note_cycle(&mut self, closing: &'g Step<'d>) {
        let begins = self.way.iter().position(|visit| visit.node == closing.to);
        let on_way = self.way.iter().skip(begins.unwrap_or(0));
        let mut nodes: Vec<_> = on_way.map(|visit| (visit.node, visit.entered_by)).collect();
        if let Some(first) = nodes.first_mut() {
            first.1 = closing.relation;
        }
        self.cycles.push(Cycle { nodes, origin: closing.origin });
    }
}

/// Writes a cycle as a way that ends where it begins.
fn write(cycle: &[(&str, Relation)]) -> String {
    let mut names: Vec<String> = cycle
        .iter()
        .enumerate()
        .map(|(index, (name, relation))| match index {
            0 => (*name).to_owned(),
            _ => format!("{name}{}", relation.suffix()),
        })
        .collect();
    if names.len() > CYCLE_NAMES_MAX {
        let left_out = names.len() - CYCLE_NAMES_MAX;
        let half = CYCLE_NAMES_MAX / 2;
        names.splice(half..half + left_out, [format!("({left_out} more)")]);
    }
    names.extend(cycle.first().map(|(name, relation)| format!("{name}{}", relation.suffix())));
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cycle_is_shortened() {
        let write = |names: &[&str]| {
            let nodes: Vec<_> = names.iter().map(|name| (*name, Relation::DependsOn)).collect();
            write(&nodes)
        };
        assert_eq!(write(&["a"]), "a -> a");
        assert_eq!(write(&["a", "b"]), "a -> b -> a");
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            write(&names),
            "s0 -> s1 -> s2 -> s3 -> s4 -> s5 -> (88 more) -> s94 -> s95 -> s96 -> s97 -> s98 -> \
             s99 -> s0"
        );
    }

    #[test]
    fn each_step_names_its_relation() {
        let cycle = [("a", Relation::Before), ("b", Relation::DependsOn), ("c", Relation::After)];
        assert_eq!(write(&cycle), "a -> b -> c (after) -> a (before)");
    }

    #[test]
    fn every_member_of_a_knot_is_found() {
        let origin = Origin { file: "k".into(), line: 1, column: 1 };
        let step = |to| Step { to, relation: Relation::DependsOn, origin: &origin };
        // 0 -> 1 -> 2 -> 0, and 0 -> 3 -> 2; 4 leads in, 5 is led to, 6 is its own.
        let graph = [
            vec![step(1), step(3)],
            vec![step(2), step(5)],
            vec![step(0)],
            vec![step(2)],
            vec![step(0)],
            vec![],
            vec![step(6)],
        ];
        let mut walk = Walk::new(&graph);
        for start in 0..graph.len() {
            walk.run_from(start);
        }
        let mut knotted: Vec<usize> = walk.knotted.iter().map(|(node, _)| *node).collect();
        knotted.sort_unstable();
        assert_eq!(knotted, [0, 1, 2, 3, 6]);
    }
}
