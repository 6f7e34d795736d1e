//! Behaviour 8: what follows from an end that nobody asked for.

use std::time::Duration;

use keepd_model::{Exit, ExpectedEnd, Reason, RestartPolicy, Signal, State, Until};

use crate::world::*;

/// Lets a service that is ready at once crash, and returns how long it stays away.
fn delay_after_crash(world: &mut World, service: &str) -> Duration {
    let before = world.generation(service);
    let crashed = world.now;
    world.exits(service, Exit::Code(1));
    while world.generation(service) == before {
        world.advance(ms(1));
    }
    world.now.saturating_since(crashed)
}

#[test]
fn the_first_restart_is_immediate_and_then_delays_grow() {
    // (behaviour 8.4)
    let mut world = World::boot(plan([daemon("web")]));
    let delays: Vec<u128> =
        (0..9).map(|_| delay_after_crash(&mut world, "web").as_millis()).collect();
    let expected = [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
    assert_eq!(delays, expected);
    assert_eq!(world.status("web").restarts, 9);
}

#[test]
fn jitter_only_shortens() {
    // (behaviour 8.4)
    let mut web = daemon("web");
    web.backoff.jitter = 0.2;
    let mut world = World::boot(plan([web]));
    let delays: Vec<u128> =
        (0..5).map(|_| delay_after_crash(&mut world, "web").as_millis()).collect();
    for (delay, longest) in delays.iter().zip([0, 500, 1000, 2000, 4000]) {
        let shortest = longest * 8 / 10;
        assert!((shortest..=longest).contains(delay), "{delays:?}");
    }
}

#[test]
fn a_run_that_never_was_ready_counts_as_a_second_end() {
    // (behaviour 8.4)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    assert_eq!(delay_after_crash(&mut world, "web"), ms(500));
    assert_eq!(delay_after_crash(&mut world, "web"), secs(1));
}

#[test]
fn a_long_run_starts_the_count_again() {
    // (behaviour 8.5)
    let mut world = World::boot(plan([daemon("web")]));
    delay_after_crash(&mut world, "web");
    assert_eq!(delay_after_crash(&mut world, "web"), ms(500));
    world.advance(ms(59_999));
    assert_eq!(delay_after_crash(&mut world, "web"), secs(1));
    world.advance(secs(60));
    assert_eq!(delay_after_crash(&mut world, "web"), Duration::ZERO);
    // So does somebody who starts it: the backoff is over at once, and the next end is a first one.
    world.exits("web", Exit::Code(1));
    assert_eq!(world.state("web"), State::Backoff);
    world.start(&["web"]);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(delay_after_crash(&mut world, "web"), Duration::ZERO);
}

#[test]
fn the_policy_decides_what_an_end_means() {
    // (behaviour 8.2, 8.3, 8.6)
    let term = killed_by(Signal::TERM);
    let segv = killed_by(Signal::new(11).unwrap());
    let cases = [
        (RestartPolicy::Always, Exit::Code(0), State::Ready),
        (RestartPolicy::Always, Exit::Code(1), State::Ready),
        (RestartPolicy::OnFailure, Exit::Code(0), State::Done),
        (RestartPolicy::OnFailure, Exit::Code(1), State::Ready),
        (RestartPolicy::OnFailure, term, State::Done),
        (RestartPolicy::OnFailure, Exit::Unknown, State::Ready),
        (RestartPolicy::Never, Exit::Code(0), State::Done),
        (RestartPolicy::Never, segv, State::Failed),
    ];
    for (policy, exit, after) in cases {
        let mut web = daemon("web");
        web.restart = policy;
        web.exit_ok.push(ExpectedEnd::Signal(Signal::TERM));
        let mut world = World::boot(plan([web]));
        world.exits("web", exit);
        assert_eq!(world.state("web"), after, "{policy} {exit}");
        world.advance(secs(3600));
        assert_eq!(world.state("web"), after, "{policy} {exit}");
    }
}

#[test]
fn a_oneshot_that_succeeded_is_never_restarted() {
    // (behaviour 8.3)
    let mut migrate = oneshot("migrate");
    migrate.restart = RestartPolicy::Always;
    let mut world = World::boot(plan([migrate]));
    world.exits("migrate", Exit::Code(1));
    world.advance(ms(500));
    assert_eq!(world.generation("migrate"), 2);
    world.exits("migrate", Exit::Code(0));
    world.advance(secs(3600));
    assert_eq!(world.state("migrate"), State::Done);
    assert_eq!(world.generation("migrate"), 2);
}

#[test]
fn a_restart_waits_until_the_group_is_empty() {
    // (behaviour 8.1)
    let mut world = World::boot(plan([daemon("web")]));
    world.exits_partly("web", Exit::Code(1));
    assert_eq!(world.state("web"), State::Stopping);
    assert_eq!(world.status("web").reason(), Reason::Exit);
    world.advance(secs(3));
    assert_eq!(world.generation("web"), 1);
    world.empties("web");
    assert_eq!(world.generation("web"), 2);
}

#[test]
fn dependents_are_left_alone_and_dependencies_not_looked_at_again() {
    // (behaviour 6.4)
    let mut db = daemon("db");
    db.restart = RestartPolicy::Never;
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([db, web]));
    world.exits("db", Exit::Code(1));
    assert_eq!(world.state("db"), State::Failed);
    assert_eq!(world.state("web"), State::Ready);
    world.exits("web", Exit::Code(1));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.generation("web"), 2);
    // A start by command does look.
    world.stop(&["web"]);
    let alone = true;
    let names = vec![name("web")];
    world.ask(keepd_engine::manager::Ask::Start { names, alone });
    assert_eq!(world.state("web"), State::Waiting);
}

#[test]
fn a_program_that_cannot_be_executed_is_a_failure() {
    // (behaviour 8.7)
    let mut web = daemon("web");
    web.restart = RestartPolicy::Never;
    let mut world = World::boot(plan([]));
    world.slow.insert(name("web"));
    world.apply(plan([web]), true);
    world.let_fail("web");
    let status = world.status("web");
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.reason(), Reason::ExecError);
    let failure = status.last_end.unwrap().failure;
    assert_eq!(
        failure.as_deref(),
        Some("executable \"/bin/service\" or its interpreter not found")
    );
}
