//! Behaviour 10: requests, their changes, and what becomes of them.

use keepd_engine::manager::{Ask, AskId, Awaited, Input, Output, Refusal, Verb, Who};
use keepd_model::{Exit, Reload, Signal, State, Until};

use crate::world::*;

#[test]
fn boot_is_a_change() {
    // (behaviour 10.1, 10.4)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([probed(daemon("db")), web]));
    let boot = world.manager.changes().next().unwrap();
    assert_eq!((boot.verb, boot.who), (Verb::Boot, None));
    let boot = boot.id;
    assert_eq!(world.goals(boot), ["db open", "web open"]);
    world.answer_probes("db", Ok(()));
    assert!(world.change(boot).is_success());
}

#[test]
fn everything_a_successor_needs_is_written_before_the_answer() {
    // (behaviour 10.1)
    let mut world = World::boot(plan([daemon("web")]));
    let change = world.stop(&["web"]);
    let key = format!("change.{change}");
    let notes = &world.held[&name("keepd.manager")].notes;
    assert!(notes.contains_key(&key), "{:?}", notes.keys());
}

#[test]
fn nothing_is_promised_before_the_proxy_has_it_and_a_lost_one_is_told_again() {
    // (behaviour 10.1)
    let mut world = World::boot(plan([daemon("web")]));
    let (ask, who) = (AskId(99), Who { uid: 0, pid: 1 });
    let names = vec![name("web")];
    let request = Ask::Stop { names, alone: false, kill: false };
    world.manager.handle_input(world.now, Input::Ask { ask, who, token: None, request });
    // The proxy is lost before it has read any of it.
    let lost: Vec<Output> = std::iter::from_fn(|| world.manager.poll_output()).collect();
    let is_answer = |output: &Output| matches!(output, Output::Answer { .. });
    assert!(!lost.iter().any(is_answer), "{lost:?}");
    world.give(Input::Disconnected);
    world.give(Input::Connected);
    let Ok(change) = &world.answers[&ask] else { panic!("{:?}", world.answers[&ask]) };
    let notes = &world.held[&name("keepd.manager")].notes;
    assert!(notes.contains_key(&format!("change.{change}")), "{:?}", notes.keys());
    assert!(world.change(*change).is_success());
}

#[test]
fn the_same_token_gets_the_same_change() {
    // (behaviour 10.2)
    let mut world = World::boot(plan([daemon("web")]));
    let restart = || Ask::Restart { names: vec![name("web")] };
    let first = world.ask_with(Some("t1"), restart());
    let again = world.ask_with(Some("t1"), restart());
    assert_eq!(world.answers[&first], world.answers[&again]);
    assert_eq!(world.generation("web"), 2);
    world.take_over();
    let later = world.ask_with(Some("t1"), restart());
    assert_eq!(world.answers[&first], world.answers[&later]);
    assert_eq!(world.generation("web"), 2);
    world.ask_with(Some("t2"), restart());
    assert_eq!(world.generation("web"), 3);
}

#[test]
fn refusals_change_nothing() {
    // (behaviour 10.3)
    let mut web = daemon("web");
    web.reload = Some(Reload::Signal(Signal::HUP));
    let mut world = World::boot(plan([web, daemon("db")]));
    world.stop(&["web"]);
    world.sent();
    let changes = world.manager.changes().count();
    let named = |text: &str| vec![name(text)];
    let unknown = world.refusal(Ask::Restart { names: vec![name("web"), name("nobody")] });
    assert_eq!(unknown, Refusal::NoSuchService(name("nobody")));
    let names = named("db");
    let refused = world.refusal(Ask::Reload { names });
    assert_eq!(refused, Refusal::CannotReload(name("db")));
    let names = named("web");
    let refused = world.refusal(Ask::Reload { names });
    assert_eq!(refused, Refusal::NotRunning(name("web")));
    assert_eq!(world.manager.changes().count(), changes);
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn who_does_not_know_the_proxy_yet_refuses() {
    // (behaviour 11.1)
    let mut world = World::boot(plan([daemon("web")]));
    world.lose_manager();
    let names = vec![name("web")];
    let refused = world.refusal(Ask::Restart { names });
    assert_eq!(refused, Refusal::NotSynchronised);
}

#[test]
fn a_restart_is_reached_with_a_later_generation() {
    // (behaviour 10.7)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.answer_probes("web", Ok(()));
    let change = world.restart(&["web"]);
    assert_eq!(world.goals(change), ["web open"]);
    assert_eq!(world.generation("web"), 2);
    world.answer_probes("web", Ok(()));
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.status("web").restarts, 0);
}

#[test]
fn a_restart_looks_first() {
    // (behaviour 10.6)
    let mut world = World::boot(plan([daemon("web")]));
    world.sent();
    world.unpreparable.insert(name("web"));
    let change = world.restart(&["web"]);
    let expected = "web missed: executable \"/bin/service\" not found; it runs on as before";
    assert_eq!(world.goals(change), [expected]);
    assert_eq!(world.sent(), [""; 0]);
    assert_eq!(world.generation("web"), 1);
}

#[test]
fn a_restart_starts_what_does_not_run() {
    // (behaviour 10.7)
    let mut world = World::boot(plan([daemon("web")]));
    world.stop(&["web"]);
    let change = world.restart(&["web"]);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_stop_overtakes_a_restart() {
    // (behaviour 9.7, 10.4)
    let mut world = World::boot(plan([daemon("web")]));
    world.held_preparations.insert(name("web"));
    let restart = world.restart(&["web"]);
    let stop = world.stop(&["web"]);
    assert_eq!(world.goals(restart), ["web missed: it was stopped meanwhile"]);
    assert_eq!(world.goals(stop), ["web reached"]);
    assert_eq!(world.state("web"), State::Stopped);
}

#[test]
fn an_end_during_the_check_of_a_restart_is_answered_by_the_policy() {
    // (behaviour 10.7, 8.4): the run that follows is a later generation, so the restart is reached.
    let mut world = World::boot(plan([]));
    world.apply(plan([daemon("web")]), true);
    world.held_preparations.insert(name("web"));
    let change = world.restart(&["web"]);
    world.held_preparations.clear();
    world.exits("web", Exit::Code(1));
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.generation("web"), 2);
}

#[test]
fn a_reload_is_a_signal_to_the_main_process() {
    // (behaviour 10.8)
    let mut web = daemon("web");
    web.reload = Some(Reload::Signal(Signal::HUP));
    let mut world = World::boot(plan([web]));
    world.sent();
    let names = vec![name("web")];
    let change = world.ask(Ask::Reload { names });
    assert_eq!(world.sent(), ["signal web HUP"]);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.generation("web"), 1);
}

#[test]
fn a_start_that_fails_again_is_missed_and_goes_on() {
    // (behaviour 10.4)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.stop(&["web"]);
    let change = world.start(&["web"]);
    world.exits("web", Exit::Code(9));
    assert_eq!(world.state("web"), State::Backoff);
    let expected = "web missed: its process 102 (generation 2) ended with exit 9 after 0.000s";
    assert_eq!(world.goals(change), [expected]);
    world.advance(ms(500));
    assert_eq!(world.state("web"), State::Starting);
}

#[test]
fn closed_changes_are_kept_for_a_while() {
    // (behaviour 10.12)
    let mut world = World::boot(plan([daemon("web")]));
    for _ in 0..100 {
        world.start(&["web"]);
    }
    let ids: Vec<u64> = world.manager.changes().map(|change| change.id.0).collect();
    assert_eq!(ids.len(), 64);
    assert_eq!(ids.last(), Some(&101));
    let notes = &world.held[&name("keepd.manager")].notes;
    assert_eq!(notes.len(), 64);
}

#[test]
fn notes_about_changes_leave_room_for_a_shutdown() {
    // (behaviour 11.10) As many services as make the notes of 64 changes fill what there is.
    let names: Vec<String> = (0..64).map(|number| format!("s{number}")).collect();
    let mut world = World::boot(plan(names.iter().map(|name| daemon(name))));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..70 {
        world.restart(&all);
    }
    world.stubborn.insert(name("s7"));
    world.signalled(Signal::TERM, 1);
    world.take_over();
    assert!(world.manager.is_shutting_down());
}

#[test]
fn the_oldest_of_too_many_open_changes_is_given_up() {
    // (behaviour 10.18)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    let ids: Vec<_> = (0..500).map(|_| world.start(&["web"])).collect();
    assert!(world.change(ids[371]).is_closed());
    let why = "web missed: too many changes are open, and this is one of the oldest";
    assert_eq!(world.goals(ids[371]), [why]);
    assert_eq!(world.goals(ids[372]), ["web open"]);
    let last = ids[499];
    world.take_over();
    world.answer_probes("web", Ok(()));
    assert!(world.change(last).is_success());
}

#[test]
fn the_reason_of_a_long_chain_stays_short() {
    // (behaviour 10.4)
    let names: Vec<String> = (0..1_000).map(|number| format!("s{number}")).collect();
    let mut specs = vec![daemon("s0")];
    specs
        .extend(names.windows(2).map(|pair| needs(daemon(&pair[1]), &[(&*pair[0], Until::Ready)])));
    let mut world = World::boot(plan([]));
    world.unpreparable.insert(name("s0"));
    let change = world.apply(plan(specs), true);
    let goals = world.goals(change);
    let last = goals.iter().find(|goal| goal.starts_with("s999 ")).unwrap();
    assert!(last.starts_with("s999 missed: it waits for \"s998\", of which: "), "{last}");
    assert!(last.contains("it waits for \"s990\" and so on up to \"s0\", of which: "), "{last}");
    let ninth = goals.iter().find(|goal| goal.starts_with("s9 ")).unwrap();
    assert!(ninth.contains("it waits for \"s0\", of which: "), "{ninth}");
    assert!(last.ends_with("executable \"/bin/service\" not found"), "{last}");
}

#[test]
fn what_is_neither_ready_nor_done_is_brought_up() {
    // (behaviour 13.9)
    let mut extra = daemon("extra");
    extra.enabled = false;
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web, oneshot("job"), extra]));
    world.exits("job", Exit::Code(0));
    let up = |world: &mut World, services: &[&str], enabled_only| {
        let names = services.iter().map(|text| name(text)).collect();
        world.ask(Ask::Up { names, enabled_only })
    };
    let all = ["db", "extra", "job", "web"];
    let nothing = up(&mut world, &all, true);
    assert!(world.change(nothing).is_success());
    assert_eq!(world.goals(nothing), [""; 0]);
    world.stop(&["db"]);
    let change = up(&mut world, &all, true);
    assert_eq!(world.goals(change), ["db reached", "web reached"]);
    assert_eq!(world.state("extra"), State::Stopped);
    let change = up(&mut world, &["extra", "job"], false);
    assert_eq!(world.goals(change), ["extra reached"]);
    assert_eq!(world.generation("job"), 1);
    assert_eq!(
        world.refusal(Ask::Up { names: vec![name("gone")], enabled_only: false }),
        Refusal::NoSuchService(name("gone"))
    );
}

#[test]
fn who_waits_in_vain_is_told_why() {
    // (behaviour 13.2)
    let mut once = daemon("once");
    once.restart = keepd_model::RestartPolicy::Never;
    let web = needs(daemon("web"), &[("once", Until::Ready)]);
    let mut world = World::boot(plan([once, web, oneshot("job"), daemon("db")]));
    let why = |world: &World, service: &str, awaited| {
        world.manager.waits_in_vain_for(&name(service), awaited)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(why(&world, "db", Awaited::In(State::Stopped)), None, "somebody may stop it");
    assert_eq!(why(&world, "job", Awaited::There), None);
    assert_eq!(why(&world, "db", Awaited::Healthy), text("it has no health check"));
    world.exits("once", Exit::Code(1));
    world.exits("job", Exit::Code(0));
    let ended = why(&world, "once", Awaited::There).unwrap();
    assert!(ended.contains("ended with exit 1"), "{ended}");
    assert_eq!(why(&world, "once", Awaited::In(State::Stopped)), text("it is failed"));
    assert_eq!(why(&world, "job", Awaited::In(State::Stopped)), text("it is done"));
    world.stop(&["web"]);
    world.ask(Ask::Start { names: vec![name("web")], alone: true });
    let waits = why(&world, "web", Awaited::There).unwrap();
    assert!(waits.starts_with("it waits for \"once\", of which: "), "{waits}");
    assert_eq!(why(&world, "web", Awaited::In(State::Stopped)), None);
    let gone = text("it is not in the configuration any more");
    assert_eq!(why(&world, "gone", Awaited::There), gone);
}
