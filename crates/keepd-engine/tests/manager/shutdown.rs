//! Behaviour 12: the end of everything.

use keepd_engine::manager::{Ask, AskId, Input, Output, Refusal, Settings, Who};
use keepd_model::{Exit, ExitWhen, RestartPolicy, ShutdownOn, Signal, State, Until};

use crate::world::*;

fn pair() -> World {
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.sent();
    world
}

#[test]
fn services_end_in_reverse_order() {
    // (behaviour 12.1, 12.2, 12.5)
    let mut world = pair();
    world.stubborn.insert(name("web"));
    let change = world.ask(Ask::Shutdown { now: false });
    assert_eq!(world.sent(), ["stop web"]);
    assert_eq!(world.finished, None);
    world.exits("web", Exit::Code(0));
    assert_eq!(world.sent(), ["stop db"]);
    assert_eq!(world.finished, Some(0));
    assert!(world.change(change).is_success());
}

#[test]
fn who_asks_for_the_end_of_nothing_is_answered_before_it() {
    let mut web = daemon("web");
    web.enabled = false;
    let mut world = World::boot(plan([web]));
    let (ask, who) = (AskId(99), Who { uid: 0, pid: 1 });
    let request = Ask::Shutdown { now: false };
    world.manager.handle_input(world.now, Input::Ask { ask, who, token: None, request });
    let outputs: Vec<Output> = std::iter::from_fn(|| world.manager.poll_output()).collect();
    let [.., Output::Answer { ask: answered, .. }, Output::Finish { code: 0 }] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!(*answered, ask);
}

#[test]
fn only_a_shutdown_is_accepted_during_a_shutdown() {
    // (behaviour 10.3, 12.3)
    let mut world = pair();
    world.stubborn.insert(name("web"));
    world.ask(Ask::Shutdown { now: false });
    let names = vec![name("web")];
    let refused = world.refusal(Ask::Restart { names });
    assert_eq!(refused, Refusal::ShuttingDown);
    world.sent();
    world.ask(Ask::Shutdown { now: true });
    assert_eq!(world.sent(), ["stop web KILL", "stop db KILL"]);
    assert_eq!(world.finished, Some(0));
}

#[test]
fn signals_begin_it_and_a_second_one_hurries() {
    // (behaviour 12.1, 12.3, 12.8)
    let mut world = pair();
    world.stubborn.insert(name("web"));
    world.signalled(Signal::TERM, 1);
    assert!(world.manager.is_shutting_down());
    assert_eq!(world.sent(), ["clear TERM 1", "stop web"]);
    world.signalled(Signal::INT, 1);
    let sent = world.sent();
    assert!(sent.contains(&"stop web KILL".to_owned()), "{sent:?}");
    assert!(sent.contains(&"clear INT 1".to_owned()), "{sent:?}");
    assert_eq!(world.finished, Some(0));
}

#[test]
fn quit_does_not_wait() {
    // (behaviour 12.3)
    let mut world = pair();
    world.signalled(Signal::QUIT, 1);
    let sent = world.sent();
    assert!(sent.contains(&"stop web KILL".to_owned()), "{sent:?}");
    assert!(sent.contains(&"stop db KILL".to_owned()), "{sent:?}");
    assert_eq!(world.finished, Some(0));
}

#[test]
fn other_signals_are_left_to_the_shell() {
    // (behaviour 12.1)
    let mut world = pair();
    world.signalled(Signal::HUP, 1);
    assert!(!world.manager.is_shutting_down());
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn the_time_of_a_shutdown_is_limited() {
    // (behaviour 12.3, 12.4)
    let mut world = pair();
    world.stubborn.insert(name("web"));
    world.immortal.insert(name("web"));
    world.ask(Ask::Shutdown { now: false });
    world.advance(ms(89_999));
    assert_eq!(world.sent(), ["stop web"]);
    world.advance(ms(1));
    assert_eq!(world.sent(), ["stop web KILL", "stop db KILL"]);
    world.advance(ms(9_999));
    assert_eq!(world.finished, None);
    world.advance(ms(1));
    assert_eq!(world.finished, Some(1));
}

#[test]
fn a_service_can_end_everything_with_its_own_status() {
    // (behaviour 12.5, 12.6)
    let kill = killed_by(Signal::KILL);
    let cases = [
        (ShutdownOn::Exit, Exit::Code(0), Some(0)),
        (ShutdownOn::Exit, Exit::Code(7), Some(7)),
        (ShutdownOn::Exit, kill, Some(137)),
        (ShutdownOn::Failure, Exit::Code(0), None),
        (ShutdownOn::Failure, Exit::Code(7), Some(7)),
        (ShutdownOn::Never, Exit::Code(7), None),
    ];
    for (shutdown_on, exit, code) in cases {
        let mut main = daemon("main");
        main.restart = RestartPolicy::Never;
        main.shutdown_on = shutdown_on;
        let mut world = World::boot(plan([main, daemon("side")]));
        world.exits("main", exit);
        assert_eq!(world.finished, code, "{shutdown_on} {exit}");
        let side = if code.is_some() { State::Stopped } else { State::Ready };
        assert_eq!(world.state("side"), side, "{shutdown_on} {exit}");
    }
}

#[test]
fn a_main_service_that_could_not_be_executed_is_the_systems_fault() {
    // (behaviour 12.5)
    let mut main = daemon("main");
    main.restart = RestartPolicy::Never;
    main.shutdown_on = ShutdownOn::Exit;
    let mut world = World::boot(plan([]));
    world.unpreparable.insert(name("main"));
    world.apply(plan([main]), true);
    assert_eq!(world.finished, Some(111));
}

#[test]
fn an_operators_stop_ends_nothing_else() {
    // (behaviour 12.6)
    let mut main = daemon("main");
    main.shutdown_on = ShutdownOn::Exit;
    let mut world = World::boot(plan([main, daemon("side")]));
    world.stop(&["main"]);
    assert_eq!(world.finished, None);
    assert_eq!(world.state("side"), State::Ready);
}

/// Two services that are not restarted, in an instance that ends when it is idle.
fn idle_world() -> World {
    let mut plan = plan(["one", "two"].map(|text| {
        let mut spec = daemon(text);
        spec.restart = RestartPolicy::Never;
        spec
    }));
    plan.manager.exit_when = ExitWhen::Idle;
    World::boot(plan)
}

#[test]
fn an_idle_instance_ends() {
    // (behaviour 12.5, 12.7)
    for (code, status) in [(0, 0), (1, 1)] {
        let mut world = idle_world();
        world.exits("one", Exit::Code(0));
        assert_eq!(world.finished, None);
        world.exits("two", Exit::Code(code));
        assert_eq!(world.finished, Some(status));
    }
}

#[test]
fn a_stop_is_not_idle() {
    // (behaviour 12.7)
    let mut world = idle_world();
    world.stop(&["one"]);
    world.exits("two", Exit::Code(0));
    assert_eq!(world.finished, None);
    world.start(&["one"]);
    world.exits("one", Exit::Code(0));
    assert_eq!(world.finished, Some(0));
}

#[test]
fn who_waits_in_vain_is_idle_too() {
    // (behaviour 12.7)
    let web = needs(daemon("web"), &[("migrate", Until::Done)]);
    let settings = Settings { seed: 1, idle_by_default: true, only: None };
    let mut world = World::boot_with(plan([oneshot("migrate"), web]), settings);
    world.exits("migrate", Exit::Code(1));
    assert_eq!(world.finished, Some(1));
}

#[test]
fn an_instance_without_services_that_run_at_all_is_not_idle() {
    // (behaviour 12.7): nothing ended, so nothing is over.
    let settings = Settings { seed: 1, idle_by_default: true, only: None };
    let mut off = daemon("off");
    off.enabled = false;
    let mut world = World::boot_with(plan([off]), settings);
    world.advance(secs(3600));
    assert_eq!(world.finished, None);
}
