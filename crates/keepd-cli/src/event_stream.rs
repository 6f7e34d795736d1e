//! The manager's events as a stream that outlasts the manager.
//!
//! The stream is opened again when it ends without a shutdown. A manager that was replaced by
//! another one leaves a gap that nobody can fill: an event `lost` stands for it.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use keepd_manager::api::types::EventObject;
use keepd_manager::time::timestamp;
use keepd_os::clock::wall_now_ns;
use tokio::time::{Duration, sleep};

use crate::client::{Client, Opened, url_encoded};
use crate::error::{CliError, ErrorKind};

/// The longest line of the stream: far longer than any event.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Between two attempts of a stream that ends as soon as it is opened.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a stream begins, and what it tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Services; empty: everything.
    pub(crate) select: Vec<String>,
    /// `None`: with what comes; else a number of an event or a time, after which it begins.
    pub(crate) since: Option<String>,
    /// Goes on with what comes.
    pub(crate) follow: bool,
}

/// The events of an instance.
#[derive(Debug)]
pub(crate) struct EventStream<'c> {
    client: &'c Client,
    wanted: Wanted,
    body: Option<Incoming>,
    lines: Lines,
    /// The process that told the last event, and its number.
    manager: Option<i32>,
    last: u64,
    /// An event that was looked at too early.
    pending: Option<EventObject>,
    /// A shutdown was told: an end is expected.
    closing: bool,
    ended: bool,
}

impl<'c> EventStream<'c> {
    /// Opens the stream.
    ///
    /// # Errors
    /// There is no manager, or it says why not.
    pub(crate) async fn open(client: &'c Client, wanted: Wanted) -> Result<Self, CliError> {
        let mut stream = Self {
            client,
            wanted,
            body: None,
            lines: Lines::default(),
            manager: None,
            last: 0,
            pending: None,
            closing: false,
            ended: false,
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// Returns the next event; `None` when no more will come. May be dropped while it waits:
    /// nothing is lost by that.
    ///
    /// # Errors
    /// The manager is gone without a shutdown, or what it says cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Option<EventObject>, CliError> {
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        loop {
            if let Some(line) = self.lines.take() {
                let Some(event) = event_of(&line)? else { continue };
                return Ok(Some(self.note(event)));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                sleep(PAUSE).await;
                match self.connect().await {
                    Ok(Some(gap)) => return Ok(Some(gap)),
                    Ok(None) => continue,
                    Err(error) if self.closing && error.kind() == ErrorKind::NoManager => {
                        self.ended = true;
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.lines.add(&bytes)?;
                    }
                }
                // Whether it ended or broke makes no difference: the next one goes on.
                Some(Err(_)) | None => {
                    self.body = None;
                    self.lines = Lines::default();
                    self.ended |= !self.wanted.follow;
                }
            }
        }
    }

    /// Takes note of an event. If numbers are missing before it, the gap is told first.
    fn note(&mut self, event: EventObject) -> EventObject {
        let complete = self.wanted.select.is_empty() && self.last > 0;
        let missing = event.sequence.saturating_sub(self.last + 1);
        self.closing |= event.event == "shutdown";
        let before = std::mem::replace(&mut self.last, event.sequence);
        if complete && missing > 0 && event.event != "lost" {
            let text = format!("{missing} events were lost: they are not kept any more");
            self.pending = Some(event);
            return lost(before, text);
        }
        event
    }

    /// Opens the stream behind what was told; returns what must be said about the gap.
    async fn connect(&mut self) -> Result<Option<EventObject>, CliError> {
        let (known, last) = (self.manager, self.last);
        let path = |manager: Option<i32>| path(&self.wanted, known, manager, last);
        let Opened { body, manager } = self.client.open(path).await?;
        self.body = Some(body);
        self.manager = manager;
        if known.is_none() || known == manager {
            return Ok(None);
        }
        self.last = 0;
        let text = "keepd's manager was replaced: events of the meantime may be lost".to_owned();
        Ok(Some(lost(last, text)))
    }
}

/// Returns what to ask the manager for, of which the first one is `known`.
fn path(wanted: &Wanted, known: Option<i32>, manager: Option<i32>, last: u64) -> String {
    let since = match known {
        None => wanted.since.clone(),
        // A new manager counts from 1, and what it has is new to everybody.
        Some(_) if known != manager => Some("0".to_owned()),
        Some(_) if last > 0 => Some(last.to_string()),
        Some(_) => wanted.since.clone(),
    };
    let mut path = format!("/v1/events?follow={}", wanted.follow);
    if let Some(since) = since {
        path.push_str(&format!("&since={}", url_encoded(&since)));
    }
    for selector in &wanted.select {
        path.push_str(&format!("&select={}", url_encoded(selector)));
    }
    path
}

/// Returns the event that stands for what is missing.
fn lost(sequence: u64, text: String) -> EventObject {
    EventObject { text, ..EventObject::new(sequence, timestamp(wall_now_ns()), "lost") }
}

/// Returns the event of a line of the stream; other lines than `data:` say nothing more.
fn event_of(line: &[u8]) -> Result<Option<EventObject>, CliError> {
    let Some(data) = line.strip_prefix(b"data:") else {
        return Ok(None);
    };
    serde_json::from_slice(data).map(Some).map_err(|error| {
        CliError::because(ErrorKind::System, "cannot understand an event of keepd", error)
    })
}

/// Bytes that become lines.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &Bytes) -> Result<(), CliError> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > LINE_BYTES_MAX && !self.bytes.contains(&b'\n') {
            let message = "cannot understand the events of keepd: a line has no end";
            return Err(CliError::new(ErrorKind::System, message));
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
        line.pop();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_behind_what_was_told() {
        let wanted = Wanted {
            select: vec!["w*".to_owned()],
            since: Some("2026-11-21T07:02:55Z".to_owned()),
            follow: true,
        };
        let asked = |known, manager, last| path(&wanted, known, manager, last);
        let time = "2026-11-21T07%3A02%3A55Z";
        assert_eq!(
            asked(None, Some(7), 0),
            format!("/v1/events?follow=true&since={time}&select=w%2A")
        );
        assert_eq!(asked(Some(7), Some(7), 12), "/v1/events?follow=true&since=12&select=w%2A");
        assert_eq!(asked(Some(7), Some(8), 12), "/v1/events?follow=true&since=0&select=w%2A");
        assert!(asked(Some(7), Some(7), 0).contains(time));
        assert_eq!(path(&Wanted::default(), None, None, 0), "/v1/events?follow=false");
    }

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        lines.add(&Bytes::from_static(b"id: 1\nda")).unwrap();
        assert_eq!(lines.take().as_deref(), Some(&b"id: 1"[..]));
        assert_eq!(lines.take(), None);
        lines.add(&Bytes::from_static(b"ta: x\n\n")).unwrap();
        assert_eq!(lines.take().as_deref(), Some(&b"data: x"[..]));
        assert_eq!(lines.take().as_deref(), Some(&b""[..]));
        assert!(lines.add(&Bytes::from(vec![b'x'; LINE_BYTES_MAX + 1])).is_err());
    }

    #[test]
    fn only_data_is_an_event() {
        let event = lost(3, "2 events were lost".to_owned());
        let line = format!("data: {}", serde_json::to_string(&event).unwrap());
        assert_eq!(event_of(line.as_bytes()).unwrap(), Some(event));
        assert_eq!(event_of(b"event: state").unwrap(), None);
        assert!(event_of(b"data: nothing").is_err());
    }
}
