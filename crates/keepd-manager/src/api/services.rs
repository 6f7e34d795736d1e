//! `GET /v1/services`, `/v1/services/{name}`, `/v1/services/{name}/why`.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use keepd_engine::manager::{LastEnd, ServiceStatus};
use keepd_model::protocol::leaf_name;
use keepd_model::{Exit, Pid, ServiceName};
use keepd_os::cgroup::{Group, Usage};

use super::Api;
use super::leftovers::Leaves;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{LastExitObject, ServiceObject, ServicesObject, WhyLineObject, WhyObject};
use crate::config::blocking;
use crate::time::{WallClock, seconds};

/// Handles `GET /v1/services?select=…`; without a selector it is all of them.
pub(super) async fn list(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<ServicesObject>, Failure> {
    let selectors = Parameters::parse(query.as_deref(), &["select"])?.selectors()?;
    api.synchronised().await?;
    let view = move |machine: &keepd_engine::manager::Manager, _| {
        let safe_mode = machine.safe_mode().map(str::to_owned);
        if selectors.is_empty() {
            return Ok((machine.statuses(), safe_mode));
        }
        let names = machine.select(&selectors)?;
        let statuses = names.iter().filter_map(|name| machine.status(name)).collect();
        Ok((statuses, safe_mode))
    };
    let found: Result<(Vec<ServiceStatus>, Option<String>), String> = api.caller.look(view).await?;
    let (statuses, safe_mode) = found.map_err(|selector| Failure::no_match(&selector))?;
    let notes = notes(&api, safe_mode.as_deref(), &statuses);
    Ok(Json(ServicesObject { services: objects(&api, statuses).await, notes }))
}

/// Returns what is in force other than what the files say, what is weaker on this machine than
/// people may expect, and whose output waits.
fn notes(api: &Api, safe_mode: Option<&str>, statuses: &[ServiceStatus]) -> Vec<String> {
    let safe_mode = safe_mode.map(|why| format!("keepd starts nothing (safe mode): {why}"));
    let mut notes: Vec<String> = safe_mode.into_iter().collect();
    notes.extend(api.configuration.notes());
    if api.group.is_none() {
        notes.push(
            "no cgroup v2 can be written here: what a service leaves behind is found only by its \
             environment and its parents"
                .to_owned(),
        );
    }
    let blocked = |status: &ServiceStatus| Some((status.spec.name.clone(), status.output_blocked?));
    notes.extend(statuses.iter().filter_map(blocked).map(|(name, errno)| {
        format!(
            "the output of service \"{name}\" cannot be written: {errno}; it waits until it can \
             be, and nothing is lost"
        )
    }));
    notes
}

/// Handles `GET /v1/services/{name}`.
pub(super) async fn one(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ServiceObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let name = ServiceName::new(&text).map_err(|_| Failure::no_match(&text))?;
    api.synchronised().await?;
    let found = api.caller.look(move |machine, _| machine.status(&name)).await?;
    let status = found.ok_or_else(|| Failure::no_match(&text))?;
    let object = objects(&api, vec![status]).await.pop();
    object.map(Json).ok_or_else(|| Failure::no_match(&text))
}

/// Handles `GET /v1/services/{name}/why`.
pub(super) async fn why(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<WhyObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let name = ServiceName::new(&text).map_err(|_| Failure::no_match(&text))?;
    api.synchronised().await?;
    let found = api.caller.look(move |machine, now| machine.why(now, &name)).await?;
    let lines = found.ok_or_else(|| Failure::no_match(&text))?;
    let clock = WallClock::read();
    let lines = lines.into_iter().map(|line| WhyLineObject {
        depth: line.depth,
        time: line.at.map(|at| clock.text(at)),
        text: line.text,
    });
    Ok(Json(WhyObject { name: text, lines: lines.collect() }))
}

/// Returns the objects of these services. Their cgroups are read on another thread.
async fn objects(api: &Api, statuses: Vec<ServiceStatus>) -> Vec<ServiceObject> {
    let group = api.group.clone();
    blocking(move || {
        let clock = WallClock::read();
        let group = group.and_then(|path| Group::open(&path).ok());
        let leaves = group.as_ref().map(|group| Leaves::read(group, &statuses));
        let object = |status: &ServiceStatus| {
            let usage = group.as_ref().and_then(|group| usage(group, status));
            let left = group.as_ref().zip(leaves.as_ref());
            let leftovers = left.map(|(group, leaves)| leaves.left_by(group, status));
            ServiceObject { leftovers, ..service_object(status, &clock, usage) }
        };
        statuses.iter().map(object).collect()
    })
    .await
}

/// Reads what the processes of the present run use; `None` where there is none.
fn usage(group: &Group, status: &ServiceStatus) -> Option<Usage> {
    status.pid?;
    group.child_usage(&leaf_name(&status.spec.name, status.generation)).ok()
}

fn service_object(
    status: &ServiceStatus,
    clock: &WallClock,
    usage: Option<Usage>,
) -> ServiceObject {
    let spec = &status.spec;
    let uptime = match (status.pid, status.started) {
        (Some(_), Some(started)) => Some(seconds(clock.now().saturating_since(started))),
        (None, _) | (_, None) => None,
    };
    ServiceObject {
        name: spec.name.to_string(),
        base: spec.name.base().to_owned(),
        instance: spec.name.instance().map(str::to_owned),
        kind: spec.kind.to_string(),
        wanted: status.wanted.to_string(),
        state: status.state.to_string(),
        reason: status.reason().to_string(),
        health: status.health.to_string(),
        pid: status.pid.map(Pid::get),
        generation: status.generation.get(),
        invocation_id: status.invocation.map(|id| format!("{id:032x}")),
        since: clock.text(status.since),
        uptime_s: uptime,
        ready_after_s: status.ready_after.map(seconds),
        restarts: status.restarts,
        restarts_in_window: status.restarts_in_window(clock.now()),
        next_start: status.next_start.map(|at| clock.text(at)),
        last_exit: status.last_end.as_ref().map(|end| last_exit_object(end, clock)),
        cpu_s: usage.and_then(|usage| usage.cpu).map(seconds),
        memory_bytes: usage.map(|usage| usage.memory_bytes),
        tasks: usage.map(|usage| usage.tasks),
        // There are no limits yet that could not be enforced, and full disks block instead of
        // dropping.
        limits_enforced: true,
        log_dropped_bytes: 0,
        depends_on: spec.depends_on.keys().map(ToString::to_string).collect(),
        tags: spec.tags.clone(),
        enabled: spec.enabled,
        config_changed: status.config_changed,
        quarantine: spec.quarantine.clone(),
        description: spec.description.clone(),
        user: spec.user.clone(),
        waits_for: status.waits_for.clone(),
        status_text: status.status_text.clone(),
        hopeless: status.hopeless.clone(),
        leftovers: None,
        output_blocked: status.output_blocked.map(|errno| errno.to_string()),
    }
}

pub(super) fn last_exit_object(end: &LastEnd, clock: &WallClock) -> LastExitObject {
    let (code, signal, core) = match end.exit {
        Some(Exit::Code(code)) => (Some(code), None, false),
        Some(Exit::Signal { signal, core }) => (None, Some(signal.to_string()), core),
        Some(Exit::Unknown) | None => (None, None, false),
    };
    LastExitObject {
        generation: end.generation.get(),
        time: clock.text(end.at),
        code,
        signal,
        core,
        reason: end.reason.to_string(),
        ran_s: seconds(end.ran),
        failure: end.failure.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::samples::{at, status};
    use keepd_model::State as ServiceState;

    /// One hundred seconds after boot it was 2026-11-21T07:02:55.123Z.
    fn clock() -> WallClock {
        WallClock::new(at(100), 1_795_244_575_123_000_000)
    }

    #[test]
    fn a_service_is_this_object() {
        let object = service_object(&status(), &clock(), None);
        let expected = concat!(
            r#"{"name":"web","base":"web","instance":null,"kind":"daemon","wanted":"up","#,
            r#""state":"backoff","reason":"signal","health":"-","pid":null,"generation":5,"#,
            r#""invocation_id":"00000000000000000000000000004f0c","#,
            r#""since":"2026-11-21T07:02:55.123Z","uptime_s":null,"ready_after_s":null,"#,
            r#""restarts":4,"restarts_in_window":null,"#,
            r#""next_start":"2026-11-21T07:03:02.123Z","last_exit":{"generation":5,"#,
            r#""time":"2026-11-21T07:02:55.123Z","code":null,"signal":"KILL","core":false,"#,
            r#""reason":"signal","ran_s":12.4,"failure":null},"cpu_s":null,"#,
            r#""memory_bytes":null,"tasks":null,"limits_enforced":true,"log_dropped_bytes":0,"#,
            r#""depends_on":["db","migrate"],"tags":[],"enabled":true,"config_changed":false,"#,
            r#""quarantine":null,"description":"","user":null,"waits_for":[],"status_text":null,"#,
            r#""output_blocked":null,"hopeless":null,"leftovers":null}"#,
        );
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
        let read: ServiceObject = serde_json::from_str(expected).unwrap();
        assert_eq!(read, object);
    }

    #[test]
    fn a_process_has_an_age_and_uses_something() {
        let mut status = status();
        status.state = ServiceState::Ready;
        status.pid = Pid::new(7);
        status.started = Some(at(40));
        let usage =
            Usage { cpu: Some(Duration::from_millis(33_100)), memory_bytes: 4096, tasks: 2 };
        let object = service_object(&status, &clock(), Some(usage));
        assert_eq!((object.pid, object.uptime_s), (Some(7), Some(60.0)));
        assert_eq!(
            (object.cpu_s, object.memory_bytes, object.tasks),
            (Some(33.1), Some(4096), Some(2))
        );
    }
}
