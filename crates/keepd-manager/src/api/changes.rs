//! `GET /v1/changes`, `/v1/changes/{id}`, `/v1/changes/{id}/wait`.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use keepd_engine::manager::{Change, Goal, Outcome, Target, Verb};
use keepd_model::ChangeId;
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{ChangeObject, ChangesObject, GoalObject, ProblemCode};
use crate::time::{WallClock, seconds};

/// Handles `GET /v1/changes`.
pub(super) async fn list(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<ChangesObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    api.synchronised().await?;
    let view = |machine: &keepd_engine::manager::Manager, _| machine.changes().cloned().collect();
    let changes: Vec<Change> = api.caller.look(view).await?;
    let clock = WallClock::read();
    let changes = changes.iter().map(|change| change_object(change, &clock)).collect();
    Ok(Json(ChangesObject { changes }))
}

/// Handles `GET /v1/changes/{id}`.
pub(super) async fn one(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ChangeObject>, Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    api.synchronised().await?;
    let change = find(&api, &text).await?;
    Ok(Json(change_object(&change, &WallClock::read())))
}

/// Handles `GET /v1/changes/{id}/wait?timeout=30s`: answers when the change is closed or the time
/// is over.
pub(super) async fn wait(
    State(api): State<Api>,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ChangeObject>, Failure> {
    let parameters = Parameters::parse(query.as_deref(), &["timeout"])?;
    let deadline = Instant::now() + parameters.wait_limit()?;
    api.synchronised().await?;
    let id = id_of(&text)?;
    // Only a look, as below: a copy of ten thousand goals takes its time.
    let is_known = api.caller.look(move |machine, _| machine.change(id).is_some()).await?;
    if !is_known {
        return Err(missing(&text));
    }
    let mut pulse = api.caller.pulse();
    loop {
        // What happens after this line is a change of the pulse, so nothing is missed.
        pulse.mark_unchanged();
        let is_closed = api.caller.look(move |machine, _| {
            // Only a look: a change of a thousand goals has news a thousand times.
            machine.change(id).is_none_or(Change::is_closed)
        });
        let over = is_closed.await?
            || match timeout_at(deadline, pulse.changed()).await {
                Ok(Ok(())) => false,
                Ok(Err(_)) | Err(_) => true,
            };
        if over {
            let change = find(&api, &text).await?;
            if change.verb == Verb::Shutdown && change.is_closed() {
                api.caller.note_farewell();
            }
            return Ok(Json(change_object(&change, &WallClock::read())));
        }
    }
}

async fn find(api: &Api, text: &str) -> Result<Change, Failure> {
    let id = id_of(text)?;
    let found = api.caller.look(move |machine, _| machine.change(id).cloned()).await?;
    found.ok_or_else(|| missing(text))
}

fn id_of(text: &str) -> Result<ChangeId, Failure> {
    text.parse().map(ChangeId).map_err(|_| missing(text))
}

fn missing(text: &str) -> Failure {
    let detail = format!("cannot find change \"{text}\": it never was, or is forgotten");
    Failure::new(ProblemCode::NoSuchChange, detail)
}

fn change_object(change: &Change, clock: &WallClock) -> ChangeObject {
    let mut goals: Vec<GoalObject> = change.goals.iter().map(goal_object).collect();
    goals.sort_by(|one, other| one.name.cmp(&other.name));
    ChangeObject {
        id: change.id.to_string(),
        verb: change.verb.word().to_owned(),
        uid: change.who.map(|who| who.uid),
        pid: change.who.map(|who| who.pid),
        opened: clock.text(change.opened),
        closed: change.is_closed(),
        success: change.is_success(),
        goals,
    }
}

fn goal_object(goal: &Goal) -> GoalObject {
    let target = match goal.target {
        Target::Up => "up",
        Target::Down => "down",
        Target::UpAfter(_) => "restarted",
        Target::Reloaded => "reloaded",
        Target::Signalled => "signalled",
        Target::Gone => "gone",
    };
    let (reached, after_s, message) = match &goal.outcome {
        None => (None, None, None),
        Some(Outcome::Reached(after)) => (Some(true), Some(seconds(*after)), None),
        Some(Outcome::Missed(why)) => (Some(false), None, Some(why.clone())),
    };
    GoalObject {
        name: goal.name.to_string(),
        target: target.to_owned(),
        along: goal.along,
        reached,
        after_s,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::api::samples::at;
    use keepd_engine::manager::Who;
    use keepd_model::{Generation, ServiceName};

    #[test]
    fn a_change_is_this_object() {
        let goal = |name: &str, target, outcome| Goal {
            name: ServiceName::new(name).unwrap(),
            target,
            along: name == "db",
            outcome,
        };
        let change = Change {
            id: ChangeId(17),
            verb: Verb::Restart,
            who: Some(Who { uid: 0, pid: 9 }),
            token: None,
            opened: at(5),
            closed: None,
            goals: vec![
                goal("web", Target::UpAfter(Generation::new(1)), None),
                goal("db", Target::Up, Some(Outcome::Reached(Duration::from_millis(1_500)))),
                goal("old", Target::Gone, Some(Outcome::Missed("it is stuck".into()))),
            ],
        };
        let object = change_object(&change, &WallClock::new(at(5), 0));
        let expected = concat!(
            r#"{"id":"17","verb":"restart","uid":0,"pid":9,"#,
            r#""opened":"1970-01-01T00:00:00.000Z","closed":false,"success":false,"#,
            r#""goals":[{"name":"db","target":"up","along":true,"reached":true,"after_s":1.5,"#,
            r#""message":null},{"name":"old","target":"gone","along":false,"reached":false,"#,
            r#""after_s":null,"message":"it is stuck"},{"name":"web","target":"restarted","#,
            r#""along":false,"reached":null,"after_s":null,"message":null}]}"#,
        );
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
    }
}
