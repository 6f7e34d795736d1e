//! Behaviour 8: how often, and what is remembered of it.

use keepd_model::{Exit, Reason, RestartLimit, ServiceSpec, State, Wanted};

use crate::world::*;

fn limited(count: u32, window_s: u64) -> ServiceSpec {
    let mut web = daemon("web");
    web.restart_limit = RestartLimit { count, window: secs(window_s) };
    web.backoff.max = ms(500);
    web
}

/// Lets the service crash once, and waits until it is up again.
fn crash(world: &mut World) {
    world.exits("web", Exit::Code(1));
    world.advance(ms(500));
}

#[test]
fn who_is_restarted_too_often_is_given_up() {
    // (behaviour 8.8)
    let mut world = World::boot(plan([limited(2, 60)]));
    crash(&mut world);
    crash(&mut world);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.status("web").restarts_in_window(world.now), Some(2));
    crash(&mut world);
    let status = world.status("web");
    assert_eq!((status.state, status.reason()), (State::Failed, Reason::Limit));
    assert_eq!(status.wanted, Wanted::Up);
    let why = world.why("web").join("\n");
    assert!(why.contains("because it would be restarted more than 2 times within 60s"), "{why}");
    assert!(why.contains("its last run (generation 3) ended with exit 1"), "{why}");
    world.advance(secs(1_000));
    assert_eq!(world.state("web"), State::Failed);
    // Whoever starts it begins anew.
    world.start(&["web"]);
    crash(&mut world);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    // (behaviour 8.8)
    let mut world = World::boot(plan([limited(2, 60)]));
    for _ in 0..10 {
        crash(&mut world);
        assert_eq!(world.state("web"), State::Ready);
        world.advance(secs(31));
    }
    world.advance(secs(31));
    assert_eq!(world.status("web").restarts_in_window(world.now), Some(0));
}

#[test]
fn the_count_survives_the_manager() {
    // (behaviour 8.8, 11.6)
    let mut world = World::boot(plan([limited(2, 60)]));
    crash(&mut world);
    crash(&mut world);
    world.take_over();
    crash(&mut world);
    assert_eq!(world.state("web"), State::Failed);
    world.take_over();
    assert_eq!((world.state("web"), world.status("web").reason()), (State::Failed, Reason::Limit));
}

#[test]
fn the_last_ends_are_remembered_with_why_each_run_was_started() {
    // (behaviour 8.9)
    let mut plan = plan([daemon("web")]);
    plan.manager.history_max = 3;
    let mut world = World::boot_without_leases(plan);
    crash(&mut world);
    world.restart(&["web"]);
    let told = |world: &World| -> Vec<String> {
        let runs = world.manager.history(&name("web")).unwrap();
        runs.map(|run| {
            let cause = run.cause.reason();
            format!("{} {cause} {}", run.end.generation, run.end.reason)
        })
        .collect()
    };
    assert_eq!(told(&world), ["1 config exit", "2 config operator"]);
    world.unpreparable.insert(name("web"));
    world.exits("web", Exit::Code(1));
    assert_eq!(told(&world), ["2 config operator", "3 operator exit", "3 config exec-error"]);
    let before = told(&world);
    world.take_over();
    assert_eq!(told(&world), before);
    let notes = &world.held[&name("web")].notes;
    assert_eq!(notes.keys().filter(|key| key.starts_with("run.")).count(), 3);
}
