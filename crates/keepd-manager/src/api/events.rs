//! `GET /v1/events?since=&select=&follow=`: announcements as server-sent events.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::Api;
use super::history::{Receiver, Since, lost_event};
use super::pieces::Pieces;
use super::problem::Failure;
use super::query::Parameters;
use super::types::EventObject;

/// How many events wait for a connection that does not take them; beyond that they wait in the
/// history.
const WAITING_MAX: usize = 16;

/// Handles `GET /v1/events`. With `since`, or the header `Last-Event-ID` of a reader that comes
/// back, it begins with the kept events after that number, or from that time on; otherwise with
/// what comes. With `follow=false` it ends after what is kept, which is everything without `since`.
/// With `select` there are only events of these services.
pub(super) async fn stream(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let parameters = Parameters::parse(query.as_deref(), &["since", "select", "follow"])?;
    let follow = parameters.flag("follow", true)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let since = match parameters.last("since").or(last) {
        Some(text) => Some(Since::parse(text)?),
        None if follow => None,
        None => Some(Since::Sequence(0)),
    };
    let only = only(&api, parameters.selectors()?).await?;
    let (kept, receiver) = api.history.subscribe(since.as_ref());
    let (sender, events) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(kept, receiver.filter(|_| follow), only, sender));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::new(Pieces(events))).into_response())
}

/// Returns the services whose events are wanted; `None` is every event.
async fn only(api: &Api, selectors: Vec<String>) -> Result<Option<BTreeSet<String>>, Failure> {
    if selectors.is_empty() {
        return Ok(None);
    }
    api.synchronised().await?;
    let found = api.caller.look(move |machine, _| machine.select(&selectors)).await?;
    let names = found.map_err(|selector| Failure::no_match(&selector))?;
    Ok(Some(names.iter().map(ToString::to_string).collect()))
}

/// Passes events on until the reader goes or no more will come.
async fn feed(
    kept: Vec<Arc<EventObject>>,
    receiver: Option<Receiver>,
    only: Option<BTreeSet<String>>,
    sender: mpsc::Sender<Bytes>,
) {
    let is_wanted = |event: &EventObject| match (&only, &event.service) {
        (None, _) => true,
        (Some(only), Some(service)) => only.contains(service),
        (Some(_), None) => false,
    };
    let mut last = 0;
    for event in kept {
        last = event.sequence;
        if is_wanted(&event) && sender.send(frame(&event)).await.is_err() {
            return;
        }
    }
    let Some(mut receiver) = receiver else { return };
    loop {
        let event = tokio::select! {
            event = receiver.recv() => event,
            () = sender.closed() => return,
        };
        let bytes = match event {
            Ok(event) => {
                last = event.sequence;
                if !is_wanted(&event) {
                    continue;
                }
                frame(&event)
            }
            // Nobody knows whose they were.
            Err(RecvError::Lagged(count)) => frame(&lost_event(last, count)),
            Err(RecvError::Closed) => return,
        };
        if sender.send(bytes).await.is_err() {
            return;
        }
    }
}

/// Returns an event as the HTML standard writes it.
fn frame(event: &EventObject) -> Bytes {
    let data = serde_json::to_string(event).expect("an object of texts and numbers can be written");
    Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.sequence, event.event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_these_services_are_passed_on() {
        let event = |sequence, service: Option<&str>| {
            let service = service.map(str::to_owned);
            Arc::new(EventObject { sequence, service, ..lost_event(0, 0) })
        };
        let kept = vec![event(1, Some("web")), event(2, None), event(3, Some("db"))];
        let read = |only: Option<BTreeSet<String>>| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (sender, mut events) = mpsc::channel(WAITING_MAX);
                feed(kept.clone(), None, only, sender).await;
                let mut count = 0;
                while events.recv().await.is_some() {
                    count += 1;
                }
                count
            })
        };
        assert_eq!(read(None), 3);
        assert_eq!(read(Some(BTreeSet::from(["web".to_owned()]))), 1);
    }

    #[test]
    fn an_event_is_one_frame() {
        let text = frame(&lost_event(7, 3));
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("id: 7\nevent: lost\ndata: {\"sequence\":7,"), "{text}");
        assert!(text.ends_with("}\n\n"));
        assert_eq!(text.matches('\n').count(), 4);
    }
}
