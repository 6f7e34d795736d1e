//! Breadth first through every state: the first violation has the shortest story.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Action, Kernel, Sabotage, Violation, World};

/// What a search found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) ends: usize,
    pub(crate) violation: Option<Violation>,
    story: Vec<Action>,
}

impl Found {
    /// Returns the violation with everything that led there.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{:?} after {} states:", self.violation, self.states);
        for action in &self.story {
            write!(text, "\n  {action:?}").unwrap();
        }
        text
    }
}

/// 128 bits tell a billion states apart; whole worlds would need gigabytes.
fn fingerprint(world: &World) -> (u64, u64) {
    let hash = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        world.hash(&mut hasher);
        hasher.finish()
    };
    (hash(1), hash(2))
}

/// Where a state came from.
struct Origin {
    before: usize,
    action: Option<Action>,
}

/// Goes through every state that can be reached, up to the first violation.
pub(crate) fn search(kernel: Kernel, sabotage: Option<Sabotage>) -> Found {
    let first = World::new(kernel, sabotage);
    let mut seen = HashSet::from([fingerprint(&first)]);
    let mut origins = vec![Origin { before: 0, action: None }];
    let mut waiting = VecDeque::from([(first, 0)]);
    let mut ends = 0;
    while let Some((world, index)) = waiting.pop_front() {
        let actions = world.actions();
        // Somebody may always be killed; that is no way on.
        if !actions.iter().any(|action| !matches!(action, Action::Kill(_))) {
            ends += 1;
            if let Err(violation) = world.judge_end() {
                let story = story(&origins, index, None);
                return Found { states: seen.len(), ends, violation: Some(violation), story };
            }
        }
        for action in actions {
            let mut next = world.clone();
            if let Err(violation) = next.apply(action) {
                let story = story(&origins, index, Some(action));
                return Found { states: seen.len(), ends, violation: Some(violation), story };
            }
            if seen.insert(fingerprint(&next)) {
                origins.push(Origin { before: index, action: Some(action) });
                waiting.push_back((next, origins.len() - 1));
            }
        }
    }
    Found { states: seen.len(), ends, violation: None, story: Vec::new() }
}

fn story(origins: &[Origin], mut index: usize, last: Option<Action>) -> Vec<Action> {
    let mut story = Vec::from_iter(last);
    while let Some(action) = origins[index].action {
        story.push(action);
        index = origins[index].before;
    }
    story.reverse();
    story
}
