//! Fixed numbers of things: what a command would need of the tables, and whether there is so much.
//!
//! A command is refused before the core hears of it, so that what was there stays.

use keepd_engine::proxy::Proxy;
use keepd_model::{FdSlot, ServiceName};
use keepd_wire::words;

/// A fixed number of things, and how many bytes of variable data each may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// How many.
    pub count: usize,
    /// The bytes of each.
    pub bytes: usize,
}

/// What the front end is made with. Without a pool, tables grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--service-pool`.
    pub services: Option<Pool>,
    /// `--fd-pool`.
    pub handles: Option<Pool>,
}

/// A list of a service that counts for its place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// `service.args`.
    Args,
    /// `service.fds`.
    Fds,
    /// `service.tags`.
    Tags,
    /// The triggers of `service.auto_up`.
    Triggers,
}

impl List {
    const ALL: [Self; 4] = [Self::Args, Self::Fds, Self::Tags, Self::Triggers];

    const fn word(self) -> &'static str {
        match self {
            Self::Args => "args",
            Self::Fds => "fds",
            Self::Tags => "tags",
            Self::Triggers => "triggers",
        }
    }

    /// Returns what this list of a service takes now.
    fn bytes_of(self, core: &Proxy, name: &ServiceName) -> usize {
        let Some(service) = core.service(name.as_str()) else {
            return 0;
        };
        match self {
            Self::Args => bytes(service.arguments()),
            Self::Fds => service.fds().map_or(0, bytes),
            Self::Tags => bytes(service.tags()),
            Self::Triggers => bytes(service.auto_up().1),
        }
    }
}

/// Returns what a list takes: its bytes, and one for the end of each word.
pub(crate) fn bytes<'word>(words: impl IntoIterator<Item = &'word [u8]>) -> usize {
    words.into_iter().map(|word| word.len() + 1).sum()
}

/// Returns what a descriptor list takes.
pub(crate) fn fds_bytes(slots: &[FdSlot]) -> usize {
    slots.iter().map(|slot| words::fd_slot_word(slot).len() + 1).sum()
}

/// What there is to give.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) limits: Limits,
}

impl Resources {
    /// Reports whether there may be one more service.
    pub(crate) fn new_service(&self, core: &Proxy) -> Result<(), String> {
        match self.limits.services {
            Some(pool) if core.service_count() >= pool.count => Err(format!(
                "cannot allocate a new service: all {} of the pool are in use",
                pool.count
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Reports whether a list of a service may become this long.
    pub(crate) fn list(
        &self,
        core: &Proxy,
        name: &ServiceName,
        list: List,
        bytes: usize,
    ) -> Result<(), String> {
        let Some(pool) = self.limits.services else {
            return Ok(());
        };
        // A list that becomes shorter takes nothing from anybody.
        if bytes <= list.bytes_of(core, name) {
            return Ok(());
        }
        let others = List::ALL.into_iter().filter(|other| *other != list);
        let needed = bytes + others.map(|other| other.bytes_of(core, name)).sum::<usize>();
        if needed > pool.bytes {
            let word = list.word();
            return Err(format!(
                "cannot store the {word} of service \"{name}\": with them it needs {needed} bytes, \
                 and the pool has {} for each service",
                pool.bytes
            ));
        }
        Ok(())
    }

    /// Reports whether there may be so many more handles. One that replaces another counts too, as
    /// it is made before the other one goes.
    pub(crate) fn new_handles(&self, core: &Proxy, count: usize) -> Result<(), String> {
        let what = match count {
            1 => "a new file descriptor object",
            _ => "the file descriptor objects of both ends",
        };
        match self.limits.handles {
            Some(pool) if core.handle_count() + count > pool.count => Err(format!(
                "cannot allocate {what}: {} of the {} in the pool are in use",
                core.handle_count(),
                pool.count
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Reports whether all memory was taken at the start: both tables are fixed.
    pub(crate) fn are_static(&self) -> bool {
        self.limits.services.is_some() && self.limits.handles.is_some()
    }

    /// Returns how much of a handle's description is shown.
    pub(crate) fn description_bytes_max(&self) -> Option<usize> {
        self.limits.handles.map(|pool| pool.bytes)
    }
}
