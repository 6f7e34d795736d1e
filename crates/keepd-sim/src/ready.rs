//! What makes a run a ready one, and a start one without room.

use keepd_engine::manager::Cause;
use keepd_model::{Instant, ServiceSpec};

use crate::kernel::Truth;

/// Reports whether a run had what is asked of a ready one: by the specification that it was started
/// from, or by the one of today, key by key.
pub(crate) fn was_ready(truth: &Truth, today: &ServiceSpec, now: Instant) -> bool {
    let any = |holds: &dyn Fn(&ServiceSpec) -> bool| {
        holds(today) || truth.spec.as_deref().is_some_and(holds)
    };
    let is_settled = |spec: &ServiceSpec| {
        truth.executed.is_some_and(|executed| now.saturating_since(executed) >= spec.ready.delay)
    };
    let held = |spec: &ServiceSpec| {
        (0..spec.ready.probes.len())
            .filter(|index| !is_exec(spec, *index))
            .all(|index| truth.held.contains(&index))
    };
    let answers = |spec: &ServiceSpec| {
        spec.ready.probes.is_empty() || truth.ready_at.is_some_and(|ready_at| ready_at <= now)
    };
    let said =
        |spec: &ServiceSpec| truth.said_ready || !(spec.ready.notify || spec.ready.fd.is_some());
    any(&is_settled) && any(&held) && any(&answers) && any(&said)
}

/// Reports whether a start found no room, so that no policy was asked.
pub(crate) fn is_shortage(cause: &Cause) -> bool {
    matches!(cause, Cause::CannotExecute(failure) if failure.is_shortage())
}

/// Reports whether a question is asked by the proxy, which the world does not number.
fn is_exec(spec: &ServiceSpec, index: usize) -> bool {
    matches!(spec.ready.probes.get(index), Some(keepd_model::Probe::Exec(_)))
}
