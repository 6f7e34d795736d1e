//! The top process of an instance: the warden, with what an instance has around it. It holds the
//! lock, keeps the proxy alive, passes signals down, takes the status, and sees to it that nothing
//! is left behind.
//!
//! [`Prepared::new`] makes everything ready and refuses what must be refused while nothing runs
//! yet; [`supervise()`] is the rest of the process's life, and [`succeed()`] that of one which goes
//! on for a lost one; [`mod@leftovers`] finds what a lost keepd left behind, and [`mod@survivors`]
//! whether it can be taken over.

mod detach;
mod leftovers;
mod prepare;
mod supervise;
mod survivors;

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use keepd_os::process;
use keepd_os::spawn::{Descriptor, FAILURE_STATUS, Session, SpawnRequest, Spawned, spawn};

pub(crate) use detach::detach;
pub(crate) use leftovers::{end_leftovers, find_leftovers};
pub(crate) use prepare::{HeldLock, Prepared, Wishes, hold, is_locked};
pub(crate) use supervise::{Input, resume, succeed, supervise};

use crate::error::{CliError, ErrorKind};

/// Returns the error for something that the system refused.
fn system(message: String) -> CliError {
    CliError::new(ErrorKind::System, message)
}

/// Starts this program once more, in this session or group: with these arguments behind its name,
/// the environment as it is, these standard descriptors and these further ones.
fn spawn_self(
    arguments: impl IntoIterator<Item = OsString>,
    standard: [BorrowedFd<'_>; 3],
    extra: &[(BorrowedFd<'_>, RawFd)],
    session: Session,
) -> Result<Spawned, CliError> {
    let program = process::own_executable()
        .map_err(|errno| system(format!("cannot find the keepd program: {errno}")))?;
    let arguments: Vec<Vec<u8>> = std::iter::once(program.into_os_string())
        .chain(arguments)
        .map(OsStringExt::into_vec)
        .collect();
    let environment: Vec<Cow<'_, [u8]>> = std::env::vars_os()
        .map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat().into())
        .collect();
    let descriptors = standard.map(Descriptor::Open);
    let request = SpawnRequest {
        file: None,
        arguments: &arguments,
        environment: &environment,
        directory: None,
        umask: 0o077,
        uid: None,
        gid: None,
        groups: None,
        descriptors: &descriptors,
        extra,
        keep_from: None,
        cgroup: None,
        session,
        ignored: &[],
        descriptor_limit: None,
        record: None,
        failure_status: FAILURE_STATUS,
    };
    let name = arguments.get(1).map_or_else(Default::default, |word| String::from_utf8_lossy(word));
    spawn(&request).map_err(|failure| system(format!("cannot start \"keepd {name}\": {failure}")))
}
