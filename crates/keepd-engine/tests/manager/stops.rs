//! Behaviour 9: stops, and what they take along.

use keepd_engine::manager::Ask;
use keepd_model::{Exit, Reason, Signal, State, Until, Wanted};

use crate::world::*;

/// `web` needs `app`, which needs `db`; `other` needs nothing.
fn chain() -> World {
    let app = needs(daemon("app"), &[("db", Until::Ready)]);
    let web = needs(daemon("web"), &[("app", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), app, web, daemon("other")]));
    world.steps();
    world.sent();
    world
}

#[test]
fn dependents_go_first_and_are_named() {
    // (behaviour 9.1, 9.2)
    let mut world = chain();
    let change = world.stop(&["db"]);
    let expected = ["+app reached", "db reached", "+web reached"];
    assert_eq!(world.goals(change), expected);
    assert_eq!(world.sent(), ["stop web", "stop app", "stop db"]);
    let expected =
        ["web stopping", "web stopped", "app stopping", "app stopped", "db stopping", "db stopped"];
    assert_eq!(world.steps(), expected);
    assert_eq!(world.state("other"), State::Ready);
    // They are stopped for the one who asked, not for themselves.
    assert_eq!(world.status("web").reason(), Reason::Operator);
}

#[test]
fn who_is_needed_waits_until_nothing_of_its_dependents_is_left() {
    // (behaviour 9.2)
    let mut world = chain();
    world.stubborn.insert(name("web"));
    let change = world.stop(&["db"]);
    assert_eq!(world.sent(), ["stop web"]);
    world.exits_partly("web", Exit::Code(0));
    assert_eq!(world.sent(), [""; 0]);
    assert!(!world.change(change).is_closed());
    world.empties("web");
    assert_eq!(world.sent(), ["stop app", "stop db"]);
    assert!(world.change(change).is_success());
}

#[test]
fn alone_means_alone() {
    // (behaviour 9.1)
    let mut world = chain();
    let names = vec![name("db")];
    let (alone, kill) = (true, false);
    let change = world.ask(Ask::Stop { names, alone, kill });
    assert_eq!(world.goals(change), ["db reached"]);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.state("db"), State::Stopped);
}

#[test]
fn who_is_killed_does_not_wait() {
    // (behaviour 9.3)
    let mut world = chain();
    world.immortal.insert(name("web"));
    world.kill(&["db"]);
    assert_eq!(world.sent(), ["stop app KILL", "stop db KILL", "stop web KILL"]);
    assert_eq!(world.state("db"), State::Stopped);
    assert_eq!(world.state("web"), State::Stopping);
}

#[test]
fn a_stop_under_way_becomes_harder_never_softer() {
    // (behaviour 9.5)
    let mut world = World::boot(plan([daemon("web")]));
    world.stubborn.insert(name("web"));
    world.immortal.insert(name("web"));
    world.sent();
    world.stop(&["web"]);
    world.kill(&["web"]);
    world.stop(&["web"]);
    world.kill(&["web"]);
    assert_eq!(world.sent(), ["stop web", "stop web KILL"]);
    world.exits("web", killed_by(Signal::KILL));
    assert_eq!(world.state("web"), State::Stopped);
}

#[test]
fn what_has_no_process_is_stopped_at_once() {
    // (behaviour 9.4)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([probed(daemon("db")), web]));
    assert_eq!(world.state("web"), State::Waiting);
    let change = world.stop(&["web"]);
    assert_eq!(world.goals(change), ["web reached"]);
    world.exits("db", Exit::Code(1));
    assert_eq!(world.state("db"), State::Backoff);
    let change = world.stop(&["db"]);
    assert_eq!(world.goals(change), ["db reached"]);
    world.advance(secs(600));
    assert_eq!(world.state("db"), State::Stopped);
    assert_eq!(world.generation("db"), 1);
}

#[test]
fn an_end_during_a_stop_is_the_stop() {
    // (behaviour 9.6): restart = "always" does not start it again.
    let mut world = World::boot(plan([daemon("web")]));
    world.stubborn.insert(name("web"));
    let change = world.stop(&["web"]);
    assert_eq!(world.goals(change), ["web open"]);
    world.exits("web", Exit::Code(1));
    assert_eq!(world.state("web"), State::Stopped);
    assert_eq!(world.goals(change), ["web reached"]);
    world.advance(secs(3600));
    assert_eq!(world.state("web"), State::Stopped);
    let end = world.status("web").last_end.unwrap();
    assert_eq!((end.exit, end.reason), (Some(Exit::Code(1)), Reason::Operator));
}

#[test]
fn an_operators_stop_holds() {
    // (behaviour 9.7)
    let mut world = chain();
    world.stop(&["app"]);
    world.take_over();
    assert_eq!(world.state("app"), State::Stopped);
    assert_eq!(world.status("app").wanted, Wanted::Down);
    assert_eq!(world.status("app").reason(), Reason::Operator);
    assert_eq!(world.state("web"), State::Stopped);
    assert_eq!(world.state("db"), State::Ready);
    // Neither its own changed key nor a new dependent starts it.
    let mut plan = world.manager.plan().clone();
    let mut app = (*plan.services[&name("app")]).clone();
    app.umask = 0o077;
    let more = needs(daemon("more"), &[("app", Until::Ready)]);
    for spec in [app, more] {
        plan.services.insert(spec.name.clone(), spec.into());
    }
    world.apply(plan, true);
    assert_eq!(world.state("app"), State::Stopped);
    assert_eq!(world.state("more"), State::Waiting);
    world.start(&["app"]);
    assert_eq!(world.state("more"), State::Ready);
}

#[test]
fn a_start_during_a_stop_is_carried_out_after_it() {
    // (behaviour 9.8)
    let mut world = World::boot(plan([daemon("web")]));
    world.stubborn.insert(name("web"));
    let stop = world.stop(&["web"]);
    let start = world.start(&["web"]);
    assert_eq!(world.goals(stop), ["web missed: it was started meanwhile"]);
    assert_eq!(world.state("web"), State::Stopping);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.goals(start), ["web reached"]);
}

#[test]
fn what_does_not_end_is_stuck_until_it_does() {
    // (behaviour 9.9, 10.5)
    let mut world = World::boot(plan([daemon("web")]));
    world.immortal.insert(name("web"));
    let change = world.kill(&["web"]);
    world.sticks("web");
    assert_eq!(world.state("web"), State::Stuck);
    let expected = ["web missed: something of it is left long after KILL"];
    assert_eq!(world.goals(change), expected);
    world.start(&["web"]);
    assert_eq!(world.state("web"), State::Stuck);
    world.exits("web", killed_by(Signal::KILL));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_dependent_that_rests_is_not_taken_along() {
    // (behaviour 9.1)
    let mut world = chain();
    world.stop(&["web"]);
    let change = world.stop(&["db"]);
    assert_eq!(world.goals(change), ["+app reached", "db reached"]);
}

#[test]
fn a_restart_of_what_is_about_to_be_stopped_keeps_it() {
    // (behaviour 9.8, 10.7): the last word counts.
    let mut world = chain();
    world.stubborn.insert(name("web"));
    world.stop(&["db"]);
    let change = world.restart(&["db"]);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.goals(change), ["db reached"]);
    assert_eq!(world.generation("db"), 2);
    assert_eq!(world.state("web"), State::Stopped);
}

#[test]
fn what_is_about_to_be_stopped_is_not_timed() {
    // (behaviour 7.7, 9.2)
    let app = needs(daemon("app"), &[("db", Until::Started)]);
    let mut db = probed(daemon("db"));
    db.ready.timeout = Some(secs(5));
    let mut world = World::boot(plan([db, app]));
    world.stubborn.insert(name("app"));
    world.sent();
    world.stop(&["db"]);
    world.advance(secs(20));
    assert_eq!(world.sent(), ["stop app"]);
    world.exits("app", killed_by(Signal::TERM));
    assert_eq!(world.state("db"), State::Stopped);
}

#[test]
fn who_did_not_end_in_time_is_told_so() {
    // (behaviour 9.10)
    let mut world = chain();
    world.stubborn.insert(name("other"));
    world.stop(&["other"]);
    world.advance(secs(10));
    world.exits("other", killed_by(Signal::KILL));
    let why = world.why("other").join("\n");
    let expected = "ended with signal KILL after 10.0s: it did not end within 10.0s of signal TERM \
                    (stop_timeout)";
    assert!(why.contains(expected), "{why}");
    // Who is killed at once has nothing to be blamed for.
    world.start(&["other"]);
    world.kill(&["other"]);
    assert_eq!(world.status("other").last_end.unwrap().failure, None);
}

#[test]
fn names_and_patterns_mean_the_same_as_ever() {
    let world = World::boot(plan([daemon("web"), daemon("web-admin"), daemon("db")]));
    let select = |selectors: &[&str]| -> Result<String, String> {
        let selectors: Vec<String> = selectors.iter().map(|text| (*text).to_owned()).collect();
        let names = world.manager.select(&selectors)?;
        Ok(names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(select(&["web", "web", "db"]), Ok("db web".to_owned()));
    assert_eq!(select(&["web*", "web"]), Ok("web web-admin".to_owned()));
    assert_eq!(select(&["state:ready"]), Ok("db web web-admin".to_owned()));
    assert_eq!(select(&["all", "wbe"]), Err("wbe".to_owned()));
    assert_eq!(select(&["state:failed"]), Err("state:failed".to_owned()));
}
