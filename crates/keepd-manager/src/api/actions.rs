//! `POST /v1/actions`.

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use keepd_engine::manager::{Ask, Refusal};
use keepd_model::protocol::Scope;
use keepd_model::{ServiceName, Signal};

use super::Api;
use super::body::{Body, check_token, parse};
use super::listener::Peer;
use super::problem::Failure;
use super::query::{Parameters, check_selectors};
use super::types::{ActionAccepted, ActionOptions, ActionRequest, ActionWord};
use crate::calls::{ActError, MakeAsk};

/// Handles `POST /v1/actions`.
pub(super) async fn act(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<(StatusCode, Json<ActionAccepted>), Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let ActionRequest { action, select, options, token } = parse(body)?;
    check_options(action, &options)?;
    check_select(action, &select)?;
    check_token(token.as_deref())?;
    let ask = make_ask(action, &options, select.is_empty())?;
    let select =
        if action == ActionWord::Up && select.is_empty() { vec!["all".to_owned()] } else { select };
    api.synchronised().await?;
    let answer = api.caller.act(peer.who(), token, select, ask).await?;
    let change = answer.map_err(|error| refused(action, error))?;
    Ok((StatusCode::ACCEPTED, Json(ActionAccepted { change: change.to_string() })))
}

/// Returns the problem of a refusal, with the verb that was refused.
fn refused(action: ActionWord, error: ActError) -> Failure {
    match (action, error) {
        (ActionWord::Signal, ActError::Refused(Refusal::NotRunning(name))) => {
            Failure::not_running("signal", name.as_str())
        }
        (ActionWord::Reload, ActError::Refused(Refusal::NotRunning(name))) => {
            Failure::not_running("reload", name.as_str())
        }
        (_, error) => error.into(),
    }
}

fn make_ask(
    action: ActionWord,
    options: &ActionOptions,
    nothing_selected: bool,
) -> Result<MakeAsk, Failure> {
    let ActionOptions { alone, kill, now, ref signal, all } = *options;
    let signal = match (action, signal) {
        (ActionWord::Signal, None) => {
            return Err(Failure::usage("cannot signal without option \"signal\"")
                .with_hint("name one, such as \"HUP\""));
        }
        (_, Some(word)) => {
            Some(Signal::parse(word).map_err(|error| Failure::usage(error.to_string()))?)
        }
        (_, None) => None,
    };
    let scope = if all { Scope::All } else { Scope::Main };
    Ok(Box::new(move |names: Vec<ServiceName>| match action {
        ActionWord::Start => Ask::Start { names, alone },
        ActionWord::Up => Ask::Up { names, enabled_only: nothing_selected },
        ActionWord::Stop => Ask::Stop { names, alone, kill },
        ActionWord::Restart => Ask::Restart { names },
        ActionWord::Reload => Ask::Reload { names },
        ActionWord::Signal => Ask::Signal { names, signal: signal.unwrap_or(Signal::TERM), scope },
        ActionWord::Shutdown => Ask::Shutdown { now },
    }))
}

/// Refuses options that the action has no use for: whoever sets one expects something of it.
fn check_options(action: ActionWord, options: &ActionOptions) -> Result<(), Failure> {
    let ActionOptions { alone, kill, now, signal, all } = options;
    let (word, fitting): (&str, &[&str]) = match action {
        ActionWord::Start => ("start", &["alone"]),
        ActionWord::Up => ("up", &[]),
        ActionWord::Stop => ("stop", &["alone", "kill"]),
        ActionWord::Restart => ("restart", &[]),
        ActionWord::Reload => ("reload", &[]),
        ActionWord::Signal => ("signal", &["signal", "all"]),
        ActionWord::Shutdown => ("shutdown", &["now"]),
    };
    for (option, set) in [
        ("alone", *alone),
        ("kill", *kill),
        ("now", *now),
        ("signal", signal.is_some()),
        ("all", *all),
    ] {
        if set && !fitting.contains(&option) {
            return Err(Failure::usage(format!("cannot use option \"{option}\" with \"{word}\"")));
        }
    }
    Ok(())
}

fn check_select(action: ActionWord, select: &[String]) -> Result<(), Failure> {
    check_selectors(select)?;
    match (action, select.is_empty()) {
        (ActionWord::Shutdown | ActionWord::Up, true) | (ActionWord::Up, false) => Ok(()),
        (ActionWord::Shutdown, false) => {
            Err(Failure::usage("cannot shut down some services: it stops everything")
                .with_hint("use stop for some services"))
        }
        (
            ActionWord::Start
            | ActionWord::Stop
            | ActionWord::Restart
            | ActionWord::Reload
            | ActionWord::Signal,
            true,
        ) => Err(Failure::usage("cannot act on nothing: \"select\" is empty")
            .with_hint("name services, or \"all\"")),
        (
            ActionWord::Start
            | ActionWord::Stop
            | ActionWord::Restart
            | ActionWord::Reload
            | ActionWord::Signal,
            false,
        ) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_nothing_are_refused() {
        let kill = ActionOptions { kill: true, ..ActionOptions::default() };
        assert_eq!(check_options(ActionWord::Stop, &kill), Ok(()));
        let failure = check_options(ActionWord::Start, &kill).unwrap_err();
        assert_eq!(failure.problem().detail, "cannot use option \"kill\" with \"start\"");
    }

    #[test]
    fn a_refusal_names_what_was_asked_for() {
        let refusal = || {
            let name = ServiceName::new("web").unwrap();
            ActError::Refused(Refusal::NotRunning(name))
        };
        let text = |action| refused(action, refusal()).problem().detail.clone();
        assert_eq!(text(ActionWord::Signal), "cannot signal service \"web\": it is not running");
        assert_eq!(text(ActionWord::Reload), "cannot reload service \"web\": it is not running");
    }

    #[test]
    fn everything_or_something_is_selected() {
        let some = ["web".to_owned()];
        assert_eq!(check_select(ActionWord::Start, &some), Ok(()));
        assert_eq!(check_select(ActionWord::Shutdown, &[]), Ok(()));
        assert_eq!(check_select(ActionWord::Up, &[]), Ok(()));
        assert_eq!(check_select(ActionWord::Up, &some), Ok(()));
        assert!(check_select(ActionWord::Shutdown, &some).is_err());
        assert!(check_select(ActionWord::Stop, &[]).is_err());
    }

    #[test]
    fn names_are_many_and_patterns_are_few() {
        let names: Vec<String> = (0..2_000).map(|number| format!("s{number}")).collect();
        assert_eq!(check_select(ActionWord::Stop, &names), Ok(()));
        let patterns: Vec<String> = (0..101).map(|number| format!("s{number}*")).collect();
        let failure = check_select(ActionWord::Stop, &patterns).unwrap_err();
        let expected = "cannot use 101 patterns in one request: the limit is 100";
        assert_eq!(failure.problem().detail, expected);
    }
}
