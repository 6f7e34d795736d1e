//! `GET /v1/events?since=`: announcements as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::Api;
use super::history::{Receiver, lost_event};
use super::problem::Failure;
use super::query::Parameters;
use super::types::EventObject;

/// How many events wait for a connection that does not take them; beyond that they wait in the
/// history.
const WAITING_MAX: usize = 16;

/// Handles `GET /v1/events`. With `since`, or the header `Last-Event-ID` of a reader that comes
/// back, it begins with the kept events after that number; otherwise with what comes.
pub(super) async fn stream(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let parameters = Parameters::parse(query.as_deref(), &["since"])?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let since = match parameters.last("since").or(last) {
        Some(text) => {
            let refused = |_| Failure::usage(format!("cannot use event number \"{text}\""));
            Some(text.parse().map_err(refused)?)
        }
        None => None,
    };
    let (kept, receiver) = api.history.subscribe(since);
    let (sender, events) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(kept, receiver, sender));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::new(EventBody(events))).into_response())
}

/// Passes events on until the reader goes or no more will come.
async fn feed(
    kept: Vec<Arc<EventObject>>,
    receiver: Option<Receiver>,
    sender: mpsc::Sender<Bytes>,
) {
    let mut last = 0;
    for event in kept {
        last = event.sequence;
        if sender.send(frame(&event)).await.is_err() {
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
                frame(&event)
            }
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

/// A body that comes piece by piece.
struct EventBody(mpsc::Receiver<Bytes>);

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_frame() {
        let text = frame(&lost_event(7, 3));
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("id: 7\nevent: lost\ndata: {\"sequence\":7,"), "{text}");
        assert!(text.ends_with("}\n\n"));
        assert_eq!(text.matches('\n').count(), 4);
    }
}
