//! Our own watchdog: a thread that sees that the loop of the daemon, and so its runtime, no longer
//! answers.
//!
//! A supervisor's watchdog sees the same, because the loop that is blocked does not say that it is
//! alive; this one is for daemons that run alone, and says in their log what happened.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Error, ErrorCode, Result};

/// The loop has to answer so often within the time of the watchdog.
const BEATS: u32 = 4;

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    beats: Arc<Beats>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Beats {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    count: u64,
    is_over: bool,
}

/// What the thread reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// There was no answer for the time of the watchdog.
    Stalled,
    /// There is one again.
    Recovered,
}

/// What was heard in one of the parts of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slice {
    Beat,
    Silent,
    /// The thread itself did not run: the process was stopped, or the machine was asleep. The loop
    /// could not answer either, and gets its whole time again.
    Stopped,
}

/// How long there was no answer.
#[derive(Debug, Default)]
struct Silence {
    slices: u32,
    is_stalled: bool,
}

impl Silence {
    fn after(&mut self, slice: Slice) -> Option<News> {
        match slice {
            Slice::Beat => {
                self.slices = 0;
                std::mem::take(&mut self.is_stalled).then_some(News::Recovered)
            }
            Slice::Stopped => {
                self.slices = 0;
                None
            }
            Slice::Silent => {
                self.slices = self.slices.saturating_add(1);
                let is_new = self.slices >= BEATS && !self.is_stalled;
                self.is_stalled |= is_new;
                is_new.then_some(News::Stalled)
            }
        }
    }
}

impl Watchdog {
    /// Starts the thread, which calls `report` where there was no beat for so long.
    ///
    /// # Errors
    ///
    /// Fails where the thread cannot be made.
    pub(super) fn start(time: Duration, report: impl Fn(News) + Send + 'static) -> Result<Self> {
        let beats = Arc::new(Beats::default());
        let watched = Arc::clone(&beats);
        let thread = std::thread::Builder::new().name("keepd-watchdog".to_owned());
        let thread = thread.spawn(move || watched.watch(time, report)).map_err(|error| {
            let message = format!("cannot start the thread of the watchdog: {error}");
            Error::runtime_with_code(ErrorCode::RuntimeSpawnError, message)
        })?;
        Ok(Self { beats, thread: Some(thread) })
    }

    /// Returns how often [`beat`](Self::beat) is to be called.
    pub(super) fn period(time: Duration) -> Duration {
        (time / BEATS).max(Duration::from_millis(1))
    }

    /// Says that the loop answers.
    pub(super) fn beat(&self) {
        let mut state = self.beats.lock();
        state.count = state.count.wrapping_add(1);
        drop(state);
        self.beats.changed.notify_one();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.beats.lock().is_over = true;
        self.beats.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends at the next instruction; a panic of it was printed.
            drop(thread.join());
        }
    }
}

impl Beats {
    /// Two numbers cannot be left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, time: Duration, report: impl Fn(News)) {
        let length = Watchdog::period(time);
        let mut silence = Silence::default();
        let mut seen = 0;
        loop {
            let begun = Instant::now();
            let State { count, is_over } = self.wait(seen, length);
            if is_over {
                return;
            }
            let slice = if count != seen {
                Slice::Beat
            } else if begun.elapsed() > length * 2 {
                Slice::Stopped
            } else {
                Slice::Silent
            };
            seen = count;
            if let Some(news) = silence.after(slice) {
                report(news);
            }
        }
    }

    /// Waits for a count other than this, at most for so long.
    fn wait(&self, seen: u64, time: Duration) -> State {
        let deadline = Instant::now().checked_add(time);
        let mut state = self.lock();
        while state.count == seen && !state.is_over {
            // A time beyond the end of the clock is none.
            let left = deadline.map_or(time, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *state
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_process_that_was_stopped_gets_its_whole_time_again() {
        use Slice::{Beat, Silent, Stopped};

        let mut silence = Silence::default();
        let news = [Silent, Silent, Silent, Stopped, Silent, Silent, Silent, Silent, Silent, Beat];
        let news = news.map(|slice| silence.after(slice));
        let stalled = news.iter().position(|news| *news == Some(News::Stalled));
        assert_eq!(stalled, Some(7), "the fourth after the stop");
        assert_eq!(news[9], Some(News::Recovered));
        assert_eq!(news.iter().flatten().count(), 2);
    }

    #[test]
    fn silence_is_reported_once_and_so_is_its_end() {
        let (sender, news) = mpsc::channel();
        let time = Duration::from_millis(20);
        let watchdog = Watchdog::start(time, move |news| sender.send(news).unwrap()).unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(news.recv_timeout(long), Ok(News::Stalled));
        watchdog.beat();
        assert_eq!(news.recv_timeout(long), Ok(News::Recovered));
        assert_eq!(news.recv_timeout(long), Ok(News::Stalled));
        drop(watchdog);
        assert_eq!(news.recv_timeout(long), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn one_that_hears_from_us_is_silent_and_ends_at_once() {
        let (sender, news) = mpsc::channel();
        let day = Duration::from_secs(86_400);
        let watchdog = Watchdog::start(day, move |news| sender.send(news).unwrap()).unwrap();
        watchdog.beat();
        drop(watchdog);
        assert_eq!(news.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_eq!(Watchdog::period(day), day / 4);
    }
}
