//! What a plain client makes of the lines that it reads: a table, which must be the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_compat::Client;
use keepd_engine::proxy::ConnectionId;
use keepd_model::Instant;
use keepd_model::protocol::RunState;
use keepd_wire::{Line, LineReader, words};

use crate::manager::readable;
use crate::world::{Step, World, broken};

/// No line that a client is told is longer.
const LINE_BYTES_MAX: usize = 4096;
/// The longest name in the old grammar.
const NAME_BYTES_MAX: usize = 31;
/// The word that a client sends behind `statedump`.
const COMPLETE: &str = "--complete--";

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It asks for nothing that could be refused.
    Listens,
    /// It says all there is.
    Commands,
    /// The same, and it reads late.
    ReadsSlowly,
    /// The same, and it reads nothing.
    ReadsNothing,
}

/// A plain client.
#[derive(Debug)]
pub(crate) struct PlainClient {
    pub(crate) habit: Habit,
    pub(crate) kind: Client,
    /// It reads nothing before.
    pub(crate) reads_from: Instant,
    /// When its last bytes arrive.
    pub(crate) sent_until: Instant,
    reader: LineReader,
    /// The last line of each kind for each name.
    table: BTreeMap<(String, String), Vec<String>>,
    /// The table has everything: a dump was read, and nothing was lost since.
    is_complete: bool,
    asked_for_dump: bool,
}

impl PlainClient {
    pub(crate) fn new(habit: Habit, kind: Client, now: Instant) -> Self {
        let reads_after = match habit {
            Habit::Listens | Habit::Commands => Duration::ZERO,
            Habit::ReadsSlowly => Duration::from_secs(12),
            Habit::ReadsNothing => Duration::from_secs(28),
        };
        Self {
            habit,
            kind,
            reads_from: now.saturating_add(reads_after),
            sent_until: now,
            reader: LineReader::new(LINE_BYTES_MAX),
            table: BTreeMap::new(),
            is_complete: false,
            asked_for_dump: true,
        }
    }

    /// Reports whether it lost news and has not asked yet.
    pub(crate) fn needs_dump(&self) -> bool {
        !self.is_complete && !self.asked_for_dump
    }

    pub(crate) fn asks_for_dump(&mut self) {
        self.asked_for_dump = true;
        self.table.clear();
    }

    /// Takes a line; returns what is wrong with it.
    fn hear(&mut self, line: &str) -> Result<(), (&'static str, String)> {
        let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let name = fields.get(1).cloned().unwrap_or_default();
        let is_shown = name.len() <= NAME_BYTES_MAX
            && !name.contains(['@', ':'])
            && !name.starts_with("keepd.");
        let wrong =
            |number, what: &str| Err((number, format!("{what}: {}", readable(line.as_bytes()))));
        match (fields[0].as_str(), fields.len()) {
            (COMPLETE, 1) => self.is_complete = self.asked_for_dump,
            ("overflow", 1) => {
                self.is_complete = false;
                self.asked_for_dump = false;
                self.table.clear();
            }
            ("error", _) if self.habit == Habit::Listens => {
                return wrong("S23", "an error for who asked for nothing");
            }
            // What `echo` returns may be anything that was sent.
            ("x" | "stays" | "error" | "info" | "warning" | "log.filter", _) => {}
            (first, _) if first.starts_with("warning: fd ") || !first.contains('.') => {
                if first == "signal" && fields.len() != 4 {
                    return wrong("S20", "a signal has four fields");
                }
            }
            ("service.state", 9) if is_shown => return self.hear_state(&name, fields, line),
            ("service.tags" | "service.args" | "service.fds" | "service.auto_up", 3..)
                if is_shown =>
            {
                self.learn(name, fields);
            }
            ("fd.state", 3) if is_shown && fields[2] == "deleted" => {
                self.table.remove(&(fields[0].clone(), name));
            }
            ("fd.state", 5) if is_shown => self.learn(name, fields),
            _ => return wrong("S20", "no line of the old language"),
        }
        Ok(())
    }

    fn learn(&mut self, name: String, fields: Vec<String>) {
        self.table.insert((fields[0].clone(), name), fields);
    }

    /// S22: `start`, `up`, `down`, in this order.
    fn hear_state(
        &mut self,
        name: &str,
        fields: Vec<String>,
        line: &str,
    ) -> Result<(), (&'static str, String)> {
        let key = (fields[0].clone(), name.to_owned());
        let before = self.table.get(&key).map(|known| (known[2].clone(), known[4].clone()));
        let now = (fields[2].as_str(), fields[4].as_str());
        let is_next = match (&before, now) {
            _ if !self.is_complete => true,
            (None, _) => true,
            (Some((before, pid)), now) => match (before.as_str(), now.0) {
                ("down" | "start", "start" | "down") | (_, "deleted") => true,
                ("start", "up") => true,
                ("up", "up" | "down") => pid == now.1,
                _ => false,
            },
        };
        if !is_next {
            let sentence = format!("after {before:?} comes {}", readable(line.as_bytes()));
            return Err(("S22", sentence));
        }
        if now.0 == "deleted" {
            self.table.retain(|(_, known), _| known != name);
        } else {
            self.table.insert(key, fields);
        }
        Ok(())
    }
}

/// Reports whether this is how a service begins.
fn is_unset(kind: &str, shown: &[String]) -> bool {
    let unset: &[&str] = match kind {
        "service.state" => &["down"],
        "service.tags" | "service.args" => &[""],
        "service.fds" => &["null", "null", "null"],
        "service.auto_up" => &["-"],
        _ => return false,
    };
    shown == unset
}

impl World {
    /// A client reads.
    pub(crate) fn read_plain(&mut self, id: ConnectionId, bytes: &[u8]) -> Step {
        let Some(client) = self.plain_clients.get_mut(&id) else {
            return Ok(());
        };
        client.reader.push(bytes);
        while let Some(line) = client.reader.next_line() {
            let Line::Complete(line) = line else {
                return broken("S20", format!("{id:?}: a line is too long"));
            };
            let text = String::from_utf8_lossy(&line).into_owned();
            if text == "overflow" {
                self.faults.count("overflow");
            }
            if let Err((number, sentence)) = client.hear(&text) {
                return broken(number, format!("{id:?}: {sentence}"));
            }
        }
        Ok(())
    }

    /// S21: with everything read, the table is what the machine shows.
    pub(crate) fn check_table(&self, id: ConnectionId, is_read: bool) -> Step {
        let Some(client) = self.plain_clients.get(&id).filter(|client| client.is_complete) else {
            return Ok(());
        };
        if !is_read {
            return Ok(());
        }
        let mut truth = self.truth();
        for (key, known) in &client.table {
            let Some(shown) = truth.remove(key) else {
                return broken("S21", format!("{id:?} knows {known:?}, which is not there"));
            };
            if !known[2..].starts_with(&shown) {
                return broken("S21", format!("{id:?} knows {known:?}, and it is {shown:?}"));
            }
        }
        // Nothing is told of a service that is made, nor of values that were never set.
        match truth.iter().find(|((kind, _), shown)| !is_unset(kind, shown)) {
            Some((key, shown)) => broken("S21", format!("{id:?} does not know {key:?}: {shown:?}")),
            None => Ok(()),
        }
    }

    /// Returns the first fields, behind the name, of what a complete table has.
    fn truth(&self) -> BTreeMap<(String, String), Vec<String>> {
        let machine = &self.proxy.machine;
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let list = |words: Vec<String>| if words.is_empty() { vec![String::new()] } else { words };
        let mut truth = BTreeMap::new();
        let mut after = None;
        while let Some(service) = machine.service_after(after) {
            let name = service.name();
            after = Some(name);
            if name.is_internal() {
                continue;
            }
            let mut add = |kind: &str, words| {
                truth.insert((kind.to_owned(), name.to_string()), words);
            };
            let state = match service.report().state {
                RunState::Down => "down",
                RunState::Pending => "start",
                RunState::Forked
                | RunState::Up
                | RunState::Stopping
                | RunState::Emptying
                | RunState::Stuck => "up",
            };
            add("service.state", vec![state.to_owned()]);
            add("service.tags", list(service.tags().map(text).collect()));
            add("service.args", list(service.arguments().map(text).collect()));
            let fds = service.fds().map(|fds| list(fds.map(text).collect()));
            add("service.fds", fds.unwrap_or_else(|| vec!["null".to_owned(); 3]));
            let (seconds, triggers) = service.auto_up();
            let triggers: Vec<String> = triggers.map(text).collect();
            let auto_up = match triggers.is_empty() {
                true => vec!["-".to_owned()],
                false => [vec![seconds.to_string()], triggers].concat(),
            };
            add("service.auto_up", auto_up);
        }
        let mut after = None;
        while let Some(report) = machine.handle_after(after.as_ref()) {
            let words = vec![words::handle_type(&report.kind).to_owned()];
            truth.insert(("fd.state".to_owned(), report.name.to_string()), words);
            after = Some(report.name);
        }
        truth
    }
}
