//! The queue of changes, made by the first who wants them.

#[cfg(not(feature = "lockfree-coordination"))]
use std::collections::VecDeque;

use super::types::SubsystemEvent;

/// So many changes wait for a reader; then the oldest are dropped.
const EVENTS_MAX: usize = 65_536;

/// The queue. With the feature `lockfree-coordination` it is a channel that others read from too.
#[derive(Debug)]
pub(super) struct Events {
    #[cfg(feature = "lockfree-coordination")]
    channel:
        (crossbeam_channel::Sender<SubsystemEvent>, crossbeam_channel::Receiver<SubsystemEvent>),
    #[cfg(not(feature = "lockfree-coordination"))]
    queue: VecDeque<SubsystemEvent>,
    dropped: u64,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(feature = "lockfree-coordination")]
            channel: crossbeam_channel::bounded(EVENTS_MAX),
            #[cfg(not(feature = "lockfree-coordination"))]
            queue: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Adds a change; where nobody reads, the oldest makes room for it.
    #[cfg(feature = "lockfree-coordination")]
    pub(super) fn push(&mut self, event: SubsystemEvent) {
        use crossbeam_channel::TrySendError;

        // Only this adds, under the lock of the manager; readers can only make more room.
        if let Err(TrySendError::Full(event)) = self.channel.0.try_send(event) {
            self.dropped += u64::from(self.channel.1.try_recv().is_ok());
            let sent = self.channel.0.try_send(event);
            debug_assert!(sent.is_ok(), "there is room");
        }
    }

    /// Adds a change; where nobody reads, the oldest makes room for it.
    #[cfg(not(feature = "lockfree-coordination"))]
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
        #[cfg(feature = "lockfree-coordination")]
        return self.channel.1.try_recv().ok();
        #[cfg(not(feature = "lockfree-coordination"))]
        self.queue.pop_front()
    }

    /// Returns one more reader of the same queue.
    #[cfg(feature = "lockfree-coordination")]
    pub(super) fn reader(&self) -> crossbeam_channel::Receiver<SubsystemEvent> {
        self.channel.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::subsystem::SubsystemState;

    #[test]
    fn the_oldest_make_room() {
        let mut events = Events::new();
        for id in 0..EVENTS_MAX as u64 + 2 {
            let (name, state, at) = (String::new(), SubsystemState::Running, Instant::now());
            events.push(SubsystemEvent::StateChanged { id, name, state, at });
        }
        assert_eq!(events.dropped, 2);
        let SubsystemEvent::StateChanged { id, .. } = events.pop().unwrap();
        assert_eq!((id, events.dropped), (2, 0));
    }
}
