//! Descriptors behind the handles of the machine: made, taken, kept and closed as it asks.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use keepd_engine::proxy::{CallFailure, DescriptorId, Effect, Performed};
use keepd_model::{Errno, HandleKind, HandleName, HandleReport, OpenFlags};
use keepd_os::daemon::{self, Standard};
use keepd_os::handle::{self, Access, CallError, Inspection, Kind};

/// What inspection cannot tell.
const UNKNOWN: &[u8] = b"unknown";

/// Every descriptor that has a handle.
#[derive(Default)]
pub(crate) struct Descriptors {
    held: BTreeMap<DescriptorId, OwnedFd>,
    /// Those that are copies of our standard descriptors.
    standard: BTreeMap<DescriptorId, Standard>,
}

/// The descriptors of the start, and what the machine is told of them, in the same order.
pub(crate) struct Initial {
    pub(crate) reports: Vec<HandleReport>,
    /// Each with the standard descriptor that it is a copy of, if it is one.
    descriptors: Vec<(OwnedFd, Option<Standard>)>,
}

impl Initial {
    /// Begins with the handle that is always there: `null`.
    pub(crate) fn new(null: OwnedFd) -> Self {
        let mut initial = Self { reports: Vec::new(), descriptors: Vec::new() };
        let both = OpenFlags { read: true, write: true, ..OpenFlags::default() };
        initial.push("null", HandleKind::Special(both), b"/dev/null", (null, None));
        initial
    }

    /// Adds a descriptor that somebody else made, by looking at it. `standard`: it is a copy of
    /// that one.
    pub(crate) fn inherit(&mut self, name: &str, descriptor: OwnedFd, standard: Option<Standard>) {
        let kind = match handle::inspect(&descriptor) {
            Ok(inspection) => kind_of(inspection),
            // It was open a moment ago; nothing can be said of it.
            Err(_) => HandleKind::File(OpenFlags::default()),
        };
        self.push(name, kind, UNKNOWN, (descriptor, standard));
    }

    /// Puts another descriptor behind a name; what is told of it stays.
    pub(crate) fn redirect(&mut self, name: &str, descriptor: OwnedFd) {
        let position = self.reports.iter().position(|report| report.name.as_str() == name);
        if let Some(position) = position {
            self.descriptors[position] = (descriptor, None);
        }
    }

    fn push(
        &mut self,
        name: &str,
        kind: HandleKind,
        description: &[u8],
        descriptor: (OwnedFd, Option<Standard>),
    ) {
        let name = HandleName::new(name).expect("a name of our own is in the grammar");
        self.reports.push(HandleReport { name, kind, description: description.to_vec() });
        self.descriptors.push(descriptor);
    }

    /// Returns the table, numbered from 1 on as the machine numbers them.
    pub(crate) fn into_descriptors(self) -> Descriptors {
        let mut descriptors = Descriptors::default();
        for (id, (descriptor, standard)) in (1..).map(DescriptorId).zip(self.descriptors) {
            descriptors.held.insert(id, descriptor);
            descriptors.standard.extend(standard.map(|standard| (id, standard)));
        }
        descriptors
    }
}

impl Descriptors {
    /// Returns a descriptor that is there.
    pub(crate) fn get(&self, id: DescriptorId) -> Option<BorrowedFd<'_>> {
        self.held.get(&id).map(AsFd::as_fd)
    }

    /// Closes a descriptor. One of our standard descriptors is let go of too: who is at the other
    /// end of a pipe sees that it is closed.
    ///
    /// # Errors
    ///
    /// Says why that could not be.
    pub(crate) fn close(&mut self, id: DescriptorId) -> Result<(), Errno> {
        self.held.remove(&id);
        self.standard.remove(&id).map_or(Ok(()), daemon::replace_by_null)
    }

    /// Keeps the oldest descriptor that a connection sent.
    pub(crate) fn take(
        &mut self,
        id: DescriptorId,
        received: Option<&mut VecDeque<OwnedFd>>,
    ) -> Result<Performed, CallFailure> {
        let descriptor = received
            .and_then(VecDeque::pop_front)
            .ok_or(CallFailure { call: "no descriptor came with the message", errno: None })?;
        let kind = kind_of(handle::inspect(&descriptor).map_err(failure)?);
        self.held.insert(id, descriptor);
        Ok(Performed::Taken(kind))
    }

    /// Makes what can be made from nothing.
    pub(crate) fn make(&mut self, effect: &Effect) -> Result<Performed, CallFailure> {
        match effect {
            Effect::Open { descriptor, flags, path } => {
                let path = Path::new(OsStr::from_bytes(path));
                let made = handle::open(path, *flags).map_err(failure)?;
                self.held.insert(*descriptor, made);
            }
            Effect::Pipe { read, write, spec } => {
                let made = match spec.socket {
                    None => handle::pipe(spec.nonblock),
                    Some((domain, kind)) => handle::socket_pair(domain, kind, spec.nonblock),
                };
                let (first, second) = made.map_err(failure)?;
                self.held.insert(*read, first);
                self.held.insert(*write, second);
            }
            Effect::Socket { descriptor, spec } => {
                let made = handle::socket(spec).map_err(failure)?;
                self.held.insert(*descriptor, made);
            }
            Effect::Signal { .. }
            | Effect::Take { .. }
            | Effect::Chdir { .. }
            | Effect::Listen { .. } => {}
        }
        Ok(Performed::Done)
    }
}

/// Names the call for the answer.
pub(crate) fn failure(error: CallError) -> CallFailure {
    CallFailure { call: error.call, errno: Some(error.errno) }
}

/// Returns what a descriptor is, by what the kernel says of it.
fn kind_of(inspection: Inspection) -> HandleKind {
    let Inspection { access, append, nonblock, kind } = inspection;
    match kind {
        Kind::Socket { domain: Some(domain), kind: Some(kind), listening: _ } => {
            HandleKind::Socket { domain, kind, bind: false, listen: None, mkdir: false, nonblock }
        }
        Kind::Socket { .. }
        | Kind::File
        | Kind::Directory
        | Kind::Device
        | Kind::Pipe
        | Kind::Other => HandleKind::File(OpenFlags {
            read: matches!(access, Access::Read | Access::ReadWrite),
            write: matches!(access, Access::Write | Access::ReadWrite),
            append,
            nonblock,
            ..OpenFlags::default()
        }),
    }
}
