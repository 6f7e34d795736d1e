//! Linux system calls behind small safe faces, one module for each kernel area.
//!
//! This is the only crate of keepd that writes `unsafe`. It contains no decision: nothing here
//! retries a service, waits for a child, keeps a table of services or knows a protocol. It also
//! keeps no thread and never blocks, except where a function says so. Errors are the kernel's
//! numbers ([`keepd_model::Errno`]); the callers know what was attempted and find the words.
//!
//! Start from [`spawn::spawn`] (a process from a description), [`epoll::Epoll`] (the loop) and
//! [`cgroup::Group`] (everything that a service started, as one thing); for a process that is there
//! for one child alone, from [`vfork::start`] and [`sigwait::wait`].

pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod code;
pub mod daemon;
pub mod epoll;
mod errno;
pub mod exec;
pub mod fatal;
pub mod file;
pub mod file_system;
pub mod folder;
pub mod handle;
pub mod heap;
pub mod held;
mod image;
pub mod ledger;
pub mod listeners;
pub mod mapped;
pub mod memfd;
pub mod notify;
pub mod panic;
pub mod pidfd;
pub mod pipe;
pub mod proc;
pub mod process;
pub mod random;
pub mod reap;
#[cfg(feature = "seccomp")]
pub mod seccomp;
pub mod signals;
pub mod sigwait;
pub mod socket;
pub mod spare;
pub mod spawn;
pub mod sweep;
pub mod terminal;
#[cfg(feature = "trace")]
pub mod trace;
pub mod users;
pub mod vfork;
