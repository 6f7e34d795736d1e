//! Pipes whose descriptors were lost with both who had them: the services have the other sides.

use std::os::fd::AsFd;

use keepd_model::protocol::{LogTarget, Stream};
use keepd_model::{Errno, Pid, ServiceName};
use keepd_os::pipe::{self, LogPipe};

use crate::estate::Label;
use crate::holder::{Held, Holder};

/// Looks for the pipes of a service in its main process, which has them as 1 and 2 unless it has
/// put something else there. They are held from then on.
///
/// # Errors
///
/// ESRCH: the process behind the pidfd has ended.
pub(crate) fn find_again(
    holder: &Holder,
    name: &ServiceName,
    target: &LogTarget,
    (pid, pidfd): (Pid, impl AsFd),
) -> Result<Vec<(Stream, LogPipe<Held>)>, Errno> {
    let streams: &[(Stream, u8)] = match target {
        LogTarget::Null | LogTarget::Inherit => &[],
        LogTarget::File { merge: true, .. } | LogTarget::Append { .. } => &[(Stream::Out, 1)],
        LogTarget::File { merge: false, .. } => &[(Stream::Out, 1), (Stream::Err, 2)],
    };
    let mut found = Vec::new();
    for (stream, number) in streams {
        if let Some(pipe) = pipe::find_again(pid, &pidfd, *number)? {
            let label = Label::Log { service: name.clone(), stream: *stream };
            found.push((*stream, pipe.map(|descriptor| holder.hold(label, descriptor))));
        }
    }
    Ok(found)
}
