//! The events of this manager: the last ones are kept, and readers hear new ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use keepd_engine::manager::{Announcement, Happening, sentence};
use keepd_model::ChangeId;
use tokio::sync::broadcast;

use super::problem::Failure;
use super::types::EventObject;
use crate::time::{WallClock, seconds, timestamp};

/// How many events are kept for those who ask later.
const KEPT_MAX: usize = 1_000;

/// How far a reader may fall behind before events are lost to it.
const BEHIND_MAX: usize = 1_024;

/// The events.
pub(crate) struct History {
    state: Mutex<State>,
}

struct State {
    kept: VecDeque<Kept>,
    last: u64,
    /// `None`: no more will come.
    readers: Option<broadcast::Sender<Arc<EventObject>>>,
}

/// An event as it happened. What readers get is made for those who read: as texts a thousand events
/// take several times as much room, and mostly nobody asks.
struct Kept {
    sequence: u64,
    clock: WallClock,
    news: Announcement,
}

impl Kept {
    fn object(&self) -> Arc<EventObject> {
        Arc::new(event_object(self.sequence, &self.news, &self.clock))
    }

    fn is_after(&self, since: &Since, last: u64) -> bool {
        match since {
            Since::Sequence(since) => *since > last || self.sequence > *since,
            Since::Time(since) => self.clock.text(self.news.at) >= *since,
        }
    }
}

/// From where on a reader wants events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// After the event with this number.
    Sequence(u64),
    /// From this time on, written like the times of events, so that the order of texts is that of
    /// times.
    Time(String),
}

impl Since {
    /// Reads a number or a time in RFC 3339.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = text.parse()
        {
            return Ok(Self::Sequence(number));
        }
        let time: Timestamp = text.parse().map_err(|_| {
            Failure::usage(format!("cannot use event number or time \"{text}\""))
                .with_hint("give a number, or a time such as 2026-11-21T07:02:55Z")
        })?;
        // Nothing happened before 1970, and nothing has happened later than numbers reach.
        let wall_ns = u64::try_from(time.as_nanosecond().max(0)).unwrap_or(u64::MAX);
        Ok(Self::Time(timestamp(wall_ns)))
    }
}

/// Hears new events.
pub(crate) type Receiver = broadcast::Receiver<Arc<EventObject>>;

impl History {
    pub(crate) fn new() -> Self {
        let (readers, _) = broadcast::channel(BEHIND_MAX);
        let state = State { kept: VecDeque::new(), last: 0, readers: Some(readers) };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the plain data in it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and tells it to every reader.
    pub(crate) fn add(&self, news: Announcement, clock: WallClock) {
        let mut state = self.lock();
        state.last += 1;
        let event = Kept { sequence: state.last, clock, news };
        if let Some(readers) = state.readers.as_ref().filter(|all| all.receiver_count() > 0) {
            // It fails when the last reader has just gone, which is no failure.
            let _ = readers.send(event.object());
        }
        if state.kept.len() == KEPT_MAX {
            state.kept.pop_front();
        }
        state.kept.push_back(event);
    }

    /// Returns the kept events after `since`, and what comes next; nothing, after
    /// [`History::close`].
    ///
    /// A number that was never given comes from a predecessor of this manager: then everything that
    /// is kept is new to the reader.
    pub(crate) fn subscribe(
        &self,
        since: Option<&Since>,
    ) -> (Vec<Arc<EventObject>>, Option<Receiver>) {
        let state = self.lock();
        let is_new = |event: &&Kept| since.is_some_and(|since| event.is_after(since, state.last));
        let kept = state.kept.iter().filter(is_new).map(Kept::object).collect();
        (kept, state.readers.as_ref().map(broadcast::Sender::subscribe))
    }

    /// Ends every stream after what it has not read yet.
    pub(crate) fn close(&self) {
        self.lock().readers = None;
    }
}

/// Returns the event that tells a reader what it lost.
pub(crate) fn lost_event(sequence: u64, count: u64) -> EventObject {
    let text = format!("{count} events were lost: they were not read in time");
    EventObject { text, ..EventObject::new(sequence, WallClock::read().text(now()), "lost") }
}

fn now() -> keepd_model::Instant {
    keepd_os::clock::monotonic_now()
}

fn event_object(sequence: u64, news: &Announcement, clock: &WallClock) -> EventObject {
    let time = clock.text(news.at);
    let words = sentence(&news.what);
    let change_event = |event: &str, id: &ChangeId| EventObject {
        change: Some(id.to_string()),
        text: words.clone(),
        ..EventObject::new(sequence, time.clone(), event)
    };
    match &news.what {
        Happening::State { name, from, to, cause, generation, pid, ran, next_start } => {
            EventObject {
                service: Some(name.to_string()),
                from: Some(from.to_string()),
                to: Some(to.to_string()),
                reason: Some(cause.reason().to_string()),
                generation: Some(generation.get()),
                pid: pid.map(keepd_model::Pid::get),
                ran_s: ran.map(seconds),
                next_start: next_start.map(|at| clock.text(at)),
                text: format!("{name} {words}"),
                ..EventObject::new(sequence, time, "state")
            }
        }
        Happening::ChangeOpened(id) => change_event("change-opened", id),
        Happening::ChangeClosed(id) => change_event("change-closed", id),
        Happening::OutputBlocked { name, .. } => EventObject {
            service: Some(name.to_string()),
            text: format!("{name} {words}"),
            ..EventObject::new(sequence, time, "output-blocked")
        },
        Happening::Synchronised { adopted } => {
            // Who reads from here on must not take this for the beginning of everything.
            let lost = if *adopted > 0 { "; what the manager before it told is lost" } else { "" };
            let text = format!("{words}{lost}");
            EventObject { text, ..EventObject::new(sequence, time, "synchronised") }
        }
        Happening::ShutdownBegun(cause) => EventObject {
            reason: Some(cause.reason().to_string()),
            text: words,
            ..EventObject::new(sequence, time, "shutdown")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepd_model::Instant;

    fn add(history: &History, id: u64) {
        let what = Happening::ChangeOpened(ChangeId(id));
        let clock = WallClock::new(Instant::ZERO, 0);
        history.add(Announcement { at: Instant::ZERO, what }, clock);
    }

    #[test]
    fn readers_get_what_they_missed_and_what_comes() {
        let history = History::new();
        add(&history, 1);
        add(&history, 2);
        let (kept, receiver) = history.subscribe(Some(&Since::Sequence(1)));
        assert_eq!(kept.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2]);
        let mut receiver = receiver.unwrap();
        add(&history, 3);
        history.close();
        assert_eq!(receiver.try_recv().unwrap().change.as_deref(), Some("3"));
        assert!(matches!(receiver.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
        assert!(history.subscribe(None).1.is_none());
        assert_eq!(
            history.subscribe(Some(&Since::Sequence(99))).0.len(),
            3,
            "the number of another manager"
        );
    }

    #[test]
    fn a_successor_says_that_earlier_events_are_lost() {
        let text = |adopted| {
            let what = Happening::Synchronised { adopted };
            let news = Announcement { at: Instant::ZERO, what };
            event_object(1, &news, &WallClock::new(Instant::ZERO, 0)).text
        };
        assert_eq!(text(0), "keepd is in charge");
        let expected = "keepd is in charge again; 3 services ran on; \
                        what the manager before it told is lost";
        assert_eq!(text(3), expected);
    }

    #[test]
    fn events_are_found_by_their_time() {
        let history = History::new();
        for second in 0..4 {
            let what = Happening::ChangeOpened(ChangeId(second));
            let at = Instant::from_nanos(second * 1_000_000_000);
            history.add(Announcement { at, what }, WallClock::new(Instant::ZERO, 0));
        }
        let since = Since::parse("1970-01-01T02:00:02+02:00").unwrap();
        let (kept, _) = history.subscribe(Some(&since));
        assert_eq!(kept.iter().map(|event| event.sequence).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(Since::parse("17"), Ok(Since::Sequence(17)));
        for text in ["", "-1", "yesterday", "2026-11-21", "99999999999999999999"] {
            assert!(Since::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_oldest_events_are_forgotten() {
        let history = History::new();
        for id in 0..1_001 {
            add(&history, id);
        }
        let (kept, _) = history.subscribe(Some(&Since::Sequence(0)));
        assert_eq!((kept.len(), kept[0].sequence), (KEPT_MAX, 2));
    }
}
