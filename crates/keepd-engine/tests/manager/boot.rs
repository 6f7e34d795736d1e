//! Behaviour 6: wishes and starts.

use keepd_engine::manager::Settings;
use keepd_model::{Exit, Reason, RestartPolicy, State, Until};

use crate::world::*;

#[test]
fn services_start_in_the_order_of_their_dependencies() {
    // (behaviour 6.1, 6.3)
    let db = probed(daemon("db"));
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([db, web]));
    assert_eq!(world.state("db"), State::Starting);
    assert_eq!(world.state("web"), State::Waiting);
    assert_eq!(world.status("web").reason(), Reason::Dependency);
    world.answer_probes("db", Ok(()));
    assert_eq!(world.state("db"), State::Ready);
    assert_eq!(world.state("web"), State::Ready);
    let expected = ["db starting", "web waiting", "db ready", "web starting", "web ready"];
    assert_eq!(world.steps(), expected);
}

#[test]
fn what_is_not_enabled_rests_unless_it_is_needed() {
    // (behaviour 6.1, 6.2)
    let mut tool = daemon("tool");
    tool.enabled = false;
    let mut db = daemon("db");
    db.enabled = false;
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let world = World::boot(plan([tool, db, web]));
    assert_eq!(world.state("db"), State::Ready);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.state("tool"), State::Stopped);
    assert_eq!(world.status("tool").reason(), Reason::Config);
}

#[test]
fn a_selector_replaces_what_is_enabled() {
    // (behaviour 6.1)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let settings = Settings { seed: 1, idle_by_default: false, only: Some(vec![name("web")]) };
    let world = World::boot_with(plan([daemon("db"), web, daemon("other")]), settings);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.state("db"), State::Ready);
    assert_eq!(world.state("other"), State::Stopped);
}

#[test]
fn edges_hold_for_exactly_what_they_say() {
    // (behaviour 6.3): what has to happen to `first` until `second` starts.
    let cases: [(Until, &[&str]); 4] = [
        (Until::Started, &["runs"]),
        (Until::Ready, &["runs", "ready"]),
        (Until::Done, &["runs", "exits 0"]),
        (Until::Exited, &["runs", "exits 1"]),
    ];
    for (until, steps) in cases {
        let mut first = match until {
            Until::Started | Until::Ready => probed(daemon("first")),
            Until::Done | Until::Exited => oneshot("first"),
        };
        first.restart = RestartPolicy::Never;
        let second = needs(daemon("second"), &[("first", until)]);
        let mut settings_world = World::boot(plan([]));
        settings_world.slow.insert(name("first"));
        let world = &mut settings_world;
        world.apply(plan([first, second]), true);
        for step in steps {
            assert_eq!(world.state("second"), State::Waiting, "{until} {step}");
            match *step {
                "runs" => world.let_run("first"),
                "ready" => world.answer_probes("first", Ok(())),
                "exits 0" => world.exits("first", Exit::Code(0)),
                _ => world.exits("first", Exit::Code(1)),
            }
        }
        assert_eq!(world.state("second"), State::Ready, "{until}");
    }
}

#[test]
fn a_oneshot_is_done_before_its_dependents_start() {
    // (behaviour 6.3, 7.2)
    let web = needs(daemon("web"), &[("migrate", Until::Done)]);
    let mut world = World::boot(plan([oneshot("migrate"), web]));
    assert_eq!(world.state("migrate"), State::Starting);
    world.advance(secs(600));
    assert_eq!(world.state("web"), State::Waiting);
    world.exits("migrate", Exit::Code(0));
    assert_eq!(world.state("migrate"), State::Done);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_failed_oneshot_keeps_its_dependents_waiting() {
    // (behaviour 6.5, 10.4)
    let web = needs(daemon("web"), &[("migrate", Until::Done)]);
    let mut world = World::boot(plan([oneshot("migrate"), web]));
    let boot = world.manager.changes().next().unwrap().id;
    world.exits("migrate", Exit::Code(3));
    assert_eq!(world.state("migrate"), State::Failed);
    assert_eq!(world.state("web"), State::Waiting);
    assert_eq!(world.status("web").reason(), Reason::Dependency);
    let ended = "its process 101 (generation 1) ended with exit 3 after 0.000s";
    let expected = [
        format!("migrate missed: {ended}"),
        format!("web missed: it waits for \"migrate\", of which: {ended}"),
    ];
    assert_eq!(world.goals(boot), expected);
    // Once it succeeds, the rest goes on by itself.
    world.start(&["migrate"]);
    world.exits("migrate", Exit::Code(0));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_start_sends_what_the_proxy_does_not_hold_yet() {
    // (behaviour 6.7)
    let mut world = World::boot_without_leases(plan([daemon("web")]));
    let expected = ["args web", "set web", "env web", "log web", "start web"];
    assert_eq!(world.sent(), expected);
    world.exits("web", Exit::Code(1));
    assert_eq!(world.sent(), ["start web"]);
    let held = &world.held[&name("web")];
    assert_eq!(held.generation.get(), 2);
    assert!(held.notes.contains_key("record"));
}

#[test]
fn a_start_that_cannot_be_prepared_is_tried_again_by_policy() {
    // (behaviour 6.6)
    let mut world = World::boot(plan([]));
    world.unpreparable.insert(name("web"));
    let change = world.apply(plan([daemon("web")]), true);
    let status = world.status("web");
    assert_eq!(status.state, State::Backoff);
    assert_eq!(status.reason(), Reason::ExecError);
    assert_eq!(status.generation.get(), 0);
    assert_eq!(world.goals(change), ["web missed: executable \"/bin/service\" not found"]);
    assert_eq!(world.sent(), [""; 0]);
    world.unpreparable.clear();
    world.advance(ms(500));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_wish_that_ends_during_the_preparation_ends_the_start() {
    // (behaviour 6.8)
    let mut world = World::boot(plan([]));
    world.held_preparations.insert(name("web"));
    world.apply(plan([daemon("web")]), true);
    assert_eq!(world.state("web"), State::Starting);
    let stop = world.stop(&["web"]);
    assert_eq!(world.state("web"), State::Stopped);
    assert_eq!(world.goals(stop), ["web reached"]);
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn a_refused_command_leads_to_a_dump_and_on_from_there() {
    // (behaviour 6.9)
    let mut world = World::boot(plan([]));
    world.slow.insert(name("web"));
    world.apply(plan([daemon("web")]), true);
    // Somebody else stopped and started it: it runs in a later generation than the manager
    // believes.
    world.let_run("web");
    let held = world.held.get_mut(&name("web")).unwrap();
    held.generation = held.generation.next();
    world.slow.clear();
    let change = world.restart(&["web"]);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.generation("web"), 2);
    world.restart(&["web"]);
    assert_eq!(world.generation("web"), 3);
}
