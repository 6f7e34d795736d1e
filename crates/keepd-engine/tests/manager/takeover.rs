//! Behaviour 11: a new manager takes over.

use keepd_engine::manager::{Ask, Happening, Input};
use keepd_model::{Exit, Reason, Reload, RestartPolicy, ShutdownOn, Signal, State, Until, Wanted};

use crate::world::*;

/// What is remembered of a service over a takeover.
fn face(world: &World, service: &str) -> (Wanted, State, u64, Option<keepd_model::Pid>, Reason) {
    let status = world.status(service);
    let reason = status.reason();
    (status.wanted, status.state, status.generation.get(), status.pid, reason)
}

/// A phase by name, what people see of it, and how it is reached.
type Case = (&'static str, State, fn(&mut World));

#[test]
fn every_phase_survives_a_takeover() {
    // (behaviour 11.2, 11.3, 11.5, 11.6)
    let cases: [Case; 11] = [
        ("stopped", State::Stopped, |world| {
            world.stop(&["web"]);
        }),
        ("waiting", State::Waiting, |world| {
            world.stop(&["db"]);
            world.unpreparable.insert(name("db"));
            world.start(&["web"]);
        }),
        ("preparing", State::Starting, |world| {
            world.stop(&["web"]);
            world.held_preparations.insert(name("web"));
            world.start(&["web"]);
        }),
        ("commanded", State::Starting, |world| {
            world.slow.insert(name("web"));
            world.restart(&["web"]);
        }),
        ("starting", State::Starting, |world| {
            world.restart(&["web"]);
        }),
        ("ready", State::Ready, |_| {}),
        ("ending", State::Stopping, |world| {
            world.stubborn.insert(name("web"));
            world.stop(&["web"]);
        }),
        ("stuck", State::Stuck, |world| {
            world.immortal.insert(name("web"));
            world.kill(&["web"]);
            world.sticks("web");
        }),
        ("backoff", State::Backoff, |world| {
            world.exits("web", Exit::Code(1));
            world.exits("web", Exit::Code(1));
        }),
        ("done", State::Done, |world| {
            world.exits("job", Exit::Code(0));
        }),
        ("failed", State::Failed, |world| {
            world.exits("job", Exit::Code(1));
        }),
    ];
    for (phase, state, reach) in cases {
        let web = needs(probed(daemon("web")), &[("db", Until::Ready)]);
        let mut world = World::boot(plan([daemon("db"), web, oneshot("job")]));
        world.answer_probes("web", Ok(()));
        let service = match state {
            State::Done | State::Failed => "job",
            _ => "web",
        };
        reach(&mut world);
        assert_eq!(world.state(service), state, "{phase}");
        let before = face(&world, service);
        let next_start = world.status(service).next_start;
        world.take_over();
        // What is on its way to ready is asked for anew, with its own reason.
        match state {
            State::Starting | State::Waiting => {
                assert_eq!(world.state(service), state, "{phase}");
                assert_eq!(world.status(service).generation.get(), before.2, "{phase}");
                assert_eq!(world.status(service).pid, before.3, "{phase}");
            }
            _ => assert_eq!(face(&world, service), before, "{phase}"),
        }
        assert_eq!(world.status(service).next_start, next_start, "{phase}");
        let signals: Vec<String> = world
            .sent()
            .into_iter()
            .filter(|sent| sent.starts_with("stop") || sent.starts_with("signal"))
            .collect();
        assert_eq!(signals, [""; 0], "{phase}");
    }
}

#[test]
fn a_takeover_is_announced_with_what_it_found() {
    // (behaviour 11.2)
    let mut world = World::boot(plan([daemon("web"), daemon("db")]));
    world.sent();
    world.take_over();
    let adopted = world.announced.iter().find_map(|announcement| match announcement.what {
        Happening::Synchronised { adopted } => Some(adopted),
        _ => None,
    });
    assert_eq!(adopted, Some(2));
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn an_end_that_nobody_saw_is_answered_by_the_policy() {
    // (behaviour 11.4)
    let mut once = daemon("once");
    once.restart = RestartPolicy::Never;
    let mut world = World::boot(plan([daemon("web"), once]));
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.exits_unseen("web", Exit::Code(1));
    world.exits_unseen("once", Exit::Code(1));
    world.begin_manager(plan);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.status("web").restarts, 1);
    assert_eq!(world.state("once"), State::Failed);
    assert_eq!(world.status("once").reason(), Reason::Exit);
}

#[test]
fn counts_of_ends_survive() {
    // (behaviour 11.6, 8.4)
    let mut world = World::boot(plan([daemon("web")]));
    for _ in 0..3 {
        world.exits("web", Exit::Code(1));
        world.advance(secs(5));
    }
    world.take_over();
    world.exits("web", Exit::Code(1));
    let status = world.status("web");
    let delay = status.next_start.unwrap().saturating_since(world.now);
    assert_eq!(delay, secs(2));
    assert_eq!(status.restarts, 4);
}

#[test]
fn the_time_until_a_takeover_is_no_time_of_being_ready() {
    // (behaviour 11.4, 8.5): it was ready for a second, and nobody looked for an hour.
    let mut world = World::boot_without_leases(plan([daemon("web")]));
    for _ in 0..3 {
        world.exits("web", Exit::Code(1));
        world.advance(secs(5));
    }
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.exits_unseen("web", Exit::Code(1));
    world.now = world.now.saturating_add(secs(3600));
    world.begin_manager(plan);
    let status = world.status("web");
    let delay = status.next_start.unwrap().saturating_since(world.now);
    assert_eq!(delay, secs(2));
}

#[test]
fn a_run_that_was_ready_for_long_enough_resets_the_count_unseen() {
    // (behaviour 11.4, 8.5)
    let mut world = World::boot_without_leases(plan([daemon("web")]));
    for _ in 0..3 {
        world.exits("web", Exit::Code(1));
        world.advance(secs(5));
    }
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.now = world.now.saturating_add(secs(60));
    world.exits_unseen("web", Exit::Code(1));
    world.begin_manager(plan);
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.generation("web"), 5);
}

#[test]
fn how_long_a_run_was_up_is_known_that_never_got_ready() {
    // (behaviour 11.4)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.advance(secs(3));
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.now = world.now.saturating_add(secs(4));
    world.exits_unseen("web", Exit::Code(1));
    world.begin_manager(plan);
    assert_eq!(world.status("web").last_end.unwrap().ran, secs(7));
}

#[test]
fn a_lost_connection_is_not_told_as_another_manager() {
    // (behaviour 11.7)
    let mut web = daemon("web");
    let command = keepd_model::CommandLine::Shell("true".to_owned());
    web.reload = Some(Reload::Command(command));
    let mut world = World::boot(plan([web]));
    let change = world.ask(Ask::Reload { names: vec![name("web")] });
    world.give(Input::Disconnected);
    world.give(Input::Connected);
    let expected = "web missed: the connection to keepd's proxy was lost before the answer came";
    assert_eq!(world.goals(change), [expected]);
}

#[test]
fn a_backoff_that_is_over_is_followed_by_a_start_at_once() {
    // (behaviour 11.5)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.exits("web", Exit::Code(1));
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.now = world.now.saturating_add(secs(10));
    world.begin_manager(plan);
    world.advance(ms(0));
    assert_eq!(world.state("web"), State::Starting);
    assert_eq!(world.generation("web"), 2);
}

#[test]
fn a_notification_during_the_absence_counts() {
    // (behaviour 11.11)
    let mut web = daemon("web");
    web.ready.notify = true;
    let mut world = World::boot(plan([web]));
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.notifies("web");
    world.begin_manager(plan);
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn who_was_not_ready_is_asked_again() {
    // (behaviour 11.3)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.take_over();
    assert_eq!(world.state("web"), State::Starting);
    world.answer_probes("web", Ok(()));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.generation("web"), 1);
}

#[test]
fn a_restart_that_was_accepted_is_carried_out() {
    // (behaviour 11.7, 11.8)
    let mut world = World::boot(plan([daemon("web")]));
    world.held_preparations.insert(name("web"));
    let change = world.restart(&["web"]);
    world.held_preparations.clear();
    world.take_over();
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.change(change).who.map(|who| who.uid), Some(7));
}

#[test]
fn a_restart_under_way_goes_on() {
    // (behaviour 11.7): it was asked to stop in order to be started again.
    let mut world = World::boot(plan([daemon("web")]));
    world.stubborn.insert(name("web"));
    let change = world.restart(&["web"]);
    assert_eq!(world.state("web"), State::Stopping);
    world.take_over();
    assert_eq!(world.goals(change), ["web open"]);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.goals(change), ["web reached"]);
    assert_eq!(world.status("web").restarts, 0);
}

#[test]
fn a_stop_in_order_goes_on() {
    // (behaviour 11.7, 9.2)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.stubborn.insert(name("web"));
    let change = world.stop(&["db"]);
    world.take_over();
    assert_eq!(world.state("db"), State::Ready);
    world.exits("web", killed_by(Signal::TERM));
    assert_eq!(world.state("db"), State::Stopped);
    assert_eq!(world.goals(change), ["db reached", "+web reached"]);
}

#[test]
fn strangers_are_left_alone_and_leftovers_are_removed() {
    // (behaviour 11.9)
    let mut world = World::boot(plan([daemon("web"), daemon("old")]));
    let mut plan = world.manager.plan().clone();
    // The record of `old` makes it ours; without a record `stranger` is somebody else's.
    let mut stranger = plan.clone();
    stranger.services.retain(|_, spec| spec.name.as_str() == "web");
    plan.services.remove(&name("old"));
    world.lose_manager();
    let old = world.held.remove(&name("web")).unwrap();
    world.held.insert(name("stranger"), old);
    let held = world.held.get_mut(&name("stranger")).unwrap();
    held.notes.clear();
    world.begin_manager(plan);
    assert!(!world.held.contains_key(&name("old")));
    assert!(world.held.contains_key(&name("stranger")));
    assert!(world.manager.status(&name("stranger")).is_none());
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn an_accepted_configuration_is_carried_out() {
    // (behaviour 11.12): the predecessor was lost after it accepted the plan.
    let mut world = World::boot(plan([daemon("web")]));
    let mut web = daemon("web");
    web.umask = 0o077;
    world.lose_manager();
    world.begin_manager(plan([web]));
    assert_eq!(world.generation("web"), 2);
    assert!(!world.status("web").config_changed);
}

#[test]
fn a_shutdown_goes_on() {
    // (behaviour 11.10)
    let mut world = World::boot(plan([daemon("web")]));
    world.stubborn.insert(name("web"));
    world.ask(Ask::Shutdown { now: false });
    let began = world.now;
    world.advance(secs(30));
    world.take_over();
    assert!(world.manager.is_shutting_down());
    assert_eq!(world.finished, None);
    world.advance(secs(60));
    assert_eq!(world.finished, Some(0));
    assert_eq!(world.now.saturating_since(began), secs(90));
}

#[test]
fn a_shutdown_that_kills_goes_on_with_killing() {
    // (behaviour 11.10, 12.4)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.immortal.insert(name("web"));
    world.ask(Ask::Shutdown { now: true });
    world.advance(secs(4));
    world.take_over();
    world.advance(ms(5_999));
    let harder: Vec<String> =
        world.sent().into_iter().filter(|sent| sent.starts_with("stop")).collect();
    assert!(harder.iter().all(|sent| sent == "stop web KILL"), "{harder:?}");
    assert_eq!(world.finished, None);
    world.advance(ms(1));
    assert_eq!(world.finished, Some(1));
}

#[test]
fn a_shutdown_whose_time_for_killing_is_over_is_given_up_by_the_successor() {
    // (behaviour 11.10, 12.4)
    let mut world = World::boot(plan([daemon("web")]));
    world.immortal.insert(name("web"));
    world.ask(Ask::Shutdown { now: true });
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.now = world.now.saturating_add(secs(60));
    world.begin_manager(plan);
    world.advance(ms(0));
    assert_eq!(world.finished, Some(1));
}

#[test]
fn the_plan_may_come_after_the_dump() {
    // (behaviour 11.1): each dump has one end, and the last one counts.
    for boot_after in 0..12 {
        let mut world = World::boot(plan([daemon("web"), daemon("db")]));
        world.sent();
        let plan = world.manager.plan().clone();
        world.lose_manager();
        world.give_slowly(Input::Connected, boot_after, Input::Boot { plan });
        assert!(world.manager.is_synchronised(), "{boot_after}");
        assert_eq!(world.sent(), [""; 0], "{boot_after}");
        assert_eq!(world.state("web"), State::Ready, "{boot_after}");
        assert_eq!(world.state("db"), State::Ready, "{boot_after}");
    }
}

#[test]
fn an_end_that_nobody_saw_can_end_everything() {
    // (behaviour 11.4, 12.2): also for services that are adopted after it.
    let mut main = daemon("main");
    main.restart = RestartPolicy::Never;
    main.shutdown_on = ShutdownOn::Exit;
    let mut world = World::boot(plan([daemon("before"), main, daemon("next")]));
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.exits_unseen("main", Exit::Code(3));
    world.begin_manager(plan);
    assert_eq!(world.finished, Some(3));
    assert_eq!(world.state("next"), State::Stopped);
}

#[test]
fn a_restart_by_policy_does_not_look_at_dependencies_after_a_takeover_either() {
    // (behaviour 6.4, 11.6)
    let mut db = daemon("db");
    db.restart = RestartPolicy::Never;
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([db, web]));
    world.exits("db", Exit::Code(1));
    world.held_preparations.insert(name("web"));
    world.exits("web", Exit::Code(1));
    world.held_preparations.clear();
    world.take_over();
    world.advance(ms(0));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn questions_that_cannot_be_filled_in_are_tried_again() {
    // (behaviour 11.3)
    let mut web = probed(daemon("web"));
    web.ready.timeout = None;
    let mut world = World::boot(plan([web]));
    world.unpreparable.insert(name("web"));
    world.take_over();
    let waits = world.status("web").waits_for;
    assert_eq!(waits, ["executable \"/bin/service\" not found"]);
    world.unpreparable.clear();
    world.advance(secs(3));
    world.answer_probes("web", Ok(()));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_oneshot_that_ended_before_its_restart_runs_again() {
    // (behaviour 10.7, 11.8)
    let mut world = World::boot(plan([oneshot("migrate")]));
    world.held_preparations.insert(name("migrate"));
    let change = world.restart(&["migrate"]);
    world.exits("migrate", Exit::Code(0));
    // It does not rest: the restart that was asked for begins at once.
    assert_eq!(world.state("migrate"), State::Starting);
    world.held_preparations.clear();
    world.take_over();
    assert_eq!(world.generation("migrate"), 2);
    world.exits("migrate", Exit::Code(0));
    assert_eq!(world.goals(change), ["migrate reached"]);
}

#[test]
fn a_reload_without_an_answer_is_missed() {
    // (behaviour 11.7): the predecessor wrote the change down and was lost before it sent the
    // signal.
    let mut web = daemon("web");
    web.reload = Some(Reload::Signal(Signal::HUP));
    let mut world = World::boot(plan([web]));
    let names = vec![name("web")];
    let change = world.ask(Ask::Reload { names });
    let key = format!("change.{change}");
    let manager = world.held.get_mut(&name("keepd.manager")).unwrap();
    let note = String::from_utf8(manager.notes[&key].clone()).unwrap();
    let open = regress_to_open(&note);
    manager.notes.insert(key, open.into_bytes());
    world.take_over();
    let expected = "web missed: keepd's manager was replaced before the answer came";
    assert_eq!(world.goals(change), [expected]);
}

#[test]
fn an_accepted_enabled_is_followed_by_the_successor() {
    // (behaviour 11.13): the plan was written down, and the manager was lost before it acted.
    let mut later = daemon("later");
    later.enabled = false;
    let web = daemon("web");
    let mut world = World::boot(plan([web.clone(), later.clone()]));
    assert_eq!((world.state("web"), world.state("later")), (State::Ready, State::Stopped));
    let mut never = web;
    never.enabled = false;
    later.enabled = true;
    world.lose_manager();
    world.begin_manager(plan([never, later]));
    assert_eq!((world.state("web"), world.state("later")), (State::Stopped, State::Ready));
}

#[test]
fn what_a_lost_manager_removed_still_ends_in_order() {
    // (behaviour 11.9): the plan no longer says who depends on whom, the records do.
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let app = needs(daemon("app"), &[("web", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web, app]));
    world.lose_manager();
    world.begin_manager(plan([]));
    let stops: Vec<String> =
        world.sent().into_iter().filter(|command| command.starts_with("stop")).collect();
    assert_eq!(stops, ["stop app", "stop web", "stop db"]);
}

/// Returns the note of a closed change as it was while its one goal was open.
fn regress_to_open(note: &str) -> String {
    let fields = note.split('\t').filter_map(|field| match field.split_once('=')? {
        ("closed_ns", _) => None,
        ("goal0", value) => {
            let before = value.split("reached").next().unwrap_or_default();
            Some(format!("goal0={}", value.replacen(&value[before.len()..], "open", 1)))
        }
        (key, value) => Some(format!("{key}={value}")),
    });
    let fields: Vec<String> = fields.collect();
    fields.join("\t")
}

#[test]
fn how_long_a_run_took_outlasts_the_manager() {
    // (behaviour 8.9, 11.4)
    for (is_seen, ran) in [(true, secs(70)), (false, secs(60))] {
        let mut world = World::boot(plan([probed(daemon("web"))]));
        world.advance(secs(10));
        world.answer_probes("web", Ok(()));
        world.advance(secs(50));
        if is_seen {
            // The end is under way while the manager is replaced.
            world.stubborn.insert(name("web"));
            world.stop(&["web"]);
            world.take_over();
            world.advance(secs(10));
            world.exits("web", Exit::Code(0));
        } else {
            let plan = world.manager.plan().clone();
            world.lose_manager();
            world.exits_unseen("web", Exit::Code(0));
            world.now = world.now.saturating_add(secs(10));
            world.begin_manager(plan);
        }
        let end = world.status("web").last_end.unwrap();
        assert_eq!((end.exit, end.ran), (Some(Exit::Code(0)), ran), "{end:?}");
    }
}
