//! `GET /v1/services/{name}/history`: the runs of a service.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use keepd_engine::manager::{Manager, PastRun, ServiceStatus, cause_clause};
use keepd_model::{Pid, ServiceName};

use super::Api;
use super::problem::Failure;
use super::query::Parameters;
use super::services::last_exit_object;
use super::types::{HistoryObject, RunObject};
use crate::time::{WallClock, seconds, timestamp};

/// Handles `GET /v1/services/{name}/history?limit=N`: the newest first, the present run too.
pub(super) async fn history(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<HistoryObject>, Failure> {
    let parameters = Parameters::parse(query.as_deref(), &["limit"])?;
    let limit: Option<usize> = match parameters.last("limit") {
        Some(text) => {
            let refused = |_| Failure::usage(format!("cannot use limit \"{text}\""));
            Some(text.parse().map_err(refused)?)
        }
        None => None,
    };
    let name = ServiceName::new(&text).map_err(|_| Failure::no_match(&text))?;
    api.synchronised().await?;
    let found = api.caller.look(move |machine, _| runs(machine, &name)).await?;
    let (status, past) = found.ok_or_else(|| Failure::no_match(&text))?;
    let clock = WallClock::read();
    let present = present_run(&status, &clock);
    let past = past.iter().rev().map(|run| past_run(run, &clock));
    let runs = present.into_iter().chain(past).take(limit.unwrap_or(usize::MAX)).collect();
    Ok(Json(HistoryObject { name: text, runs }))
}

fn runs(machine: &Manager, name: &ServiceName) -> Option<(ServiceStatus, Vec<PastRun>)> {
    let past = machine.history(name)?.cloned().collect();
    Some((machine.status(name)?, past))
}

/// Returns the run that goes on, if there is one.
fn present_run(status: &ServiceStatus, clock: &WallClock) -> Option<RunObject> {
    status.pid?;
    Some(RunObject {
        generation: status.generation.get(),
        pid: status.pid.map(Pid::get),
        cause: cause_clause(&status.start_cause),
        started: status.started.map(|at| clock.text(at)),
        ready_after_s: status.ready_after.map(seconds),
        end: None,
    })
}

fn past_run(run: &PastRun, clock: &WallClock) -> RunObject {
    let PastRun { cause, ready_after, end } = run;
    // Without an end of a process there never was a program.
    let ran_ns = u64::try_from(end.ran.as_nanos()).unwrap_or(u64::MAX);
    let began = || timestamp(clock.wall_ns(end.at).saturating_sub(ran_ns));
    let started = end.exit.map(|_| began());
    RunObject {
        generation: end.generation.get(),
        pid: end.pid.map(Pid::get),
        cause: cause_clause(cause),
        started,
        ready_after_s: ready_after.map(seconds),
        end: Some(last_exit_object(end, clock)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples::{at, status};
    use keepd_engine::manager::Cause;
    use keepd_model::State as ServiceState;

    #[test]
    fn a_run_that_is_over_has_both_ends() {
        let end = status().last_end.unwrap();
        let run = PastRun { cause: Cause::RestartPolicy, ready_after: None, end };
        let object = past_run(&run, &WallClock::new(at(100), 100_000_000_000));
        assert_eq!((object.generation, object.pid), (5, Some(4920)));
        assert_eq!(object.cause, "its restart policy starts it again");
        assert_eq!(object.started.as_deref(), Some("1970-01-01T00:01:27.600Z"));
        assert_eq!(object.end.unwrap().signal.as_deref(), Some("KILL"));
    }

    #[test]
    fn a_start_that_failed_never_began() {
        let mut end = status().last_end.unwrap();
        end.exit = None;
        end.failure = Some("executable \"webd\" not found".into());
        let run = PastRun { cause: Cause::Boot, ready_after: None, end };
        let object = past_run(&run, &WallClock::new(at(100), 0));
        assert_eq!(object.started, None);
        assert!(object.end.unwrap().failure.is_some());
    }

    #[test]
    fn only_what_has_a_process_goes_on() {
        let clock = WallClock::new(at(100), 100_000_000_000);
        let mut status = status();
        assert_eq!(present_run(&status, &clock), None);
        status.state = ServiceState::Ready;
        status.pid = Pid::new(7);
        status.started = Some(at(40));
        let object = present_run(&status, &clock).unwrap();
        assert_eq!((object.pid, &object.end), (Some(7), &None));
        assert_eq!(object.cause, "its restart policy starts it again");
        assert_eq!(object.started.as_deref(), Some("1970-01-01T00:00:40.000Z"));
    }
}
