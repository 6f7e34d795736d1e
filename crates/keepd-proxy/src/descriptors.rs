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

use crate::estate::Label;
use crate::holder::{Held, Holder};

/// What inspection cannot tell.
const UNKNOWN: &[u8] = b"unknown";

/// Every descriptor that has a handle.
#[derive(Default)]
pub(crate) struct Descriptors {
    held: BTreeMap<DescriptorId, Held>,
    /// Those that are copies of our standard descriptors.
    standard: BTreeMap<DescriptorId, Standard>,
}

/// The descriptors of the start, and what the machine is told of them, in the same order.
pub(crate) struct Initial {
    pub(crate) reports: Vec<HandleReport>,
    /// Each with the standard descriptor that it is a copy of, if it is one.
    descriptors: Vec<(Held, Option<Standard>)>,
}

impl Initial {
    /// Begins with none: what a predecessor had is taken over ([`Initial::adopt`]).
    pub(crate) fn none() -> Self {
        Self { reports: Vec::new(), descriptors: Vec::new() }
    }

    /// Begins with the handle that is always there: `null`.
    pub(crate) fn new(null: OwnedFd) -> Self {
        let mut initial = Self::none();
        let both = OpenFlags { read: true, write: true, ..OpenFlags::default() };
        let null = (Held::alone(null), None);
        initial.push("null", HandleKind::Special(both), b"/dev/null", null);
        initial
    }

    /// Adds a descriptor that somebody else made, by looking at it. `standard`: it is a copy of
    /// that one.
    pub(crate) fn inherit(&mut self, name: &str, descriptor: OwnedFd, standard: Option<Standard>) {
        let name = HandleName::new(name).expect("a name of our own is in the grammar");
        self.reports.push(report_of(name, &descriptor));
        self.descriptors.push((Held::alone(descriptor), standard));
    }

    /// Goes on with a handle of a predecessor, as its label says.
    pub(crate) fn adopt(&mut self, report: HandleReport, standard: Option<u8>, descriptor: Held) {
        self.reports.push(report);
        self.descriptors.push((descriptor, standard.and_then(standard_of)));
    }

    /// Puts another descriptor behind a name; what is told of it stays.
    pub(crate) fn redirect(&mut self, name: &str, descriptor: OwnedFd) {
        let position = self.reports.iter().position(|report| report.name.as_str() == name);
        if let Some(position) = position {
            self.descriptors[position] = (Held::alone(descriptor), None);
        }
    }

    fn push(
        &mut self,
        name: &str,
        kind: HandleKind,
        description: &[u8],
        descriptor: (Held, Option<Standard>),
    ) {
        let name = HandleName::new(name).expect("a name of our own is in the grammar");
        self.reports.push(HandleReport { name, kind, description: description.to_vec() });
        self.descriptors.push(descriptor);
    }

    /// Returns the table, numbered from 1 on as the machine numbers them. Everything in it is held.
    pub(crate) fn into_descriptors(self, holder: &Holder) -> Descriptors {
        let mut descriptors = Descriptors::default();
        let both = self.reports.into_iter().zip(self.descriptors);
        for (id, (report, (descriptor, standard))) in (1..).map(DescriptorId).zip(both) {
            let label = Label::Handle {
                report: Box::new(report),
                standard: standard.map(|standard| standard as u8),
            };
            descriptors.held.insert(id, descriptor.held_by(holder, label));
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

    /// Lets the warden have a descriptor that was made or taken, now that the machine has given it
    /// a name.
    pub(crate) fn hold(&mut self, holder: &Holder, id: DescriptorId, report: HandleReport) {
        if let Some(descriptor) = self.held.remove(&id) {
            let label = Label::Handle { report: Box::new(report), standard: None };
            self.held.insert(id, descriptor.held_by(holder, label));
        }
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
        self.held.insert(id, Held::alone(descriptor));
        Ok(Performed::Taken(kind))
    }

    /// Makes what can be made from nothing.
    pub(crate) fn make(&mut self, effect: &Effect) -> Result<Performed, CallFailure> {
        match effect {
            Effect::Open { descriptor, flags, path } => {
                let path = Path::new(OsStr::from_bytes(path));
                let made = handle::open(path, *flags).map_err(failure)?;
                self.held.insert(*descriptor, Held::alone(made));
            }
            Effect::Pipe { read, write, spec } => {
                let made = match spec.socket {
                    None => handle::pipe(spec.nonblock),
                    Some((domain, kind)) => handle::socket_pair(domain, kind, spec.nonblock),
                };
                let (first, second) = made.map_err(failure)?;
                self.held.insert(*read, Held::alone(first));
                self.held.insert(*write, Held::alone(second));
            }
            Effect::Socket { descriptor, spec } => {
                let made = handle::socket(spec).map_err(failure)?;
                self.held.insert(*descriptor, Held::alone(made));
            }
            Effect::Signal { .. }
            | Effect::Take { .. }
            | Effect::Chdir { .. }
            | Effect::Listen { .. } => {}
        }
        Ok(Performed::Done)
    }
}

/// Returns the standard descriptor with this number.
fn standard_of(number: u8) -> Option<Standard> {
    let all = [Standard::Input, Standard::Output, Standard::Error];
    all.into_iter().find(|standard| *standard as u8 == number)
}

/// Names the call for the answer.
pub(crate) fn failure(error: CallError) -> CallFailure {
    CallFailure { call: error.call, errno: Some(error.errno) }
}

/// Returns what is told of a descriptor that somebody else made, by looking at it.
pub(crate) fn report_of(name: HandleName, descriptor: &OwnedFd) -> HandleReport {
    let kind = match handle::inspect(descriptor) {
        Ok(inspection) => kind_of(inspection),
        // It was open a moment ago; nothing can be said of it.
        Err(_) => HandleKind::File(OpenFlags::default()),
    };
    HandleReport { name, kind, description: UNKNOWN.to_vec() }
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use keepd_os::channel::Channel;

    use super::*;
    use crate::estate::Estate;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn handles_are_held_with_what_is_told_of_them_and_come_back() {
        let (ours, _theirs) = Channel::pair().unwrap();
        let holder = Holder::new(ours, Estate::default());
        let mut initial = Initial::new(null());
        initial.inherit("stdin", null(), Some(Standard::Input));
        let reports = initial.reports.clone();
        let mut first = initial.into_descriptors(&holder);
        let path = b"/dev/null".to_vec();
        let open = Effect::Open { descriptor: DescriptorId(3), flags: OpenFlags::default(), path };
        assert_eq!(first.make(&open), Ok(Performed::Done));
        let made = HandleReport { name: HandleName::new("made").unwrap(), ..reports[0].clone() };
        first.hold(&holder, DescriptorId(3), made.clone());
        let number = first.get(DescriptorId(3)).unwrap().as_raw_fd();
        let held = holder.with_estate(|estate| estate.held.clone()).unwrap();
        let label = Label::Handle { report: Box::new(made.clone()), standard: None };
        assert_eq!((held.len(), held.get(&number)), (3, Some(&label)));

        let mut initial = Initial::none();
        for label in held.into_values() {
            let Label::Handle { report, standard } = label else { panic!("{label:?}") };
            initial.adopt(*report, standard, Held::alone(null()));
        }
        // Their numbers are whatever was free.
        initial.reports.sort_by_key(|report| report.name.clone());
        let mut expected = [reports, vec![made]].concat();
        expected.sort_by_key(|report| report.name.clone());
        assert_eq!(initial.reports, expected);
        let second = initial.into_descriptors(&Holder::none());
        let standard: Vec<Standard> = second.standard.into_values().collect();
        assert_eq!(standard, [Standard::Input]);

        first.close(DescriptorId(3)).unwrap();
        assert_eq!(holder.with_estate(|estate| estate.held.len()), Some(2));
    }
}
