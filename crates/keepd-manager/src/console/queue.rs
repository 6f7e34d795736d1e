//! What waits to be shown. Whoever adds to it never waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use keepd_model::ServiceName;

use crate::logs::ServiceLog;

/// The most bytes of lines that wait. What comes beyond is counted and not shown.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// What waits, in order.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Services whose new output waits in `items`, and whether they ended: each waits at most
    /// once.
    outputs: BTreeMap<ServiceName, bool>,
    /// The last line of the terminal, if it is to be changed.
    live: Option<Option<String>>,
    closed: bool,
}

enum Item {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Follow(ServiceLog, u64),
    Output(ServiceName),
    Lost(u64),
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Write this to standard output.
    Out(Vec<u8>),
    /// Write this to standard error.
    Err(Vec<u8>),
    /// Begin to show the output of this service, from this wall time on.
    Follow(ServiceLog, u64),
    /// Show what is new of this service.
    Output {
        /// The service.
        name: ServiceName,
        /// Also what it left without a line feed.
        ended: bool,
    },
    /// This many lines were thrown away here.
    Lost(u64),
    /// Make this the last line of the terminal.
    Live(Option<String>),
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held cannot leave the plain data in it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds whole lines for standard output.
    pub(crate) fn push_out(&self, line: Vec<u8>) {
        self.push_line(line, Item::Out);
    }

    /// Adds whole lines for standard error.
    pub(crate) fn push_err(&self, line: Vec<u8>) {
        self.push_line(line, Item::Err);
    }

    fn push_line(&self, line: Vec<u8>, item: fn(Vec<u8>) -> Item) {
        let mut state = self.lock();
        if state.bytes + line.len() > QUEUE_BYTES_MAX {
            match state.items.back_mut() {
                Some(Item::Lost(count)) => *count += 1,
                Some(_) | None => state.items.push_back(Item::Lost(1)),
            }
        } else {
            state.bytes += line.len();
            state.items.push_back(item(line));
        }
        self.changed.notify_one();
    }

    /// Says that there is new output of a service; `ended`: and that there will be no more of this
    /// run.
    pub(crate) fn push_output(&self, name: &ServiceName, ended: bool) {
        let mut state = self.lock();
        match state.outputs.get_mut(name) {
            Some(known) => *known |= ended,
            None => {
                state.outputs.insert(name.clone(), ended);
                state.items.push_back(Item::Output(name.clone()));
            }
        }
        self.changed.notify_one();
    }

    /// Says where the output of a service is, and from which wall time on it is to be shown.
    pub(crate) fn push_follow(&self, log: ServiceLog, since_wall_ns: u64) {
        self.lock().items.push_back(Item::Follow(log, since_wall_ns));
        self.changed.notify_one();
    }

    /// Changes the last line of the terminal. Only the latest change counts.
    pub(crate) fn set_live(&self, line: Option<String>) {
        self.lock().live = Some(line);
        self.changed.notify_one();
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for something to do; `None` after everything is done and [`Queue::close`] was called.
    pub(crate) fn wait(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take() {
                return Some(work);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns something to do, if there is something now.
    pub(crate) fn take(&self) -> Option<Work> {
        self.lock().take()
    }
}

impl State {
    fn take(&mut self) -> Option<Work> {
        let Some(item) = self.items.pop_front() else {
            return self.live.take().map(Work::Live);
        };
        Some(match item {
            Item::Out(line) => {
                self.bytes -= line.len();
                Work::Out(line)
            }
            Item::Err(line) => {
                self.bytes -= line.len();
                Work::Err(line)
            }
            Item::Follow(log, since_wall_ns) => Work::Follow(log, since_wall_ns),
            Item::Output(name) => {
                let ended = self.outputs.remove(&name).unwrap_or(false);
                Work::Output { name, ended }
            }
            Item::Lost(count) => Work::Lost(count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    #[test]
    fn order_is_kept_and_output_of_a_service_waits_once() {
        let queue = Queue::new();
        queue.push_output(&name("web"), false);
        queue.push_out(b"a\n".to_vec());
        queue.push_output(&name("web"), true);
        queue.push_err(b"b\n".to_vec());
        queue.set_live(Some("one".into()));
        queue.set_live(Some("two".into()));
        queue.close();
        assert_eq!(queue.wait(), Some(Work::Output { name: name("web"), ended: true }));
        assert_eq!(queue.wait(), Some(Work::Out(b"a\n".to_vec())));
        queue.push_output(&name("web"), false);
        assert_eq!(queue.wait(), Some(Work::Err(b"b\n".to_vec())));
        assert_eq!(queue.wait(), Some(Work::Output { name: name("web"), ended: false }));
        assert_eq!(queue.wait(), Some(Work::Live(Some("two".into()))));
        assert_eq!(queue.wait(), None);
    }

    #[test]
    fn a_full_queue_counts_what_it_refuses() {
        let queue = Queue::new();
        let line = vec![b'x'; QUEUE_BYTES_MAX / 4];
        for _ in 0..7 {
            queue.push_out(line.clone());
        }
        queue.push_out(b"small\n".to_vec());
        for _ in 0..4 {
            assert_eq!(queue.take(), Some(Work::Out(line.clone())));
        }
        assert_eq!(queue.take(), Some(Work::Lost(4)));
        queue.push_out(b"small\n".to_vec());
        assert_eq!(queue.take(), Some(Work::Out(b"small\n".to_vec())));
        assert_eq!(queue.take(), None);
    }
}
