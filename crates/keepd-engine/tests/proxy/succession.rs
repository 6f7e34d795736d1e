//! What is written down for a successor, and how that takes over.

use keepd_engine::proxy::{AdoptedRun, Fact, Input, Output, Settings};
use keepd_model::protocol::{
    Attributes, Command, FilterChange, LeaseAfter, Place, RunEnd, RunState,
};
use keepd_model::{Exit, Generation, HandleName, Instant, KillMode, LogLevel, Signal};

use crate::driver::{
    BOSS, Driver, NO_FILE, NO_PROCESS, OTHER, ack, arguments, auto_up, ended_run, killed_by, lease,
    ms, name, null, pid, service, set, start, stop, text,
};

fn recording() -> Driver {
    let mut driver = Driver::with_settings(Settings { records: true, ..Settings::default() });
    driver.connect(BOSS);
    driver
}

/// Runs commands and returns what was written down.
fn facts_of(commands: impl IntoIterator<Item = Command>) -> Vec<Fact> {
    let mut driver = recording();
    let mut facts = Vec::new();
    for command in commands {
        let request = keepd_model::protocol::Request::Unnumbered(command);
        let outputs = driver.drive(Input::Request { connection: BOSS, request });
        facts.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Record { fact } => Some(fact),
            other => {
                assert!(!text(&other).contains("error"), "{}", text(&other));
                None
            }
        }));
    }
    facts
}

/// Returns a machine that succeeds one that was given these commands, nobody connected.
fn after(commands: impl IntoIterator<Item = Command>) -> Driver {
    let now = Instant::from_nanos(2_000_000_000_000);
    let (driver, lines) = Driver::succeed(Settings::default(), now, &facts_of(commands));
    assert_eq!(lines, [] as [&str; 0], "nothing comes of facts");
    driver
}

fn web(attributes: Attributes) -> [Command; 3] {
    [set("web", attributes), arguments("web"), start("web", 0)]
}

fn alone() -> Attributes {
    Attributes { place: Place::None, ..Attributes::default() }
}

fn running(number: u32, now: Instant, leaf: bool) -> AdoptedRun {
    AdoptedRun::Running { pid: pid(number), started: now, leaf }
}

fn ended(driver: &Driver, end: RunEnd, leaf: bool) -> AdoptedRun {
    AdoptedRun::Ended { ended: ended_run(1, end, Some(driver.now)), leaf }
}

#[test]
fn what_defines_is_written_down_before_its_answer() {
    let mut driver = recording();
    assert_eq!(driver.ask(arguments("web")), ["record ServiceArgs", "1> ok 1"]);
    assert_eq!(
        driver.ask(start("web", 0)),
        ["record web 1 invocation", "1> ok 2", "1> web 1 invocation", "spawn web.1"]
    );
    driver.spawned(service("web", 1), 100);
    assert_eq!(
        driver.ask(stop("web", 1))[..2],
        ["record ServiceStop", "1> ok 3"],
        "a stop says that nobody wants it up"
    );
    driver.reaped(100, Exit::Code(0));
    driver.empty(service("web", 1));
    assert_eq!(
        driver.ask(auto_up("web", None, true))[..3],
        ["record ServiceAutoUp", "1> ok 4", "1> web 1 start pid 100 exit 0"]
    );
    let filter = Command::LogFilter { change: FilterChange::To(LogLevel::Error) };
    assert_eq!(driver.ask(filter)[0], "record LogFilter");
    let show = Command::LogFilter { change: FilterChange::Show };
    assert_eq!(driver.ask(show)[0], "1> ok 6");
    let at = Some(driver.now.saturating_add(ms(50)));
    driver.ask(arguments("db"));
    let later = Command::ServiceStart { name: name("db"), expected: None, at };
    assert_eq!(driver.ask(later)[0], "record ServiceStart", "somebody wants it up");
    let delete = Command::ServiceDelete { name: name("db") };
    assert_eq!(driver.ask(delete)[..2], ["record ServiceDelete", "1> ok 9"]);
}

#[test]
fn what_is_refused_or_only_acts_is_not_written_down() {
    let mut driver = recording();
    driver.ask(arguments("web"));
    for command in [
        stop("web", 0),
        start("web", 7),
        ack("web", 0),
        Command::Echo { text: b"x".to_vec() },
        Command::ServiceCancel { name: name("web") },
        lease("web", 7, LeaseAfter::Any, &[1]),
    ] {
        let lines = driver.ask(command);
        assert!(lines.iter().all(|line| !line.starts_with("record")), "{lines:?}");
    }
}

#[test]
fn a_directory_is_written_down_once_it_was_changed() {
    let mut driver = recording();
    let chdir = |path: &str| Command::Chdir { path: path.into() };
    assert_eq!(driver.ask(chdir("a")), ["perform 1: chdir a"]);
    assert_eq!(driver.performed(1), ["record Chdir", "1> ok 1"]);
    driver.ask(chdir("./b//../c"));
    driver.performed(2);
    driver.ask(chdir("/nowhere"));
    assert_eq!(driver.not_performed(3, "chdir", None), ["1> fail 3 system"]);
    let snapshot: Vec<Fact> = driver.proxy.snapshot().collect();
    assert_eq!(snapshot, [Fact::Command(chdir("a/b/../c"))]);
    let (mut next, lines) = Driver::succeed(Settings::default(), driver.now, &snapshot);
    assert_eq!(lines, ["perform 1: chdir a/b/../c"]);
    assert_eq!(next.performed(1), [] as [&str; 0]);
    assert_eq!(next.proxy.snapshot().collect::<Vec<_>>(), snapshot);
    next.connect(BOSS);
    assert_eq!(next.ask(chdir(&"x".repeat(4_095))), ["1> fail 1 limit"]);
}

#[test]
fn a_directory_that_is_gone_is_said() {
    let facts = [Fact::Command(Command::Chdir { path: b"/gone".to_vec() })];
    let (mut driver, _) = Driver::succeed(Settings::default(), Instant::ZERO, &facts);
    assert_eq!(
        driver.not_performed(1, "chdir", None),
        ["log error: cannot change the directory to \"/gone\": chdir"]
    );
}

#[test]
fn the_proxy_itself_is_told_again_what_it_was_told() {
    let handles = vec![null()];
    let settings = Settings { guard: Some(5), handles, ..Settings::default() };
    let facts = [
        Command::TerminateGuard { set: false, code: 5 },
        Command::TerminateExec { arguments: vec![b"rescue".to_vec()] },
        Command::LogFilter { change: FilterChange::To(LogLevel::Warning) },
        Command::LogDestination { handle: HandleName::new("null").unwrap() },
    ]
    .map(Fact::Command);
    let (driver, lines) = Driver::succeed(settings.clone(), Instant::ZERO, &facts);
    assert_eq!(lines, ["guarded false", "exit-exec rescue", "log filter warning", "log to 1"]);
    assert_eq!(driver.proxy.snapshot().collect::<Vec<_>>(), facts);
    let (again, _) = Driver::succeed(settings, Instant::ZERO, &facts);
    assert_eq!(again.proxy.guard(), None);
}

#[test]
fn a_running_service_is_up_and_stops_like_any_other() {
    let mut driver = after(web(Attributes::default()));
    let run = running(100, driver.now, true);
    assert_eq!(driver.adopt("web", 1, run), [] as [&str; 0]);
    driver.connect(BOSS);
    assert_eq!(
        driver.ask(stop("web", 1))[1..],
        [
            "1> ok 1",
            "1> web 1 stopping pid 100",
            "TERM to main 100 of web.1",
            "CONT to main 100 of web.1"
        ]
    );
    assert_eq!(
        driver.reaped(100, killed_by(Signal::TERM)),
        ["1> web 1 emptying pid 100 signal TERM", "KILL to group of web.1", "watch web.1"]
    );
    assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down pid 100 signal TERM"]);
}

#[test]
fn a_service_that_was_being_stopped_is_up_and_does_not_come_back() {
    let attributes = Attributes { respawn: vec![ms(0)], ..alone() };
    let mut driver =
        after(web(attributes).into_iter().chain([auto_up("web", None, true), stop("web", 1)]));
    let run = running(100, driver.now, false);
    driver.adopt("web", 1, run);
    driver.connect(BOSS);
    assert_eq!(driver.reaped(100, Exit::Code(0)), ["1> web 1 down pid 100 exit 0"]);
}

#[test]
fn a_child_that_fails_after_its_adoption_has_failed() {
    let mut driver = after(web(alone()));
    let run = running(100, driver.now, false);
    driver.adopt("web", 1, run);
    driver.connect(BOSS);
    let outcome = keepd_engine::proxy::SpawnOutcome::Failed(NO_FILE);
    driver.give(Input::Report { owner: service("web", 1), outcome });
    assert_eq!(driver.reaped(100, Exit::Code(127)), ["1> web 1 down pid 100 failed exec"]);
}

#[test]
fn the_rest_of_the_group_of_an_end_is_killed_before_anything_starts() {
    for (kill_mode, expected) in [
        (KillMode::Mixed, &["KILL to group of web.1", "watch web.1"][..]),
        (KillMode::All, &["TERM to group of web.1", "CONT to group of web.1", "watch web.1"]),
    ] {
        let mut driver = after(web(Attributes { kill_mode, ..Attributes::default() }));
        let run = ended(&driver, RunEnd::Exit(Exit::Code(1)), true);
        assert_eq!(driver.adopt("web", 1, run), expected);
        driver.connect(BOSS);
        assert_eq!(driver.ask(start("web", 1)), ["1> fail 1 running"]);
        assert_eq!(driver.empty(service("web", 1)), ["1> web 1 down exit 1"]);
        assert_eq!(driver.ask(start("web", 1)).last().unwrap(), "spawn web.2");
    }
    let mut driver = after(web(Attributes { kill_mode: KillMode::Main, ..Attributes::default() }));
    let run = ended(&driver, RunEnd::Exit(Exit::Code(1)), true);
    assert_eq!(driver.adopt("web", 1, run), ["leave web.1"]);
    assert_eq!(driver.state("web"), Some(RunState::Down));
}

#[test]
fn an_end_is_followed_by_what_follows_by_itself() {
    let code = RunEnd::Exit(Exit::Code(1));
    let mut driver = after(web(Attributes { respawn: vec![ms(7)], ..alone() }));
    let run = ended(&driver, code, false);
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), Some(ms(7)));

    let mut driver = after(web(alone()).into_iter().chain([auto_up("web", Some(2), true)]));
    let run = ended(&driver, code, false);
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), Some(ms(2_000)));

    let leased = [lease("web", 1, LeaseAfter::Failure, &[100, 200])];
    let mut driver = after(web(alone()).into_iter().chain(leased.clone()));
    let run = ended(&driver, code, false);
    driver.now = driver.now.saturating_add(ms(60));
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), Some(ms(40)), "the delay began with the end");

    let mut driver = after(web(alone()).into_iter().chain(leased));
    let run = ended(&driver, RunEnd::Exit(Exit::Code(0)), false);
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), None);

    // Nobody asked for it; and what failed in the child is not tried again like a clone.
    let mut driver = after(web(Attributes { retry: Some(ms(30)), ..alone() }));
    let run = ended(&driver, RunEnd::Failed(NO_FILE), false);
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), None);
    let mut driver = after(web(Attributes { retry: Some(ms(30)), ..alone() }));
    let run = ended(&driver, RunEnd::Failed(NO_PROCESS), false);
    driver.adopt("web", 1, run);
    assert_eq!(driver.until_timeout(), Some(ms(30)));
}

#[test]
fn a_cancelled_start_is_made_again_at_once_and_costs_nothing() {
    let respawn = Attributes { respawn: vec![ms(500), ms(900)], ..alone() };
    let policies: [(Attributes, Vec<Command>); 3] = [
        (respawn, vec![]),
        (alone(), vec![auto_up("web", Some(60), true)]),
        (alone(), vec![lease("web", 1, LeaseAfter::Failure, &[100])]),
    ];
    for (attributes, more) in policies {
        let mut driver = after(web(attributes).into_iter().chain(more));
        let run = ended(&driver, RunEnd::Cancelled, false);
        assert_eq!(driver.adopt("web", 1, run).last().unwrap(), "spawn web.2");
    }
    let leased = [lease("web", 1, LeaseAfter::Any, &[100])];
    let mut driver = after(web(alone()).into_iter().chain(leased));
    let run = ended(&driver, RunEnd::Cancelled, false);
    assert_eq!(
        driver.adopt("web", 1, run),
        ["record lease of web from 2 [100ms]", "record web 2 invocation", "spawn web.2"]
    );
    driver.spawned(service("web", 2), 101);
    driver.reaped(101, Exit::Code(1));
    assert_eq!(driver.until_timeout(), Some(ms(100)), "the delay is left");

    let mut driver = after(web(alone()));
    let run = ended(&driver, RunEnd::Cancelled, false);
    assert_eq!(driver.adopt("web", 1, run), [] as [&str; 0], "whoever asked asks again");
    driver.connect(BOSS);
    let dump = driver.ask(Command::StateDump);
    assert!(dump.contains(&"1> web 1 down cancelled".to_owned()), "{dump:?}");
}

#[test]
fn of_an_acknowledged_end_only_triggers_start_a_service() {
    let mut driver =
        after(web(alone()).into_iter().chain([lease("web", 1, LeaseAfter::Any, &[0])]));
    assert_eq!(driver.adopt("web", 1, AdoptedRun::Known), [] as [&str; 0]);
    let mut driver = after(web(alone()).into_iter().chain([auto_up("web", Some(9), true)]));
    assert_eq!(driver.adopt("web", 1, AdoptedRun::Known).last().unwrap(), "spawn web.2");
}

#[test]
fn a_trigger_whose_start_was_lost_starts_the_service() {
    // The setting was written down, and the proxy was lost before the start was.
    let facts = [Fact::Command(auto_up("web", Some(9), true))];
    let (mut driver, _) = Driver::succeed(Settings::default(), Instant::ZERO, &facts);
    assert_eq!(
        driver.adopt("web", 0, AdoptedRun::Known),
        ["record web 1 invocation", "spawn web.1"]
    );
}

#[test]
fn a_respawned_service_whose_start_was_lost_starts_again() {
    let respawn = vec![ms(0), ms(50)];
    let kept = || web(Attributes { respawn: respawn.clone(), ..alone() });
    let mut driver = after(kept());
    assert_eq!(driver.adopt("web", 0, AdoptedRun::Known).last().unwrap(), "spawn web.1");
    let mut driver = after(kept().into_iter().chain([stop("web", 1)]));
    assert_eq!(driver.adopt("web", 1, AdoptedRun::Known), [] as [&str; 0], "it was stopped");
}

#[test]
fn a_generation_that_was_written_down_and_never_begun_is_given_again() {
    let mut driver = after(web(alone()));
    driver.adopt("web", 0, AdoptedRun::Known);
    driver.connect(BOSS);
    let dump = driver.ask(Command::StateDump);
    assert!(dump.iter().all(|line| !line.contains("invocation")), "{dump:?}");
    assert_eq!(driver.ask(start("web", 0)).last().unwrap(), "spawn web.1");
}

#[test]
fn what_cannot_be_known_is_neither_started_nor_signalled_until_it_is() {
    let mut driver = after(web(alone()).into_iter().chain([auto_up("web", None, true)]));
    let why = "cannot say whether process 7 is it".to_owned();
    assert_eq!(
        driver.adopt("web", 1, AdoptedRun::Unsure { why }),
        ["log error: service \"web\" is neither started nor signalled: cannot say whether \
             process 7 is it"]
    );
    driver.connect(BOSS);
    let dump = driver.ask(Command::StateDump);
    assert!(dump.contains(&"1> web 1 stuck".to_owned()), "no process and no end: {dump:?}");
    for (command, kind) in [
        (start("web", 1), "running"),
        (stop("web", 1), "system"),
        (Command::ServiceDelete { name: name("web") }, "running"),
        (Command::ServiceCancel { name: name("web") }, "not-running"),
        (ack("web", 1), "running"),
    ] {
        let lines = driver.ask(command);
        assert!(lines.last().unwrap().ends_with(kind), "{lines:?}");
    }
    assert_eq!(
        driver.say(BOSS, start("web", 1)),
        ["1> error cannot start service \"web\": cannot say whether process 7 is it"]
    );
    driver.give(Input::Signal { signal: Signal::HUP, count: 1 });
    assert_eq!(driver.pass(ms(60_000)), [] as [&str; 0]);
    let run = running(100, driver.now, false);
    assert_eq!(driver.adopt("web", 1, run), ["1> web 1 up pid 100"]);
    // It is known now: nothing more is heard of a predecessor.
    assert_eq!(driver.adopt("web", 1, AdoptedRun::Known), [] as [&str; 0]);
    assert_eq!(driver.state("web"), Some(RunState::Up));
}

#[test]
fn what_runs_without_a_definition_can_be_stopped() {
    let mut driver = after([]);
    let run = running(100, driver.now, false);
    assert_eq!(
        driver.adopt("web", 4, run),
        ["log warning: service \"web\" is there, but nothing says what it is"]
    );
    driver.connect(BOSS);
    assert!(driver.ask(stop("web", 4)).contains(&"TERM to main 100 of web.4".to_owned()));
    assert_eq!(driver.adopt("db", 2, AdoptedRun::Known), [] as [&str; 0]);
    assert_eq!(driver.state("db"), None);
}

#[test]
fn ends_that_nobody_acknowledged_are_dumped_by_the_successor() {
    let mut driver = after(web(alone()));
    let run = running(100, driver.now, false);
    let unknown = ended_run(1, RunEnd::Exit(Exit::Unknown), None);
    let cancelled = ended_run(2, RunEnd::Cancelled, Some(driver.now));
    driver.give(Input::Adopted {
        name: name("web"),
        generation: Generation::new(3),
        run,
        unacknowledged: vec![unknown, cancelled],
    });
    driver.connect(OTHER);
    let dump = driver.ask_as(OTHER, Command::StateDump);
    let ends: Vec<_> = dump.iter().filter(|line| line.contains("ended")).collect();
    assert_eq!(ends, ["3> web 1 ended Exit(Unknown)", "3> web 2 ended Cancelled"]);
}

#[test]
fn a_service_that_said_that_it_is_ready_need_not_say_it_again() {
    let mut driver = recording();
    for command in web(alone()) {
        driver.ask(command);
    }
    driver.spawned(service("web", 1), 100);
    let say = |text: &str| Input::Notify { name: name("web"), pid: pid(100), text: text.into() };
    let notified = |outputs: Vec<Output>| -> Vec<Fact> {
        let fact = |output| match output {
            Output::Record { fact } => Some(fact),
            _ => None,
        };
        outputs.into_iter().filter_map(fact).collect()
    };
    assert_eq!(notified(driver.drive(say("STATUS=begun"))), []);
    let said = notified(driver.drive(say("STATUS=open\nREADY=1")));
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(notified(driver.drive(say("READY=1"))), [], "it is known");
    let facts: Vec<Fact> = driver.proxy.snapshot().collect();
    assert!(facts.contains(&said[0]), "it outlives the journal, too");

    let (mut driver, _) = Driver::succeed(Settings::default(), driver.now, &facts);
    driver.adopt("web", 1, running(100, driver.now, false));
    driver.connect(OTHER);
    let dump = driver.ask_as(OTHER, Command::StateDump);
    assert!(dump.iter().any(|line| line.contains("READY=1")), "{dump:?}");
}

#[test]
fn in_safe_mode_everything_works_but_starts() {
    let safe_mode = Some("it was lost 5 times in 10 s".to_owned());
    let settings = Settings { safe_mode, ..Settings::default() };
    let facts =
        facts_of(web(alone()).into_iter().chain([auto_up("web", None, true), arguments("db")]));
    let (mut driver, _) = Driver::succeed(settings, Instant::ZERO, &facts);
    let run = running(100, driver.now, false);
    driver.adopt("web", 1, run);
    let greeting = driver.give(Input::Connected { connection: BOSS, output: true });
    assert_eq!(greeting, ["1> proto 1 notify safe"]);
    assert_eq!(
        driver.say(BOSS, start("db", 0)),
        ["1> error cannot start service \"db\": nothing is started in safe mode: it was lost \
             5 times in 10 s"]
    );
    assert_eq!(driver.ask(auto_up("db", None, true)), ["record ServiceAutoUp", "1> ok 1"]);
    let exec = Command::ServiceExec {
        name: name("db"),
        deadline: ms(10),
        arguments: vec![b"probe".to_vec()],
    };
    assert_eq!(driver.ask(exec), ["1> fail 2 limit"]);
    assert_eq!(driver.reaped(100, Exit::Code(1)), ["1> web 1 down pid 100 exit 1"]);
    driver.give(Input::Signal { signal: Signal::HUP, count: 1 });
    assert_eq!(driver.until_timeout(), None);
}

#[test]
fn without_room_in_the_journal_only_what_is_short_goes_on() {
    let mut driver = recording();
    driver.ask(arguments("web"));
    driver.give(Input::JournalFull { on: true });
    let note = |value: &[u8]| Command::ServiceNote {
        name: name("web"),
        key: "k".to_owned(),
        value: value.to_vec(),
    };
    for command in [
        arguments("web"),
        set("web", Attributes::default()),
        auto_up("web", None, true),
        note(b"v"),
        lease("web", 0, LeaseAfter::Any, &[1]),
        Command::Chdir { path: b"/".to_vec() },
    ] {
        let lines = driver.ask(command);
        assert!(lines.last().unwrap().ends_with("limit"), "{lines:?}");
    }
    assert_eq!(
        driver.say(BOSS, arguments("web")),
        ["1> error cannot write the command down: the journal of the run folder has no room \
             left"]
    );
    assert_eq!(driver.ask(start("web", 0)).last().unwrap(), "spawn web.1");
    driver.spawned(service("web", 1), 100);
    for command in [
        note(b""),
        lease("web", 1, LeaseAfter::Any, &[]),
        ack("web", 0),
        stop("web", 1),
        Command::Chdir { path: b"/".to_vec() },
    ] {
        let is_long = matches!(command, Command::Chdir { .. });
        let lines = driver.ask(command);
        assert_eq!(lines.iter().any(|line| line.contains("fail")), is_long, "{lines:?}");
    }
    driver.give(Input::JournalFull { on: false });
    assert_eq!(driver.ask(arguments("web"))[0], "record ServiceArgs");
}

#[test]
fn without_a_successor_nothing_is_written_down() {
    let mut driver = Driver::with_boss();
    let mut lines = driver.ask(arguments("web"));
    lines.extend(driver.ask(start("web", 0)));
    driver.spawned(service("web", 1), 100);
    lines.extend(driver.ask(lease("web", 1, LeaseAfter::Any, &[0])));
    lines.extend(driver.reaped(100, Exit::Code(1)));
    let is_written = |line: &String| line.starts_with("record") || line.starts_with("acknowledge");
    assert!(!lines.iter().any(is_written), "{lines:?}");
}

#[test]
fn the_ends_of_a_pipe_know_each_other_again() {
    use keepd_model::{HandleKind, HandleReport, PipeEnd, PipeSpec};
    let spec = PipeSpec { socket: None, nonblock: false };
    let end = |text: &str, peer: &str, end| HandleReport {
        name: HandleName::new(text).unwrap(),
        kind: HandleKind::Pipe { end, spec },
        description: peer.into(),
    };
    let handles = vec![null(), end("r", "w", PipeEnd::From), end("w", "r", PipeEnd::To)];
    let settings = Settings { handles, ..Settings::default() };
    let (mut driver, _) = Driver::succeed(settings, Instant::ZERO, &[]);
    driver.connect(BOSS);
    driver.ask(Command::HandleDelete { name: HandleName::new("w").unwrap() });
    let report = driver.proxy.handle("r").unwrap();
    assert_eq!(report.description, b"?", "its other end is gone");
}
