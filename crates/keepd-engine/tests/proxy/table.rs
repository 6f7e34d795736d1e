//! Every run state with every input: nothing panics, every invariant holds, and time moves on.

use keepd_engine::proxy::{CallFailure, Input, Owner, Performed, SpawnOutcome, Ticket};
use keepd_model::protocol::{
    Attributes, Command, FilterChange, Message, Request, RequestId, RunState, Scope, Stream,
    Triggers,
};
use keepd_model::{
    Errno, Exit, FdSlot, Generation, Instant, KillMode, OpenFlags, PipeSpec, Signal,
};

use crate::driver::*;

/// One step towards a state.
type Step = fn(&mut Driver);

/// Returns the ways from a fresh machine to each state of the service "web", generation 1, pid 100.
fn steps(mode: KillMode) -> Vec<(RunState, Vec<Step>)> {
    fn spawn(driver: &mut Driver) {
        driver.ask(start("web", 0));
    }
    fn fork(driver: &mut Driver) {
        spawn(driver);
        driver.spawned(service("web", 1), 100);
    }
    fn fail(driver: &mut Driver) {
        driver.give(Input::Report {
            owner: service("web", 1),
            outcome: SpawnOutcome::Failed(NO_FILE),
        });
    }
    fn execute(driver: &mut Driver) {
        driver.executed(service("web", 1));
    }
    fn ask_stop(driver: &mut Driver) {
        driver.ask(stop("web", 1));
    }
    fn reap(driver: &mut Driver) {
        driver.reaped(100, Exit::Code(1));
    }
    fn wait(driver: &mut Driver) {
        driver.pass(ms(10_000));
    }
    fn wait_stuck(driver: &mut Driver) {
        driver.pass(ms(5_000));
    }
    fn empty(driver: &mut Driver) {
        driver.empty(service("web", 1));
    }
    fn want_always(driver: &mut Driver) {
        driver.ask(auto_up("web", Some(60), true));
    }
    let mut states: Vec<(RunState, Vec<Step>)> = vec![
        (RunState::Down, vec![]),
        (RunState::Pending, vec![spawn]),
        (RunState::Pending, vec![spawn, ask_stop]),
        (RunState::Forked, vec![fork]),
        (RunState::Forked, vec![fork, fail]),
        (RunState::Up, vec![fork, execute]),
        (RunState::Stopping, vec![fork, ask_stop]),
        (RunState::Stopping, vec![fork, execute, ask_stop, wait]),
        (RunState::Stuck, vec![fork, execute, ask_stop, wait, wait_stuck]),
        (RunState::Down, vec![fork, execute, reap, empty]),
        (RunState::Pending, vec![fork, want_always, reap, empty]),
    ];
    match mode {
        KillMode::Mixed => states.push((RunState::Stuck, vec![fork, reap, wait_stuck])),
        KillMode::All => states.push((RunState::Stuck, vec![fork, reap, wait, wait_stuck])),
        // What is left of the group is nobody's concern.
        KillMode::Main => {}
    }
    let after_reaping = match mode {
        KillMode::Mixed | KillMode::All => RunState::Emptying,
        KillMode::Main => RunState::Down,
    };
    states.extend([
        (after_reaping, vec![fork, execute, reap]),
        (after_reaping, vec![fork, fail, reap]),
        (after_reaping, vec![fork, execute, ask_stop, reap]),
    ]);
    states
}

fn commands() -> Vec<Command> {
    let web = || name("web");
    let mut commands = vec![
        Command::Proto { version: 1 },
        Command::Echo { text: b"x".to_vec() },
        Command::StateDump,
        Command::WatchLogs { on: true },
        Command::Exit,
        Command::Terminate { code: 0, guard: None },
        Command::TerminateGuard { set: true, code: 5 },
        Command::TerminateExec { arguments: vec![b"/bin/sh".to_vec()] },
        Command::Chdir { path: b"/".to_vec() },
        Command::LogFilter { change: FilterChange::More },
        Command::LogDestination { handle: handle_name("a") },
        Command::SocketCreate { path: b"/s".to_vec() },
        Command::SocketDelete,
        Command::HandleOpen {
            name: handle_name("a"),
            flags: OpenFlags::default(),
            path: b"/x".to_vec(),
        },
        Command::HandlePipe {
            read: handle_name("a"),
            write: handle_name("b"),
            spec: PipeSpec { socket: None, nonblock: true },
        },
        Command::HandleTake { name: handle_name("a") },
        Command::HandleDelete { name: handle_name("a") },
        Command::WatchStarts { on: true },
        Command::EventTimeout { reset: ms(1), close: ms(2) },
        Command::SignalClear { signal: Signal::HUP, count: 1 },
        arguments("web"),
        Command::ServiceArgs { name: web(), arguments: Vec::new() },
        Command::ServiceTags { name: web(), tags: vec![b"t".to_vec()] },
        set("web", Attributes { respawn: vec![ms(0)], ..Attributes::default() }),
        Command::ServiceEnv {
            name: web(),
            environment: keepd_model::protocol::Environment::default(),
        },
        Command::ServiceLog { name: web(), log: keepd_model::protocol::LogTarget::Inherit },
        Command::ServiceFds { name: web(), slots: vec![FdSlot::Handle(handle_name("a"))] },
        Command::ServiceCancel { name: web() },
        Command::ServiceStart {
            name: web(),
            expected: None,
            at: Some(Instant::from_nanos(u64::MAX)),
        },
        Command::ServiceAutoUp {
            name: web(),
            seconds: None,
            triggers: Triggers { signals: vec![Signal::HUP], ..Triggers::default() },
        },
        auto_up("web", None, true),
        auto_up("web", Some(3), false),
        start("web", 0),
        start("web", 1),
        stop("web", 0),
        stop("web", 1),
        stop_with("web", 1, Signal::KILL, ms(0)),
        Command::ServiceNote { name: web(), key: "k".to_owned(), value: b"v".to_vec() },
        Command::ServiceDelete { name: web() },
        Command::ServiceExec { name: web(), deadline: ms(1), arguments: vec![b"x".to_vec()] },
    ];
    for scope in [Scope::Main, Scope::All, Scope::ProcessGroup] {
        commands.push(Command::ServiceSignal {
            name: web(),
            expected: Some(Generation::new(1)),
            signal: Signal::HUP.into(),
            scope,
        });
    }
    commands
}

fn inputs() -> Vec<Input> {
    let mut inputs = vec![
        Input::Connected { connection: OTHER, output: false },
        Input::Disconnected { connection: BOSS },
        Input::Refused { connection: BOSS, answer: Message::Error(String::new()) },
        Input::Full { connection: BOSS },
        Input::Drained { connection: BOSS },
        Input::Notify { name: name("web"), pid: pid(100), text: b"READY=1".to_vec() },
        Input::ReadyFd { name: name("web"), generation: Generation::new(1) },
        Input::Output { name: name("web"), stream: Stream::Out, offset: 1 },
        Input::OutputBlocked { name: name("web"), errno: Some(Errno::EIO) },
        Input::JobOutput { job: keepd_engine::proxy::JobId(1), bytes: b"x".to_vec() },
        Input::Signal { signal: Signal::HUP, count: 1 },
        Input::Performed { ticket: Ticket(1), outcome: Ok(Performed::Done) },
        Input::Performed {
            ticket: Ticket(1),
            outcome: Err(CallFailure { call: "open", errno: None }),
        },
        Input::Reaped { pid: pid(100), exit: killed_by(Signal::KILL) },
    ];
    let owners: [Owner; 4] = [service("web", 1), service("web", 2), service("db", 1), job(1)];
    for owner in owners {
        inputs.push(Input::Spawned { owner: owner.clone(), outcome: Ok(pid(300)) });
        inputs.push(Input::Spawned { owner: owner.clone(), outcome: Err(NO_PROCESS) });
        inputs.push(Input::Report { owner: owner.clone(), outcome: SpawnOutcome::Executed });
        inputs.push(Input::Report { owner: owner.clone(), outcome: SpawnOutcome::Failed(NO_FILE) });
        inputs.push(Input::GroupEmpty { owner });
    }
    for connection in [BOSS, TYPIST] {
        inputs.extend(commands().into_iter().map(|command| Input::Request {
            connection,
            request: match connection {
                BOSS => Request::Numbered(RequestId(500), command),
                _ => Request::Unnumbered(command),
            },
        }));
    }
    inputs
}

#[test]
fn every_state_takes_every_input() {
    let mut cells = 0;
    for mode in KillMode::ALL.iter().copied() {
        for (state, path) in steps(mode) {
            for input in inputs() {
                let mut driver = Driver::with_boss();
                driver.connect(TYPIST);
                driver.ask(set("web", Attributes { kill_mode: mode, ..Attributes::default() }));
                driver.ask(arguments("web"));
                for step in &path {
                    step(&mut driver);
                }
                assert_eq!(driver.state("web"), Some(state), "{input:?}");
                driver.give(input.clone());
                // What the command asked the shell for is done, or it is the answer to nothing.
                driver.performed(1);
                // The same news twice is no worse than once.
                driver.give(input.clone());
                driver.pass(ms(30_000));
                cells += 1;
            }
        }
    }
    assert!(cells > 1_500, "{cells}");
}
