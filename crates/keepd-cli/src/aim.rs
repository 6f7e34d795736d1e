//! The states that `wait` and `is` ask about.

use std::fmt;

use keepd_manager::api::types::ServiceObject;
use keepd_model::{Health, Kind, State};

use crate::error::{CliError, ErrorKind};

/// What a service shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// In this state. A oneshot that is done counts as ready, too: it is there for its dependents.
    State(State),
    /// Its checks answer.
    Healthy,
    /// Known to keepd, whatever it does.
    Any,
}

impl Aim {
    /// Returns every word.
    pub(crate) fn words() -> impl Iterator<Item = &'static str> {
        State::ALL.iter().map(|state| state.word()).chain(["healthy", "any"])
    }

    /// Returns the aim with this word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        match word {
            "healthy" => Some(Self::Healthy),
            "any" => Some(Self::Any),
            word => State::from_word(word).map(Self::State),
        }
    }

    /// Reads a word.
    ///
    /// # Errors
    /// There is no such state.
    pub(crate) fn parse(word: &str) -> Result<Self, CliError> {
        Self::from_word(word).ok_or_else(|| {
            let message = format!("cannot use \"{word}\" as a state: there is no such state");
            let hint = match keepd_plan::nearest(word, Self::words()) {
                Some(nearest) => format!("the nearest state is \"{nearest}\""),
                None => format!("states are: {}", Self::words().collect::<Vec<_>>().join(", ")),
            };
            CliError::new(ErrorKind::Usage, message).with_hint(hint)
        })
    }

    /// Reports whether a service is what it shall be.
    pub(crate) fn is_met(self, service: &ServiceObject) -> bool {
        let state = State::from_word(&service.state);
        match self {
            Self::State(State::Ready) if service.kind == Kind::Oneshot.word() => {
                matches!(state, Some(State::Ready | State::Done))
            }
            Self::State(wanted) => state == Some(wanted),
            Self::Healthy => service.health == Health::Healthy.word(),
            Self::Any => true,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::State(state) => state.word(),
            Self::Healthy => "healthy",
            Self::Any => "any",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::tests::service;

    #[test]
    fn every_word_is_its_own_aim() {
        for word in Aim::words() {
            assert_eq!(Aim::from_word(word).map(|aim| aim.to_string()).as_deref(), Some(word));
        }
        let error = Aim::parse("raedy").unwrap_err();
        assert_eq!(error.to_string(), "cannot use \"raedy\" as a state: there is no such state");
    }

    #[test]
    fn a_oneshot_that_is_done_is_ready() {
        let ready = Aim::State(State::Ready);
        let oneshot = ServiceObject { kind: "oneshot".to_owned(), ..service("migrate", "done") };
        assert!(ready.is_met(&oneshot) && Aim::State(State::Done).is_met(&oneshot));
        assert!(!ready.is_met(&service("web", "done")));
        assert!(ready.is_met(&service("web", "ready")));
        assert!(Aim::Any.is_met(&service("web", "failed")));
        assert!(!Aim::Healthy.is_met(&service("web", "ready")));
    }
}
