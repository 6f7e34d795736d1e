//! Ends of runs in notes.

use keepd_model::{Generation, Reason};

use super::cause::{get_cause, put_cause};
use super::fields::{Fields, exit_from_word, exit_word};
use crate::manager::interface::{LastEnd, PastRun};

/// Puts the end of a run.
pub(super) fn put_end(fields: &mut Fields, end: &LastEnd) {
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

/// Reads the end of a run.
pub(super) fn get_end(fields: &Fields) -> Option<LastEnd> {
    Some(LastEnd {
        generation: Generation::new(fields.number("end_gen")?),
        pid: fields.pid("end_pid"),
        at: fields.instant("end_at_ns")?,
        exit: fields.get("end_exit").and_then(exit_from_word),
        reason: Reason::from_word(fields.get("end_reason")?)?,
        ran: fields.duration("end_ran_ns")?,
        failure: fields.get("end_failure").map(str::to_owned),
    })
}

/// Writes the note of a run that is over.
pub(in crate::manager) fn encode_past_run(run: &PastRun) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("v", "1");
    put_cause(&mut fields, "cause", &run.cause);
    if let Some(after) = run.ready_after {
        fields.put_duration("ready_after_ns", after);
    }
    put_end(&mut fields, &run.end);
    fields.encode()
}

/// Reads the note of a run that is over.
pub(in crate::manager) fn decode_past_run(bytes: &[u8]) -> Option<PastRun> {
    let fields = Fields::decode(bytes)?;
    Some(PastRun {
        cause: get_cause(&fields, "cause")?,
        ready_after: fields.duration("ready_after_ns"),
        end: get_end(&fields)?,
    })
}
