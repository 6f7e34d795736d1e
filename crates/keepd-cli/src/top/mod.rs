//! The top process of an instance: it holds the lock, starts the proxy, passes signals down, takes
//! its status, and sees to it that nothing is left behind. It decides nothing else; the warden will
//! live here.
//!
//! [`Prepared::new`] makes everything ready and refuses what must be refused while nothing runs
//! yet; [`supervise`] is the rest of the process's life; [`leftovers`] finds what a lost keepd left
//! behind.

mod detach;
mod leftovers;
mod prepare;
mod supervise;

pub(crate) use detach::detach;
pub(crate) use leftovers::{end_leftovers, find_leftovers};
pub(crate) use prepare::{Prepared, Wishes, is_locked};
pub(crate) use supervise::supervise;

use crate::error::{CliError, ErrorKind};

/// Returns the error for something that the system refused.
fn system(message: String) -> CliError {
    CliError::new(ErrorKind::System, message)
}

/// Returns the environment of this process, as a child wants it.
fn environment() -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    std::env::vars_os()
        .map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat())
        .collect()
}
