//! Colours of words. A colour never says more than the word.

use keepd_model::State;

/// How a text is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// All is well.
    Good,
    /// Something is on its way.
    Moving,
    /// Something is wrong.
    Bad,
    /// Not important now.
    Dim,
    /// A heading.
    Strong,
}

impl Paint {
    /// Returns the text with the escape sequences of this paint.
    pub(crate) fn apply(self, text: &str) -> String {
        let number = match self {
            Self::Good => 32,
            Self::Moving => 33,
            Self::Bad => 31,
            Self::Dim => 2,
            Self::Strong => 1,
        };
        format!("\x1b[{number}m{text}\x1b[0m")
    }

    /// Returns the paint of a state.
    pub(crate) fn of_state(state: State) -> Self {
        match state {
            State::Ready | State::Done => Self::Good,
            State::Waiting
            | State::Scheduled
            | State::Starting
            | State::Stopping
            | State::Backoff => Self::Moving,
            State::Failed | State::Stuck | State::Unknown => Self::Bad,
            State::Stopped => Self::Dim,
        }
    }
}
