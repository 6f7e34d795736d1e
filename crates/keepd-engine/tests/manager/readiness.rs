//! Behaviour 7: from a running program to `ready`.

use keepd_engine::manager::{Input, Question, Said};
use keepd_model::{
    CommandLine, Exit, Generation, HttpProbe, Probe, Reason, RestartPolicy, ServiceSpec, Signal,
    State, Template,
};

use crate::world::*;

fn with_probe(mut spec: ServiceSpec, probe: Probe) -> ServiceSpec {
    spec.ready.probes.push(probe);
    spec
}

#[test]
fn a_delay_alone_is_a_readiness_too() {
    // (behaviour 7.1)
    let mut web = daemon("web");
    web.ready.delay = secs(1);
    let mut world = World::boot(plan([web]));
    world.advance(ms(999));
    assert_eq!(world.state("web"), State::Starting);
    world.advance(ms(1));
    assert_eq!(world.state("web"), State::Ready);
    assert_eq!(world.status("web").ready_after, Some(secs(1)));
}

#[test]
fn a_question_is_asked_again_until_it_holds() {
    // (behaviour 7.3, 7.4)
    let mut world = World::boot(plan([probed(daemon("db"))]));
    assert_eq!(world.probes.len(), 1);
    world.answer_probes("db", Err("connection refused"));
    assert!(world.probes.is_empty());
    let waits = world.status("db").waits_for;
    assert_eq!(waits, ["ready.port 127.0.0.1:5432: connection refused"]);
    world.advance(ms(249));
    assert!(world.probes.is_empty());
    world.advance(ms(1));
    assert_eq!(world.probes.len(), 1);
    world.answer_probes("db", Ok(()));
    assert_eq!(world.state("db"), State::Ready);
    world.advance(secs(60));
    assert!(world.probes.is_empty());
}

#[test]
fn the_answer_of_a_command_comes_from_the_proxy() {
    // (behaviour 7.5)
    let command = CommandLine::Shell("test -e ready".to_owned());
    let mut world = World::boot(plan([with_probe(daemon("web"), Probe::Exec(command))]));
    world.answer_probes("web", Err("not there"));
    let waits = world.status("web").waits_for;
    assert_eq!(waits, ["ready.exec /bin/sh: exit 1: not there"]);
    world.advance(ms(250));
    world.answer_probes("web", Ok(()));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn everything_must_hold_once() {
    // (behaviour 7.1, 7.4)
    let url = Template::literal("http://127.0.0.1/");
    let mut web = with_probe(probed(daemon("web")), Probe::Http(HttpProbe { url }));
    web.ready.notify = true;
    web.ready.delay = secs(2);
    let mut world = World::boot(plan([web]));
    let asked: Vec<String> = world.probes.iter().map(|probe| format!("{probe:?}")).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    world.give(Input::Probed {
        name: name("web"),
        generation: Generation::new(1),
        index: 0,
        outcome: Ok(()),
    });
    world.notifies("web");
    world.advance(secs(3));
    assert_eq!(world.state("web"), State::Starting);
    let waits = world.status("web").waits_for;
    assert_eq!(waits, ["ready.http http://127.0.0.1/: no answer yet"]);
    world.give(Input::Probed {
        name: name("web"),
        generation: Generation::new(1),
        index: 1,
        outcome: Ok(()),
    });
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn a_notification_counts_for_its_generation_only() {
    // (behaviour 7.6)
    let mut web = daemon("web");
    web.ready.notify = true;
    let mut world = World::boot(plan([web]));
    let notified = |generation: u64, ready: bool, status: Option<&str>| Input::Notified {
        name: name("web"),
        generation: Generation::new(generation),
        said: Said { ready, status: status.map(str::to_owned), ..Said::default() },
    };
    world.give(notified(1, false, Some("loading")));
    assert_eq!(world.status("web").status_text.as_deref(), Some("loading"));
    let waits = world.status("web").waits_for;
    assert_eq!(waits, ["ready.notify: READY=1 has not come"]);
    world.exits("web", Exit::Code(1));
    world.advance(ms(500));
    assert_eq!(world.generation("web"), 2);
    assert_eq!(world.status("web").status_text, None);
    world.give(notified(1, true, Some("late")));
    assert_eq!(world.state("web"), State::Starting);
    assert_eq!(world.status("web").status_text, None);
    world.give(notified(2, true, None));
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn ready_may_be_heard_before_the_program_is_known_to_run() {
    // (behaviour 7.6): another child that is forked meanwhile may delay the report of `up`.
    let mut web = daemon("web");
    web.ready.notify = true;
    let mut world = World::boot_without_leases(plan([web]));
    world.slow.insert(name("web"));
    world.exits("web", Exit::Code(1));
    world.advance(ms(500));
    assert_eq!(world.generation("web"), 2);
    world.notifies("web");
    assert_eq!(world.state("web"), State::Starting);
    world.let_run("web");
    assert_eq!(world.state("web"), State::Ready);
}

#[test]
fn who_is_not_ready_in_time_is_stopped_and_the_policy_is_asked() {
    // (behaviour 7.7): the process ends with success, and it is a failure all the same.
    let mut web = probed(daemon("web"));
    web.ready.timeout = Some(secs(5));
    web.restart = RestartPolicy::OnFailure;
    let mut world = World::boot(plan([web]));
    world.stubborn.insert(name("web"));
    world.answer_probes("web", Err("connection refused"));
    world.advance(secs(5));
    assert_eq!(world.state("web"), State::Stopping);
    world.exits("web", Exit::Code(0));
    let status = world.status("web");
    assert_eq!(status.state, State::Backoff);
    assert_eq!(status.reason(), Reason::ReadyTimeout);
    assert_eq!(status.last_end.unwrap().reason, Reason::ReadyTimeout);
    assert_eq!(
        world.why("web")[1],
        "  because it was not ready within 5.0s: ready.port 127.0.0.1:5432: connection refused"
    );
}

#[test]
fn a_oneshot_has_its_time_for_the_whole_run() {
    // (behaviour 7.8)
    let mut migrate = oneshot("migrate");
    migrate.ready.timeout = Some(secs(30));
    let mut world = World::boot(plan([migrate]));
    world.advance(ms(29_999));
    assert_eq!(world.state("migrate"), State::Starting);
    world.advance(ms(1));
    let status = world.status("migrate");
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.reason(), Reason::ReadyTimeout);
    let killed = killed_by(Signal::TERM);
    assert_eq!(status.last_end.unwrap().exit, Some(killed));
}

#[test]
fn an_answer_about_an_ended_run_changes_nothing() {
    // (behaviour 7.6): neither a run that is down nor the next one.
    let mut world = World::boot(plan([probed(daemon("db"))]));
    let probe = world.probes.pop();
    world.exits("db", Exit::Code(1));
    let stale = Input::Probed {
        name: name("db"),
        generation: Generation::new(1),
        index: 0,
        outcome: Ok(()),
    };
    assert!(format!("{probe:?}").contains("5432"), "{probe:?}");
    world.give(stale.clone());
    assert_eq!(world.state("db"), State::Backoff);
    world.advance(ms(500));
    world.give(stale);
    assert_eq!(world.state("db"), State::Starting);
}

#[test]
fn questions_are_those_of_the_start() {
    // (behaviour 7.3): the address is asked as the preparation filled it in.
    let world = World::boot(plan([probed(daemon("db"))]));
    let [OpenProbe::Outside(_, _, 0, question)] = world.probes.as_slice() else {
        panic!("one question is open: {:?}", world.probes);
    };
    assert_eq!(*question, Question::Tcp("127.0.0.1:5432".to_owned()));
}

#[test]
fn a_child_that_hangs_before_its_program_is_stopped_in_time() {
    // (behaviour 7.9)
    let mut web = daemon("web");
    web.ready.timeout = Some(secs(5));
    let mut world = World::boot(plan([daemon("db"), web]));
    world.slow.insert(name("web"));
    world.restart(&["web"]);
    assert_eq!(world.state("web"), State::Starting);
    world.stubborn.insert(name("web"));
    world.advance(secs(5));
    assert_eq!(world.state("web"), State::Stopping);
    assert_eq!(
        world.why("web")[1],
        "  because it was not ready within 5.0s: its program has not been executed"
    );
}

#[test]
fn why_it_is_ready_does_not_speak_of_questions_that_nobody_asked() {
    let mut world = World::boot(plan([daemon("plain"), probed(daemon("asked"))]));
    world.answer_probes("asked", Ok(()));
    let why = |world: &World, service: &str| world.why(service).join("\n");
    let plain = why(&world, "plain");
    assert!(plain.contains("it stayed up for its ready.delay, and is asked nothing"), "{plain}");
    let asked = why(&world, "asked");
    assert!(asked.contains("it answered every readiness question"), "{asked}");
}
