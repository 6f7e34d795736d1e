//! Changes and the shutdown in notes.
//!
//! The goals of a large change are spread over several notes, so that what moves one of them does
//! not write all of them again: note `change.N` holds the change and its first goals, notes
//! `change.N.1`, `change.N.2` and so on hold the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use keepd_model::{ChangeId, ExitCode, Generation, Instant, ServiceName};

use super::cause::{get_cause, put_cause};
use super::fields::{Fields, nanoseconds};
use crate::manager::cause::{Cause, ShutdownCause};
use crate::manager::interface::{Change, Goal, Outcome, Target, Verb, Who};

/// The beginning of the key of a change's note.
const CHANGE_KEY: &str = "change.";

/// The fewest goals in one note.
const PART_GOALS_MIN: usize = 16;

/// The most notes of one change.
const PARTS_MAX: usize = 64;

/// Returns how many goals each note of a change holds.
fn part_goals(change: &Change) -> usize {
    change.goals.len().div_ceil(PARTS_MAX).max(PART_GOALS_MIN)
}

/// Returns how many notes a change needs.
pub(in crate::manager) fn change_parts(change: &Change) -> usize {
    change.goals.len().div_ceil(part_goals(change)).max(1)
}

/// Returns the note that a goal of a change is in.
pub(in crate::manager) fn part_of_goal(change: &Change, index: usize) -> usize {
    index / part_goals(change)
}

/// Returns the key of one note of a change.
pub(in crate::manager) fn change_key(id: ChangeId, part: usize) -> String {
    match part {
        0 => format!("{CHANGE_KEY}{id}"),
        part => format!("{CHANGE_KEY}{id}.{part}"),
    }
}

/// Writes one note of a change.
pub(in crate::manager) fn encode_change(change: &Change, part: usize) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("v", "1");
    if part == 0 {
        put_head(&mut fields, change);
    }
    let size = part_goals(change);
    for (index, goal) in change.goals.iter().enumerate().skip(part * size).take(size) {
        fields.put(&format!("goal{index}"), &goal_text(goal));
    }
    fields.encode()
}

fn put_head(fields: &mut Fields, change: &Change) {
    fields.put("verb", change.verb.word());
    fields.put_number("goals", u64::try_from(change.goals.len()).unwrap_or(u64::MAX));
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
}

fn goal_text(goal: &Goal) -> String {
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
    format!("{},{target},{along},{outcome}", goal.name)
}

/// Reads the changes among the notes on the manager. A change of which a note is missing counts as
/// absent.
pub(in crate::manager) fn decode_changes(notes: &BTreeMap<String, Vec<u8>>) -> Vec<Change> {
    let number = |key: &String| Some(ChangeId(key.strip_prefix(CHANGE_KEY)?.parse().ok()?));
    notes.keys().filter_map(number).filter_map(|id| decode_change(id, notes)).collect()
}

fn decode_change(id: ChangeId, notes: &BTreeMap<String, Vec<u8>>) -> Option<Change> {
    let head = Fields::decode(notes.get(&change_key(id, 0))?)?;
    let verb = Verb::ALL.into_iter().find(|verb| Some(verb.word()) == head.get("verb"))?;
    let who = head.number("uid").zip(head.number("pid")).and_then(|(uid, pid)| {
        Some(Who { uid: u32::try_from(uid).ok()?, pid: u32::try_from(pid).ok()? })
    });
    let mut goals = Vec::new();
    for part in 0.. {
        let rest;
        let fields = match (part, notes.get(&change_key(id, part))) {
            (0, _) => &head,
            (_, Some(note)) => {
                rest = Fields::decode(note)?;
                &rest
            }
            (_, None) => break,
        };
        while let Some(text) = fields.get(&format!("goal{}", goals.len())) {
            goals.push(decode_goal(text)?);
        }
    }
    // Notes of earlier versions do not say how many there are.
    let count = u64::try_from(goals.len()).unwrap_or(u64::MAX);
    if head.number("goals").is_some_and(|expected| expected != count) {
        return None;
    }
    let (opened, closed) = (head.instant("opened_ns")?, head.instant("closed_ns"));
    let token = head.get("token").map(str::to_owned);
    Some(Change { id, verb, who, token, opened, closed, goals })
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
pub(in crate::manager) struct ShutdownRecord {
    pub(in crate::manager) cause: ShutdownCause,
    pub(in crate::manager) code: ExitCode,
    pub(in crate::manager) stage: RecordedStage,
    /// The end of that stage.
    pub(in crate::manager) deadline: Instant,
}

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::manager) enum RecordedStage {
    /// In order, each with its own stop time.
    Polite,
    /// KILL was sent to all.
    Killing,
}

pub(in crate::manager) fn encode_shutdown(record: &ShutdownRecord) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("v", "1");
    put_cause(&mut fields, "cause", &Cause::Shutdown(record.cause.clone()));
    fields.put_number("code", u64::from(record.code.get()));
    let stage = match record.stage {
        RecordedStage::Polite => "polite",
        RecordedStage::Killing => "killing",
    };
    fields.put("stage", stage);
    fields.put_number("deadline_ns", record.deadline.as_nanos());
    fields.encode()
}

pub(in crate::manager) fn decode_shutdown(bytes: &[u8]) -> Option<ShutdownRecord> {
    let fields = Fields::decode(bytes)?;
    let Cause::Shutdown(cause) = get_cause(&fields, "cause")? else {
        return None;
    };
    let code = match u8::try_from(fields.number("code")?).ok()? {
        0 => ExitCode::Done,
        code => ExitCode::Service(code),
    };
    let stage = match fields.get("stage") {
        // Notes of earlier versions do not say it.
        None | Some("polite") => RecordedStage::Polite,
        Some("killing") => RecordedStage::Killing,
        Some(_) => return None,
    };
    Some(ShutdownRecord { cause, code, stage, deadline: fields.instant("deadline_ns")? })
}
