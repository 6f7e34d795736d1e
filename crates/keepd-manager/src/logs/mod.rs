//! Reading of service logs: what the proxy's pump wrote, as lines with their times.
//!
//! A service's log folder holds `out.log`, `err.log` (bytes as the service wrote them) and `index`
//! (records of [`keepd_wire::index`]: which bytes were written when, by which run). Everything here
//! only reads files, so it works while neither manager nor proxy runs, and it never keeps one open,
//! so a folder that somebody removes and keepd makes again is simply read from its beginning.
//!
//! Start from [`tail`] (the last lines of several services, merged by time) and [`Follower`] (what
//! is added after that). Both hand out [`LogLine`]s.

mod follow;
mod index;
mod line;
mod merge;
mod run;
mod service;
mod stream;
mod tail;
#[cfg(test)]
pub(crate) mod written;

pub use follow::{Follower, StartFrom};
pub use line::{LINE_BYTES_MAX, LogLine, ServiceLog, Stamp, Unread};
pub(crate) use run::{RunReader, Sought};
pub use tail::{Tail, tail};
