//! Behaviour 8.10 to 8.13 and 11.15 to 11.18: restarts by lease, and what happened unseen.

use keepd_engine::manager::{Ask, Input};
use keepd_model::protocol::{Event, Message, RunState};
use keepd_model::{
    EnvFile, Exit, ExpectedEnd, OnStop, Probe, Reason, RestartPolicy, ServiceSpec, State, Template,
    Until,
};

use crate::world::*;

const CRASH: Exit = Exit::Code(1);

/// Lets a manager be absent while something happens.
fn unseen(world: &mut World, happens: impl FnOnce(&mut World)) {
    let plan = world.manager.plan().clone();
    world.lose_manager();
    happens(world);
    world.begin_manager(plan);
}

/// Returns the generations and ends of a service's history.
fn history(world: &World, service: &str) -> Vec<String> {
    let runs = world.manager.history(&name(service)).unwrap();
    runs.map(|run| {
        let exit = run.end.exit.map_or_else(|| "-".to_owned(), |exit| exit.to_string());
        format!("{} {exit} {}s", run.end.generation, run.end.ran.as_secs())
    })
    .collect()
}

/// Returns the spec with a limit of restarts within ten minutes.
fn limited(mut spec: ServiceSpec, count: u32) -> ServiceSpec {
    spec.restart_limit.count = count;
    spec
}

#[test]
fn a_lease_says_what_the_policy_would_do() {
    // (behaviour 8.10)
    let mut web = limited(probed(daemon("web")), 4);
    web.restart = RestartPolicy::OnFailure;
    web.exit_ok.push(ExpectedEnd::Code(3));
    let mut world = World::boot(plan([web]));
    // It never was ready: its first end counts as a second one.
    assert_eq!(world.leased(), ["lease web 1 failure 500 1000 2000 4000"]);
    world.answer_probes("web", Ok(()));
    assert_eq!(world.leased(), ["lease web 1 failure 0 500 1000 2000"]);
    // Nothing changes, nothing is said.
    world.advance(secs(3600));
    assert_eq!(world.leased(), [""; 0]);
}

#[test]
fn a_lease_is_used_and_renewed() {
    // (behaviour 8.10, 11.17)
    let mut world = World::boot(plan([limited(daemon("web"), 3)]));
    world.leased();
    world.sent();
    world.exits("web", CRASH);
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
    let renewed = ["ack web 1", "lease web 2 any 500 1000"];
    assert_eq!(world.leased(), renewed);
    world.exits("web", CRASH);
    let status = world.status("web");
    assert_eq!((status.state, status.restarts), (State::Backoff, 2));
    assert_eq!(status.next_start, Some(world.now.saturating_add(ms(500))));
    assert_eq!(world.leased(), ["ack web 2"]);
    world.advance(ms(500));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 3));
    // The manager commanded none of it.
    assert_eq!(world.sent(), [""; 0]);
    assert_eq!(history(&world, "web"), ["1 exit 1 0s", "2 exit 1 0s"]);
    let why = world.why("web");
    assert!(why.iter().any(|line| line.contains("its last run (generation 2) ended")), "{why:?}");
    assert_eq!(world.status("web").start_cause.reason(), Reason::Config);
}

#[test]
fn a_lease_never_overruns_the_limit() {
    // (behaviour 8.8, 8.10): with the manager, without it, and with it again.
    let mut world = World::boot(plan([limited(daemon("web"), 3)]));
    world.exits("web", CRASH);
    unseen(&mut world, |world| {
        for _ in 0..10 {
            if world.held[&name("web")].state == RunState::Up {
                world.exits_unseen("web", CRASH);
            }
            world.pass_unseen(secs(5));
        }
    });
    let status = world.status("web");
    assert_eq!((status.state, status.reason()), (State::Failed, Reason::Limit));
    assert_eq!((status.generation.get(), status.restarts), (4, 3));
    let ends = ["1 exit 1 0s", "2 exit 1 0s", "3 exit 1 4s", "4 exit 1 4s"];
    assert_eq!(history(&world, "web"), ends);
    assert!(world.leased().contains(&"ack web 4".to_owned()));
}

#[test]
fn ends_behind_the_back_of_a_manager_are_counted_once() {
    // (behaviour 11.15)
    let mut world = World::boot(plan([daemon("web")]));
    world.advance(secs(7));
    unseen(&mut world, |world| {
        world.exits_unseen("web", CRASH);
        world.pass_unseen(secs(2));
        world.exits_unseen("web", Exit::Code(2));
        world.pass_unseen(ms(500));
    });
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 3));
    assert_eq!(world.status("web").restarts, 2);
    assert_eq!(history(&world, "web"), ["1 exit 1 7s", "2 exit 2 2s"]);
    let longest = format!("lease web 3 any 1000 2000 4000 8000 16000{}", " 30000".repeat(11));
    assert_eq!(world.leased(), ["ack web 2", longest.as_str()]);
    // Once more, and nothing is news.
    world.take_over();
    assert_eq!(world.status("web").restarts, 2);
    assert_eq!(history(&world, "web").len(), 2);
    assert_eq!(world.leased(), [""; 0]);
}

#[test]
fn ends_that_were_written_down_and_not_acknowledged_are_not_counted_again() {
    // (behaviour 11.15, 11.17): the predecessor was lost between the two.
    let mut world = World::boot(plan([daemon("web")]));
    world.features.retain(|feature| feature != "ack");
    world.take_over();
    world.exits("web", CRASH);
    world.features.push("ack".to_owned());
    world.leased();
    world.take_over();
    assert_eq!(world.status("web").restarts, 1);
    assert_eq!(history(&world, "web").len(), 1);
    assert_eq!(world.leased(), ["ack web 1"]);
}

#[test]
fn a_pending_start_is_left_to_the_proxy_by_a_successor() {
    // (behaviour 11.5, 11.15)
    for is_seen in [true, false] {
        let mut world = World::boot(plan([daemon("web")]));
        world.exits("web", CRASH);
        world.advance(secs(1));
        if is_seen {
            world.exits("web", CRASH);
            world.take_over();
        } else {
            unseen(&mut world, |world| world.exits_unseen("web", CRASH));
        }
        let status = world.status("web");
        assert_eq!((status.state, status.restarts), (State::Backoff, 2), "{is_seen}");
        assert_eq!(status.next_start, Some(world.now.saturating_add(ms(500))), "{is_seen}");
        world.sent();
        world.advance(ms(500));
        assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 3));
        assert_eq!(world.sent(), [""; 0]);
        assert_eq!(history(&world, "web"), ["1 exit 1 0s", "2 exit 1 1s"]);
    }
}

#[test]
fn a_lost_connection_is_no_lost_restart() {
    // (behaviour 11.15): the same manager, and another proxy.
    let mut world = World::boot(plan([daemon("web")]));
    world.advance(secs(3));
    world.give(Input::Disconnected);
    world.exits_unseen("web", CRASH);
    world.leased();
    world.give(Input::Connected);
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
    assert_eq!(history(&world, "web"), ["1 exit 1 3s"]);
    assert_eq!(world.leased()[0], "ack web 1");
}

#[test]
fn who_needs_something_fresh_gets_no_lease() {
    // (behaviour 8.11)
    let mut never = daemon("never");
    never.restart = RestartPolicy::Never;
    let mut file = daemon("env-file");
    let path = Template::literal("/etc/web.env");
    file.env_files.push(EnvFile { path, optional: true });
    let mut ready_file = daemon("ready-file");
    ready_file.ready.probes.push(Probe::File(Template::literal("/run/web.pid")));
    let mut job = oneshot("job");
    job.restart = RestartPolicy::OnFailure;
    let mut reacts = needs(daemon("reacts"), &[("db", Until::Ready)]);
    reacts.depends_on.get_mut(&name("db")).unwrap().on_stop = OnStop::Restart;
    let world = World::boot(plan([never, file, ready_file, job, reacts, daemon("db")]));
    let leased = world.leases.iter().filter(|words| words.starts_with("lease"));
    let leased: Vec<&str> = leased.filter_map(|words| words.split(' ').nth(1)).collect();
    assert_eq!(leased, ["db"]);
}

#[test]
fn dependents_follow_a_restart_by_lease() {
    // (behaviour 6.9, 8.10)
    let mut app = needs(daemon("app"), &[("db", Until::Ready)]);
    app.depends_on.get_mut(&name("db")).unwrap().on_stop = OnStop::Restart;
    let mut all = daemon("all");
    all.kind = keepd_model::Kind::Group;
    all.command = None;
    let all = needs(all, &[("db", Until::Ready), ("app", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), app, all]));
    assert_eq!(world.state("all"), State::Ready);
    world.steps();
    world.exits("db", CRASH);
    assert_eq!((world.generation("db"), world.generation("app")), (2, 2));
    assert_eq!((world.state("app"), world.state("all")), (State::Ready, State::Ready));
    let steps = world.steps();
    for step in ["db starting", "app stopping", "all waiting", "db ready", "app ready"] {
        assert!(steps.contains(&step.to_owned()), "{step}: {steps:?}");
    }
}

#[test]
fn a_stop_ends_the_lease() {
    // (behaviour 8.11, 9.7)
    let web = needs(daemon("web"), &[("db", Until::Ready)]);
    let mut world = World::boot(plan([daemon("db"), web]));
    world.stubborn.insert(name("web"));
    world.leased();
    world.stop(&["db"]);
    // `db` waits for `web`: until its stop is sent, it must not come back.
    assert!(world.leased().contains(&"lease db 1 any ".to_owned()));
    world.exits("db", CRASH);
    assert_eq!((world.state("db"), world.generation("db")), (State::Stopped, 1));
    world.exits("web", CRASH);
    assert_eq!((world.state("web"), world.generation("web")), (State::Stopped, 1));
    world.advance(secs(3600));
    assert_eq!((world.generation("db"), world.generation("web")), (1, 1));
}

#[test]
fn a_stop_takes_a_pending_start_back() {
    // (behaviour 8.12, 9.4)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.exits("web", CRASH);
    assert_eq!(world.state("web"), State::Backoff);
    world.sent();
    world.leased();
    world.stop(&["web"]);
    assert_eq!(world.state("web"), State::Stopped);
    assert_eq!((world.sent(), world.leased()), (Vec::new(), vec!["lease web 1 any ".to_owned()]));
    world.advance(secs(3600));
    assert_eq!((world.state("web"), world.generation("web")), (State::Stopped, 1));
    // So does a start, which does not wait.
    world.start(&["web"]);
    world.exits("web", CRASH);
    world.start(&["web"]);
    assert_eq!((world.state("web"), world.generation("web")), (State::Starting, 3));
}

#[test]
fn a_stop_that_comes_too_late_stops_what_the_lease_started() {
    // (behaviour 8.12): the end and the restart were on their way when it was sent.
    let mut world = World::boot(plan([daemon("web")]));
    let news = world.exits_behind("web", CRASH);
    let (names, alone, kill) = (vec![name("web")], false, false);
    world.give_before(Ask::Stop { names, alone, kill }, news);
    assert_eq!((world.state("web"), world.generation("web")), (State::Stopped, 2));
    assert_eq!(world.held[&name("web")].state, RunState::Down);
    assert_eq!(history(&world, "web").len(), 2);
}

#[test]
fn an_apply_that_comes_too_late_restarts_what_the_lease_started() {
    // (behaviour 8.12, 10.4): what the lease started has the old configuration.
    let mut world = World::boot(plan([daemon("web")]));
    let news = world.exits_behind("web", CRASH);
    let mut web = daemon("web");
    web.umask = 0o077;
    world.give_before(Ask::Apply { plan: plan([web]), restart: true }, news);
    let status = world.status("web");
    assert_eq!((status.state, status.generation.get()), (State::Ready, 3));
    assert!(!status.config_changed);
    assert_eq!(world.held[&name("web")].attributes.umask, 0o077);
}

#[test]
fn an_applied_policy_renews_the_lease() {
    // (behaviour 8.10, 8.11)
    let mut world = World::boot(plan([limited(daemon("web"), 2)]));
    world.leased();
    world.apply(plan([limited(daemon("web"), 3)]), true);
    assert_eq!(world.leased(), ["lease web 1 any 0 500 1000"]);
    let mut once = limited(daemon("web"), 3);
    once.restart = RestartPolicy::Never;
    world.apply(plan([once]), true);
    assert_eq!(world.leased(), ["lease web 1 any "]);
    // It runs on with the old command, which must not be started again.
    let mut other = limited(daemon("web"), 3);
    other.umask = 0o077;
    world.apply(plan([limited(daemon("web"), 3)]), true);
    world.leased();
    world.apply(plan([other]), false);
    assert_eq!(world.leased(), ["lease web 1 any "]);
    world.exits("web", CRASH);
    assert_eq!(world.held[&name("web")].attributes.umask, 0o077);
    // What takes effect at once makes the proxy forget the lease.
    let mut stops = limited(daemon("web"), 3);
    stops.umask = 0o077;
    stops.stop.timeout = secs(1);
    world.leased();
    world.apply(plan([stops]), true);
    assert_eq!(world.leased(), ["lease web 2 any 500 1000"]);
}

#[test]
fn changed_attributes_do_not_cost_a_pending_start() {
    // (behaviour 8.10, 10.2)
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.exits("web", CRASH);
    let next = world.status("web").next_start;
    let mut web = probed(daemon("web"));
    web.stop.timeout = secs(1);
    world.apply(plan([web]), true);
    assert_eq!((world.state("web"), world.status("web").next_start), (State::Backoff, next));
    world.advance(ms(500));
    assert_eq!((world.state("web"), world.generation("web")), (State::Starting, 2));
}

#[test]
fn a_long_run_renews_the_lease() {
    // (behaviour 8.5, 8.10)
    let mut world = World::boot(plan([limited(daemon("web"), 2)]));
    world.exits("web", CRASH);
    assert_eq!(world.leased().last().unwrap(), "lease web 2 any 500");
    world.advance(ms(59_999));
    assert_eq!(world.leased(), [""; 0]);
    world.advance(ms(1));
    assert_eq!(world.leased(), ["lease web 2 any 0 500"]);
    assert_eq!(world.manager.poll_timeout(), None);
}

#[test]
fn an_end_before_the_lease_came_is_answered_by_the_manager() {
    // (behaviour 8.10): and a lease that came too late is for the ends after it.
    let mut world = World::boot(plan([]));
    world.slow.insert(name("web"));
    world.apply(plan([limited(daemon("web"), 2)]), true);
    world.slow.clear();
    world.leased();
    world.runs_and_exits("web", CRASH);
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
    assert_eq!(world.status("web").restarts, 1);
    let leases = world.leased();
    assert_eq!(leases.last().unwrap(), "lease web 2 any 500", "{leases:?}");
    unseen(&mut world, |world| {
        world.exits_unseen("web", CRASH);
        world.pass_unseen(secs(1));
        world.exits_unseen("web", CRASH);
        world.pass_unseen(secs(10));
    });
    assert_eq!(world.status("web").reason(), Reason::Limit);
    assert_eq!((world.generation("web"), world.status("web").restarts), (3, 2));
}

#[test]
fn a_refused_lease_is_not_believed_in() {
    // (behaviour 8.10)
    let mut world = World::boot(plan([]));
    world.refuses_leases = true;
    world.apply(plan([daemon("web")]), true);
    world.exits("web", CRASH);
    world.exits("web", CRASH);
    world.advance(ms(500));
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 3));
}

#[test]
fn a_start_that_the_proxy_forgot_is_made_after_all() {
    // (behaviour 8.10): somebody else took it back.
    let mut world = World::boot(plan([probed(daemon("web"))]));
    world.exits("web", CRASH);
    world.loses_lease("web");
    assert_eq!(world.state("web"), State::Backoff);
    world.advance(secs(2));
    assert_eq!((world.state("web"), world.generation("web")), (State::Starting, 2));
}

#[test]
fn a_cancelled_start_is_no_failure() {
    // (behaviour 11.16)
    for features in [vec![], vec!["ack".to_owned(), "lease".to_owned()]] {
        let mut world = World::boot(plan([]));
        world.features = features;
        world.take_over();
        world.slow.insert(name("web"));
        world.apply(plan([limited(daemon("web"), 1)]), true);
        world.give(Input::Disconnected);
        world.is_cancelled("web");
        world.give(Input::Connected);
        let why = world.why("web");
        assert!(why[1].contains("keepd was replaced before its program began"), "{why:?}");
        assert_eq!(world.generation("web"), 2);
        world.let_run("web");
        let status = world.status("web");
        assert_eq!((status.state, status.restarts), (State::Ready, 0));
        assert_eq!(history(&world, "web"), ["1 - 0s"]);
        // It counts for nothing: the one restart that is allowed is still allowed.
        world.slow.clear();
        world.exits("web", CRASH);
        assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 3));
    }
}

#[test]
fn a_proxy_in_safe_mode_is_asked_for_nothing() {
    // (behaviour 11.18)
    let mut world = World::boot(plan([daemon("db"), daemon("web")]));
    world.features.push("safe=it ended 5 times within 10 s".to_owned());
    let plan = world.manager.plan().clone();
    world.lose_manager();
    world.exits_unseen("web", CRASH);
    world.loses_lease("web");
    world.begin_manager(plan);
    assert_eq!(world.manager.safe_mode(), Some("it ended 5 times within 10 s"));
    // It was started by its lease before that; what ends now stays down.
    world.sent();
    world.exits("db", CRASH);
    assert_eq!(world.state("db"), State::Waiting);
    let why = world.why("db");
    assert!(why[1].contains("keepd starts nothing: it ended 5 times"), "{why:?}");
    world.advance(secs(60));
    assert_eq!(world.sent(), [""; 0]);
    world.features.pop();
    world.give(Input::Disconnected);
    world.give(Input::Connected);
    assert_eq!(world.state("db"), State::Ready);
    assert_eq!(world.manager.safe_mode(), None);
}

#[test]
fn news_of_generations_that_are_missing_is_looked_for_in_a_dump() {
    // (behaviour 11.15): lines were left out because we read too slowly.
    let mut world = World::boot(plan([daemon("web")]));
    let mut news = world.exits_behind("web", CRASH);
    let is_end = |input: &Input| {
        matches!(input, Input::Message(Message::Event(Event::Run(report)))
            if report.generation.get() == 1)
    };
    news.retain(|input| !is_end(input));
    world.give_all(news);
    assert_eq!((world.state("web"), world.generation("web")), (State::Ready, 2));
    assert_eq!(world.status("web").restarts, 1);
    assert_eq!(history(&world, "web"), ["1 exit 1 0s"]);
}
