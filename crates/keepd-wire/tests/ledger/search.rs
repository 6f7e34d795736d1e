//! Breadth first through every state: the first violation has the shortest story.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{Hash, Hasher};

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

/// Two hashes at once: 128 bits tell a billion states apart, and whole worlds would need gigabytes.
struct Fingerprint(u64, u64);

impl Fingerprint {
    fn of(world: &World) -> (u64, u64) {
        let mut hasher = Self(1, 2);
        world.hash(&mut hasher);
        (hasher.finish(), hasher.1 ^ hasher.1 >> 29)
    }

    fn mix(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
        self.1 = (self.1.rotate_left(23) ^ number).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.1 ^= self.1 >> 31;
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 31
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(number));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }
}

/// Where a state came from.
struct Origin {
    before: usize,
    action: Option<Action>,
}

/// Goes through every state that can be reached, up to the first violation.
pub(crate) fn search(kernel: Kernel, sabotage: Option<Sabotage>) -> Found {
    let first = World::new(kernel, sabotage);
    let mut seen = HashSet::from([Fingerprint::of(&first)]);
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
            if seen.insert(Fingerprint::of(&next)) {
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
