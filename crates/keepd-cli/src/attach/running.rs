//! What a second `keepd up` finds.

use std::time::Duration;

use keepd_manager::api::types::{DiffObject, DiffRequest};
use keepd_model::Pid;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::error::ErrorKind;
use crate::place::Place;
use crate::top;

/// How long the first `up` may take until it answers: it may have begun a moment ago.
const START_LIMIT: Duration = Duration::from_secs(10);

/// From one attempt to reach it to the next.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until the keepd that has the lock can be reached. Whether it can is seen by whoever asks
/// it something.
pub(super) async fn wait_until_reachable(place: &Place) {
    let began = Instant::now();
    let is_held = || place.instance.as_ref().is_some_and(top::is_locked);
    while UnixStream::connect(&place.socket).await.is_err()
        && began.elapsed() < START_LIMIT
        && is_held()
    {
        sleep(LOOK).await;
    }
}

/// Says how to bring changes of the files into force, if there are some. That they were not asked
/// for is no reason to fail, whatever the answer is.
pub(super) async fn hint_at_changes(client: &Client) {
    let request = DiffRequest::default();
    match client.post::<DiffObject>("/v1/config/diff", &request).await {
        Ok(diff) if diff.steps.is_empty() => {}
        Ok(_) => {
            eprintln!("hint: the configuration has changes that are not in force: keepd apply");
        }
        Err(error) if error.kind() == ErrorKind::Config => {
            eprintln!("hint: the configuration has errors, and what runs is older: keepd check");
        }
        Err(_) => {}
    }
}

/// Returns the process that was started by the first `keepd up`, to which signals would be sent.
pub(super) fn top_pid(place: &Place) -> Option<Pid> {
    let file = place.instance.as_ref()?.proxy_pid_file();
    let proxy = std::fs::read_to_string(file).ok()?.trim().parse().ok().and_then(Pid::new)?;
    keepd_os::proc::stat(proxy).and_then(|stat| stat.parent)
}
