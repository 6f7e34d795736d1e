//! Named open descriptors (`fd.*`), and the lists that hand them to services (`service.fds`).
//!
//! The shell holds the descriptors, by number; here is what is known of each under its name. A
//! handle that is replaced under its name is another descriptor: who was started with the earlier
//! one keeps a copy of it.

use std::collections::BTreeMap;

use keepd_model::protocol::{Event, Fail, FailKind};
use keepd_model::{
    FdSlot, HandleKind, HandleName, HandleReport, LogLevel, OpenFlags, PipeEnd, PipeSpec,
    ServiceName, SocketSpec,
};

use super::commands::{Asker, fail};
use super::connections::Audience;
use super::packed::Slots;
use super::tickets::{Purpose, Undertaking};
use super::{
    ConnectionId, ControlEnd, DescriptorId, DescriptorList, DescriptorSource, Effect, Output, Proxy,
};

/// The most handles.
pub(super) const HANDLES_MAX: usize = 20_000;
/// The null device, the first handle of the start.
const NULL: &str = "null";
/// What is said of a descriptor that was not opened by a path or bound to an address by us.
const UNKNOWN: &[u8] = b"unknown";

/// The virtual handles: name, what is said of it, and what a service that lists it may do.
const CONTROL: [(&str, &str, ControlEnd); 3] = [
    ("control.cmd", "commands to the proxy", ControlEnd { commands: true, events: false }),
    ("control.event", "events of the proxy", ControlEnd { commands: false, events: true }),
    (
        "control.socket",
        "commands to the proxy and its events",
        ControlEnd { commands: true, events: true },
    ),
];

/// What is known of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    /// What the shell holds; `None` for the virtual ones.
    pub(super) descriptor: Option<DescriptorId>,
    pub(super) kind: HandleKind,
    description: Description,
}

/// What a report says of a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Description {
    Text(Box<[u8]>),
    /// The other end of a pipe, as long as this name is that descriptor.
    Peer(HandleName, DescriptorId),
}

impl Handle {
    fn new(descriptor: DescriptorId, kind: HandleKind, description: Vec<u8>) -> Self {
        let description = Description::Text(description.into());
        Self { descriptor: Some(descriptor), kind, description }
    }
}

/// Returns what a virtual handle lets a service do.
fn control_end(name: &HandleName) -> Option<ControlEnd> {
    CONTROL.iter().find(|(control, ..)| *control == name.as_str()).map(|(.., end)| *end)
}

/// Returns the virtual handles and those of the start, whose descriptors are numbered from 1. Two
/// ends of a pipe that name each other are those of one pipe, made by a predecessor.
pub(super) fn initial(reports: Vec<HandleReport>) -> BTreeMap<HandleName, Handle> {
    let ends: BTreeMap<&[u8], (&HandleReport, u64)> = reports
        .iter()
        .zip(1..)
        .filter(|(report, _)| matches!(report.kind, HandleKind::Pipe { .. }))
        .map(|(report, number)| (report.name.as_str().as_bytes(), (report, number)))
        .collect();
    let peers: Vec<Option<Description>> = reports
        .iter()
        .map(|report| {
            let (peer, number) = *ends.get(report.description.as_slice())?;
            let is_pair = peer.description == report.name.as_str().as_bytes()
                && peer.name != report.name
                && ends.contains_key(report.name.as_str().as_bytes());
            is_pair.then(|| Description::Peer(peer.name.clone(), DescriptorId(number)))
        })
        .collect();
    let held = (1..).zip(reports.into_iter().zip(peers)).map(|(number, (report, peer))| {
        let mut handle = Handle::new(DescriptorId(number), report.kind, report.description);
        handle.description = peer.unwrap_or(handle.description);
        (report.name, handle)
    });
    let control = CONTROL.iter().map(|(name, description, end)| {
        let flags = OpenFlags { read: end.events, write: end.commands, ..OpenFlags::default() };
        let handle = Handle {
            descriptor: None,
            kind: HandleKind::Special(flags),
            description: Description::Text(description.as_bytes().into()),
        };
        (HandleName::new(name).expect("a virtual handle has a valid name"), handle)
    });
    held.chain(control).collect()
}

/// Returns the refusal of what `verb` wanted to do with a handle.
pub(super) fn handle_refusal(
    verb: &str,
    name: &HandleName,
    kind: FailKind,
    why: impl std::fmt::Display,
) -> Fail {
    fail(kind, format!("cannot {verb} handle \"{name}\": {why}"))
}

/// Refuses what would change a built-in handle.
fn check_alterable(verb: &str, name: &HandleName) -> Result<(), Fail> {
    if name.as_str() == NULL || control_end(name).is_some() {
        let why = "it is built in and not alterable";
        return Err(handle_refusal(verb, name, FailKind::Malformed, why));
    }
    Ok(())
}

impl Proxy {
    /// `fd.open`.
    pub(super) fn open_handle(
        &mut self,
        asker: Asker,
        name: HandleName,
        mut flags: OpenFlags,
        path: Vec<u8>,
    ) -> Result<(), Fail> {
        self.check_makeable("open", &[&name])?;
        flags.read |= !flags.write;
        let descriptor = self.next_descriptor();
        let handle = Handle::new(descriptor, HandleKind::File(flags), self.description_of(&path));
        let purpose = Purpose::Handles(vec![(name, handle)]);
        self.perform(
            Effect::Open { descriptor, flags, path },
            Undertaking { asker: Some(asker), purpose },
        );
        Ok(())
    }

    /// `fd.pipe`.
    pub(super) fn make_pipe(
        &mut self,
        asker: Asker,
        read_name: HandleName,
        write_name: HandleName,
        spec: PipeSpec,
    ) -> Result<(), Fail> {
        if read_name == write_name {
            let why = "the ends of a pipe have two names";
            return Err(handle_refusal("make", &read_name, FailKind::Malformed, why));
        }
        self.check_makeable("make", &[&read_name, &write_name])?;
        let (read, write) = (self.next_descriptor(), self.next_descriptor());
        let end = |descriptor, end, peer: &HandleName, other| Handle {
            descriptor: Some(descriptor),
            kind: HandleKind::Pipe { end, spec },
            description: Description::Peer(peer.clone(), other),
        };
        // Both ends of a socket pair are read and written.
        let first = if spec.socket.is_some() { PipeEnd::To } else { PipeEnd::From };
        let ends =
            [end(read, first, &write_name, write), end(write, PipeEnd::To, &read_name, read)];
        let purpose = Purpose::Handles([read_name, write_name].into_iter().zip(ends).collect());
        self.perform(
            Effect::Pipe { read, write, spec },
            Undertaking { asker: Some(asker), purpose },
        );
        Ok(())
    }

    /// `fd.socket`.
    pub(super) fn make_socket(
        &mut self,
        asker: Asker,
        name: HandleName,
        spec: SocketSpec,
    ) -> Result<(), Fail> {
        self.check_makeable("make", &[&name])?;
        let descriptor = self.next_descriptor();
        let kind = HandleKind::Socket {
            domain: spec.domain,
            kind: spec.kind,
            bind: spec.bind.is_some(),
            listen: spec.listen,
            mkdir: spec.mkdir,
            nonblock: spec.nonblock,
        };
        let handle = Handle::new(descriptor, kind, self.description_of(&spec.address_text));
        let purpose = Purpose::Handles(vec![(name, handle)]);
        self.perform(
            Effect::Socket { descriptor, spec },
            Undertaking { asker: Some(asker), purpose },
        );
        Ok(())
    }

    /// `fd.take`. What it is, the shell finds out.
    pub(super) fn take_descriptor(
        &mut self,
        asker: Asker,
        connection: ConnectionId,
        name: HandleName,
    ) -> Result<(), Fail> {
        self.check_makeable("take", &[&name])?;
        let descriptor = self.next_descriptor();
        let kind = HandleKind::File(OpenFlags::default());
        let handle = Handle::new(descriptor, kind, UNKNOWN.to_vec());
        let purpose = Purpose::Handles(vec![(name, handle)]);
        self.perform(
            Effect::Take { descriptor, connection },
            Undertaking { asker: Some(asker), purpose },
        );
        Ok(())
    }

    /// `fd.delete`.
    pub(super) fn delete_handle(&mut self, asker: Asker, name: HandleName) -> Result<(), Fail> {
        check_alterable("delete", &name)?;
        let Some(handle) = self.handles.remove(&name) else {
            let why = "it does not exist";
            return Err(handle_refusal("delete", &name, FailKind::Malformed, why));
        };
        self.follow_log_handle(&name);
        self.close_handle(&handle);
        self.accept(asker);
        self.broadcast(&Event::HandleDeleted(name), Audience::Everyone);
        Ok(())
    }

    /// The descriptors were made: handles of these names are replaced.
    pub(super) fn install_handles(&mut self, asker: Asker, made: Vec<(HandleName, Handle)>) {
        let names: Vec<HandleName> = made.iter().map(|(name, _)| name.clone()).collect();
        for (name, handle) in made {
            let replaced = self.handles.insert(name.clone(), handle);
            self.follow_log_handle(&name);
            if let Some(replaced) = replaced {
                self.close_handle(&replaced);
            }
        }
        self.accept(asker);
        for name in names {
            if let Some(report) = self.handle(name.as_str()) {
                self.broadcast(&Event::Handle(report), Audience::Everyone);
            }
        }
    }

    /// Returns the report of a handle.
    pub(super) fn handle_report(&self, name: &HandleName, handle: &Handle) -> HandleReport {
        let description = match &handle.description {
            Description::Text(text) => text.to_vec(),
            Description::Peer(peer, descriptor) => {
                let other = self.handles.get(peer).and_then(|other| other.descriptor);
                if other == Some(*descriptor) {
                    peer.as_str().as_bytes().to_vec()
                } else {
                    b"?".to_vec()
                }
            }
        };
        HandleReport { name: name.clone(), kind: handle.kind.clone(), description }
    }

    /// Returns where the places of a list come from at this moment. What is skipped or missing goes
    /// to the log.
    pub(super) fn descriptors_for(&mut self, name: &ServiceName, slots: &Slots) -> DescriptorList {
        let mut sources = Vec::new();
        let mut control: Option<ControlEnd> = None;
        for slot in slots.unpack() {
            let handle = match slot {
                FdSlot::Closed => {
                    sources.push(DescriptorSource::Closed);
                    continue;
                }
                FdSlot::Skipped => {
                    let text = format!(
                        "an empty name in the descriptor list of service \"{name}\" is skipped"
                    );
                    self.log(LogLevel::Warning, text);
                    continue;
                }
                FdSlot::Handle(handle) => handle,
            };
            let held = self.handles.get(&handle).and_then(|handle| handle.descriptor);
            sources.push(match (control_end(&handle), held) {
                (Some(end), _) => {
                    let so_far = control.unwrap_or(ControlEnd { commands: false, events: false });
                    control = Some(ControlEnd {
                        commands: so_far.commands || end.commands,
                        events: so_far.events || end.events,
                    });
                    DescriptorSource::Control
                }
                (None, Some(descriptor)) => DescriptorSource::Held(descriptor),
                (None, None) => {
                    let text = format!(
                        "cannot give handle \"{handle}\" to service \"{name}\": it does not exist"
                    );
                    self.log(LogLevel::Error, text);
                    DescriptorSource::Missing
                }
            });
        }
        DescriptorList { sources, control }
    }

    /// Refuses handles that cannot be made, whatever the kernel says.
    fn check_makeable(&self, verb: &str, names: &[&HandleName]) -> Result<(), Fail> {
        let mut new = 0;
        for name in names {
            check_alterable(verb, name)?;
            new += usize::from(!self.handles.contains_key(*name));
        }
        let promised: usize =
            self.tickets.values().map(|undertaking| undertaking.purpose.handle_count()).sum();
        if new > 0 && self.handles.len() + promised + new > HANDLES_MAX {
            let text = format!(
                "cannot allocate a new file descriptor object: there are {HANDLES_MAX} already"
            );
            return Err(fail(FailKind::Limit, text));
        }
        Ok(())
    }

    /// Returns what is kept of a path or an address.
    fn description_of(&self, text: &[u8]) -> Vec<u8> {
        let most = self.settings.description_bytes_max.unwrap_or(usize::MAX);
        text[..text.len().min(most)].to_vec()
    }

    fn next_descriptor(&mut self) -> DescriptorId {
        self.descriptors_made += 1;
        DescriptorId(self.descriptors_made)
    }

    fn close_handle(&mut self, handle: &Handle) {
        let close = handle.descriptor.map(|descriptor| Output::CloseDescriptor { descriptor });
        self.outputs.extend(close);
    }
}
