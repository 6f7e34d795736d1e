//! The machine of subsystems, without any task: what it orders, and in which order.

use std::time::Duration;

use keepd_model::Instant;

use super::SubsystemState;
use super::machine::Machine;
use super::words::{End, Output, Settings, Setup};
use crate::restart::Restart;

const MS: Duration = Duration::from_millis(1);

/// A machine and its clock.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { machine: Machine::new(Settings::default()), now: Instant::ZERO }
    }

    fn add(&mut self, parent: Option<u32>, restart: Restart) -> u32 {
        let setup = Setup { parent, restart, ..Setup::default() };
        self.machine.register(self.now, setup)
    }

    fn plain(&mut self, parent: Option<u32>) -> u32 {
        self.add(parent, Restart::never())
    }

    fn start(&mut self, index: u32) {
        assert!(self.machine.start(self.now, index));
        self.machine.take_outputs();
    }

    fn end(&mut self, index: u32, end: End) -> Vec<Output> {
        let run = self.machine.run(index);
        self.machine.ended(self.now, index, run, end, 0.0);
        self.machine.take_outputs()
    }

    fn shut_down(&mut self) -> Vec<Output> {
        let after = |ms: u32| self.now.saturating_add(MS * ms);
        let (grace_over, force) = (after(5_000), after(10_000));
        self.machine.shut_down(self.now, grace_over, force);
        self.machine.take_outputs()
    }

    /// Moves the clock to the next timer, and returns how far that was and what it ordered.
    fn next(&mut self) -> (Duration, Vec<Output>) {
        let due = self.machine.poll_timeout().expect("a timer is set");
        let wait = due.saturating_since(self.now);
        self.now = due;
        self.machine.handle_timeout(due);
        assert!(self.machine.poll_timeout().is_none_or(|next| next > due), "strict advance");
        (wait, self.machine.take_outputs())
    }
}

#[test]
fn a_full_life_is_announced_once_each_in_order() {
    let mut bench = Bench::new();
    bench.machine.announce();
    let index = bench.plain(None);
    assert_eq!(bench.machine.state(index), SubsystemState::Starting);
    bench.machine.start(bench.now, index);
    bench.machine.shut_down(bench.now, bench.now, bench.now);
    bench.machine.ended(bench.now, index, 1, End::Done, 0.0);
    let states: Vec<_> = bench
        .machine
        .take_outputs()
        .into_iter()
        .filter_map(|output| match output {
            Output::Changed { state, .. } => Some(state.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(states, ["Starting", "Running", "Stopping", "Stopped"]);
}

#[test]
fn news_of_an_earlier_run_is_dropped() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::on_failure());
    bench.start(index);
    bench.end(index, End::Failed("one".to_owned(), 111));
    bench.machine.ended(bench.now, index, 1, End::Done, 0.0);
    assert_eq!(bench.machine.state(index), SubsystemState::Running);
    assert_eq!(bench.machine.run(index), 2);
}

#[test]
fn restarts_wait_for_their_delay_and_are_given_up() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::on_failure().backoff(MS * 50, MS * 400).attempts(3));
    bench.start(index);
    let mut waits = Vec::new();
    for _ in 0..3 {
        bench.end(index, End::Panicked("boom".to_owned()));
        assert_eq!(bench.machine.state(index), SubsystemState::Restarting);
        waits.push(bench.next().0.as_millis());
    }
    assert_eq!(waits, [50, 100, 200]);
    bench.end(index, End::Panicked("boom".to_owned()));
    let facts = bench.machine.facts(index);
    assert_eq!(facts.state, SubsystemState::Failed);
    assert_eq!((facts.restarts, facts.error.as_deref()), (3, Some("panicked: boom")));
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_shutdown_cuts_a_pending_restart_and_starts_nothing() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::always().backoff(MS, MS));
    bench.start(index);
    bench.end(index, End::Done);
    bench.shut_down();
    assert_eq!(bench.machine.live(), 0);
    assert!(!bench.machine.start(bench.now, index));
    assert!(!bench.machine.restart(bench.now, index));
    bench.now = bench.now.saturating_add(MS * 5);
    bench.machine.handle_timeout(bench.now);
    assert_eq!(bench.machine.take_outputs(), []);
}

#[test]
fn nobody_is_asked_while_somebody_who_needs_it_is_live() {
    let mut bench = Bench::new();
    let (store, web, proxy) = (bench.plain(None), bench.plain(None), bench.plain(None));
    bench.machine.set_needs(web, vec![store]);
    bench.machine.set_needs(proxy, vec![web]);
    for index in [store, web, proxy] {
        bench.start(index);
    }
    bench.shut_down();
    let states = |bench: &Bench| [store, web, proxy].map(|index| bench.machine.state(index));
    use SubsystemState::{Running, Stopped, Stopping};
    assert_eq!(states(&bench), [Running, Running, Stopping]);
    let outputs = bench.end(proxy, End::Done);
    assert_eq!(outputs, [Output::Finish { index: proxy }, Output::Release { index: web }]);
    assert_eq!(states(&bench), [Running, Stopping, Stopped]);
    bench.end(web, End::Failed("late".to_owned(), 111));
    bench.end(store, End::Done);
    assert_eq!(bench.machine.live(), 0);
}

#[test]
fn those_inside_end_first_at_every_depth() {
    let mut bench = Bench::new();
    let mut chain = vec![bench.plain(None)];
    bench.start(chain[0]);
    for _ in 0..1000 {
        let index = bench.plain(chain.last().copied());
        bench.start(index);
        chain.push(index);
    }
    bench.shut_down();
    while let Some(index) = chain.pop() {
        assert_eq!(bench.machine.state(index), SubsystemState::Stopping);
        if let Some(outer) = chain.last() {
            assert_eq!(bench.machine.state(*outer), SubsystemState::Running);
        }
        bench.end(index, End::Done);
    }
    assert_eq!(bench.machine.live(), 0);
}

#[test]
fn one_that_ends_takes_those_inside_along_before_it_starts_again() {
    let mut bench = Bench::new();
    let outer = bench.add(None, Restart::always());
    bench.start(outer);
    let inner = bench.plain(Some(outer));
    let id = bench.machine.id(inner);
    bench.start(inner);
    let outputs = bench.end(outer, End::Done);
    assert_eq!(outputs, [Output::Ask { index: inner }]);
    assert_eq!(bench.machine.state(outer), SubsystemState::Stopping);
    let outputs = bench.end(inner, End::Done);
    let expected = [
        Output::Finish { index: inner },
        Output::Release { index: outer },
        Output::Remove { index: inner },
        Output::Start { index: outer, run: 2 },
    ];
    assert_eq!(outputs, expected);
    assert_eq!(bench.machine.index(id), None, "its number is never used again");
    let next = bench.plain(Some(outer));
    assert_eq!(next, inner, "its place is");
    assert_ne!(bench.machine.id(next), id);
}

#[test]
fn a_stop_by_hand_asks_those_inside_first_and_has_a_deadline() {
    let mut bench = Bench::new();
    let outer = bench.plain(None);
    bench.start(outer);
    let inner = bench.plain(Some(outer));
    bench.start(inner);
    bench.machine.stop(bench.now, outer);
    assert_eq!(bench.machine.take_outputs(), [Output::Ask { index: inner }]);
    let (wait, outputs) = bench.next();
    assert_eq!(wait, Duration::from_secs(10));
    assert_eq!(outputs, [Output::Abort { index: inner }]);
    assert!(bench.machine.is_aborted(inner, 1));
    let outputs = bench.end(inner, End::Aborted);
    assert!(outputs.contains(&Output::Ask { index: outer }));
    assert_eq!(bench.machine.state(inner), SubsystemState::Failed);
    bench.end(outer, End::Done);
    assert_eq!(bench.machine.state(outer), SubsystemState::Stopped);
}

#[test]
fn the_phases_of_a_shutdown_are_counted_from_the_request() {
    let mut bench = Bench::new();
    let (deaf, good) = (bench.plain(None), bench.plain(None));
    bench.start(deaf);
    bench.start(good);
    bench.shut_down();
    bench.end(good, End::Done);
    assert_eq!(bench.next(), (Duration::from_secs(5), vec![Output::GraceOver]));
    assert_eq!(bench.next(), (Duration::from_secs(5), vec![Output::Abort { index: deaf }]));
    assert!(bench.machine.was_overdue(deaf) && !bench.machine.was_overdue(good));
    bench.end(deaf, End::Aborted);
    assert_eq!((bench.machine.live(), bench.machine.poll_timeout()), (0, None));
}

#[test]
fn at_the_end_of_the_graceful_time_those_held_are_asked_too() {
    let mut bench = Bench::new();
    let (store, web) = (bench.plain(None), bench.plain(None));
    bench.machine.set_needs(web, vec![store]);
    bench.start(store);
    bench.start(web);
    bench.shut_down();
    let expected = vec![Output::GraceOver, Output::Release { index: store }];
    assert_eq!(bench.next(), (Duration::from_secs(5), expected));
    assert_eq!(bench.machine.state(store), SubsystemState::Stopping);
    bench.end(store, End::Done);
    assert_eq!(bench.machine.state(store), SubsystemState::Stopped);
    assert_eq!(bench.next(), (Duration::from_secs(5), vec![Output::Abort { index: web }]));
    assert!(bench.machine.was_overdue(web) && !bench.machine.was_overdue(store));
}

#[test]
fn a_start_by_hand_forgets_the_window_of_a_rule() {
    let mut bench = Bench::new();
    let rule = Restart::on_failure().attempts(1).window(Duration::from_secs(60));
    let index = bench.add(None, rule);
    bench.start(index);
    let fails = || End::Failed("x".to_owned(), 111);
    bench.end(index, fails());
    assert_eq!(bench.machine.state(index), SubsystemState::Running);
    bench.end(index, fails());
    assert_eq!(bench.machine.state(index), SubsystemState::Failed, "once in the window");
    bench.start(index);
    bench.end(index, fails());
    assert_eq!(bench.machine.state(index), SubsystemState::Running);
}

#[test]
fn the_exit_code_of_an_end_decides_where_a_rule_names_codes() {
    for (end, is_followed) in [
        (End::Failed("busy".to_owned(), 75), true),
        (End::Failed("configuration".to_owned(), 100), false),
        (End::Panicked("boom".to_owned()), true),
        (End::Done, false),
    ] {
        let mut bench = Bench::new();
        let index = bench.add(None, Restart::always().codes(&[75, 101]));
        bench.start(index);
        bench.end(index, end);
        assert_eq!(bench.machine.is_live(index), is_followed);
    }
}

#[test]
fn force_aborts_also_those_that_are_held() {
    let mut bench = Bench::new();
    let (store, web) = (bench.plain(None), bench.plain(None));
    bench.machine.set_needs(web, vec![store]);
    bench.start(store);
    bench.start(web);
    bench.shut_down();
    bench.machine.abort_all();
    let outputs = bench.machine.take_outputs();
    assert_eq!(outputs, [Output::Abort { index: store }, Output::Abort { index: web }]);
}

#[test]
fn bad_answers_in_a_row_are_a_failure_with_the_rule_of_a_failure() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::on_failure());
    bench.start(index);
    for is_healthy in [false, false, true, false, false] {
        bench.machine.health(bench.now, index, 1, is_healthy);
    }
    assert_eq!(bench.machine.take_outputs(), []);
    bench.machine.health(bench.now, index, 1, false);
    let expected = [Output::Failure { index }, Output::Ask { index }];
    assert_eq!(bench.machine.take_outputs(), expected);
    bench.end(index, End::Done);
    assert_eq!((bench.machine.run(index), bench.machine.total_restarts()), (2, 1));

    let never = bench.plain(None);
    bench.start(never);
    for _ in 0..9 {
        bench.machine.health(bench.now, never, 1, false);
    }
    assert_eq!(bench.machine.take_outputs(), [Output::Unhealthy { index: never }]);
    assert_eq!(bench.machine.state(never), SubsystemState::Running);
}

#[test]
fn the_end_of_a_critical_one_decides_about_all_once_nothing_follows() {
    for (end, failed) in [(End::Done, false), (End::Failed("x".to_owned(), 111), true)] {
        let mut bench = Bench::new();
        let restart = Restart::always().backoff(MS, MS).attempts(1);
        let setup = Setup { restart, is_critical: true, ..Setup::default() };
        let index = bench.machine.register(bench.now, setup);
        bench.start(index);
        let decides = |outputs: &[Output]| outputs.contains(&Output::ShutDown { index, failed });
        assert!(!decides(&bench.end(index, end.clone())));
        bench.next();
        assert!(decides(&bench.end(index, end)));
    }
}

#[test]
fn a_task_that_was_dropped_with_its_runtime_is_not_started_again() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::always());
    bench.start(index);
    bench.end(index, End::Aborted);
    let facts = bench.machine.facts(index);
    assert_eq!(facts.state, SubsystemState::Failed);
    assert_eq!(facts.error.as_deref(), Some("aborted: its runtime has gone"));
}

#[test]
fn a_restart_by_hand_ends_the_run_first_and_delays_as_it_always_did() {
    let mut bench = Bench::new();
    let index = bench.add(None, Restart::on_failure().backoff(MS * 50, MS * 150));
    bench.start(index);
    let mut waits = Vec::new();
    for _ in 0..2 {
        assert!(bench.machine.restart(bench.now, index));
        assert_eq!(bench.machine.take_outputs(), [Output::Ask { index }]);
        bench.end(index, End::Done);
        waits.push(bench.next().0.as_millis());
    }
    assert_eq!(waits, [100, 150]);
}

#[test]
fn only_one_that_is_not_live_can_be_removed() {
    let mut bench = Bench::new();
    let index = bench.plain(None);
    let id = bench.machine.id(index);
    bench.start(index);
    assert!(!bench.machine.remove(index));
    bench.end(index, End::Done);
    assert!(bench.machine.remove(index));
    assert_eq!(bench.machine.index(id), None);
    assert_eq!(bench.machine.indices().count(), 0);
}
