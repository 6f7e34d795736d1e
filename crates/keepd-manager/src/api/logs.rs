//! `GET /v1/logs?select=&since=&until=&lines=&follow=`: lines of services, one JSON object each.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use keepd_model::ServiceName;
use keepd_os::clock::wall_now_ns;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::Api;
use super::pieces::Pieces;
use super::problem::Failure;
use super::query::Parameters;
use crate::console::append_json_line;
use crate::logs::{Filter, Follower, LogLine, Note, Run, Selection, ServiceLog, StartFrom, Stored};

/// So many lines there are where nothing else says how many.
const LINES_DEFAULT: u64 = 100;

/// About how much is read before a client must have taken what was read before.
const PIECE_BYTES: usize = 64 * 1024;

/// How many pieces wait for a client that does not take them.
const PIECES_MAX: usize = 4;

/// From one look at files that are written all the time to the next.
const LOOK: Duration = Duration::from_millis(100);

/// What stands in the place of lines that cannot be given.
#[derive(Serialize)]
struct ProblemLine<'a> {
    service: &'a str,
    problem: String,
}

/// Handles `GET /v1/logs`. There are the last 100 lines, or so many as `lines` says, or what was
/// written between `since` and `until`; a group means its members. With `follow=true` it goes on
/// with what is written, until `until` or the end of keepd.
pub(super) async fn stream(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let known = ["select", "since", "until", "lines", "follow"];
    let parameters = Parameters::parse(query.as_deref(), &known)?;
    let selection = selection(&parameters)?;
    let selectors = parameters.selectors()?;
    let selectors = if selectors.is_empty() { vec!["all".to_owned()] } else { selectors };
    api.synchronised().await?;
    let logs = logs_of(&api, &selectors).await?;
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(Feed { api, selectors, selection, sender }.run(logs));
    let head =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::new(Pieces(pieces))).into_response())
}

fn selection(parameters: &Parameters) -> Result<Selection, Failure> {
    let (since_ns, until_ns) = (parameters.wall_ns("since")?, parameters.wall_ns("until")?);
    let count = match parameters.last("lines") {
        None => (since_ns.is_none() && until_ns.is_none()).then_some(LINES_DEFAULT),
        Some("all") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::usage(format!("cannot use lines \"{text}\": it is a number or \"all\""))
        })?),
    };
    let filter = Filter { since_ns, until_ns, ..Filter::default() };
    Ok(Selection { filter, count, followed: parameters.flag("follow", false)? })
}

/// Returns the logs that are meant. A service without one is only an error if it was named alone.
async fn logs_of(api: &Api, selectors: &[String]) -> Result<Vec<ServiceLog>, Failure> {
    let wanted = selectors.to_vec();
    let found = api
        .caller
        .look(move |machine, _| machine.select(&wanted).map(|names| machine.members(&names)))
        .await?;
    let names: BTreeSet<ServiceName> =
        found.map_err(|selector| Failure::no_match(&selector))?.into_iter().collect();
    let logs: Vec<ServiceLog> = names.iter().filter_map(|name| api.logs.log(name)).collect();
    match selectors {
        [name] if logs.is_empty() && names.iter().any(|found| found.as_str() == name) => {
            let detail = format!("cannot show the log of service \"{name}\": keepd writes none");
            Err(Failure::usage(detail).with_hint("its log.mode says where its output goes"))
        }
        _ => Ok(logs),
    }
}

/// Reads for one client.
struct Feed {
    api: Api,
    selectors: Vec<String>,
    selection: Selection,
    sender: mpsc::Sender<Bytes>,
}

/// The client is gone.
struct Left;

impl Feed {
    async fn run(self, logs: Vec<ServiceLog>) {
        // Nobody waits for its end, and there is nobody to tell that the client is gone.
        let _ = self.feed(logs).await;
    }

    async fn feed(&self, logs: Vec<ServiceLog>) -> Result<(), Left> {
        let mut follower = self.give_stored(&logs).await?;
        if !self.selection.followed {
            return Ok(());
        }
        let mut followed = logs;
        let (mut written, mut pulse) = (self.api.logs.written(), self.api.caller.pulse());
        let mut stop = self.api.stop.clone();
        loop {
            let mut is_over = tokio::select! {
                changed = written.changed() => changed.is_err(),
                changed = pulse.changed() => {
                    follower = self.adjust(follower, &mut followed).await;
                    changed.is_err()
                }
                () = ended(&mut stop) => true,
                () = until(self.selection.filter.until_ns) => true,
                () = self.sender.closed() => return Err(Left),
            };
            if !is_over {
                // What is written without pause is read now and then. The end interrupts that.
                is_over = tokio::time::timeout(LOOK, ended(&mut stop)).await.is_ok();
            }
            follower = self.give_new(follower, is_over).await?;
            if is_over {
                return Ok(());
            }
        }
    }

    /// Gives what is there, and returns what goes on behind it.
    async fn give_stored(&self, logs: &[ServiceLog]) -> Result<Follower, Left> {
        let logs: Vec<(ServiceLog, Run)> = logs.iter().map(|log| (log.clone(), Run::All)).collect();
        let selection = self.selection.clone();
        let mut stored = self.api.logs.read(move || Stored::find(&logs, selection)).await;
        for note in stored.notes() {
            match note {
                Note::NoSuchRun(log) | Note::NoTimes(log) => {
                    let problem = "its output has no times, because its index is missing";
                    self.send(problem_line(&log.name, problem.to_owned())).await?;
                }
            }
        }
        loop {
            let (back, bytes, is_all) = self.api.logs.read(move || stored_piece(stored)).await;
            stored = back;
            self.send(bytes).await?;
            if is_all {
                return Ok(stored.into_follower());
            }
        }
    }

    /// Gives what was added; at the end also what has no line feed.
    async fn give_new(&self, mut follower: Follower, is_over: bool) -> Result<Follower, Left> {
        loop {
            let filter = self.selection.filter.clone();
            let work = move || new_piece(follower, &filter, is_over);
            let (back, pieces, is_all) = self.api.logs.read(work).await;
            follower = back;
            for bytes in pieces {
                self.send(bytes).await?;
            }
            if is_all {
                return Ok(follower);
            }
        }
    }

    /// Follows what the selectors mean now, from now on. While they mean nothing, what they meant.
    async fn adjust(&self, mut follower: Follower, followed: &mut Vec<ServiceLog>) -> Follower {
        let Ok(logs) = logs_of(&self.api, &self.selectors).await else {
            return follower;
        };
        if logs == *followed {
            return follower;
        }
        let before = std::mem::replace(followed, logs.clone());
        let work = move || {
            for gone in before.iter().filter(|log| logs.iter().all(|now| now.name != log.name)) {
                follower.remove(&gone.name);
            }
            for log in logs {
                follower.add(log, StartFrom::End);
            }
            follower
        };
        self.api.logs.read(work).await
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), Left> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sender.send(bytes.into()).await.map_err(|_| Left)
    }
}

/// Returns some lines, and whether these were the last.
fn stored_piece(mut stored: Stored) -> (Stored, Vec<u8>, bool) {
    let (mut bytes, mut is_all) = (Vec::new(), true);
    stored.read(|line| {
        append_json_line(&line, &mut bytes);
        is_all = bytes.len() < PIECE_BYTES;
        is_all
    });
    for unread in stored.take_unread() {
        bytes.extend(problem_line(&unread.service, format!("{unread}: {}", unread.error)));
    }
    (stored, bytes, is_all)
}

/// Returns new lines in pieces, and whether these were the last.
fn new_piece(
    mut follower: Follower,
    filter: &Filter,
    is_over: bool,
) -> (Follower, Vec<Vec<u8>>, bool) {
    let lines = if is_over { follower.finish_all() } else { follower.read_all_new() };
    let is_all = lines.is_empty();
    let mut pieces: Vec<Vec<u8>> = chunks(&lines, filter);
    for unread in follower.take_unread() {
        pieces.push(problem_line(&unread.service, format!("{unread}: {}", unread.error)));
    }
    (follower, pieces, is_all)
}

fn chunks(lines: &[LogLine], filter: &Filter) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::new()];
    for line in lines.iter().filter(|line| filter.accepts(line)) {
        if pieces.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            pieces.push(Vec::new());
        }
        if let Some(piece) = pieces.last_mut() {
            append_json_line(line, piece);
        }
    }
    pieces
}

fn problem_line(service: &ServiceName, problem: String) -> Vec<u8> {
    let line = ProblemLine { service: service.as_str(), problem };
    let mut bytes = serde_json::to_vec(&line).expect("an object of texts can be written");
    bytes.push(b'\n');
    bytes
}

/// Waits until the server is told to end.
async fn ended(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell any more, which is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until a wall time in nanoseconds since 1970; for ever, if there is none.
async fn until(wall_ns: Option<u64>) {
    match wall_ns {
        Some(wall_ns) => {
            tokio::time::sleep(Duration::from_nanos(wall_ns.saturating_sub(wall_now_ns()))).await;
        }
        None => std::future::pending().await,
    }
}
