//! What a connection could not be told yet: per service the latest of everything and every end, per
//! handle the latest.
//!
//! Services come in the order in which something of theirs was kept first; the news of one service
//! stays in the order in which it happened. The size is bounded by the number of services, not by
//! time.

use std::collections::{BTreeMap, VecDeque};
use std::mem::discriminant;

use keepd_model::protocol::{Event, Message, RunReport, RunState};
use keepd_model::{HandleName, ServiceName, Signal};

use super::commands::SERVICES_MAX;
use super::handles::HANDLES_MAX;
use super::service::{NOTIFICATIONS_MAX, says_ready};

/// The most ends of one service that are kept.
pub(super) const ENDS_MAX: usize = 64;
/// The most things to be told in order. Only names that were deleted meanwhile and answers can
/// exceed the number of services and handles.
const MARKS_MAX: usize = SERVICES_MAX + HANDLES_MAX;

/// Kept news.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    order: VecDeque<Mark>,
    services: BTreeMap<ServiceName, Vec<Event>>,
    signals: BTreeMap<Signal, Event>,
    handles: BTreeMap<HandleName, Event>,
    /// Ends that had to be dropped since the connection was made.
    pub(super) ends_dropped: u64,
}

/// One thing to be told.
#[derive(Debug)]
enum Mark {
    /// Everything kept for a service.
    Service(ServiceName),
    /// The present count of a signal.
    Signal(Signal),
    /// The latest of a handle.
    Handle(HandleName),
    /// An answer, as it is.
    Message(Message),
}

/// How an event of a service is kept together with others of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// The end of a generation: every one, the last [`ENDS_MAX`].
    End,
    /// A notification: every one, the last [`NOTIFICATIONS_MAX`]. `READY=1` must outlast a
    /// `STATUS=`.
    Notification,
    /// Only the latest of its kind.
    Latest,
}

impl Backlog {
    /// Reports whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Reports whether more is kept than there can be services and reasonable questions.
    pub(super) fn is_over_limit(&self) -> bool {
        self.order.len() > MARKS_MAX
    }

    /// Keeps a message.
    pub(super) fn add(&mut self, message: Message) {
        let event = match message {
            Message::Event(event) => event,
            Message::ProtoAccepted { .. }
            | Message::Reply(..)
            | Message::Text(_)
            | Message::Error(_) => {
                self.order.push_back(Mark::Message(message));
                return;
            }
        };
        if let Event::Signal { signal, .. } = event {
            if self.signals.insert(signal, event).is_none() {
                self.order.push_back(Mark::Signal(signal));
            }
        } else if let Some(name) = handle_of(&event).cloned() {
            if self.handles.insert(name.clone(), event).is_none() {
                self.order.push_back(Mark::Handle(name));
            }
        } else if let Some(name) = service_of(&event).cloned() {
            if !self.services.contains_key(&name) {
                self.order.push_back(Mark::Service(name.clone()));
            }
            let kept = self.services.entry(name).or_default();
            kept.retain(|earlier| !supersedes(&event, earlier));
            kept.push(event);
            self.ends_dropped += trim(kept, Keeping::End, ENDS_MAX);
            trim_notifications(kept);
        } else {
            self.order.push_back(Mark::Message(Message::Event(event)));
        }
    }

    /// Takes everything of the first mark.
    pub(super) fn take_first(&mut self) -> Option<Vec<Message>> {
        Some(match self.order.pop_front()? {
            Mark::Message(message) => vec![message],
            Mark::Signal(signal) => {
                self.signals.remove(&signal).map(Message::Event).into_iter().collect()
            }
            Mark::Handle(name) => {
                self.handles.remove(&name).map(Message::Event).into_iter().collect()
            }
            Mark::Service(name) => self
                .services
                .remove(&name)
                .unwrap_or_default()
                .into_iter()
                .map(Message::Event)
                .collect(),
        })
    }

    /// Says what is wrong with its parts, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut services = 0;
        let mut signals = 0;
        let mut handles = 0;
        for mark in &self.order {
            match mark {
                Mark::Service(name) if self.services.contains_key(name) => services += 1,
                Mark::Signal(signal) if self.signals.contains_key(signal) => signals += 1,
                Mark::Handle(name) if self.handles.contains_key(name) => handles += 1,
                Mark::Service(_) | Mark::Signal(_) | Mark::Handle(_) => {
                    return Err(format!("{mark:?} is empty"));
                }
                Mark::Message(_) => {}
            }
        }
        let lengths = (self.services.len(), self.signals.len(), self.handles.len());
        if (services, signals, handles) != lengths {
            return Err("something kept has no mark, or two".to_owned());
        }
        for (name, kept) in &self.services {
            if count(kept, Keeping::End) > ENDS_MAX
                || count(kept, Keeping::Notification) > NOTIFICATIONS_MAX
            {
                return Err(format!("too much of \"{name}\" is kept"));
            }
        }
        Ok(())
    }
}

/// Returns the service that an event is about.
pub(super) fn service_of(event: &Event) -> Option<&ServiceName> {
    match event {
        Event::Run(report) => Some(&report.name),
        Event::Invocation { name, .. }
        | Event::Notify { name, .. }
        | Event::Output { name, .. }
        | Event::OutputBlocked { name, .. }
        | Event::Args(name, _)
        | Event::Tags(name, _)
        | Event::Set(name, _)
        | Event::Env(name, _)
        | Event::Log(name, _)
        | Event::AutoUp(name, ..)
        | Event::Fds(name, _)
        | Event::Note(name, ..)
        | Event::Lease(name, ..)
        | Event::Ended { name, .. }
        | Event::Deleted(name) => Some(name),
        Event::Signal { .. }
        | Event::Handle(_)
        | Event::HandleDeleted(_)
        | Event::LogFilter(_)
        | Event::DumpEnd { .. } => None,
    }
}

/// Returns the handle that an event is about.
fn handle_of(event: &Event) -> Option<&HandleName> {
    match event {
        Event::Handle(report) => Some(&report.name),
        Event::HandleDeleted(name) => Some(name),
        Event::Run(_)
        | Event::Invocation { .. }
        | Event::Notify { .. }
        | Event::Output { .. }
        | Event::OutputBlocked { .. }
        | Event::Args(..)
        | Event::Tags(..)
        | Event::Set(..)
        | Event::Env(..)
        | Event::Log(..)
        | Event::AutoUp(..)
        | Event::Fds(..)
        | Event::Note(..)
        | Event::Lease(..)
        | Event::Ended { .. }
        | Event::Deleted(_)
        | Event::Signal { .. }
        | Event::LogFilter(_)
        | Event::DumpEnd { .. } => None,
    }
}

/// Reports whether a report is the last word about a generation.
fn is_end(report: &RunReport) -> bool {
    report.state == RunState::Down && report.ended.is_some()
}

fn keeping(event: &Event) -> Keeping {
    match event {
        Event::Run(report) if is_end(report) => Keeping::End,
        Event::Notify { .. } => Keeping::Notification,
        Event::Run(_)
        | Event::Invocation { .. }
        | Event::Output { .. }
        | Event::OutputBlocked { .. }
        | Event::Args(..)
        | Event::Tags(..)
        | Event::Set(..)
        | Event::Env(..)
        | Event::Log(..)
        | Event::AutoUp(..)
        | Event::Fds(..)
        | Event::Note(..)
        | Event::Lease(..)
        | Event::Ended { .. }
        | Event::Deleted(_)
        | Event::Handle(_)
        | Event::HandleDeleted(_)
        | Event::LogFilter(_)
        | Event::Signal { .. }
        | Event::DumpEnd { .. } => Keeping::Latest,
    }
}

/// Reports whether nobody needs to hear `earlier` once `event` is known; both are of one service.
fn supersedes(event: &Event, earlier: &Event) -> bool {
    match (event, earlier) {
        // A cancelled start reports the end of the run before it once more.
        (Event::Run(report), Event::Run(before)) => {
            !is_end(before)
                || (report.state == before.state
                    && (report.generation, report.pid, report.ended)
                        == (before.generation, before.pid, before.ended))
        }
        (Event::Output { stream, .. }, Event::Output { stream: before, .. }) => stream == before,
        (Event::Deleted(_), Event::Run(before)) => !is_end(before),
        (Event::Deleted(_), _) => true,
        (_, _) => {
            discriminant(event) == discriminant(earlier) && keeping(earlier) == Keeping::Latest
        }
    }
}

fn count(kept: &[Event], keeping_of: Keeping) -> usize {
    kept.iter().filter(|event| keeping(event) == keeping_of).count()
}

/// Drops the oldest notifications beyond the limit, those that say `READY=1` last.
fn trim_notifications(kept: &mut Vec<Event>) {
    while count(kept, Keeping::Notification) > NOTIFICATIONS_MAX {
        let is_other =
            |event: &Event| matches!(event, Event::Notify { text, .. } if !says_ready(text));
        let is_one = |event: &Event| keeping(event) == Keeping::Notification;
        let oldest = kept.iter().position(is_other).or_else(|| kept.iter().position(is_one));
        let Some(oldest) = oldest else { return };
        kept.remove(oldest);
    }
}

/// Drops the oldest of what is kept in too great a number. Returns how many were dropped.
fn trim(kept: &mut Vec<Event>, keeping_of: Keeping, max: usize) -> u64 {
    let mut dropped = 0;
    let mut excess = count(kept, keeping_of).saturating_sub(max);
    kept.retain(|event| {
        let goes = excess > 0 && keeping(event) == keeping_of;
        if goes {
            excess -= 1;
            dropped += 1;
        }
        !goes
    });
    dropped
}
