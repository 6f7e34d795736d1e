//! Files and pipes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use keepd_model::OpenFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{CallError, failed};

/// Of a file that is made.
const FILE_MODE: u32 = 0o600;
/// Of a folder that is made.
const FOLDER_MODE: u32 = 0o700;

fn access_flags(flags: OpenFlags) -> OFlags {
    let mut access = match (flags.read, flags.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true | false, false) => OFlags::RDONLY,
    };
    access.set(OFlags::APPEND, flags.append);
    access.set(OFlags::CREATE, flags.create);
    access.set(OFlags::TRUNC, flags.trunc);
    access
}

/// `open(path, … | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)`, then `fcntl(F_SETFL)`: opens a file without
/// ever waiting for it.
///
/// Opening a FIFO would else wait for its other end. For reading it is opened at once; for writing
/// only, it fails with ENXIO while nobody reads. See open(2), fifo(7).
pub fn open(path: &Path, flags: OpenFlags) -> Result<OwnedFd, CallError> {
    if flags.mkdir {
        make_parents(path)?;
    }
    let always = OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(FILE_MODE);
    let file = retry_on_intr(|| rustix::fs::open(path, access_flags(flags) | always, mode))
        .map_err(failed("open"))?;
    if !flags.nonblock {
        clear_nonblock(&file)?;
    }
    Ok(file)
}

fn clear_nonblock(file: impl AsFd) -> Result<(), CallError> {
    let flags = rustix::fs::fcntl_getfl(&file).map_err(failed("fcntl"))?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(failed("fcntl"))
}

/// `mkdir(folder, 0700)` for each folder above `path` that does not exist.
///
/// Tries from the nearest one upwards, so that folders which may only be passed through are left
/// alone. See mkdir(2).
pub(super) fn make_parents(path: &Path) -> Result<(), CallError> {
    let mode = Mode::from_raw_mode(FOLDER_MODE);
    let mut missing = Vec::new();
    let above = path.ancestors().skip(1).take_while(|folder| !folder.as_os_str().is_empty());
    for folder in above {
        match rustix::fs::mkdir(folder, mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => break,
            Err(rustix::io::Errno::NOENT) => missing.push(folder),
            Err(error) => return Err(failed("mkdir")(error)),
        }
    }
    for folder in missing.into_iter().rev() {
        match rustix::fs::mkdir(folder, mode) {
            // Somebody else made it meanwhile, which is as good.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed("mkdir")(error)),
        }
    }
    Ok(())
}

/// `pipe2(O_CLOEXEC)`, with O_NONBLOCK for both ends if asked for: returns the end for reading and
/// the end for writing. See pipe(2).
pub fn pipe(nonblock: bool) -> Result<(OwnedFd, OwnedFd), CallError> {
    let mut flags = PipeFlags::CLOEXEC;
    flags.set(PipeFlags::NONBLOCK, nonblock);
    pipe_with(flags).map_err(failed("pipe"))
}
