//! What a front end in the same process may look at: everything that a dump would tell it, without
//! a copy.

use std::ops::Bound::{Excluded, Unbounded};

use keepd_model::protocol::{Attributes, LogTarget, RunReport};
use keepd_model::{HandleName, HandleReport, Instant, ServiceName, Signal};

use super::packed::Slots;
use super::service::Service;
use super::{DescriptorId, Proxy};

/// A service, looked at.
#[derive(Clone, Copy, Debug)]
pub struct ServiceDetails<'machine> {
    name: &'machine ServiceName,
    service: &'machine Service,
}

impl<'machine> ServiceDetails<'machine> {
    /// Returns its name.
    pub fn name(&self) -> &'machine ServiceName {
        self.name
    }

    /// Returns everything that is known of it.
    pub(super) fn service(&self) -> &'machine Service {
        self.service
    }

    /// Returns what it is doing, as an event would tell it.
    pub fn report(&self) -> RunReport {
        self.service.report(self.name)
    }

    /// Returns its process attributes.
    pub fn attributes(&self) -> &'machine Attributes {
        &self.service.attributes
    }

    /// Returns where its output goes.
    pub fn log(&self) -> &'machine LogTarget {
        &self.service.log
    }

    /// Returns program and arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &'machine [u8]> {
        self.service.arguments.iter()
    }

    /// Returns its tags.
    pub fn tags(&self) -> impl Iterator<Item = &'machine [u8]> {
        self.service.tags.iter()
    }

    /// Returns its descriptor list as the words of `service.fds`: names of handles, `-` for a
    /// closed place, an empty one for a skipped place. `None` if it was never set.
    pub fn fds(&self) -> Option<impl Iterator<Item = &'machine [u8]> + Clone> {
        self.service.fds.as_ref().map(Slots::words)
    }

    /// Returns the interval of `service.auto_up` in seconds, and its triggers as they were given.
    pub fn auto_up(&self) -> (u32, impl Iterator<Item = &'machine [u8]> + Clone) {
        (self.service.auto_up.seconds, self.service.auto_up.words.iter())
    }
}

impl Proxy {
    /// Returns how many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Returns a service.
    pub fn service(&self, name: &str) -> Option<ServiceDetails<'_>> {
        let (name, service) = self.services.get_key_value(name)?;
        Some(ServiceDetails { name, service })
    }

    /// Returns the first service behind a name, or the first of all.
    pub fn service_after(&self, name: Option<&ServiceName>) -> Option<ServiceDetails<'_>> {
        let next = match name {
            Some(name) => self.services.range::<ServiceName, _>((Excluded(name), Unbounded)).next(),
            None => self.services.first_key_value(),
        };
        next.map(|(name, service)| ServiceDetails { name, service })
    }

    /// Returns how many handles there are, the built-in ones included.
    pub fn handle_count(&self) -> usize {
        self.handles.len()
    }

    /// Returns a handle.
    pub fn handle(&self, name: &str) -> Option<HandleReport> {
        let (name, handle) = self.handles.get_key_value(name)?;
        Some(self.handle_report(name, handle))
    }

    /// Returns the handle that stands for a descriptor, if one does.
    pub fn handle_of(&self, descriptor: DescriptorId) -> Option<HandleReport> {
        let mut all = self.handles.iter();
        let found = all.find(|(_, handle)| handle.descriptor == Some(descriptor));
        found.map(|(name, handle)| self.handle_report(name, handle))
    }

    /// Returns the first handle behind a name, or the first of all.
    pub fn handle_after(&self, name: Option<&HandleName>) -> Option<HandleReport> {
        let next = match name {
            Some(name) => self.handles.range::<HandleName, _>((Excluded(name), Unbounded)).next(),
            None => self.handles.first_key_value(),
        };
        next.map(|(name, handle)| self.handle_report(name, handle))
    }

    /// Returns the guard code, if one is set.
    pub fn guard(&self) -> Option<i64> {
        self.guard
    }

    /// Returns the pending signals in the order of their last arrival: which, when, how many.
    pub fn pending_signals(&self) -> Vec<(Signal, Instant, u64)> {
        let mut pending: Vec<_> = self
            .signals
            .iter()
            .map(|(signal, pending)| (*signal, pending.at, pending.count))
            .collect();
        pending.sort_by_key(|(_, at, _)| *at);
        pending
    }
}
