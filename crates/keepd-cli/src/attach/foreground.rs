//! `up` where keepd runs already: the lines of services and what happens to them, until somebody
//! presses Ctrl-C.

use std::time::Duration;

use keepd_manager::api::types::{ActionAccepted, ActionOptions, ActionRequest, ActionWord};
use keepd_model::ExitCode;

use super::running::{hint_at_changes, top_pid, wait_until_reachable};
use super::view::View;
use crate::arguments::Globals;
use crate::client::{Client, block_on, token};
use crate::error::{CliError, ErrorKind};
use crate::event_stream::{EventStream, Wanted};
use crate::interrupts::Interrupts;
use crate::place::Place;

/// From one look at the logs to the next.
const LOOK: Duration = Duration::from_millis(100);

/// Shows what happens from now on, after starting the selected services.
///
/// # Errors
/// keepd does not answer, there is no such service, or standard output cannot be written.
pub(crate) fn look_on(
    globals: &Globals,
    place: &Place,
    select: &[String],
) -> Result<ExitCode, CliError> {
    let client = Client::new(place);
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        wait_until_reachable(place).await;
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let mut events = EventStream::open(&client, wanted).await?;
        let mut view = View::open(globals, place);
        let pid = top_pid(place).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        view.say(&format!("attached to keepd {}{pid}, Ctrl-C detaches", place.shown))?;
        hint_at_changes(&client).await;
        if !select.is_empty() {
            start(&client, select).await?;
        }
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Ok(Some(event)) => view.show_event(&event)?,
                    Ok(None) => {
                        view.finish("keepd has ended")?;
                        return Ok(ExitCode::Done);
                    }
                    Err(error) if error.kind() == ErrorKind::NoManager => {
                        view.finish("keepd is gone without a shutdown")?;
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                },
                _ = looks.tick() => view.show_lines()?,
                () = interrupts.next() => {
                    view.finish("detached; the services go on")?;
                    return Ok(ExitCode::Done);
                }
            }
        }
    })
}

/// Asks for a start. What becomes of it is seen like everything else.
async fn start(client: &Client, select: &[String]) -> Result<(), CliError> {
    let request = ActionRequest {
        action: ActionWord::Start,
        select: select.to_vec(),
        options: ActionOptions::default(),
        token: Some(token()?),
    };
    client.post::<ActionAccepted>("/v1/actions", &request).await.map(drop)
}
