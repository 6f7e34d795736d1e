//! Behaviour 6: edges that may fail or react, order without need, groups, quarantine.

use keepd_engine::manager::{Action, Ask, Refusal, Step};
use keepd_model::{Edge, Exit, OnStop, Reason, RestartPolicy, ServiceSpec, State, Until, Wanted};

use crate::world::*;

fn optional(mut spec: ServiceSpec, on: &str) -> ServiceSpec {
    let edge = Edge { required: false, ..Edge::until(Until::Ready) };
    spec.depends_on.insert(name(on), edge);
    spec
}

fn reacting(mut spec: ServiceSpec, on: &str, on_stop: OnStop) -> ServiceSpec {
    spec.depends_on.insert(name(on), Edge { on_stop, ..Edge::until(Until::Ready) });
    spec
}

fn after(mut spec: ServiceSpec, earlier: &[&str]) -> ServiceSpec {
    spec.after.extend(earlier.iter().map(|text| name(text)));
    spec
}

fn before(mut spec: ServiceSpec, later: &[&str]) -> ServiceSpec {
    spec.before.extend(later.iter().map(|text| name(text)));
    spec
}

fn group(text: &str, members: &[&str]) -> ServiceSpec {
    let members: Vec<(&str, Until)> = members.iter().map(|on| (*on, Until::Ready)).collect();
    needs(ServiceSpec::group(name(text)), &members)
}

#[test]
fn an_edge_that_may_fail_is_waited_for_and_then_left() {
    // (behaviour 6.10)
    let mut cache = probed(daemon("cache"));
    cache.restart = RestartPolicy::Never;
    let web = optional(daemon("web"), "cache");
    let mut world = World::boot(plan([cache, web]));
    assert_eq!(world.state("web"), State::Waiting);
    world.exits("cache", Exit::Code(1));
    assert_eq!(world.state("cache"), State::Failed);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn an_edge_that_may_fail_is_left_when_the_other_only_crashes() {
    // (behaviour 6.10)
    let web = optional(daemon("web"), "cache");
    let mut world = World::boot(plan([probed(daemon("cache")), web]));
    world.exits("cache", Exit::Code(1));
    assert_eq!(world.state("cache"), State::Backoff);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn giving_up_is_handed_on_through_those_that_wait() {
    // (behaviour 6.10, 10.4)
    let mut db = daemon("db");
    db.restart = RestartPolicy::Never;
    let db = probed(db);
    let app = needs(daemon("app"), &[("db", Until::Ready)]);
    let queue = needs(daemon("queue"), &[("app", Until::Ready)]);
    let web = optional(daemon("web"), "queue");
    let mut world = World::boot(plan([db, app, queue, web]));
    let boot = world.manager.changes().next().unwrap().id;
    assert_eq!(world.state("web"), State::Waiting);
    world.exits("db", Exit::Code(1));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.state("queue"), State::Waiting);
    assert!(world.change(boot).is_closed());
    let hopeless = world.status("queue").hopeless.unwrap();
    assert!(
        hopeless.starts_with("it waits for \"app\", of which: it waits for \"db\""),
        "{hopeless}"
    );
    // Once it can be, it is.
    world.start(&["db"]);
    world.answer_probes("db", Ok(()));
    assert_eq!(world.state("queue"), State::Ready);
    assert_eq!(world.status("queue").hopeless, None);
}

#[test]
fn an_edge_that_may_fail_is_not_a_reason_to_stop() {
    // (behaviour 9.1)
    let web = optional(daemon("web"), "cache");
    let mut world = World::boot(plan([daemon("cache"), web]));
    let change = world.stop(&["cache"]);
    assert_eq!(world.goals(change), ["cache reached"]);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn order_matters_only_among_those_that_start_anyway() {
    // (behaviour 6.11)
    let mut idle = daemon("idle");
    idle.enabled = false;
    let first = before(probed(daemon("first")), &["web"]);
    let web = after(daemon("web"), &["idle"]);
    let mut world = World::boot(plan([idle, first, web]));
    assert_eq!(world.state("web"), State::Waiting);
    assert_eq!(world.status("web").waits_for, ["first, which starts before it (it is starting)"]);
    world.answer_probes("first", Ok(()));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.state("idle"), State::Stopped);
}

#[test]
fn order_does_not_wait_for_what_does_not_get_there() {
    // (behaviour 6.11)
    let mut db = probed(daemon("db"));
    db.restart = RestartPolicy::Never;
    let app = needs(daemon("app"), &[("db", Until::Ready)]);
    let web = after(daemon("web"), &["app"]);
    let mut world = World::boot(plan([db, app, web]));
    assert_eq!(world.state("web"), State::Waiting);
    world.exits("db", Exit::Code(1));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn order_is_turned_round_at_the_end() {
    // (behaviour 9.2)
    let mut world = World::boot(plan([daemon("a"), after(daemon("b"), &["a"])]));
    world.sent();
    world.stubborn.insert(name("b"));
    world.stop(&["a", "b"]);
    assert_eq!(world.sent(), ["stop b"]);
    world.exits("b", Exit::Code(0));
    assert_eq!(world.sent(), ["stop a"]);
}

#[test]
fn a_reaction_restarts_with_what_it_depends_on() {
    // (behaviour 6.12)
    let web = reacting(daemon("web"), "db", OnStop::Restart);
    let mut world = World::boot(plan([probed(daemon("db")), web, daemon("other")]));
    world.answer_probes("db", Ok(()));
    assert_eq!(world.generation("web"), 1);
    world.steps();
    world.exits("db", Exit::Code(1));
    let expected = ["db stopping", "db starting", "web stopping", "web stopped", "web waiting"];
    let steps = world.steps();
    assert_eq!(steps.last().unwrap(), expected.last().unwrap(), "{steps:?}");
    let end = world.status("web").last_end.unwrap();
    assert_eq!(end.reason, Reason::Dependency);
    assert_eq!(end.failure.unwrap(), "\"db\" is not ready any more");
    world.answer_probes("db", Ok(()));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
    assert_eq!(world.generation("other"), 1);
    // Its own end is no reason to forget about the edge.
    world.exits("db", Exit::Code(1));
    assert_eq!(world.state("web"), State::Waiting);
}

#[test]
fn an_automatic_restart_looks_again_where_an_edge_reacts() {
    // (behaviour 6.4)
    let web = reacting(daemon("web"), "db", OnStop::Restart);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.exits_partly("db", Exit::Code(1));
    world.exits("web", Exit::Code(1));
    assert_eq!(world.state("web"), State::Waiting);
    world.empties("db");
    assert_eq!((world.state("db"), world.state("web")), (State::Ready, State::Ready));
}

#[test]
fn a_reaction_stops_for_good() {
    // (behaviour 6.12)
    let web = reacting(daemon("web"), "db", OnStop::Stop);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.exits("db", Exit::Code(1));
    assert_eq!((world.state("db"), world.state("web")), (State::Ready, State::Stopped));
    let status = world.status("web");
    assert_eq!((status.wanted, status.reason()), (Wanted::Down, Reason::Dependency));
    world.take_over();
    assert_eq!(world.state("web"), State::Stopped);
    world.start(&["web"]);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn what_never_was_there_is_not_lost() {
    // (behaviour 6.12)
    let mut web = daemon("web");
    let edge = Edge { until: Until::Ready, required: false, on_stop: OnStop::Restart };
    web.depends_on.insert(name("cache"), edge);
    let mut cache = probed(daemon("cache"));
    cache.restart = RestartPolicy::Never;
    let mut world = World::boot(plan([cache, web]));
    world.exits("cache", Exit::Code(1));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 1));
    // From the time it is there on, it can be.
    world.start(&["cache"]);
    world.answer_probes("cache", Ok(()));
    assert_eq!(world.generation("web"), 1);
    world.exits("cache", Exit::Code(1));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
}

#[test]
fn a_loss_that_nobody_saw_is_followed() {
    // (behaviour 6.12, 11.6)
    let web = reacting(daemon("web"), "db", OnStop::Restart);
    let mut world = World::boot(plan([probed(daemon("db")), web]));
    world.answer_probes("db", Ok(()));
    world.exits_unseen("db", Exit::Code(1));
    world.take_over();
    assert_eq!(world.state("web"), State::Waiting);
    world.answer_probes("db", Ok(()));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
}

#[test]
fn a_group_is_ready_when_all_of_its_members_are() {
    // (behaviour 6.13)
    let mut a = daemon("a");
    a.enabled = false;
    let b = probed(daemon("b"));
    let web = needs(daemon("web"), &[("both", Until::Ready)]);
    let mut world = World::boot(plan([a, b, group("both", &["a", "b"]), web]));
    assert_eq!(world.state("a"), State::Ready);
    assert_eq!((world.state("both"), world.state("web")), (State::Waiting, State::Waiting));
    world.answer_probes("b", Ok(()));
    assert_eq!((world.state("both"), world.state("web")), (State::Ready, State::Ready));
    assert_eq!(world.status("both").pid, None);
    world.steps();
    world.take_over();
    assert_eq!(world.steps(), [""; 0]);
    assert_eq!(world.state("both"), State::Ready);
}

#[test]
fn a_group_stands_for_its_members_when_it_is_stopped_and_started() {
    // (behaviour 6.13, 9.2)
    let web = needs(daemon("web"), &[("both", Until::Ready)]);
    let specs = [daemon("a"), daemon("b"), group("both", &["a", "b"]), web, daemon("other")];
    let mut world = World::boot(plan(specs));
    world.sent();
    let change = world.stop(&["both"]);
    let expected = ["a reached", "b reached", "both reached", "+web reached"];
    assert_eq!(world.goals(change), expected);
    assert_eq!(world.sent(), ["stop web", "stop a", "stop b"]);
    assert_eq!(world.state("both"), State::Stopped);
    assert_eq!(world.state("other"), State::Ready);
    let change = world.start(&["both"]);
    assert_eq!(world.goals(change), ["+a reached", "+b reached", "both reached"]);
    let change = world.restart(&["both"]);
    assert_eq!(world.goals(change), ["a reached", "b reached"]);
    assert_eq!(world.generation("a"), 3);
}

#[test]
fn a_member_that_is_stopped_stops_who_needs_the_group_and_not_the_group() {
    // (behaviour 6.13)
    let web = needs(daemon("web"), &[("both", Until::Ready)]);
    let specs = [daemon("a"), daemon("b"), group("both", &["a", "b"]), web];
    let mut world = World::boot(plan(specs));
    world.sent();
    world.stubborn.insert(name("web"));
    let change = world.stop(&["a"]);
    assert_eq!(world.sent(), ["stop web"]);
    world.exits("web", Exit::Code(0));
    assert_eq!(world.sent(), ["stop a"]);
    assert_eq!(world.goals(change), ["a reached", "+web reached"]);
    assert_eq!((world.state("both"), world.state("b")), (State::Waiting, State::Ready));
    world.start(&["a"]);
    assert_eq!(world.state("both"), State::Ready);
}

#[test]
fn groups_of_groups_work_likewise() {
    // (behaviour 6.13)
    let web = needs(daemon("web"), &[("outer", Until::Ready)]);
    let specs = [daemon("a"), group("inner", &["a"]), group("outer", &["inner"]), web];
    let mut world = World::boot(plan(specs));
    assert_eq!(world.state("web"), State::Ready);
    world.sent();
    world.stubborn.insert(name("web"));
    world.stop(&["outer"]);
    assert_eq!(world.sent(), ["stop web"]);
    world.exits("web", Exit::Code(0));
    assert_eq!(world.sent(), ["stop a"]);
    assert_eq!((world.state("inner"), world.state("outer")), (State::Stopped, State::Stopped));
}

#[test]
fn a_service_becomes_a_group_and_a_group_a_service() {
    // (behaviour 10.9)
    let mut world = World::boot(plan([daemon("a"), daemon("both")]));
    let change = world.apply(plan([daemon("a"), group("both", &["a"])]), true);
    assert_eq!(world.goals(change), ["both reached"]);
    assert_eq!((world.state("both"), world.status("both").pid), (State::Ready, None));
    world.apply(plan([daemon("a"), daemon("both")]), true);
    assert_eq!(world.state("both"), State::Ready);
    assert!(world.status("both").pid.is_some());
}

#[test]
fn what_is_quarantined_is_seen_and_not_started() {
    // (behaviour 6.14)
    let broken = ServiceSpec::quarantined(name("db"), "keepd.toml:3:1: cannot use it".into());
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([broken, web, daemon("other")]));
    assert_eq!((world.state("db"), world.state("web")), (State::Failed, State::Waiting));
    assert_eq!(world.state("other"), State::Ready);
    assert_eq!(world.status("db").reason(), Reason::Config);
    assert_eq!(world.preparations, 1);
    let names = vec![name("db")];
    let refusal = world.refusal(Ask::Start { names, alone: false });
    assert!(matches!(refusal, Refusal::Quarantined(..)), "{refusal:?}");
    let end = "it stays so until its table in the file is corrected and applied";
    assert_eq!(world.why("db").last().unwrap().trim_start(), end);
    // A correct file ends it, and it never was anything that could be stopped or restarted.
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let corrected = plan([daemon("db"), web.clone(), daemon("other")]);
    let steps = world.manager.preview(&corrected);
    let start = Step { name: name("db"), action: Action::Start, keys: Vec::new() };
    assert_eq!(steps, [start]);
    let off = plan([ServiceSpec { enabled: false, ..daemon("db") }, web, daemon("other")]);
    assert_eq!(world.manager.preview(&off)[0].action, Action::NextStart);
    let change = world.apply(corrected, true);
    assert_eq!((world.state("db"), world.state("web")), (State::Ready, State::Ready));
    assert_eq!(world.goals(change), ["db reached"]);
}

#[test]
fn what_runs_goes_on_when_its_new_table_cannot_be_used() {
    // (behaviour 6.14)
    let mut world = World::boot(plan([daemon("db")]));
    let broken = ServiceSpec::quarantined(name("db"), "keepd.toml:3:1: cannot use it".into());
    world.apply(plan([broken]), true);
    assert_eq!((world.state("db"), world.generation("db")), (State::Ready, 1));
    world.take_over();
    assert_eq!((world.state("db"), world.generation("db")), (State::Ready, 1));
    world.exits("db", Exit::Code(0));
    assert_eq!(world.state("db"), State::Failed);
}

#[test]
fn a_group_is_looked_through_when_what_comes_before_it_stops() {
    // (behaviour 9.2)
    let first = before(daemon("first"), &["both"]);
    let web = needs(daemon("web"), &[("both", Until::Ready)]);
    let mut world = World::boot(plan([first, daemon("a"), group("both", &["a"]), web]));
    world.stubborn.insert(name("web"));
    let change = world.stop(&["first", "both"]);
    assert!(!world.change(change).is_closed());
    world.exits("web", Exit::Code(0));
    assert!(world.change(change).is_success(), "{:?}", world.goals(change));
}

#[test]
fn a_group_that_is_there_does_not_go_back_for_order() {
    // (behaviour 6.13)
    let first = before(probed(daemon("first")), &["both"]);
    let mut world = World::boot(plan([first, daemon("a"), group("both", &["a"])]));
    assert_eq!(world.state("both"), State::Waiting);
    world.answer_probes("first", Ok(()));
    world.restart(&["first"]);
    assert_eq!((world.state("first"), world.state("both")), (State::Starting, State::Ready));
}

#[test]
fn what_goes_while_a_start_is_prepared_is_waited_for() {
    // (behaviour 6.3)
    let web = reacting(daemon("web"), "db", OnStop::Restart);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.stop(&["web"]);
    world.held_preparations.insert(name("web"));
    world.start(&["web"]);
    world.stubborn.insert(name("db"));
    world.restart(&["db"]);
    world.release_preparations("web");
    assert_eq!(world.state("web"), State::Waiting);
    world.exits("db", Exit::Code(0));
    assert_eq!((world.state("db"), world.state("web")), (State::Ready, State::Ready));
    assert_eq!(world.generation("web"), 2);
}
