//! `POST /v1/actions`.

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use keepd_engine::manager::Ask;
use keepd_model::ServiceName;

use super::Api;
use super::body::{Body, parse};
use super::listener::Peer;
use super::problem::Failure;
use super::query::Parameters;
use super::types::{ActionAccepted, ActionOptions, ActionRequest, ActionWord};
use crate::calls::MakeAsk;

/// Handles `POST /v1/actions`.
pub(super) async fn act(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<(StatusCode, Json<ActionAccepted>), Failure> {
    Parameters::parse(query.as_deref(), &[])?;
    let ActionRequest { action, select, options, token } = parse(body)?;
    check_options(action, options)?;
    check_select(action, &select)?;
    api.synchronised().await?;
    let ask = make_ask(action, options);
    let change = api.caller.act(peer.who(), token, select, ask).await??;
    Ok((StatusCode::ACCEPTED, Json(ActionAccepted { change: change.to_string() })))
}

fn make_ask(action: ActionWord, options: ActionOptions) -> MakeAsk {
    let ActionOptions { alone, kill, now } = options;
    Box::new(move |names: Vec<ServiceName>| match action {
        ActionWord::Start => Ask::Start { names, alone },
        ActionWord::Stop => Ask::Stop { names, alone, kill },
        ActionWord::Restart => Ask::Restart { names },
        ActionWord::Reload => Ask::Reload { names },
        ActionWord::Shutdown => Ask::Shutdown { now },
    })
}

/// Refuses options that the action has no use for: whoever sets one expects something of it.
fn check_options(action: ActionWord, options: ActionOptions) -> Result<(), Failure> {
    let ActionOptions { alone, kill, now } = options;
    let (word, alone_fits, kill_fits, now_fits) = match action {
        ActionWord::Start => ("start", true, false, false),
        ActionWord::Stop => ("stop", true, true, false),
        ActionWord::Restart => ("restart", false, false, false),
        ActionWord::Reload => ("reload", false, false, false),
        ActionWord::Shutdown => ("shutdown", false, false, true),
    };
    for (option, set, fits) in
        [("alone", alone, alone_fits), ("kill", kill, kill_fits), ("now", now, now_fits)]
    {
        if set && !fits {
            return Err(Failure::usage(format!("cannot use option \"{option}\" with \"{word}\"")));
        }
    }
    Ok(())
}

fn check_select(action: ActionWord, select: &[String]) -> Result<(), Failure> {
    match (action, select.is_empty()) {
        (ActionWord::Shutdown, true) => Ok(()),
        (ActionWord::Shutdown, false) => {
            Err(Failure::usage("cannot shut down some services: it stops everything")
                .with_hint("use stop for some services"))
        }
        (ActionWord::Start | ActionWord::Stop | ActionWord::Restart | ActionWord::Reload, true) => {
            Err(Failure::usage("cannot act on nothing: \"select\" is empty")
                .with_hint("name services, or \"all\""))
        }
        (
            ActionWord::Start | ActionWord::Stop | ActionWord::Restart | ActionWord::Reload,
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
        assert_eq!(check_options(ActionWord::Stop, kill), Ok(()));
        let failure = check_options(ActionWord::Start, kill).unwrap_err();
        assert_eq!(failure.problem().detail, "cannot use option \"kill\" with \"start\"");
    }

    #[test]
    fn everything_or_something_is_selected() {
        let some = ["web".to_owned()];
        assert_eq!(check_select(ActionWord::Start, &some), Ok(()));
        assert_eq!(check_select(ActionWord::Shutdown, &[]), Ok(()));
        assert!(check_select(ActionWord::Shutdown, &some).is_err());
        assert!(check_select(ActionWord::Stop, &[]).is_err());
    }
}
