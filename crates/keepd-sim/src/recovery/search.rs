//! A SIGKILL before every effect of every story, and before every effect after that.

use std::collections::VecDeque;
use std::fmt;

use super::kernel::{Kernel, Kill, Role};
use super::pace::Pace;
use super::sabotage::Sabotage;
use super::story::stories;
use super::walk as random_story;
use super::world::World;
use crate::report::{Broken, Trace};

/// What happens apart from losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tale {
    /// The story of this number, from 0.
    Story(usize),
    /// A random one.
    Walk {
        /// What it follows from.
        seed: u64,
        /// How many things are asked for.
        acts: u32,
    },
}

/// One run: a story, how fast others are, and who is killed when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What happens otherwise.
    pub tale: Tale,
    /// How fast others are.
    pub pace: Pace,
    /// Who is killed when, in order.
    pub kills: Vec<Kill>,
    /// What the shells do in the wrong way.
    pub sabotage: Option<Sabotage>,
}

/// What a run without a breach did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Effects of all processes of ours.
    pub effects: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Faults that came into the recovery from another one.
    pub double_faults: u64,
    /// Ends that were told.
    pub ends: u64,
    /// Ends that were told as unknown.
    pub unknowns: u64,
}

impl Outcome {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.effects += other.effects;
        self.kills += other.kills;
        self.double_faults += other.double_faults;
        self.ends += other.ends;
        self.unknowns += other.unknowns;
    }
}

/// A broken invariant, with everything that is needed to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// What was played.
    pub loss: Loss,
    /// Which invariant, and how it is broken.
    pub broken: Broken,
    /// The last lines of the trace, if one was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(formatter, "{line}")?;
        }
        let Loss { tale, pace, kills, sabotage } = &self.loss;
        let Broken { number, sentence } = &self.broken;
        writeln!(formatter, "{tale:?}, {pace:?}, {kills:?}, {sabotage:?}")?;
        write!(formatter, "{number}: {sentence}")
    }
}

/// Returns the names of the stories, in the order of their numbers.
pub fn story_names() -> Vec<&'static str> {
    stories().iter().map(|story| story.name).collect()
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    Silent,
    /// The last lines, for a breach.
    Last,
    /// Every line, to standard output.
    All,
}

impl Telling {
    fn trace(self) -> Trace {
        match self {
            Self::Silent => Trace::Off,
            Self::Last => Trace::Last(VecDeque::new()),
            Self::All => Trace::Print,
        }
    }
}

/// Plays a story with these losses.
///
/// # Errors
///
/// Returns the first invariant that broke.
///
/// # Panics
///
/// There is no story of this number.
pub fn play(loss: &Loss, telling: Telling) -> Result<Outcome, Box<Breach>> {
    let Loss { tale, pace, kills, sabotage } = loss.clone();
    let (seed, story) = match tale {
        Tale::Story(number) => (7, stories().into_iter().nth(number)),
        Tale::Walk { seed, acts } => (seed, Some(random_story::story(seed, acts))),
    };
    let story = story.expect("the caller names a story");
    let kernel = Kernel::new(seed, pace, kills, sabotage, telling.trace());
    let mut world = World::new(kernel, story);
    let played = world.play();
    let mut kernel = world.kernel.borrow_mut();
    match played {
        Ok(()) => Ok(Outcome {
            effects: kernel.effects,
            kills: kernel.kills_done,
            double_faults: kernel.judge.double_faults,
            ends: kernel.judge.ends_told,
            unknowns: kernel.judge.unknowns,
        }),
        Err(broken) => {
            Err(Box::new(Breach { loss: loss.clone(), broken, trace: kernel.take_trace() }))
        }
    }
}

/// Plays the random story of a seed, with losses at random.
///
/// # Errors
///
/// Returns the first invariant that broke.
pub fn walk(seed: u64, acts: u32, sabotage: Option<Sabotage>) -> Result<Outcome, Box<Breach>> {
    play(&walk_of(seed, acts, sabotage), Telling::Silent)
}

/// Returns what [`walk`] plays.
pub fn walk_of(seed: u64, acts: u32, sabotage: Option<Sabotage>) -> Loss {
    let pace = Pace::Walk { effects_to_kill: random_story::effects_to_kill(seed) };
    Loss { tale: Tale::Walk { seed, acts }, pace, kills: Vec::new(), sabotage }
}

/// How much of all crash points is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Every so manyth effect is a first crash point.
    pub first_step: u64,
    /// Of the first crash points, every so manyth gets second ones; 0: none.
    pub pairs_step: u64,
    /// Every so manyth effect after the first loss is a second crash point.
    pub second_step: u64,
    /// So many effects after the first loss are the last second crash point.
    pub second_max: u64,
}

impl Depth {
    /// Every effect, and every sixteenth one after it, beginning with another one each time: so all
    /// distances up to the last are met.
    pub const ALL: Self = Self { first_step: 1, pairs_step: 1, second_step: 16, second_max: 120 };
    /// What a test run has time for.
    pub const TESTS: Self = Self { first_step: 3, pairs_step: 40, second_step: 7, second_max: 80 };
}

/// Plays a story once for each crash point, and tells each run that broke an invariant to `hear`,
/// which says whether to go on. Returns how many runs there were, and what they did.
///
/// # Errors
///
/// Returns the breach of a run without any loss.
pub fn crash_points(
    story: usize,
    pace: Pace,
    sabotage: Option<Sabotage>,
    depth: Depth,
    hear: &mut dyn FnMut(Box<Breach>) -> bool,
) -> Result<(u64, Outcome), Box<Breach>> {
    let mut loss = Loss { tale: Tale::Story(story), pace, kills: Vec::new(), sabotage };
    let whole = play(&loss, Telling::Silent)?;
    let (mut runs, mut total) = (1, whole);
    let mut try_one = |kills: Vec<Kill>| {
        loss.kills = kills;
        runs += 1;
        match play(&loss, Telling::Silent) {
            Ok(outcome) => {
                total.add(&outcome);
                Ok(outcome)
            }
            Err(breach) => Err(hear(breach)),
        }
    };
    for (index, at) in (0..whole.effects).step_by(depth.first_step.max(1) as usize).enumerate() {
        for whom in Role::ALL {
            let first = Kill { at, whom };
            let outcome = match try_one(vec![first]) {
                Ok(outcome) => outcome,
                Err(true) => continue,
                Err(false) => return Ok((runs, total)),
            };
            let wants_second = depth.pairs_step > 0
                && outcome.kills > 0
                && (index as u64).is_multiple_of(depth.pairs_step);
            if !wants_second {
                continue;
            }
            let last = outcome.effects.saturating_sub(at).min(depth.second_max);
            let step = depth.second_step.max(1);
            for later in (index as u64 % step..last).step_by(step as usize) {
                for whom in Role::ALL {
                    let second = Kill { at: at + later, whom };
                    if try_one(vec![first, second]) == Err(false) {
                        return Ok((runs, total));
                    }
                }
            }
        }
    }
    Ok((runs, total))
}
