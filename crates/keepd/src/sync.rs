//! Locks and atomic numbers of the code that `cargo xtask loom` checks in every order of its
//! threads: those of std, and with `--cfg keepd_loom` those of loom.

#[cfg(keepd_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(keepd_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
