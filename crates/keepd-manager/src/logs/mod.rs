//! Reading of service logs: what the proxy's pump wrote, as lines with their times.
//!
//! A service's log folder holds `out.log`, `err.log` (bytes as the service wrote them) and `index`
//! (records of [`keepd_wire::index`]: which bytes were written when, by which run). Everything here
//! only reads files, so it works while neither manager nor proxy runs, and it never keeps one open,
//! so a folder that somebody removes and keepd makes again is simply read from its beginning.
//!
//! Start from [`Stored`] (what is there, filtered, merged by time) and [`Follower`] (what is added
//! after that). Both hand out [`LogLine`]s; [`RawReader`] hands out bytes.
//!
//! | file | has |
//! | --- | --- |
//! | `index.rs`, `search.rs` | the index: forwards, backwards, and to a time |
//! | `place.rs` | where in a log reading begins and ends |
//! | `stream.rs`, `service.rs`, `merge.rs` | bytes to lines, lines of a service, of several |
//! | `stored.rs`, `tail.rs`, `follow.rs`, `raw.rs` | what is handed out |

mod filter;
mod follow;
mod index;
mod line;
mod merge;
mod place;
mod raw;
mod run;
mod search;
mod service;
mod stored;
mod stream;
mod tail;
#[cfg(test)]
pub(crate) mod written;

pub use filter::{Filter, Pattern, PatternError};
pub use follow::{Follower, StartFrom};
pub use line::{LINE_BYTES_MAX, LogLine, ServiceLog, Stamp, Unread};
pub use place::Run;
pub use raw::RawReader;
pub(crate) use run::{RunReader, Sought};
pub use stored::{Note, Selection, Stored};
pub use tail::{Tail, tail};
