//! The shell around the manager machine: its process, its connection, and the work it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepd_engine::manager::{
    AskId, Input, Launch, Manager, Output, PrepareFailure, Question, Said, Settings, Ticket,
};
use keepd_engine::proxy::ConnectionId;
use keepd_model::protocol::{
    Command, EXTENDED_LINE_BYTES_MAX, Environment, EnvironmentChange, Event, LogTarget, Message,
    READY_FD_TEXT, Request, RequestId,
};
use keepd_model::{
    CommandLine, Errno, Exit, Generation, Instant, Pid, Probe, Reload, ServiceName, ServiceSpec,
    Signal, SpawnStep,
};
use keepd_wire::notify::parse_notify;
use keepd_wire::{Line, LineReader, decode_message, encode_request};

use crate::proxy::Arrival;
use crate::sabotage::Sabotage;
use crate::world::{Due, Step, World, broken};

/// More outputs than this for one input are a loop.
const OUTPUTS_MAX: u32 = 20_000;
/// The number of the last command, which is the shell's own.
const TERMINATE_ID: RequestId = RequestId(u64::MAX);

/// A living manager.
#[derive(Debug)]
pub(crate) struct ManagerShell {
    /// Of its process.
    pub(crate) serial: u64,
    pid: Pid,
    pub(crate) machine: Manager,
    pub(crate) connection: Option<ConnectionId>,
    reader: LineReader,
    greeted: bool,
    outbox: Vec<u8>,
    last_at: Instant,
    /// It dies after so many outputs of its next turns.
    pub(crate) dies_after: Option<u64>,
    /// Which client waits for which answer.
    pub(crate) asks: BTreeMap<AskId, usize>,
    /// It reads no clock until then.
    pub(crate) stalled_until: Instant,
}

impl ManagerShell {
    /// The proxy is gone, with what was on its way.
    pub(crate) fn cut(&mut self) {
        self.connection = None;
        self.reader = LineReader::new(EXTENDED_LINE_BYTES_MAX);
        self.greeted = false;
        self.outbox.clear();
    }
}

impl World {
    /// The manager's program runs; it needs a moment before it connects.
    pub(crate) fn on_manager_executes(&mut self, pid: Pid, serial: u64) {
        let delay = self.random.micros(0, 50_000);
        self.after(delay, Due::ManagerBegins(pid, serial));
    }

    pub(crate) fn on_manager_begins(&mut self, pid: Pid, serial: u64) -> Step {
        if !self.kernel.is_live(pid, serial) {
            return Ok(());
        }
        let machine =
            Manager::new(Settings { seed: self.random.next(), idle_by_default: false, only: None });
        self.manager = Some(ManagerShell {
            serial,
            pid,
            machine,
            connection: None,
            reader: LineReader::new(EXTENDED_LINE_BYTES_MAX),
            greeted: false,
            outbox: Vec::new(),
            last_at: self.now,
            dies_after: None,
            asks: BTreeMap::new(),
            stalled_until: Instant::ZERO,
        });
        let mut plan = self.accepted.clone();
        if self.sabotage == Some(Sabotage::IgnoresEdges) {
            for spec in plan.services.values_mut() {
                Arc::make_mut(spec).depends_on.clear();
            }
        }
        let connects_first = self.random.chance(30);
        if !connects_first {
            self.give_manager(Input::Boot { plan: plan.clone() })?;
        }
        self.on_manager_connects(serial)?;
        if connects_first {
            let delay = self.random.micros(0, 20_000);
            self.after(delay, Due::ManagerReadsPlan(serial));
        }
        Ok(())
    }

    pub(crate) fn on_manager_reads_plan(&mut self, serial: u64) -> Step {
        if self.manager_serial() != Some(serial) {
            return Ok(());
        }
        let plan = self.accepted.clone();
        self.give_manager(Input::Boot { plan })
    }

    pub(crate) fn manager_serial(&self) -> Option<u64> {
        self.manager.as_ref().map(|shell| shell.serial)
    }

    /// Bytes of the proxy come in.
    pub(crate) fn on_bytes_for_manager(&mut self, bytes: &[u8]) -> Step {
        let Some(shell) = &mut self.manager else {
            return Ok(());
        };
        shell.reader.push(bytes);
        let serial = shell.serial;
        while let Some(shell) = self.manager.as_mut().filter(|shell| shell.serial == serial)
            && let Some(line) = shell.reader.next_line()
        {
            let Line::Complete(line) = line else {
                return broken("S9", "a line for the manager is too long".to_owned());
            };
            if !shell.greeted && !line.starts_with(b"proto") {
                continue;
            }
            shell.greeted = true;
            self.trace(|| format!("manager <- {}", readable(&line)));
            match decode_message(&line) {
                Ok(Some(message)) => self.on_message(message)?,
                Ok(None) => {}
                Err(error) => return broken("S9", format!("the manager: {error}")),
            }
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> Step {
        let input = match message {
            Message::Event(Event::Notify { name, generation, text, .. }) => {
                let notification = parse_notify(&text);
                let said = Said {
                    ready: notification.ready,
                    ready_fd: text == READY_FD_TEXT.as_bytes(),
                    reloading: notification.reloading,
                    stamp: notification.monotonic,
                    status: notification.status,
                };
                Input::Notified { name, generation, said }
            }
            other => Input::Message(other),
        };
        self.give_manager(input)
    }

    /// Gives news to the machine and carries out what follows, unless it dies in between.
    pub(crate) fn give_manager(&mut self, input: Input) -> Step {
        match &input {
            Input::Boot { .. } => self.trace(|| "manager <- boot".to_owned()),
            // Seen as a line already.
            Input::Message(_) | Input::Notified { .. } => {}
            other => self.trace(|| format!("manager <- {other:?}")),
        }
        let now = self.now;
        let Some(shell) = &mut self.manager else {
            return Ok(());
        };
        shell.machine.handle_input(now, input);
        self.carry_out_for_manager()
    }

    /// Lets the machine do what is due.
    pub(crate) fn manager_timers(&mut self) -> Step {
        let mut now = self.now;
        if self.sabotage == Some(Sabotage::HurriesTimers) {
            now = now.saturating_add(Duration::from_millis(300));
        }
        let Some(shell) = &mut self.manager else {
            return Ok(());
        };
        if shell.machine.poll_timeout().is_none_or(|due| due > now) {
            return Ok(());
        }
        shell.machine.handle_timeout(now);
        if shell.machine.poll_timeout().is_some_and(|due| due <= now) {
            return broken("S11", "manager: the next timeout is not later".to_owned());
        }
        self.trace(|| "manager: timer".to_owned());
        self.carry_out_for_manager()
    }

    fn carry_out_for_manager(&mut self) -> Step {
        for _ in 0..OUTPUTS_MAX {
            let Some(shell) = &mut self.manager else {
                return Ok(());
            };
            match &mut shell.dies_after {
                Some(0) => {
                    self.faults.count("manager dies within a turn");
                    self.kill_manager();
                    return Ok(());
                }
                Some(left) => *left -= 1,
                None => {}
            }
            let Some(output) = shell.machine.poll_output() else {
                return self.end_manager_turn();
            };
            self.check_manager_output(&output)?;
            self.carry_out_one_for_manager(output)?;
        }
        broken("S11", "manager: the outputs do not end".to_owned())
    }

    fn end_manager_turn(&mut self) -> Step {
        self.flush_manager(false);
        self.check_manager()
    }

    fn carry_out_one_for_manager(&mut self, output: Output) -> Step {
        match output {
            Output::Command { id, command } => {
                self.write_command(id, command);
            }
            Output::Prepare { ticket, spec, preparation: _ } => {
                let delay = if self.random.chance(10) {
                    self.random.millis(10, 500)
                } else {
                    self.random.micros(10, 2_000)
                };
                let serial = self.manager_serial().unwrap_or_default();
                self.after(delay, Due::Prepared(serial, ticket, spec));
            }
            Output::Probe { name, generation, index, timeout, .. } => {
                let no_answer = !self.is_calm && self.random.chance(3);
                let delay = match no_answer {
                    true => timeout,
                    false => self.random.micros(100, 20_000),
                };
                let serial = self.manager_serial().unwrap_or_default();
                self.after(delay, Due::Probed(serial, name, generation, index, no_answer));
            }
            Output::Answer { ask, answer } => {
                self.trace(|| format!("manager: {ask:?} is answered {answer:?}"));
                return self.on_answer(ask, answer);
            }
            Output::Announce(announcement) => {
                self.trace(|| format!("manager: {:?}", announcement.what));
                return self.check_announcement(&announcement);
            }
            Output::Finish { code } => {
                self.trace(|| format!("manager: finish {code}"));
                self.write_command(TERMINATE_ID, Command::Terminate { code, guard: None });
            }
        }
        Ok(())
    }

    fn write_command(&mut self, id: RequestId, command: Command) {
        if let Some(shell) = &mut self.manager {
            let request = match command {
                Command::Proto { .. } => Request::Unnumbered(command),
                other => Request::Numbered(id, other),
            };
            let start = shell.outbox.len();
            encode_request(&request, &mut shell.outbox);
            let line = shell.outbox[start..].to_vec();
            self.trace(|| format!("manager -> {}", readable(&line)));
        }
    }

    /// What was written goes on its way. At a death the last bytes may be missing.
    fn flush_manager(&mut self, cut: bool) {
        let Some(shell) = &mut self.manager else {
            return;
        };
        let Some(connection) = shell.connection else {
            return;
        };
        let mut bytes = std::mem::take(&mut shell.outbox);
        if bytes.is_empty() {
            return;
        }
        if cut && self.random.chance(50) {
            let keep = self.random.index(bytes.len());
            bytes.truncate(keep);
            self.faults.count("command cut off");
        }
        let delay = self.random.micros(0, 1_000);
        let at = self.now.saturating_add(delay).max(shell.last_at);
        shell.last_at = at;
        let rest = bytes.split_off(self.random.index(bytes.len() + 1));
        for bytes in [bytes, rest] {
            self.at(at, Due::ToProxy(Arrival::Bytes(connection, bytes)));
        }
    }

    /// The manager dies now: what it wrote stays, the rest of its turn never happens.
    pub(crate) fn kill_manager(&mut self) {
        let Some(shell) = &self.manager else {
            return;
        };
        let (pid, serial) = (shell.pid, shell.serial);
        self.trace(|| "the manager is killed".to_owned());
        self.on_dies(pid, serial, Exit::Signal { signal: Signal::KILL, core: false });
    }

    /// Called for every process that died: if it was the manager, its connection ends.
    pub(crate) fn manager_process_died(&mut self, serial: u64) {
        if self.manager_serial() != Some(serial) {
            return;
        }
        self.flush_manager(true);
        self.note_manager_lost();
        let Some(shell) = self.manager.take() else {
            return;
        };
        if let Some(connection) = shell.connection {
            let at = self.now.max(shell.last_at);
            self.at(at, Due::ToProxy(Arrival::Ended(connection)));
        }
        for client in shell.asks.into_values() {
            self.retry_client(client);
        }
    }

    /// The shell found out what a start needs, or what is missing.
    pub(crate) fn on_prepared(
        &mut self,
        serial: u64,
        ticket: Ticket,
        spec: &Arc<ServiceSpec>,
    ) -> Step {
        if self.manager_serial() != Some(serial) {
            return Ok(());
        }
        let temper = self.temper_of(&spec.name);
        let outcome = if self.random.chance(temper.cannot_prepare) {
            self.faults.count("start cannot be prepared");
            Err(PrepareFailure {
                step: SpawnStep::Exec,
                errno: Some(Errno::ENOENT),
                text: "executable \"/bin/service\" not found".to_owned(),
            })
        } else {
            self.prepared.insert(spec.name.clone(), Arc::clone(spec));
            Ok(Box::new(launch(spec)))
        };
        self.give_manager(Input::Prepared { ticket, outcome })
    }

    /// A question from outside is answered.
    pub(crate) fn on_probed(
        &mut self,
        serial: u64,
        name: ServiceName,
        generation: Generation,
        index: usize,
        no_answer: bool,
    ) -> Step {
        if self.manager_serial() != Some(serial) {
            return Ok(());
        }
        let holds = !no_answer && self.holds(&name, Some(generation));
        let key = (name.clone(), generation);
        if holds && let Some(truth) = self.kernel.truths.get_mut(&key) {
            truth.held.insert(index);
        }
        let forged = self.sabotage == Some(Sabotage::ForgesReadiness);
        let outcome = match (holds || forged, no_answer) {
            (true, _) => Ok(()),
            (false, true) => Err("no answer within 3 s".to_owned()),
            (false, false) => Err("connection refused".to_owned()),
        };
        self.give_manager(Input::Probed { name, generation, index, outcome })
    }
}

/// Returns a line of the protocol as people read it.
pub(crate) fn readable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().replace('\t', " ")
}

fn launch(spec: &ServiceSpec) -> Launch {
    let words = |command: &CommandLine| match command {
        CommandLine::Words(words) => {
            words.iter().map(|word| word.to_string().into_bytes()).collect()
        }
        CommandLine::Shell(line) => vec![b"/bin/sh".to_vec(), line.clone().into_bytes()],
    };
    let question = |probe: &Probe| match probe {
        Probe::Tcp(tcp) => Question::Tcp(tcp.address.to_string()),
        Probe::Http(http) => Question::Http(http.url.to_string()),
        Probe::Exec(command) => Question::Exec(words(command)),
        Probe::Socket(path) => Question::Socket(path.to_string()),
        Probe::File(path) => Question::File(path.to_string()),
        Probe::Log(pattern) => Question::Log(pattern.clone()),
    };
    let count = spec.env_files.len().to_string().into_bytes();
    Launch {
        arguments: spec.command.as_ref().map(words).unwrap_or_default(),
        environment: Environment {
            clear: false,
            changes: vec![EnvironmentChange::Set(b"FILES".to_vec(), count)],
        },
        directory: b"/a path\twith a tab".to_vec(),
        uid: None,
        gid: None,
        groups: None,
        log: LogTarget::Null,
        questions: spec.ready.probes.iter().map(question).collect(),
        reload: match &spec.reload {
            Some(Reload::Command(command)) => Some(words(command)),
            Some(Reload::Signal(_)) | None => None,
        },
    }
}
