//! What a successor cannot observe again, as notes in the proxy.
//!
//! One note `record` a service, one note `run.N` for each of its runs that is over, and notes
//! `change.N` for each change (kept on `keepd.manager`). A note is a list of `key=value` fields
//! with one tab between; values are percent-encoded. Unknown keys are skipped, so an older manager
//! reads what a newer one wrote. A note that cannot be read counts as absent.
//!
//! Version history: 1 (keys below).

mod cause;
mod change;
mod fields;
mod run;
#[cfg(test)]
mod tests;

use std::time::Duration;

use keepd_model::{Generation, Instant, ServiceName};

use self::cause::{get_cause, put_cause};
use self::fields::Fields;
use self::run::{get_end, put_end};
use super::cause::Cause;
use super::interface::LastEnd;
use super::service::{EndWhy, Manner, Phase, Rest, Service, Want};

pub(super) use self::change::{
    RecordedStage, ShutdownRecord, change_key, change_parts, decode_changes, decode_shutdown,
    encode_change, encode_shutdown, part_of_goal,
};
pub(super) use self::run::{decode_past_run, encode_past_run};

/// The key of the note on each service.
pub(super) const RECORD_KEY: &str = "record";
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
    /// Automatic restarts in the window of `restart_limit`.
    pub(super) restart_times: Vec<Instant>,
    pub(super) restarts: u64,
    pub(super) ready_after: Option<Duration>,
    /// When the program of the run was executed; unknown in notes of earlier versions.
    pub(super) started: Option<Instant>,
    pub(super) last_end: Option<LastEnd>,
    pub(super) launched: Option<u64>,
    pub(super) kept: Option<u64>,
    /// What the file said then; unknown in notes of earlier versions.
    pub(super) enabled: Option<bool>,
    /// What it depended on: should it be gone from the file, it still ends before them.
    pub(super) needs: Vec<ServiceName>,
    /// What of it, with a reaction, held since the start.
    pub(super) held: Vec<ServiceName>,
    /// Changed keys take effect at its next start by the manager.
    pub(super) needs_new_start: bool,
    /// Why the present or last run was started; unknown in notes of earlier versions.
    pub(super) start_cause: Option<Cause>,
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
    /// It is a group, and every member is there.
    Gathered,
    /// It is on its way down for this reason, and was ready since then.
    Ending(EndWhy, Option<Instant>),
    /// It is started again at that time.
    Backoff(Instant),
}

impl RecordedPhase {
    /// Reports whether it is one of a run, whose end was not counted.
    pub(super) fn is_of_run(&self) -> bool {
        match self {
            Self::Started | Self::Ready(_) | Self::Ending(..) => true,
            Self::Resting(_) | Self::Begun | Self::Gathered | Self::Backoff(_) => false,
        }
    }

    /// Returns why a run in this phase is on its way down, and since when it was ready.
    pub(super) fn as_ending(&self) -> (EndWhy, Option<Instant>) {
        match self {
            Self::Ending(why, ready) => (why.clone(), *ready),
            Self::Ready(ready) => (EndWhy::ByItself, Some(*ready)),
            Self::Started | Self::Begun | Self::Gathered | Self::Resting(_) | Self::Backoff(_) => {
                (EndWhy::ByItself, None)
            }
        }
    }
}

impl Record {
    pub(super) fn of(service: &Service) -> Self {
        let phase = match &service.phase {
            Phase::Resting(rest) => RecordedPhase::Resting(*rest),
            // A restart by policy does not look at dependencies, nor does a successor.
            Phase::Preparing { .. }
                if matches!(service.cause, Cause::RestartPolicy | Cause::Cancelled) =>
            {
                RecordedPhase::Backoff(service.since)
            }
            Phase::Waiting | Phase::Preparing { .. } => RecordedPhase::Begun,
            Phase::Commanded { .. } | Phase::Starting(_) => RecordedPhase::Started,
            Phase::Running(running) => RecordedPhase::Ready(running.ready),
            Phase::Gathered => RecordedPhase::Gathered,
            Phase::Ending(ending) | Phase::Stuck(ending) => {
                RecordedPhase::Ending(ending.why.clone(), ending.ready)
            }
            Phase::Backoff { until } => RecordedPhase::Backoff(*until),
            // Should the proxy not do it, the successor does.
            Phase::Leased { until, .. } => RecordedPhase::Backoff(until.unwrap_or(service.since)),
        };
        Self {
            want: service.want,
            want_cause: service.want_cause.clone(),
            phase,
            cause: service.cause.clone(),
            since: service.since,
            generation: service.generation,
            end_count: service.end_count,
            restart_times: service.restart_times.iter().copied().collect(),
            restarts: service.restarts,
            ready_after: service.ready_after,
            started: service.started(),
            last_end: service.last_end.as_deref().cloned(),
            launched: service.launched,
            kept: service.kept,
            enabled: Some(service.spec.enabled),
            needs: service.spec.depends_on.keys().cloned().collect(),
            held: service.held.iter().cloned().collect(),
            needs_new_start: service.needs_new_start,
            start_cause: Some(service.start_cause.clone()),
        }
    }

    /// Returns the last generation whose end was counted.
    pub(super) fn counted(&self) -> Generation {
        match self.phase.is_of_run() {
            true => Generation::new(self.generation.get().saturating_sub(1)),
            false => self.generation,
        }
    }

    /// Returns when the program of the run was executed.
    pub(super) fn started(&self) -> Option<Instant> {
        self.started.or_else(|| self.started_before_ready())
    }

    /// Returns it as it is known from notes of earlier versions: of runs that became ready.
    fn started_before_ready(&self) -> Option<Instant> {
        let ready = match &self.phase {
            RecordedPhase::Ready(ready) => Some(*ready),
            RecordedPhase::Ending(_, ready) => *ready,
            RecordedPhase::Resting(_)
            | RecordedPhase::Begun
            | RecordedPhase::Started
            | RecordedPhase::Gathered
            | RecordedPhase::Backoff(_) => None,
        }?;
        let after_ns = u64::try_from(self.ready_after?.as_nanos()).ok()?;
        Some(Instant::from_nanos(ready.as_nanos().checked_sub(after_ns)?))
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
            RecordedPhase::Gathered => fields.put("phase", "gathered"),
            RecordedPhase::Ready(at) => {
                fields.put("phase", "ready");
                fields.put_number("ready_ns", at.as_nanos());
            }
            RecordedPhase::Ending(why, ready) => {
                fields.put("phase", "ending");
                match why {
                    EndWhy::Unwanted => fields.put("why", "unwanted"),
                    EndWhy::Restart => fields.put("why", "restart"),
                    EndWhy::Dependency => fields.put("why", "dependency"),
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
        if let Some(started) = self.started {
            fields.put_number("started_ns", started.as_nanos());
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
        if self.needs_new_start {
            fields.put_number("new_start", 1);
        }
        put_names(&mut fields, "needs", &self.needs);
        put_names(&mut fields, "held", &self.held);
        if !self.restart_times.is_empty() {
            let times: Vec<String> =
                self.restart_times.iter().map(|at| at.as_nanos().to_string()).collect();
            fields.put("restarts_ns", &times.join(" "));
        }
        if let Some(cause) = &self.start_cause {
            put_cause(&mut fields, "start_cause", cause);
        }
        if let Some(end) = &self.last_end {
            put_end(&mut fields, end);
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
            "gathered" => RecordedPhase::Gathered,
            "ready" => RecordedPhase::Ready(ready?),
            "backoff" => RecordedPhase::Backoff(fields.instant("until_ns")?),
            "ending" => {
                let why = match fields.get("why")? {
                    "unwanted" => EndWhy::Unwanted,
                    "restart" => EndWhy::Restart,
                    "dependency" => EndWhy::Dependency,
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
            started: fields.instant("started_ns"),
            last_end: get_end(&fields),
            launched: fields.number("launched"),
            kept: fields.number("kept"),
            enabled: fields.number("enabled").map(|enabled| enabled == 1),
            restart_times: words(&fields, "restarts_ns")
                .filter_map(|word| word.parse().ok())
                .map(Instant::from_nanos)
                .collect(),
            needs: names(&fields, "needs"),
            held: names(&fields, "held"),
            needs_new_start: fields.number("new_start") == Some(1),
            start_cause: get_cause(&fields, "start_cause"),
        })
    }
}

fn put_names(fields: &mut Fields, key: &str, names: &[ServiceName]) {
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().map(ServiceName::as_str).collect();
        fields.put(key, &names.join(" "));
    }
}

fn names(fields: &Fields, key: &str) -> Vec<ServiceName> {
    words(fields, key).filter_map(|name| ServiceName::new_internal(name).ok()).collect()
}

fn words<'f>(fields: &'f Fields, key: &str) -> impl Iterator<Item = &'f str> {
    fields.get(key).unwrap_or_default().split(' ').filter(|word| !word.is_empty())
}
