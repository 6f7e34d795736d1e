//! What a warden hands to the proxy that it starts: the connection to it, the descriptors that it
//! holds, and the ledger that a predecessor left. Here they are sorted; nothing is changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use keepd_model::protocol::Stream;
use keepd_model::{Errno, Generation, HandleReport, Instant, Pid, ServiceName};
use keepd_os::channel::Channel;
use keepd_os::memfd;
use keepd_os::pipe::LogPipe;

use crate::channel::ToWarden;
use crate::descriptors::Initial;
use crate::estate::{ESTATE_BYTES_MAX, Estate, Label};
use crate::holder::{Held, Holder};
use crate::ledger::{self, LedgerError, Resumed};
use crate::link::Link;
use crate::options::Options;

/// The handle that machines begin with.
const NULL: &str = "null";
/// Bad file descriptor.
const EBADF: Errno = Errno(9);

/// Everything that was handed to us.
pub(crate) struct Legacy {
    pub(crate) link: Link,
    /// Where the ledger is, or will be.
    pub(crate) run_dir: PathBuf,
    /// Whose it is.
    pub(crate) instance: String,
    /// The ledger of a predecessor, if there was one.
    pub(crate) resumed: Option<Box<Resumed>>,
    /// A predecessor and what it had open are there. Where warden and proxy were lost together, the
    /// ledger is all that is left.
    pub(crate) goes_on: bool,
    pub(crate) left: Left,
    /// The control socket, and where its file is.
    pub(crate) listener: Option<(PathBuf, Held)>,
    /// Handles, each with the standard descriptor that it is a copy of.
    handles: Vec<(HandleReport, Option<u8>, Held)>,
}

/// What a predecessor left open.
#[derive(Default)]
pub(crate) struct Left {
    /// Our sides of the pipes with output.
    pub(crate) logs: BTreeMap<ServiceName, Vec<(Stream, LogPipe<Held>)>>,
    pub(crate) notify: Vec<(ServiceName, Held)>,
    /// Our sides of the pipes of `ready_fd`.
    pub(crate) ready: Vec<(ServiceName, Generation, Held)>,
    /// What ran when it was lost.
    pub(crate) pidfds: BTreeMap<Pid, Held>,
    /// When it was lost.
    pub(crate) lost_at: Option<Instant>,
}

impl Legacy {
    /// Sorts what a warden left open for us; returns what is not of it, too.
    ///
    /// # Errors
    ///
    /// Why nothing can be done with it, in one sentence. Nothing was touched.
    pub(crate) fn take(
        options: &Options,
        mut inherited: Vec<OwnedFd>,
    ) -> Result<(Vec<OwnedFd>, Self), String> {
        let file = take_out(&mut inherited, options.estate, "the file")?;
        let channel = take_out(&mut inherited, options.channel, "the connection")?;
        let lines = memfd::read_all(&file, ESTATE_BYTES_MAX)
            .map_err(|error| format!("cannot read what the warden holds: {error}"))?;
        let run_dir = options.run_dir.clone().unwrap_or_default();
        let instance = options.instance.clone();
        let instance = instance.unwrap_or_else(|| run_dir.to_string_lossy().into_owned());
        let channel = Channel::from(channel);
        let resumed =
            ledger::resume(&run_dir, &instance).map_err(|error| refuse(&channel, &error))?;
        let estate = Estate::read(&lines);
        let lost_at = estate.deaths.back().copied();
        let holder = Holder::new(channel, estate);
        let inheritance = holder.inherit(inherited);
        let mut legacy = Self {
            link: Link::new(holder, file),
            run_dir,
            instance,
            resumed: resumed.map(Box::new),
            goes_on: false,
            left: Left { lost_at, ..Left::default() },
            listener: None,
            handles: Vec::new(),
        };
        for (label, held) in inheritance.held.into_values() {
            legacy.keep(label, held);
        }
        // There is no proxy without handles.
        legacy.goes_on = legacy.resumed.is_some() && !legacy.handles.is_empty();
        if legacy.resumed.is_none() {
            // A predecessor, if there was one, came not so far that anybody knows of it: what it
            // had is made anew.
            legacy.left = Left::default();
            legacy.listener = None;
        }
        Ok((inheritance.rest, legacy))
    }

    /// Returns the handles of a predecessor, whatever we were started with; the null device first.
    pub(crate) fn take_handles(&mut self) -> Initial {
        let mut initial = Initial::none();
        self.handles.sort_by_key(|(report, ..)| report.name.as_str() != NULL);
        self.add_handles(&mut initial);
        initial
    }

    /// Adds what the warden itself was started with to the handles of a first start.
    pub(crate) fn add_handles(&mut self, initial: &mut Initial) {
        for (report, standard, descriptor) in self.handles.drain(..) {
            if !initial.reports.iter().any(|known| known.name == report.name) {
                initial.adopt(report, standard, descriptor);
            }
        }
    }

    fn keep(&mut self, label: Label, held: Held) {
        let left = &mut self.left;
        match label {
            Label::Lock => self.link.lock = Some(held),
            Label::Listener { path } => {
                self.listener = Some((PathBuf::from(OsString::from_vec(path)), held));
            }
            Label::Log { service, stream } => {
                left.logs.entry(service).or_default().push((stream, LogPipe::adopt(held)));
            }
            Label::Notify { service } => left.notify.push((service, held)),
            Label::Ready { service, generation } => left.ready.push((service, generation, held)),
            Label::Handle { report, standard } => self.handles.push((*report, standard, held)),
            Label::Pidfd { pid } => {
                left.pidfds.insert(pid, held);
            }
        }
    }
}

/// Returns the sentence for a ledger that cannot be used. If no successor could use it either, the
/// warden is told, so that it does not start one after the other.
fn refuse(channel: &Channel, error: &LedgerError) -> String {
    let why = error.to_string();
    if error.is_final()
        && let Ok(message) = ToWarden::Refused(why.clone()).encode()
    {
        // The first message finds room. Without it the next proxy says it again.
        let _ = channel.send(&message, None);
    }
    why
}

/// Takes the descriptor with this number out.
fn take_out(
    inherited: &mut Vec<OwnedFd>,
    number: Option<u32>,
    what: &str,
) -> Result<OwnedFd, String> {
    let is_meant = |descriptor: &OwnedFd| u32::try_from(descriptor.as_raw_fd()).ok() == number;
    let position = inherited.iter().position(is_meant);
    let position = position.ok_or_else(|| format!("cannot use {what} of the warden: {EBADF}"))?;
    Ok(inherited.remove(position))
}
