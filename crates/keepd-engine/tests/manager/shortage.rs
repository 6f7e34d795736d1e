//! Behaviour 8.10: starts that the system has no room for.

use std::time::Duration;

use keepd_model::{RestartLimit, RestartPolicy, State};

use crate::world::*;

fn count(world: &World, state: State, services: usize) -> usize {
    (0..services).filter(|number| world.state(&format!("s{number}")) == state).count()
}

fn crowd(services: usize) -> World {
    let mut world = World::boot(plan([]));
    world.room = Some(0);
    let specs = (0..services).map(|number| daemon(&format!("s{number}")));
    world.apply(plan(specs), true);
    world
}

#[test]
fn a_start_without_room_is_tried_again_whatever_the_policy() {
    let mut web = daemon("web");
    web.restart = RestartPolicy::Never;
    web.restart_limit = RestartLimit { count: 1, window: secs(3600) };
    let mut world = World::boot(plan([]));
    world.room = Some(0);
    world.apply(plan([web]), true);
    let mut times = Vec::new();
    for _ in 0..9 {
        assert_eq!(world.state("web"), State::Backoff);
        let (before, since) = (world.generation("web"), world.now);
        while world.generation("web") == before {
            world.advance(ms(1));
        }
        times.push(world.now.saturating_since(since));
    }
    let longest = [50, 100, 200, 400, 800, 1000, 1000, 1000, 1000].map(ms);
    for (time, longest) in times.iter().zip(longest) {
        assert!((longest.mul_f64(0.79)..=longest).contains(time), "{times:?}");
    }
    let why = world.why("web").join("\n");
    assert!(why.starts_with("web is in backoff, 11th try in "), "{why}");
    assert!(why.contains("because step clone: resource temporarily unavailable"), "{why}");
    assert!(why.contains("its restart policy is not asked, and nothing is counted"), "{why}");
    assert_eq!(world.status("web").restarts, 0);

    world.room = None;
    world.advance(secs(1));
    assert_eq!(world.state("web"), State::Ready);
    // An end of its own is the first one.
    world.exits("web", keepd_model::Exit::Code(1));
    assert_eq!(world.state("web"), State::Failed);
}

#[test]
fn many_without_room_are_not_tried_at_once() {
    let mut world = crowd(500);
    world.advance(secs(20));
    let before = world.preparations;
    world.advance(secs(10));
    let tries = world.preparations - before;
    assert!((400..=501).contains(&tries), "{tries} tries in 10 s");
}

#[test]
fn the_first_that_finds_room_brings_the_others_along() {
    let mut world = crowd(500);
    world.advance(secs(30));
    assert_eq!(count(&world, State::Backoff, 500), 500);
    world.room = None;
    world.advance(ms(50));
    assert_eq!(count(&world, State::Ready, 500), 500);
}

#[test]
fn where_there_is_room_for_some_they_run_and_the_others_wait() {
    let mut world = crowd(20);
    world.room = Some(5);
    world.advance(secs(5));
    assert_eq!(count(&world, State::Ready, 20), 5);
    assert_eq!(count(&world, State::Backoff, 20), 15);
    // Whoever is not wanted any more waits no more, and holds nobody up.
    world.stop(&["s19"]);
    assert_eq!(world.state("s19"), State::Stopped);
    world.room = None;
    world.advance(secs(1));
    assert_eq!(count(&world, State::Ready, 20), 19);
}

#[test]
fn a_crowd_that_is_gone_does_not_put_off_the_next() {
    let mut world = crowd(500);
    world.advance(secs(1));
    let names: Vec<String> = (0..500).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.stop(&names);
    world.advance(Duration::from_millis(1));
    world.start(&["s1"]);
    assert_eq!(world.state("s1"), State::Backoff);
    world.room = None;
    world.advance(secs(1));
    assert_eq!(world.state("s1"), State::Ready);
}
