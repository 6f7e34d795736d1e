//! The start of a proxy: with the estate, the channel, and everything that is held.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd};

use keepd_model::{Errno, SpawnFailure, SpawnStep};
use keepd_os::channel::Channel;
use keepd_os::handle;
use keepd_os::held::HELD_BASE;
use keepd_os::process::DescriptorLimit;
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, SpawnRequest, Spawned, spawn};

use super::fault::environment;
use super::holdings::Holdings;
use super::setup::Setup;
use crate::estate::{CHANNEL, ESTATE};

/// What a proxy makes is its own user's alone.
const UMASK: u32 = 0o077;

/// Starts a proxy, which is careful for this reason, if there is one. Returns it with our end of
/// the channel.
pub(super) fn start_proxy(
    setup: &Setup,
    holdings: &mut Holdings,
    safe: Option<&str>,
    descriptor_limit: Option<DescriptorLimit>,
) -> Result<(Spawned, Channel), SpawnFailure> {
    let unprepared = |errno: Errno| SpawnFailure { step: SpawnStep::Prepare, errno };
    holdings.refresh().map_err(unprepared)?;
    let (ours, theirs) = Channel::pair().map_err(unprepared)?;
    let mut arguments = setup.proxy.clone();
    let numbers = [("--estate", ESTATE), ("--channel", CHANNEL)];
    for (option, number) in numbers {
        arguments.extend([option.as_bytes().to_vec(), number.to_string().into_bytes()]);
    }
    if let Some(why) = safe {
        arguments.extend([b"--safe".to_vec(), why.as_bytes().to_vec()]);
    }
    let environment = environment();
    let environment: Vec<Cow<'_, [u8]>> =
        environment.iter().map(|entry| Cow::Borrowed(entry.as_slice())).collect();
    let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut descriptors: [Option<BorrowedFd<'_>>; 3] = own.map(Some);
    if let Some(input) = &setup.input {
        descriptors[0] = Some(input.as_fd());
    } else if handle::was_closed(0) {
        descriptors[0] = None;
    }
    for (number, descriptor) in (1..).zip(&mut descriptors[1..]) {
        *descriptor = descriptor.filter(|_| !handle::was_closed(number));
    }
    let extra = [(holdings.memory(), ESTATE), (theirs.as_fd(), CHANNEL)];
    let request = SpawnRequest {
        file: setup.file,
        arguments: &arguments,
        environment: &environment,
        directory: None,
        umask: UMASK,
        uid: None,
        gid: None,
        groups: None,
        descriptors: &descriptors.map(|open| open.map_or(Descriptor::Closed, Descriptor::Open)),
        extra: &extra,
        keep_from: Some(HELD_BASE),
        cgroup: None,
        session: setup.session,
        ignored: &setup.ignored,
        descriptor_limit,
        record: None,
        failure_status: FAILURE_STATUS,
    };
    Ok((spawn(&request)?, ours))
}
