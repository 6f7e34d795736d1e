//! Verbs that change something: send, wait, and say what became of each service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepd_manager::api::types::{
    ActionAccepted, ActionOptions, ActionRequest, ActionWord, ChangeObject, GoalObject,
    ServiceObject, ServicesObject,
};
use keepd_model::{ExitCode, Kind};
use tokio::time::Instant;

use crate::arguments::Globals;
use crate::client::{Client, block_on, token};
use crate::error::{CliError, ErrorKind};
use crate::output::{Screen, print_json, span};
use crate::place;

/// How long one question waits. The answer comes at once when everything is settled; until then
/// this is how late a line about the first of several services may be.
const LOOK: Duration = Duration::from_secs(1);

/// The goal of a signal. That it was sent is what was asked for, and no news.
const SIGNALLED: &str = "signalled";

/// Asks for an action on the selected services and waits for its end.
///
/// # Errors
/// The manager is not there or refuses, `--timeout` is over, or a signal came.
pub(crate) fn perform(
    globals: &Globals,
    action: ActionWord,
    select: &[String],
    options: ActionOptions,
) -> Result<ExitCode, CliError> {
    let client = Client::new(&place::find(globals)?);
    let request = ActionRequest { action, select: select.to_vec(), options, token: Some(token()?) };
    block_on(async {
        let asked_at = Instant::now();
        let accepted: ActionAccepted = client.post("/v1/actions", &request).await?;
        finish(&client, globals, &accepted.change, asked_at).await
    })
}

/// Waits for the end of a change that was accepted, unless the options say not to.
///
/// # Errors
/// The manager is not there any more, `--timeout` is over, or a signal came.
pub(crate) async fn finish(
    client: &Client,
    globals: &Globals,
    id: &str,
    asked_at: Instant,
) -> Result<ExitCode, CliError> {
    if globals.no_wait {
        print_accepted(globals, id)?;
        return Ok(ExitCode::Done);
    }
    let change = result(client, globals, id, asked_at).await?;
    if globals.is_json() {
        print_json(&change)?;
    }
    Ok(exit_code(&change))
}

/// Returns the exit code for a change that is closed.
pub(crate) fn exit_code(change: &ChangeObject) -> ExitCode {
    if change.success { ExitCode::Done } else { ExitCode::No }
}

/// Waits for the end of a change, whatever the options say; people see what becomes of each service
/// meanwhile.
///
/// # Errors
/// The manager is not there any more, `--timeout` is over, or a signal came.
pub(crate) async fn result(
    client: &Client,
    globals: &Globals,
    id: &str,
    asked_at: Instant,
) -> Result<ChangeObject, CliError> {
    tokio::select! {
        change = wait(client, globals, id, asked_at) => change,
        _ = tokio::signal::ctrl_c() => {
            let message = format!(
                "cannot wait any longer: interrupted; the action goes on as change {id}"
            );
            Err(CliError::new(ErrorKind::Interrupted, message))
        }
    }
}

fn print_accepted(globals: &Globals, id: &str) -> Result<(), CliError> {
    if globals.is_json() {
        let change = id.to_owned();
        return print_json(&ActionAccepted { change });
    }
    let mut screen = Screen::stdout();
    screen.line(id)?;
    screen.flush()
}

async fn wait(
    client: &Client,
    globals: &Globals,
    id: &str,
    asked_at: Instant,
) -> Result<ChangeObject, CliError> {
    let deadline = globals.timeout.map(|limit| (asked_at + limit, limit));
    // What the services are is only needed for the words; without it the words are plainer.
    let services: ServicesObject = client.get("/v1/services").await.unwrap_or_default();
    let mut report = Report::new(globals, &services);
    loop {
        let left = deadline.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let look = left.map_or(LOOK, |left| left.min(LOOK));
        let path = format!("/v1/changes/{id}/wait?timeout={}ms", look.as_millis());
        let change: ChangeObject = client.get_within(&path, look).await?;
        report.show(&change)?;
        if change.closed {
            return Ok(change);
        }
        if let Some((at, limit)) = deadline
            && Instant::now() >= at
        {
            let limit = keepd_plan::format_duration(limit);
            let message = format!(
                "cannot finish \"{}\" within {limit}: the action goes on as change {id}",
                change.verb
            );
            return Err(CliError::new(ErrorKind::Timeout, message));
        }
    }
}

/// Says of each service once what became of it.
struct Report<'s> {
    services: BTreeMap<&'s str, &'s ServiceObject>,
    said: BTreeSet<String>,
    silent: bool,
    quiet: bool,
}

impl<'s> Report<'s> {
    fn new(globals: &Globals, services: &'s ServicesObject) -> Self {
        let services = &services.services;
        Self {
            services: services.iter().map(|service| (service.name.as_str(), service)).collect(),
            said: BTreeSet::new(),
            silent: globals.is_json(),
            quiet: globals.quiet,
        }
    }

    fn show(&mut self, change: &ChangeObject) -> Result<(), CliError> {
        let mut screen = Screen::stdout();
        for goal in &change.goals {
            let Some(reached) = goal.reached else {
                continue;
            };
            if !self.said.insert(goal.name.clone()) || self.silent {
                continue;
            }
            if !reached {
                missed(goal).print(false);
            } else if !self.quiet && goal.target != SIGNALLED {
                screen.line(&self.sentence(goal, &change.goals))?;
            }
        }
        screen.flush()
    }

    fn sentence(&self, goal: &GoalObject, goals: &[GoalObject]) -> String {
        let service = self.services.get(goal.name.as_str());
        let oneshot = service.is_some_and(|service| service.kind == Kind::Oneshot.word());
        let done = match goal.target.as_str() {
            "down" => "is stopped",
            "gone" => "is stopped and forgotten",
            "reloaded" => "was asked to reload",
            _ if oneshot => "is done",
            _ => "is ready",
        };
        let name = &goal.name;
        if goal.along
            && goal.target == "down"
            && let Some(on) = self.named_dependency(goal, goals)
        {
            return format!("Service \"{name}\" was stopped first: it depends on \"{on}\".");
        }
        let time = goal.after_s.map(|after_s| format!(" ({})", seconds(after_s)));
        format!("Service \"{name}\" {done}{}.", time.unwrap_or_default())
    }

    /// Returns the service for whose sake this one was stopped, too: one of its dependencies that
    /// is itself part of the change.
    fn named_dependency<'g>(&self, goal: &GoalObject, goals: &'g [GoalObject]) -> Option<&'g str> {
        let service = self.services.get(goal.name.as_str())?;
        let parts = goals.iter().filter(|other| {
            other.target == goal.target && service.depends_on.contains(&other.name)
        });
        // What the asker named says more than what came along itself.
        let nearest = parts.min_by_key(|other| other.along)?;
        Some(&nearest.name)
    }
}

/// Returns the error for a goal that cannot be reached any more.
fn missed(goal: &GoalObject) -> CliError {
    let verb = match goal.target.as_str() {
        "down" => "stop",
        "gone" => "remove",
        "reloaded" => "reload",
        "restarted" => "restart",
        SIGNALLED => "signal",
        _ => "start",
    };
    let name = &goal.name;
    let why = goal.message.as_deref().unwrap_or("nobody knows why");
    let message = format!("cannot {verb} service \"{name}\": {why}");
    CliError::new(ErrorKind::System, message).with_service(name)
}

/// Returns `0.3s`, `1.2s`, `2m 5s`.
pub(crate) fn seconds(value: f64) -> String {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if duration.as_secs() >= 60 => span(duration),
        Ok(_) | Err(_) => format!("{value:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, kind: &str, depends_on: &[&str]) -> ServiceObject {
        ServiceObject {
            depends_on: depends_on.iter().map(|on| (*on).to_owned()).collect(),
            kind: kind.to_owned(),
            ..crate::commands::status::tests::service(name, "ready")
        }
    }

    fn goal(name: &str, target: &str, along: bool, after_s: Result<f64, &str>) -> GoalObject {
        GoalObject {
            name: name.to_owned(),
            target: target.to_owned(),
            along,
            reached: Some(after_s.is_ok()),
            after_s: after_s.ok(),
            message: after_s.err().map(str::to_owned),
        }
    }

    #[test]
    fn each_goal_has_its_sentence() {
        let services = ServicesObject {
            notes: Vec::new(),
            services: vec![
                service("db", "daemon", &[]),
                service("migrate", "oneshot", &["db"]),
                service("web", "daemon", &["db", "migrate"]),
            ],
        };
        let report = Report::new(&Globals::default(), &services);
        let goals = [
            goal("web", "up", false, Ok(1.24)),
            goal("migrate", "up", true, Ok(125.0)),
            goal("db", "down", false, Ok(0.31)),
            goal("web", "down", true, Ok(0.1)),
            goal("db", "reloaded", false, Ok(0.0)),
            goal("old", "gone", true, Ok(0.5)),
        ];
        let sentences = goals.each_ref().map(|goal| report.sentence(goal, &goals));
        assert_eq!(
            sentences,
            [
                "Service \"web\" is ready (1.2s).",
                "Service \"migrate\" is done (2m 5s).",
                "Service \"db\" is stopped (0.3s).",
                "Service \"web\" was stopped first: it depends on \"db\".",
                "Service \"db\" was asked to reload (0.0s).",
                "Service \"old\" is stopped and forgotten (0.5s).",
            ]
        );
    }

    #[test]
    fn a_missed_goal_is_an_error_that_names_the_verb() {
        let text = |target, why| missed(&goal("web", target, false, Err(why))).to_string();
        assert_eq!(
            text("up", "executable \"/bin/webd\" not found"),
            "cannot start service \"web\": executable \"/bin/webd\" not found"
        );
        assert_eq!(text("restarted", "why"), "cannot restart service \"web\": why");
        assert_eq!(text("down", "why"), "cannot stop service \"web\": why");
        assert_eq!(text("gone", "why"), "cannot remove service \"web\": why");
        assert_eq!(text("signalled", "why"), "cannot signal service \"web\": why");
    }
}
