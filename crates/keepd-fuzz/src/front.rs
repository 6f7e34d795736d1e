//! daemonproxy's front end as a whole, before a real machine; the shell is pretended.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_compat::{Client, FRONT, Front, Limits, Output, Pool};
use keepd_engine::proxy::{
    CallFailure, ConnectionId, Effect, Input, Output as CoreOutput, Owner, Performed, Proxy,
    Settings,
};
use keepd_model::protocol::PLAIN_LINE_BYTES_MAX;
use keepd_model::{
    Errno, Exit, HandleKind, HandleName, HandleReport, Instant, LogLevel, OpenFlags, Pid, Signal,
};
use keepd_wire::LineReader;

/// An hour after the start of the clock, so that times may lie before it.
const BEGIN: Instant = Instant::from_nanos(3_600_000_000_000);
/// Who reads everything at once, and who reads when it is told to.
const CLIENTS: [ConnectionId; 2] = [ConnectionId(1), ConnectionId(2)];
/// What waits for a client at most: its buffer, and the answer to one command.
const WAITING_BYTES_MAX: usize = 32 * 1024;
/// More outputs than this for one input are a loop.
const OUTPUTS_MAX: usize = 10_000;

/// A conversation of two clients. The first byte says whether there are pools. A line that begins
/// with a byte below 9 is an event: what the second client says (1), reads (2), or no longer hears
/// (3), time (4), a death (5), a signal (6), memory (7), the end of the second client's lines (8);
/// every other line is the first client's.
///
/// Nothing panics, clients hear whole lines, buffers are bounded, the machine's invariants hold,
/// and whoever has read everything may say more.
pub fn front(bytes: &[u8]) {
    let [pools, lines @ ..] = bytes else {
        return;
    };
    let mut play = Play::new(pools.is_ascii_uppercase());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [1, rest @ ..] => play.say(CLIENTS[1], rest),
            [2, ..] => play.read(CLIENTS[1]),
            [3, ..] => play.front.output_lost(CLIENTS[1]),
            [4, rest @ ..] => play.pass(rest.len()),
            [5, ..] => play.die(),
            [6, ..] => play.give(Input::Signal { signal: Signal::HUP, count: 1 }),
            [7, rest @ ..] => play.give(Input::MemoryLow { on: rest.len() > 1 }),
            [8, rest @ ..] => play.end(CLIENTS[1], rest),
            _ => play.say(CLIENTS[0], line),
        }
        play.read(CLIENTS[0]);
        play.check();
        if play.is_over {
            return;
        }
    }
}

struct Play {
    front: Front,
    core: Proxy,
    now: Instant,
    readers: BTreeMap<ConnectionId, LineReader>,
    running: Vec<Pid>,
    last_pid: u32,
    is_over: bool,
}

impl Play {
    fn new(pools: bool) -> Self {
        let limits = Limits {
            services: pools.then_some(Pool { count: 3, bytes: 64 }),
            handles: pools.then_some(Pool { count: 8, bytes: 32 }),
        };
        let null = HandleReport {
            name: HandleName::new("null").expect("it is valid"),
            kind: HandleKind::Special(OpenFlags::default()),
            description: b"/dev/null".to_vec(),
        };
        let settings = Settings {
            handles: vec![null],
            log_filter: LogLevel::Debug,
            description_bytes_max: pools.then_some(33),
            ..Settings::default()
        };
        let mut play = Self {
            front: Front::new(limits),
            core: Proxy::new(settings),
            now: BEGIN,
            readers: BTreeMap::new(),
            running: Vec::new(),
            last_pid: 100,
            is_over: false,
        };
        play.give(Input::Connected { connection: FRONT, output: true });
        for id in CLIENTS {
            play.readers.insert(id, LineReader::new(PLAIN_LINE_BYTES_MAX));
            play.front.connected(BEGIN, &play.core, id, Client::Both);
        }
        play
    }

    fn give(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.settle();
    }

    fn say(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.push(bytes);
        }
        self.run_lines(id);
    }

    fn run_lines(&mut self, id: ConnectionId) {
        while !self.is_over && self.front.is_ready(id) {
            let line = self.readers.get_mut(&id).and_then(LineReader::next_line);
            let Some(line) = line else { break };
            self.front.handle_line(self.now, &self.core, id, &line);
            self.settle();
        }
    }

    /// A client reads everything, which may let more of its lines be run.
    fn read(&mut self, id: ConnectionId) {
        let mut heard = Vec::new();
        while !self.front.output(id).is_empty() {
            let count = self.front.output(id).len().min(1_000);
            heard.extend_from_slice(&self.front.output(id)[..count]);
            self.front.written(self.now, &self.core, id, count);
            self.run_lines(id);
        }
        assert!(heard.is_empty() || heard.ends_with(b"\n"), "{}", heard.escape_ascii());
    }

    fn end(&mut self, id: ConnectionId, rest: &[u8]) {
        if self.readers.remove(&id).is_some() && self.front.is_ready(id) {
            self.front.handle_end(self.now, &self.core, id, rest);
            self.settle();
        }
    }

    fn pass(&mut self, seconds: usize) {
        // What waits and is not taken has a time limit.
        self.front.written(self.now, &self.core, CLIENTS[1], 0);
        let end = self.now.saturating_add(Duration::from_secs(seconds as u64));
        let due = |play: &Self| {
            let due = [play.core.poll_timeout(), play.front.poll_timeout()];
            due.into_iter().flatten().min().filter(|due| *due <= end)
        };
        while let Some(next) = due(self).filter(|_| !self.is_over) {
            self.now = self.now.max(next);
            self.core.handle_timeout(self.now);
            self.front.handle_timeout(self.now);
            self.settle();
            assert!(self.front.poll_timeout().is_none_or(|due| due > self.now));
            assert!(self.core.poll_timeout().is_none_or(|due| due > self.now));
        }
        self.now = end;
    }

    fn die(&mut self) {
        if let Some(pid) = self.running.pop() {
            self.give(Input::Reaped { pid, exit: Exit::Code(1) });
        }
    }

    /// Does what both machines ask for until neither asks for more.
    fn settle(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            if let Some(output) = self.core.poll_output() {
                self.perform(output);
            } else if let Some(output) = self.front.poll_output() {
                self.perform_for_front(output);
            } else {
                return;
            }
        }
        panic!("the outputs do not end");
    }

    fn perform(&mut self, output: CoreOutput) {
        match output {
            CoreOutput::Send { connection: FRONT, message } => {
                self.front.handle_message(self.now, &self.core, &message);
            }
            CoreOutput::Spawn(spawn) => {
                self.last_pid += 1;
                let pid = Pid::new(self.last_pid).expect("it is not 0");
                self.running.push(pid);
                let owner = Owner::Service(spawn.name.clone(), spawn.generation);
                self.core.handle_input(self.now, Input::Spawned { owner, outcome: Ok(pid) });
            }
            CoreOutput::Perform { ticket, effect } => {
                let outcome = match effect {
                    Effect::Take { .. } => Err(CallFailure { call: "take", errno: None }),
                    Effect::Socket { .. } => {
                        Err(CallFailure { call: "bind", errno: Some(Errno::EINVAL) })
                    }
                    Effect::Signal { .. }
                    | Effect::Open { .. }
                    | Effect::Pipe { .. }
                    | Effect::Chdir { .. }
                    | Effect::Listen { .. } => Ok(Performed::Done),
                };
                self.core.handle_input(self.now, Input::Performed { ticket, outcome });
            }
            CoreOutput::Terminate { .. } => self.is_over = true,
            CoreOutput::Log { text, .. } => assert!(!text.contains('\n'), "{text:?}"),
            CoreOutput::Send { .. }
            | CoreOutput::Close { .. }
            | CoreOutput::SpawnJob(_)
            | CoreOutput::SignalMain { .. }
            | CoreOutput::SignalGroup { .. }
            | CoreOutput::WatchGroup { .. }
            | CoreOutput::LeaveGroup { .. }
            | CoreOutput::Forget { .. }
            | CoreOutput::WatchOutput { .. }
            | CoreOutput::CloseDescriptor { .. }
            | CoreOutput::StopListening
            | CoreOutput::LogTo { .. }
            | CoreOutput::LogFilter { .. }
            | CoreOutput::ExitExec { .. }
            | CoreOutput::Record { .. }
            | CoreOutput::Acknowledge { .. }
            | CoreOutput::Guarded { .. } => {}
        }
    }

    fn perform_for_front(&mut self, output: Output) {
        match output {
            Output::Ask(request) => {
                let input = Input::Request { connection: FRONT, request };
                self.core.handle_input(self.now, input);
            }
            Output::Upgrade { connection } | Output::Close { connection } => {
                self.readers.remove(&connection);
            }
            Output::Log { text, .. } => assert!(!text.contains('\n'), "{text:?}"),
        }
    }

    fn check(&self) {
        for id in CLIENTS {
            let waiting = self.front.output(id).len();
            assert!(waiting <= WAITING_BYTES_MAX, "{waiting} bytes wait");
            if self.is_over || !self.readers.contains_key(&id) {
                continue;
            }
            assert!(waiting > 0 || self.front.is_ready(id), "nobody is waited for");
        }
        assert!(self.is_over || self.front.asking().is_none(), "a question has no answer");
        if let Err(sentence) = self.core.check_invariants() {
            panic!("{sentence}");
        }
    }
}
