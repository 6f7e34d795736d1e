//! Terminals, as far as a foreground `keepd up` meets them.

use std::os::fd::AsFd;

use keepd_model::{Errno, Pid};

use crate::errno;
use crate::signals::AllBlocked;

/// `isatty(fd)`: reports whether the descriptor is a terminal. See isatty(3).
pub fn is_terminal(descriptor: impl AsFd) -> bool {
    rustix::termios::isatty(descriptor)
}

/// `ioctl(TIOCGWINSZ)`: returns the width in columns; `None` if it is no terminal or does not know.
/// See TIOCGWINSZ(2const).
pub fn columns(descriptor: impl AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(descriptor).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// `tcgetpgrp(fd)`: reports whether the terminal was taken away (hung up, or no longer ours), which
/// is what SIGHUP means when it was not sent by a user. See tcgetpgrp(3).
pub fn foreground_lost(descriptor: impl AsFd) -> bool {
    match rustix::termios::tcgetpgrp(descriptor) {
        Ok(_) => false,
        Err(error) => error == rustix::io::Errno::IO || error == rustix::io::Errno::NOTTY,
    }
}

/// `tcgetpgrp(fd)`: reports whether the descriptor is the terminal of our session, and our process
/// group the foreground one. See tcgetpgrp(3).
pub fn is_foreground(descriptor: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(descriptor).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// `tcsetpgrp(fd, getpgrp())`: makes our own process group the foreground one. See
/// [`set_foreground`].
pub fn take_foreground(descriptor: impl AsFd) -> Result<(), Errno> {
    let _blocked = AllBlocked::new();
    rustix::termios::tcsetpgrp(descriptor, rustix::process::getpgrp()).map_err(errno::from_rustix)
}

/// `tcsetpgrp(fd, group)`: makes a process group of our session the foreground one.
///
/// SIGTTOU, which would stop a caller in the background, is blocked meanwhile. See tcsetpgrp(3).
pub fn set_foreground(descriptor: impl AsFd, group: Pid) -> Result<(), Errno> {
    let group = i32::try_from(group.get()).ok().and_then(rustix::process::Pid::from_raw);
    let group = group.ok_or(Errno::EINVAL)?;
    let _blocked = AllBlocked::new();
    rustix::termios::tcsetpgrp(descriptor, group).map_err(errno::from_rustix)
}
