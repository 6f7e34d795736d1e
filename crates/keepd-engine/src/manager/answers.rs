//! Answers to what people ask for. A promise is given only once a successor would keep it, too:
//! when the proxy has said that it has the notes behind it. A proxy that is lost before that is
//! told again.

use std::collections::VecDeque;

use keepd_model::ChangeId;
use keepd_model::protocol::RequestId;

use super::interface::{AskId, Output, Refusal};
use super::{Manager, Sent};

/// A promise that nobody has heard yet.
#[derive(Clone, Copy, Debug)]
struct Held {
    ask: AskId,
    change: ChangeId,
    /// The note whose answer it waits for; `None` while no proxy was told.
    behind: Option<RequestId>,
}

/// The promises that wait, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Answers {
    held: VecDeque<Held>,
}

impl Manager {
    /// Answers at once if this promises nothing, else as soon as the promise is safe.
    pub(super) fn answer(&mut self, ask: AskId, answer: Result<ChangeId, Refusal>) {
        match answer {
            Ok(change) => self.answers.held.push_back(Held { ask, change, behind: None }),
            Err(_) => self.outputs.push_back(Output::Answer { ask, answer }),
        }
    }

    /// Puts the promises of this turn behind the last note of it. Without one they are as safe as
    /// the newest promise before them: the same word was sent twice.
    pub(super) fn hold_answers(&mut self, last_note: Option<RequestId>) {
        let held = &mut self.answers.held;
        if held.iter().all(|held| held.behind.is_some()) {
            return;
        }
        let behind = last_note.or_else(|| held.iter().rev().find_map(|held| held.behind));
        let Some(behind) = behind else {
            return self.give_answers();
        };
        for held in held.iter_mut().filter(|held| held.behind.is_none()) {
            held.behind = Some(behind);
        }
        self.requests.insert(behind, Sent::Noted);
    }

    /// The proxy has answered a note: it has, or has refused for good, everything before it.
    pub(super) fn on_noted(&mut self, id: RequestId) {
        let is_safe = |held: &Held| held.behind.is_some_and(|behind| behind <= id);
        while self.answers.held.front().is_some_and(is_safe)
            && let Some(held) = self.answers.held.pop_front()
        {
            self.outputs.push_back(Output::Answer { ask: held.ask, answer: Ok(held.change) });
        }
    }

    /// Gives every answer: nothing is left that a successor could forget.
    pub(super) fn give_answers(&mut self) {
        for Held { ask, change, .. } in std::mem::take(&mut self.answers.held) {
            self.outputs.push_back(Output::Answer { ask, answer: Ok(change) });
        }
    }

    /// The proxy is lost, and nobody knows what it has written down.
    pub(super) fn doubt_notes(&mut self) {
        for held in &mut self.answers.held {
            held.behind = None;
        }
    }
}
