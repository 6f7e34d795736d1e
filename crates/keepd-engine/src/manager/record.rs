//! What a successor cannot observe again, as notes in the proxy.
//!
//! One note `record` a service and one note `change.N` a change (kept on `keepd.manager`). A note
//! is a list of `key=value` fields with one tab between; values are percent-encoded. Unknown keys
//! are skipped, so an older manager reads what a newer one wrote. A note that cannot be read counts
//! as absent.
//!
//! Version history: 1 (keys below).

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::{
    ChangeId, Errno, Exit, ExitCode, Generation, Instant, Pid, Reason, ServiceName, Signal,
    SpawnStep, Until,
};

use super::cause::{Cause, ShutdownCause};
use super::interface::{Change, Goal, LastEnd, Outcome, PrepareFailure, Target, Verb, Who};
use super::service::{EndWhy, Manner, Phase, Rest, Service, Want};

/// The key of the note on each service.
pub(super) const RECORD_KEY: &str = "record";
/// The beginning of the key of a change's note.
pub(super) const CHANGE_KEY: &str = "change.";
/// The key of the note that says a shutdown is under way.
pub(super) const SHUTDOWN_KEY: &str = "shutdown";

/// What the last manager recorded of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) want: Want,
    pub(super) want_cause: Cause,
    pub(super) phase: RecordedPhase,
    pub(super) cause: Cause,
    pub(super) since: Instant,
    pub(super) generation: Generation,
    pub(super) end_count: u32,
    pub(super) restarts: u64,
    pub(super) ready_after: Option<Duration>,
    pub(super) last_end: Option<LastEnd>,
    pub(super) launched: Option<u64>,
    pub(super) kept: Option<u64>,
    /// What the file said then; unknown in notes of earlier versions.
    pub(super) enabled: Option<bool>,
    /// What it depended on: should it be gone from the file, it still ends before them.
    pub(super) needs: Vec<ServiceName>,
}

/// The part of a phase that the proxy's reports do not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordedPhase {
    /// No process, nothing due.
    Resting(Rest),
    /// On its way to a start.
    Begun,
    /// Its program was started and is not ready.
    Started,
    /// It is ready since then.
    Ready(Instant),
    /// It is on its way down for this reason, and was ready since then.
    Ending(EndWhy, Option<Instant>),
    /// It is started again at that time.
    Backoff(Instant),
}

impl Record {
    pub(super) fn of(service: &Service) -> Self {
        let phase = match &service.phase {
            Phase::Resting(rest) => RecordedPhase::Resting(*rest),
            // A restart by policy does not look at dependencies, nor does a successor.
            Phase::Preparing { .. } if service.cause == Cause::RestartPolicy => {
                RecordedPhase::Backoff(service.since)
            }
            Phase::Waiting | Phase::Preparing { .. } => RecordedPhase::Begun,
            Phase::Commanded { .. } | Phase::Starting(_) => RecordedPhase::Started,
            Phase::Running(running) => RecordedPhase::Ready(running.ready),
            Phase::Ending(ending) | Phase::Stuck(ending) => {
                RecordedPhase::Ending(ending.why.clone(), ending.ready)
            }
            Phase::Backoff { until } => RecordedPhase::Backoff(*until),
        };
        Self {
            want: service.want,
            want_cause: service.want_cause.clone(),
            phase,
            cause: service.cause.clone(),
            since: service.since,
            generation: service.generation,
            end_count: service.end_count,
            restarts: service.restarts,
            ready_after: service.ready_after,
            last_end: service.last_end.clone(),
            launched: service.launched,
            kept: service.kept,
            enabled: Some(service.spec.enabled),
            needs: service.spec.depends_on.keys().cloned().collect(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.put("v", "1");
        fields.put(
            "want",
            match self.want {
                Want::Up => "up",
                Want::Down(Manner::Polite) => "down",
                Want::Down(Manner::Kill) => "kill",
            },
        );
        put_cause(&mut fields, "want_cause", &self.want_cause);
        match &self.phase {
            RecordedPhase::Resting(Rest::Stopped) => fields.put("phase", "stopped"),
            RecordedPhase::Resting(Rest::Done) => fields.put("phase", "done"),
            RecordedPhase::Resting(Rest::Failed) => fields.put("phase", "failed"),
            RecordedPhase::Begun => fields.put("phase", "begun"),
            RecordedPhase::Started => fields.put("phase", "started"),
            RecordedPhase::Ready(at) => {
                fields.put("phase", "ready");
                fields.put_number("ready_ns", at.as_nanos());
            }
            RecordedPhase::Ending(why, ready) => {
                fields.put("phase", "ending");
                match why {
                    EndWhy::Unwanted => fields.put("why", "unwanted"),
                    EndWhy::Restart => fields.put("why", "restart"),
                    EndWhy::ByItself => fields.put("why", "by-itself"),
                    EndWhy::ReadyTimeout { missing } => {
                        fields.put("why", "ready-timeout");
                        fields.put("missing", missing);
                    }
                }
                if let Some(at) = ready {
                    fields.put_number("ready_ns", at.as_nanos());
                }
            }
            RecordedPhase::Backoff(until) => {
                fields.put("phase", "backoff");
                fields.put_number("until_ns", until.as_nanos());
            }
        }
        put_cause(&mut fields, "cause", &self.cause);
        fields.put_number("since_ns", self.since.as_nanos());
        fields.put_number("gen", self.generation.get());
        fields.put_number("ends", u64::from(self.end_count));
        fields.put_number("restarts", self.restarts);
        if let Some(after) = self.ready_after {
            fields.put_duration("ready_after_ns", after);
        }
        if let Some(launched) = self.launched {
            fields.put_number("launched", launched);
        }
        if let Some(kept) = self.kept {
            fields.put_number("kept", kept);
        }
        if let Some(enabled) = self.enabled {
            fields.put_number("enabled", u64::from(enabled));
        }
        if !self.needs.is_empty() {
            let needs: Vec<&str> = self.needs.iter().map(ServiceName::as_str).collect();
            fields.put("needs", &needs.join(" "));
        }
        if let Some(end) = &self.last_end {
            fields.put_number("end_gen", end.generation.get());
            fields.put_number("end_at_ns", end.at.as_nanos());
            fields.put_duration("end_ran_ns", end.ran);
            fields.put("end_reason", end.reason.word());
            if let Some(pid) = end.pid {
                fields.put_number("end_pid", u64::from(pid.get()));
            }
            if let Some(exit) = end.exit {
                fields.put("end_exit", &exit_word(exit));
            }
            if let Some(failure) = &end.failure {
                fields.put("end_failure", failure);
            }
        }
        fields.encode()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = Fields::decode(bytes)?;
        let ready = fields.instant("ready_ns");
        let phase = match fields.get("phase")? {
            "stopped" => RecordedPhase::Resting(Rest::Stopped),
            "done" => RecordedPhase::Resting(Rest::Done),
            "failed" => RecordedPhase::Resting(Rest::Failed),
            "begun" => RecordedPhase::Begun,
            "started" => RecordedPhase::Started,
            "ready" => RecordedPhase::Ready(ready?),
            "backoff" => RecordedPhase::Backoff(fields.instant("until_ns")?),
            "ending" => {
                let why = match fields.get("why")? {
                    "unwanted" => EndWhy::Unwanted,
                    "restart" => EndWhy::Restart,
                    "by-itself" => EndWhy::ByItself,
                    "ready-timeout" => {
                        EndWhy::ReadyTimeout { missing: fields.get("missing")?.to_owned() }
                    }
                    _ => return None,
                };
                RecordedPhase::Ending(why, ready)
            }
            _ => return None,
        };
        let last_end = fields.number("end_gen").and_then(|generation| {
            Some(LastEnd {
                generation: Generation::new(generation),
                pid: fields.pid("end_pid"),
                at: fields.instant("end_at_ns")?,
                exit: fields.get("end_exit").and_then(exit_from_word),
                reason: Reason::from_word(fields.get("end_reason")?)?,
                ran: fields.duration("end_ran_ns")?,
                failure: fields.get("end_failure").map(str::to_owned),
            })
        });
        Some(Self {
            want: match fields.get("want")? {
                "up" => Want::Up,
                "down" => Want::Down(Manner::Polite),
                "kill" => Want::Down(Manner::Kill),
                _ => return None,
            },
            want_cause: get_cause(&fields, "want_cause")?,
            phase,
            cause: get_cause(&fields, "cause")?,
            since: fields.instant("since_ns")?,
            generation: Generation::new(fields.number("gen")?),
            end_count: u32::try_from(fields.number("ends")?).ok()?,
            restarts: fields.number("restarts")?,
            ready_after: fields.duration("ready_after_ns"),
            last_end,
            launched: fields.number("launched"),
            kept: fields.number("kept"),
            enabled: fields.number("enabled").map(|enabled| enabled == 1),
            needs: fields
                .get("needs")
                .unwrap_or_default()
                .split(' ')
                .filter_map(|name| ServiceName::new_internal(name).ok())
                .collect(),
        })
    }
}

pub(super) fn encode_change(change: &Change) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("v", "1");
    fields.put("verb", change.verb.word());
    fields.put_number("opened_ns", change.opened.as_nanos());
    if let Some(closed) = change.closed {
        fields.put_number("closed_ns", closed.as_nanos());
    }
    if let Some(who) = change.who {
        fields.put_number("uid", u64::from(who.uid));
        fields.put_number("pid", u64::from(who.pid));
    }
    if let Some(token) = &change.token {
        fields.put("token", token);
    }
    for (index, goal) in change.goals.iter().enumerate() {
        let target = match goal.target {
            Target::Up => "up".to_owned(),
            Target::Down => "down".to_owned(),
            Target::UpAfter(generation) => format!("after {generation}"),
            Target::Reloaded => "reloaded".to_owned(),
            Target::Signalled => "signalled".to_owned(),
            Target::Gone => "gone".to_owned(),
        };
        let along = if goal.along { "along" } else { "named" };
        let outcome = match &goal.outcome {
            None => "open".to_owned(),
            Some(Outcome::Reached(after)) => format!("reached {}", nanoseconds(*after)),
            Some(Outcome::Missed(text)) => format!("missed {text}"),
        };
        let name = &goal.name;
        fields.put(&format!("goal{index}"), &format!("{name},{target},{along},{outcome}"));
    }
    fields.encode()
}

pub(super) fn decode_change(id: ChangeId, bytes: &[u8]) -> Option<Change> {
    let fields = Fields::decode(bytes)?;
    let verb = Verb::ALL.into_iter().find(|verb| Some(verb.word()) == fields.get("verb"))?;
    let who = fields.number("uid").zip(fields.number("pid")).and_then(|(uid, pid)| {
        Some(Who { uid: u32::try_from(uid).ok()?, pid: u32::try_from(pid).ok()? })
    });
    let mut goals = Vec::new();
    while let Some(text) = fields.get(&format!("goal{}", goals.len())) {
        goals.push(decode_goal(text)?);
    }
    Some(Change {
        id,
        verb,
        who,
        token: fields.get("token").map(str::to_owned),
        opened: fields.instant("opened_ns")?,
        closed: fields.instant("closed_ns"),
        goals,
    })
}

fn decode_goal(text: &str) -> Option<Goal> {
    let mut parts = text.splitn(4, ',');
    let name = ServiceName::new_internal(parts.next()?).ok()?;
    let target = match parts.next()? {
        "up" => Target::Up,
        "down" => Target::Down,
        "reloaded" => Target::Reloaded,
        "signalled" => Target::Signalled,
        "gone" => Target::Gone,
        after => Target::UpAfter(Generation::new(after.strip_prefix("after ")?.parse().ok()?)),
    };
    let along = parts.next()? == "along";
    let outcome = match parts.next()?.split_once(' ') {
        None => None,
        Some(("reached", after)) => {
            Some(Outcome::Reached(Duration::from_nanos(after.parse().ok()?)))
        }
        Some((_, text)) => Some(Outcome::Missed(text.to_owned())),
    };
    Some(Goal { name, target, along, outcome })
}

/// What is written down of a shutdown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShutdownRecord {
    pub(super) cause: ShutdownCause,
    pub(super) code: ExitCode,
    pub(super) deadline: Instant,
}

pub(super) fn encode_shutdown(record: &ShutdownRecord) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("v", "1");
    put_cause(&mut fields, "cause", &Cause::Shutdown(record.cause.clone()));
    fields.put_number("code", u64::from(record.code.get()));
    fields.put_number("deadline_ns", record.deadline.as_nanos());
    fields.encode()
}

pub(super) fn decode_shutdown(bytes: &[u8]) -> Option<ShutdownRecord> {
    let fields = Fields::decode(bytes)?;
    let Cause::Shutdown(cause) = get_cause(&fields, "cause")? else {
        return None;
    };
    let code = match u8::try_from(fields.number("code")?).ok()? {
        0 => ExitCode::Done,
        code => ExitCode::Service(code),
    };
    Some(ShutdownRecord { cause, code, deadline: fields.instant("deadline_ns")? })
}

fn put_cause(fields: &mut Fields, key: &str, cause: &Cause) {
    let sub = |part: &str| format!("{key}.{part}");
    let word = match cause {
        Cause::Boot => "boot",
        Cause::NotEnabled => "not-enabled",
        Cause::DependenciesMet => "dependencies-met",
        Cause::BecameReady => "became-ready",
        Cause::Gathered => "gathered",
        Cause::Executed => "executed",
        Cause::RestartPolicy => "restart-policy",
        Cause::NotEmpty => "not-empty",
        Cause::Foreign => "foreign",
        Cause::Operator { verb, change } => {
            fields.put(&sub("verb"), verb.word());
            fields.put_number(&sub("change"), change.0);
            "operator"
        }
        Cause::Applied { change, keys } => {
            fields.put_number(&sub("change"), change.0);
            fields.put(&sub("keys"), &keys.join(" "));
            "applied"
        }
        Cause::Dependency { on, until } => {
            fields.put(&sub("on"), on.as_str());
            fields.put(&sub("until"), until.word());
            "dependency"
        }
        Cause::DependencyLost { on, until } => {
            fields.put(&sub("on"), on.as_str());
            fields.put(&sub("until"), until.word());
            "dependency-lost"
        }
        Cause::Order { on } => {
            fields.put(&sub("on"), on.as_str());
            "order"
        }
        Cause::Quarantined(why) => {
            fields.put(&sub("text"), why);
            "quarantined"
        }
        Cause::Limit { count, window } => {
            fields.put_number(&sub("count"), u64::from(*count));
            fields.put_duration(&sub("window_ns"), *window);
            "limit"
        }
        Cause::Ended { generation, pid, exit, ran } => {
            fields.put_number(&sub("gen"), generation.get());
            if let Some(pid) = pid {
                fields.put_number(&sub("pid"), u64::from(pid.get()));
            }
            fields.put(&sub("exit"), &exit_word(*exit));
            fields.put_duration(&sub("ran_ns"), *ran);
            "ended"
        }
        Cause::CannotExecute(failure) => {
            fields.put(&sub("step"), failure.step.word());
            if let Some(errno) = failure.errno {
                fields.put(&sub("errno"), &errno.0.to_string());
            }
            fields.put(&sub("text"), &failure.text);
            "cannot-execute"
        }
        Cause::ReadyTimeout { after, missing } => {
            fields.put_duration(&sub("after_ns"), *after);
            fields.put(&sub("missing"), missing);
            "ready-timeout"
        }
        Cause::Shutdown(cause) => {
            let (word, value) = match cause {
                ShutdownCause::Operator(change) => ("operator", change.to_string()),
                ShutdownCause::Signal(signal) => ("signal", signal.get().to_string()),
                ShutdownCause::Service(name) => ("service", name.to_string()),
                ShutdownCause::Idle => ("idle", String::new()),
            };
            fields.put(&sub("by"), word);
            fields.put(&sub("of"), &value);
            "shutdown"
        }
    };
    fields.put(key, word);
}

fn get_cause(fields: &Fields, key: &str) -> Option<Cause> {
    let sub = |part: &str| format!("{key}.{part}");
    let text = |part: &str| fields.get(&sub(part));
    let number = |part: &str| fields.number(&sub(part));
    Some(match fields.get(key)? {
        "boot" => Cause::Boot,
        "not-enabled" => Cause::NotEnabled,
        "dependencies-met" => Cause::DependenciesMet,
        "became-ready" => Cause::BecameReady,
        "gathered" => Cause::Gathered,
        "executed" => Cause::Executed,
        "restart-policy" => Cause::RestartPolicy,
        "not-empty" => Cause::NotEmpty,
        "foreign" => Cause::Foreign,
        "operator" => Cause::Operator {
            verb: Verb::ALL.into_iter().find(|verb| Some(verb.word()) == text("verb"))?,
            change: ChangeId(number("change")?),
        },
        "applied" => Cause::Applied {
            change: ChangeId(number("change")?),
            keys: text("keys")?
                .split(' ')
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect(),
        },
        "dependency" => Cause::Dependency {
            on: ServiceName::new_internal(text("on")?).ok()?,
            until: Until::from_word(text("until")?)?,
        },
        "dependency-lost" => Cause::DependencyLost {
            on: ServiceName::new_internal(text("on")?).ok()?,
            until: Until::from_word(text("until")?)?,
        },
        "order" => Cause::Order { on: ServiceName::new_internal(text("on")?).ok()? },
        "quarantined" => Cause::Quarantined(text("text")?.to_owned()),
        "limit" => Cause::Limit {
            count: u32::try_from(number("count")?).ok()?,
            window: fields.duration(&sub("window_ns"))?,
        },
        "ended" => Cause::Ended {
            generation: Generation::new(number("gen")?),
            pid: fields.pid(&sub("pid")),
            exit: exit_from_word(text("exit")?)?,
            ran: fields.duration(&sub("ran_ns"))?,
        },
        "cannot-execute" => Cause::CannotExecute(PrepareFailure {
            step: SpawnStep::from_word(text("step")?)?,
            errno: text("errno").and_then(|errno| errno.parse().ok()).map(Errno),
            text: text("text")?.to_owned(),
        }),
        "ready-timeout" => Cause::ReadyTimeout {
            after: fields.duration(&sub("after_ns"))?,
            missing: text("missing")?.to_owned(),
        },
        "shutdown" => {
            let of = text("of")?;
            Cause::Shutdown(match text("by")? {
                "operator" => ShutdownCause::Operator(ChangeId(of.parse().ok()?)),
                "signal" => ShutdownCause::Signal(Signal::parse(of).ok()?),
                "service" => ShutdownCause::Service(ServiceName::new_internal(of).ok()?),
                "idle" => ShutdownCause::Idle,
                _ => return None,
            })
        }
        _ => return None,
    })
}

fn exit_word(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal { signal, core: false } => format!("signal {}", signal.get()),
        Exit::Signal { signal, core: true } => format!("core {}", signal.get()),
        Exit::Unknown => "unknown -".to_owned(),
    }
}

fn exit_from_word(word: &str) -> Option<Exit> {
    let (how, value) = word.split_once(' ')?;
    Some(match how {
        "exit" => Exit::Code(value.parse().ok()?),
        "signal" => Exit::Signal { signal: Signal::new(value.parse().ok()?)?, core: false },
        "core" => Exit::Signal { signal: Signal::new(value.parse().ok()?)?, core: true },
        "unknown" => Exit::Unknown,
        _ => return None,
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `key=value` fields with tabs between, values percent-encoded where they hold `%` or control
/// bytes.
#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn put(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    fn put_number(&mut self, key: &str, value: u64) {
        self.put(key, &value.to_string());
    }

    fn put_duration(&mut self, key: &str, value: Duration) {
        self.put_number(key, nanoseconds(value));
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    fn instant(&self, key: &str) -> Option<Instant> {
        self.number(key).map(Instant::from_nanos)
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_nanos)
    }

    fn pid(&self, key: &str) -> Option<Pid> {
        self.number(key).and_then(|number| Pid::new(u32::try_from(number).ok()?))
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            if !text.is_empty() {
                text.push('\t');
            }
            text.push_str(key);
            text.push('=');
            for character in value.chars() {
                if character == '%' || (character as u32) < 0x20 {
                    text.push_str(&format!("%{:02x}", character as u32));
                } else {
                    text.push(character);
                }
            }
        }
        text.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut fields = BTreeMap::new();
        for field in text.split('\t') {
            let (key, encoded) = field.split_once('=')?;
            let mut value = String::new();
            let mut parts = encoded.split('%');
            value.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let code = u8::from_str_radix(part.get(..2)?, 16).ok()?;
                value.push(char::from(code));
                value.push_str(part.get(2..)?);
            }
            fields.insert(key.to_owned(), value);
        }
        Some(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes() -> Vec<Cause> {
        let failure = PrepareFailure {
            step: SpawnStep::Exec,
            errno: Some(Errno::ENOENT),
            text: "executable \"a\tb%\" not found".to_owned(),
        };
        let exit = Exit::Signal { signal: Signal::KILL, core: true };
        let ran = Duration::from_millis(5);
        let on = ServiceName::new("db").unwrap();
        vec![
            Cause::Boot,
            Cause::NotEnabled,
            Cause::Operator { verb: Verb::Restart, change: ChangeId(7) },
            Cause::Applied { change: ChangeId(1), keys: vec!["command".into(), "env.A".into()] },
            Cause::Dependency { on: on.clone(), until: Until::Ready },
            Cause::DependenciesMet,
            Cause::BecameReady,
            Cause::Executed,
            Cause::Ended { generation: Generation::new(3), pid: Pid::new(9), exit, ran },
            Cause::CannotExecute(failure),
            Cause::ReadyTimeout { after: ran, missing: "x, y".into() },
            Cause::RestartPolicy,
            Cause::NotEmpty,
            Cause::Shutdown(ShutdownCause::Idle),
            Cause::Shutdown(ShutdownCause::Signal(Signal::INT)),
            Cause::Shutdown(ShutdownCause::Service(on)),
            Cause::Shutdown(ShutdownCause::Operator(ChangeId(4))),
            Cause::Foreign,
        ]
    }

    #[test]
    fn records_round_trip_with_every_cause_and_phase() {
        let phases = [
            RecordedPhase::Resting(Rest::Stopped),
            RecordedPhase::Resting(Rest::Done),
            RecordedPhase::Resting(Rest::Failed),
            RecordedPhase::Begun,
            RecordedPhase::Started,
            RecordedPhase::Ready(Instant::from_nanos(8)),
            RecordedPhase::Ending(EndWhy::Unwanted, None),
            RecordedPhase::Ending(EndWhy::Restart, Some(Instant::from_nanos(8))),
            RecordedPhase::Ending(EndWhy::ByItself, None),
            RecordedPhase::Ending(EndWhy::ReadyTimeout { missing: "m\tn".into() }, None),
            RecordedPhase::Backoff(Instant::from_nanos(u64::MAX)),
        ];
        for (index, cause) in causes().into_iter().enumerate() {
            let phase = phases[index % phases.len()].clone();
            let record = Record {
                want: [Want::Up, Want::Down(Manner::Polite), Want::Down(Manner::Kill)][index % 3],
                want_cause: cause.clone(),
                phase,
                cause,
                since: Instant::from_nanos(5),
                generation: Generation::new(4),
                end_count: 2,
                restarts: 11,
                ready_after: Some(Duration::from_nanos(17)),
                last_end: Some(LastEnd {
                    generation: Generation::new(3),
                    pid: None,
                    at: Instant::from_nanos(2),
                    exit: Some(Exit::Code(1)),
                    reason: Reason::Exit,
                    ran: Duration::from_nanos(1),
                    failure: Some("why, oh why".into()),
                }),
                launched: Some(u64::MAX),
                kept: None,
                enabled: Some(index % 2 == 0),
                needs: ["db", "cache"][..index % 3]
                    .iter()
                    .map(|n| ServiceName::new(n).unwrap())
                    .collect(),
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn changes_round_trip() {
        let name = ServiceName::new("web").unwrap();
        let goal = |target, outcome| Goal { name: name.clone(), target, along: true, outcome };
        let change = Change {
            id: ChangeId(3),
            verb: Verb::Restart,
            who: Some(Who { uid: 0, pid: 77 }),
            token: Some("abc".into()),
            opened: Instant::from_nanos(1),
            closed: None,
            goals: vec![
                goal(Target::UpAfter(Generation::new(2)), None),
                goal(Target::Gone, Some(Outcome::Reached(Duration::from_nanos(4)))),
                goal(Target::Down, Some(Outcome::Missed("it is stuck, badly".into()))),
                goal(Target::Up, None),
                goal(Target::Reloaded, None),
            ],
        };
        assert_eq!(decode_change(ChangeId(3), &encode_change(&change)), Some(change));
    }

    #[test]
    fn a_note_that_cannot_be_read_counts_as_absent() {
        for bad in
            [&b""[..], b"phase", b"phase=%zz", b"\xff", b"phase=ready", b"phase=ending\twhy=x"]
        {
            assert_eq!(Record::decode(bad), None);
        }
    }
}
