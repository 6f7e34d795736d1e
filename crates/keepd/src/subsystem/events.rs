//! The queue of changes, made by the first who wants them.

use std::collections::VecDeque;

use super::types::SubsystemEvent;

/// So many changes wait for a reader; then the oldest are dropped.
pub(super) const EVENTS_MAX: usize = 65_536;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<SubsystemEvent>,
    dropped: u64,
}

impl Events {
    pub(super) fn push(&mut self, event: SubsystemEvent) {
        if self.queue.len() == EVENTS_MAX {
            self.queue.pop_front();
            self.dropped += 1;
        }
        self.queue.push_back(event);
    }

    /// Takes the oldest; says in the log what a slow reader has missed.
    pub(super) fn pop(&mut self) -> Option<SubsystemEvent> {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "Events of subsystems were dropped: nobody read them.");
        }
        self.queue.pop_front()
    }
}
