//! What a running program wrote so far, collected by a thread.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::Deadline;

/// The most that is kept of one stream; a test that writes more reads files.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// One stream of a running program. The default is one that is silent and never ends.
#[derive(Clone, Debug, Default)]
pub struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    collected: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Starts to collect a stream. The thread ends with the stream.
    pub(crate) fn collect(mut stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let output = Self { shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                let count = stream.read(&mut buffer).unwrap_or(0);
                let mut collected = lock(&shared.collected);
                if count == 0 {
                    collected.ended = true;
                } else if collected.bytes.len() < BYTES_MAX {
                    collected.bytes.extend_from_slice(&buffer[..count]);
                }
                shared.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        output
    }

    /// Returns everything so far.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.shared.collected).bytes.clone()
    }

    /// Returns everything so far as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared.collected).bytes).into_owned()
    }

    /// Waits until the text so far makes `condition` answer, and returns the answer.
    ///
    /// # Panics
    /// After `limit`, or at the end of the stream, with what there is.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let deadline = Deadline::after(limit);
        let mut collected = lock(&self.shared.collected);
        loop {
            let text = String::from_utf8_lossy(&collected.bytes).into_owned();
            if let Some(found) = condition(&text) {
                return found;
            }
            let why = match deadline.remaining() {
                _ if collected.ended => "it ended",
                None => "nothing more came",
                Some(remaining) => {
                    let waited = self.shared.changed.wait_timeout(collected, remaining);
                    collected = waited.expect("no collector panics").0;
                    continue;
                }
            };
            drop(collected);
            panic!("the output does not show {what}, and {why}:\n{text}");
        }
    }

    /// Waits for a line that `condition` likes, and returns it.
    ///
    /// # Panics
    /// After `limit`, or at the end of the stream.
    #[track_caller]
    pub fn wait_for_line(
        &self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&str) -> bool,
    ) -> String {
        self.wait_for(what, limit, |text| {
            let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            complete.lines().find(|line| condition(line)).map(str::to_owned)
        })
    }

    /// Waits until nobody can write to the stream any more. Returns `false` if somebody still can
    /// after `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        let mut collected = lock(&self.shared.collected);
        while !collected.ended {
            let Some(remaining) = deadline.remaining() else {
                return false;
            };
            let waited = self.shared.changed.wait_timeout(collected, remaining);
            collected = waited.expect("no collector panics").0;
        }
        true
    }
}

fn lock(collected: &Mutex<Collected>) -> MutexGuard<'_, Collected> {
    collected.lock().expect("no collector panics")
}
