//! Behaviour 10: signals and reloads by command.

use keepd_engine::manager::{Ask, Input, Refusal, Said};
use keepd_model::protocol::Scope;
use keepd_model::{
    CommandLine, Exit, Instant, Reload, ServiceSpec, Signal, State, Template, Until,
};

use crate::world::*;

fn reloading(text: &str) -> ServiceSpec {
    let mut spec = daemon(text);
    let command = CommandLine::Words(vec![Template::literal("/bin/reload")]);
    spec.reload = Some(Reload::Command(command));
    spec
}

fn reload(services: &[&str]) -> Ask {
    Ask::Reload { names: services.iter().map(|text| name(text)).collect() }
}

#[test]
fn a_reload_command_is_run_in_the_context_of_the_service() {
    // (behaviour 10.8)
    let mut world = World::boot(plan([reloading("web")]));
    let change = world.ask(reload(&["web"]));
    assert!(matches!(world.probes[..], [OpenProbe::Exec(..)]), "{:?}", world.probes);
    assert!(!world.change(change).is_closed());
    world.answer_probes("web", Ok(()));
    assert_eq!(world.goals(change), ["web reached"]);
    let change = world.ask(reload(&["web"]));
    world.answer_probes("web", Err("syntax error in line 3"));
    let goals = world.goals(change);
    assert!(goals[0].starts_with("web missed: its reload_command ended with exit 1"), "{goals:?}");
    assert!(goals[0].ends_with("syntax error in line 3"), "{goals:?}");
    assert_eq!(world.generation("web"), 1);
}

#[test]
fn a_reload_of_a_run_that_ended_meanwhile_is_missed() {
    // (behaviour 10.8)
    let mut world = World::boot(plan([reloading("web")]));
    world.held_preparations.insert(name("web"));
    let change = world.ask(reload(&["web"]));
    world.exits("web", Exit::Code(1));
    world.release_preparations("web");
    assert_eq!(world.goals(change), ["web missed: it ended meanwhile"]);
}

#[test]
fn of_a_group_those_are_asked_that_can() {
    // (behaviour 6.13, 10.3)
    let members = [("web", Until::Ready), ("db", Until::Ready)];
    let group = needs(ServiceSpec::group(name("all-of-it")), &members);
    let mut world = World::boot(plan([reloading("web"), daemon("db"), group]));
    let change = world.ask(reload(&["all-of-it"]));
    world.answer_probes("web", Ok(()));
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.refusal(reload(&["db"])), Refusal::CannotReload(name("db")));
}

#[test]
fn a_signal_goes_to_the_generation_that_was_meant() {
    // (behaviour 10.3, 10.13)
    let mut world = World::boot(plan([daemon("web"), daemon("db")]));
    world.sent();
    let signal = |services: &[&str]| Ask::Signal {
        names: services.iter().map(|text| name(text)).collect(),
        signal: Signal::HUP,
        scope: Scope::All,
    };
    let change = world.ask(signal(&["web"]));
    assert_eq!(world.sent(), ["signal web HUP"]);
    assert_eq!(world.goals(change), ["web reached"]);
    world.stop(&["db"]);
    assert_eq!(world.refusal(signal(&["web", "db"])), Refusal::NotRunning(name("db")));
    assert_eq!(world.sent(), ["stop db"]);
}

#[test]
fn a_reload_that_is_being_prepared_outlasts_another_dump() {
    // (behaviour 6.9, 10.8)
    let mut world = World::boot(plan([reloading("web"), daemon("db")]));
    world.held_preparations.insert(name("web"));
    let change = world.ask(reload(&["web"]));
    world.stop(&["db"]);
    // Somebody else started it and stopped it: the start is refused, and a dump is asked for.
    let db = world.held.get_mut(&name("db")).unwrap();
    db.generation = db.generation.next();
    world.start(&["db"]);
    assert_eq!(world.goals(change), ["web open"]);
    world.release_preparations("web");
    world.answer_probes("web", Ok(()));
    assert_eq!(world.goals(change), ["web reached"]);
}

/// Returns a world with a service that is told by a signal, has a notify socket and is ready.
fn announcing() -> World {
    let mut web = daemon("web");
    web.ready.notify = true;
    web.ready.timeout = Some(secs(30));
    web.reload = Some(Reload::Signal(Signal::HUP));
    let mut world = World::boot(plan([web]));
    world.notifies("web");
    world
}

fn says_reloading(stamp: Option<Instant>) -> Said {
    Said { reloading: true, stamp, ..Said::default() }
}

fn says_ready() -> Said {
    Said { ready: true, ..Said::default() }
}

#[test]
fn a_reload_that_is_announced_ends_with_ready() {
    // (behaviour 10.8)
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    assert_eq!(world.sent().last().unwrap(), "signal web HUP");
    world.says("web", says_reloading(Some(world.now)));
    world.advance(secs(29));
    assert_eq!(world.goals(change), ["web open"]);
    assert_eq!(world.state("web"), State::Ready);
    world.says("web", says_ready());
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn a_reload_that_is_announced_without_a_time_ends_with_ready() {
    // (behaviour 10.8)
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    world.says("web", says_reloading(None));
    world.advance(secs(5));
    assert_eq!(world.goals(change), ["web open"]);
    world.says("web", says_ready());
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn a_reload_that_does_not_end_is_missed() {
    // (behaviour 10.8)
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    world.says("web", says_reloading(Some(world.now)));
    world.advance(ms(29_999));
    assert_eq!(world.goals(change), ["web open"]);
    world.advance(ms(1));
    let expected =
        "web missed: it said RELOADING=1, and READY=1 has not come within 30.0s after that";
    assert_eq!(world.goals(change), [expected]);
}

#[test]
fn who_announces_nothing_has_reloaded_a_second_later() {
    // (behaviour 10.8): nobody knows beforehand that it says nothing.
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    world.advance(ms(999));
    assert_eq!(world.goals(change), ["web open"]);
    world.advance(ms(1));
    assert_eq!(world.goals(change), ["web reached"]);
    // What it says later concerns nobody.
    world.says("web", says_reloading(None));
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn who_cannot_announce_has_reloaded_when_it_is_told() {
    // (behaviour 10.8)
    let mut web = daemon("web");
    web.reload = Some(Reload::Signal(Signal::HUP));
    let mut world = World::boot(plan([web]));
    let change = world.ask(reload(&["web"]));
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn a_reload_of_its_own_is_not_taken_for_the_one_that_was_asked_for() {
    // (behaviour 10.8)
    let mut world = announcing();
    let before = world.now;
    world.advance(secs(1));
    let change = world.ask(reload(&["web"]));
    world.says("web", says_reloading(Some(before)));
    world.says("web", says_ready());
    assert_eq!(world.goals(change), ["web open"]);
    world.says("web", says_reloading(Some(world.now)));
    world.advance(secs(2));
    assert_eq!(world.goals(change), ["web open"]);
    world.says("web", says_ready());
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn who_ends_while_it_reloads_has_not_reloaded() {
    // (behaviour 10.8)
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    world.exits("web", Exit::Code(1));
    assert_eq!(world.goals(change), ["web missed: it ended meanwhile"]);
}

#[test]
fn what_is_said_while_the_command_runs_counts() {
    // (behaviour 10.8)
    let mut web = reloading("web");
    web.ready.notify = true;
    let mut world = World::boot(plan([web]));
    world.notifies("web");
    let change = world.ask(reload(&["web"]));
    world.says("web", says_reloading(Some(world.now)));
    world.says("web", says_ready());
    assert_eq!(world.goals(change), ["web open"]);
    world.answer_probes("web", Ok(()));
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn a_lost_connection_loses_nothing_of_an_announced_reload() {
    // (behaviour 10.8, 11.7)
    let mut world = announcing();
    let change = world.ask(reload(&["web"]));
    let stamp = Some(world.now);
    world.says("web", says_reloading(stamp));
    world.give(Input::Disconnected);
    world.says("web", says_ready());
    world.advance(secs(5));
    assert_eq!(world.goals(change), ["web open"]);
    world.give(Input::Connected);
    assert_eq!(world.goals(change), ["web reached"]);
}

#[test]
fn what_was_said_before_is_told_again_and_ends_nothing() {
    // (behaviour 10.8)
    let mut world = announcing();
    let first = world.ask(reload(&["web"]));
    world.says("web", says_reloading(Some(world.now)));
    world.says("web", says_ready());
    assert_eq!(world.goals(first), ["web reached"]);
    world.advance(secs(1));
    let second = world.ask(reload(&["web"]));
    world.says("web", says_reloading(Some(world.now)));
    world.give(Input::Disconnected);
    world.give(Input::Connected);
    world.advance(secs(5));
    assert_eq!(world.goals(second), ["web open"]);
    world.says("web", says_ready());
    assert_eq!(world.goals(second), ["web reached"]);
}
