//! Behaviour 10: signals and reloads by command.

use keepd_engine::manager::{Ask, Refusal};
use keepd_model::protocol::Scope;
use keepd_model::{CommandLine, Exit, Reload, ServiceSpec, Signal, Template, Until};

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
