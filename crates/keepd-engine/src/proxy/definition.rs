//! What setters say of a service: stored, told, and written down in the same way for all.

use std::sync::Arc;

use keepd_model::FdSlot;
use keepd_model::ServiceName;
use keepd_model::protocol::{Attributes, Environment, Event, LogTarget};

use super::packed::{Changes, Slots, Words};
use super::service::{Note, Service};

/// A value that replaces another one.
#[derive(Debug)]
pub(super) enum Definition {
    Arguments(Vec<Vec<u8>>),
    Tags(Vec<Vec<u8>>),
    Attributes(Arc<Attributes>),
    Environment(Environment),
    Log(LogTarget),
    Descriptors(Vec<FdSlot>),
}

impl Definition {
    /// Stores it.
    pub(super) fn apply(&self, service: &mut Service) {
        match self {
            Self::Arguments(arguments) => service.arguments = Words::new(arguments),
            Self::Tags(tags) => service.tags = Words::new(tags),
            Self::Attributes(attributes) => service.attributes = Arc::clone(attributes),
            Self::Environment(environment) => service.environment = Changes::new(environment),
            Self::Log(log) => service.log.clone_from(log),
            Self::Descriptors(slots) => service.fds = Some(Slots::new(slots)),
        }
    }

    /// Reports whether a lease ends with it: the next start is one of another program, and somebody
    /// has to know that.
    pub(super) const fn ends_lease(&self) -> bool {
        match self {
            Self::Arguments(_)
            | Self::Attributes(_)
            | Self::Environment(_)
            | Self::Log(_)
            | Self::Descriptors(_) => true,
            Self::Tags(_) => false,
        }
    }

    /// Returns the event that tells it.
    pub(super) fn into_event(self, name: ServiceName) -> Event {
        match self {
            Self::Arguments(arguments) => Event::Args(name, arguments),
            Self::Tags(tags) => Event::Tags(name, tags),
            Self::Attributes(attributes) => Event::Set(name, attributes),
            Self::Environment(environment) => Event::Env(name, environment),
            Self::Log(log) => Event::Log(name, log),
            Self::Descriptors(slots) => Event::Fds(name, slots),
        }
    }
}

impl Service {
    /// Keeps a note, or forgets it if the value is empty. With `None` nothing is kept: there are
    /// `most` already.
    pub(super) fn keep_note(&mut self, key: &str, value: Vec<u8>, most: usize) -> Option<()> {
        let notes = &mut self.notes;
        match (notes.binary_search_by(|note| (*note.key).cmp(key)), value.is_empty()) {
            (Ok(position), true) => {
                notes.remove(position);
            }
            (Err(_), true) => {}
            (Ok(position), false) => notes[position].value = value.into(),
            (Err(_), false) if notes.len() >= most => return None,
            (Err(position), false) => {
                let note = Note { key: key.into(), value: value.into() };
                notes.reserve_exact(1);
                notes.insert(position, note);
            }
        }
        Some(())
    }
}
