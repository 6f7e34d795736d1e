//! Behaviour 10.9 to 10.11: making reality match another configuration.

use keepd_engine::manager::{Action, Ask};
use keepd_model::{Exit, Plan, ServiceSpec, Signal, State, Until};

use crate::world::*;

/// Returns the plan with one service edited.
fn edited(plan: &Plan, service: &str, edit: impl FnOnce(&mut ServiceSpec)) -> Plan {
    let mut plan = plan.clone();
    let mut spec = (*plan.services[&name(service)]).clone();
    edit(&mut spec);
    plan.services.insert(spec.name.clone(), spec.into());
    plan
}

fn without(plan: &Plan, service: &str) -> Plan {
    let mut plan = plan.clone();
    plan.services.remove(&name(service));
    plan
}

fn two() -> World {
    let mut world = World::boot(plan([daemon("db"), daemon("web")]));
    world.sent();
    world.steps();
    world
}

#[test]
fn only_what_changed_is_touched() {
    // (behaviour 10.9)
    let mut world = two();
    let same = world.manager.plan().clone();
    let change = world.apply(same.clone(), true);
    assert!(world.change(change).is_success());
    assert_eq!(world.sent(), [""; 0]);
    let new = edited(&same, "web", |web| web.umask = 0o077);
    let steps = world.manager.preview(&new);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].action, Action::Restart);
    assert_eq!(steps[0].keys, ["umask"]);
    let change = world.apply(new, true);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.sent(), ["stop web", "set web", "start web"]);
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.generation("db"), 1);
}

#[test]
fn keys_that_take_effect_at_once_restart_nothing() {
    // (behaviour 10.9)
    let mut world = two();
    let plan = world.manager.plan().clone();
    let new = edited(&plan, "web", |web| {
        web.stop.signal = Signal::INT;
        web.description = "the web".to_owned();
    });
    assert_eq!(world.manager.preview(&new)[0].action, Action::Live);
    let change = world.apply(new, true);
    assert!(world.change(change).is_success());
    assert_eq!(world.sent(), ["set web"]);
    let held = &world.held[&name("web")];
    assert_eq!(held.attributes.stop_signal, Signal::INT);
    assert_eq!(world.status("web").spec.description, "the web");
    assert!(!world.status("web").config_changed);
}

#[test]
fn new_services_start_with_what_they_need() {
    // (behaviour 10.9)
    let mut helper = daemon("helper");
    helper.enabled = false;
    let mut world = World::boot(plan([daemon("db"), helper]));
    let mut new = world.manager.plan().clone();
    let more = needs(daemon("more"), &[("helper", Until::Ready)]);
    let mut idle = daemon("idle");
    idle.enabled = false;
    for spec in [more, idle] {
        new.services.insert(spec.name.clone(), spec.into());
    }
    let actions: Vec<Action> =
        world.manager.preview(&new).into_iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::Add, Action::Start]);
    let change = world.apply(new, true);
    assert_eq!(world.goals(change), ["more reached", "+helper reached"]);
    assert_eq!(world.state("idle"), State::Stopped);
}

#[test]
fn what_is_new_and_quarantined_is_no_goal() {
    // (behaviour 10.15)
    let mut world = two();
    let mut new = world.manager.plan().clone();
    let broken = |service| ServiceSpec::quarantined(name(service), "1:1: it is odd".to_owned());
    let mut idle = broken("idle");
    idle.enabled = false;
    for spec in [broken("odd"), idle] {
        new.services.insert(spec.name.clone(), spec.into());
    }
    let steps = world.manager.preview(&new);
    assert!(steps.len() == 2 && steps.iter().all(|step| step.action == Action::Quarantine));
    let change = world.apply(new, true);
    assert!(world.change(change).is_success());
    assert_eq!(world.goals(change), [""; 0]);
    assert_eq!(world.state("odd"), State::Failed);
    assert_eq!(world.state("idle"), State::Stopped);
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn what_is_gone_is_stopped_and_forgotten() {
    // (behaviour 10.9, 9.2): a dependent that goes with it goes first.
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web, daemon("other")]));
    world.sent();
    let new = without(&without(world.manager.plan(), "db"), "web");
    let change = world.apply(new, true);
    assert_eq!(world.goals(change), ["db reached", "web reached"]);
    let expected = ["stop web", "delete web", "stop db", "delete db"];
    assert_eq!(world.sent(), expected);
    assert!(!world.held.contains_key(&name("db")));
    assert!(world.manager.status(&name("db")).is_none());
}

#[test]
fn what_comes_back_while_it_goes_is_kept() {
    // (behaviour 10.9, 9.8)
    let mut world = two();
    world.stubborn.insert(name("web"));
    let both = world.manager.plan().clone();
    let removal = world.apply(without(&both, "web"), true);
    assert_eq!(world.state("web"), State::Stopping);
    let back = world.apply(both, true);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.state("web"), State::Ready);
    let expected = ["web missed: it came back into the configuration"];
    assert_eq!(world.goals(removal), expected);
    assert!(world.change(back).is_success());
    assert_eq!(world.goals(back), ["web reached"]);
}

#[test]
fn without_restarts_it_is_only_marked() {
    // (behaviour 10.10)
    let mut world = two();
    let plan = world.manager.plan().clone();
    let new = edited(&plan, "web", |web| web.umask = 0o077);
    let change = world.apply(new, false);
    assert!(world.change(change).is_success());
    assert!(world.status("web").config_changed);
    assert_eq!(world.generation("web"), 1);
    world.take_over();
    assert_eq!(world.generation("web"), 1);
    assert!(world.status("web").config_changed);
    // The next start takes it.
    world.exits("web", Exit::Code(1));
    assert_eq!(world.generation("web"), 2);
    assert!(!world.status("web").config_changed);
}

#[test]
fn enabled_is_followed_unless_an_operator_decided() {
    // (behaviour 10.11)
    let mut world = two();
    let plan = world.manager.plan().clone();
    let off = edited(&plan, "web", |web| web.enabled = false);
    world.apply(off.clone(), true);
    assert_eq!(world.state("web"), State::Stopped);
    world.apply(plan.clone(), true);
    assert_eq!(world.state("web"), State::Ready);
    world.stop(&["web"]);
    world.apply(off.clone(), true);
    world.apply(plan, true);
    assert_eq!(world.state("web"), State::Stopped);
    world.start(&["web"]);
    world.apply(off, true);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_restart_that_would_not_work_leaves_the_old_process() {
    // (behaviour 10.6, 10.9)
    let mut world = two();
    world.unpreparable.insert(name("web"));
    let plan = world.manager.plan().clone();
    let change = world.apply(edited(&plan, "web", |web| web.umask = 0o077), true);
    let expected = "web missed: executable \"/bin/service\" not found; it runs on as before";
    assert_eq!(world.goals(change), [expected]);
    assert_eq!(world.sent(), [""; 0]);
    assert_eq!(world.state("web"), State::Ready);
    assert!(world.status("web").config_changed);
}

#[test]
fn a_oneshot_that_was_done_runs_again_with_its_new_command() {
    // (behaviour 10.9)
    let mut world = World::boot(plan([oneshot("migrate")]));
    world.exits("migrate", Exit::Code(0));
    let plan = world.manager.plan().clone();
    let change = world.apply(edited(&plan, "migrate", |spec| spec.umask = 0o077), true);
    assert_eq!(world.state("migrate"), State::Starting);
    world.exits("migrate", Exit::Code(0));
    assert_eq!(world.goals(change), ["migrate reached"]);
}

#[test]
fn a_new_edge_starts_what_it_needs() {
    // (behaviour 10.9, 6.5)
    let mut db = daemon("db");
    db.enabled = false;
    let web = needs(daemon("web"), &[("migrate", Until::Done)]);
    let mut world = World::boot(plan([db, oneshot("migrate"), web]));
    world.exits("migrate", Exit::Code(1));
    assert_eq!(world.state("web"), State::Waiting);
    let plan = world.manager.plan().clone();
    let new = edited(&plan, "web", |web| {
        *web = needs(daemon("web"), &[("db", Until::Ready)]);
    });
    world.ask(Ask::Apply { plan: new, restart: true });
    assert_eq!(world.state("db"), State::Ready);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn an_apply_during_a_preparation_starts_the_new_command() {
    // (behaviour 10.9)
    let mut world = two();
    world.stop(&["web"]);
    world.held_preparations.insert(name("web"));
    world.start(&["web"]);
    let plan = world.manager.plan().clone();
    let preparations = world.preparations;
    world.apply(edited(&plan, "web", |web| *web = probed(daemon("web"))), true);
    assert_eq!(world.preparations, preparations + 1);
}

#[test]
fn edges_hold_until_both_ends_are_gone() {
    // (behaviour 9.2, 10.9): removed one after the other, and an edge that goes frees its other
    // end.
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web, daemon("other")]));
    world.stubborn.insert(name("web"));
    world.sent();
    let plan = world.manager.plan().clone();
    world.apply(without(&plan, "web"), true);
    world.apply(without(&without(&plan, "web"), "db"), true);
    assert_eq!(world.sent(), ["stop web"]);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.sent(), ["delete web", "stop db", "delete db"]);
}

#[test]
fn an_edge_that_goes_frees_its_other_end() {
    // (behaviour 9.2)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.stubborn.insert(name("web"));
    world.stop(&["db"]);
    assert_eq!(world.state("db"), State::Ready);
    let plan = world.manager.plan().clone();
    world.apply(edited(&plan, "web", |web| web.depends_on.clear()), true);
    assert_eq!(world.state("db"), State::Stopped);
}

#[test]
fn who_is_not_enabled_any_more_is_stopped_and_not_restarted() {
    // (behaviour 10.11)
    let mut web = daemon("web");
    let mut world = World::boot(plan([web.clone()]));
    web.enabled = false;
    web.umask = 0o077;
    let change = world.apply(plan([web]), true);
    assert_eq!(world.state("web"), State::Stopped);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.generation("web"), 1);
}
