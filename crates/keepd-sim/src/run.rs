//! One seed from beginning to end.

use std::time::Duration;

use keepd_model::Instant;

use crate::report::{Failure, Report, Trace};
use crate::sabotage::Sabotage;
use crate::world::{Step, World};

/// How many random actions a run has unless told otherwise.
pub const ACTIONS_DEFAULT: u32 = 400;

/// Plays a seed.
///
/// # Errors
///
/// Returns the first invariant that broke, without a trace: [`explain`] plays it again with one.
pub fn run(seed: u64, actions: u32) -> Result<Report, Failure> {
    play(seed, actions, None, Trace::Off)
}

/// Plays a seed in a world that is broken on purpose.
///
/// # Errors
///
/// Returns the invariant that broke: that is what it is for.
pub fn run_sabotaged(seed: u64, actions: u32, sabotage: Sabotage) -> Result<Report, Failure> {
    play(seed, actions, Some(sabotage), Trace::Off)
}

/// Plays a seed and keeps the last lines of its trace for a failure.
///
/// # Errors
///
/// Returns the first invariant that broke.
pub fn explain(seed: u64, actions: u32) -> Result<Report, Failure> {
    play(seed, actions, None, Trace::Last(Default::default()))
}

/// Plays a seed and prints every line of its trace.
///
/// # Errors
///
/// Returns the first invariant that broke.
pub fn print(seed: u64, actions: u32) -> Result<Report, Failure> {
    play(seed, actions, None, Trace::Print)
}

fn play(
    seed: u64,
    actions: u32,
    sabotage: Option<Sabotage>,
    trace: Trace,
) -> Result<Report, Failure> {
    let mut world = World::new(seed, sabotage, trace);
    match play_world(&mut world, actions) {
        Ok(()) => Ok(Report {
            events: world.events,
            faults: world.faults.clone(),
            lasted: world.now.saturating_since(Instant::ZERO),
            ended: world.ended,
        }),
        Err(broken) => {
            Err(Failure { seed, actions, event: world.events, broken, trace: world.take_trace() })
        }
    }
}

fn play_world(world: &mut World, actions: u32) -> Step {
    world.advance(Duration::from_millis(200))?;
    for _ in 0..actions {
        if world.ended.is_some() {
            break;
        }
        world.act()?;
    }
    world.converge()?;
    if world.ended.is_none() {
        world.finish()?;
    }
    Ok(())
}
