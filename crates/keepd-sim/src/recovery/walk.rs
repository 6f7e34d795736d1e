//! Random stories: services of every kind, everything that can be asked for, in any order.

use keepd_model::protocol::{Lease, LeaseAfter};
use keepd_model::{Errno, Exit, Signal, SpawnFailure, SpawnStep};

use super::story::{Act, Behaviour, Story, service};
use crate::random::Random;

/// The services of a walk.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const NOTES: [&str; 4] = ["one", "two", "three", ""];
/// How many generations have a behaviour of their own; every later one runs until it is stopped.
const BEHAVIOURS: usize = 12;

fn behaviour(random: &mut Random) -> Behaviour {
    let no_file = SpawnFailure { step: SpawnStep::Exec, errno: Errno::ENOENT };
    let no_user = SpawnFailure { step: SpawnStep::Uid, errno: Errno(1) };
    let number = random.pick(&[2, 6, 11]);
    let signal = Signal::new(number).expect("signal numbers are from 1 to 64");
    let exits = [Exit::Code(0), Exit::Code(1), Exit::Signal { signal, core: number == 11 }];
    let lasts = random.weighted(&[(3, (0, 2)), (4, (2, 200)), (2, (200, 3_000))]);
    Behaviour {
        cannot_clone: random.chance(6),
        failure: random.chance(12).then(|| random.pick(&[no_file, no_user])),
        ends: random.chance(60).then(|| (random.millis(lasts.0, lasts.1), random.pick(&exits))),
        ignores_term: random.chance(20),
        helpers: u32::from(random.chance(25)),
        lines: random.between(0, 4) as u32,
    }
}

fn lease(random: &mut Random) -> Lease {
    let count = random.between(1, 5);
    Lease {
        after: random.pick(&[LeaseAfter::Any, LeaseAfter::Failure]),
        successes: Vec::new(),
        delays: (0..count).map(|_| random.millis(0, 100)).collect(),
    }
}

fn act(random: &mut Random) -> Act {
    let name = random.pick(&NAMES);
    match random.between(0, 99) {
        0..=19 => Act::Up(name),
        20..=29 => Act::Down(name),
        30..=37 => Act::Change(name),
        38..=43 => Act::Note(name, random.pick(&NOTES)),
        44..=53 => Act::Lease(name, lease(random)),
        54..=57 => Act::Delete(name),
        58..=69 => Act::KillMain(name),
        70..=74 => Act::Stranger(random.between(0, 500)),
        75..=78 => Act::Wait(random.between(1_000, 12_000)),
        _ => Act::Wait(random.between(0, 150)),
    }
}

/// Returns the random story of a seed.
pub(crate) fn story(seed: u64, acts: u32) -> Story {
    let mut random = Random::new(seed);
    let behaviours = NAMES.iter().map(|name| {
        let mut all: Vec<Behaviour> = (0..BEHAVIOURS).map(|_| behaviour(&mut random)).collect();
        all.push(Behaviour { lines: 2, ..Behaviour::default() });
        (service(name), all)
    });
    let behaviours = behaviours.collect();
    let acts = (0..acts).map(|_| act(&mut random)).collect();
    Story { name: "walk", behaviours, acts }
}

/// Returns how many effects there are to a SIGKILL in the walk of a seed.
pub(crate) fn effects_to_kill(seed: u64) -> u64 {
    [150, 300, 300, 600, 1_000, 3_000, 10_000][(seed % 7) as usize]
}
